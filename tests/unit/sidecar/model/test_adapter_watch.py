"""An adapter that follows its file: newer models come into force whole, bad ones never."""

import copy
import logging
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import CARD, linear_adapter, linear_bytes, queries_of
from trimtab.clients import AdaptedIndex
from trimtab.errors import ConfigError, ModelError
from trimtab.hook import QueryHook
from trimtab.integrations.loaded import LoadedAdapter
from trimtab.model import followed as followed_module
from trimtab.model.adapter import Adapter, WatchedAdapter
from trimtab.model.encoder_probe import pack_probe
from trimtab.routing.routes import Route

NEVER_S = 3600.0  # tests look themselves, but for those of the thread
OFTEN_S = 0.002
PATIENCE_S = 60.0
QUERIES = queries_of(4)
ENCODER = replace(CARD, probe=pack_probe(np.eye(3, 8, dtype=np.float32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place(tmp_path / "docs", seed=0, encoder=ENCODER)
    return tmp_path / "docs"


@pytest.fixture
def watched(folder: Path) -> Iterator[WatchedAdapter]:
    adapter = Adapter.watch(folder, interval_s=NEVER_S)
    yield adapter
    adapter.close()


def place(folder: Path, **settings: Any) -> None:
    """Put a model in place as ``trimtab fit`` does: a folder of its own, swapped in."""
    beside = folder.with_name("beside")
    beside.mkdir()
    (beside / "adapter.onnx").write_bytes(linear_bytes(**settings))
    if folder.exists():
        folder.rename(folder.with_name("old"))
    beside.rename(folder)
    shutil.rmtree(folder.with_name("old"), ignore_errors=True)


def gives(adapter: Adapter, seed: int) -> bool:
    return np.array_equal(adapter.transform(QUERIES), linear_adapter(seed=seed).transform(QUERIES))


def rename_over(folder: Path, content: bytes) -> None:
    (folder / "new").write_bytes(content)
    (folder / "new").replace(folder / "adapter.onnx")


def write_in_place(folder: Path, content: bytes) -> None:
    """Overwrite, size and time of change as they were: what some copying programs do."""
    before = (folder / "adapter.onnx").stat()
    (folder / "adapter.onnx").write_bytes(content)
    os.utime(folder / "adapter.onnx", ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_folder(folder: Path, content: bytes) -> None:
    place(folder, seed=1)
    assert (folder / "adapter.onnx").read_bytes() == content


def swap_link(folder: Path, content: bytes) -> None:
    """Swap a symbolic link, as Kubernetes does with what it mounts."""
    newer = folder.with_name("release-2")
    newer.mkdir()
    (newer / "adapter.onnx").write_bytes(content)
    folder.rename(folder.with_name("release-1"))
    folder.symlink_to(newer)


@pytest.mark.parametrize("way", [rename_over, write_in_place, swap_folder, swap_link])
def test_a_newer_model_comes_into_force(
    watched: WatchedAdapter, folder: Path, way: Callable[[Path, bytes], None]
) -> None:
    before = watched.current
    way(folder, linear_bytes(seed=1))
    assert watched.reload()
    assert gives(watched, 1)
    assert watched.version == linear_adapter(seed=1).version
    assert watched.mark.endswith(watched.version)
    assert (watched.n_reloads, watched.n_failures, watched.last_error) == (1, 0, None)
    assert gives(before, 0)  # whoever took it still has it whole
    assert not watched.reload()


def test_it_is_an_adapter_wherever_one_goes(watched: WatchedAdapter, folder: Path) -> None:
    import faiss

    index = faiss.IndexFlatIP(4)
    index.add(queries_of(9, 4))
    users: list[Callable[[], Any]] = [
        lambda: QueryHook(watched)(QUERIES),
        lambda: np.array(LoadedAdapter(watched).adapt(QUERIES[0])),
        lambda: AdaptedIndex(index, watched).search(QUERIES, 3)[0],
        lambda: Route.make("docs", watched).adapter.transform(QUERIES),
        lambda: watched(QUERIES),
    ]
    before = [use() for use in users]
    place(folder, seed=1)
    assert watched.reload()
    assert isinstance(watched, Adapter)
    assert (watched.dim_in, watched.dim_out, watched.region) == (6, 4, None)
    assert watched.manifest == linear_adapter(seed=1).manifest
    assert not any(np.array_equal(use(), old) for use, old in zip(users, before, strict=True))


def broken(folder: Path) -> None:
    (folder / "adapter.onnx").write_bytes(b"half a file")


def cut(folder: Path) -> None:
    content = linear_bytes(seed=1)
    (folder / "adapter.onnx").write_bytes(content[: len(content) // 2])


def empty(folder: Path) -> None:
    (folder / "adapter.onnx").write_bytes(b"")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def folder_in_its_place(folder: Path) -> None:
    (folder / "adapter.onnx").unlink()
    (folder / "adapter.onnx").mkdir()


def other_width(folder: Path) -> None:
    place(folder, dim_in=8)


def other_width_out(folder: Path) -> None:
    place(folder, dim_out=5)


def other_encoder(folder: Path) -> None:
    place(folder, seed=1, encoder=replace(CARD, fingerprint="sha256:another"))


def other_pooling(folder: Path) -> None:
    other = pack_probe(np.eye(3, 8, 4, dtype=np.float32))
    place(folder, seed=1, encoder=replace(ENCODER, probe=other))


def other_use(folder: Path) -> None:
    place(folder, seed=1, use="relevance")


@pytest.mark.parametrize(
    "spoil",
    [
        *(broken, cut, empty, gone, folder_in_its_place),
        *(other_width, other_width_out, other_encoder, other_pooling, other_use),
    ],
)
def test_what_can_not_be_used_changes_nothing_and_is_counted_and_said_once(
    watched: WatchedAdapter,
    folder: Path,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(folder)
    for looks in (1, 2, 3):
        assert not watched.reload()
        assert watched.n_failures == looks
    assert gives(watched, 0)
    assert watched.last_error
    assert watched.n_reloads == 0
    ours = [one for one in caplog.records if one.name.startswith("trimtab")]
    warned = [one for one in ours if one.levelno == logging.WARNING]
    assert [vars(one)["cause"] for one in warned] == [watched.last_error]
    if folder.exists():
        shutil.rmtree(folder)
    place(folder, seed=2)
    assert watched.reload()
    assert gives(watched, 2)
    assert watched.last_error is None


def test_a_model_that_goes_back_is_no_failure(watched: WatchedAdapter, folder: Path) -> None:
    good = (folder / "adapter.onnx").read_bytes()
    broken(folder)
    assert not watched.reload()
    (folder / "adapter.onnx").write_bytes(good)
    assert not watched.reload()
    assert (watched.last_error, watched.n_reloads, watched.n_failures) == (None, 0, 1)
    assert gives(watched, 0)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), KeyError("x"), OSError()])
def test_whatever_a_look_raises_the_adapter_serves_and_follows_on(
    watched: WatchedAdapter, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    place(folder, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "from_bytes", fail)
        assert not watched.reload()
    assert gives(watched, 0)
    assert watched.n_failures == 1
    assert watched.reload()
    assert gives(watched, 1)


# The thread


def wait_for(adapter: WatchedAdapter, *, version: str) -> None:
    """Wait for the thread; each look that it takes is told by an event."""
    deadline = threading.Event()
    timer = threading.Timer(PATIENCE_S, deadline.set)
    timer.start()
    while adapter.version != version:
        assert not deadline.wait(OFTEN_S), "the model was not followed"
    timer.cancel()


def test_a_thread_follows_through_errors_and_swaps(folder: Path) -> None:
    adapter = Adapter.watch(folder, interval_s=OFTEN_S)
    for seed in (1, 2, 3):
        broken(folder)
        shutil.rmtree(folder)
        place(folder, seed=seed)
        wait_for(adapter, version=linear_adapter(seed=seed).version)
    assert gives(adapter, 3)
    adapter.close()


def test_queries_never_meet_half_a_swap(folder: Path) -> None:
    adapter = Adapter.watch(folder, interval_s=NEVER_S)
    allowed = [linear_adapter(seed=seed).transform(QUERIES) for seed in (0, 1)]
    ended = threading.Event()

    def ask(_: int) -> int:
        n_asked = 0
        while not ended.is_set():
            found = adapter.transform(QUERIES)
            assert any(np.array_equal(found, one) for one in allowed)
            taken = adapter.current
            assert taken.mark.endswith(taken.version)
            n_asked += 1
        return n_asked

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        try:
            for turn in range(20):
                place(folder, seed=(turn + 1) % 2)
                assert adapter.reload()
        finally:
            ended.set()
        assert all(one.result(PATIENCE_S) for one in asking)
    adapter.close()


def test_the_thread_ends_with_the_adapter_or_by_close(folder: Path) -> None:
    def threads() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "trimtab-follow"]

    before = threads()
    closed = Adapter.watch(folder, interval_s=NEVER_S)
    (mine,) = set(threads()) - set(before)
    closed.close()
    mine.join(PATIENCE_S)
    assert not mine.is_alive()
    assert gives(closed, 0)
    assert not set(threads()) - set(before)  # a query does not wake what was closed

    dropped = Adapter.watch(folder, interval_s=NEVER_S)
    copied = copy.deepcopy(dropped)
    gives(copied, 0)
    mine, other = set(threads()) - set(before)
    del dropped, copied
    for thread in (mine, other):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_watching_registers_nothing_that_stays_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[object] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook), raising=False)
    Adapter.watch(folder, interval_s=NEVER_S)
    assert not hooks


def test_a_query_wakes_a_thread_that_has_died(folder: Path, monkeypatch: Any) -> None:
    adapter = Adapter.watch(folder, interval_s=NEVER_S)
    adapter.close()
    adapter._followed._is_closed = False  # as after a fork: no thread, and nobody closed it
    adapter._followed._prepare()
    with monkeypatch.context() as patch:
        patch.setattr(followed_module.threading.Thread, "start", _no_more_threads)
        assert gives(adapter, 0)  # the query is answered all the same
        assert adapter.n_failures == 1
    assert gives(adapter, 0)
    assert adapter._followed._thread is not None
    assert adapter._followed._thread.is_alive()
    adapter.close()


def _no_more_threads(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_follows_too(folder: Path) -> None:
    adapter = Adapter.watch(folder, interval_s=OFTEN_S)
    with adapter._followed._looking, adapter._followed._starting:  # held at the fork, for ever
        child = os.fork()
        if child == 0:
            status = 1
            signal.alarm(int(PATIENCE_S))  # a child that waits for these locks is to end, too
            try:
                place(folder, seed=1)
                gives(adapter, 0)
                wait_for(adapter, version=linear_adapter(seed=1).version)
                status = 0 if gives(adapter, 1) else 1
            finally:
                os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    adapter.close()


# Elsewhere


def pickled(one: WatchedAdapter) -> WatchedAdapter:
    again: WatchedAdapter = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own bytes
    return again


@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
def test_what_travels_follows_the_same_path(
    watched: WatchedAdapter, folder: Path, way: Callable[[WatchedAdapter], WatchedAdapter]
) -> None:
    again = way(watched)
    assert not again.reload()  # the same bytes
    place(folder, seed=1)
    assert again.reload()
    assert gives(again, 1)
    assert gives(watched, 0)
    again.close()


def test_where_the_path_leads_nowhere_it_serves_what_came_along(
    watched: WatchedAdapter, folder: Path
) -> None:
    sent = pickle.dumps(watched)
    shutil.rmtree(folder)
    again = pickle.loads(sent)  # noqa: S301 - our own bytes
    assert gives(again, 0)
    assert not again.reload()
    assert "no model at" in str(again.last_error)
    again.close()


def test_what_can_not_be_watched_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        Adapter.watch(tmp_path / "nothing")
    for interval_s in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="expected a positive number"):
            Adapter.watch(folder, interval_s=interval_s)


def test_a_subclass_watches_its_own_kind(folder: Path) -> None:
    class Mine(Adapter):
        pass

    adapter = Mine.watch(folder, interval_s=NEVER_S)
    assert type(adapter.current) is Mine
    place(folder, seed=1)
    assert adapter.reload()
    assert type(adapter.current) is Mine
    adapter.close()
