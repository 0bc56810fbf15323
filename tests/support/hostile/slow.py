"""Clients that are slow, rude or too many; each gives what went wrong, or nothing."""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable

from tests.support.hostile.messages import QUERY_PATH, join, measured, query_body, upsert_body

Address = tuple[str, int]
_STEP_S = 0.1
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


async def drip(address: Address, data: bytes, bound_s: float) -> str:
    """Send a byte at a time, until the other side has had enough."""
    reader, writer = await asyncio.open_connection(*address)
    closed = asyncio.ensure_future(_read_all(reader))

    async def send() -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(_STEP_S)

    sending = asyncio.ensure_future(send())
    try:
        await asyncio.wait_for(asyncio.shield(closed), bound_s)
    except TimeoutError:
        return f"still open after {bound_s} s"
    finally:
        sending.cancel()
        closed.cancel()
        writer.transport.abort()
    return ""


async def stall(address: Address, data: bytes, bound_s: float) -> str:
    """Send this at once and then nothing; a reason must come where a request had begun."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    try:
        answer = await asyncio.wait_for(_read_all(reader), bound_s)
    except TimeoutError:
        return f"still open after {bound_s} s"
    finally:
        writer.transport.abort()
    if data and not answer.startswith(b"HTTP/1.1 4"):
        return f"closed without a reason: {answer[:100]!r}"
    return ""


async def deaf(address: Address, tag: str, bound_s: float) -> str:
    """Ask without end and never read; the sidecar must stop reading, or close."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(client, address)
        request = join("GET", f"/collections?{tag}", ["X-Pad: " + "x" * 2000]) * 100
        try:
            async with asyncio.timeout(bound_s):
                for _ in range(1000):
                    await loop.sock_sendall(client, request)
                    await asyncio.sleep(0)  # an upstream in this loop must come to answer
        except (TimeoutError, OSError):
            return ""
    return "took 100,000 requests from a client that reads nothing"


async def reset_midway(address: Address, data: bytes, rng: random.Random) -> str:
    """Send a part, then reset the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, data[: rng.randrange(len(data) + 1)])
        await asyncio.sleep(0)
    return ""


async def crowd(address: Address, allowed: int, bound_s: float) -> str:
    """Open more connections than are allowed; those above must be told off or closed."""
    opened = [await asyncio.open_connection(*address) for _ in range(allowed + 10)]
    above = [asyncio.ensure_future(_read_all(reader)) for reader, _ in opened[allowed:]]
    _, waiting = await asyncio.wait(above, timeout=bound_s)
    for task in above:
        task.cancel()
    for _, writer in opened:
        writer.transport.abort()
    return f"{len(waiting)} connections above the limit stay open" if waiting else ""


def slow_kinds(
    address: Address, tag: str, bound_s: float
) -> dict[str, Callable[[], Awaitable[str]]]:
    """Name the clients that no sidecar may wait for longer than its limits."""
    query = measured("POST", f"{QUERY_PATH}?{tag}", query_body())
    write = measured("PUT", f"/collections/docs/points?{tag}", upsert_body())
    chunks = join(
        "PUT", f"/collections/docs/points?{tag}", ["Transfer-Encoding: chunked"], b"f\r\n"
    )
    return {
        "a head byte by byte": lambda: drip(address, query[:90], bound_s),
        "fields without end": lambda: drip(address, query[:80] + b"X: y\r\n" * 50, bound_s),
        "half a head": lambda: stall(address, query[:60], bound_s),
        "one byte": lambda: stall(address, b"P", bound_s),
        "nothing": lambda: stall(address, b"", bound_s),
        "half a query": lambda: stall(address, query[:-9], bound_s),
        "half a write": lambda: stall(address, write[:-9], bound_s),
        "half a chunk": lambda: stall(address, chunks, bound_s),
        "a query without its body": lambda: stall(address, query[: query.index(b"{")], bound_s),
        "a deaf client": lambda: deaf(address, tag, bound_s),
    }


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except OSError:
        return b""
