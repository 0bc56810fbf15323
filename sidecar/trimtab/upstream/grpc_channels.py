"""Channels to Qdrant's gRPC addresses, and the sidecar's own calls over them.

One channel for each address of the settings; a name stands for all the addresses behind it, used in
turn. gRPC finds out by itself which of them answer, and looks again within a second.
"""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from trimtab.addresses import Origin
from trimtab.certificates import client_tls
from trimtab.errors import (
    ConfigError,
    DeadlineError,
    NoCollectionError,
    NotServedError,
    UnavailableError,
)
from trimtab.settings import UpstreamSettings

UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
"""Messages of any size, as Qdrant's own server takes them."""

METADATA_BYTES = 64 * 2**10
"""Qdrant's tokens can be long; gRPC's own limit is 8 KiB."""

_RETRY_MS, _LAST_RETRY_MS = 100, 500  # an address that came back is in use within a second
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 30_000, 10_000  # while calls are under way
_WEEK_MS = 7 * 24 * 3600 * 1000

_UNREACHABLE = ("connections to all backends failing", "errors resolving ")
"""How gRPC's own words begin where no address can be reached: grpcio 1.85, round_robin."""

Metadata = Sequence[tuple[str, str | bytes]]
UnaryCall = Callable[..., Any]


class Node:
    """One address of the settings and the calls that are made to it."""

    def __init__(self, origin: Origin, channel: grpc.aio.Channel) -> None:
        """Take a channel."""
        self.origin = origin
        self.channel = channel
        self._unary: dict[str, UnaryCall] = {}

    def state(self) -> grpc.ChannelConnectivity:
        """Give the connection's state; begins to connect where nobody did yet."""
        return self.channel.get_state(try_to_connect=True)

    def unary(self, method: str) -> UnaryCall:
        """Give what calls a method with one message each way; made once, as making it costs."""
        call = self._unary.get(method)
        if call is None:
            call = self._unary[method] = self.channel.unary_unary(method)
        return call


class Channels:
    """All addresses."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Begin to connect; needs a running event loop.

        Raises:
            ConfigError: A certificate can't be read.
        """
        self._settings = settings
        self.nodes = [
            Node(origin, _open(origin, settings)) for origin in dict.fromkeys(settings.grpc)
        ]
        self._turn = 0
        for node in self.nodes:
            node.state()

    def answering(self) -> dict[str, bool]:
        """Tell of each address whether it answers, as far as is known."""
        failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        return {str(node.origin.address): node.state() is not failing for node in self.nodes}

    def pick(self) -> Node:
        """Give the address for the next call: the next that is connected, else one that may be.

        Raises:
            NotServedError: There is none.
        """
        if len(self.nodes) == 1:
            return self.nodes[0]
        if not self.nodes:
            raise NotServedError("no gRPC address of Qdrant is known; set grpc in [upstream]")
        self._turn = (self._turn + 1) % len(self.nodes)
        in_turn = self.nodes[self._turn :] + self.nodes[: self._turn]
        return min(in_turn, key=_reluctance)

    async def ask(
        self, method: str, content: bytes, metadata: Metadata, *, timeout_s: float | None
    ) -> bytes:
        """Make a call of the sidecar's own; without a time, for as long as it takes.

        Raises:
            UnavailableError: Qdrant does not answer, or with an error.
            DeadlineError: Not in time.
            NoCollectionError: Qdrant has no such collection.
        """
        call = self.pick().unary(method)
        try:
            answer: bytes = await call(content, metadata=metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            said = f"{method}: {error.code().name}: {error.details()}"
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineError(said) from error
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NoCollectionError(said) from error
            raise UnavailableError(said) from error
        return answer

    async def close(self) -> None:
        """Close all connections."""
        for node in self.nodes:
            await node.channel.close()


def is_unreachable(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether an error is this side's word that there is no connection, and not Qdrant's."""
    is_unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
    return is_unavailable and (error.details() or "").startswith(_UNREACHABLE)


def read_pem(path: Path | None) -> bytes | None:
    """Read a certificate or key.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}; expected a PEM file") from error


def _reluctance(node: Node) -> int:
    """Rank an address: connected, not known yet, or failing."""
    state = node.state()
    if state is grpc.ChannelConnectivity.READY:
        return 0
    return 2 if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE else 1


def _open(origin: Origin, settings: UpstreamSettings) -> grpc.aio.Channel:
    """Make the channel of one address."""
    target, options = f"dns:///{origin.address}", _options(settings)
    if not origin.is_tls:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, _credentials(settings), options=options)


def _credentials(settings: UpstreamSettings) -> grpc.ChannelCredentials:
    """Make what TLS needs.

    Raises:
        ConfigError: A file can't be used; gRPC itself would only fail to connect.
    """
    ca, certificate, key = settings.ca, settings.certificate, settings.key or settings.certificate
    client_tls(ca, certificate, key)
    system = ssl.get_default_verify_paths().cafile
    trusted = ca or (Path(system) if system else None)  # else gRPC's own list
    return grpc.ssl_channel_credentials(*map(read_pem, (trusted, key, certificate)))


def _options(settings: UpstreamSettings) -> list[tuple[str, Any]]:
    """Give the settings of a channel."""
    return [
        *UNLIMITED,
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.enable_retries", 0),  # nothing is sent twice
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.dns_min_time_between_resolutions_ms", _LAST_RETRY_MS),  # after a failure only
        ("grpc.initial_reconnect_backoff_ms", _RETRY_MS),
        ("grpc.max_reconnect_backoff_ms", _LAST_RETRY_MS),
        # By its effect the time for making one connection: grpc core, subchannel.cc, 1.85
        ("grpc.min_reconnect_backoff_ms", int(settings.connect_timeout_s * 1000)),
        ("grpc.client_idle_timeout_ms", _WEEK_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.use_local_subchannel_pool", 1),
        # The system's proxy variables are for the internet; Qdrant is next door.
        ("grpc.enable_http_proxy", 0),
    ]
