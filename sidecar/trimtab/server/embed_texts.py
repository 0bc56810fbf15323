"""Texts in requests become vectors, before anything else is done with the request."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab import metrics as t
from trimtab.errors import RefusedError
from trimtab.rewrite.places import Path
from trimtab.rewrite.policies import Policies
from trimtab.rewrite.texts import Text
from trimtab.routing.routes import Route
from trimtab.routing.transform import Origin
from trimtab.server.encoders import Credentials, ServedEncoder
from trimtab.server.route_table import RouteTable
from trimtab.server.worker_state import WorkerState
from trimtab.text.encoder import Embedded
from trimtab.text.encoder_manifest import Role


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request's vectors go.

    Attributes:
        collection: The collection or alias, as the request names it.
        routes: Of that collection, by vector name; an adapter comes after the texts.
        is_write: True where the texts are documents'.
        is_left: True for a query whose sender wants no adapter.
        fields: What the request came with: its keys are among it.
    """

    collection: str
    routes: Mapping[str, Route]
    is_write: bool
    is_left: bool = False
    fields: Credentials = ()

    def takes_adapter(self, text: Text, policies: Policies) -> bool:
        """Tell whether an adapter, whosever, has a part in a text's vector."""
        is_spared = text.is_example and policies.examples == "never"
        return not (self.is_write or self.is_left or is_spared)


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """What was embedded of a request; the other texts are for Qdrant.

    Attributes:
        vectors: Each text with its vector, float32, shape ``(dim,)``.
        mark: ``NAME@VERSION`` of the encoders whose own adapters had a part, joined by commas.
        origins: What stands for each text where its vector does, by the way to it; not of a write.
    """

    vectors: Sequence[tuple[Text, NDArray[np.float32]]] = ()
    mark: str = ""
    origins: Mapping[Path, Origin] = field(default_factory=dict)


async def embed_texts(
    state: WorkerState, table: RouteTable, texts: Sequence[Text], target: Target
) -> EmbeddedTexts:
    """Embed those texts of a request that name an encoder of this sidecar.

    Raw; but for queries of a vector that the adapter in the encoder's file is meant for.

    Args:
        state: What all requests share.
        table: The table that the request began with.
        texts: What was found in it.
        target: Where its vectors go.

    Raises:
        RefusedError: A text says more about how to embed it, or its encoder is another one than
            the adapter's that its vector would go through.
        UnauthenticatedError: The request lacks the key of an encoder that it asks for.
        BusyError: Too many texts wait.
        TooLargeError: A text is too long.
    """
    role: Role = "document" if target.is_write else "query"
    behind = state.facts.collection_of(target.collection)
    names = (target.collection, *([] if behind is None else [behind]))
    groups: dict[tuple[ServedEncoder, bool], list[Text]] = {}
    for text in texts:
        served = table.encoders.find(text.model)
        if served is None:
            _refuse_to_pass(text, table, names, target)
            continue
        if target.is_write and not served.settings.writes:
            state.telemetry.count(t.TEXTS, served.settings.model, role, "passed")
            continue
        served.admit(target.fields)
        takes_adapter = target.takes_adapter(text, table.policies)
        is_adapted = takes_adapter and served.adapts(names, text.vector_name)
        route = target.routes.get(text.vector_name) if takes_adapter else None
        _check(text, served, route, is_adapted=is_adapted)
        groups.setdefault((served, is_adapted), []).append(text)
    found = await _all(
        [
            state.texts.of(served).embed([text.text for text in group], role, adapted=is_adapted)
            for (served, is_adapted), group in groups.items()
        ]
    )
    return EmbeddedTexts(
        [
            (text, embedded.vector)
            for group, embeddings in zip(groups.values(), found, strict=True)
            for text, embedded in zip(group, embeddings, strict=True)
        ],
        ",".join(served.encoder.mark for served, is_adapted in groups if is_adapted),
        {
            text.path: Origin(served.settings.model, text.text, is_adapted)
            for (served, is_adapted), group in groups.items()
            for text in group
        },
    )


async def _all(embedding: Sequence[Coroutine[Any, Any, list[Embedded]]]) -> list[list[Embedded]]:
    """Wait for several encoders; where one fails, nobody waits for the others."""
    tasks = [asyncio.ensure_future(each) for each in embedding]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _refuse_to_pass(text: Text, table: RouteTable, names: Sequence[str], target: Target) -> None:
    """Refuse a text that Qdrant is to embed where an encoder's own adapter is meant for it.

    Raises:
        RefusedError: The policy of inference says so, as it does for a route.
    """
    if table.policies.inference == "refuse" and target.takes_adapter(text, table.policies):
        for served in table.encoders:
            if served.adapts(names, text.vector_name):
                raise RefusedError(
                    f"the query is embedded by Qdrant itself ({text.model}), out of reach of the "
                    f"adapter in the file of {served.settings.model}; ask for that one"
                )


def _check(text: Text, served: ServedEncoder, route: Route | None, *, is_adapted: bool) -> None:
    """Refuse what can't be embedded as the request means it."""
    if text.has_options:
        raise RefusedError(
            f"the text for {text.model} has options, and the encoder in this sidecar knows none; "
            "leave them out"
        )
    if not served.encoder.has_raw and not is_adapted:
        raise RefusedError(
            f"{text.model} embeds queries alone, of the collections that its adapts names; this is "
            "something else, or its sender wants no adapter"
        )
    if route is None or route.mode == "off":
        return
    manifest = route.adapter.manifest
    if is_adapted:
        raise RefusedError(
            f"the adapter in the file of {text.model} is meant for this vector, and so is that of "
            f"{route}; leave one of them out of the settings"
        )
    if not served.fits(route):
        raise RefusedError(
            f"{text.model} is another encoder than the one whose queries adapter {manifest.name} "
            f"of {route} was trained on ({manifest.encoder.name}, query prefix "
            f"{manifest.encoder.query_prefix!r}); ask for that one, its pooling and tokenizer as "
            "they were"
        )
