"""Addresses and paths as settings write them: ``HOST:PORT``, ``https://HOST:PORT``, ``/qdrant``."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from trimtab.errors import ConfigError

_ANY_HOSTS = {"0.0.0.0", "::"}  # noqa: S104  # only compared
_MEANT = {
    "localhost": {"127.0.0.1", "::1"},
    "0.0.0.0": {"127.0.0.1"},  # noqa: S104  # for who asks it
    "::": {"::1"},
}
"""Addresses that a name, or any address of this machine, stands for."""
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")


def is_plain_segment(segment: str) -> bool:
    """Tell whether a segment of a path, once it is decoded, means itself wherever it is read."""
    return segment not in {".", ".."} and _SEGMENT.fullmatch(segment) is not None


def _is_loopback(host: str) -> bool:
    """Tell whether a host is an address that never leaves this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_secrets(url: str) -> str:
    """Write a URL for messages: without user, password and query, any of which may be a key.

    In one that is malformed, too: all that stands before the last ``@`` is left out.

    Example:
        >>> without_secrets("https://me:word@host/v1?key=1")
        'https://***@host/v1?***'
    """
    url = re.sub(r"^([\w+.-]+://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", url, flags=re.DOTALL)


def read_prefix(text: str) -> tuple[str, ...]:
    """Read a path that stands before others, as in ``/qdrant``, into its segments.

    Raises:
        ConfigError: It is none.
    """
    parts = tuple(part for part in text.split("/") if part)
    if not all(map(is_plain_segment, parts)):
        raise ConfigError(f"{text!r} is no path; expected one as in '/qdrant', or '' for none")
    if "collections" in parts:
        raise ConfigError(f"{text!r} holds Qdrant's own '/collections'; expected what is before it")
    return parts


def prefix_path(text: str) -> bytes:
    """Write what :func:`read_prefix` takes as it stands in targets: ``/qdrant``, or nothing.

    Raises:
        ConfigError: It is none.
    """
    return "".join(f"/{part}" for part in read_prefix(text)).encode()


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens.

    Attributes:
        host: Name or address; IPv6 without its brackets.
        port: 0 takes a free one when listening.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def answers_at(self, other: "Address") -> bool:
        """Tell whether what listens here answers who asks another address, on this machine.

        By what is written alone: no name but ``localhost`` is looked up.

        Example:
            >>> Address("127.0.0.1", 6333).answers_at(Address("localhost", 6333))
            True
            >>> Address("127.0.0.1", 6333).answers_at(Address("qdrant", 6333))
            False
        """
        if not self.port or self.port != other.port:
            return False
        asked = _MEANT.get(other.host, {other.host})
        return not asked.isdisjoint(_MEANT.get(self.host, {self.host})) or any(
            _is_loopback(host) and (self.host == "::" or ":" not in host)
            for host in asked
            if self.host in _ANY_HOSTS
        )

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``HOST:PORT``.

        Raises:
            ConfigError: It is none.
        """
        if "@" in text:  # not shown: it may be a secret
            raise ConfigError("address holds credentials; expected HOST:PORT")
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # as a look-up does
        except ValueError:
            host = port = None
        extra = (parts.path, parts.query, parts.fragment) if host else ()
        if not host or port is None or any(extra) or "@" in text or "?" in text or "#" in text:
            raise ConfigError(f"address {text!r}; expected HOST:PORT, as in 127.0.0.1:6333")
        return cls(host, port)


@dataclass(frozen=True, slots=True)
class Origin:
    """One address of the upstream.

    Attributes:
        address: Host and port.
        is_tls: True for TLS.
    """

    address: Address
    is_tls: bool

    def __str__(self) -> str:
        """Write it as a URL."""
        return f"{'https' if self.is_tls else 'http'}://{self.address}"

    @classmethod
    def parse(cls, text: str, *, default_port: int) -> "Origin":
        """Read ``http://HOST:PORT``, ``https://HOST:PORT`` or ``HOST:PORT``.

        Raises:
            ConfigError: It is none of these.
        """
        if "@" in text:
            raise ConfigError(
                "upstream holds credentials; expected http://HOST:PORT, and the key in "
                "the variable that api_key_env names"
            )
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        scheme = scheme.lower()
        rest = rest.removesuffix("/")
        if scheme not in {"http", "https"} or not rest or "/" in rest:
            raise ConfigError(
                f"upstream {text!r}; expected http://HOST:PORT or https://HOST:PORT, without a "
                "path; a path before Qdrant's own goes into path_prefix of [upstream]"
            )
        has_port = rest.rpartition(":")[2].isdecimal() and not rest.endswith("]")
        address = Address.parse(rest if has_port else f"{rest}:{default_port}")
        if not address.port:
            raise ConfigError(
                f"upstream {text!r} has port 0; expected the one that Qdrant listens on"
            )
        return cls(address, scheme == "https")
