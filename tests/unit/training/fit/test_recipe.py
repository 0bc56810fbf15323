"""Recipes: every wrong knob is refused by its name, and paths start at the recipe's folder."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab_training.errors import ConfigError
from trimtab_training.fit.recipe import Recipe, load_model_recipe, load_recipe, parse_recipe


def recipe_file(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_recipe_file_sets_its_knobs_and_leaves_the_others(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, 'adapter = "low_rank"\nadapter_options.rank = 8\n'))
    assert recipe == Recipe(adapter="low_rank", adapter_options={"rank": 8})


def test_recipe_may_stand_in_a_fit_table(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, 'dataset = "demo:hpo-lay"\nseed = 3\n[fit]\nepochs = 7\n')
    assert load_recipe(path) == Recipe(epochs=7)


def test_empty_recipe_is_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(recipe_file(tmp_path, "")) == Recipe()


@pytest.mark.parametrize("text", ["epochs = 7\n[fit]\nfolds = 3\n", "epocs = 7\n[fit]\nfolds = 3"])
def test_no_key_beside_a_fit_table_is_ignored(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="'epoc"):
        load_recipe(recipe_file(tmp_path, text))


def test_unknown_key_is_refused_and_known_ones_are_named() -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: unknown recipe key 'learn_rate'.*epochs"):
        parse_recipe({"learn_rate": 0.1}, "mine.toml")


@pytest.mark.parametrize("kind", ["identity", "composed", "lenear"])
def test_adapter_that_no_recipe_trains_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"mine.toml: adapter is '{kind}'; expected auto, linear"):
        parse_recipe({"adapter": kind}, "mine.toml")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("adapter", 3, "str"),
        ("adapter_options", "rank=8", "dict"),
        ("epochs", 4.0, "int"),
        ("epochs", "4", "int"),
        ("epochs", True, "int"),
        ("temperatures", "0.1", "float"),
        ("learning_rate", False, "float"),
        ("anchors", ["1"], "float"),
        ("blends", True, "float"),
        ("similarity", ["cosine"], "auto or cosine or dot or euclid"),
    ],
)
def test_value_of_another_type_is_refused_by_name(key: str, value: Any, expected: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"mine\.toml: recipe key '{key}' .* expected {expected}"
    ):
        parse_recipe({key: value}, "mine.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("similarity", "manhattan"),
        ("split_by", "documents"),
        ("unlabelled_weights", []),
        ("unlabelled_weights", [1.0, -0.1]),
        ("anchors", -1.0),
        ("anchors", []),
        ("blends", []),
        ("blends", [0.5, 1.1]),
        ("blends", [-0.5]),
        ("temperatures", (0.0,)),
        ("learning_rate", -1e-3),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("epochs", 0),
        ("max_steps", 0),
        ("folds", 1),
        ("compared_queries", 0),
        ("hidden", -1),
        ("screened_steps", 1.5),
        ("sampled_documents", 0),
        ("max_validated", 0),
        ("anchor_batch", -1),
        ("min_gain", -0.001),
    ],
)
def test_value_out_of_range_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.toml: recipe key '{key}' is .*, expected"):
        parse_recipe({key: value}, "mine.toml")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"folds": 1}, "'folds' is 1, expected 2 or more"),
        ({"blends": (0.5, 1.5)}, "'blends' is 1.5, expected float <= 1.0"),
        ({"anchors": ()}, r"'anchors' is \[\], expected 1 value or more"),
    ],
)
def test_recipe_made_in_python_is_held_to_the_same_ranges(
    knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**knobs)


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "min_gain"])
def test_number_that_is_not_finite_is_refused_by_name(
    tmp_path: Path, key: str, number: str
) -> None:
    with pytest.raises(ConfigError, match=f"'{key}'"):
        load_recipe(recipe_file(tmp_path, f"{key} = {number}\n"))


@pytest.mark.parametrize(
    ("key", "value"), [("folds", 2), ("weight_decay", 0.0), ("min_gain", 0.0), ("blends", [0.0])]
)
def test_value_at_the_edge_of_its_range_is_taken(key: str, value: Any) -> None:
    assert parse_recipe({key: value}, "mine.toml").as_dict()[key] == value


def test_numbers_of_numpy_will_do_in_a_recipe_made_in_python() -> None:
    rates = np.linspace(0.25, 0.5, 2)
    recipe = Recipe(learning_rate=rates[0], blends=tuple(rates))
    assert (recipe.learning_rate, recipe.blends) == (0.25, (0.25, 0.5))
    with pytest.raises(ConfigError, match=r"'learning_rate' is 0\.0, expected more than 0"):
        Recipe(learning_rate=np.float64(0))


def test_whole_number_will_do_for_a_fraction() -> None:
    recipe = parse_recipe({"learning_rate": 1, "anchors": [0, 2], "temperatures": 1}, "mine.toml")
    assert (recipe.learning_rate, recipe.anchors) == (1.0, (0.0, 2.0))
    assert type(recipe.learning_rate) is float
    assert recipe.temperatures == (1.0,)


def test_single_number_will_do_for_a_list() -> None:
    assert parse_recipe({"anchors": 0.5}, "mine.toml").anchors == (0.5,)


def test_recipe_as_json_types_makes_the_same_recipe_again() -> None:
    recipe = Recipe(adapter="low_rank", adapter_options={"rank": 8}, blends=(0.5,))
    assert recipe.as_dict().keys() == {item.name for item in fields(Recipe)}
    assert parse_recipe(recipe.as_dict(), "itself") == recipe


@pytest.mark.parametrize("load", [load_recipe, load_model_recipe])
def test_missing_recipe_is_refused(tmp_path: Path, load: Any) -> None:
    with pytest.raises(ConfigError, match=r"can't read recipe .*recipe\.toml: No such file"):
        load(tmp_path / "recipe.toml")


@pytest.mark.parametrize("load", [load_recipe, load_model_recipe])
@pytest.mark.parametrize(
    "content", [b"epochs: 4\n", b"epochs = 4\nepochs = 5\n", b"a = '\xff'", b"a = " + b"[" * 5000]
)
def test_file_that_is_not_toml_is_refused(tmp_path: Path, load: Any, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"recipe\.toml is not TOML: "):
        load(path)


def test_a_recipe_as_an_editor_of_windows_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfmax_steps = 400\r\n")
    assert load_recipe(path).max_steps == 400


# A model's recipe


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = recipe_file(
        tmp_path / "models" / "docs",
        'dataset = "../../data"\nembeddings = "vectors"\n[fit]\nfolds = 3\n',
    )
    model = load_model_recipe(path)
    assert Path(model.dataset).resolve() == tmp_path / "data"
    assert model.embeddings == str(path.parent / "vectors")
    assert (model.name, model.seed, model.fit) == ("docs", 0, Recipe(folds=3))


def test_absolute_paths_stay(tmp_path: Path) -> None:
    model = load_model_recipe(
        recipe_file(tmp_path, 'dataset = "/data/docs"\nembeddings = "/data/vectors"\n')
    )
    assert (model.dataset, model.embeddings) == ("/data/docs", "/data/vectors")


def test_built_in_set_is_no_path_and_brings_its_embeddings(tmp_path: Path) -> None:
    model = load_model_recipe(
        recipe_file(tmp_path, 'dataset = "demo:hpo-lay"\nname = "lay"\nseed = 5\n')
    )
    assert (model.dataset, model.embeddings) == ("demo:hpo-lay", None)
    assert (model.name, model.seed) == ("lay", 5)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('embeddings = "e"', "dataset"),
        ('dataset = "d"', "embeddings"),
        ('dataset = "d"\nembedings = "e"', "embedings"),
        ('dataset = "d"\nembeddings = "e"\nepochs = 3', "epochs"),
        ('dataset = 5\nembeddings = "e"', "dataset"),
        ('dataset = "d"\nembeddings = ["e"]', "embeddings"),
        ('dataset = "demo:hpo-lay"\nname = 5', "name"),
        ('dataset = "demo:hpo-lay"\nseed = "5"', "seed"),
        ('dataset = "demo:hpo-lay"\nseed = true', "seed"),
        ('dataset = "demo:hpo-lay"\n[fit]\nepoch = 3', "epoch"),
    ],
)
def test_wrong_key_of_a_model_recipe_is_refused_by_name(
    tmp_path: Path, text: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"recipe\.toml: .*'{key}'"):
        load_model_recipe(recipe_file(tmp_path, text))


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_seed_that_torch_does_not_take_is_refused_by_name(tmp_path: Path, seed: int) -> None:
    with pytest.raises(ConfigError, match="'seed'"):
        load_model_recipe(recipe_file(tmp_path, f'dataset = "demo:hpo-lay"\nseed = {seed}'))


@pytest.mark.parametrize("value", ["5", "[]", "true"])
def test_fit_that_is_no_table_is_refused_by_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="'fit'"):
        load_model_recipe(recipe_file(tmp_path, f'dataset = "demo:hpo-lay"\nfit = {value}'))


@pytest.mark.parametrize("key", ["prototypes", "queries_per_prototype", "patience", "refits"])
def test_key_that_is_gone_says_what_to_do(tmp_path: Path, key: str) -> None:
    path = recipe_file(tmp_path, f"{key} = 4\n")
    with pytest.raises(
        ConfigError, match=rf"recipe key '{key}' is gone since 0.2: .*(leave it|see)"
    ):
        load_recipe(path)


def test_byte_order_mark_before_a_recipe_is_passed_over(tmp_path: Path) -> None:
    assert load_recipe(recipe_file(tmp_path, "\ufefffolds = 3\n")).folds == 3
