"""Numbers as options take them: finite, within bounds, and as large as what they are for."""

from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from trimtab.commands.group import main
from trimtab_training.commands.options import Finite, FiniteRange


def parameters() -> list[tuple[str, click.Parameter]]:
    """Every option of every command of training, behind the words that it is typed with."""
    found: list[tuple[str, click.Parameter]] = []
    for point in entry_points(group="trimtab.commands"):
        if point.module.startswith("trimtab_training"):
            command = point.load()
            subcommands = command.commands if isinstance(command, click.Group) else {"": command}
            for name, each in subcommands.items():
                words = f"{point.name} {name}".strip()
                found += [(f"{words} {one.opts[0]}", one) for one in each.params]
    return found


FLOATS = [
    pytest.param(one, id=words)
    for words, one in parameters()
    if isinstance(one.type, click.types.FloatParamType)
]
SEEDS = [pytest.param(one, id=words) for words, one in parameters() if one.name == "seed"]


@pytest.mark.parametrize("value", ["nan", "-nan", "inf"])
@pytest.mark.parametrize("option", FLOATS)
def test_no_number_is_nan_or_infinite(option: click.Parameter, value: str) -> None:
    with pytest.raises(click.BadParameter):
        option.type.convert(value, option, None)


def test_a_number_that_is_none_is_refused_by_what_was_given() -> None:
    for option in (FiniteRange(0), Finite()):
        with pytest.raises(click.BadParameter, match="'nan' is not a finite number"):
            option.convert("nan", None, None)
        assert option.convert("0.25", None, None) == 0.25


@pytest.mark.parametrize("option", SEEDS)
def test_a_seed_is_as_large_as_torch_takes_it(option: click.Parameter) -> None:
    assert option.type.convert(str(2**63 - 1), option, None) == 2**63 - 1
    with pytest.raises(click.BadParameter):
        option.type.convert(str(2**63), option, None)


def test_a_wrong_number_is_wrong_usage() -> None:
    words = ["compare", "a", "b", "docs", "--embeddings", "e", "--margin", "nan"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "'nan' is not a finite number" in result.output
