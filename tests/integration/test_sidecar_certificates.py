"""Certificates and keys that can't be used: one line that says which file is wrong, and how."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from trimtab.commands.group import main

PASSWORD = b"topsecret"
SIDES = {
    "clients": 'upstream.rest = "a:1"\n[listen]\n',
    "Qdrant": '[upstream]\nrest = "https://127.0.0.1:9"\n',
    "Qdrant's gRPC": '[upstream]\ngrpc = "https://127.0.0.1:9"\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair, another key, and the key under a password."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "k.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    authority.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "other.pem")
    return tmp_path


def check(folder: Path, side: str, *lines: str) -> str:
    """Check settings that can't be used; give what is said."""
    config = folder / "sidecar.toml"
    config.write_text(SIDES[side] + "\n".join(lines) + "\n")
    done = CliRunner().invoke(main, ["serve", "--config", str(config), "--check"])
    assert done.exit_code == (1 if done.stderr else 0), done.output
    assert len(done.stderr.splitlines()) <= 1
    assert "topsecret" not in done.output
    return done.stderr


PAIR = ('certificate = "c.pem"', 'key = "k.pem"')


def encrypt(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "k.pem").read_bytes(), None)
    under = serialization.BestAvailableEncryption(PASSWORD)
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / "k.pem").write_bytes(key.private_bytes(*forms, under))


def encrypt_as_of_old(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "k.pem").read_bytes(), None)
    under = serialization.BestAvailableEncryption(PASSWORD)
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL)
    (folder / "k.pem").write_bytes(key.private_bytes(*forms, under))


def swap(folder: Path) -> None:
    (folder / "c.pem").rename(folder / "x")
    (folder / "k.pem").rename(folder / "c.pem")
    (folder / "x").rename(folder / "k.pem")


def take_another(folder: Path) -> None:
    (folder / "other.pem").rename(folder / "k.pem")


def certificate_in_der(folder: Path) -> None:
    certificate = load_pem_x509_certificate((folder / "c.pem").read_bytes())
    (folder / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.DER))


def key_in_der(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "k.pem").read_bytes(), None)
    forms = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8)
    (folder / "k.pem").write_bytes(key.private_bytes(*forms, serialization.NoEncryption()))


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return put


def damage(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join([*lines[:2], *lines[3:]]))

    return cut


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "key with a password": (encrypt, "k.pem", "is encrypted, .*: openssl pkey -in .*k.pem -out"),
    "key with a password, of old": (encrypt_as_of_old, "k.pem", "is encrypted"),
    "swapped": (swap, "c.pem", "holds a private key, and no certificate; .*swapped"),
    "another's key": (take_another, "k.pem", "is not that of the certificate in .*c.pem"),
    "certificate in DER": (certificate_in_der, "c.pem", "openssl x509 -inform DER -in"),
    "key in DER": (key_in_der, "k.pem", "openssl pkey -inform DER -in"),
    "empty certificate": (write("c.pem", b"\n"), "c.pem", "is empty; expected a certificate"),
    "empty key": (write("k.pem", b""), "k.pem", "is empty; expected a private key"),
    "text": (write("c.pem", b"no PEM"), "c.pem", "holds no certificate; expected"),
    "damaged certificate": (damage("c.pem"), "c.pem", "can't use the certificate in"),
    "damaged key": (damage("k.pem"), "k.pem", "can't use the private key in"),
    "no certificate": (lambda folder: (folder / "c.pem").unlink(), "c.pem", "can't read"),
    "no key": (lambda folder: (folder / "k.pem").unlink(), "k.pem", "can't read"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_file_that_is_wrong_is_told(folder: Path, fault: str, side: str) -> None:
    assert check(folder, side, *PAIR) == ""
    spoil, name, words = FAULTS[fault]
    spoil(folder)
    said = check(folder, side, *PAIR)
    first = min((name for name in ("c.pem", "k.pem") if name in said), key=said.index)
    assert first == name
    assert re.search(words, said)


@pytest.mark.parametrize("side", ["Qdrant", "Qdrant's gRPC"])
@pytest.mark.parametrize("content", [b"", b"no PEM", b"0\x82\x01\x0a", None])
def test_authorities_that_cannot_be_read_are_told(
    folder: Path, side: str, content: bytes | None
) -> None:
    assert check(folder, side, 'ca = "ca.pem"', *PAIR) == ""
    if content is None:
        damage("ca.pem")(folder)
    else:
        (folder / "ca.pem").write_bytes(content)
    said = check(folder, side, 'ca = "ca.pem"', *PAIR)
    assert "ca.pem" in said
    assert "c.pem" not in said.replace("ca.pem", "")
    assert "expected" in said
