"""Adapters and hooks in another process, or copied: the same answers, whatever else is there."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import linear_adapter, linear_bytes, queries_of
from trimtab import AsyncQueryHook, EndpointSettings, OpenAIEncoder, QueryHook, Route, Routes
from trimtab.errors import IntegrityError
from trimtab.model.adapter import Adapter

ROOT = Path(__file__).parents[4]
QUERIES = queries_of(5)
PATIENCE_S = 120


class Slotted(Adapter):
    """A kind whose state is in slots."""

    __slots__ = ("tag",)
    tag: str


def same_length(texts: Sequence[str]) -> np.ndarray:
    return np.stack([queries_of(1, seed=len(text))[0] for text in texts])


def pickled(one: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(one, protocol))  # noqa: S301 - our own bytes


WAYS: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(partial(pickled, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
]


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_arrives_as_the_same_adapter(way: Callable[[Any], Any]) -> None:
    adapter = linear_adapter(normalised=True)
    adapter.transform(QUERIES[0])  # buffers of this thread exist
    again = way(adapter)
    assert again is not adapter
    assert (again.mark, again.version) == (adapter.mark, adapter.version)
    assert again.manifest == adapter.manifest
    assert np.array_equal(again.transform(QUERIES), adapter.transform(QUERIES))
    assert np.array_equal(again(QUERIES[0]), adapter(QUERIES[0]))


def test_what_travels_is_the_model_and_little_else() -> None:
    content = linear_bytes()
    assert len(pickle.dumps(Adapter.from_bytes(content))) < len(content) + 4000


def test_it_serves_threads_where_it_arrives() -> None:
    again = pickled(linear_adapter())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(again.transform, QUERIES))
    assert np.array_equal(found, [again.transform(query) for query in QUERIES])


def test_what_a_subclass_adds_travels_too() -> None:
    made = Slotted.from_bytes(linear_bytes())
    made.tag = "red"
    made.note = ["kept"]  # type: ignore[attr-defined]  # beside the slots, as Python allows
    for way in (copy.deepcopy, pickled):
        again = way(made)
        assert (type(again), again.tag, again.note) == (Slotted, "red", ["kept"])
        assert np.array_equal(again.transform(QUERIES), made.transform(QUERIES))
    assert copy.deepcopy(made).note is not made.note  # type: ignore[attr-defined]


def test_it_arrives_in_a_process_that_has_no_file(tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(pickle.dumps(QueryHook(linear_adapter())))
    code = (
        "import pickle, sys, numpy as np; from pathlib import Path\n"
        "hook = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "np.save(sys.argv[2], hook(np.load(sys.argv[3])))"
    )
    np.save(tmp_path / "queries.npy", QUERIES)
    names = [str(tmp_path / name) for name in ("sent", "found.npy", "queries.npy")]
    subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, check=True, timeout=PATIENCE_S)
    assert np.array_equal(np.load(tmp_path / "found.npy"), linear_adapter().transform(QUERIES))


def test_a_model_that_is_damaged_on_the_way_is_refused() -> None:
    adapter = linear_adapter()
    state = adapter.__getstate__()
    state["_content"] = state["_content"][:-40]
    with pytest.raises(IntegrityError):
        Adapter.__new__(Adapter).__setstate__(state)


@pytest.mark.parametrize("kind", [QueryHook, AsyncQueryHook])
def test_a_hook_travels_with_its_encoder(kind: type) -> None:
    hook = kind(linear_adapter(), encoder=same_length)
    for way in (copy.deepcopy, pickled):
        again = way(hook)
        assert again._encoder is same_length
        assert np.array_equal(again.adapter.transform(QUERIES), hook.adapter.transform(QUERIES))
    assert np.array_equal(pickled(QueryHook(linear_adapter(), encoder=same_length))("abc"),
                          QueryHook(linear_adapter(), encoder=same_length)("abc"))  # fmt: skip


def test_an_endpoint_travels_as_its_settings() -> None:
    settings = EndpointSettings("m", "http://localhost:1/v1", api_key="key", retries=0)
    encoder = OpenAIEncoder(settings)
    encoder.close()  # what is closed here is open where it arrives
    for way in (copy.deepcopy, pickled):
        again = way(QueryHook(linear_adapter(), encoder=encoder))._encoder
        assert again.settings == settings
        assert again._client.headers["Authorization"] == "Bearer key"
        assert not again._client.is_closed
        again.close()


def test_routes_travel() -> None:
    routes = Routes([Route.make("docs", linear_adapter())])
    for way in (copy.deepcopy, pickled):
        (route,) = way(routes)
        assert (route.collection, route.on_error) == ("docs", "refuse")
        assert route.adapter.version == linear_adapter().version
