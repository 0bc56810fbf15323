"""Numbers, texts and commands as the report shows them."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_training.fit.recipe import Recipe
from trimtab_training.report.reproduce import as_toml, check_command, one_option_a_line
from trimtab_training.report.words import (
    after_colon,
    clean,
    clip,
    interval,
    number,
    p_value,
    signed,
    signs,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (-0.0001, "0.000"),
        (12345.6, "12,345.600"),
    ],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "+0.100"),
        (-0.1, "\N{MINUS SIGN}0.100"),
        (0.0, "0.000"),
        (0.0004, "0.000"),
        (-0.0004, "0.000"),
    ],
)
def test_differences_show_their_sign_unless_they_round_to_nothing(value: float, text: str) -> None:
    assert signed(value) == text


def test_interval_names_both_ends() -> None:
    assert interval((-0.0301, 0.0309)) == "\N{MINUS SIGN}0.030 to +0.031"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0001, "< 0.001"), (0.0029, "0.003"), (1.0, "1.000")]
)
def test_p_values_are_not_told_finer_than_they_are_known(value: float, text: str) -> None:
    assert p_value(value) == text


def test_signs_of_a_sentence_change_but_names_do_not() -> None:
    assert signs("falls by -0.031 (-1 to +2) on doc-7, 2026-11-25") == (
        "falls by \N{MINUS SIGN}0.031 (\N{MINUS SIGN}1 to +2) on doc-7, 2026-11-25"
    )


def test_decision_is_left_out_where_it_stands_above() -> None:
    assert after_colon("Ship with care: it rises: so.") == "It rises: so."
    assert after_colon("Ship: nDCG@10 rises.") == "nDCG@10 rises."
    assert after_colon("No decision") == "No decision"
    assert after_colon("") == ""


@given(st.text(max_size=400), st.integers(30, 120))
def test_clipped_text_is_one_short_clean_line(text: str, length: int) -> None:
    line = clip(text, length)
    assert len(line) <= length
    assert line == clean(line)
    assert len(line.splitlines()) <= 1


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_cleaned_text_can_be_written(text: str) -> None:
    assert len(clean(text)) == len(text)
    clean(text).encode("utf-8")


def test_recipe_reads_back_from_its_toml() -> None:
    recipe = Recipe().as_dict() | {"adapter_options": {"rank": 8, "a key": 'quo"te'}}
    assert tomllib.loads(as_toml(recipe)) == recipe


def test_check_measures_the_model_that_was_made() -> None:
    assert check_command("trimtab fit 'my data' --embeddings e -o models/m --seed 0") == (
        "trimtab evaluate models/m 'my data' --embeddings e --split test"
    )


@pytest.mark.parametrize("command", ["trimtab demo", "trimtab fit data -o m", "make export"])
def test_check_is_left_out_where_the_model_came_about_in_another_way(command: str) -> None:
    assert check_command(command) is None


def test_command_is_broken_before_its_options_and_means_the_same() -> None:
    assert one_option_a_line("trimtab fit 'my data' -o m --flag") == (
        "trimtab fit 'my data' \\\n  -o m \\\n  --flag"
    )
