# `make demo` runs the whole path on synthetic people; `make test` proves it. Both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: help setup demo demo-full test test-slow bench lint format clean

help:
	@echo "make setup      create .venv with the versions of requirements.lock"
	@echo "make demo       synthesise people, prepare them, run the benchmark, write a report (about 14 minutes of CPU with AVX2, extrapolated)"
	@echo "make demo-full  the same with 24 people and four ablations; says first how long it will take"
	@echo "make test       the fast tests (CPU, offline, under 10 minutes)"
	@echo "make test-slow  the slow proofs: kills, wheel, coverage of the intervals"
	@echo "make bench      speed of rasterizer, prepare, metrics, networks and personalization on this machine, and both precisions"
	@echo "make lint       formatting, lint and types"

setup: .venv/ready

# uv resolves torch's build for this machine; the marker file makes the target idempotent.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# Meant for at most 20 minutes of CPU with AVX2 and no more (14 extrapolated from a part); it says what it took.
demo: setup
	$(BIN)/python scripts/demo.py --out $(DEMO)

# 24 people, everybody learned in all tasks, and four ablations; it says first how long it will take.
demo-full: setup
	$(BIN)/python scripts/demo.py --full --out $(DEMO)-full

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python scripts/bench.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
