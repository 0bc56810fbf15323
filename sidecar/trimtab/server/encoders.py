"""The encoders that a sidecar serves: loaded once, found by the name that a request asks for."""

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trimtab.errors import ConfigError, UnauthenticatedError
from trimtab.model.manifest import Manifest
from trimtab.model.onnx_file import naming_file, read_content
from trimtab.routing.routes import Mode, OnError, Route, Routes, name_vector
from trimtab.settings import EncoderSettings
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_file import ENCODER_RULES, resolve_encoder_path

logger = logging.getLogger(__name__)

Credentials = Iterable[tuple[bytes | str, bytes | str]]
"""Header fields of a request, or the metadata of a call: names in any case, and values."""


@dataclass(frozen=True, slots=True)
class EncoderAim:
    """What an encoder's ``adapts`` names: the vector whose queries the adapter in its file is for.

    Attributes:
        model: The encoder's name.
        collection: The collection's name, or an alias.
        vector_name: The vector's name in it; empty for the unnamed one.
        manifest: What the adapter says about itself.
        mark: ``NAME@VERSION`` of the adapter.
        mode: As of a route.
        on_error: As of a route: a text that can't be embedded has no raw vector.
        remark: Nothing.
    """

    model: str
    collection: str
    vector_name: str
    manifest: Manifest
    mark: str
    mode: Mode = "on"
    on_error: OnError = "refuse"
    remark: str = ""

    @property
    def table(self) -> str:
        """Where in the settings it stands."""
        return f"adapts of [[encoder]] {self.model!r}"

    def __str__(self) -> str:
        """Name the collection, the vector and the encoder for a message."""
        return f"{name_vector(self.collection, self.vector_name)} ({self.table})"


@dataclass(frozen=True, slots=True)
class ServedEncoder:
    """An encoder and how it is served.

    Attributes:
        settings: The settings.
        encoder: The encoder.
        keys: Those of which a request must bring one; empty where none is asked for.
    """

    settings: EncoderSettings
    encoder: TextEncoder
    keys: tuple[bytes, ...] = ()

    def admits(self, fields: Credentials) -> bool:
        """Tell whether a request with these fields may have texts embedded."""
        if not self.keys:
            return True
        # Every pair is compared, so that the time tells nothing.
        return any([hmac.compare_digest(one, key) for one in keys_in(fields) for key in self.keys])

    def admit(self, fields: Credentials) -> None:
        """Let a request have texts embedded.

        Raises:
            UnauthenticatedError: It brings no key that is asked for.
        """
        if not self.admits(fields):
            raise UnauthenticatedError(
                f"texts for {self.settings.model} are embedded for whoever brings a key of this "
                "encoder, as api-key: KEY or Authorization: Bearer KEY"
            )

    def adapts(self, names: Sequence[str], vector_name: str) -> bool:
        """Tell whether the adapter in the file is meant for the queries of a vector.

        Args:
            names: Of its collection: as the request has it, and what is behind an alias.
            vector_name: The vector's name; empty for the unnamed one.
        """
        end = f"/{vector_name}" if vector_name else ""
        return any(name + end in self.settings.adapts for name in names)

    @property
    def aims(self) -> list[EncoderAim]:
        """What the adapter in the file is for, by collection and vector."""
        card, encoder = self.encoder.adapter, self.encoder
        places = [each.partition("/") for each in self.settings.adapts]
        return [
            EncoderAim(self.settings.model, collection, vector_name, card, encoder.mark)
            for collection, _, vector_name in places
            if card is not None
        ]

    def check(self, routes: Routes) -> None:
        """Refuse what would adapt twice, or can't adapt.

        Raises:
            ConfigError: With what contradicts what.
        """
        model = self.settings.model
        if self.settings.adapts and self.encoder.adapter is None:
            raise ConfigError(
                f"[[encoder]] {model!r} adapts {', '.join(self.settings.adapts)}, and there is no "
                "adapter in its file; make one by trimtab export-encoder --adapter MODEL"
            )
        if self.settings.writes and not self.encoder.has_raw:
            raise ConfigError(
                f"[[encoder]] {model!r} writes, and its file embeds queries alone; name the "
                "untouched encoder for writes"
            )
        for route in routes:
            if route.mode != "off" and self.adapts((route.collection,), route.vector_name):
                raise ConfigError(
                    f"[[encoder]] {model!r} adapts {route}, which has a [[route]] as well; leave "
                    "one of them out"
                )

    def fits(self, route: Route) -> bool:
        """Tell whether a route's adapter can take what this encoder gives, as far as is known."""
        return self.encoder.manifest.is_encoder_of(route.adapter.manifest)


class Encoders:
    """Encoders by name, compared without regard to case, as Qdrant does with its own.

    Attributes:
        write: True where some of them embed what is written.
        adapt: True where the adapter in some file is meant for some collection.
    """

    def __init__(self, served: Iterable[ServedEncoder] = ()) -> None:
        """Take the encoders."""
        self._served = {each.settings.model.lower(): each for each in served}
        self.write = any(each.settings.writes for each in self)
        self.adapt = any(each.settings.adapts for each in self)

    def __len__(self) -> int:
        """Count them."""
        return len(self._served)

    def __iter__(self) -> Iterator[ServedEncoder]:
        """Give them in the settings' order."""
        return iter(self._served.values())

    @property
    def aims(self) -> list[EncoderAim]:
        """What all of them adapt."""
        return [aim for served in self for aim in served.aims]

    def find(self, model: str) -> ServedEncoder | None:
        """Find an encoder; None where nobody here has that name."""
        return self._served.get(model.lower())

    @classmethod
    def load(cls, settings: tuple[EncoderSettings, ...], old: "Encoders | None") -> "Encoders":
        """Load the encoders; one whose bytes have not changed is not made again.

        Raises:
            ConfigError: Keys are asked for, and there are none.
            ModelError: A file can't be used; the message names it.
            MissingExtraError: ``tokenizers`` is not installed.
        """
        known = {each.encoder.version: each.encoder for each in (old or ())}
        return cls(ServedEncoder(each, _load(each, known), _read_keys(each)) for each in settings)


def keys_in(fields: Credentials) -> list[bytes]:
    """List the keys that a request brings, as Qdrant reads them, and OpenAI.

    Example:
        >>> keys_in([(b"Api-Key", b"one"), (b"authorization", b"bearer two"), (b"host", b"three")])
        [b'one', b'two']
    """
    found = []
    for field in fields:
        name, value = (part.encode() if isinstance(part, str) else part for part in field)
        if name.lower() == b"api-key":
            found.append(value.strip())
        elif name.lower() == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            found += [key.strip()] if scheme.lower() == b"bearer" else []
    return found


def check_encoders(encoders: Encoders, routes: Routes) -> None:
    """Hold encoders against routes; warn of one whose vectors no route's adapter was trained on.

    Raises:
        ConfigError: An encoder and a route contradict each other.
    """
    for served in encoders:
        served.check(routes)
        is_used = served.settings.adapts or any(served.fits(route) for route in routes)
        if len(routes) and not is_used:
            logger.warning(
                "no route's adapter was trained on this encoder's queries",
                extra={"encoder": served.settings.model},
            )


def _read_keys(settings: EncoderSettings) -> tuple[bytes, ...]:
    """Read an encoder's keys from the environment.

    Raises:
        ConfigError: There are none where they are asked for.
    """
    name = settings.token_env
    if not name:
        return ()
    keys = os.environ.get(name, "").split()
    if not keys:
        raise ConfigError(
            f"[[encoder]] {settings.model!r} token_env names {name}, which is not set; set it to "
            "the key, or to several with spaces between them"
        )
    return tuple(key.encode() for key in keys)


def _load(settings: EncoderSettings, known: dict[str, TextEncoder]) -> TextEncoder:
    """Load an encoder, unless the same bytes are loaded already."""
    file = resolve_encoder_path(settings.file)
    with naming_file(file):
        content = read_content(file, ENCODER_RULES)
        version = hashlib.sha256(content).hexdigest()[:12]
        if version not in known:
            known[version] = TextEncoder.from_bytes(content)
    return known[version]
