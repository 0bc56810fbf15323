"""How much of an answer has not reached its client yet, also below TLS."""

import asyncio
import socket
import struct
from typing import NamedTuple

_ACKNOWLEDGED = struct.Struct("=120xQ")  # tcpi_bytes_acked in Linux' struct tcp_info
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)


class Unsent(NamedTuple):
    """What is on its way to a client; another one than before shows that it takes something.

    Attributes:
        n_bytes: Bytes that it has not got, as far as is known here.
        n_taken: Bytes that it has got since it connected, where the transport does not tell.
    """

    n_bytes: int
    n_taken: int


def look_at_unsent(transport: asyncio.Transport) -> Unsent:
    """Look at what is on its way to a client.

    A transport knows what waits in it, but one of TLS hands everything to the one below at once. So
    the system is asked (Linux alone) what the client has acknowledged, and whether that is all.
    """
    n_waiting = transport.get_write_buffer_size()
    if transport.can_write_eof() or _TCP_INFO is None:
        return Unsent(n_waiting, 0)
    opened = transport.get_extra_info("socket")
    try:
        told = opened.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKNOWLEDGED.size)
        (n_taken,) = _ACKNOWLEDGED.unpack(told)
        return Unsent(_n_queued(opened), n_taken)
    except (OSError, AttributeError, struct.error):  # closed, or an old system
        return Unsent(n_waiting, 0)


def _n_queued(opened: socket.socket) -> int:
    """Give the bytes in the system's queue: those beyond it keep it from running empty."""
    import fcntl  # where there is TCP_INFO, there is this
    import termios

    queued = struct.Struct("i")
    (n_queued,) = queued.unpack(fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, queued.pack(0)))
    return int(n_queued)
