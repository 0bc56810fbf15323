"""FAISS files of every kind, read by our reader and held against faiss itself, in a child process.

``python -m tests.support.faiss_battery KIND...`` writes one JSON line a case, so that a crash
inside faiss ends the battery at a known case and not the test run.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from trimtab.errors import ConfigError
from trimtab.faiss_files import StoredVectors, open_index, trial

DIM, N, N_MORE = 8, 120, 10
TRAINING = np.random.default_rng(2).standard_normal((700, DIM)).astype(np.float32)
ROWS = np.random.default_rng(3).standard_normal((N + N_MORE, DIM)).astype(np.float32)
REMOVED = np.arange(5, N - 5, 9)
KEPT = np.delete(np.arange(N), REMOVED)
OWN = (np.random.default_rng(4).permutation(N + N_MORE) * 7 + 1000).astype(np.int64)
CLOSE = 1e-4  # float32 sums in another order
K = 5

KINDS = (
    *("Flat", "L2norm,Flat", "PCA4,Flat", "PCAR4,Flat", "PCAW4,Flat", "RR8,Flat", "Pad12,Flat"),
    *("ITQ8,LSH", "LSH", "SQ8", "SQ4", "SQfp16", "SQbf16", "PQ4x4np", "PQ4x4fs", "RaBitQ", "EDEN4"),
    *("RQ2x4", "FlatL2Panorama2", "HNSW8,Flat", "HNSW8,SQ8", "HNSW8,PQ4x4np", "NSG8,Flat"),
    *("HNSW8,FlatPanorama2", "L2norm,HNSW8", "IVF4,Flat", "IVF4,FlatDedup", "IVF4,SQ8"),
    *("IVF4,SQfp16", "IVF4,PQ4x4np", "IVF4,PQ4x4fs", "IVF4_HNSW8,Flat", "IVF4(IVF2,Flat),Flat"),
    *("IMI2x2,Flat", "IVF4,RaBitQ", "IVF4,RQ2x4", "IVF4,FlatPanorama2", "L2norm,IVF4,Flat"),
    *("PCA4,IVF4,Flat", "RR8,IVF4,SQ8", "OPQ4,IVF4,PQ4x4np", "IVF4,PQ4x4np,RFlat"),
    *("RR8,IVF4,PQ4x4np,RFlat", "IVF4,PQ4x4fs,RFlat", "PQ4x4np,RFlat", "IVF4,PQ4x4np,Refine(SQ8)"),
    *("IDMap,Flat", "IDMap2,Flat", "IDMap,L2norm,Flat", "L2norm,IDMap,Flat", "PCA4,IDMap2,Flat"),
    *("IDMap,HNSW8", "IDMap,IVF4,Flat", "PCA4,IDMap,IVF4,Flat", "IDMap,PCA4,IVF4,Flat"),
    *("IDMap,IVF4,PQ4x4np,RFlat", "IDMap,SQ8"),
)
"""Factory strings; every sort of wrapper in every order that FAISS can build."""

CONDITIONS = ("as it is", "own", "removed", "moved", "truncated", "damaged")
CUT_EVERYWHERE = ("Flat", "IVF4,Flat", "HNSW8,Flat", "IDMap,IVF4,Flat", "IVF4,PQ4x4fs")
DAMAGED = ("IDMap,Flat", "HNSW8,Flat", "NSG8,Flat", "IVF4,PQ4x4np,RFlat", "PCA4,IDMap,IVF4,Flat")
"""Kinds whose files are overwritten in places."""


class NotPossibleError(Exception):
    """FAISS itself can't do that with this kind of index."""


def copy(index: Any) -> Any:
    return faiss.deserialize_index(faiss.serialize_index(index))


def make(trained: Any, kind: str, condition: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """A live index, the numbers that it has, and the row of ROWS behind each."""
    index = copy(trained)
    with contextlib.suppress(RuntimeError):
        faiss.extract_index_ivf(index).nprobe = 4
    if condition != "own" and "IDMap" not in kind:
        index.add(ROWS[:N])
        if condition != "removed":
            return index, np.arange(N), np.arange(N)
        remove(index, REMOVED)
        index.add(ROWS[N:])
        return index, np.arange(index.ntotal), np.r_[KEPT, N : N + N_MORE]
    try:
        index.add_with_ids(ROWS[:N], OWN[:N])
    except RuntimeError:  # this kind has no numbers of its own
        index = faiss.IndexIDMap2(index)
        index.add_with_ids(ROWS[:N], OWN[:N])
    if condition != "removed":
        return index, OWN[:N], np.arange(N)
    remove(index, OWN[REMOVED])
    index.add_with_ids(ROWS[N:], OWN[N:])
    rows = np.r_[KEPT, N : N + N_MORE]
    return index, OWN[rows], rows


def remove(index: Any, numbers: np.ndarray) -> None:
    try:
        index.remove_ids(numbers)
    except RuntimeError as error:
        raise NotPossibleError from error


def write(index: Any, folder: Path, condition: str) -> Path:
    """The file, or files, of an index; its lists in a file of their own where it has lists."""
    first = folder / "first"
    first.mkdir()
    if condition in {"moved", "truncated"}:
        with contextlib.suppress(RuntimeError):
            put_lists_on_disk(index, first / "lists.ivfdata")
    faiss.write_index(index, str(first / "x.faiss"))
    if condition == "moved":
        first.rename(folder / "second")
        return folder / "second/x.faiss"
    return first / "x.faiss"


def put_lists_on_disk(index: Any, path: Path) -> None:
    ivf = faiss.extract_index_ivf(index)
    old = faiss.downcast_InvertedLists(ivf.invlists)
    if type(old) is not faiss.ArrayInvertedLists:
        return
    lists = faiss.OnDiskInvertedLists(ivf.nlist, ivf.code_size, str(path))
    sizes = [old.list_size(number) for number in range(ivf.nlist)]
    for number, size in enumerate(sizes):
        if size:
            lists.add_entries(number, size, old.get_ids(number), old.get_codes(number))
    ivf.replace_invlists(lists, True)
    lists.this.disown()


def check(path: Path, live: Any, numbers: np.ndarray, rows: np.ndarray) -> str:
    """Read a file and compare; gives what became of it."""
    try:
        file = open_index(path)
        stored = StoredVectors(file)
    except ConfigError as error:
        return f"refused: {error}"
    assert sorted(file.numbers.tolist()) == sorted(numbers.tolist()), "other numbers"
    row_of = dict(zip(numbers.tolist(), rows.tolist(), strict=True))
    at = np.array([row_of[number] for number in file.numbers.tolist()])
    wanted, found = (index.search(ROWS[at[:50]], K) for index in (live, file.owner))
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[0], wanted[0], atol=CLOSE)
    if not stored.can_give:
        return "searched"
    vectors = stored.read(np.arange(len(file)))
    truth = reconstruct(live, file.numbers.tolist())
    np.testing.assert_allclose(vectors, truth, atol=CLOSE)
    if not stored.is_lossy:
        np.testing.assert_allclose(vectors, ROWS[at], atol=CLOSE)
    return "read"


def reconstruct(live: Any, numbers: list[int]) -> np.ndarray:
    """The vectors of a live index, one by one; an IDMap, which can't, is asked in its parts."""
    with contextlib.suppress(RuntimeError):
        faiss.extract_index_ivf(live).set_direct_map_type(faiss.DirectMap.Hashtable)
    live = faiss.downcast_index(live)
    steps = []
    while isinstance(live, faiss.IndexPreTransform | faiss.IndexIDMap):
        if isinstance(live, faiss.IndexPreTransform):
            chain = [live.chain.at(step) for step in range(live.chain.size())]
            steps += [faiss.downcast_VectorTransform(step) for step in chain]
        else:
            own = faiss.vector_to_array(live.id_map).tolist()
            numbers = [own.index(number) for number in numbers]
        live = faiss.downcast_index(live.index)
    vectors = np.stack([live.reconstruct(number) for number in numbers])
    for step in reversed(steps):
        vectors = step.reverse_transform(vectors)
    return vectors


def run_case(trained: Any, kind: str, condition: str, folder: Path) -> str:
    live, numbers, rows = make(trained, kind, condition)
    path = write(live, folder, condition)
    if condition == "truncated":
        return truncate(path, kind, live)
    if condition == "damaged":
        damage(path, np.random.default_rng(7), 12)
        return "survived"
    return check(path, live, numbers, rows)


def truncate(path: Path, kind: str, live: Any) -> str:
    """Cut the file, and that of the lists, at several places.

    Each cut is refused, but where FAISS writes bytes at the end that it never reads.
    """
    outcome = ""
    for file in sorted(path.parent.iterdir()):
        whole = file.read_bytes()
        size = len(whole)
        cuts = [size // 2, size - 1]
        if kind in CUT_EVERYWHERE:
            cuts += [0, 4, 60, size // 10, size - 9, size - 7]
        for left in cuts:
            file.write_bytes(whole[:left])
            outcome = check(
                path, live, np.arange(N) if "IDMap" not in kind else OWN[:N], np.arange(N)
            )
            if left < size - 1 and not outcome.startswith("refused"):
                raise AssertionError(f"{file.name} was taken though cut from {size} to {left}")
        file.write_bytes(whole)
    return outcome


def damage(path: Path, rng: np.random.Generator, n_tries: int) -> None:
    """Overwrite eight bytes somewhere, and use whatever still opens."""
    whole = path.read_bytes()
    for _ in range(n_tries):
        place = int(rng.integers(0, len(whole) - 8))
        path.write_bytes(whole[:place] + rng.bytes(8) + whole[place + 8 :])
        with contextlib.suppress(ConfigError, RuntimeError):
            file = open_index(path)
            stored = StoredVectors(file)
            if stored.can_give:
                stored.read(np.arange(len(file)))
            file.owner.search(ROWS[:50], K)


def run_forked(path: Path, flags: int) -> "subprocess.CompletedProcess[str]":
    """The trial in a fork instead of a new interpreter: a hundredth of the time."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        trial.answer(str(path), flags)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return subprocess.CompletedProcess([], code, text, "")


def use_once() -> None:
    """Have loaded what faiss loads at its first use, or every fork would load it for itself."""
    index = faiss.index_factory(DIM, "HNSW8,Flat")
    index.add(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.faiss"
        faiss.write_index(index, str(path))
        trial.try_file(path, trial.choose_way(path))


def main(kinds: list[str]) -> None:
    faiss.omp_set_num_threads(1)
    trial._run = run_forked
    use_once()
    for kind in kinds:
        trained = faiss.index_factory(DIM, kind)
        trained.train(TRAINING)
        for condition in CONDITIONS:
            if condition != "damaged" or kind in DAMAGED:
                tell(kind, condition, "began")
                tell(kind, condition, report(trained, kind, condition))


def report(trained: Any, kind: str, condition: str) -> str:
    folder = Path(tempfile.mkdtemp())
    try:
        return run_case(trained, kind, condition, folder)
    except NotPossibleError:
        return "not possible in FAISS"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        shutil.rmtree(folder)


def tell(kind: str, condition: str, outcome: str) -> None:
    sys.stdout.write(json.dumps([kind, condition, outcome]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
