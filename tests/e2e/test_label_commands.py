"""`trimtab import` and `trimtab doctor` as a user runs them, and as docs/labels.md shows them."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.support.clicks import make_clicks
from tests.support.commands import trimtab
from tests.support.label_files import write_llama_index, write_rows, write_trec
from tests.support.sets import write_dataset, write_embeddings, write_jsonl
from trimtab_training.data.dataset import Dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "labels.md"
ROWS = [{"anchor": f"question {n}", "positive": f"document {n}"} for n in range(40)]


def test_import_then_doctor(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [*ROWS, {"anchor": "", "positive": "d"}])
    done = trimtab("import", "pairs", "pairs.jsonl", "-o", "docs", cwd=tmp_path)
    assert "40 documents, 40 queries from 41 rows" in done.stdout
    assert re.search(r"1\s+empty query\s+pairs\.jsonl:41", done.stdout)
    assert "next: trimtab doctor docs" in done.stderr
    done = trimtab("doctor", "docs", cwd=tmp_path)
    assert "usable: no errors" in done.stdout
    assert "next: trimtab embed docs" in done.stderr
    done = trimtab("import", "pairs", "pairs.jsonl", "-o", "docs", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == json.loads((tmp_path / "docs/import.json").read_text())


def test_doctor_exits_1_on_leaks_and_prints_json(tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "docs", queries={"a": "Same?", "b": "same"}, documents=["d0", "d1"],
        splits={"train": {"a": {"d0": 1}}, "test": {"b": {"d1": 1}}},
    )  # fmt: skip
    done = trimtab("doctor", "docs", "--json", cwd=tmp_path, check=1)
    record = json.loads(done.stdout)
    assert record["usable"] is False
    assert record["findings"][0]["code"] == "shared_query_texts"


@pytest.mark.parametrize(
    ("words", "check", "message"),
    [
        (["pairs", "nowhere.jsonl"], 1, "nothing to read at nowhere.jsonl"),
        (["pairs", "pairs.jsonl", "--column", "anchor"], 2, "expected ROLE=NAME"),
        (["clicks", "pairs.jsonl", "--train-until", "soon"], 2, "expected ISO 8601"),
        (["pairs", "pairs.jsonl", "--max-dropped", "2"], 2, "is not in the range"),
        (["xml", "pairs.jsonl"], 2, "is not one of"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, words: list[str], check: int, message: str
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    done = trimtab("import", *words, "-o", "out", cwd=tmp_path, check=check)
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.jsonl"}


def documented_calls() -> list[str]:
    """Every indented call in docs/labels.md."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^    trimtab (.+)$", text, re.MULTILINE)


def write_sources(folder: Path) -> None:
    """Write the files that docs/labels.md names."""
    queries = {f"q{n}": f"question {n}" for n in range(40)}
    documents = {f"d{n}": f"document {n}" for n in range(40)}
    labels = {f"q{n}": {f"d{n}": 1.0} for n in range(40)}
    write_dataset(folder / "beir", queries=queries, documents=documents, splits={"train": labels})
    topics, collection = write_trec(folder / "trec", queries, documents, {"judgements": labels})
    topics.rename(folder / "topics.txt")
    collection.rename(folder / "collection.trec")
    (folder / "trec" / "judgements.qrels").rename(folder / "judgements.qrels")
    write_llama_index(folder / "qa.json", queries, documents, labels)
    write_rows(folder / "pairs.jsonl", ROWS)
    write_rows(folder / "faq.csv", [{"frage": r["anchor"], "antwort": r["positive"]} for r in ROWS])
    write_rows(folder / "triplets.parquet", [{**row, "negative": "other"} for row in ROWS])
    write_jsonl(folder / "corpus.jsonl", [{"_id": k, "text": v} for k, v in documents.items()])
    make_clicks(400, n_queries=30).write_whole(folder / "log.jsonl")


def embed(folder: Path) -> None:
    """Write vectors for an imported set of pairs: a query's is its document's."""
    dataset = Dataset.load(folder)
    vectors = np.random.default_rng(0).standard_normal((len(ROWS), 4)).astype(np.float32)
    write_embeddings(
        folder / "embeddings",
        documents=vectors,
        queries=vectors,
        document_ids=[name for name, _ in dataset.iter_documents()],
        query_ids=[name for name, _ in dataset.iter_queries()],
    )


def test_documented_calls_do_what_the_page_says(tmp_path: Path) -> None:
    write_sources(tmp_path)
    calls = documented_calls()
    assert len(calls) >= 8
    for call in calls:
        if "--embeddings" in call:
            embed(tmp_path / "docs")
        trimtab(*shlex.split(call, comments=True), cwd=tmp_path)
