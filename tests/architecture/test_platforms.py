"""What only some systems have is asked for by marker, and used behind a door."""

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POSIX_MODULES = {
    "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop",
}  # fmt: skip
"""Modules that Windows lacks; none is imported while ours are."""
POSIX_NAMES = {
    "fork", "getuid", "killpg", "nice", "sched_getaffinity", "sched_yield", "SIGHUP", "SIGKILL",
    "SO_REUSEPORT",
}  # fmt: skip
"""Attributes that Windows lacks; none is looked up while our modules are imported."""
NOT_ON_WINDOWS = {"uvloop"}
SOURCES = sorted(path for name in ("sidecar", "training") for path in (ROOT / name).rglob("*.py"))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported: all but bodies of functions and of ``if``s."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from (each for default in child.args.defaults for each in ast.walk(default))
            continue
        yield child
        yield from at_import(child)


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_can_be_imported_on_windows(path: Path) -> None:
    for node in at_import(ast.parse(path.read_text(encoding="utf-8"))):
        assert not imported(node) & POSIX_MODULES
        assert not (isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES), node.attr


def test_packages_that_windows_lacks_have_a_marker() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [line for extra in project["optional-dependencies"].values() for line in extra]
    bound = [line for line in wanted if line.partition(">")[0] in NOT_ON_WINDOWS]
    assert bound
    assert all("sys_platform != 'win32'" in line.partition(";")[2] for line in bound)


def test_page_of_platforms_says_what_was_resolved() -> None:
    results = ROOT / "benchmarks" / "platforms" / "results.json"
    cells = json.loads(results.read_text(encoding="utf-8"))["cells"]
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {cell["extra"] for cell in cells} == {
        "(none)", *project["optional-dependencies"].keys() - {"test"},
    }  # fmt: skip
    for extra in {cell["extra"] for cell in cells}:
        for platform in {cell["platform"] for cell in cells}:
            missing = sorted(
                cell["python"]
                for cell in cells
                if (cell["extra"], cell["platform"]) == (extra, platform) and cell["missing"]
            )
            said = f"not {', '.join(missing)}" if len(missing) < 4 else "no"
            assert f"| {platform} | {extra} | {said if missing else 'yes'} |" in page
