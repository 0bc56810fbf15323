"""What `trimtab serve` is told: one TOML file, or the same by flags, as frozen values.

Read once, at the edge (:mod:`trimtab.settings_file`), and handed down. Secrets stand in the
environment; a setting names the variable.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from trimtab.addresses import Address, Origin
from trimtab.rewrite.policies import Policies
from trimtab.routing.routes import Mode, OnError

ANY_PREFIX = "any"
"""The ``path_prefix`` that takes any."""
_MOST = 10**9
"""More things than one machine holds, and few enough for whatever counts them in C."""
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Some = Annotated[int, Meta(ge=1, le=_MOST)]
Workers = Annotated[int, Meta(ge=1, le=1024)]
Bytes = Annotated[int, Meta(ge=1024, le=10**12)]
"""A limit that lets at least the smallest requests through."""
Seconds = Annotated[float, Meta(ge=0)]
While = Annotated[float, Meta(ge=0.01)]
"""Seconds after which something is done or given up: nothing works, or rests, with none."""
Patience = Annotated[float, Meta(ge=0.01, le=86_400)]
"""Seconds that gRPC is told as whole milliseconds, of which it takes 31 bits."""
Share = Annotated[float, Meta(ge=0, le=1)]
_REST, _ADMIN = Address("127.0.0.1", 6333), Address("127.0.0.1", 6340)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the sidecar listens.

    Attributes:
        rest: For Qdrant's REST; None for no such listener.
        grpc: For Qdrant's gRPC.
        admin: For ``/trimtab/*``; keep it off public networks.
        certificate: PEM file with the listener's certificate chain; TLS for ``rest`` and ``grpc``.
        key: PEM file with its private key.
        path_prefix: What clients put before Qdrant's own paths over REST, as in ``/qdrant``; it is
            taken away. ``any``: whatever stands before ``/collections`` is left where it is.
            Empty: nothing does.
        busy_poll_us: Microseconds that a worker stays awake for what comes next over REST, where
            its last waits were mostly shorter; 0 to sleep at once.
    """

    rest: Address | None = _REST
    grpc: Address | None = None
    admin: Address | None = _ADMIN
    certificate: Path | None = None
    key: Path | None = None
    path_prefix: str = ANY_PREFIX
    busy_poll_us: Count = 100


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The Qdrant behind.

    Attributes:
        rest: Its REST addresses, any of which may answer; a name stands for all its addresses.
        grpc: Its gRPC addresses.
        path_prefix: What stands before Qdrant's own paths at the REST addresses, as behind an
            ingress; it is put there.
        ca: PEM file with the authorities to trust; else the system's.
        certificate: PEM file with a client certificate.
        key: PEM file with its private key.
        api_key_env: Variable with the key for the sidecar's own questions. Callers' keys are passed
            on whatever it says.
        connect_timeout_s: Seconds until an address counts as unreachable.
        query_timeout_s: Seconds until a REST query without an answer ends with 504; other requests,
            and gRPC calls, may take as long as their caller waits. 0 for never.
        max_connections: REST connections to one address, at most.
        idle_timeout_s: Seconds after which an unused connection is closed; Qdrant closes its own
            after 5.
        check_interval_s: Seconds between checks of an address that has failed; one that answers
            is checked a tenth as often.
        resolve_interval_s: Seconds between look-ups of names.
    """

    rest: tuple[Origin, ...] = ()
    grpc: tuple[Origin, ...] = ()
    path_prefix: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    api_key_env: str = "QDRANT_API_KEY"
    connect_timeout_s: Patience = 2.0
    query_timeout_s: Seconds = 60.0
    max_connections: Some = 256
    idle_timeout_s: While = 4.0
    check_interval_s: While = 0.5
    resolve_interval_s: While = 10.0


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """Which adapter serves which vector.

    Attributes:
        collection: A collection or an alias; an alias wins over the collection behind it.
        adapter: The model file or its folder.
        vector: The vector's name; empty for the unnamed one.
        mode: ``on``, ``off``, ``shadow`` or ``canary``.
        share: For ``canary``, the share of queries that are adapted, 0 to 1; a tenth unless given.
        on_error: What to do where a query can't be adapted; unless given, the adapter's kind of use
            decides.
    """

    collection: str
    adapter: Path
    vector: str = ""
    mode: Mode = "on"
    share: Share | None = None
    on_error: OnError | None = None


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """A FAISS index that is served as a read-only collection.

    Attributes:
        name: The collection's name.
        index: The index file.
        ids: Text file whose line i is the id of row i; without it the index's own ids.
        payload: Payloads by id, JSON Lines or Parquet.
    """

    name: str
    index: Path
    ids: Path | None = None
    payload: Path | None = None


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """A text encoder that answers inference objects, and ``/v1/embeddings``.

    Attributes:
        model: The name by which requests ask for it, compared without regard to case. Neither
            Qdrant's own BM25, nor another encoder's with ``:query`` or ``:document`` behind it.
        file: The encoder's file, or its folder; see ``trimtab export-encoder``.
        adapts: Collections, or COLLECTION/VECTOR, whose queries get what the adapter in the
            encoder's file makes of their texts; they have no route of their own.
        writes: True to embed the texts of points that are written, too: raw, never adapted.
        threads: Threads of one worker that embed; each takes a core while texts wait.
        waiting: Texts that may wait in one worker; beyond that, requests get 503.
        cached: Texts whose embeddings are kept.
        token_env: Variable with the keys, white space between them, of which a request must bring
            one to have texts embedded: as ``api-key``, or ``Authorization: Bearer``. Empty for
            whoever reaches the port.
    """

    model: str
    file: Path
    adapts: tuple[str, ...] = ()
    writes: bool = False
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    waiting: Some = 2048
    cached: Count = 10_000
    token_env: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    Attributes:
        body_bytes: Largest body of a query, packed or unpacked; Qdrant's own limit is 32 MiB.
            Bodies that are only passed on have none.
        head_bytes: Largest head of a request, request line included.
        connections: Open client connections of one worker.
        head_timeout_s: Seconds for a whole head, from its first byte.
        body_timeout_s: Seconds without a byte of a body, or with a client that does not read.
        idle_timeout_s: Seconds that a connection may stay open between requests.
        drain_timeout_s: Seconds that requests may go on for after SIGTERM.
    """

    body_bytes: Bytes = 32 * 2**20
    head_bytes: Bytes = 64 * 2**10
    connections: Some = 10_000
    head_timeout_s: While = 10.0
    body_timeout_s: While = 30.0
    idle_timeout_s: While = 75.0
    drain_timeout_s: Seconds = 30.0


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """How routes in shadow mode are watched.

    Attributes:
        share: Share of the requests whose adapted twin is asked as well, 0 to 1.
        concurrent: Twins under way at once; a request beyond that has none.
        kept: Comparisons that ``/trimtab/shadow`` shows.
    """

    share: Share = 1.0
    concurrent: Count = 4
    kept: Count = 100


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Who may use ``/trimtab/*``.

    Attributes:
        token_env: Variable with the token that all but health and readiness ask for; empty for
            none.
    """

    token_env: str = ""


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """When routes are read anew, beside SIGHUP and ``POST /trimtab/reload``.

    Attributes:
        watch: True to do so when the file, or a model that it names, changes.
        interval_s: Seconds between looks at the files.
    """

    watch: bool = True
    interval_s: While = 1.0


@dataclass(frozen=True, slots=True)
class FactsSettings:
    """How long is believed what Qdrant said of its collections.

    Attributes:
        ttl_s: Seconds. Changes that pass through the sidecar are noticed at once.
    """

    ttl_s: Seconds = 60.0


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is told about requests beside the metrics.

    Attributes:
        traces: True for OpenTelemetry spans; needs ``trimtab[otel]``, and takes its own settings
            from the ``OTEL_*`` variables.
    """

    traces: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a server is told.

    Attributes:
        workers: Processes that share the listeners.
        source: The file that it was read from, if one was.
    """

    listen: ListenSettings = field(default_factory=ListenSettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    routes: tuple[RouteSettings, ...] = ()
    collections: tuple[CollectionSettings, ...] = ()
    encoders: tuple[EncoderSettings, ...] = ()
    policies: Policies = field(default_factory=Policies)
    limits: Limits = field(default_factory=Limits)
    shadow: ShadowSettings = field(default_factory=ShadowSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    reload: ReloadSettings = field(default_factory=ReloadSettings)
    facts: FactsSettings = field(default_factory=FactsSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    workers: Workers = 1
    source: Path | None = None
