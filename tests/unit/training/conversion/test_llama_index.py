"""LlamaIndex's folders: what is read, and what is refused in one line without running anything."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab_training.conversion import read_llama_index
from trimtab_training.errors import DataError

LINEAR = {"in_features": 3, "out_features": 3, "bias": False}
TWO_LAYER = {
    "in_features": 3,
    "hidden_features": 2,
    "out_features": 3,
    "bias": False,
    "activation_fn_str": "relu",
    "add_residual": True,
}


def linear_state(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"linear.weight": torch.eye(3), **more}


def two_layer_state(**changes: Any) -> dict[str, torch.Tensor]:
    state = {
        "linear1.weight": torch.ones(2, 3),
        "linear1.bias": torch.ones(2),
        "linear2.weight": torch.ones(3, 2),
        "linear2.bias": torch.ones(3),
        "residual_weight": torch.tensor([0.5]),
    }
    return {key: value for key, value in (state | changes).items() if value is not None}


def saved(folder: Path, state: Any, config: Any = LINEAR) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(
        config if isinstance(config, str) else json.dumps(config), "utf-8"
    )
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_llama_index(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_origin_names_class_file_and_digest(tmp_path: Path) -> None:
    source = read_llama_index(saved(tmp_path, linear_state()))
    assert source.form == "llama-index (LinearLayer)"
    assert source.file == "pytorch_model.bin"
    assert source.sha256.startswith("sha256:")
    assert source.details == LINEAR
    assert not source.adapter.normalised


def test_arguments_that_older_versions_left_out_have_their_defaults(tmp_path: Path) -> None:
    config = {"in_features": 3, "hidden_features": 2, "out_features": 3}
    source = read_llama_index(saved(tmp_path, two_layer_state(residual_weight=None), config))
    assert source.details["activation_fn_str"] == "relu"
    assert source.adapter.options == {"hidden": 2, "residual": False}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"linear.weight": (2 * torch.eye(3)).to(dtype)}
    adapter = read_llama_index(saved(tmp_path, state)).adapter
    torch.testing.assert_close(adapter(torch.ones(1, 3)), torch.full((1, 3), 2.0))


class Bomb:
    """Would make a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.place,))


@pytest.mark.parametrize("is_zip", [True, False], ids=["torch file", "bare pickle"])
def test_pickle_with_code_is_refused_and_never_runs(tmp_path: Path, is_zip: bool) -> None:
    place = tmp_path / "ran"
    folder = saved(tmp_path / "adapter", linear_state())
    state = {"linear.weight": Bomb(place)}
    if is_zip:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(state))
    said = refusal(folder)
    assert "is refused" in said
    assert "would run code" in said
    assert not place.exists()
    pickle.loads(pickle.dumps(state))  # noqa: S301 - the bomb is live
    assert place.exists()


def test_damaged_file_is_one_line(tmp_path: Path) -> None:
    folder = saved(tmp_path, linear_state())
    path = folder / "pytorch_model.bin"
    whole = path.read_bytes()
    for content in (b"", b"not torch", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        assert str(path) in refusal(folder)


@pytest.mark.parametrize(
    ("state", "config", "said"),
    [
        (two_layer_state(), LINEAR, "holds a TwoLayerNN"),
        (linear_state(), TWO_LAYER, "holds a LinearLayer"),
        (linear_state(), {**LINEAR, "dropout": 0.1}, "['dropout']"),
        (linear_state(), {"in_features": 3}, "lacks ['out_features']"),
        (linear_state(), {**LINEAR, "in_features": "3"}, "expected int"),
        (linear_state(), {**LINEAR, "in_features": True}, "expected int"),
        (linear_state(), {**LINEAR, "in_features": 4}, "config.json says (3, 4)"),
        (linear_state(), {**LINEAR, "bias": True}, "holds no linear.bias"),
        (linear_state(**{"linear.bias": torch.ones(3)}), LINEAR, "holds a linear.bias"),
        (linear_state(), [1], "not a JSON object"),
        (linear_state(), "{", "is not JSON"),
        ({"encoder.weight": torch.eye(3)}, LINEAR, "trimtab_training.Adapter"),
        ({}, LINEAR, "holds nothing"),
        ([torch.eye(3)], LINEAR, "holds list"),
        ({"linear.weight": torch.eye(3).int()}, LINEAR, "of type int32"),
        ({"linear.weight": torch.eye(3).to_sparse()}, LINEAR, "not a plain tensor"),
        ({"linear.weight": 3}, LINEAR, "not a plain tensor"),
        ({"linear.weight": torch.ones(3)}, LINEAR, "expected a matrix"),
        ({"linear.weight": torch.full((3, 3), torch.nan)}, LINEAR, "NaN"),
        (
            {"linear.weight": torch.full((3, 3), 1e300, dtype=torch.float64)},
            LINEAR,
            "more than float32",
        ),
        ({"linear.weight": torch.ones(1, 1).expand(60000, 60000)}, LINEAR, "too large"),
        ({"linear.weight": torch.ones(0, 3)}, LINEAR, "widths of 1 to"),
        (two_layer_state(), {**TWO_LAYER, "activation_fn_str": "swish"}, "leaky_relu"),
        (two_layer_state(), {**TWO_LAYER, "hidden_features": 9}, "says (9, 3)"),
        (two_layer_state(residual_weight=None), TWO_LAYER, "lacks residual_weight"),
        (
            two_layer_state(**{"linear2.weight": torch.ones(4, 2), "linear2.bias": torch.ones(4)}),
            {**TWO_LAYER, "out_features": 4},
            "LlamaIndex can't run",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, state: Any, config: Any, said: str) -> None:
    assert said in refusal(saved(tmp_path, state, config))


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "none")
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "pytorch_model.bin" in refusal(tmp_path)
