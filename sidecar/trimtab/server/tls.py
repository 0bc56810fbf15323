"""TLS towards Qdrant and towards clients."""

import ssl
from pathlib import Path

from trimtab.errors import ConfigError
from trimtab.settings import ListenSettings, UpstreamSettings


def client_context(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Make the context for Qdrant's addresses; None where none of them uses TLS.

    Raises:
        ConfigError: A file can't be used.
    """
    if not any(origin.is_tls for origin in settings.rest):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(settings.certificate or settings.ca, error) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(settings: ListenSettings) -> ssl.SSLContext | None:
    """Make the context for clients; None where there is no certificate.

    Raises:
        ConfigError: A file can't be used.
    """
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(settings.certificate, error) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _unusable(path: Path | None, error: OSError) -> ConfigError:
    """Say which file can't be used."""
    reason = error.strerror or str(error)
    return ConfigError(f"can't use the certificate or key of {path}: {reason}; expected PEM files")
