"""Labels, groups, splits and ids: true of any of them."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sets import write_qrels
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.folds import make_folds
from trimtab_training.data.qrels import Qrels, load_qrels, relevant, relevant_documents
from trimtab_training.data.splits import group_by_document, has_seen_document, split_qrels
from trimtab_training.embeddings.store import read_ids, write_ids
from trimtab_training.errors import DataError

ANY = settings(max_examples=80, deadline=None, derandomize=True)
FEW = st.integers(0, 12).map(str)
GRADES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0])


def labels(*, min_queries: int = 1) -> st.SearchStrategy[Qrels]:
    """Few documents, so that queries often share them."""
    of_query = st.dictionaries(FEW.map("d{}".format), GRADES, min_size=1, max_size=3)
    queries = st.integers(0, 60).map("q{}".format)
    return st.dictionaries(queries, of_query, min_size=min_queries, max_size=25)


def shuffled(qrels: Qrels, draw: st.DataObject) -> Qrels:
    return {query: qrels[query] for query in draw.draw(st.permutations(list(qrels)))}


def components(qrels: Qrels) -> set[frozenset[str]]:
    """Join queries that share a relevant document until nothing more can be joined."""
    parts = [({query}, set(relevant(grades))) for query, grades in qrels.items()]
    joined = True
    while joined:
        joined = False
        for one in parts:
            for other in parts:
                if one is not other and one[1] & other[1]:
                    one[0].update(other[0])
                    one[1].update(other[1])
                    parts.remove(other)
                    joined = True
                    break
            if joined:
                break
    return {frozenset(queries) for queries, _ in parts}


def members(groups: dict[str, str]) -> Iterable[frozenset[str]]:
    for name in set(groups.values()):
        yield frozenset(query for query, group in groups.items() if group == name)


@ANY
@given(labels())
def test_groups_are_the_connected_components(qrels: Qrels) -> None:
    groups = group_by_document(qrels)
    assert list(groups) == list(qrels)
    assert set(members(groups)) == components(qrels)


@ANY
@given(labels())
def test_group_is_named_by_its_least_query(qrels: Qrels) -> None:
    for query, name in group_by_document(qrels).items():
        assert name == min(next(part for part in components(qrels) if query in part))


@ANY
@given(labels(), st.data())
def test_groups_do_not_depend_on_order(qrels: Qrels, data: st.DataObject) -> None:
    assert group_by_document(shuffled(qrels, data)) == group_by_document(qrels)


@ANY
@given(labels(), st.sampled_from(["query", "document"]), st.floats(0.1, 0.9), st.data())
def test_made_splits_part_the_labels_whatever_their_order(
    qrels: Qrels, by: str, share: float, data: st.DataObject
) -> None:
    try:
        made = split_qrels(qrels, by=by, test_share=share)
    except DataError:
        return
    assert {**made["train"], **made["test"]} == qrels
    assert len(made["train"]) + len(made["test"]) == len(qrels)
    assert made == split_qrels(shuffled(qrels, data), by=by, test_share=share)
    if by == "document":
        assert not relevant_documents(made["train"]) & relevant_documents(made["test"])
        assert not has_seen_document(made["test"], made["train"]).any()


@ANY
@given(labels(min_queries=2), st.integers(2, 6), st.floats(0, 1), st.integers(0, 5))
def test_folds_hold_each_query_out_once(
    qrels: Qrels, n_folds: int, share: float, seed: int
) -> None:
    folds = make_folds(qrels, n_folds=n_folds, unlabelled_share=share, seed=seed)
    held_out = [query for fold in folds for query in fold.held_out]
    assert sorted(held_out) == sorted(qrels)
    assert len(folds) <= n_folds
    for fold in folds:
        assert fold.held_out
        assert {**fold.train, **fold.held_out} == qrels
        assert len(fold.train) + len(fold.held_out) == len(qrels)


@ANY
@given(labels(min_queries=2), st.integers(2, 6), st.integers(0, 5))
def test_folds_of_an_index_full_of_labels_differ_by_one_query_at_most(
    qrels: Qrels, n_folds: int, seed: int
) -> None:
    folds = make_folds(qrels, n_folds=n_folds, unlabelled_share=0.0, seed=seed)
    sizes = [len(fold.held_out) for fold in folds]
    assert len(folds) == min(n_folds, len(qrels))
    assert max(sizes) - min(sizes) <= 1


# Files

ID = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=8)
COLUMN = st.text("abc019:_-/ é\u4e2d", min_size=1, max_size=6).filter(lambda x: x == x.strip())


@ANY
@given(
    st.dictionaries(COLUMN, st.dictionaries(COLUMN, GRADES, min_size=1, max_size=3), min_size=1),
    st.booleans(),
)
def test_labels_written_are_labels_read(qrels: Qrels, backwards: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_qrels(Path(folder) / "train.tsv", qrels, backwards=backwards)
        assert load_qrels(path) == qrels


@ANY
@given(labels(), st.data())
def test_content_hash_does_not_depend_on_order(qrels: Qrels, data: st.DataObject) -> None:
    one = Dataset("a", Path("a"), {"train": qrels})
    two = Dataset("b", Path("b"), {"train": shuffled(qrels, data)})
    assert one.content_hash() == two.content_hash()


@ANY
@given(st.lists(ID, min_size=1, max_size=12, unique=True))
def test_ids_written_are_ids_read(ids: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_ids(Path(folder) / "ids.txt", ids)
        assert read_ids(Path(folder) / "ids.txt") == ids
