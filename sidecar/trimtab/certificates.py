"""PEM files of certificates and private keys, as a TLS context; a mistake is told by its file."""

import re
import shlex
import ssl
from pathlib import Path
from typing import NamedTuple

from trimtab.errors import ConfigError


class _Kind(NamedTuple):
    """What a PEM file may hold.

    Attributes:
        words: What it is called.
        pattern: How it begins.
        tool: OpenSSL's command that reads it.
    """

    words: str
    pattern: re.Pattern[bytes]
    tool: str


_CERTIFICATE = _Kind(
    "certificate", re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----"), "x509"
)
_KEY = _Kind("private key", re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----"), "pkey")
_DER = b"\x30"
"""How DER begins, whatever it holds."""


def client_tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Make a context that asks servers.

    Args:
        ca: Authorities to trust; else the system's.
        certificate: A client certificate, if one is to be shown.
        key: Its private key; unless given, it stands in the same file.

    Raises:
        ConfigError: A file can't be used; the message names it.
    """
    if ca is not None:
        _check(ca, _CERTIFICATE)
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"can't use the certificate in {ca}: {_reason(error)}; expected the authorities to "
            "trust, as PEM"
        ) from error
    if certificate is not None:
        load_chain(context, certificate, key or certificate)
    return context


def load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Let a context show a certificate.

    Raises:
        ConfigError: A file can't be used; the message names it.
    """
    _check(certificate, _CERTIFICATE)
    _check(key, _KEY)

    def refuse() -> str:
        path, plain = (shlex.quote(str(each)) for each in (key, f"{key}.plain"))
        raise ConfigError(
            f"the private key in {key} is encrypted, and nobody is here to ask for its password; "
            f"decrypt it: openssl pkey -in {path} -out {plain}"
        )

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"the private key in {key} is not that of the certificate in {certificate}; "
                "expected a pair, the server's own certificate first in its file"
            ) from error
        path, kind = (key, _KEY) if _can_read(certificate) else (certificate, _CERTIFICATE)
        raise ConfigError(
            f"can't use the {kind.words} in {path}: {_reason(error)}; expected PEM, as "
            f"openssl {kind.tool} -in {shlex.quote(str(path))} can read it"
        ) from error


def _check(path: Path, wanted: _Kind) -> None:
    """Refuse a file that does not hold what it should.

    Raises:
        ConfigError: With what it holds instead.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"can't read {path}: {error.strerror}; expected a PEM file with a {wanted.words}"
        ) from error
    if wanted.pattern.search(content):
        return
    other = _KEY if wanted is _CERTIFICATE else _CERTIFICATE
    advice = f"expected a {wanted.words} as PEM"
    if not content.strip():
        fact = "is empty"
    elif other.pattern.search(content):
        fact = f"holds a {other.words}, and no {wanted.words}"
        advice += "; are certificate and key swapped?"
    elif content.startswith(_DER):
        fact = "is no PEM, but DER by its first byte"
        file = shlex.quote(str(path))
        advice += f": openssl {wanted.tool} -inform DER -in {file} -out {file}.pem"
    else:
        fact = f"holds no {wanted.words}"
    raise ConfigError(f"{path} {fact}; {advice}")


def _can_read(certificate: Path) -> bool:
    """Tell whether OpenSSL can read the certificates in a file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except (OSError, ssl.SSLError):
        return False
    return True


def _reason(error: OSError) -> str:
    """Say what OpenSSL said, without the place in its source."""
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error).lower().replace("_", " ")
