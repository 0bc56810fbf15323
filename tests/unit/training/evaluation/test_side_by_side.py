"""Two searches of one index: raw and adapted, side by side, with the right names."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.support.onnx_models import CARD, linear_bytes, weight_of
from tests.support.sets import CountingEncoder, vector_of
from trimtab.errors import ConfigError
from trimtab.model.encoder_probe import pack_probe
from trimtab.model.manifest import EncoderCard
from trimtab_training.embeddings.encoders import CallableEncoder
from trimtab_training.errors import DataError
from trimtab_training.evaluation.side_by_side import (
    SearchedIndex,
    load_for_search,
    search_both,
    search_vectors,
)

DIM, N = 4, 30
ROWS = np.stack([vector_of(f"document {row}", DIM) for row in range(N)])
TEXTS = ["one query", "another query"]
CLOSE = 1e-5  # float32 sums of four products


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.onnx"
    path.write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM))
    return path


def index_file(tmp_path: Path, kind: str = "Flat", numbers: np.ndarray | None = None) -> Path:
    index = faiss.index_factory(DIM, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(ROWS)
    index.add(ROWS) if numbers is None else index.add_with_ids(ROWS, numbers)
    faiss.write_index(index, str(tmp_path / "docs.faiss"))
    return tmp_path / "docs.faiss"


def write_names(path: Path, count: int = N) -> Path:
    path.write_text("".join(f"name {row}\n" for row in range(count)), "utf-8")
    return path


def encoder_of(model_encoder: str = CARD.fingerprint, **options: str) -> CallableEncoder:
    return CountingEncoder(dim=DIM).encoder(fingerprint=model_encoder, **options)


def open_index(model: Path, index: Path, ids: Path | None = None) -> SearchedIndex:
    return load_for_search(model, index, ids)


def nearest(queries: np.ndarray, k: int) -> list[list[int]]:
    return np.argsort(-(queries @ ROWS.T), axis=1, kind="stable")[:, :k].tolist()


@pytest.mark.parametrize("kind", ["Flat", "HNSW8,Flat"])
def test_index_is_searched_raw_and_through_the_adapter(
    tmp_path: Path, model: Path, kind: str
) -> None:
    found = search_both(open_index(model, index_file(tmp_path, kind)), encoder_of(), TEXTS, k=5)
    queries = np.stack([vector_of(text, DIM) for text in TEXTS])
    adapted = queries @ weight_of(DIM, DIM)
    assert [one.query for one in found] == TEXTS
    assert [[int(name) for name, _ in one.before] for one in found] == nearest(queries, 5)
    assert [[int(name) for name, _ in one.after] for one in found] == nearest(adapted, 5)
    assert found[0].before != found[0].after
    for one, raw, new in zip(found, queries, adapted, strict=True):
        for way, query in ((one.before, raw), (one.after, new)):
            scores = [query @ ROWS[int(name)] for name, _ in way]
            np.testing.assert_allclose([score for _, score in way], scores, atol=CLOSE)


def test_query_prefix_is_put_before_every_text(tmp_path: Path) -> None:
    counting = CountingEncoder(dim=DIM)
    encoder = counting.encoder(query_prefix="query: ")
    card = EncoderCard("toy", encoder.fingerprint)
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM, encoder=card))
    searched = load_for_search(tmp_path, index_file(tmp_path), None)
    search_both(searched, encoder, TEXTS, k=1)
    assert counting.asked == [f"query: {text}" for text in TEXTS]


def test_encoder_of_another_pooling_is_refused(tmp_path: Path) -> None:
    encoder = encoder_of()
    card = EncoderCard("toy", encoder.fingerprint, probe=pack_probe(ROWS[:3]))
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM, encoder=card))
    searched = load_for_search(tmp_path, index_file(tmp_path), None)
    search_both(searched, encoder, TEXTS, k=1)
    encoder.probe = pack_probe(ROWS[3:6])
    with pytest.raises(DataError, match="another pooling or tokenizer; pass --encoder"):
        search_both(searched, encoder, TEXTS, k=1)


def test_vectors_that_are_there_already_need_no_encoder(tmp_path: Path, model: Path) -> None:
    searched = load_for_search(model, index_file(tmp_path), None)
    (found,) = search_vectors(searched, ["its own document"], ROWS[7:8], k=1)
    assert found.query == "its own document"
    assert found.before == [("7", pytest.approx(1.0))]


# Names


def test_ids_beside_the_index_name_its_rows(tmp_path: Path, model: Path) -> None:
    index = index_file(tmp_path)
    write_names(tmp_path / "docs.ids")
    (found,) = search_vectors(open_index(model, index), ["x"], ROWS[7:8], k=1)
    assert found.before[0][0] == "name 7"


def test_given_ids_go_before_those_beside_the_index(tmp_path: Path, model: Path) -> None:
    write_names(tmp_path / "docs.ids")
    given = tmp_path / "given.txt"
    given.write_text("".join(f"given {row}\n" for row in range(N)), "utf-8")
    searched = open_index(model, index_file(tmp_path), given)
    (found,) = search_vectors(searched, ["x"], ROWS[7:8], k=1)
    assert found.before[0][0] == "given 7"


def test_id_map_shows_its_own_numbers(tmp_path: Path, model: Path) -> None:
    searched = open_index(model, index_file(tmp_path, "IDMap,Flat", np.arange(N) + 1000))
    (found,) = search_vectors(searched, ["x"], ROWS[7:8], k=1)
    assert found.before[0][0] == "1007"


@pytest.mark.parametrize(
    "numbers", [np.arange(N) + 1000, np.arange(N)[::-1]], ids=["beyond", "backwards"]
)
def test_line_of_the_id_file_names_the_row_of_an_id_map_too(
    tmp_path: Path, model: Path, numbers: np.ndarray
) -> None:
    index = index_file(tmp_path, "IDMap,Flat", np.ascontiguousarray(numbers))
    write_names(tmp_path / "docs.ids")  # line i is row i, as for trimtab embed
    (found,) = search_vectors(open_index(model, index), ["x"], ROWS[7:8], k=1)
    assert found.before[0][0] == "name 7"


def test_ids_of_another_number_are_refused(tmp_path: Path, model: Path) -> None:
    ids = write_names(tmp_path / "few.ids", 3)
    with pytest.raises(DataError, match=rf"docs\.faiss holds {N} vectors, .*few\.ids has 3 ids"):
        open_index(model, index_file(tmp_path), ids)


# Edges


def test_no_more_is_found_than_there_is(tmp_path: Path, model: Path) -> None:
    (found,) = search_vectors(open_index(model, index_file(tmp_path)), ["x"], ROWS[:1], k=1000)
    assert len(found.before) == len(found.after) == N


def test_results_that_faiss_does_not_have_are_left_out(tmp_path: Path, model: Path) -> None:
    index = index_file(tmp_path, "IVF8,Flat")  # it looks into one of eight lists
    (found,) = search_vectors(open_index(model, index), ["x"], ROWS[:1], k=N)
    assert 0 < len(found.before) < N
    assert all(int(name) >= 0 for name, _ in found.before)


def test_index_without_vectors_is_refused(tmp_path: Path, model: Path) -> None:
    faiss.write_index(faiss.IndexFlatIP(DIM), str(tmp_path / "docs.faiss"))
    with pytest.raises(DataError, match=r"docs\.faiss is empty; expected at least one vector"):
        open_index(model, tmp_path / "docs.faiss")


def test_encoder_that_is_not_the_models_is_refused(tmp_path: Path, model: Path) -> None:
    searched = open_index(model, index_file(tmp_path))
    with pytest.raises(DataError, match=r"fitted on queries of toy-encoder .*this encoder is toy"):
        search_both(searched, encoder_of("sha256:another"), TEXTS, 1)
    with pytest.raises(DataError, match=r"fitted on queries of toy-encoder .*this encoder is toy"):
        load_for_search(model, index_file(tmp_path), None, encoder_of("sha256:another"))


def test_same_encoder_with_another_prefix_is_refused(tmp_path: Path, model: Path) -> None:
    searched = open_index(model, index_file(tmp_path))
    with pytest.raises(DataError, match="pass --encoder"):
        search_both(searched, encoder_of(query_prefix="query: "), TEXTS, 1)


def test_index_of_another_width_than_the_adapter_gives_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM + 2))
    with pytest.raises(ConfigError, match="the index holds vectors of 4 values, the adapter gives"):
        open_index(tmp_path, index_file(tmp_path))


def test_adapter_between_two_widths_is_refused_or_searched_without_the_raw_query(
    tmp_path: Path,
) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM + 2, dim_out=DIM))
    encoder = CountingEncoder(dim=DIM + 2).encoder(fingerprint=CARD.fingerprint)
    try:
        searched = load_for_search(tmp_path, index_file(tmp_path), None)
        (found,) = search_both(searched, encoder, ["x"], k=3)
    except DataError:
        return
    assert len(found.after) == 3


def test_missing_index_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError, match="no FAISS index at "):
        open_index(model, tmp_path / "none.faiss")


# Numbers of their own


def test_lists_with_numbers_of_their_own_are_named_by_number(tmp_path: Path, model: Path) -> None:
    numbers = np.random.default_rng(1).permutation(N) * 3 - 41  # some are below zero
    index = index_file(tmp_path, "IVF1,Flat", numbers)
    lines = (f"{number}\tname {row}\n" for row, number in enumerate(numbers))
    (tmp_path / "docs.ids").write_text("".join(lines), "utf-8")
    found = search_vectors(open_index(model, index), ["x"] * N, ROWS, k=1)
    assert [one.before[0][0] for one in found] == [f"name {row}" for row in range(N)]


def test_rows_without_an_order_are_not_named_by_it(tmp_path: Path, model: Path) -> None:
    index = index_file(tmp_path, "IVF1,Flat", np.arange(N) + 1000)
    write_names(tmp_path / "docs.ids")
    with pytest.raises(DataError, match="the order of its rows is not known"):
        open_index(model, index)
