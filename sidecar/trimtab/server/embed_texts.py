"""Texts in requests become vectors, before anything else is done with the request."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab import metrics as t
from trimtab.errors import RefusedError
from trimtab.rewrite.texts import Text
from trimtab.routing.routes import Route
from trimtab.server.encoders import ServedEncoder
from trimtab.server.route_table import RouteTable
from trimtab.server.worker_state import WorkerState
from trimtab.text.encoder_manifest import Role

Embedding = tuple[Text, NDArray[np.float32]]


async def embed_texts(
    state: WorkerState,
    table: RouteTable,
    texts: Sequence[Text],
    routes: Mapping[str, Route],
    *,
    is_write: bool,
) -> list[Embedding]:
    """Embed those texts of a request that name an encoder of this sidecar, raw.

    Args:
        state: What all requests share.
        table: The table that the request began with.
        texts: What was found in it.
        routes: Of its collection, by vector name; an adapter comes after this.
        is_write: True where the texts are documents'.

    Returns:
        Each text that is embedded here, with its vector; the others are for Qdrant.

    Raises:
        RefusedError: A text says more about how to embed it, or its encoder is another one than
            the adapter's that its vector would go through.
        BusyError: Too many texts wait.
        TooLargeError: A text is too long.
    """
    role: Role = "document" if is_write else "query"
    groups: dict[ServedEncoder, list[Text]] = {}
    for text in texts:
        served = table.encoders.find(text.model)
        if served is None:
            continue
        if is_write and not served.settings.writes:
            state.telemetry.count(t.TEXTS, served.settings.model, role, "passed")
            continue
        _check(text, served, None if is_write else routes.get(text.vector_name))
        groups.setdefault(served, []).append(text)
    found = await asyncio.gather(
        *(
            state.texts.of(served).embed([text.text for text in group], role)
            for served, group in groups.items()
        )
    )
    return [
        (text, embedded.vector)
        for group, embeddings in zip(groups.values(), found, strict=True)
        for text, embedded in zip(group, embeddings, strict=True)
    ]


def _check(text: Text, served: ServedEncoder, route: Route | None) -> None:
    """Refuse what can't be embedded as the request means it."""
    if text.has_options:
        raise RefusedError(
            f"the text for {text.model} has options, and the encoder in this sidecar knows none; "
            "leave them out"
        )
    if route is not None and route.mode != "off" and not served.fits(route):
        manifest = route.adapter.manifest
        raise RefusedError(
            f"{text.model} is another encoder than the one whose queries adapter {manifest.name} "
            f"of {route} was trained on ({manifest.encoder.name}, query prefix "
            f"{manifest.encoder.query_prefix!r}); ask for that one"
        )
