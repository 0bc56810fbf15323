"""Where Qdrant's own paths begin: an ingress, or a client's ``prefix``, may put others before them.

A target that comes is first made one to send on (:meth:`Paths.forward`), by the settings; what it
asks for is then told from its own part (:meth:`Paths.own`).
"""

from collections.abc import Callable
from typing import NamedTuple

from trimtab.addresses import is_plain_segment, prefix_path, read_prefix
from trimtab.rewrite.qdrant_rest import match_parts, split_path
from trimtab.settings import ANY_PREFIX, ListenSettings, UpstreamSettings

_ROOT = "collections"


class OwnPath(NamedTuple):
    """A target without what stands before Qdrant's own path.

    Attributes:
        prefix: What stands before it, as it is sent on; empty for nothing.
        parts: The segments of the path.
        target: Path and query.
    """

    prefix: bytes
    parts: tuple[str, ...]
    target: bytes


class Paths:
    """What stands before Qdrant's paths, where the sidecar listens and at Qdrant itself."""

    def __init__(self, listen: ListenSettings, upstream: UpstreamSettings) -> None:
        """Take the settings of both sides."""
        self._takes_any = listen.path_prefix == ANY_PREFIX
        self._listen = () if self._takes_any else read_prefix(listen.path_prefix)
        self._upstream = read_prefix(upstream.path_prefix)
        self.upstream = prefix_path(upstream.path_prefix)
        """What stands before the path of the sidecar's own questions."""
        self.forward: Callable[[bytes], bytes] = _unchanged
        """Gives the target to send on for one that came."""
        if self._listen or self._upstream:
            self.forward = self._forward

    def _forward(self, target: bytes) -> bytes:
        """Take the listener's prefix away, and put Qdrant's there."""
        if not target.startswith(b"/"):
            return target
        parts = split_path(target) or ()
        if self._takes_any and parts[: len(self._upstream)] == self._upstream:
            return target
        if self._listen and parts[: len(self._listen)] == self._listen:
            target = _without_segments(target, len(self._listen))
        return self.upstream + target

    def own(self, method: str, target: bytes) -> OwnPath:
        """Find Qdrant's own path in a target that is sent on.

        Args:
            method: The HTTP method.
            target: From :attr:`forward`.
        """
        parts = split_path(target) or ()
        n = len(self._upstream) if parts[: len(self._upstream)] == self._upstream else 0
        if self._takes_any:
            n_foreign = _foreign_segments(method, parts[n:])
            if n_foreign and _is_plain(_without_segments(target, n), parts[n : n + n_foreign]):
                n += n_foreign
        if not n:
            return OwnPath(b"", parts, target)
        own = _without_segments(target, n)
        prefix = target[: len(target) - len(own)] if own != b"/" else target.partition(b"?")[0]
        return OwnPath(prefix, parts[n:], own)


def foreign_query(method: str, parts: tuple[str, ...]) -> bool:
    """Tell whether a path would be a query's if something before it were left out."""
    return any(
        part == _ROOT and match_parts(method, parts[n:]) is not None
        for n, part in enumerate(parts)
        if n
    )


def _foreign_segments(method: str, parts: tuple[str, ...]) -> int:
    """Count the segments before the path of a collection; 0 for other paths."""
    if _ROOT not in parts or match_parts(method, parts) is not None:
        return 0
    starts = [n for n, part in enumerate(parts) if part == _ROOT]
    return next((n for n in starts if match_parts(method, parts[n:]) is not None), starts[0])


def _is_plain(target: bytes, parts: tuple[str, ...]) -> bool:
    """Tell whether these segments, which a path begins with, are read alike by whoever reads them.

    No empty one is among them or behind them (``//host``), none that goes up, no encoded slash.
    """
    written = target.partition(b"?")[0].split(b"/")[1 : len(parts) + 2]
    return all(written) and all(map(is_plain_segment, parts))


def _without_segments(target: bytes, n: int) -> bytes:
    """Leave out the first segments of a path that has so many."""
    path, separator, query = target.partition(b"?")
    for _ in range(n):
        path = path.lstrip(b"/")
        path = path[path.index(b"/") :] if b"/" in path else b"/"
    return path + separator + query


def _unchanged(target: bytes) -> bytes:
    """Give a target as it came."""
    return target
