"""The route table in force: whole, checked before it changes, and kept to go back to."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.faiss_collections import build_index, vectors_of, write_collection
from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab.addresses import Address
from trimtab.errors import ConfigError, ModelError, SidecarError
from trimtab.rewrite.policies import Policies
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.route_table import FIXED, LiveTable, stamp
from trimtab.settings import (
    CollectionSettings,
    Limits,
    ListenSettings,
    RouteSettings,
    Settings,
    ShadowSettings,
    UpstreamSettings,
)


class Source:
    """Settings that a test changes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "adapter.onnx"
        self.put(1)
        self.settings: Settings = settings_of(folder)
        self.live = LiveTable(lambda: self.settings, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1))

    def put(self, seed: int) -> None:
        self.file.write_bytes(linear_bytes(name="model", seed=seed))

    def mark(self) -> str:
        (route,) = self.live.current.routes
        return route.adapter.mark

    def reload(self) -> None:
        self.live.commit(self.live.prepare())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_preparing_changes_nothing(source: Source) -> None:
    before = source.live.current
    source.put(2)
    prepared = source.live.prepare()
    assert source.live.current is before
    assert source.live.previous is None
    source.live.commit(prepared)
    assert source.live.current is prepared
    assert source.live.previous is before
    assert prepared.number > before.number


@pytest.mark.parametrize(("given", "share"), [(None, 0.1), (0.0, 0.0), (0.5, 0.5)])
def test_a_canary_adapts_a_tenth_unless_it_is_told(
    source: Source, given: float | None, share: float
) -> None:
    source.file.write_bytes(linear_bytes(use="relevance"))
    route = RouteSettings("docs", source.file, mode="canary", share=given)
    source.settings = replace(source.settings, routes=(route,))
    source.reload()
    assert [each.share for each in source.live.current.routes] == [share]


def test_going_back_and_forth_swaps_the_tables(source: Source) -> None:
    assert not source.live.roll_back()
    old = source.mark()
    source.put(2)
    source.reload()
    new = source.mark()
    assert old != new
    for expected in (old, new, old):
        assert source.live.roll_back()
        assert source.mark() == expected


def test_no_two_tables_have_one_number(source: Source) -> None:
    numbers = [source.live.current.number]
    for model in (2, 3):
        source.put(model)
        source.reload()
        numbers.append(source.live.current.number)
        source.live.roll_back()
    assert len(set(numbers)) == 3


def test_a_reload_of_the_same_keeps_what_can_be_gone_back_to(source: Source) -> None:
    old = source.mark()
    source.put(2)
    for _ in range(3):
        source.reload()
    assert source.live.roll_back()
    assert source.mark() == old


def test_an_adapter_that_has_not_changed_is_not_loaded_again(source: Source) -> None:
    (before,) = source.live.current.routes
    source.reload()
    (after,) = source.live.current.routes
    assert after.adapter is before.adapter


@pytest.mark.parametrize("spoil", ["model", "missing", "settings"])
def test_what_cannot_be_used_raises_and_changes_nothing(source: Source, spoil: str) -> None:
    before = source.live.current
    if spoil == "model":
        source.file.write_bytes(b"no model")
    elif spoil == "missing":
        source.file.unlink()
    else:
        route = RouteSettings("docs", source.file)
        source.settings = replace(source.settings, routes=(route, route))
    with pytest.raises(ConfigError if spoil == "settings" else ModelError):
        source.live.prepare()
    assert source.live.current is before


def test_an_unreadable_source_raises_too(tmp_path: Path) -> None:
    def read() -> Settings:
        raise ConfigError("told")

    with pytest.raises(SidecarError, match="told"):
        LiveTable(read, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1))


@pytest.mark.parametrize(
    ("use", "policy", "expected"),
    [("migration", "warn", True), ("migration", "pass", False), ("relevance", "refuse", False)],
)
def test_a_table_knows_whether_writes_are_watched(
    tmp_path: Path, use: str, policy: Any, expected: bool
) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(use=use))
    settings = settings_of(tmp_path, policies=Policies(write_guard=policy))
    live = LiveTable(lambda: settings, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1))
    assert live.current.is_guarded is expected


def test_settings_that_need_a_restart_are_told(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    assert {field for field in FIXED if not hasattr(source.settings, field)} == set()
    source.settings = replace(
        source.settings, workers=3, listen=ListenSettings(rest=Address("127.0.0.1", 1))
    )
    with caplog.at_level(logging.WARNING, logger="trimtab"):
        source.live.prepare()
    told = {record.__dict__["setting"] for record in caplog.records}
    assert told == {"workers", "listen"}
    caplog.clear()
    source.live.commit(source.live.prepare())
    caplog.clear()
    source.live.prepare()
    assert not caplog.records


def test_what_only_a_restart_changes_is_as_the_server_was_started(tmp_path: Path) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes())
    started = settings_of(tmp_path)
    edited = replace(
        started,
        workers=3,
        upstream=UpstreamSettings(path_prefix="/other"),
        shadow=ShadowSettings(share=0.5),
        limits=Limits(drain_timeout_s=1.0),
    )
    live = LiveTable(lambda: edited, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1), started)
    for table in (live.current, live.prepare()):
        assert table.settings == replace(started, limits=edited.limits)


def test_a_stamp_tells_a_change_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamp(path) == ()
    path.write_bytes(b"a")
    first = stamp(path)
    path.write_bytes(b"ab")
    assert stamp(path) != first


def test_a_stamp_tells_another_file_of_one_size_and_time_in_the_same_place(tmp_path: Path) -> None:
    """As archives of two models put them there; their number is free again, and given again."""
    path = tmp_path / "file"
    seen = set()
    for content in (b"one", b"two", b"six"):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        seen.add(stamp(path))
    path.write_bytes(b"ten")  # in place
    os.utime(path, ns=(1, 1))
    assert len(seen | {stamp(path)}) == 4


def test_an_index_renamed_over_one_of_the_same_size_and_time_is_opened(tmp_path: Path) -> None:
    place = tmp_path / "served.faiss"

    def put(seed: int) -> None:
        written = write_collection(tmp_path, build_index("Flat", vectors_of(9, 4, seed=seed)))
        os.utime(written.index, (0, 0))
        written.index.replace(place)

    put(1)
    settings = settings_of(None, collections=(CollectionSettings("papers", place),))
    live = LiveTable(lambda: settings, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1))
    assert live.prepare().collections is live.current.collections
    put(2)
    assert live.prepare().collections is not live.current.collections
