"""gRPC calls passed on to Qdrant, and its answers passed back, without looking into them."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio

from trimtab import metrics as t
from trimtab.metrics import Telemetry
from trimtab.routing.routes import MARK_HEADER
from trimtab.server.grpc.messages import Method
from trimtab.upstream.grpc_channels import Channels, is_unreachable

Metadata = list[tuple[str, str | bytes]]


def passed_on(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Give the metadata of a call that Qdrant is to see: all but the one that gRPC sets anew.

    Fields of gRPC's own protocol don't come here at all, and are its own in the next call.
    """
    return [pair for pair in metadata if pair[0] != "user-agent"]


_CANCEL_GRACE = (25, 0.002)
"""grpcio 1.85 shows a caller who gives up as one who has sent everything, and says which of the two
it was a moment later. Without this wait Qdrant would be told of a whole stream first. A number of
naps, and not one of their length: its own threads get their turns between them on a busy machine.
No method of Qdrant's that clients call is a stream, so that nobody waits for it in vain."""


class Relay:
    """Passes calls on."""

    def __init__(self, channels: Channels, telemetry: Telemetry) -> None:
        """Take the ways to Qdrant."""
        self._channels = channels
        self._telemetry = telemetry

    async def unary(
        self, method: Method, content: bytes, metadata: Metadata, context: Any, mark: str = ""
    ) -> bytes:
        """Pass on a call with one message each way.

        Args:
            method: The method.
            content: The message to send.
            metadata: To send with it.
            context: Of the call that came.
            mark: Of the adapters that were used. The caller finds it in the trailing metadata: a
                head of our own before the message would cost a sixth of all that we add.

        Raises:
            AbortError: Qdrant's status was not OK; the caller has it.
            NotServedError: There is no address.
        """
        ask = self._channels.pick().unary(method.path)
        sent = time.perf_counter()
        call = ask(content, metadata=metadata, timeout=context.time_remaining())
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _send_head(context, error.initial_metadata())
            await self._end_with(context, error, mark)
            raise
        finally:
            took_s = time.perf_counter() - sent
            self._telemetry.observe(t.UPSTREAM_SECONDS, took_s, "grpc", method.kind)
        await _send_head(context, await call.initial_metadata())
        await _set_end(context, call, mark)
        return answer

    async def stream(
        self, path: str, requests: AsyncIterable[bytes], metadata: Metadata, context: Any
    ) -> None:
        """Pass on a call with any number of messages each way.

        Raises:
            AbortError: Qdrant's status was not OK; the caller has it.
            NotServedError: There is no address.
        """
        ask = self._channels.pick().channel.stream_stream(path)
        call: Any = ask(_whole(requests), metadata=metadata, timeout=context.time_remaining())
        try:
            head = tuple(await call.initial_metadata())
            if head or not call.done():  # else there is a status alone
                await context.send_initial_metadata(head)
            async for message in call:
                await context.write(message)
            await _set_end(context, call)
        except grpc.aio.AioRpcError as error:
            await self._end_with(context, error)
            raise
        finally:
            call.cancel()  # for a caller who went away; else without effect

    async def _end_with(self, context: Any, error: grpc.aio.AioRpcError, mark: str = "") -> None:
        """Give the caller Qdrant's status."""
        details = error.details() or ""
        if is_unreachable(error):
            self._telemetry.count(t.ERRORS, "grpc", "upstream_unavailable")
            details = f"trimtab: Qdrant can't be reached over gRPC: {details}"
        await context.abort(error.code(), details, _trailing(error.trailing_metadata(), mark))


async def _whole(requests: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Give a caller's messages, and the end only where it is one."""
    async for message in requests:
        yield message
    n_naps, nap_s = _CANCEL_GRACE
    for _ in range(n_naps):
        await asyncio.sleep(nap_s)


async def _send_head(context: Any, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """Send what comes before the message, where there is something."""
    head = tuple(metadata or ())
    if head:
        await context.send_initial_metadata(head)


async def _set_end(context: Any, call: Any, mark: str = "") -> None:
    """Set what comes after the last message of a call that went well; OK has no details."""
    trailing = _trailing(await call.trailing_metadata(), mark)
    if trailing:
        context.set_trailing_metadata(trailing)


def _trailing(
    metadata: Iterable[tuple[str, str | bytes]] | None, mark: str
) -> tuple[tuple[str, str | bytes], ...]:
    """Give Qdrant's trailing metadata, with the mark where there is one."""
    trailing = tuple(metadata or ())
    return (*trailing, (MARK_HEADER, mark)) if mark else trailing
