"""README and docs stay true to the code."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from trimtab_training.fit.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS: dict[str, click.Command] = {
    point.name: point.load() for point in entry_points(group="trimtab.commands")
}


def documented_calls() -> list[tuple[str, str]]:
    """Every indented or fenced line of the pages that calls the command."""
    return [
        (page.name, line.strip())
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"(\s{4}|\$ )?trimtab [a-z]", line)
    ]


@pytest.mark.parametrize(("page", "line"), documented_calls())
def test_documented_call_names_real_command_and_options(page: str, line: str) -> None:
    words = line.split("#", maxsplit=1)[0].split()
    assert words[1] in COMMANDS, page
    command = COMMANDS[words[1]]
    if isinstance(command, click.Group):
        assert words[2] in command.commands, page
        command = command.commands[words[2]]
    options = {name for option in command.params for name in option.opts}
    used = {word for word in words[2:] if re.fullmatch(r"--?[a-z][a-z-]*", word)}
    assert used <= options, page


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert f"`{name}`" in text or f"trimtab {name}" in text


@pytest.mark.parametrize("knob", sorted(Recipe.__dataclass_fields__))
def test_every_knob_and_its_default_stand_in_the_recipe_page(knob: str) -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    default = Recipe().as_dict()[knob]
    shown = str(default).replace("'", '"') if isinstance(default, list | dict) else str(default)
    shown = shown.lower() if isinstance(default, bool) else shown  # as TOML writes it
    assert re.search(rf"^\| `{knob}` \| `?\"?{re.escape(shown)}\"?`? \|", page, re.MULTILINE), shown


def files_in_tree(text: str) -> set[str]:
    """Every Python file that an indented tree names, with the folders that it stands under."""
    found: set[str] = set()
    above: list[tuple[int, str]] = []
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        above = [folder for folder in above if folder[0] < indent]
        if named := re.match(r"\s*([\w.]+)/", line):
            above.append((indent, named[1]))
        place = "/".join(name for _, name in above)
        found |= {f"{place}/{file}" for file in re.findall(r"\b\w+\.py\b", line)}
    return found


@pytest.mark.parametrize("package", ["sidecar", "training"])
def test_the_tree_names_every_file_at_its_place_and_no_other(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = files_in_tree(page.partition("## The house")[2])
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert {file for file in named if file.startswith(f"{package}/")} == files


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
