"""Qdrant's gRPC messages are found wherever the official client is."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from trimtab.rewrite import qdrant_messages


@pytest.mark.parametrize("places", [None, ["nowhere"]])
def test_a_client_that_is_laid_out_otherwise_is_imported_whole(
    places: list[str] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = ModuleSpec("qdrant_client", None)
    client.submodule_search_locations = places and [str(tmp_path / one) for one in places]
    monkeypatch.setattr(qdrant_messages, "find_spec", lambda _name: client)
    monkeypatch.delitem(sys.modules, "qdrant_client.grpc", raising=False)
    found = qdrant_messages._load()
    assert found.__name__ == "qdrant_client.grpc"
    assert found.QueryPoints is qdrant_messages.messages.QueryPoints


def test_no_client_at_all_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_messages, "find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    monkeypatch.delitem(sys.modules, "qdrant_client.grpc", raising=False)
    with pytest.raises(ImportError, match="qdrant_client"):
        qdrant_messages._load()
