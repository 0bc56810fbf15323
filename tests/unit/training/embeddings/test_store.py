"""Embeddings folders: what is opened stays on disk, and what can't be searched is refused."""

import io
import json
import os
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from tests.support.sets import table, write_embeddings
from trimtab.model import adapter
from trimtab_training.embeddings.store import (
    LARGEST_SQUARE,
    Embeddings,
    EncoderInfo,
    VectorTable,
    check_unique,
    check_vectors,
    read_ids,
    said_use,
    write_ids,
)
from trimtab_training.errors import DataError


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_folder_opens_with_its_ids_and_vectors(tmp_path: Path, dtype: type) -> None:
    rows = np.array([[3.0, 4.0], [0.5, 0.0]], dtype=dtype)
    write_embeddings(tmp_path, documents=rows, queries=rows[:1], dim=2, query_prefix="query: ")
    embeddings = Embeddings.open(tmp_path)
    assert embeddings.documents.ids == ["d0", "d1"]
    assert embeddings.queries.ids == ["q0"]
    assert embeddings.documents.matrix.dtype == dtype
    assert embeddings.encoder.query_prefix == "query: "
    assert embeddings.folder == tmp_path
    taken = embeddings.documents.take([1, 0])
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, rows[::-1].astype(np.float32))


def test_matrices_stay_on_disk(tmp_path: Path) -> None:
    embeddings = Embeddings.open(write_embeddings(tmp_path))
    for matrix in (embeddings.documents.matrix, embeddings.queries.matrix):
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable


def test_opening_copies_one_block_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.embeddings.store.BLOCK_ROWS", 3)
    rows = np.ones((10, 4), dtype=np.float16)
    rows[9] = 0  # in the last, shorter block
    with pytest.raises(DataError, match=r"1 \('d9'\) documents are zero vectors"):
        Embeddings.open(write_embeddings(tmp_path, documents=rows))


@pytest.mark.parametrize(("length", "is_unit"), [(1.0, True), (1.004, True), (1.01, False)])
def test_unit_length_of_documents_is_measured(tmp_path: Path, length: float, is_unit: bool) -> None:
    rows = np.eye(4, dtype=np.float32)
    rows[3] *= length
    embeddings = Embeddings.open(write_embeddings(tmp_path, documents=rows, normalised=True))
    assert embeddings.unit_documents is is_unit


def test_half_precision_unit_vectors_count_as_unit_length(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((200, 384))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    write_embeddings(tmp_path, documents=rows, queries=rows, dim=384)
    assert Embeddings.open(tmp_path).unit_documents


def test_documents_may_have_another_width_than_queries(tmp_path: Path) -> None:
    write_embeddings(tmp_path, documents=np.eye(6, dtype=np.float32))
    embeddings = Embeddings.open(tmp_path)
    assert (embeddings.documents.dim, embeddings.queries.dim) == (6, 4)


# What is refused


def test_dataset_in_place_of_its_embeddings_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no embeddings folder; 'trimtab embed' makes one"):
        Embeddings.open(tmp_path)
    (tmp_path / "embeddings").mkdir()
    with pytest.raises(DataError, match=r"is no embeddings folder; did you mean .*/embeddings\?"):
        Embeddings.open(tmp_path)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no embeddings folder at .*none; .*trimtab embed"):
        Embeddings.open(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    ["documents.npy", "queries.npy", "document_ids.txt", "query_ids.txt", "encoder.json"],
)
def test_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (write_embeddings(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param(np.ones(4, dtype=np.float32), id="rank-1"),
        pytest.param(np.ones((4, 2, 2), dtype=np.float32), id="rank-3"),
        pytest.param(np.eye(4), id="float64"),
        pytest.param(np.eye(4, dtype=np.int8), id="int8"),
        pytest.param(np.eye(4, dtype=">f4"), id="big-endian"),
    ],
)
def test_matrix_of_another_rank_or_type_is_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"documents\.npy has shape .*expected a float16 or float"):
        Embeddings.open(write_embeddings(tmp_path, documents=matrix))


class _Trap:
    """Leaves a mark when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_pickled_matrix_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_embeddings(tmp_path)
    np.save(tmp_path / "documents.npy", np.array([[_Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"can't read .*documents\.npy"):
        Embeddings.open(tmp_path)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("content", [b"", b"not a matrix", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_file_that_is_no_matrix_is_refused(tmp_path: Path, content: bytes) -> None:
    (write_embeddings(tmp_path) / "queries.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"can't read .*queries\.npy.*expected a \.npy matrix"):
        Embeddings.open(tmp_path)


def test_matrix_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_embeddings(tmp_path) / "documents.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"can't read .*documents\.npy"):
        Embeddings.open(tmp_path)


def test_npz_archive_in_place_of_a_matrix_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    np.savez(archive, documents=np.eye(4, dtype=np.float32))
    (write_embeddings(tmp_path) / "documents.npy").write_bytes(archive.getvalue())
    with pytest.raises(DataError, match=r"documents\.npy"):
        Embeddings.open(tmp_path)


def test_ids_and_rows_of_different_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"documents\.npy has 4 rows, document_ids\.txt has 2 ids"):
        Embeddings.open(write_embeddings(tmp_path, document_ids=["a", "b"]))


def test_empty_matrix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"documents\.npy is empty; expected at least one"):
        Embeddings.open(write_embeddings(tmp_path, documents=np.empty((0, 4), dtype=np.float32)))


def test_repeated_ids_are_refused_with_their_number_and_examples(tmp_path: Path) -> None:
    ids = ["a", "b", "a", "b", "b", "c", "c", "e", "e"]
    write_embeddings(tmp_path, documents=np.eye(9, 4, dtype=np.float32), document_ids=ids)
    with pytest.raises(
        DataError, match=r"document_ids\.txt: 4 \(such as 'a', 'b', 'c'\) ids stand more than once"
    ):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize("content", ["a\n\nc\nd\n", "a\n\r\nc\nd\n"])
def test_empty_id_line_is_refused_by_its_number(tmp_path: Path, content: str) -> None:
    (write_embeddings(tmp_path) / "document_ids.txt").write_bytes(content.encode())
    with pytest.raises(DataError, match=r"document_ids\.txt: line 2 is empty"):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vector_that_is_not_finite_is_refused_with_examples(tmp_path: Path, value: float) -> None:
    rows = np.ones((5, 4), dtype=np.float32)
    rows[[1, 3], 2] = value
    with pytest.raises(DataError, match=r"2 \('d1', 'd3'\) documents have NaN or infinity"):
        Embeddings.open(write_embeddings(tmp_path, documents=rows))


@pytest.mark.parametrize("length", [1e9, 1e20, 1e38])
def test_vector_that_is_too_long_for_float32_is_refused(tmp_path: Path, length: float) -> None:
    rows = np.ones((5, 4), dtype=np.float32)
    rows[[1, 3], 2] = length
    with pytest.raises(DataError, match=r"2 \('q1', 'q3'\) queries are longer than 1e\+09"):
        Embeddings.open(write_embeddings(tmp_path, queries=rows))


def test_vectors_are_as_long_at_most_as_the_runtime_takes_them() -> None:
    assert LARGEST_SQUARE == adapter.LARGEST_SQUARE


def test_zero_vectors_are_refused_with_their_number_and_examples(tmp_path: Path) -> None:
    rows = np.zeros((5, 4), dtype=np.float32)
    rows[4] = 1e-30  # small is not zero, though its square is, in float32
    with pytest.raises(DataError, match=r"4 \(such as 'q0', 'q1', 'q2'\) queries are zero vectors"):
        Embeddings.open(write_embeddings(tmp_path, queries=rows))


def test_queries_of_another_width_than_the_encoder_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"queries have 4 values, encoder\.json says 5"):
        Embeddings.open(write_embeddings(tmp_path, dim=5))


INFO = {"name": "toy", "fingerprint": "sha256:toy", "dim": 4, "normalised": True}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{", id="not-json"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"4", id="a-number"),
        pytest.param(b"\xff", id="not-utf8"),
        *(
            pytest.param(json.dumps({k: v for k, v in INFO.items() if k != key}).encode(), id=key)
            for key in INFO
        ),
        *(
            pytest.param(json.dumps(INFO | {"dim": dim}).encode(), id=f"dim-{dim}")
            for dim in (0, -4, 4.0, "4", True, None)
        ),
    ],
)
def test_malformed_encoder_description_is_refused(tmp_path: Path, content: bytes) -> None:
    (write_embeddings(tmp_path) / "encoder.json").write_bytes(content)
    with pytest.raises(DataError, match=r"encoder\.json"):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize("missing", [["fingerprint"], ["fingerprint", "dim"], list(INFO)])
def test_what_an_encoder_description_lacks_is_named(tmp_path: Path, missing: list[str]) -> None:
    record = {key: value for key, value in INFO.items() if key not in missing}
    (write_embeddings(tmp_path) / "encoder.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(DataError) as caught:
        Embeddings.open(tmp_path)
    assert f"encoder.json says no {' and no '.join(missing)}; expected name" in str(caught.value)
    assert "any text that changes whenever the encoder's output would" in str(caught.value)


def test_an_encoder_may_be_without_a_fingerprint_that_is_known(tmp_path: Path) -> None:
    assert Embeddings.open(write_embeddings(tmp_path, fingerprint="")).encoder.fingerprint == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 5),
        ("fingerprint", None),
        ("dim", 0),
        ("dim", 4.0),
        ("normalised", "no"),
        ("max_tokens", "many"),
        ("document_prefix", None),
    ],
)
def test_encoder_description_of_wrong_types_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside tests
    with pytest.raises(DataError, match=rf"encoder\.json: '{key}' is .*, expected "):
        Embeddings.open(write_embeddings(tmp_path, **{key: value}))


def test_encoder_description_may_say_more(tmp_path: Path) -> None:
    info = EncoderInfo("toy", "sha256:toy", 4, True, max_tokens=64, document_prefix="passage: ")
    info.save(tmp_path / "encoder.json", documents={"lossy": True}, added_later=1)
    assert EncoderInfo.load(tmp_path / "encoder.json") == info
    record = json.loads((tmp_path / "encoder.json").read_text("utf-8"))
    assert record["documents"] == {"lossy": True}


# Labels


def test_labels_that_all_have_vectors_are_taken(tmp_path: Path) -> None:
    embeddings = Embeddings.open(write_embeddings(tmp_path))
    embeddings.require({"train": {"q0": {"d0": 1.0, "d3": 0.0}}, "test": {"q2": {"d1": 1.0}}})


def test_labels_without_vectors_are_refused_with_their_number_and_examples(tmp_path: Path) -> None:
    embeddings = Embeddings.open(write_embeddings(tmp_path))
    train = {"q0": {f"x{n}": 1.0 for n in range(5)} | {"d0": 1.0}}
    with pytest.raises(
        DataError, match=r"5 \(such as 'x0', 'x1', 'x2'\) of 6 labelled documents have no vector"
    ):
        embeddings.require({"train": train})
    with pytest.raises(DataError, match=r"1 \('q7'\) of 2 labelled queries have no vector"):
        embeddings.require({"train": {"q0": {"d0": 1.0}}, "test": {"q7": {"d0": 1.0}}})


def test_labels_whose_columns_are_swapped_are_refused_as_such(tmp_path: Path) -> None:
    embeddings = Embeddings.open(write_embeddings(tmp_path))
    swapped = {f"d{n}": {f"q{n}": 1.0} for n in range(3)}
    with pytest.raises(DataError, match="columns of queries and documents are swapped: 6 ids"):
        embeddings.require({"train": swapped})


# Tables and ids


def test_rows_are_taken_by_number_and_by_id() -> None:
    rows = table(np.arange(12, dtype=np.float16).reshape(4, 3))
    np.testing.assert_array_equal(rows.take([2, 0, 2])[:, 0], [6, 0, 6])
    np.testing.assert_array_equal(rows.take_ids(["d3", "d1"])[:, 0], [9, 3])
    assert rows.take([]).shape == (0, 3)
    assert (len(rows), rows.dim, rows.rows["d2"]) == (4, 3, 2)


def test_taken_rows_are_the_callers_own() -> None:
    matrix = np.ones((2, 3), dtype=np.float32)
    table(matrix).take([0])[:] = 5
    assert (matrix == 1).all()


@pytest.mark.parametrize("n_rows", [1, 3, 4, 10, 11])
def test_blocks_cover_the_matrix_in_order(n_rows: int) -> None:
    matrix = np.arange(20, dtype=np.float16).reshape(10, 2)
    blocks = list(table(matrix).blocks(n_rows))
    assert [start for start, _ in blocks] == list(range(0, 10, n_rows))
    assert all(block.dtype == np.float32 for _, block in blocks)
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), matrix)


def test_content_hash_sees_ids_and_vectors(tmp_path: Path) -> None:
    hashes = [
        Embeddings.open(write_embeddings(tmp_path / name, **options)).content_hash()
        for name, options in {
            "one": {},
            "same": {},
            "documents": {"documents": np.eye(4, dtype=np.float32)[::-1].copy()},
            "ids": {"document_ids": ["d0", "d1", "d3", "d2"]},
            "queries": {"queries": np.eye(3, 4, k=1, dtype=np.float32)},
        }.items()
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_ids_may_come_with_crlf_and_without_a_final_newline(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes("a b\r\ncafé".encode())
    assert read_ids(tmp_path / "ids.txt") == ["a b", "café"]


def test_ids_may_come_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfa\nb\n")
    assert read_ids(tmp_path / "ids.txt") == ["a", "b"]


def test_ids_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"can't read ids from .*ids\.txt"):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize("broken", ["", "a\nb", "a\rb"])
def test_ids_that_no_line_can_hold_are_not_written(tmp_path: Path, broken: str) -> None:
    with pytest.raises(DataError, match=r"1 \(.*\) ids are empty or hold a line break"):
        write_ids(tmp_path / "ids.txt", ["fine", broken])
    assert not (tmp_path / "ids.txt").exists()


def test_unique_ids_pass() -> None:
    check_unique(["a", "b"], "here")
    check_unique([], "here")


def test_vectors_are_named_by_their_ids_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab_training.embeddings.store.BLOCK_ROWS", 2)
    rows = VectorTable([*"abcde"], np.ones((5, 2), dtype=np.float32), "documents")
    rows.matrix[[2, 4], 0] = np.nan
    with pytest.raises(DataError, match=r"2 \('c', 'e'\) documents have NaN"):
        check_vectors(rows.matrix, rows.ids, rows.what)


def test_use_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path)
    record = json.loads((folder / "encoder.json").read_text("utf-8"))
    for use, said in ((None, "auto"), ("relevance", "auto"), ("migration", "migration")):
        (folder / "encoder.json").write_text(json.dumps({**record, "use": use}), "utf-8")
        assert said_use(folder) == said
    (folder / "encoder.json").write_text(json.dumps({**record, "use": "migratoin"}), "utf-8")
    with pytest.raises(DataError, match=r"encoder.json says use 'migratoin'; expected migration"):
        said_use(folder)


def test_byte_order_mark_before_an_encoder_description_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "encoder.json"
    EncoderInfo("toy", "1", 4, normalised=True).save(path, use="migration")
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert EncoderInfo.load(path).name == "toy"
    assert said_use(tmp_path) == "migration"
