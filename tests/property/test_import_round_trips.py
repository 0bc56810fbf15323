"""BEIR to another format and back gives equal labels, whatever texts and labels there are."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.label_files import write_llama_index, write_rows, write_trec
from tests.support.sets import write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers import ImportSettings, import_labels
from trimtab_training.data.qrels import Qrels, relevant, relevant_documents

FEW = settings(max_examples=12, deadline=None, derandomize=True)
GRADES = st.sampled_from([-1.0, 0.0, 0.25, 1.0, 3.0])
MARK = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)


@st.composite
def sets(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], dict[str, Qrels]]:
    """Draw queries, documents and labels of two splits; texts are unlike one another."""
    n_queries, n_documents = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    queries = {f"q {n}": f"{draw(MARK)} “asked” {n}" for n in range(n_queries)}
    documents = {f"d{n}": f'{draw(MARK)}, a "text" <{n}> & more' for n in range(n_documents)}
    of_query = st.dictionaries(st.sampled_from(list(documents)), GRADES, max_size=3)
    splits: dict[str, Qrels] = {"train": {}, "test": {}}
    for number, query in enumerate(queries):
        best = {draw(st.sampled_from(list(documents))): 1.0}
        splits["test" if number % 2 else "train"][query] = {**draw(of_query), **best}
    return queries, documents, splits


def imported(format_: str, source: Path, place: Path, **options: object) -> Dataset:
    import_labels(format_, source, place / "out", ImportSettings(**options))  # type: ignore[arg-type]
    return Dataset.load(place / "out")


def by_text(dataset: Dataset) -> dict[str, Qrels]:
    queries, documents = dict(dataset.iter_queries()), dict(dataset.iter_documents())
    return {
        split: {
            queries[query]: {documents[doc]: grade for doc, grade in labels.items()}
            for query, labels in qrels.items()
        }
        for split, qrels in dataset.splits.items()
    }


@FEW
@given(sets())
def test_beir_to_beir(given: tuple[dict[str, str], dict[str, str], dict[str, Qrels]]) -> None:
    queries, documents, splits = given
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = write_dataset(place / "in", queries=queries, documents=documents, splits=splits)
        dataset = imported("beir", source, place)
        assert dataset.splits == splits
        assert dict(dataset.iter_queries()) == queries
        assert dict(dataset.iter_documents()) == documents


@FEW
@given(sets())
def test_beir_to_trec_and_back(
    given: tuple[dict[str, str], dict[str, str], dict[str, Qrels]],
) -> None:
    queries, documents, splits = given
    plain = {query.replace(" ", "-"): text for query, text in queries.items()}
    splits = {
        name: {query.replace(" ", "-"): labels for query, labels in qrels.items()}
        for name, qrels in splits.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        topics, collection = write_trec(place / "trec", plain, documents, splits)
        dataset = imported("trec", place / "trec", place, queries=topics, corpus=collection)
        assert dataset.splits == splits
        assert dict(dataset.iter_queries()) == plain
        assert dict(dataset.iter_documents()) == documents


@FEW
@given(sets())
def test_beir_to_llama_index_and_back_keeps_what_it_can_hold(
    given: tuple[dict[str, str], dict[str, str], dict[str, Qrels]],
) -> None:
    queries, documents, splits = given
    flat = {
        name: {query: dict.fromkeys(relevant(labels), 1.0) for query, labels in qrels.items()}
        for name, qrels in splits.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, qrels in flat.items():
            write_llama_index(place / "li" / f"{name}.json", queries, documents, qrels)
        dataset = imported("llama-index", place / "li", place)
        assert dataset.splits == flat
        assert dict(dataset.iter_documents()) == documents


@FEW
@given(sets(), st.sampled_from(["jsonl", "csv", "tsv", "parquet"]), st.booleans())
def test_beir_to_scored_pairs_and_back(
    given: tuple[dict[str, str], dict[str, str], dict[str, Qrels]], kind: str, mapped: bool
) -> None:
    queries, documents, splits = given
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = write_dataset(place / "in", queries=queries, documents=documents, splits=splits)
        for name, qrels in splits.items():
            rows = [
                {"query": queries[query], "document": documents[doc], "score": grade}
                for query, labels in qrels.items()
                for doc, grade in labels.items()
            ]
            write_rows(place / "pairs" / f"{name}.{kind}", rows)
        corpus = source / "corpus.jsonl" if mapped else None
        dataset = imported("pairs", place / "pairs", place, corpus=corpus)
        assert by_text(dataset) == by_text(Dataset.load(source))
        if mapped:
            wanted = {doc for qrels in splits.values() for doc in relevant_documents(qrels)}
            found = {doc for qrels in dataset.splits.values() for doc in relevant_documents(qrels)}
            assert found == wanted


@FEW
@given(sets(), st.sampled_from(["jsonl", "csv", "parquet"]))
def test_beir_to_triplets_and_back_keeps_positives_and_negatives(
    given: tuple[dict[str, str], dict[str, str], dict[str, Qrels]], kind: str
) -> None:
    queries, documents, splits = given
    rows, flat = [], {}
    for query, labels in splits["train"].items():
        good = list(relevant(labels))
        bad = [doc for doc in labels if doc not in good]
        flat[queries[query]] = {
            **{documents[doc]: 1.0 for doc in good}, **{documents[doc]: 0.0 for doc in bad},
        }  # fmt: skip
        rows.append(
            {
                "query": queries[query],
                "pos": [documents[doc] for doc in good],
                "neg": [documents[doc] for doc in bad] or [""],
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = write_rows(place / f"train.{kind}", rows)
        import_labels("triplets", source, place / "out")
        from trimtab_training.data.qrels import load_splits

        dataset = Dataset("out", place / "out", load_splits(place / "out" / "qrels"))
        assert by_text(dataset) == {"train": flat}
