"""TLS towards Qdrant and towards clients."""

import ssl

from trimtab.certificates import client_tls, load_chain
from trimtab.settings import ListenSettings, UpstreamSettings


def client_context(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Make the context for Qdrant's addresses; None where none of them uses TLS.

    Raises:
        ConfigError: A file can't be used.
    """
    if not any(origin.is_tls for origin in settings.rest):
        return None
    context = client_tls(settings.ca, settings.certificate, settings.key)
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
    load_chain(context, settings.certificate, settings.key or settings.certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context
