"""The direction of imports: benchmarks -> lwgan -> iper_toolkit, never back."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ALLOWED = {
    "iper_toolkit": set(),
    "lwgan": {"iper_toolkit"},
    "benchmarks": {"lwgan", "iper_toolkit"},
}
ADAPTER = Path("benchmarks/lwgan_method.py")  # the only file of benchmarks that may import lwgan
FILES = sorted(
    path.relative_to(REPOSITORY)
    for package in ALLOWED
    for path in REPOSITORY.glob(f"{package}/**/*.py")
)


def imported_modules(source: str) -> set[str]:
    """Dotted names of every import statement, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path: Path) -> None:
    package = path.parts[0]
    roots = {name.split(".")[0] for name in imported_modules((REPOSITORY / path).read_text())}
    forbidden = (roots & set(ALLOWED)) - ALLOWED[package] - {package}
    assert not forbidden, f"{path} imports {sorted(forbidden)}"
    if package == "benchmarks" and path != ADAPTER:
        assert "lwgan" not in roots, f"{path} imports lwgan; only {ADAPTER} may"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_foreign_files_are_never_executed(path: Path) -> None:
    """No pickle.load on files from outside; torch.load only with weights_only=True."""
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        assert called not in {"pickle.load", "pickle.loads"}, f"{path}:{node.lineno}"
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert keywords.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_packages_are_one_folder_deep() -> None:
    deep = [str(path) for path in FILES if len(path.parts) > 3]
    assert not deep


def test_no_vague_file_names() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "base", "tools"}
    assert not [str(path) for path in FILES if path.stem in vague or vague & set(path.parts)]


def test_smplx_is_imported_in_one_place() -> None:
    """smplx carries a non-commercial licence: it stays behind one late import."""
    users = {
        str(path)
        for path in FILES
        if any(
            n.split(".")[0] == "smplx" for n in imported_modules((REPOSITORY / path).read_text())
        )
    }
    assert len(users) <= 1, users
