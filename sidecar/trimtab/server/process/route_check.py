"""Whether the routes can apply: asked at the start, after a reload, and by ``--check``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.metrics import Telemetry
from trimtab.routing.route_book import Finding, Question
from trimtab.routing.routes import Aim
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.route_table import LiveTable, RouteTable
from trimtab.server.tls import client_context, server_context
from trimtab.server.tracing import Tracer
from trimtab.server.worker_state import Asker, WorkerState
from trimtab.settings import Settings
from trimtab.settings_file import read_secret
from trimtab.upstream.rest_fetch import is_well
from trimtab.upstream.rest_pool import Pool

_FAULTS = {"unfit", "idle", "missing", "unknown"}


async def examine_routes(state: WorkerState, table: RouteTable) -> list[Finding]:
    """Ask Qdrant, over REST or else over gRPC, whether each route of a table can apply."""
    async with _asker(state) as asker:
        return await state.examine(table, asker)


@contextlib.asynccontextmanager
async def _asker(state: WorkerState) -> AsyncIterator[Asker]:
    """Give what asks Qdrant with the sidecar's own key."""
    upstream, own_key = state.settings.upstream, state.own_key
    if state.pool is not None or not upstream.grpc:
        credentials = [(b"api-key", own_key.encode())] if own_key else []
        yield lambda question: state.ask_rest(question, credentials)
        return
    from trimtab.server.grpc.messages import read_answer, write_question
    from trimtab.upstream.grpc_channels import Channels

    channels = Channels(upstream)
    metadata = [("api-key", own_key)] if own_key else []

    async def ask(question: Question) -> Any:
        path, content = write_question(question)
        timeout_s = upstream.connect_timeout_s
        return read_answer(
            question, await channels.ask(path, content, metadata, timeout_s=timeout_s)
        )

    try:
        yield ask
    finally:
        await channels.close()


def refuse_unfit(findings: list[Finding]) -> None:
    """Refuse a route whose adapter can't serve its vector.

    Raises:
        ConfigError: There is one.
    """
    for finding in findings:
        if finding.fit == "unfit":
            raise ConfigError(finding.text)


def check_routes_offline(live: LiveTable) -> list[Finding]:
    """Say of every route what its model alone shows; those of indexes are checked already."""
    aims: list[Aim] = [*live.current.routes, *live.current.encoders.aims]
    return [Finding(each, "doubtful" if each.remark else "fine", each.remark) for each in aims]


async def check_routes_online(
    live: LiveTable, facts: SchemaCache, settings: Settings
) -> list[Finding]:
    """Say of every route what Qdrant shows.

    Raises:
        ConfigError: A certificate can't be used.
    """
    telemetry, pool = Telemetry(), None
    if settings.upstream.rest:
        pool = Pool(settings.upstream, client_context(settings.upstream), telemetry)
        await pool.start(is_well)
    own_key = read_secret(settings.upstream.api_key_env)
    state = WorkerState(live, facts, pool, telemetry, own_key=own_key)
    try:
        return await examine_routes(state, live.current)
    finally:
        if pool is not None:
            await pool.stop()


def check_means(settings: Settings) -> None:
    """Try what a start needs beside models: packages, keys, certificates, ``OTEL_*`` variables.

    Raises:
        MissingExtraError: A package is not installed.
        ConfigError: A file or a variable can't be used.
    """
    for name in ("uvloop", "httptools", "prometheus_client"):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingExtraError(
                f"trimtab serve needs {name!r}: pip install 'trimtab[server]'"
            ) from error
    read_secret(settings.upstream.api_key_env)
    server_context(settings.listen)
    client_context(settings.upstream)
    if settings.upstream.grpc:
        asyncio.run(_open_channels(settings))
    tracer = Tracer.make(settings.telemetry)
    if tracer is not None:
        tracer.shutdown()


async def _open_channels(settings: Settings) -> None:
    """Make the channels to Qdrant's gRPC, which reads their certificates, and close them."""
    from trimtab.upstream.grpc_channels import Channels

    await Channels(settings.upstream).close()


def is_faulty(finding: Finding) -> bool:
    """Tell whether a check that asks Qdrant fails for a finding.

    A start is more lenient: the collection may be made, or Qdrant come up, later. What would never
    adapt anything is a fault here too.
    """
    return finding.fit in _FAULTS


def run_online(live: LiveTable, facts: SchemaCache, settings: Settings) -> list[Finding]:
    """Run :func:`check_routes_online` to its end."""
    return asyncio.run(check_routes_online(live, facts, settings))
