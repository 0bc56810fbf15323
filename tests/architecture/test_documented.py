"""Everything public says what it is for."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trimtab.commands.group import explain_missing, main

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path for package in ("sidecar", "training") for path in (ROOT / package).rglob("*.py")
)
TESTS = [
    path
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if "CliRunner" in path.read_text(encoding="utf-8")
]
COMMANDS = sorted(point.name for point in entry_points(group="trimtab.commands"))
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def public_docstrings(path: Path) -> tuple[tuple[str, str], ...]:
    """Give the docstrings of a module and its public classes, functions and methods, by names."""
    parts = public_parts(ast.parse(path.read_text(encoding="utf-8")))
    return tuple((name, ast.get_docstring(node) or "") for name, node in parts)


def public_parts(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """Give a module and its public classes, functions and methods, with their names."""
    yield "module", tree
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        path, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            yield f"{path}{node.name}", node
            if isinstance(node, ast.ClassDef):
                waiting.append((f"{path}{node.name}.", node))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert not [name for name, docstring in public_docstrings(path) if not docstring]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_one_line_of_their_own(path: Path) -> None:
    for name, docstring in public_docstrings(path):
        first, *more = docstring.splitlines()
        assert first.rstrip("`'\"").endswith((".", "?")), f"{name}: {first}"
        assert not more or not more[0], f"{name}: {first}"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Give every command, and those inside a command that is a group."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        yield name, command
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            yield f"{name} {inner.name}", inner


def group_context() -> click.Context:
    """Make the context that the group gives its commands."""
    return click.Context(main, **main.context_settings)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_a_summary_in_the_list(name: str) -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout
    assert re.search(rf"^  {name} +\S.*[^.]\.$", listed, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_command_explains_itself(name: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked below the group's context, so that the group sets up nothing in this process."""
    command, context = main.get_command(click.Context(main), name), group_context()
    assert command is not None
    with pytest.raises(click.exceptions.Exit) as done:
        command.make_context(name, [flag], parent=context)
    assert done.value.exit_code == 0
    assert capsys.readouterr().out.startswith("Usage: ")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_runs_a_command_outside_its_group(path: Path) -> None:
    """Click keeps the help option that a command was first asked with: without ``-h`` there."""
    alone = re.findall(r"CliRunner\(\)\.invoke\(\s*(?!main\b|group\b)\w+", path.read_text("utf-8"))
    assert not alone


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_has_a_help_text(name: str, command: click.Command) -> None:
    options = [
        item for item in command.params if isinstance(item, click.Option) and not item.hidden
    ]
    assert not [option.name for option in options if not (option.help or "").strip()], name


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_argument_is_explained(name: str, command: click.Command) -> None:
    help_text = command.help or ""
    arguments = [item for item in command.params if isinstance(item, click.Argument)]
    assert not [item.name for item in arguments if item.human_readable_name not in help_text], name


def required_by(extra: str) -> list[str]:
    """Name the modules of the packages that an extra adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[\[>=<;]", line)[0] for line in project["optional-dependencies"][extra]]
    return [name.replace("-", "_") for name in names if name != "trimtab"]


@pytest.mark.parametrize("extra", ["training", "demo"])
def test_every_package_of_an_extra_is_explained_by_its_extra(extra: str) -> None:
    for package in required_by(extra):
        if (extra, package) == ("training", "jaxtyping"):
            continue  # by the next test
        said = explain_missing(ModuleNotFoundError("No module", name=package))
        assert f"'trimtab[{extra}]'" in said


def test_jaxtyping_is_explained_by_its_extra() -> None:
    assert "jaxtyping" in required_by("training")
    said = explain_missing(ModuleNotFoundError("No module", name="jaxtyping"))
    assert "'trimtab[training]'" in said


def test_every_module_that_writes_shapes_down_has_them_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    option = "--jaxtyping-packages="
    (checked,) = (
        one.removeprefix(option).split(",")
        for one in settings["ini_options"]["addopts"]
        if one.startswith(option)
    )
    source = ROOT / "training"
    shaped = [
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in MODULES
        if path.is_relative_to(source) and "from jaxtyping import" in path.read_text()
    ]
    assert len(shaped) > 20
    for module in shaped:
        assert any(f"{module}.".startswith(f"{package}.") for package in checked), module
