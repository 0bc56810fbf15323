"""What Qdrant said is forgotten once a request has changed collections or aliases."""

import asyncio
import contextlib
from collections.abc import Iterator

from trimtab.server.worker_state import WorkerState

_AGAIN_S = (1.0, 5.0, 20.0)
"""A change that Qdrant has not answered may be carried out yet: questions asked before are void."""


def forget_changed(state: WorkerState, collection: str, *, is_answered: bool) -> None:
    """Forget what a request may have changed, now and, where no answer came, again later.

    Args:
        state: What all requests share.
        collection: What it changes: a collection, or all of them for "".
        is_answered: Whether Qdrant has answered it: by then, it has done what it does.
    """
    state.invalidate(collection)
    for delay_s in () if is_answered else _AGAIN_S:
        asyncio.get_running_loop().call_later(delay_s, state.invalidate, collection)


@contextlib.contextmanager
def forgetting(state: WorkerState, collection: str) -> Iterator[None]:
    """Forget what the call in this block may have changed, whether or not it is answered."""
    is_answered = False
    try:
        yield
        is_answered = True
    finally:
        forget_changed(state, collection, is_answered=is_answered)
