"""The hook: text or vector in, adapted vector out, with the prefix that training used."""

import asyncio
import functools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import CARD, DIM_IN, linear_adapter, queries_of
from tests.support.tiny_encoder import words_bytes
from trimtab.errors import ConfigError, DimensionError, QueryError
from trimtab.hook import AsyncQueryHook, QueryHook
from trimtab.model.adapter import Adapter
from trimtab.text.encoder import TextEncoder


class Tensor:
    """As torch's with gradients, which numpy can't read."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


class LengthEncoder:
    """Embeds a text as a vector that its length decides, and keeps what it was asked."""

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        rows = [queries_of(1, seed=len(text))[0] for text in texts]
        return np.stack(rows).astype(self.dtype)


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return linear_adapter()


def test_hook_adapts_a_text_behind_the_prefix_of_the_manifest(adapter: Adapter) -> None:
    encoder = LengthEncoder()
    adapted = QueryHook(adapter, encoder=encoder)("stop it")
    assert encoder.asked == [["query: stop it"]]
    raw = queries_of(1, seed=len("query: stop it"))[0]
    assert adapted.shape == (adapter.dim_out,)
    assert np.array_equal(adapted, adapter.transform(raw))


@pytest.mark.parametrize("form", [list, tuple])
def test_hook_adapts_several_texts_in_one_call(adapter: Adapter, form: type) -> None:
    encoder = LengthEncoder()
    texts = ["a", "bb", "ccc"]
    adapted = QueryHook(adapter, encoder=encoder)(form(texts))
    assert encoder.asked == [[f"query: {text}" for text in texts]]
    alone = [QueryHook(adapter, encoder=LengthEncoder())(text) for text in texts]
    assert adapted.shape == (3, adapter.dim_out)
    assert np.allclose(adapted, alone, atol=1e-5)


def test_hook_gives_a_batch_for_a_list_of_one_text(adapter: Adapter) -> None:
    assert QueryHook(adapter, encoder=LengthEncoder())(["a"]).shape == (1, adapter.dim_out)


def test_hook_takes_an_empty_text(adapter: Adapter) -> None:
    encoder = LengthEncoder()
    QueryHook(adapter, encoder=encoder)("")
    assert encoder.asked == [["query: "]]


def test_hook_puts_nothing_before_a_text_where_the_manifest_names_nothing() -> None:
    encoder = LengthEncoder()
    plain = linear_adapter(encoder=replace(CARD, query_prefix=""))
    QueryHook(plain, encoder=encoder)("a")
    assert encoder.asked == [["a"]]


@pytest.mark.parametrize("encoder", [None, LengthEncoder()])
@pytest.mark.parametrize("queries", [queries_of(1)[0], queries_of(1), queries_of(3)])
def test_hook_adapts_vectors_as_the_adapter_does(
    adapter: Adapter, encoder: LengthEncoder | None, queries: np.ndarray
) -> None:
    hook = QueryHook(adapter, encoder=encoder)
    assert np.array_equal(hook(queries), adapter.transform(queries))
    assert np.array_equal(hook(queries.tolist()), adapter.transform(queries))
    assert encoder is None or not encoder.asked


@pytest.mark.parametrize("query", ["text", ["text"], ("a", "b"), np.str_("text")])
def test_hook_without_an_encoder_says_what_to_pass(adapter: Adapter, query: object) -> None:
    with pytest.raises(ConfigError, match="this QueryHook has no encoder; pass encoder="):
        QueryHook(adapter)(query)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_hook_takes_embeddings_of_any_float_kind(adapter: Adapter, dtype: str) -> None:
    adapted = QueryHook(adapter, encoder=LengthEncoder(dtype))("a")
    assert adapted.dtype == np.float32


def test_hook_takes_embeddings_as_lists(adapter: Adapter) -> None:
    hook = QueryHook(adapter, encoder=lambda texts: [[1.0] * DIM_IN for _ in texts])
    assert np.array_equal(hook("a"), adapter.transform([1.0] * DIM_IN))


def test_hook_passes_on_that_an_encoder_has_another_width(adapter: Adapter) -> None:
    hook = QueryHook(adapter, encoder=lambda texts: np.ones((len(texts), 9), np.float32))
    with pytest.raises(DimensionError, match=f"query has 9 values; the adapter wants {DIM_IN}"):
        hook("a")


@pytest.mark.parametrize("query", [[], (), None, 3.0, [None]])
def test_hook_refuses_what_is_neither_text_nor_vector(adapter: Adapter, query: object) -> None:
    with pytest.raises(QueryError):
        QueryHook(adapter, encoder=LengthEncoder())(query)  # type: ignore[arg-type]


def test_hook_goes_through_the_adapter_that_is_set(adapter: Adapter) -> None:
    hook = QueryHook(adapter, encoder=LengthEncoder())
    other = linear_adapter(seed=5, encoder=replace(CARD, query_prefix="q: "))
    hook.adapter = other
    assert np.array_equal(hook(queries_of(2)), other.transform(queries_of(2)))
    assert np.array_equal(hook("a"), other.transform(queries_of(1, seed=len("q: a"))[0]))
    with pytest.raises(ConfigError, match="the adapter is a str; expected an Adapter"):
        hook.adapter = "models/docs"  # type: ignore[assignment]
    assert hook.adapter is other
    with pytest.raises(ConfigError, match="expected an Adapter"):
        QueryHook("models/docs")  # type: ignore[arg-type]


# The asynchronous form


class AwaitedEncoder(LengthEncoder):
    """Embeds as its base does, awaited."""

    async def __call__(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().__call__(texts)


def gives_an_awaitable(texts: Sequence[str]) -> Any:
    return awaited(texts)


async def awaited(texts: Sequence[str]) -> np.ndarray:
    return LengthEncoder()(texts)


ENCODERS: list[Any] = [
    LengthEncoder(),
    AwaitedEncoder(),
    awaited,
    functools.partial(awaited),
    gives_an_awaitable,
    LengthEncoder().__call__,
]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "query", ["stop it", ["a", "bb"], ("ccc",), queries_of(1)[0], queries_of(3).tolist()]
)
def test_async_hook_gives_what_the_blocking_one_does(
    adapter: Adapter, encoder: Any, query: Any
) -> None:
    found = asyncio.run(AsyncQueryHook(adapter, encoder=encoder)(query))
    assert np.array_equal(found, QueryHook(adapter, encoder=LengthEncoder())(query))


def test_async_hook_does_not_block_the_loop(adapter: Adapter) -> None:
    released = threading.Event()

    def slow(texts: Sequence[str]) -> np.ndarray:
        assert released.wait(60)
        return LengthEncoder()(texts)

    async def ask() -> np.ndarray:
        asking = asyncio.create_task(AsyncQueryHook(adapter, encoder=slow)("a"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        released.set()  # which a blocked loop never reaches
        return await asking

    assert asyncio.run(ask()).shape == (adapter.dim_out,)


def test_async_hook_refuses_what_the_blocking_one_does(adapter: Adapter) -> None:
    with pytest.raises(ConfigError, match="this AsyncQueryHook has no encoder; pass encoder="):
        asyncio.run(AsyncQueryHook(adapter)("text"))
    with pytest.raises(QueryError):
        asyncio.run(AsyncQueryHook(adapter)([None]))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected an Adapter"):
        AsyncQueryHook(None)  # type: ignore[arg-type]


async def _embed_awaited(texts: Sequence[str]) -> np.ndarray:
    return queries_of(len(texts))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            lambda _texts: queries_of(2),
            r"shape \(2, 6\) for 1 texts; expected \(1, 6\)",
        ),
        (lambda _texts: queries_of(1)[0], r"shape \(6,\) for 1 texts; expected \(1, 6\)"),
        (lambda _texts: np.empty((0, DIM_IN)), r"shape \(0, 6\) for 1 texts"),
        (lambda _texts: None, "gave shape|gave a NoneType"),
        (lambda texts: (queries_of(1)[0] for _ in texts), "gave a generator that is no array"),
        (lambda _texts: [["a"]], "gave a list that is no array of numbers"),
        (lambda _texts: Tensor(), "gave a Tensor that is no array of numbers"),
        (lambda _texts: np.full((1, DIM_IN), 1e39), "query holds inf at position 0"),
    ],
)
def test_hook_refuses_what_is_not_one_vector_for_each_text(
    adapter: Adapter, encoder: Any, message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        QueryHook(adapter, encoder=encoder)("a")
    with pytest.raises(QueryError, match=message):
        asyncio.run(AsyncQueryHook(adapter, encoder=encoder)("a"))


def test_blocking_hook_names_the_other_one_for_an_asynchronous_encoder(adapter: Adapter) -> None:
    with pytest.raises(ConfigError, match="use AsyncQueryHook"):
        QueryHook(adapter, encoder=_embed_awaited)("a")


def test_hook_takes_an_array_of_texts_and_refuses_texts_among_numbers(adapter: Adapter) -> None:
    hook = QueryHook(adapter, encoder=LengthEncoder())
    assert np.array_equal(hook(np.array(["a", "bb"])), hook(["a", "bb"]))
    assert np.array_equal(hook(np.array(["a", "bb"], dtype=object)), hook(["a", "bb"]))
    with pytest.raises(QueryError, match="expected texts alone"):
        hook(["a", 3])  # type: ignore[list-item]


def test_hook_refuses_an_encoder_that_the_adapter_was_not_trained_on(adapter: Adapter) -> None:
    other = TextEncoder.from_bytes(words_bytes(dim=DIM_IN))
    with pytest.raises(ConfigError, match=r"toy/words .* another encoder .* toy-encoder"):
        QueryHook(adapter, encoder=other)
    with pytest.raises(ConfigError, match="another encoder"):
        AsyncQueryHook(adapter, encoder=other.encode)
    hook = QueryHook(linear_adapter(encoder=replace(CARD, fingerprint="")), encoder=other)
    with pytest.raises(ConfigError, match="another encoder"):
        hook.adapter = adapter


def test_prefix_is_put_once_where_the_encoder_puts_it_as_well(adapter: Adapter) -> None:
    words = TextEncoder.from_bytes(
        words_bytes(dim=DIM_IN, fingerprint=CARD.fingerprint, query_prefix=CARD.query_prefix)
    )
    wanted = adapter.transform(words.encode("how do i cancel"))
    for encoder in (words, words.encode):
        assert np.array_equal(QueryHook(adapter, encoder=encoder)("how do i cancel"), wanted)
        hook = AsyncQueryHook(adapter, encoder=encoder)
        assert np.array_equal(asyncio.run(hook("how do i cancel")), wanted)
