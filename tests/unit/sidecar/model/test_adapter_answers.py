"""A graph that passes every check of the file must still answer as its manifest says."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from onnx import NodeProto, helper, numpy_helper

from tests.support.onnx_models import (
    DIM_IN,
    DIM_OUT,
    MANIFEST,
    graph_model,
    linear_model,
    queries_of,
    stamp,
    weight_of,
)
from trimtab.errors import IntegrityError, ManifestError, ModelError, SidecarError
from trimtab.model.adapter import Adapter

WEIGHT = numpy_helper.from_array(weight_of(), "weight")
PRODUCT = helper.make_node("MatMul", ["query", "weight"], ["raw"])


def load(nodes: Sequence[NodeProto], *numbers: tuple[str, object], normalised: bool = False):
    """Load a graph made of these nodes and named constants."""
    weights = [WEIGHT, *(numpy_helper.from_array(np.array(value), name) for name, value in numbers)]
    model = graph_model(nodes, weights, replace(MANIFEST, normalised=normalised))
    return Adapter.from_bytes(model.SerializeToString())


def test_load_refuses_a_false_claim_of_unit_length() -> None:
    model = stamp(linear_model(), replace(MANIFEST, normalised=True).to_json())
    with pytest.raises(ManifestError, match=r"unit length, the graph gives \d\.\d+; export"):
        Adapter.from_bytes(model.SerializeToString())


def test_load_refuses_answers_that_are_no_numbers_where_unit_length_is_claimed() -> None:
    nodes = [
        PRODUCT,
        helper.make_node("Sub", ["raw", "raw"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["adapted"]),
    ]
    with pytest.raises(IntegrityError, match="answers a plain query with NaN"):
        load(nodes, normalised=True)


def test_load_takes_true_unit_length() -> None:
    model = linear_model(normalised=True)
    assert Adapter.from_bytes(model.SerializeToString()).manifest.normalised


@pytest.mark.parametrize("width", [1, DIM_OUT + 1, DIM_IN])
def test_load_refuses_an_answer_of_another_width(width: int) -> None:
    """Seen only by running it: the shape comes out of a computation."""
    nodes = [
        helper.make_node("Shape", ["query"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "width"], ["wanted"], axis=0),
        helper.make_node("Expand", ["value", "wanted"], ["adapted"]),
    ]
    numbers = ("zero", [0]), ("one", [1]), ("width", [width]), ("value", np.float32(0.5))
    wanted = rf"\(3, {width}\), the manifest says \(3, {DIM_OUT}\); export the model again"
    with pytest.raises(ModelError, match=wanted):
        load(nodes, *numbers)


def test_load_refuses_an_answer_of_another_rank() -> None:
    nodes = [PRODUCT, helper.make_node("Unsqueeze", ["raw", "axes"], ["adapted"])]
    with pytest.raises(ModelError):
        load(nodes, ("axes", [0]))


def test_load_refuses_one_answer_for_all_rows() -> None:
    nodes = [PRODUCT, helper.make_node("ReduceMean", ["raw", "axes"], ["adapted"], keepdims=1)]
    with pytest.raises(ManifestError, match=r"\(1, 4\), the manifest says \(3, 4\)"):
        load(nodes, ("axes", [0]))


@pytest.mark.parametrize(
    ("nodes", "numbers"),
    [
        ([helper.make_node("MatMul", ["query", "absent"], ["adapted"])], []),
        ([helper.make_node("MatMul", ["query", "other"], ["adapted"])], [("other", [[1.0]])]),
        ([helper.make_node("MatMul", ["query", "weight"], ["elsewhere"])], []),
        ([PRODUCT, helper.make_node("Reshape", ["raw", "s"], ["adapted"])], [("s", [5, 7])]),
        ([helper.make_node("Gelu", ["query"], ["adapted"])], []),  # not in opset 18
        ([helper.make_node("MatMul", ["adapted", "weight"], ["adapted"])], []),
        ([], []),
    ],
    ids=["no weight", "shape", "no output", "run", "opset", "cycle", "no nodes"],
)
def test_load_refuses_a_graph_that_does_not_run(nodes, numbers) -> None:
    with pytest.raises(IntegrityError, match=r"refuses the model|can't be run"):
        load(nodes, *numbers)


def test_load_refuses_weights_shorter_than_their_shape() -> None:
    model = linear_model()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    with pytest.raises(IntegrityError, match="ONNX Runtime refuses the model"):
        Adapter.from_bytes(model.SerializeToString())


@pytest.mark.parametrize("n", [1, 3])
def test_graph_that_answers_only_two_rows_never_raises_a_foreign_error(n: int) -> None:
    nodes = [PRODUCT, helper.make_node("Reshape", ["raw", "shape"], ["adapted"])]
    try:
        adapter = load(nodes, ("shape", [2, DIM_OUT]))
        adapter.transform(queries_of(n))
    except SidecarError:
        return
    pytest.fail("neither refused nor answered")


def test_load_refuses_a_graph_whose_rows_depend_on_one_another() -> None:
    nodes = [
        PRODUCT,
        helper.make_node("ReduceMean", ["raw", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["raw", "mean"], ["adapted"]),
    ]
    with pytest.raises(ModelError):
        load(nodes, ("axes", [0]))


def test_load_refuses_a_graph_that_answers_no_numbers() -> None:
    nodes = [
        PRODUCT,
        helper.make_node("Sub", ["raw", "raw"], ["zero"]),
        helper.make_node("Div", ["raw", "zero"], ["adapted"]),
    ]
    with pytest.raises(ModelError):
        load(nodes)


NOISY = [
    pytest.param(
        [PRODUCT, helper.make_node("LpNormalization", ["raw"], ["adapted"], p=3)], id="session"
    ),
    pytest.param([PRODUCT, helper.make_node("Reshape", ["raw", "s"], ["adapted"])], id="run"),
]


@pytest.mark.parametrize("nodes", NOISY)
def test_refusal_leaves_all_talking_to_the_caller(
    nodes: Sequence[NodeProto], capfd: pytest.CaptureFixture[str]
) -> None:
    """What stands on stdout is read by machines, what stands on stderr by people."""
    with pytest.raises(IntegrityError):
        load(nodes, ("s", [5, 7]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("nodes", NOISY[1:])
def test_refusal_is_one_line(nodes: Sequence[NodeProto]) -> None:
    with pytest.raises(IntegrityError) as caught:
        load(nodes, ("s", [5, 7]))
    assert "\n" not in str(caught.value)
