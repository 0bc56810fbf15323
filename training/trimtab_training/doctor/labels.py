"""What the labels say: leaks between splits, contradictions, gaps, and how many there are."""

from collections.abc import Collection
from itertools import combinations

from trimtab_training.data.qrels import SPLITS, Qrels, relevant
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.doctor.finding import Finding, about
from trimtab_training.doctor.texts import TextFacts

FEW_TRAINING_QUERIES = 250
TOO_FEW_TRAINING_QUERIES = 100
MORE_PAYS_UNTIL = 1_000

SETS_WITH_A_GAIN = {50: (2, 1), 100: (3, 1), 250: (5, 2)}
"""By training queries: on how many of five sets any of five fits found a gain, and on how many all
did (benchmarks/labels/results.json)."""


def check_leaks(splits: dict[str, Qrels], queries: TextFacts, difference: float) -> list[Finding]:
    """Look for queries that are trained on, or chosen by, and tested.

    A leaked query can move the mean of the test split by its share at most, so a share of training
    queries above the difference that matters is an error, below it a warning.

    Args:
        splits: Labels by split.
        queries: Texts of the queries.
        difference: Difference in nDCG@10 that matters.
    """
    findings = []
    for one, other in combinations([name for name in SPLITS if name in splits], 2):
        shared = splits[one].keys() & splits[other].keys()
        if shared:
            findings.append(
                about(
                    "shared_query_ids",
                    "error",
                    shared,
                    f"queries stand in both {one} and {other}: {{ids}}",
                    f"take them out of one; `trimtab import beir` keeps them in {other}",
                )
            )
        texts = {queries.keys[name] for name in splits[one] if name in queries.keys}
        leaked = [
            name
            for name in splits[other]
            if name not in shared and name not in queries.empty and queries.keys.get(name) in texts
        ]
        if leaked:
            share = len(leaked) / len(splits[other])
            matters = (one, other) == ("train", "test") and share > difference
            findings.append(
                about(
                    "shared_query_texts",
                    "error" if matters else "warning",
                    leaked,
                    f"{share:.1%} of the {other} queries have the text of a {one} query: {{ids}}",
                    f"take them out of {one}, for their scores show memory, not search: "
                    "`trimtab import beir --merge-queries`",
                )
            )
    return findings


def check_duplicates(splits: dict[str, Qrels], queries: TextFacts) -> list[Finding]:
    """Look for one text under several query ids of a split, and for labels that contradict."""
    findings = []
    groups = queries.groups().values()
    for split, qrels in splits.items():
        repeated, conflicting = set(), set()
        for names in groups:
            here = [name for name in names if name in qrels]
            if len(here) < 2:
                continue
            repeated.update(here)
            if len({frozenset(relevant(qrels[name])) for name in here}) > 1:
                conflicting.update(here)
        if repeated:
            labels = f"; {len(conflicting)} of them with other relevant documents"
            findings.append(
                about(
                    "duplicate_queries",
                    "warning" if conflicting else "note",
                    repeated,
                    f"{split} queries with the text of another one there: {{ids}}"
                    f"{labels if conflicting else ''}",
                    "join them into one query with all their documents, for each one's right "
                    "answer counts as the other's wrong one: `trimtab import beir --merge-queries`"
                    if conflicting
                    else "",
                )
            )
    return findings


def check_references(
    splits: dict[str, Qrels],
    known_queries: Collection[str] | None,
    known_documents: Collection[str] | None,
    where: str,
    severity: str,
) -> list[Finding]:
    """Look for labels that name what is not there.

    Args:
        splits: Labels by split.
        known_queries: Ids that there are, or None where there is no list.
        known_documents: The same of documents.
        where: What holds the ids, such as ``corpus.jsonl and queries.jsonl``.
        severity: What it means if one is missing.
    """
    findings = []
    labelled = {query for qrels in splits.values() for query in qrels}
    judged = {doc for qrels in splits.values() for labels in qrels.values() for doc in labels}
    for what, wanted, known in (
        ("queries", labelled, known_queries),
        ("documents", judged, known_documents),
    ):
        missing = wanted - set(known) if known is not None else set()
        if missing:
            findings.append(
                about(
                    f"missing_{what}",
                    severity,
                    missing,
                    f"labelled {what} that are not in {where}: {{ids}} of {len(wanted):,}",
                    "add them, or drop their labels (`trimtab import beir`, then embed again); "
                    "a fit refuses labels without vectors",
                )
            )
    if known_queries is not None:
        without = set(known_queries) - labelled
        if without:
            message = f"queries in {where} without labels: {{ids}}"
            findings.append(about("unlabelled_queries", "note", without, message))
    return findings


def check_relevance(splits: dict[str, Qrels]) -> list[Finding]:
    """Look for queries that nothing answers."""
    findings = []
    for split, qrels in splits.items():
        hopeless = [query for query, labels in qrels.items() if not relevant(labels)]
        if len(hopeless) == len(qrels):
            message = f"no {split} query has a relevant document: {{ids}}"
            advice = "grades must be above 0 where a document answers a query"
            findings.append(about("no_relevant_documents", "error", hopeless, message, advice))
        elif hopeless:
            findings.append(
                about(
                    "hopeless_queries",
                    "warning" if split == "test" else "note",
                    hopeless,
                    f"{split} queries without a relevant document: {{ids}}",
                    "they count as 0 before and after; drop them from test"
                    if split == "test"
                    else "",
                )
            )
    return findings


def check_training_size(train: Qrels) -> list[Finding]:
    """Say what fits with so many training queries gave on five public sets (docs/recipe.md)."""
    n_queries = sum(bool(relevant(labels)) for labels in train.values())
    if n_queries <= TOO_FEW_TRAINING_QUERIES:
        severity, fact = "warning", f"{_gains_with(50)}, {_gains_with(100)}"
    elif n_queries < FEW_TRAINING_QUERIES:
        severity, fact = "warning", f"{_gains_with(100)}, {_gains_with(250)}"
    elif n_queries < MORE_PAYS_UNTIL:
        severity, fact = (
            "note",
            "with 250, fits gave from nothing to half of what all queries gave; more pay",
        )
    else:
        return []
    return [
        Finding(
            "few_training_queries",
            severity,
            f"{n_queries:,} training queries with a relevant document: {fact}",
            "label more queries (docs/recipe.md, few labels), import clicks, or write "
            "queries with an LLM (`trimtab synthesize`)",
            n_queries,
        )
    ]


def _gains_with(n_queries: int) -> str:
    """Say on how many sets fits with so many training queries found a gain."""
    some, always = SETS_WITH_A_GAIN[n_queries]
    return f"with {n_queries} fits found a gain on {some} of five sets ({always} of them always)"


def check_dev_size(dev: Qrels) -> list[Finding]:
    """Say where a dev split is too small to judge alone."""
    n_queries = sum(bool(relevant(labels)) for labels in dev.values())
    if not dev or n_queries >= MIN_DEV_QUERIES:
        return []
    return [
        Finding(
            "few_dev_queries",
            "warning",
            f"{n_queries:,} dev queries with a relevant document: under {MIN_DEV_QUERIES} they "
            "join the cross-fit and do not judge alone",
            f"hold out {MIN_DEV_QUERIES} or more, or leave the dev split out",
            n_queries,
        )
    ]
