"""The ways to a sidecar that are tried: protocol, TLS or not, one worker or two."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        protocol: ``rest`` or ``grpc``.
        is_tls: True for the TLS listener.
        workers: Worker processes.
    """

    protocol: str
    is_tls: bool = False
    workers: int = 1

    @property
    def flags(self) -> tuple[str, ...]:
        """Options of ``trimtab serve``."""
        return ("--workers", str(self.workers))


WAYS: Mapping[str, Way] = {
    "rest": Way("rest"),
    "rest, tls": Way("rest", is_tls=True),
    "rest, 2 workers": Way("rest", workers=2),
    "grpc": Way("grpc"),
    "grpc, tls": Way("grpc", is_tls=True),
    "grpc, 2 workers": Way("grpc", workers=2),
}
"""By the name of the cell."""


class Authority:
    """A certificate for the loopback, and who trusts it."""

    def __init__(self, folder: Path) -> None:
        """Issue one, written to a folder."""
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self._folder = folder
        issued.private_key_pem.write_to_path(folder / "listener.key")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (folder / "listener.pem").write_bytes(chain)
        self.pem: bytes = authority.cert_pem.bytes()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.context)

    @property
    def listen(self) -> dict[str, Any]:
        """Settings of ``[listen]``."""
        return {
            "certificate": str(self._folder / "listener.pem"),
            "key": str(self._folder / "listener.key"),
        }


def listen_table(way: Way, authority: Authority) -> str:
    """Write the table ``[listen]`` of a sidecar.toml for a way."""
    lines = ["[listen]", 'rest = "127.0.0.1:0"', 'admin = "127.0.0.1:0"']
    if way.protocol == "grpc":
        lines.append('grpc = "127.0.0.1:0"')
    if way.is_tls:
        lines += [f'{key} = "{value}"' for key, value in authority.listen.items()]
    return "\n".join(lines) + "\n"
