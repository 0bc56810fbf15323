"""From answers to a dataset: splits by document, real queries kept, nothing destroyed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fits import keep_state
from tests.support.llm_endpoint import queries_about, write_corpus
from tests.support.sets import CountingEncoder, write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, relevant_documents
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError
from trimtab_training.synthesis.corpus import Corpus
from trimtab_training.synthesis.prompts import Writing
from trimtab_training.synthesis.round_trip import RoundTrip
from trimtab_training.synthesis.run import Job, Plan, build_dataset, make_plan
from trimtab_training.synthesis.store import Answer
from trimtab_training.synthesis.styles import Example

N = 60
TEXTS = [f"Everything that is known of subject {n}: it is called thing{n}" for n in range(N)]
IDS = [f"d{n}" for n in range(N)]
WRITING = Writing(api="chat", model="toy", styles=("question",), per_document=3)
REAL = {"r0": {"d0": 1.0}, "r1": {"d1": 2.0, "d2": 0.0}, "r2": {"d3": 1.0}, "r3": {"d4": 1.0}}


def plan_of(folder: Path, texts: list[str] = TEXTS, **changes: Any) -> Plan:
    corpus = write_corpus(folder / "corpus.jsonl", texts)
    given = {"source": corpus, "output": folder / "out", "kept": folder / "kept"}
    return make_plan(Job(**{**given, "writing": WRITING, "budget": None, **changes}))


def answer_all(plan: Plan, written: Mapping[str, list[str]] | None = None) -> Plan:
    """Answer every request as a model would, or with what is given for a document."""
    with plan.store.opened():
        for request in plan.requests():
            text = plan.corpus.read(request.doc_id).text
            queries = (written or {}).get(request.doc_id) or queries_about(text, 3)
            plan.store.append(
                Answer(request.key, request.doc_id, "question", 0, text=json.dumps(queries))
            )
    return plan


def real_folder(folder: Path, splits: dict[str, Qrels], **more: str) -> Path:
    names = sorted({query for qrels in splits.values() for query in qrels})
    queries = {name: more.get(name, f"real query {name}") for name in names}
    return write_dataset(folder / "real", documents=IDS, queries=queries, splits=splits)


def test_work_of_a_fit_of_the_same_name_stays(tmp_path: Path) -> None:
    state = keep_state(tmp_path / "out")
    build_dataset(answer_all(plan_of(tmp_path)), round_trip=None)
    assert state.exists()


def documents_of(dataset: Dataset, *, synthetic: bool = True) -> dict[str, set[str]]:
    """Give the documents of each split's written (or real) queries."""
    return {
        name: relevant_documents(
            {q: labels for q, labels in qrels.items() if q.startswith("synthetic-") is synthetic}
        )
        for name, qrels in dataset.splits.items()
    }


# Splits


def test_no_document_is_in_two_splits(tmp_path: Path) -> None:
    build_dataset(answer_all(plan_of(tmp_path)), round_trip=None)
    found = documents_of(Dataset.load(tmp_path / "out"))
    assert found["train"] | found["dev"] | found["test"] == set(IDS)
    assert sum(map(len, found.values())) == N
    assert len(found["train"]) > len(found["dev"]) > 0


def test_real_test_queries_are_the_whole_test_split_and_unseen(tmp_path: Path) -> None:
    real = real_folder(tmp_path, {"test": REAL})
    build_dataset(answer_all(plan_of(tmp_path, real=real)), round_trip=None)
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.splits["test"] == REAL
    found = documents_of(dataset)
    assert found["test"] == set()
    assert found["dev"]  # nothing real to choose by
    assert (found["train"] | found["dev"]) == set(IDS) - {"d0", "d1", "d3", "d4"}


def test_real_splits_are_kept_and_alone_in_dev(tmp_path: Path) -> None:
    splits: dict[str, Qrels] = {
        "train": {"r0": REAL["r0"]},
        "dev": {"r1": REAL["r1"]},
        "test": {"r2": REAL["r2"]},
    }
    real = real_folder(tmp_path, splits)
    summary = build_dataset(answer_all(plan_of(tmp_path, real=real)), round_trip=None)
    dataset = Dataset.load(tmp_path / "out")
    assert (dataset.splits["dev"], dataset.splits["test"]) == (splits["dev"], splits["test"])
    assert dataset.splits["train"]["r0"] == REAL["r0"]
    assert documents_of(dataset)["train"] == set(IDS) - {"d1", "d3"}  # d2 is judged not relevant
    assert summary["splits"]["train"] == {"synthetic": 3 * (N - 2), "real": 1}


def test_real_queries_of_one_split_can_be_divided_or_all_tested(tmp_path: Path) -> None:
    many = {f"r{n}": {f"d{n}": 1.0} for n in range(30)}
    for name in ("train", "test"):
        real = real_folder(tmp_path / name, {name: many})
        assert plan_of(tmp_path, real=real).real.splits == {"test": many}  # type: ignore[union-attr]
        divided = plan_of(tmp_path, real=real, real_split="divide").real.splits  # type: ignore[union-attr]
        assert {**divided["train"], **divided["test"]} == many
        assert divided["test"]
    three = {"train": {"r0": REAL["r0"]}, "test": {"r2": REAL["r2"]}}
    real = real_folder(tmp_path / "both", three)
    tested = plan_of(tmp_path, real=real, real_split="test").real.splits  # type: ignore[union-attr]
    assert tested == {"test": {"r0": REAL["r0"], "r2": REAL["r2"]}}


def test_real_train_and_dev_queries_without_a_test_split_stay_where_they_are(
    tmp_path: Path,
) -> None:
    two: dict[str, Qrels] = {"train": {"r0": REAL["r0"]}, "dev": {"r2": REAL["r2"]}}
    real = real_folder(tmp_path, two)
    assert plan_of(tmp_path, real=real).real.splits == two  # type: ignore[union-attr]


def test_documents_of_real_tests_are_written_about_only_when_asked_for(tmp_path: Path) -> None:
    every = {f"r{n}": {f"d{n}": 1.0} for n in range(N)}
    real = real_folder(tmp_path, {"test": every})
    with pytest.raises(DataError, match="about every document; give --include-held-out"):
        plan_of(tmp_path, real=real)
    assert len(plan_of(tmp_path, real=real, include_held_out=True).doc_ids) == N


def test_twin_of_a_tested_document_is_held_out_too(tmp_path: Path) -> None:
    texts = [*TEXTS[:4], TEXTS[0]]
    real = write_dataset(
        tmp_path / "real", documents=IDS[:5], queries=["r0"], splits={"test": {"r0": {"d4": 1.0}}}
    )
    assert set(plan_of(tmp_path, texts, real=real).doc_ids) == {"d1", "d2", "d3"}


def test_real_lines_are_copied_as_they_are(tmp_path: Path) -> None:
    real = real_folder(tmp_path, {"test": {"r0": REAL["r0"]}})
    line = '{"text": "caf\\u00e9", "_id": "r0", "more": [1, 2.50]}'
    (real / "queries.jsonl").write_text(f'{line}\n{{"_id": "r9", "text": "no label"}}\n')
    build_dataset(answer_all(plan_of(tmp_path, real=real)), round_trip=None)
    lines = (tmp_path / "out" / "queries.jsonl").read_text().splitlines()
    assert lines[0] == line
    assert not any('"r9"' in one for one in lines)


def test_what_repeats_a_real_query_is_dropped(tmp_path: Path) -> None:
    real = real_folder(tmp_path, {"test": {"r0": REAL["r0"]}}, r0="where is the harbour")
    plan = answer_all(plan_of(tmp_path, real=real), {"d9": ["Where is the harbour?"]})
    assert build_dataset(plan, round_trip=None)["queries"]["dropped"]["same as a real query"] == 1


def test_what_repeats_a_shown_example_is_dropped(tmp_path: Path) -> None:
    writing = replace(WRITING, examples=(Example("opening hours today"),))
    plan = answer_all(plan_of(tmp_path, writing=writing), {"d9": ["Opening hours today"]})
    assert build_dataset(plan, round_trip=None)["queries"]["dropped"]["same as an example"] == 1


def test_written_queries_of_an_earlier_dataset_are_not_real(tmp_path: Path) -> None:
    build_dataset(answer_all(plan_of(tmp_path)), round_trip=None)
    with pytest.raises(DataError, match="no labelled real queries"):
        plan_of(tmp_path, real=tmp_path / "out", output=tmp_path / "second")


def test_labels_of_another_corpus_are_refused(tmp_path: Path) -> None:
    splits = {"test": {"q1": {"x": 1.0}}}
    real = write_dataset(tmp_path / "real", documents=["x"], queries=["q1"], splits=splits)
    with pytest.raises(DataError, match=r"'x'.*not in the corpus.*same corpus"):
        plan_of(tmp_path, real=real)


def test_real_labels_without_a_text_are_refused(tmp_path: Path) -> None:
    real = write_dataset(tmp_path / "real", queries=["q1"], splits={"test": {"q2": {"d0": 1.0}}})
    with pytest.raises(DataError, match=r"'q2'.* labelled queries are not in .*queries\.jsonl"):
        plan_of(tmp_path, real=real)


# The round trip


def table_of(ids: list[str]) -> VectorTable:
    return VectorTable(ids, np.eye(len(ids), dtype=np.float32), "documents")


def trip_of(places: dict[str, list[float]], top_k: int = 2) -> RoundTrip:
    """Make a round trip in which each query has the given scores with the documents."""
    encoder = CountingEncoder(answer=lambda texts: np.array([places[one] for one in texts]))
    return RoundTrip(table_of(["d0", "d1", "d2", "d3"]), encoder.encoder(), top_k, "dot")


def test_query_must_find_its_document_and_what_it_finds_instead_is_noted(tmp_path: Path) -> None:
    places = {
        "finds it first": [9, 1, 2, 3],
        "finds it second": [8, 9, 1, 2],
        "does not find it": [1, 9, 8, 7],
    }
    plan = plan_of(tmp_path, TEXTS[:1])
    answer_all(plan, {"d0": list(places)})
    summary = build_dataset(plan, round_trip=trip_of(places))
    assert summary["queries"]["kept"] == 2
    assert summary["queries"]["dropped"]["does not find its document"] == 1
    assert summary["queries"]["round_trip"]["found_first"] == 1
    report = tmp_path / "out" / "synthesis"
    (dropped,) = map(json.loads, (report / "dropped.jsonl").read_text().splitlines())
    assert (dropped["text"], dropped["instead"]) == ("does not find it", ["d1", "d2"])
    _, *rows = (report / "possible_false_negatives.tsv").read_text().splitlines()
    (row,) = [row.split("\t") for row in rows]
    assert row[1:] == ["d1", "1", "9.000000"]


def test_twin_of_the_document_will_do(tmp_path: Path) -> None:
    plan = answer_all(plan_of(tmp_path, [TEXTS[0], TEXTS[1], TEXTS[0]]), {"d1": ["a", "b", "c"]})
    written = queries_about(TEXTS[0], 3)
    places = {one: [0.0, 5, 9, 8] for one in written} | {one: [0.0, 9, 1, 2] for one in "abc"}
    summary = build_dataset(plan, round_trip=trip_of(places, top_k=1))
    assert summary["queries"]["round_trip"]["found_first"] == 6


def test_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    plan = answer_all(plan_of(tmp_path, TEXTS[:1]))
    trip = RoundTrip(table_of(["d0", "d1"]), CountingEncoder().encoder(), 2, "cosine")
    with pytest.raises(DataError, match=r"gives 4 values, .* have 2; check --encoder"):
        build_dataset(plan, round_trip=trip)


def test_query_vectors_are_paid_for_once(tmp_path: Path) -> None:
    counting = CountingEncoder()
    table = VectorTable(IDS, np.tile(np.eye(4, dtype=np.float32), (15, 1)), "documents")
    for top_k in (60, 59):
        plan = answer_all(plan_of(tmp_path))
        build_dataset(plan, round_trip=RoundTrip(table, counting.encoder(), top_k, "cosine"))
    assert len(counting.asked) == len(set(counting.asked)) == 3 * N


# Places


def test_dataset_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    for budget in (5, 7):
        build_dataset(answer_all(plan_of(tmp_path, budget=budget)), round_trip=None)
    summary = json.loads((tmp_path / "out" / "synthesis" / "summary.json").read_text())
    assert summary["documents"]["drawn"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "kept", "out"]


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="no dataset of 'trimtab synthesize'; name another folder"):
        plan_of(tmp_path)
    (tmp_path / "out").rmdir()
    build_dataset(answer_all(plan_of(tmp_path)), round_trip=None)
    (tmp_path / "out" / "embeddings").mkdir()
    with pytest.raises(DataError, match="holds embeddings, which would be lost"):
        plan_of(tmp_path)


@pytest.mark.parametrize("output", ["set", "set/corpus.jsonl", "."])
def test_source_is_never_the_target(tmp_path: Path, output: str) -> None:
    folder = write_dataset(tmp_path / "set", documents=["d0"])
    with pytest.raises(DataError, match=r"would replace .*set, which is read"):
        plan_of(tmp_path / "x", source=folder, output=tmp_path / output)


def test_all_queries_dropped_leaves_no_dataset_and_says_why(tmp_path: Path) -> None:
    plan = answer_all(plan_of(tmp_path, TEXTS[:1]), {"d0": [TEXTS[0]]})
    with pytest.raises(DataError, match=r"no query is left of 1: .*'copy of the text' \(1\)"):
        build_dataset(plan, round_trip=None)
    assert not (tmp_path / "out").exists()


# The corpus


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no documents"),
        ("no json\n", r"corpus\.jsonl:1: not JSON"),
        ('{"_id": 1}\n', "expected a JSON object with a text '_id'"),
        ('{"_id": "a", "text": 7}\n', "'text' is 7, expected a text"),
        ('{"_id": "a"}\n{"_id": "a"}\n', r"1 \('a'\) ids stand more than once"),
    ],
)
def test_broken_corpus_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "corpus.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        Corpus.open(tmp_path)


def test_corpus_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no corpus at .*expected a BEIR folder, or JSON Lines"):
        Corpus.open(tmp_path / "nothing")


def test_documents_are_read_by_place_whatever_the_line_ends(tmp_path: Path) -> None:
    content = '\ufeff{"_id": "a", "title": "T", "text": "é"}\r\n\r\n{"_id": "b", "text": null}\n'
    (tmp_path / "c.jsonl").write_bytes(content.encode())
    corpus = Corpus.open(tmp_path / "c.jsonl")
    assert (corpus.read("a").text, corpus.read("b").text) == ("T é", "")
    assert (corpus.candidates(), corpus.n_empty) == (["a"], 1)


def test_corpus_without_usable_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can be written for: 2 without text"):
        plan_of(tmp_path, ["", "..."])


def test_documents_without_a_vector_are_left_out(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:4])
    job = Job(corpus, tmp_path / "out", tmp_path / "kept", WRITING)
    plan = make_plan(job, table_of(["d0", "d2", "stranger"]))
    assert sorted(plan.doc_ids) == ["d0", "d2"]
    assert (plan.sampling, plan.left_out) == ("clustered", {"without a stored vector": 2})
