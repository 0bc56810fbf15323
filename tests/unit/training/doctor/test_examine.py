"""The doctor: what it finds, how bad it calls it, and what it works out."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.sets import Labels, write_dataset, write_embeddings
from tests.support.worlds import World, make_world
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.importers.texts import question_key
from trimtab_training.doctor import Diagnosis, Finding, examine
from trimtab_training.doctor.finding import by_importance
from trimtab_training.doctor.labels import SETS_WITH_A_GAIN
from trimtab_training.doctor.power import power_of, spread_of_differences
from trimtab_training.doctor.texts import estimate_tokens
from trimtab_training.errors import DataError


def queries(n: int, prefix: str) -> dict[str, str]:
    return {f"{prefix}{number}": f"question {prefix}{number}" for number in range(n)}


def labels(names: Mapping[str, str], start: int = 0) -> dict[str, dict[str, float]]:
    return {name: {f"d{start + number}": 1.0} for number, name in enumerate(names)}


def healthy(**changes: Any) -> dict[str, Any]:
    """Give a set without a fault, or with one."""
    train, test = queries(300, "a"), queries(100, "b")
    asked = {**train, **test, **changes.pop("queries", {})}
    splits: dict[str, Labels] = {"train": labels(train), "test": labels(test, 300)}
    for name, more in changes.pop("splits", {}).items():
        splits[name] = {**splits.get(name, {}), **more}
    documents = {f"d{n}": f"document {n}" for n in range(420)} | changes.pop("documents", {})
    assert not changes
    return {"queries": asked, "documents": documents, "splits": splits}


def examined(tmp_path: Path, **changes: Any) -> tuple[Diagnosis, dict[str, Finding]]:
    found = examine(write_dataset(tmp_path / "set", **healthy(**changes)))
    return found, {one.code: one for one in found.findings}


def test_healthy_set_is_usable(tmp_path: Path) -> None:
    found, by_code = examined(tmp_path)
    assert found.is_usable
    assert set(by_code) == {"few_test_queries", "few_training_queries"}
    assert found.counts["splits"]["test"] == {
        "queries": 100, "labels": 100, "relevant": 100, "documents": 100,
    }  # fmt: skip
    assert found.counts["test_queries_about_unseen_documents"] == 100


def test_encoder_card_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    card = world.vectors / "encoder.json"
    before = [one.code for one in examine(world.folder, world.vectors).findings]
    card.write_bytes(b"\xef\xbb\xbf" + card.read_bytes())
    assert [one.code for one in examine(world.folder, world.vectors).findings] == before


def test_file_beside_the_labels_that_is_not_read_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", **healthy())
    (folder / "qrels" / "more.tsv").write_bytes(b"")
    (finding,) = [one for one in examine(folder).findings if one.code == "unread_labels"]
    assert finding.severity == "note"
    assert finding.message.startswith("qrels/more.tsv is not read")


def test_query_of_two_splits_is_an_error_that_a_fit_refuses_too(tmp_path: Path) -> None:
    found, by_code = examined(tmp_path, splits={"test": {"a7": {"d7": 1.0}}})
    assert not found.is_usable
    assert by_code["shared_query_ids"].examples == ["a7"]


@pytest.mark.parametrize(("n_leaked", "severity"), [(1, "warning"), (3, "error")])
def test_leaked_text_is_an_error_once_it_can_make_the_difference_that_matters(
    tmp_path: Path, n_leaked: int, severity: str
) -> None:
    leaked = {f"b{n}": f"QUESTION  a{n}?" for n in range(n_leaked)}
    found, by_code = examined(tmp_path, queries=leaked)
    assert by_code["shared_query_texts"].severity == severity
    assert by_code["shared_query_texts"].count == n_leaked
    assert found.is_usable == (severity == "warning")


def test_duplicate_queries_are_told_by_whether_their_labels_agree(tmp_path: Path) -> None:
    _, by_code = examined(tmp_path, queries={"a1": "question a0"})
    assert by_code["duplicate_queries"].severity == "warning"
    assert "2 of them with other relevant documents" in by_code["duplicate_queries"].message
    agreeing = {"train": {"a1": {"d0": 1.0}}}
    _, by_code = examined(tmp_path, queries={"a1": "question a0"}, splits=agreeing)
    assert by_code["duplicate_queries"].severity == "note"


def test_labels_of_what_is_not_there_are_errors(tmp_path: Path) -> None:
    more = {"train": {"ghost": {"d1": 1.0}, "a0": {"nowhere": 0.0, "d0": 1.0}}}
    found, by_code = examined(tmp_path, splits=more)
    assert by_code["missing_queries"].examples == ["ghost"]
    assert by_code["missing_documents"].examples == ["nowhere"]
    assert not found.is_usable


def test_queries_that_nothing_answers_are_told_apart_by_split(tmp_path: Path) -> None:
    _, by_code = examined(tmp_path, splits={"test": {"b0": {"d1": 0.0}}})
    assert by_code["hopeless_queries"].severity == "warning"
    _, by_code = examined(tmp_path, splits={"train": {"a0": {"d1": -1.0}}})
    assert by_code["hopeless_queries"].severity == "note"
    _, by_code = examined(tmp_path, splits={"dev": {"c": {"d1": 0.0}}}, queries={"c": "c"})
    assert by_code["no_relevant_documents"].severity == "error"


def test_figures_of_the_test_split_are_of_the_queries_that_something_answers(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path / "world")
    test = list(world.dataset.split("test").items())
    place = world.folder / "qrels" / "test.tsv"

    def write(n_answered: int, n_queries: int) -> Diagnosis:
        lines = [
            f"{query}\t{document}\t{int(number < n_answered)}\n"
            for number, (query, labels) in enumerate(test[:n_queries])
            for document in labels
        ]
        place.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
        return examine(world.folder, world.vectors)

    found, alone = write(25, 40), write(25, 25)
    assert found.base == alone.base
    assert found.power == alone.power
    assert found.power is not None
    assert found.power.n_queries == 25
    for name in ("seen", "unseen"):
        key = f"test_queries_about_{name}_documents"
        assert found.counts[key] == alone.counts[key]
    none = write(0, 40)
    assert (none.base, none.power) == (None, None)


def test_texts_that_say_nothing_or_the_same_are_found(tmp_path: Path) -> None:
    _, by_code = examined(
        tmp_path,
        queries={"a0": " ", "unasked": "what?"},
        documents={"d1": "", "d2": "Document 3", "d419": "word " * 900},
    )
    assert by_code["empty_queries"].examples == ["a0"]
    assert by_code["empty_relevant_documents"].examples == ["d1"]
    assert by_code["duplicate_documents"].examples == ["d2", "d3"]
    assert by_code["long_documents"].severity == "note"
    assert by_code["unlabelled_queries"].examples == ["unasked"]


@pytest.mark.parametrize(
    ("n", "warned"),
    [
        (60, "with 50 fits found a gain on 2 of five sets (1 of them always), with 100"),
        (200, "with 100 fits found a gain on 3 of five sets (1 of them always), with 250"),
    ],
)
def test_few_training_queries_are_told_what_others_gave(
    tmp_path: Path, n: int, warned: str
) -> None:
    train, test = queries(n, "a"), queries(50, "b")
    splits = {"train": labels(train), "test": labels(test, n)}
    documents = {f"d{number}": f"text {number}" for number in range(n + 50)}
    folder = write_dataset(
        tmp_path / "set", queries={**train, **test}, documents=documents, splits=splits
    )
    by_code = {one.code: one for one in examine(folder).findings}
    assert by_code["few_training_queries"].severity == "warning"
    assert warned in by_code["few_training_queries"].message


@pytest.mark.parametrize("n_queries", SETS_WITH_A_GAIN)
def test_what_others_gave_is_what_was_measured(n_queries: int) -> None:
    results = Path(__file__).parents[4] / "benchmarks" / "labels" / "results.json"
    sets = json.loads(results.read_text())["sets"].values()
    fits = [each[str(n_queries)] for each in sets]
    shipped = [(each["default"]["shipped"], each["draws"]) for each in fits]
    counts = sum(n > 0 for n, _ in shipped), sum(n == of for n, of in shipped)
    assert (len(shipped), counts) == (5, SETS_WITH_A_GAIN[n_queries])


def test_missing_test_split_is_made_as_a_fit_makes_it(tmp_path: Path) -> None:
    train = queries(300, "a")
    folder = write_dataset(
        tmp_path / "set", queries=train, splits={"train": labels(train)},
        documents=[f"d{n}" for n in range(300)],
    )  # fmt: skip
    found = examine(folder)
    assert found.is_usable
    assert "made_test_split" in {one.code for one in found.findings}
    assert (
        found.counts["splits"]["test"]["queries"] + found.counts["splits"]["train"]["queries"]
        == 300
    )


def test_made_test_split_that_is_no_fifth_is_warned_of(tmp_path: Path) -> None:
    train = queries(300, "a")
    alike = labels(train) | {key: {"d0": 1.0} for key in islice(train, 290)}
    folder = write_dataset(
        tmp_path / "set", queries=train, splits={"train": alike},
        documents=[f"d{n}" for n in range(300)],
    )  # fmt: skip
    told = {one.code: one for one in examine(folder).findings}
    assert "made_test_split" not in told
    assert "10 of the 300 queries are taken, which is no fifth" in told["odd_test_split"].message


def test_test_split_without_a_train_split_is_counted_whole(tmp_path: Path) -> None:
    test = queries(300, "a")
    folder = write_dataset(
        tmp_path / "set", queries=test, splits={"test": labels(test)},
        documents=[f"d{n}" for n in range(300)],
    )  # fmt: skip
    found = examine(folder)
    told = {one.code: one for one in found.findings}
    assert found.is_usable
    assert {split: each["queries"] for split, each in found.counts["splits"].items()} == {
        "test": 300
    }
    assert "made_test_split" not in told
    n_train = len(Dataset.load(folder).for_fit().split("train"))
    assert f"a fit would train on {n_train} of the test" in told["made_train_split"].message
    assert told["few_training_queries"].count == n_train


def test_set_that_cant_be_split_is_an_error(tmp_path: Path) -> None:
    folder = write_dataset(
        tmp_path / "set", queries=["q0"], documents=["d0"], splits={"train": {"q0": {"d0": 1}}}
    )
    found = examine(folder)
    assert found.findings[0].code == "no_test_split"
    assert not found.is_usable


def test_texts_may_be_missing_where_there_are_vectors(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", **healthy())
    (folder / "queries.jsonl").unlink()
    (folder / "corpus.jsonl").rename(folder / "corpus.jsonl.gz")
    found = {one.code: one for one in examine(folder).findings}
    severities = {code: one.severity for code, one in found.items()}
    assert (severities["no_queries"], severities["no_corpus"]) == ("error", "warning")
    assert "no corpus.jsonl, but corpus.jsonl.gz is there; unpack" in found["no_corpus"].message
    assert found["no_queries"].message == "there is no queries.jsonl"


@pytest.mark.parametrize("place", ["none", "empty"])
def test_what_is_no_dataset_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected"):
        examine(tmp_path / place)


def test_errors_come_first() -> None:
    given = [Finding(str(n), severity, "") for n, severity in enumerate(
        ["note", "warning", "error", "note", "error"])]  # fmt: skip
    assert [one.code for one in by_importance(given)] == ["2", "4", "1", "0", "3"]


# Vectors


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs", n_documents=400)


def diagnosed(world: World, vectors: Path) -> tuple[Diagnosis, dict[str, Finding]]:
    found = examine(world.folder, vectors)
    return found, {one.code: one for one in found.findings}


def rewritten(world: World, folder: Path, **changes: Any) -> Path:
    """Write the world's vectors again, changed."""
    given = world.embeddings
    values: dict[str, Any] = {
        "documents": np.array(given.documents.matrix), "queries": np.array(given.queries.matrix),
        "document_ids": given.documents.ids, "query_ids": given.queries.ids,
        "dim": given.queries.dim,
    }  # fmt: skip
    return write_embeddings(folder, **{**values, **changes})


def test_base_score_is_that_of_an_evaluation(world: World) -> None:
    from trimtab_training.retrieval.exact_search import search
    from trimtab_training.retrieval.metrics import measure

    found, _ = diagnosed(world, world.vectors)
    test, vectors = world.dataset.split("test"), world.embeddings
    rows, _ = search(
        vectors.queries.take_ids(list(test)), vectors.documents, depth=100, similarity="cosine"
    )
    wanted = [{vectors.documents.rows[doc]: grade for doc, grade in one.items() if grade > 0}
              for one in test.values()]  # fmt: skip
    scores = measure(rows, wanted)["ndcg@10"]
    assert found.base is not None
    assert found.base.ndcg == pytest.approx(scores.mean())
    assert found.base.low < found.base.ndcg < found.base.high
    assert found.base.spread == pytest.approx(scores.std())
    assert found.power is not None
    assert found.power.spread == pytest.approx(spread_of_differences(scores.std()))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (np.nan, "non_finite_documents"),
        (0.0, "zero_documents"),
        (1e20, "too_long_documents"),
    ],
)
def test_broken_vectors_are_errors_with_their_ids(
    tmp_path: Path, world: World, value: float, code: str
) -> None:
    documents = np.array(world.embeddings.documents.matrix)
    documents[5] = value
    found, by_code = diagnosed(world, rewritten(world, tmp_path / "v", documents=documents))
    assert by_code[code].examples == [world.embeddings.documents.ids[5]]
    assert not found.is_usable


def test_labels_without_vectors_are_an_error(tmp_path: Path, world: World) -> None:
    given = world.embeddings.queries
    vectors = rewritten(
        world, tmp_path / "v", queries=np.array(given.matrix)[3:], query_ids=given.ids[3:]
    )
    found, by_code = diagnosed(world, vectors)
    assert by_code["missing_queries"].severity == "error"
    assert by_code["missing_queries"].examples == sorted(given.ids[:3])
    assert found.base is None


def test_shuffled_rows_look_like_chance(tmp_path: Path, world: World) -> None:
    ids = list(world.embeddings.documents.ids)
    np.random.default_rng(0).shuffle(ids)
    found, by_code = diagnosed(world, rewritten(world, tmp_path / "v", document_ids=ids))
    assert by_code["base_near_chance"].severity == "error"
    assert not found.is_usable


def test_twins_and_lengths_of_vectors_are_notes(tmp_path: Path, world: World) -> None:
    documents = 2 * np.array(world.embeddings.documents.matrix)
    documents[7] = documents[8]
    _, by_code = diagnosed(world, rewritten(world, tmp_path / "v", documents=documents))
    assert by_code["duplicate_vectors_documents"].count == 2
    assert by_code["non_unit_documents"].count == len(documents)


def test_widths_that_differ_leave_no_base(tmp_path: Path, world: World) -> None:
    wide = np.pad(np.array(world.embeddings.queries.matrix), ((0, 0), (0, 4)))
    vectors = rewritten(world, tmp_path / "v", queries=wide, dim=wide.shape[1])
    found, by_code = diagnosed(world, vectors)
    assert found.base is None
    assert by_code["dims_differ"].severity == "warning"


@pytest.mark.parametrize(
    ("name", "prefix", "is_found"),
    [
        ("intfloat/e5-base-v2", "", True),
        ("intfloat/multilingual-e5-small", "", True),
        ("BAAI/bge-small-en-v1.5", "", True),
        ("e5-base", "query: ", False),
        ("all-MiniLM-L6-v2", "", False),
        ("code5-model", "", False),
    ],
)
def test_encoder_without_the_prefix_it_wants_is_found(
    tmp_path: Path, world: World, name: str, prefix: str, is_found: bool
) -> None:
    vectors = rewritten(world, tmp_path / "v", name=name, query_prefix=prefix)
    _, by_code = diagnosed(world, vectors)
    assert ("missing_query_prefix" in by_code) == is_found


def test_one_text_with_two_vectors_tells_two_encoders(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", **healthy(documents={"d0": "question a0"}))
    rng = np.random.default_rng(0)
    ids = [*queries(300, "a"), *queries(100, "b")]
    vectors = write_embeddings(
        tmp_path / "v", documents=rng.standard_normal((420, 4)).astype(np.float32),
        queries=rng.standard_normal((400, 4)).astype(np.float32), query_ids=ids,
    )  # fmt: skip
    codes = {one.code for one in examine(folder, vectors).findings}
    assert "encoders_differ" in codes


# Power


def test_detectable_difference_is_found_in_four_of_five_splits() -> None:
    """Drawn splits with a true difference of that size, tested as the formula assumes."""
    n_queries, spread = 400, 0.22
    power = power_of(n_queries, spread, "known", 0.01)
    rng = np.random.default_rng(0)
    drawn = rng.normal(power.detectable, spread, size=(4_000, n_queries))
    z = drawn.mean(axis=1) / (drawn.std(axis=1) / np.sqrt(n_queries))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.02)


def test_queries_needed_are_those_that_detect_the_difference() -> None:
    needed = power_of(100, 0.22, "known", 0.01).n_needed
    assert power_of(needed, 0.22, "known", 0.01).detectable <= 0.01
    assert power_of(needed - 1, 0.22, "known", 0.01).detectable > 0.01


def test_spread_can_be_read_from_a_model(tmp_path: Path, world: World) -> None:
    (tmp_path / "m").mkdir()
    record = {"n_queries": 400, "metrics": {"ndcg@10": {"ci95": [-0.0196, 0.0196]}}}
    (tmp_path / "m" / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    found = examine(world.folder, model=tmp_path / "m")
    assert found.power is not None
    assert found.power.spread == pytest.approx(0.2, abs=1e-3)
    with pytest.raises(DataError, match=r"can't read an evaluation from .*evaluation\.json"):
        examine(world.folder, model=tmp_path)


# Texts


def test_questions_are_the_same_whatever_their_case_and_marks() -> None:
    assert (
        len(
            {
                question_key(text)
                for text in ("Money back?", " money  BACK", "“money back”".strip("“”"))
            }
        )
        == 1
    )
    assert question_key("money") != question_key("money back")


def test_tokens_are_estimated_with_and_without_blanks() -> None:
    assert estimate_tokens("one two three four five six seven eight nine ten") == 13
    assert estimate_tokens("文" * 100) == 50
    assert estimate_tokens("") == 0


def test_splits_too_small_to_judge_are_named(tmp_path: Path) -> None:
    names = [f"q{n}" for n in range(700)]
    every: Labels = {name: {f"d{n}": 1.0} for n, name in enumerate(names)}
    documents = [f"document {n}" for n in range(700)]

    def found(n_dev: int, n_test: int) -> dict[str, Finding]:
        kept = iter(names)
        splits = {
            split: {name: every[name] for name in islice(kept, count)}
            for split, count in (("dev", n_dev), ("test", n_test), ("train", 400))
        }
        folder = tmp_path / f"{n_dev}-{n_test}"
        write_dataset(
            folder, queries={name: f"what is {name}" for name in names},
            documents={f"d{n}": text for n, text in enumerate(documents)}, splits=splits,
        )  # fmt: skip
        return {one.code: one for one in examine(folder).findings}

    small = found(99, 30)
    assert small["few_dev_queries"].count == 99
    assert "join the cross-fit and do not judge alone" in small["few_dev_queries"].message
    assert "30 test queries prove nothing" in small["few_test_queries"].message
    larger = found(100, 200)
    assert "few_dev_queries" not in larger
    assert "prove nothing" not in larger["few_test_queries"].message
