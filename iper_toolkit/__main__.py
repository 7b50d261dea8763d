from iper_toolkit.cli import main

if __name__ == "__main__":
    main()
