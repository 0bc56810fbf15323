"""The last requests that arrived, byte for byte, for tests of whatever sends them."""

from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from typing import Any

_KEPT = 1000


class Recorder:
    """Keeps the last requests of one server."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def keep(
        self, protocol: str, method: str, path: str, headers: Iterable[Any], body: bytes
    ) -> None:
        self._kept.append(
            {
                "protocol": protocol,
                "method": method,
                "path": path,
                "headers": [[_text(name), _text(value)] for name, value in headers],
                "body": body,
            }
        )

    def requests(self) -> list[dict[str, Any]]:
        return [{**one, "body": b64encode(one["body"]).decode()} for one in self._kept]

    def clear(self) -> None:
        self._kept.clear()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
