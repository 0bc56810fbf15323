"""`embed` and `search` for an index of another width, and with query vectors at hand."""

import json
import tomllib
from pathlib import Path

import faiss
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.onnx_models import linear_bytes
from tests.support.sets import write_dataset
from trimtab.commands.group import main
from trimtab_training.build_options import BuildOptions
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings, said_similarity
from trimtab_training.fit.fit import fit_adapter
from trimtab_training.fit.recipe import parse_recipe
from trimtab_training.pipeline import build_model

DIM, N_DOCUMENTS = 8, 20
QUERIES = {f"q{row}": f"query {row}" for row in range(4)}
DOCUMENTS = {f"d{row}": f"document {row}" for row in range(N_DOCUMENTS)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make what a user has: a dataset, an index with ids, and query vectors."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "docs", documents=DOCUMENTS, queries=QUERIES)
    write_index(tmp_path / "docs.faiss", DIM)
    Path("docs.ids").write_text("".join(f"{one}\n" for one in DOCUMENTS))
    np.save("queries.npy", vectors(4, DIM))
    Path("query.ids").write_text("".join(f"{one}\n" for one in QUERIES))
    return tmp_path


def vectors(n_rows: int, dim: int) -> np.ndarray:
    return np.random.default_rng(n_rows).standard_normal((n_rows, dim))


def write_index(path: Path, dim: int) -> None:
    index = faiss.IndexFlatIP(dim)
    index.add(vectors(N_DOCUMENTS, dim).astype(np.float32))
    faiss.write_index(index, str(path))


def trimtab(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def said(result: Result) -> str:
    """Give what was printed, without the screen's line breaks."""
    return " ".join(result.output.split())


def test_the_default_encoder_is_refused_for_an_index_of_another_width(place: Path) -> None:
    write_index(place / "wide.faiss", 1536)
    result = trimtab("embed", "docs", "-o", "emb", "--documents", "faiss:wide.faiss?ids=docs.ids")
    assert result.exit_code == 1
    assert "have 1536 values, encoder sentence-transformers/all-MiniLM-L6-v2 gives 384" in said(
        result
    )
    assert "next:" not in said(result)
    assert not (place / "emb").exists()
    words = ["embed", "docs", "-o", "emb", "--documents", "faiss:wide.faiss?ids=docs.ids"]
    result = trimtab(*words, "--use", "migration", "--encoder", "minilm")
    assert result.exit_code == 0, result.output
    assert "next: trimtab fit docs --embeddings emb -o models/docs --use migration" in said(result)
    assert json.loads((place / "emb" / "encoder.json").read_text())["use"] == "migration"


OWN = ["--queries", "queries.npy", "--query-ids", "query.ids"]
STORED = ["--documents", "faiss:docs.faiss?ids=docs.ids"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (OWN, "--queries needs --documents"),
        ([*STORED, "--queries", "queries.npy"], "--queries and --query-ids go together"),
        ([*STORED, "--query-ids", "query.ids"], "--queries and --query-ids go together"),
        ([*STORED, *OWN, "--query-prefix", "q: "], "need --encoder"),
        ([*STORED, "--use", "migration"], "--use migration needs --encoder"),
        (["--use", "migration", "--encoder", "minilm"], "--use migration needs --documents"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    result = trimtab("embed", "docs", "-o", "emb", *words)
    assert result.exit_code == 2
    assert message in said(result)


def test_own_queries_need_no_encoder(place: Path) -> None:
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert result.exit_code == 0, result.output
    assert "queries.npy: float64 is cast to float32" in said(result)
    assert "unknown, 8 values a vector, no fingerprint" in said(result)
    assert "the encoder of these vectors is not known" in said(result)
    np.testing.assert_array_equal(
        np.load(place / "emb" / "queries.npy"), vectors(4, DIM).astype(np.float32)
    )
    assert (place / "emb" / "query_ids.txt").read_text().split() == list(QUERIES)


def test_own_queries_of_an_endpoint_are_described_without_asking_it(place: Path) -> None:
    words = ["--encoder", "openai:text-embedding-3-small", "--query-prefix", "q: "]
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN, *words)
    assert result.exit_code == 0, result.output
    record = json.loads((place / "emb" / "encoder.json").read_text())
    assert (record["name"], record["query_prefix"]) == ("text-embedding-3-small", "q: ")
    assert record["fingerprint"].startswith("sha256:")


def test_what_does_not_match_is_counted(place: Path) -> None:
    Path("query.ids").write_text("q0\nq1\nx\ny\n")
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert result.exit_code == 0, result.output
    assert "2 queries of docs have no vector; 2 vectors are of no query in it" in said(result)
    Path("docs.ids").write_text("d0\n" + "".join(f"x{row}\n" for row in range(N_DOCUMENTS - 1)))
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert "1 ('d1') of 2 labelled documents of docs have no vector in faiss:" in said(result)


def test_useless_rows_are_named_and_nothing_is_left(place: Path) -> None:
    spoilt = vectors(4, DIM)
    spoilt[2] = np.nan
    np.save("queries.npy", spoilt)
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert result.exit_code == 1
    assert "row 2 holds NaN" in said(result)
    assert not any(path.name.endswith(("emb", ".partial")) for path in place.iterdir())


# Searching


@pytest.fixture
def model(place: Path) -> str:
    (place / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM))
    return "adapter.onnx"


def test_vectors_are_searched_without_an_encoder(model: str) -> None:
    result = trimtab(
        "search", model, "--index", "docs.faiss", "--vectors", "queries.npy", "-k", "2"
    )
    assert result.exit_code == 0, result.output
    assert "float64 is cast to float32" in said(result)
    assert [f"“row {row}”" in result.output for row in range(5)] == [True] * 4 + [False]
    assert "loading the encoder" not in result.output
    scores = vectors(4, DIM)[0] @ vectors(N_DOCUMENTS, DIM).T
    assert f"{scores.max():.3f} d{scores.argmax()}" in said(result)
    result = trimtab("search", model, "--index", "docs.faiss", "--vectors", "queries.npy",
                     "--query-ids", "query.ids")  # fmt: skip
    assert "“q3”" in result.output


def test_raw_vectors_of_another_width_are_said_to_find_nothing(place: Path) -> None:
    (place / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=5))
    write_index(place / "other.faiss", 5)
    words = ["search", "adapter.onnx", "--index", "other.faiss", "--vectors", "queries.npy"]
    result = trimtab(*words)
    assert result.exit_code == 0, result.output
    assert "raw queries of 8 values can't search an index of 5" in said(result)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "give queries by --text or by --vectors"),
        (["--text", "a", "--vectors", "queries.npy"], 2, "one of the two"),
        (["--text", "a", "--query-ids", "query.ids"], 2, "names the rows of --vectors"),
        (["--vectors", "none.npy"], 1, "expected a .npy matrix"),
        (["--vectors", "wide.npy"], 1, "query has 9 values; the adapter wants 8"),
    ],
)
def test_search_says_what_is_wrong_with_its_queries(
    model: str, words: list[str], status: int, message: str
) -> None:
    np.save("wide.npy", vectors(2, 9))
    result = trimtab("search", model, "--index", "docs.faiss", *words)
    assert result.exit_code == status
    assert message in said(result)


SHORT = 'adapter = "linear"\nepochs = 1\nmin_steps = 1\nmax_steps = 2\nfolds = 2\n'
FOLLOWS = ", and have no unit length: the fit compares by it, too"


def embed_from_index_by(metric: int, place: Path, *, unit: bool = False) -> Embeddings:
    """Copy the documents of an index, and label three queries for a fit and one for its test."""
    rows = vectors(N_DOCUMENTS, DIM).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) if unit else 1
    index = faiss.IndexFlat(DIM, metric)
    index.add(rows)
    faiss.write_index(index, str(place / "docs.faiss"))
    labels = "".join(f"q{row}\td{row}\t1\n" for row in range(3))
    (place / "docs" / "qrels").mkdir(exist_ok=True)
    (place / "docs" / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{labels}")
    (place / "docs" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td3\t1\n")
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert result.exit_code == 0, result.output
    return Embeddings.open(place / "emb")


def recorded_similarity(model: Path) -> str:
    record = json.loads((model / "evaluation.json").read_text(encoding="utf-8"))
    return str(record["fit"]["recipe"]["similarity"])


@pytest.mark.parametrize(
    ("metric", "is_unit", "recipe", "similarity", "said_of_it"),
    [
        (faiss.METRIC_INNER_PRODUCT, False, "", "dot", f"compares by dot{FOLLOWS}"),
        (faiss.METRIC_L2, False, "", "euclid", f"compares by euclid{FOLLOWS}"),
        (
            faiss.METRIC_L2,
            False,
            'similarity = "cosine"',
            "cosine",
            "the fit compares by cosine, as the",
        ),
        (faiss.METRIC_L2, False, 'similarity = "euclid"', "euclid", ""),
        (faiss.METRIC_L2, True, "", "cosine", ""),
    ],
)
def test_fit_compares_as_the_index_does_that_the_documents_are_from(
    place: Path, metric: int, is_unit: bool, recipe: str, similarity: str, said_of_it: str
) -> None:
    found = embed_from_index_by(metric, place, unit=is_unit)
    own = {faiss.METRIC_L2: "euclid", faiss.METRIC_INNER_PRODUCT: "dot"}[metric]
    assert said_similarity(found) == (None if is_unit else own)
    (place / "recipe.toml").write_text(SHORT + recipe)
    words = ["fit", "docs", "--embeddings", "emb", "-o", "out", "--recipe", "recipe.toml"]
    shown = said(trimtab(*words))
    assert (said_of_it in shown) if said_of_it else ("compares by" not in shown)
    assert recorded_similarity(place / "out") == similarity


def test_a_fit_in_python_and_a_built_recipe_follow_the_index_as_well(place: Path) -> None:
    found = embed_from_index_by(faiss.METRIC_L2, place)
    recipe = parse_recipe(tomllib.loads(SHORT), "recipe")
    dataset = Dataset.load(place / "docs")
    assert fit_adapter(dataset, found, recipe).recipe.similarity == "euclid"
    told: list[str] = []
    build_model(dataset, found, place / "out", recipe, BuildOptions(tell=told.append))
    assert f"an index that compares by euclid{FOLLOWS}" in told[0]
    assert recorded_similarity(place / "out") == "euclid"
    (place / "models" / "docs").mkdir(parents=True)
    (place / "models" / "docs" / "recipe.toml").write_text(
        f'dataset = "../../docs"\nembeddings = "../../emb"\n[fit]\n{SHORT}'
    )
    assert f"compares by euclid{FOLLOWS}" in said(trimtab("build", "models"))
    assert recorded_similarity(place / "models" / "docs") == "euclid"
    assert "models/docs is up to date" in said(trimtab("build", "models"))


def test_a_fit_in_python_knows_the_use_that_embed_was_told(place: Path) -> None:
    found = embed_from_index_by(faiss.METRIC_INNER_PRODUCT, place)
    record = json.loads((place / "emb" / "encoder.json").read_text())
    (place / "emb" / "encoder.json").write_text(json.dumps({**record, "use": "migration"}))
    recipe = parse_recipe(tomllib.loads(SHORT), "recipe")
    assert fit_adapter(Dataset.load(place / "docs"), found, recipe).recipe.use == "migration"


def test_index_by_another_metric_is_refused(place: Path) -> None:
    index = faiss.IndexFlat(DIM, faiss.METRIC_L1)
    index.add(vectors(N_DOCUMENTS, DIM).astype(np.float32))
    faiss.write_index(index, str(place / "docs.faiss"))
    result = trimtab("embed", "docs", "-o", "emb", *STORED, *OWN)
    assert result.exit_code == 1
    assert "docs.faiss compares by FAISS's metric 2; adapters are trained for" in said(result)
    assert not (place / "emb").exists()
