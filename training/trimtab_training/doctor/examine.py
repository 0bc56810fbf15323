"""All checks of a dataset, and of its vectors where they are given, in the order of importance."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trimtab.parsing import read_json
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.plain_text import packed_beside
from trimtab_training.data.qrels import (
    SPLITS,
    Qrels,
    answered,
    load_splits,
    relevant_documents,
    unread_files,
)
from trimtab_training.data.splits import has_seen_document, is_near_share, split_qrels
from trimtab_training.doctor.finding import Finding, by_importance
from trimtab_training.doctor.labels import (
    check_dev_size,
    check_duplicates,
    check_leaks,
    check_references,
    check_relevance,
    check_training_size,
)
from trimtab_training.doctor.power import (
    ASSUMED_BASE_SPREAD,
    Power,
    power_of,
    spread_of_differences,
)
from trimtab_training.doctor.texts import TextFacts, check_texts
from trimtab_training.doctor.vectors import (
    BaseScore,
    check_base,
    check_encoder,
    check_matrix,
    check_same_texts,
    score_base,
)
from trimtab_training.embeddings.store import Embeddings, EncoderInfo, read_ids
from trimtab_training.errors import DataError
from trimtab_training.model_files import EVALUATION

Stage = Callable[[str], None]
"""Called with what is looked at next."""

_NEAR_PERFECT = 0.95
_LARGE_GAIN = 0.1  # in nDCG@10; a test that misses even this one proves nothing
_Z = 1.959964


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a dataset.

    Attributes:
        dataset: Its name.
        counts: Documents, queries, labels by split, and test queries with a relevant document by
            whether one of theirs was seen in training.
        findings: What was found, the most important first.
        power: What the test split can tell, or None where none of its queries has an answer.
        base: How raw queries do, or None without usable vectors.
    """

    dataset: str
    counts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    power: Power | None = None
    base: BaseScore | None = None

    @property
    def is_usable(self) -> bool:
        """True where nothing makes a fit impossible or its figures dishonest."""
        return all(finding.severity != "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return {
            "dataset": self.dataset,
            "usable": self.is_usable,
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "power": self.power.as_dict() if self.power else None,
            "base": asdict(self.base) if self.base else None,
        }


def examine(
    folder: Path,
    embeddings: Path | None = None,
    *,
    model: Path | None = None,
    difference: float = 0.01,
    similarity: str = "cosine",
    on_stage: Stage = lambda _what: None,
) -> Diagnosis:
    """Examine a dataset, and its vectors where they are given.

    Args:
        folder: A BEIR folder.
        embeddings: Its embeddings folder.
        model: A model folder whose evaluation tells how far differences spread.
        difference: Difference in nDCG@10 that matters, above 0.
        similarity: How the index compares vectors: ``cosine``, ``dot`` or ``euclid``.
        on_stage: Told what is looked at next.

    Raises:
        DataError: A file is missing or malformed, with the line.
    """
    if not folder.is_dir():
        raise DataError(f"no dataset folder at {folder}; expected a BEIR folder with qrels/")
    on_stage("labels")
    splits, fitted, findings = _load(folder)
    dataset = Dataset(folder.resolve().name, folder, splits)
    on_stage("texts")
    queries, documents, missing = _read_texts(dataset, has_vectors=embeddings is not None)
    encoder = EncoderInfo.load(embeddings / "encoder.json") if embeddings else None
    findings += check_leaks(splits, queries, difference) + missing
    findings += check_relevance(splits)
    findings += check_references(
        splits,
        queries.keys or None,
        documents.keys or None,
        "corpus.jsonl or queries.jsonl",
        "warning" if embeddings else "error",
    )
    base = None
    if embeddings and encoder:
        on_stage("vectors")
        found, base = _examine_vectors(
            embeddings, encoder, dataset, (queries, documents), similarity
        )
        findings += found
    wanted = {doc for qrels in splits.values() for doc in relevant_documents(qrels)}
    limit = encoder.max_tokens if encoder else None
    train, test = splits.get("train", {}), answered(splits.get("test", {}))
    power = _power(test, base, model, difference) if test else None
    findings += _check_power(power) + check_training_size(fitted.get("train", {}))
    findings += check_dev_size(splits.get("dev", {}))
    findings += check_duplicates(splits, queries)
    findings += check_texts(queries, documents, wanted, limit)
    findings += _check_unseen(train, test)
    counts = _count(splits, queries, documents)
    return Diagnosis(dataset.name, counts, by_importance(findings), power, base)


def _load(folder: Path) -> tuple[dict[str, Qrels], dict[str, Qrels], list[Finding]]:
    """Read the labels; a test split is made where there is none.

    Returns:
        The labels as they are measured on, and as a fit would have them: it divides a test split
        that stands alone.
    """
    splits = load_splits(folder / "qrels")
    unread = [
        Finding(
            "unread_labels",
            "note",
            f"qrels/{path.name} is not read: only files called train, dev or test are",
            "name it by its split, join it to one, or move it away",
        )
        for path in unread_files(folder / "qrels")
    ]
    if "train" in splits and "test" in splits:
        return splits, splits, unread
    lacking, given = ("test", "train") if "train" in splits else ("train", "test")
    try:
        made = split_qrels(splits[given], by="document")
    except DataError as error:
        missing = Finding(f"no_{lacking}_split", "error", f"no {lacking} split: {error}")
        return splits, splits, [*unread, missing]
    fitted = {**splits, **made}
    if lacking == "train":
        note = Finding(
            "made_train_split",
            "note",
            f"no train split: a fit would train on {len(made['train']):,} of the test queries, and "
            "test on the others; `evaluate` and `compare` measure on all of them",
            "give training queries of their own, as qrels/train.tsv",
        )
        return splits, fitted, [*unread, note]
    n_test, n_all = len(made["test"]), len(splits[given])
    if not is_near_share(n_test, n_all):
        odd = Finding(
            "odd_test_split",
            "warning",
            f"no test split: {n_test:,} of the {n_all:,} queries are taken, which is no fifth, as "
            "many hang together by their documents",
            "hold out test queries of your own, or split by query (`trimtab import --split-by "
            "query`, or split_by in a recipe)",
        )
        return fitted, fitted, [*unread, odd]
    note = Finding(
        "made_test_split",
        "note",
        "no test split: a fifth of the queries is taken, with all queries of their documents",
        "hold out test queries of your own, the latest if they have dates; "
        "`trimtab import --split-by` writes the split down",
    )
    return fitted, fitted, [*unread, note]


def _read_texts(
    dataset: Dataset, *, has_vectors: bool
) -> tuple[TextFacts, TextFacts, list[Finding]]:
    """Read the texts, as far as there are any."""
    facts, findings = [], []
    for name, texts, advice in (
        ("queries", dataset.iter_queries, "`trimtab embed` needs their texts"),
        (
            "corpus",
            dataset.iter_documents,
            "`trimtab embed` needs --documents SOURCE then, and reports show no texts",
        ),
    ):
        if (dataset.folder / f"{name}.jsonl").is_file():
            facts.append(TextFacts.read(texts()))
            continue
        facts.append(TextFacts())
        severity = "note" if has_vectors else "error" if name == "queries" else "warning"
        packed = packed_beside(dataset.folder / f"{name}.jsonl")
        message = f"there is no {name}.jsonl" + (f", but {packed}" if packed else "")
        findings.append(Finding(f"no_{name}", severity, message, advice))
    return facts[0], facts[1], findings


def _same_texts(queries: TextFacts, documents: TextFacts) -> list[tuple[str, str]]:
    """Pair queries and documents of one text."""
    asked = {key: name for name, key in queries.keys.items() if name not in queries.empty}
    return [(asked[key], name) for name, key in documents.keys.items() if key in asked]


def _examine_vectors(
    folder: Path,
    encoder: EncoderInfo,
    dataset: Dataset,
    texts: tuple[TextFacts, TextFacts],
    similarity: str,
) -> tuple[list[Finding], BaseScore | None]:
    """Check vectors; where they can be searched, search."""
    queries, documents = texts
    record = read_json((folder / "encoder.json").read_text(encoding="utf-8-sig"))
    findings = check_encoder(encoder, record)
    try:
        opened = Embeddings.open(folder)
    except DataError as error:
        return [*findings, *_explain_unusable(folder, error)], None
    for table, facts in ((opened.documents, documents), (opened.queries, queries)):
        path = folder / f"{table.what}.npy"
        findings += check_matrix(path, table.ids, table.what, facts.twins())
    splits = dataset.splits
    missing = check_references(
        splits, opened.queries.ids, opened.documents.ids, str(folder), "error"
    )
    findings += missing
    if opened.queries.dim != opened.documents.dim:
        message = (
            f"queries have {opened.queries.dim} values, documents {opened.documents.dim}: raw "
            "queries can't be searched with, so there is no base score"
        )
        advice = "right for a migration to a new encoder; else embed the queries with the old one"
        return [*findings, Finding("dims_differ", "warning", message, advice)], None
    has_prefix = bool(encoder.query_prefix or encoder.document_prefix)
    findings += check_same_texts(_same_texts(*texts), opened, has_prefix=has_prefix)
    test = answered(splits.get("test", {}))
    if not test or any(one.severity == "error" for one in missing):
        return findings, None
    base = score_base(test, opened, similarity)
    findings += check_base(base, len(opened.documents))
    if base.ndcg > _NEAR_PERFECT:
        message = f"raw queries already reach nDCG@10 {base.ndcg:.3f}: there is little to gain"
        findings.append(Finding("near_perfect", "note", message))
    return findings, base


def _explain_unusable(folder: Path, error: DataError) -> list[Finding]:
    """Say which vectors make a folder unusable; else, what its reader said."""
    findings = []
    for what, ids in (("documents", "document_ids.txt"), ("queries", "query_ids.txt")):
        try:
            found = check_matrix(folder / f"{what}.npy", read_ids(folder / ids), what)
        except (DataError, OSError, ValueError, TypeError, IndexError):
            continue  # the reader's own line says it better
        findings += [one for one in found if one.severity == "error"]
    return findings or [Finding("unusable_embeddings", "error", str(error))]


def _power(test: Qrels, base: BaseScore | None, model: Path | None, difference: float) -> Power:
    """Say what the test split can tell, from the best that is known of the spread."""
    if model is not None:
        spread = _spread_of_model(model)
        return power_of(len(test), spread, f"as {model} changed its test queries", difference)
    if base is not None:
        spread = spread_of_differences(base.spread)
        return power_of(len(test), spread, "guessed from the base", difference)
    spread = spread_of_differences(ASSUMED_BASE_SPREAD)
    return power_of(len(test), spread, "guessed from other sets", difference)


def _spread_of_model(model: Path) -> float:
    """Read the spread of paired differences back out of an evaluation's interval."""
    path = (model.parent if model.is_file() else model) / EVALUATION
    try:
        record = read_json(path.read_text(encoding="utf-8-sig"))
        part = record.get("answered_queries", record)
        low, high = part["metrics"]["ndcg@10"]["ci95"]
        return float((high - low) / (2 * _Z) * math.sqrt(part["n_queries"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"can't read an evaluation from {path}: {error}; expected a folder of `trimtab fit`"
        ) from error


def _check_power(power: Power | None) -> list[Finding]:
    """Warn of a test split that can't tell what matters, or can't tell anything."""
    if power is None or power.detectable <= power.difference:
        return []
    proves_nothing = "prove nothing: they " if power.detectable > _LARGE_GAIN else ""
    return [
        Finding(
            "few_test_queries",
            "warning",
            f"{power.n_queries:,} test queries {proves_nothing}tell a difference in nDCG@10 from "
            f"about {power.detectable:.3f} on (80 % power); {power.difference:g} takes about "
            f"{power.n_needed:,}",
            "label more test queries, or trust only larger gains"
            if not proves_nothing
            else "label more test queries; until then no verdict of theirs is worth anything",
            power.n_queries,
        )
    ]


def _check_unseen(train: Qrels, test: Qrels) -> list[Finding]:
    """Say what the test split shows of documents that no training query was about."""
    if not train or not test:
        return []
    n_seen = int(has_seen_document(test, train).sum())
    if n_seen < len(test):
        return []
    return [
        Finding(
            "no_unseen_documents",
            "note",
            "every test query is about a document that a training query was about",
            "nothing here shows what an adapter does to documents without labels; if the index "
            "has such, split by document (`trimtab import --split-by document`)",
            n_seen,
        )
    ]


def _count(splits: dict[str, Qrels], queries: TextFacts, documents: TextFacts) -> dict[str, Any]:
    """Count everything."""
    by_split = {
        name: {
            "queries": len(splits[name]),
            "labels": sum(map(len, splits[name].values())),
            "relevant": sum(
                grade > 0 for labels in splits[name].values() for grade in labels.values()
            ),
            "documents": len(relevant_documents(splits[name])),
        }
        for name in SPLITS
        if name in splits
    }
    train, test = splits.get("train", {}), answered(splits.get("test", {}))
    n_seen = int(has_seen_document(test, train).sum()) if test else 0
    shared = relevant_documents(train) & relevant_documents(test)
    return {
        "documents": len(documents.keys),
        "queries": len(queries.keys),
        "splits": by_split,
        "test_queries_about_seen_documents": n_seen,
        "test_queries_about_unseen_documents": len(test) - n_seen,
        "documents_relevant_in_train_and_test": len(shared),
    }
