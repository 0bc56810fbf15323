"""The body of one request: kept until it can be sent or adapted, then framed."""

from trimtab.errors import TooLargeError
from trimtab.server.request_head import RequestHead
from trimtab.upstream.http1 import LAST_CHUNK, chunk


class RequestBody:
    """What has come of a body.

    Attributes:
        is_whole: True once its end has come.
        size: Bytes that have been kept so far, sent or not.
    """

    __slots__ = ("_is_chunked", "_pieces", "is_whole", "size")

    def __init__(self, *, is_chunked: bool) -> None:
        """Begin empty.

        Args:
            is_chunked: Whether it goes on in chunks.
        """
        self.is_whole = False
        self.size = 0
        self._is_chunked = is_chunked
        self._pieces: list[bytes] = []

    def keep(self, data: bytes) -> None:
        """Keep a piece."""
        self._pieces.append(data)
        self.size += len(data)

    def kept(self) -> bytes:
        """Give what is kept."""
        return b"".join(self._pieces)

    def over_limit(self, limit_bytes: int, head: RequestHead | None = None) -> TooLargeError | None:
        """Give an error where more has come, or is announced in the head, than may be kept."""
        announced = b"0" if head is None else head.values.get(b"content-length", b"0")
        if self.size <= limit_bytes and len(announced) <= 18 and int(announced) <= limit_bytes:
            return None
        return TooLargeError(
            f"the body has more than {limit_bytes} bytes; see body_bytes in [limits]"
        )

    def take_framed(self) -> bytes:
        """Give what is kept, framed, and keep it no longer."""
        pieces, self._pieces = self._pieces, []
        if not self._is_chunked:
            return b"".join(pieces)
        return b"".join(map(chunk, pieces)) + (LAST_CHUNK if self.is_whole else b"")

    def frame(self, data: bytes) -> bytes:
        """Frame a piece that is sent as it comes."""
        return chunk(data) if self._is_chunked else data

    def end_frame(self) -> bytes:
        """Give what ends a body that was sent as it came."""
        return LAST_CHUNK if self._is_chunked else b""
