"""Starts a sidecar before the recording upstream, with short limits, as an arena."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.hostile.arena import Arena
from tests.support.hostile.meaning import DIM
from tests.support.hostile.upstream import start_upstream
from tests.support.onnx_models import linear_bytes, weight_of
from tests.support.sidecar import Sidecar, running_sidecar

HEAD_TIMEOUT_S, BODY_TIMEOUT_S, IDLE_TIMEOUT_S = 1.0, 1.0, 2.0
LIMITS = {
    "body_bytes": 32 * 2**20,
    "head_bytes": 64 * 2**10,
    "head_timeout_s": HEAD_TIMEOUT_S,
    "body_timeout_s": BODY_TIMEOUT_S,
    "idle_timeout_s": IDLE_TIMEOUT_S,
}


@contextlib.asynccontextmanager
async def staged(
    folder: Path, *, token: str = "", **limits: float
) -> AsyncIterator[tuple[Arena, Sidecar]]:
    """Run both until the block ends.

    Args:
        folder: An empty folder for the model and the settings.
        token: The admin token; empty for none.
        limits: Of ``[limits]``, beside ``LIMITS``.
    """
    model = linear_bytes(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    (folder / "adapter.onnx").write_bytes(model)
    arena = Arena(("", 0), weight_of(DIM, DIM))
    server = await start_upstream(arena.tell, arena.complain)
    host, port = server.sockets[0].getsockname()
    config = folder / "sidecar.toml"
    config.write_text(_settings(f"http://{host}:{port}", {**LIMITS, **limits}, bool(token)))
    with contextlib.ExitStack() as stack:
        environment = {"HOSTILE_ADMIN_TOKEN": token} if token else {}
        running = running_sidecar(config=config, env=environment)
        # The upstream lives in this loop, so nothing here may wait for it by blocking.
        sidecar = await asyncio.to_thread(running.__enter__)
        stack.callback(server.close)
        arena.address = sidecar.rest_address
        try:
            yield arena, sidecar
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


def _settings(upstream: str, limits: dict[str, float], has_token: bool) -> str:
    lines = [
        "[listen]",
        'rest = "127.0.0.1:0"',
        'admin = "127.0.0.1:0"',
        "[upstream]",
        f'rest = "{upstream}"',
        "query_timeout_s = 2.0",
        "[[route]]",
        'collection = "docs"',
        'adapter = "adapter.onnx"',
        "[limits]",
        *(f"{name} = {value}" for name, value in limits.items()),
    ]
    if has_token:
        lines += ["[admin]", 'token_env = "HOSTILE_ADMIN_TOKEN"']
    return "\n".join(lines) + "\n"
