"""Embedding a dataset: every text once, whatever happens on the way, and nothing half done."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.faults import fail_to_rename
from tests.support.sets import (
    CountingEncoder,
    vector_of,
    write_dataset,
    write_jsonl,
)
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed import embed_dataset, join_vectors
from trimtab_training.embeddings.journal import Journal
from trimtab_training.embeddings.query_vectors import NamedQueries
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.embeddings.stored_documents import Stored
from trimtab_training.errors import DataError, EncoderError
from trimtab_training.lock import locked

DOCUMENTS = {f"d{n}": f"document {n}" for n in range(7)}
QUERIES = {f"q{n}": f"query {n}" for n in range(5)}


def dataset_of(folder: Path, documents: Any = DOCUMENTS, queries: Any = QUERIES) -> Dataset:
    return Dataset.load(write_dataset(folder / "set", documents=documents, queries=queries))


def embed(
    folder: Path, counting: CountingEncoder, *, dataset: Dataset | None = None, **options: Any
) -> Embeddings:
    dataset = dataset or dataset_of(folder)
    embed_dataset(dataset, counting.encoder(**options), folder / "emb")
    return Embeddings.open(folder / "emb")


def journals(folder: Path) -> list[Path]:
    return sorted((folder / ".emb.partial").glob("*.journal"))


def test_every_row_holds_the_vector_of_its_text(tmp_path: Path) -> None:
    embeddings = embed(tmp_path, CountingEncoder())
    assert embeddings.documents.ids == list(DOCUMENTS)
    assert embeddings.queries.ids == list(QUERIES)
    for table, texts in ((embeddings.documents, DOCUMENTS), (embeddings.queries, QUERIES)):
        np.testing.assert_array_equal(table.matrix, [vector_of(one) for one in texts.values()])


def test_rows_are_right_whatever_the_order_of_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = CountingEncoder().encoder()
    monkeypatch.setattr(encoder, "batches", lambda texts: iter([[6, 1], [0], [5, 2, 4], [3]]))
    dataset = dataset_of(tmp_path, queries={f"q{n}": f"query {n}" for n in range(7)})
    embed_dataset(dataset, encoder, tmp_path / "emb")
    documents = Embeddings.open(tmp_path / "emb").documents
    np.testing.assert_array_equal(documents.matrix, [vector_of(x) for x in DOCUMENTS.values()])


def test_second_run_is_refused(tmp_path: Path) -> None:
    counting = CountingEncoder()
    with (
        locked(tmp_path / "emb"),
        pytest.raises(DataError, match=r"another run writes to .*emb; wait for it"),
    ):
        embed(tmp_path, counting)
    embed(tmp_path, counting)


def test_each_role_gets_its_prefix(tmp_path: Path) -> None:
    counting = CountingEncoder()
    embeddings = embed(tmp_path, counting, query_prefix="query: ", document_prefix="passage: ")
    wanted = [f"passage: {x}" for x in DOCUMENTS.values()]
    assert counting.asked == wanted + [f"query: {x}" for x in QUERIES.values()]
    assert embeddings.encoder.query_prefix == "query: "
    assert embeddings.encoder.document_prefix == "passage: "


def test_encoder_is_described(tmp_path: Path) -> None:
    encoder = CountingEncoder().encoder()
    info = embed_dataset(dataset_of(tmp_path), encoder, tmp_path / "emb")
    assert info == Embeddings.open(tmp_path / "emb").encoder
    assert (info.name, info.fingerprint, info.dim) == ("toy", encoder.fingerprint, 4)
    assert info.normalised


def test_vectors_of_other_length_are_not_called_normalised(tmp_path: Path) -> None:
    twice = CountingEncoder(answer=lambda texts: [2 * vector_of(x) for x in texts])
    assert not embed(tmp_path, twice).encoder.normalised


def test_equal_texts_are_embedded_once(tmp_path: Path) -> None:
    counting = CountingEncoder()
    documents = {"a": "same", "b": "other", "c": "same", "d": "same"}
    dataset = dataset_of(tmp_path, documents, {"q": "same"})
    embeddings = embed(tmp_path, counting, dataset=dataset)
    assert counting.asked == ["same", "other", "same"]  # once as document, once as query
    same = vector_of("same")
    np.testing.assert_array_equal(
        embeddings.documents.matrix, [same, vector_of("other"), same, same]
    )


def test_progress_counts_to_the_number_of_different_texts(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    encoder = CountingEncoder().encoder()
    dataset = dataset_of(tmp_path, {"a": "x", "b": "x", "c": "y", "d": "z"}, QUERIES)
    embed_dataset(dataset, encoder, tmp_path / "emb", progress=lambda *now: seen.append(now))
    assert seen == [
        *[("documents", done, 3) for done in (0, 2, 3)],
        *[("queries", done, 5) for done in (0, 2, 4, 5)],
    ]


# Interruptions


@pytest.mark.parametrize("fails_after", range(7))  # 4 batches of documents, 3 of queries
def test_interrupted_run_goes_on_and_asks_for_no_text_twice(
    tmp_path: Path, fails_after: int
) -> None:
    counting = CountingEncoder(fails_after=fails_after)
    with pytest.raises(ConnectionError):
        embed(tmp_path, counting)
    assert len(counting.asked) >= fails_after
    counting.fails_after = None
    embeddings = embed(tmp_path, counting)
    assert sorted(counting.asked) == sorted([*DOCUMENTS.values(), *QUERIES.values()])
    np.testing.assert_array_equal(
        embeddings.documents.matrix, [vector_of(x) for x in DOCUMENTS.values()]
    )
    np.testing.assert_array_equal(
        embeddings.queries.matrix, [vector_of(x) for x in QUERIES.values()]
    )


def test_corpus_changed_between_runs_costs_only_the_new_texts(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        embed(tmp_path, CountingEncoder(fails_after=4))  # all documents, no query
    changed = {"new": "brand new", **DOCUMENTS, "d0": "rewritten"}
    del changed["d5"]
    counting = CountingEncoder()
    embeddings = embed(tmp_path, counting, dataset=dataset_of(tmp_path, changed))
    assert sorted(counting.asked) == ["brand new", *sorted(QUERIES.values()), "rewritten"]
    np.testing.assert_array_equal(
        embeddings.documents.matrix, [vector_of(x) for x in changed.values()]
    )


@pytest.mark.parametrize("n_bytes", [1, 31, 32, 40, 47])
def test_record_cut_short_is_dropped_and_asked_for_again(tmp_path: Path, n_bytes: int) -> None:
    with pytest.raises(ConnectionError):
        embed(tmp_path, CountingEncoder(fails_after=4))
    (journal,) = journals(tmp_path)
    with journal.open("r+b") as file:  # a record is 32 bytes of digest and 4 numbers
        file.truncate(journal.stat().st_size - n_bytes)
    counting = CountingEncoder()
    embeddings = embed(tmp_path, counting)
    assert counting.asked == ["document 6", *QUERIES.values()]
    np.testing.assert_array_equal(
        embeddings.documents.matrix, [vector_of(x) for x in DOCUMENTS.values()]
    )


@pytest.mark.parametrize(
    "options", [{"fingerprint": "sha256:another"}, {"document_prefix": "passage: "}]
)
def test_what_another_encoder_gave_is_not_used(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConnectionError):
        embed(tmp_path, CountingEncoder(fails_after=4))
    counting = CountingEncoder()
    embed(tmp_path, counting, **options)
    assert len(counting.asked) == len(DOCUMENTS) + len(QUERIES)


def test_run_that_fails_at_its_last_step_goes_on_and_asks_for_no_text_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' files are carried over by then; the last step is two renames."""
    old = embed(tmp_path, CountingEncoder(dim=5))
    (old.folder / "mine").mkdir()
    (old.folder / "mine" / "notes.md").write_text("mine")
    counting = CountingEncoder()
    with monkeypatch.context() as patched:
        fail_to_rename(patched, old.folder)
        with pytest.raises(OSError, match="busy"):
            embed(tmp_path, counting)
    assert (old.folder / "mine" / "notes.md").read_text() == "mine"
    assert Embeddings.open(old.folder).documents.dim == 5
    shutil.rmtree(old.folder / "mine")
    embeddings = embed(tmp_path, counting)
    assert sorted(counting.asked) == sorted([*DOCUMENTS.values(), *QUERIES.values()])
    np.testing.assert_array_equal(
        embeddings.documents.matrix, [vector_of(x) for x in DOCUMENTS.values()]
    )
    assert not (old.folder / "mine").exists()  # removed in between, it does not come back
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb", "set"]


def test_old_folder_stays_whole_until_the_new_one_is_done(tmp_path: Path) -> None:
    old = embed(tmp_path, CountingEncoder()).content_hash()
    changed = dataset_of(tmp_path, {"other": "another corpus"})
    with pytest.raises(ConnectionError):
        embed(tmp_path, CountingEncoder(fails_after=2), dataset=changed)
    assert Embeddings.open(tmp_path / "emb").content_hash() == old
    embed(tmp_path, CountingEncoder(), dataset=changed)
    assert Embeddings.open(tmp_path / "emb").documents.ids == ["other"]


def test_finished_run_leaves_nothing_but_the_folder(tmp_path: Path) -> None:
    embed(tmp_path, CountingEncoder())
    embed(tmp_path, CountingEncoder())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb", "set"]
    assert sorted(path.name for path in (tmp_path / "emb").iterdir()) == [
        "document_ids.txt",
        "documents.npy",
        "encoder.json",
        "queries.npy",
        "query_ids.txt",
    ]


# Where it may stand


def listing(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("set", r"-o .*set would replace .*set, which is read; name .*set.embeddings"),
        ("link", r"-o .*link would replace .*set, which is read"),
        (".", r"would replace .*set, which is read"),
        (
            "set/qrels",
            r"qrels holds test\.tsv, train\.tsv, which would be lost; move that, or name",
        ),
        ("mine", r"mine holds a, b, c and 1 more, which would be lost"),
        ("set/corpus.jsonl", r"corpus\.jsonl is a file; -o wants a folder"),
    ],
)
def test_place_where_something_would_be_lost_is_refused_before_any_work(
    tmp_path: Path, place: str, message: str
) -> None:
    data = dataset_of(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in "abcd":
        (tmp_path / "mine" / name).write_text("precious")
    (tmp_path / "link").symlink_to("set")
    source, counting = stored_index(tmp_path), CountingEncoder()
    queries = own(tmp_path, np.eye(5, 4)[:4], [f"q{row}" for row in range(4)])
    before = listing(tmp_path)
    with pytest.raises(DataError, match=message):
        embed_dataset(data, counting.encoder(), tmp_path / place)
    with pytest.raises(DataError, match=message):
        join_vectors(data, queries, tmp_path / place, documents=source)
    assert listing(tmp_path) == before
    assert counting.asked == []


def test_what_else_stands_in_an_embeddings_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "emb").mkdir()
    old = embed(tmp_path, CountingEncoder()).folder
    (old / "notes.md").write_text("mine")
    (old / "sub").mkdir()
    (old / "sub" / "gone").symlink_to("nowhere")
    embed(tmp_path, CountingEncoder(dim=5))
    assert Embeddings.open(old).documents.dim == 5
    assert (old / "notes.md").read_text() == "mine"
    assert (old / "sub" / "gone").readlink() == Path("nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb", "set"]


def test_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "emb").symlink_to("real")
    for dim in (4, 5):
        assert embed(tmp_path, CountingEncoder(dim=dim)).queries.dim == dim
    assert (tmp_path / "emb").readlink() == Path("real")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb", "real", "set"]


# What an encoder may not give


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda texts: np.ones(len(texts)), id="one-number-a-text"),
        pytest.param(lambda texts: np.ones((len(texts) - 1, 4)), id="too-few"),
        pytest.param(lambda texts: np.ones((len(texts) + 1, 4)), id="too-many"),
        pytest.param(lambda texts: np.ones((len(texts), 2, 2)), id="a-matrix-a-text"),
    ],
)
def test_encoder_that_gives_another_shape_is_refused(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(EncoderError, match=r"encoder toy gave shape .* for 2 texts; expected"):
        embed(tmp_path, CountingEncoder(answer=answer))
    assert not (tmp_path / "emb").exists()


def test_encoder_whose_width_changes_is_refused(tmp_path: Path) -> None:
    widths = iter([4, 4, 5])
    changing = CountingEncoder(answer=lambda texts: np.ones((len(texts), next(widths))))
    with pytest.raises(EncoderError, match=r"gave vectors of 5 values after 4; remove .*journal"):
        embed(tmp_path, changing)
    assert not (tmp_path / "emb").exists()


def spoilt(value: float) -> Any:
    def answer(texts: list[str]) -> np.ndarray:
        rows = np.stack([vector_of(one) for one in texts])
        rows[[one == "document 3" for one in texts]] = value
        return rows

    return answer


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_useless_vectors_are_refused_by_their_text(tmp_path: Path, value: float) -> None:
    with pytest.raises(EncoderError, match="NaN, infinity or only zeros for 1 texts") as caught:
        embed(tmp_path, CountingEncoder(answer=spoilt(value)))
    assert "'document 3'" in str(caught.value)
    assert not (tmp_path / "emb").exists()


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_run_after_a_useless_vector_asks_for_it_again(tmp_path: Path, value: float) -> None:
    with pytest.raises((DataError, EncoderError)):
        embed(tmp_path, CountingEncoder(answer=spoilt(value)))
    counting = CountingEncoder()
    embed(tmp_path, counting)
    assert "document 3" in counting.asked


def test_empty_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises((DataError, EncoderError)):
        embed(tmp_path, CountingEncoder(answer=lambda texts: np.ones((len(texts), 0))))


# What a dataset may not hold


@pytest.mark.parametrize("what", ["corpus", "queries"])
def test_repeated_ids_are_refused_before_anything_is_paid_for(tmp_path: Path, what: str) -> None:
    dataset = dataset_of(tmp_path)
    write_jsonl(tmp_path / "set" / f"{what}.jsonl", [{"_id": "x", "text": "a"}] * 2)
    counting = CountingEncoder()
    with pytest.raises(DataError, match=r"1 \('x'\) ids stand more than once"):
        embed(tmp_path, counting, dataset=dataset)
    assert counting.asked == []


@pytest.mark.parametrize(("what", "name"), [("corpus", "documents"), ("queries", "queries")])
def test_dataset_without_texts_is_refused(tmp_path: Path, what: str, name: str) -> None:
    dataset = dataset_of(tmp_path)
    (tmp_path / "set" / f"{what}.jsonl").write_text("", "utf-8")
    with pytest.raises(DataError, match=f"the dataset has no {name}; expected at least one"):
        embed(tmp_path, CountingEncoder(), dataset=dataset)


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, queries={"q0": "\ud83d"})
    with pytest.raises(DataError, match="q0"):
        embed(tmp_path, CountingEncoder(), dataset=dataset)


# Documents that are stored already


def test_stored_documents_are_copied_and_queries_alone_embedded(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    index = faiss.index_factory(4, "IDMap,Flat")
    index.add_with_ids(rows, np.arange(6) + 100)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    counting = CountingEncoder()
    source = f"faiss:{tmp_path / 'x.faiss'}"
    splits = {"train": {"q0": {"100": 1}}, "test": {"q1": {"105": 1}}}
    data = Dataset.load(write_dataset(tmp_path / "set", queries=QUERIES, splits=splits))
    embed_dataset(data, counting.encoder(), tmp_path / "emb", documents=source)
    embeddings = Embeddings.open(tmp_path / "emb")
    assert counting.asked == list(QUERIES.values())
    assert embeddings.documents.ids == [str(n) for n in range(100, 106)]
    np.testing.assert_array_equal(embeddings.documents.matrix, rows)
    described = (tmp_path / "emb" / "encoder.json").read_text("utf-8")
    assert '"index": "IndexFlat' in described
    assert '"lossy": false' in described


def stored_index(folder: Path, dim: int = 4, n_rows: int = 6) -> str:
    rows = np.random.default_rng(0).standard_normal((n_rows, dim)).astype(np.float32)
    index = faiss.IndexFlatIP(dim)
    index.add(rows)
    faiss.write_index(index, str(folder / "stored.faiss"))
    (folder / "stored.ids").write_text("".join(f"d{row}\n" for row in range(n_rows)))
    return f"faiss:{folder / 'stored.faiss'}?ids={folder / 'stored.ids'}"


def test_an_encoder_of_another_width_than_the_index_is_refused_at_once(tmp_path: Path) -> None:
    counting = CountingEncoder()
    source = stored_index(tmp_path, dim=5)
    for documents in (source, Stored(source)):
        with pytest.raises(
            DataError, match=r"stored\.faiss\S* have 5 values, encoder toy gives 4; .* --encoder .*"
            r"--queries FILE\.npy --query-ids FILE; .* say --use migration"
        ):  # fmt: skip
            embed_dataset(
                dataset_of(tmp_path), counting.encoder(), tmp_path / "emb", documents=documents
            )
    assert not (tmp_path / "emb").exists()
    assert not list(tmp_path.rglob("documents.npy"))
    assert len(counting.asked) < len(QUERIES)  # one batch told


def test_another_encoder_is_taken_where_it_is_meant(tmp_path: Path) -> None:
    stored = Stored(stored_index(tmp_path, dim=5), "migration")
    embed_dataset(
        dataset_of(tmp_path), CountingEncoder().encoder(), tmp_path / "emb", documents=stored
    )
    embeddings = Embeddings.open(tmp_path / "emb")
    assert (embeddings.documents.dim, embeddings.queries.dim) == (5, 4)
    assert json.loads((tmp_path / "emb" / "encoder.json").read_text())["use"] == "migration"


@pytest.mark.parametrize(
    ("form", "example"),
    [
        ("x{}", "'d0' against 'x0'"),
        ('"d{}"', "'d0' against '\"d0\"': zeros, blanks or capitals differ"),
        ("d{}  ", "'d0' against 'd0  ': zeros, blanks or capitals differ"),
        ('{{"id":"d{}"}}', "'d0' against '{"),
        ("d{0}\t{0}", r"'d0' against 'd0\t0'"),
    ],
)
def test_stored_documents_that_no_label_names_are_refused_before_they_are_copied(
    tmp_path: Path, form: str, example: str
) -> None:
    data, source, counting = dataset_of(tmp_path), stored_index(tmp_path), CountingEncoder()
    (tmp_path / "stored.ids").write_text("".join(form.format(row) + "\n" for row in range(6)))
    message = "none of the 2 labelled documents of set is among the 6 of faiss:"
    with pytest.raises(DataError, match=message) as caught:
        embed_dataset(data, counting.encoder(), tmp_path / "emb", documents=source)
    assert f"stored.ids: {example}" in str(caught.value)
    assert len(counting.asked) < len(QUERIES)
    with pytest.raises(DataError, match=message):
        join_vectors(data, own(tmp_path, np.eye(4), list(QUERIES)[:4]), tmp_path / "emb",
                     documents=source)  # fmt: skip
    assert not list(tmp_path.rglob("documents.npy"))


def test_labelled_documents_that_are_not_stored_are_counted(tmp_path: Path) -> None:
    source, told = stored_index(tmp_path), []
    (tmp_path / "stored.ids").write_text("d0\nd9\nd2\nd3\nd4\nd5\n")
    queries = own(tmp_path, np.eye(4), list(QUERIES)[:4])
    data = dataset_of(tmp_path)
    join_vectors(data, queries, tmp_path / "emb", documents=source, tell=told.append)
    embed_dataset(
        data, CountingEncoder().encoder(), tmp_path / "emb", documents=source, tell=told.append
    )
    assert told == [f"1 ('d1') of 2 labelled documents of set have no vector in {source}"] * 2


@pytest.mark.parametrize(("value", "message"), [(0, "zero vectors"), (np.nan, "NaN or infinity")])
def test_copy_that_is_refused_leaves_nothing(tmp_path: Path, value: float, message: str) -> None:
    rows = np.eye(6, 4, dtype=np.float32) + 1
    rows[2] = value
    index = faiss.IndexFlatL2(4)
    index.add(rows)
    source, data = stored_index(tmp_path), dataset_of(tmp_path)
    faiss.write_index(index, str(tmp_path / "stored.faiss"))
    queries = own(tmp_path, np.eye(4), list(QUERIES)[:4])
    with pytest.raises(DataError, match=rf"1 \('d2'\) documents .*{message}"):
        join_vectors(data, queries, tmp_path / "emb", documents=source)
    assert not (tmp_path / ".emb.partial").exists()
    counting = CountingEncoder()
    with pytest.raises(DataError, match=message):
        embed_dataset(data, counting.encoder(), tmp_path / "emb", documents=source)
    assert len(counting.asked) < len(QUERIES)  # one batch told the width, and is kept
    assert [path.suffix for path in (tmp_path / ".emb.partial").iterdir()] == [".journal"]


def test_a_source_that_can_not_be_read_costs_no_text(tmp_path: Path) -> None:
    counting = CountingEncoder()
    for source in ("faiss:none.faiss", "elastic://host/docs"):
        with pytest.raises(DataError):
            embed_dataset(
                dataset_of(tmp_path), counting.encoder(), tmp_path / "emb", documents=source
            )
    assert counting.asked == []


# Query vectors that exist already


def own(folder: Path, matrix: np.ndarray, ids: Sequence[str]) -> NamedQueries:
    np.save(folder / "own.npy", matrix)
    (folder / "own.ids").write_text("".join(f"{one}\n" for one in ids), "utf-8")
    return NamedQueries.open(folder / "own.npy", folder / "own.ids")


def test_own_queries_stand_beside_stored_documents(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((5, 4))  # float64
    join_vectors(
        dataset_of(tmp_path),
        own(tmp_path, matrix, list(QUERIES)),
        tmp_path / "emb",
        documents=stored_index(tmp_path),
    )
    embeddings = Embeddings.open(tmp_path / "emb")
    assert embeddings.queries.ids == list(QUERIES)
    np.testing.assert_array_equal(embeddings.queries.matrix, matrix.astype(np.float32))
    assert embeddings.queries.matrix.dtype == np.float32
    assert len(embeddings.documents) == 6
    encoder = embeddings.encoder
    assert (encoder.name, encoder.fingerprint, encoder.dim) == ("unknown", "", 4)
    assert not encoder.normalised
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("emb", "own.ids", "own.npy", "set", "stored.faiss", "stored.ids"),
    ]


def test_own_queries_of_a_named_encoder_are_described_by_it(tmp_path: Path) -> None:
    counting = CountingEncoder()
    encoder = counting.encoder(query_prefix="query: ")
    queries = own(tmp_path, np.eye(4)[:2], ["q0", "q1"])
    info = join_vectors(
        dataset_of(tmp_path),
        replace(queries, encoder=encoder),
        tmp_path / "emb",
        documents=stored_index(tmp_path),
    )
    assert (info.fingerprint, info.query_prefix) == (encoder.fingerprint, "query: ")
    assert info.normalised
    assert counting.asked == []


def test_own_queries_of_another_width_or_of_no_query_are_refused(tmp_path: Path) -> None:
    data, source = dataset_of(tmp_path), stored_index(tmp_path, dim=5)
    queries = own(tmp_path, np.eye(4)[:2], ["q0", "q1"])
    with pytest.raises(DataError, match="have 5 values, the file of query vectors gives 4"):
        join_vectors(data, queries, tmp_path / "emb", documents=source)
    join_vectors(data, queries, tmp_path / "emb", documents=Stored(source, "migration"))
    foreign = own(tmp_path, np.eye(4)[:2], ["d0", "d1"])
    with pytest.raises(DataError, match="none of the 2 query ids is one of the dataset's"):
        join_vectors(data, foreign, tmp_path / "other", documents=source)
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / ".other.partial").exists()


def test_stored_documents_with_repeated_ids_are_refused(tmp_path: Path) -> None:
    index = faiss.index_factory(4, "IDMap,Flat")
    index.add_with_ids(np.eye(3, 4, dtype=np.float32), np.array([1, 1, 2]))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    source = f"faiss:{tmp_path / 'x.faiss'}"
    with pytest.raises(DataError, match=r"1 \('1'\) ids stand more than once"):
        embed_dataset(
            dataset_of(tmp_path), CountingEncoder().encoder(), tmp_path / "emb", documents=source
        )


def test_unknown_source_of_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown source of documents 'milvus:x'; expected faiss:"):
        embed_dataset(
            dataset_of(tmp_path),
            CountingEncoder().encoder(),
            tmp_path / "emb",
            documents="milvus:x",
        )


def test_journal_of_another_width_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([bytes(32)], np.ones((1, 4), dtype=np.float32))
    with pytest.raises(EncoderError, match="gave vectors of 3 values after 4"):
        Journal(tmp_path / "j").append([b"x" * 32], np.ones((1, 3), dtype=np.float32))
    assert Journal(tmp_path / "j").places == {bytes(32): 0}
