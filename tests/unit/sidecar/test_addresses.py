"""Addresses as users write them."""

import pytest

from trimtab.addresses import Address, Origin, without_secrets
from trimtab.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:6333", "127.0.0.1", 6333),
        ("qdrant:0", "qdrant", 0),
        ("[::1]:6333", "::1", 6333),
        ("0.0.0.0:65535", "0.0.0.0", 65535),  # noqa: S104  # only read
        ("a-b.example:1", "a-b.example", 1),
    ],
)
def test_an_address_is_host_and_port_and_written_as_it_was(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "qdrant", ":6333", "qdrant:", "qdrant:x", "qdrant:70000", "qdrant:-1", "::1:6333",
     "qdrant:1/path", "a..b:1", f"{'x' * 64}:1", "user@qdrant:1", "user:word@qdrant:1", "http://qdrant:1"],
)  # fmt: skip
def test_what_is_no_address_is_an_error_that_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT") as caught:
        Address.parse(text)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("listens", "asked", "answers"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "localhost:1", True),
        ("localhost:1", "[::1]:1", True),
        ("0.0.0.0:1", "localhost:1", True),
        ("0.0.0.0:1", "127.0.0.2:1", True),
        ("0.0.0.0:1", "0.0.0.0:1", True),
        ("[::]:1", "127.0.0.1:1", True),
        ("[::]:1", "localhost:1", True),
        ("[::]:1", "[::]:1", True),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("10.0.0.7:1", "10.0.0.7:1", True),
        ("box:1", "BOX:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("0.0.0.0:1", "[::1]:1", False),
        ("0.0.0.0:1", "10.0.0.7:1", False),
        ("0.0.0.0:1", "qdrant:1", False),
        ("[::]:1", "qdrant:1", False),
    ],
)
def test_a_listener_is_known_by_its_address(listens: str, asked: str, answers: bool) -> None:
    assert Address.parse(listens).answers_at(Address.parse(asked)) is answers


@pytest.mark.parametrize(
    ("text", "written", "is_tls"),
    [
        ("http://qdrant:6333", "http://qdrant:6333", False),
        ("https://qdrant:443", "https://qdrant:443", True),
        ("qdrant:1", "http://qdrant:1", False),
        ("qdrant", "http://qdrant:6333", False),
        ("http://qdrant/", "http://qdrant:6333", False),
        ("https://[::1]", "https://[::1]:6333", True),
        ("[::1]:5", "http://[::1]:5", False),
    ],
)
def test_an_origin_may_leave_out_what_is_usual(text: str, written: str, is_tls: bool) -> None:
    origin = Origin.parse(text, default_port=6333)
    assert str(origin) == written
    assert origin.is_tls is is_tls


@pytest.mark.parametrize(
    "text",
    ["", "ftp://qdrant:1", "http://", "http://qdrant:1/api", "https:///x", "http://qdrant:x",
     "http://me:word@qdrant:1", "http://qdrant:1?a=b", "http://qdrant:0", "qdrant:0"],
)  # fmt: skip
def test_what_is_no_origin_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Origin.parse(text, default_port=6333)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("not an address", "not an address"),
        ("https://me:word@host:1/v1", "https://***@host:1/v1"),
        ("qdrant+https://word@host/docs", "qdrant+https://***@host/docs"),
        ("me:word@host", "***@host"),
        ("http://me:wo/rd@host/v1", "http://***@host/v1"),
        ("http://me:wo?r#d@x@host/v1?key=word", "http://***@host/v1?***"),
        ("http://host/v1?key=word", "http://host/v1?***"),
        ("http://me:wo\nrd@host?a=wo\nrd", "http://***@host?***"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_secret(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
