"""Vectors out of a FAISS file: exactly what was added, or said to be lossy."""

import gc
import gzip
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from trimtab.faiss_files import open_index
from trimtab_training.embeddings import faiss_source
from trimtab_training.embeddings.faiss_source import FaissSource
from trimtab_training.errors import DataError

N, DIM = 600, 16
ROWS = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
NUMBERS = np.arange(N) * 7 + 5


def index_file(path: Path, kind: str, rows: np.ndarray = ROWS, numbers: Any = None) -> Path:
    index = faiss.index_factory(rows.shape[1], kind)
    if len(rows):
        index.train(rows)
        index.add(rows) if numbers is None else index.add_with_ids(rows, np.asarray(numbers))
    faiss.write_index(index, str(path))
    return path


def read_back(source: FaissSource) -> np.ndarray:
    matrix = np.full((len(source.ids), source.dim), np.nan, dtype=np.float32)
    source.copy_to(matrix)
    return matrix


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Flat", "IndexFlat"),
        ("IVF4,Flat", "IndexIVFFlat"),
        ("HNSW8,Flat", "IndexHNSWFlat"),
        ("NSG8,Flat", "IndexNSGFlat"),
    ],
)
def test_exact_index_gives_back_what_was_added(tmp_path: Path, kind: str, name: str) -> None:
    source = FaissSource.open(f"faiss:{index_file(tmp_path / 'x.faiss', kind)}")
    np.testing.assert_array_equal(read_back(source), ROWS)
    assert source.ids == [str(row) for row in range(N)]
    assert (source.dim, source.lossy) == (DIM, False)
    assert source.kind.startswith(name)


def test_vectors_come_back_in_more_than_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_source, "BLOCK_ROWS", 64)
    source = FaissSource.open(f"faiss:{index_file(tmp_path / 'x.faiss', 'IVF4,Flat')}")
    np.testing.assert_array_equal(read_back(source), ROWS)


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,Flat", "IDMap,IVF4,Flat"])
def test_id_map_gives_its_numbers_as_ids(tmp_path: Path, kind: str) -> None:
    path = index_file(tmp_path / "x.faiss", kind, numbers=NUMBERS)
    source = FaissSource.open(f"faiss:{path}")
    assert source.ids == [str(number) for number in NUMBERS]
    assert not source.lossy
    np.testing.assert_array_equal(read_back(source), ROWS)


def test_id_map_may_hold_negative_and_large_numbers(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "IDMap,Flat", ROWS[:2], [-5, 2**60])
    assert FaissSource.open(f"faiss:{path}").ids == ["-5", str(2**60)]


def test_ivf_with_numbers_of_its_own_gives_them_in_their_order(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(N)
    path = index_file(tmp_path / "x.faiss", "IVF4,Flat", numbers=order)
    source = FaissSource.open(f"faiss:{path}")
    np.testing.assert_array_equal(read_back(source)[order], ROWS)


@pytest.mark.parametrize("kind", ["IVF4,Flat", "L2norm,IVF4,Flat", "PCA16,IVF4,Flat"])
def test_ivf_gives_the_callers_own_numbers_each_with_its_vector(tmp_path: Path, kind: str) -> None:
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    shuffled = np.random.default_rng(1).permutation(NUMBERS)
    source = FaissSource.open(
        f"faiss:{index_file(tmp_path / 'x.faiss', kind, rows, numbers=shuffled)}"
    )
    assert source.ids == [str(number) for number in NUMBERS]
    np.testing.assert_allclose(read_back(source), rows[np.argsort(shuffled)], atol=1e-5)


def test_numbers_that_faiss_gave_out_twice_are_refused(tmp_path: Path) -> None:
    index = faiss.index_factory(DIM, "IVF4,Flat")
    index.train(ROWS)
    index.add(ROWS[:500])
    index.remove_ids(np.array([100, 101]))
    index.add(ROWS[500:])
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(DataError, match=r"2 numbers stand twice, such as 498 .*build it anew"):
        FaissSource.open(f"faiss:{tmp_path / 'x.faiss'}")


def test_numbers_of_removed_vectors_are_nobodys(tmp_path: Path) -> None:
    index = faiss.index_factory(DIM, "IVF4,Flat")
    index.train(ROWS)
    index.add(ROWS)
    index.remove_ids(np.array([100, 101]))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    source = FaissSource.open(f"faiss:{tmp_path / 'x.faiss'}")
    assert source.ids == [str(row) for row in range(N) if row not in {100, 101}]
    np.testing.assert_array_equal(read_back(source), np.delete(ROWS, [100, 101], axis=0))


def test_whitened_vectors_are_not_given_back(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "PCAW8,Flat")
    with pytest.raises(DataError, match="has a transform that can't be undone"):
        FaissSource.open(f"faiss:{path}")


@pytest.mark.parametrize("kind", ["SQ8", "SQfp16", "PQ4x4np", "IVF4,SQ8", "HNSW8,SQ8"])
def test_compressed_index_is_reported_as_lossy(tmp_path: Path, kind: str) -> None:
    source = FaissSource.open(f"faiss:{index_file(tmp_path / 'x.faiss', kind)}")
    assert source.lossy
    found = read_back(source)
    assert np.isfinite(found).all()
    assert not np.array_equal(found, ROWS)


def test_index_lives_as_long_as_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Any]] = []

    def open_and_watch(*given: Any) -> Any:
        file = open_index(*given)
        opened.append(weakref.ref(file.owner))
        return file

    monkeypatch.setattr(faiss_source, "open_index", open_and_watch)
    source = FaissSource.open(f"faiss:{index_file(tmp_path / 'x.faiss', 'Flat')}")
    gc.collect()
    assert opened[0]() is not None, "faiss frees the vectors with the index that was read"
    assert source.dim == DIM


def test_index_that_faiss_cannot_read_back_is_refused_not_fatal(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "IVF4,PQ4x4fs")
    code = (
        "import sys, numpy; from trimtab_training.errors import DataError\n"
        "from trimtab_training.embeddings.faiss_source import FaissSource\n"
        "try:\n"
        "    source = FaissSource.open(sys.argv[1])\n"
        "    source.copy_to(numpy.empty((len(source.ids), source.dim), dtype='float32'))\n"
        "except DataError: pass\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, f"faiss:{path}"], check=False, capture_output=True
    )
    assert child.returncode == 0, f"ended by signal {-child.returncode}"


# Ids from a file


def test_line_of_the_id_file_names_the_row(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:3])
    (tmp_path / "x.ids").write_text("c\na\nb\n", "utf-8")
    source = FaissSource.open(f"faiss:{path}?ids={tmp_path / 'x.ids'}")
    assert source.ids == ["c", "a", "b"]
    np.testing.assert_array_equal(read_back(source), ROWS[:3])


def test_id_file_goes_before_the_numbers_of_an_id_map(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "IDMap,Flat", ROWS[:2], [9, 4])
    (tmp_path / "x.ids").write_text("nine\nfour\n", "utf-8")
    source = FaissSource.open(f"faiss:{path}?ids={tmp_path / 'x.ids'}")
    assert source.ids == ["nine", "four"]


def test_id_file_of_another_length_is_refused(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:3])
    (tmp_path / "x.ids").write_text("a\nb\n", "utf-8")
    with pytest.raises(DataError, match=r"x\.faiss holds 3 vectors, .*x\.ids has 2 ids"):
        FaissSource.open(f"faiss:{path}?ids={tmp_path / 'x.ids'}")


def numbered(path: Path, numbers: Any, names: list[str]) -> Path:
    lines = (f"{number}\t{name}\n" for number, name in zip(numbers, names, strict=True))
    path.write_text("".join(lines), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["IVF1,Flat", "IDMap,Flat"])
def test_lines_of_number_and_id_name_the_vector_of_that_number(tmp_path: Path, kind: str) -> None:
    path = index_file(tmp_path / "x.faiss", kind, ROWS[:3], [30, 10, 20])
    ids = numbered(tmp_path / "x.ids", [10, 20, 30], ["ten", "twenty", "thirty"])
    source = FaissSource.open(f"faiss:{path}?ids={ids}")
    vectors = dict(zip(source.ids, read_back(source), strict=True))
    for row, name in enumerate(["thirty", "ten", "twenty"]):
        np.testing.assert_array_equal(vectors[name], ROWS[row])


def test_rows_without_an_order_are_not_named_by_it(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "IVF1,Flat", ROWS[:3], [30, 10, 20])
    (tmp_path / "x.ids").write_text("c\na\nb\n", "utf-8")
    with pytest.raises(DataError, match=r"numbers of its own \(10, .*NUMBER<TAB>ID, or leave out"):
        FaissSource.open(f"faiss:{path}?ids={tmp_path / 'x.ids'}")


@pytest.mark.parametrize(
    ("numbers", "names", "message"),
    [
        ([10, 20, 31], ["a", "b", "c"], "line 3 names number 31, which the index has not"),
        ([10, 20, 20], ["a", "b", "c"], "a number stands on two lines"),
        ([10, 20, "x"], ["a", "b", "c"], "2 of 3 lines are NUMBER<TAB>ID"),
        ([10, 20, 30], ["a", "b", "a"], "ids stand more than once"),
    ],
)
def test_lines_that_do_not_name_every_vector_once_are_refused(
    tmp_path: Path, numbers: list[Any], names: list[str], message: str
) -> None:
    path = index_file(tmp_path / "x.faiss", "IDMap,Flat", ROWS[:3], [30, 10, 20])
    ids = numbered(tmp_path / "x.ids", numbers, names)
    with pytest.raises(DataError, match=message):
        FaissSource.open(f"faiss:{path}?ids={ids}")


def test_missing_id_file_is_refused(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:3])
    with pytest.raises(DataError, match=r"can't read ids from .*none"):
        FaissSource.open(f"faiss:{path}?ids={tmp_path / 'none'}")


@pytest.mark.parametrize("option", ["id=x", "ids=x&vector=y"])
def test_unknown_option_is_refused(tmp_path: Path, option: str) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:3])
    with pytest.raises(DataError, match=r"unknown option '(id|vector)'; expected faiss:PATH\?ids"):
        FaissSource.open(f"faiss:{path}?{option}")


def test_option_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="option 'ids' stands 2 times"):
        FaissSource.open("faiss:x.faiss?ids=a&ids=b")


@pytest.mark.parametrize("option", ["ids=", "ids", "idz"])
def test_option_without_a_value_is_refused(tmp_path: Path, option: str) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:3])
    with pytest.raises(DataError, match="ids"):
        FaissSource.open(f"faiss:{path}?{option}")


@pytest.mark.parametrize("name", ["a+b.ids", "100%25.ids"])
def test_id_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat", ROWS[:1])
    (tmp_path / name).write_text("one\n", "utf-8")
    assert FaissSource.open(f"faiss:{path}?ids={tmp_path / name}").ids == ["one"]


# What is no index


@pytest.mark.parametrize("content", [b"", b"hello, I am no index at all"])
def test_file_that_is_no_index_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.faiss").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.faiss is not a FAISS index: ") as caught:
        FaissSource.open(f"faiss:{tmp_path / 'x.faiss'}")
    assert "\n" not in str(caught.value)


def test_index_cut_short_is_refused(tmp_path: Path) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"x\.faiss is not a FAISS index: it ends too early; copy"):
        FaissSource.open(f"faiss:{path}")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (gzip.compress, "it is gzipped; unpack it (gunzip)"),
        (lambda _index: b"\x93NUMPY\x01\x00", "it is a NumPy array (.npy); write an index of it"),
        (lambda _index: b"hello world", "it begins with b'hell', which is no type of index"),
    ],
)
def test_file_of_another_form_is_called_what_it_is(
    tmp_path: Path, form: Callable[[bytes], bytes], said: str
) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat")
    path.write_bytes(form(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        FaissSource.open(f"faiss:{path}")
    assert f"x.faiss is not a FAISS index: {said}" in str(caught.value)
    assert ".cpp" not in str(caught.value)


def test_binary_index_is_refused(tmp_path: Path) -> None:
    faiss.write_index_binary(faiss.IndexBinaryFlat(16), str(tmp_path / "x.faiss"))
    with pytest.raises(DataError, match=r"x\.faiss is a binary index"):
        FaissSource.open(f"faiss:{tmp_path / 'x.faiss'}")


@pytest.mark.parametrize("name", ["none.faiss", "."])
def test_missing_index_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no FAISS index at "):
        FaissSource.open(f"faiss:{tmp_path / name}")


@pytest.mark.parametrize("kind", ["Flat", "IDMap,Flat", "HNSW8,Flat"])
def test_empty_index_is_refused(tmp_path: Path, kind: str) -> None:
    path = index_file(tmp_path / "x.faiss", kind, ROWS[:0])
    with pytest.raises(DataError, match="is empty; expected at least one vector"):
        FaissSource.open(f"faiss:{path}")


def test_faiss_that_is_not_installed_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = index_file(tmp_path / "x.faiss", "Flat")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DataError, match="pip install faiss-cpu"):
        FaissSource.open(f"faiss:{path}")
