"""The encoders that a sidecar serves: loaded once, found by the name that a request asks for."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trimtab.model.onnx_file import naming_file, read_content
from trimtab.routing.routes import Route
from trimtab.settings import EncoderSettings
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_file import ENCODER_RULES, resolve_encoder_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedEncoder:
    """An encoder and how it is served."""

    settings: EncoderSettings
    encoder: TextEncoder

    def fits(self, route: Route) -> bool:
        """Tell whether a route's adapter can take what this encoder gives, as far as is known."""
        card = route.adapter.manifest.encoder
        is_same = not card.fingerprint or card.fingerprint == self.encoder.manifest.fingerprint
        return is_same and route.adapter.dim_in == self.encoder.dim


class Encoders:
    """Encoders by name, compared without regard to case, as Qdrant does with its own.

    Attributes:
        write: True where some of them embed what is written.
    """

    def __init__(self, served: Iterable[ServedEncoder] = ()) -> None:
        """Take the encoders."""
        self._served = {each.settings.model.lower(): each for each in served}
        self.write = any(each.settings.writes for each in self)

    def __len__(self) -> int:
        """Count them."""
        return len(self._served)

    def __iter__(self) -> Iterator[ServedEncoder]:
        """Give them in the settings' order."""
        return iter(self._served.values())

    def find(self, model: str) -> ServedEncoder | None:
        """Find an encoder; None where nobody here has that name."""
        return self._served.get(model.lower())

    @classmethod
    def load(cls, settings: tuple[EncoderSettings, ...], old: "Encoders | None") -> "Encoders":
        """Load the encoders; one whose bytes have not changed is not made again.

        Raises:
            ModelError: A file can't be used; the message names it.
            MissingExtraError: ``tokenizers`` is not installed.
        """
        known = {each.encoder.version: each.encoder for each in (old or ())}
        return cls(ServedEncoder(each, _load(each, known)) for each in settings)


def tell_misfits(encoders: Encoders, routes: Iterable[Route]) -> None:
    """Warn of an encoder whose vectors no route's adapter was trained on."""
    routes = tuple(routes)
    for served in encoders:
        if routes and not any(served.fits(route) for route in routes):
            logger.warning(
                "no route's adapter was trained on this encoder's queries",
                extra={"encoder": served.settings.model},
            )


def _load(settings: EncoderSettings, known: dict[str, TextEncoder]) -> TextEncoder:
    """Load an encoder, unless the same bytes are loaded already."""
    file = resolve_encoder_path(settings.file)
    with naming_file(file):
        content = read_content(file, ENCODER_RULES)
        version = hashlib.sha256(content).hexdigest()[:12]
        if version not in known:
            known[version] = TextEncoder.from_bytes(content)
    return known[version]
