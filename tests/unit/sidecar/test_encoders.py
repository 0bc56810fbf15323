"""The endpoint's encoder: what it refuses before it asks anything."""

import sys
import traceback

import pytest

from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab.errors import (
    ConfigError,
    MissingExtraError,
    QueryError,
    SidecarError,
    UnavailableError,
)

KEY = "sk-secret"


@pytest.mark.parametrize("spoilt", ["\n", "\r\n", "\0", "\x7f", "ключ", "\N{NO-BREAK SPACE}"])
def test_key_that_no_header_may_hold_is_refused_untold(spoilt: str) -> None:
    with pytest.raises(ConfigError, match="API key holds characters that no header") as caught:
        OpenAIEncoder(EndpointSettings("m", api_key=KEY + spoilt))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "localhost:8080/v1", "ftp://host/v1", "file:///etc", "//x"]
)
def test_address_that_is_not_http_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"expected http:// or https://"):
        OpenAIEncoder(EndpointSettings("m", base_url=address))


@pytest.mark.parametrize("address", ["http://host:port/v1", "http://[::1/v1"])
def test_address_that_leads_nowhere_is_a_setting_to_mend(address: str) -> None:
    settings = EndpointSettings("m", base_url=address, retries=0)
    with pytest.raises(SidecarError), OpenAIEncoder(settings) as encoder:
        encoder(["a"])


def test_missing_httpx_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match="needs httpx: pip install httpx"):
        OpenAIEncoder(EndpointSettings("m"))


def test_missing_extra_is_an_import_error_too() -> None:
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(MissingExtraError, SidecarError)


def test_negative_retries_are_named() -> None:
    with (
        OpenAIEncoder(EndpointSettings("m", retries=-1)) as encoder,
        pytest.raises(UnavailableError, match="retries must be 0 or more"),
    ):
        encoder(["a"])


def test_what_can_not_be_asked_is_told_as_an_error_of_ours() -> None:
    with (
        OpenAIEncoder(EndpointSettings("m", "http://localhost:1/v1", retries=0)) as encoder,
        pytest.raises(QueryError, match="half a surrogate pair"),
    ):
        encoder(["caf\ud83d"])
    with pytest.raises(ConfigError, match="this encoder is closed"):
        encoder(["a"])


def test_settings_never_show_where_they_are_not_asked() -> None:
    """An encoder stands in logs and tracebacks by its repr; settings hold the key."""
    with OpenAIEncoder(EndpointSettings("m", api_key=KEY)) as encoder:
        assert KEY not in repr(encoder)
        assert KEY not in repr(encoder._client)


def test_settings_hide_the_key() -> None:
    assert KEY not in repr(EndpointSettings("m", api_key=KEY))


@pytest.mark.parametrize(
    "address",
    ["http://me:sk-secret@[::1/v1", "ftp://me:sk-secret@host/v1", "http://me:sk-secret/x@host/v1"],
)
def test_address_that_is_refused_is_shown_without_its_password(address: str) -> None:
    settings = EndpointSettings("m", base_url=address)
    assert KEY not in repr(settings)
    with pytest.raises(ConfigError, match="endpoint's address") as caught:
        OpenAIEncoder(settings)
    assert KEY not in "".join(traceback.format_exception(caught.value))
