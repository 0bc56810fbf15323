"""What the texts of queries and documents say about a dataset, read once and not kept."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trimtab_training.data.importers.texts import question_key
from trimtab_training.doctor.finding import Finding, about

ASSUMED_MAX_TOKENS = 512
_TOKENS_PER_WORD = 1.3  # WordPiece on English prose; what has no blanks is judged by its bytes
_BYTES_PER_TOKEN = 6
_MANY = 0.05  # share of documents


@dataclass
class TextFacts:
    """What is kept of texts.

    Attributes:
        keys: Digest of every id's text, blind to case, composition, blanks and outer punctuation.
        empty: Ids without text.
        tokens: Estimated tokens of every text, in file order.
        repeated: Ids that stand more than once.
    """

    keys: dict[str, int] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    tokens: list[int] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, texts: Iterable[tuple[str, str]]) -> "TextFacts":
        """Go through ids and texts once."""
        facts = cls()
        for name, text in texts:
            if name in facts.keys:
                facts.repeated.add(name)
                continue
            facts.keys[name] = question_key(text)
            facts.tokens.append(estimate_tokens(text))
            if not text.strip():
                facts.empty.add(name)
        return facts

    def twins(self) -> set[str]:
        """Name all ids that share their text with another one."""
        return {name for names in self.groups().values() for name in names}

    def groups(self) -> dict[int, list[str]]:
        """Gather the ids of every text that several have; empty ones aside."""
        first: dict[int, str] = {}
        groups: dict[int, list[str]] = {}
        for name, key in self.keys.items():
            if name in self.empty:
                continue
            if key in first:
                groups.setdefault(key, [first[key]]).append(name)
            else:
                first[key] = name
        return groups


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens an encoder makes of a text, to within a third or so."""
    words = _TOKENS_PER_WORD * len(text.split())
    return round(max(words, len(text.encode(errors="replace")) / _BYTES_PER_TOKEN))


def check_texts(
    queries: TextFacts, documents: TextFacts, relevant: set[str], max_tokens: int | None
) -> list[Finding]:
    """Look for empty, repeated and overlong texts.

    Args:
        queries: The queries.
        documents: The documents.
        relevant: Documents that are relevant to some query.
        max_tokens: What the encoder reads of a text, or None where that is not known.
    """
    findings = []
    for what, facts in (("queries", queries), ("documents", documents)):
        if facts.repeated:
            findings.append(
                about(
                    f"repeated_{what}_ids",
                    "error",
                    facts.repeated,
                    f"ids stand more than once among the {what}: {{ids}}",
                    "give every text an id of its own; `trimtab import beir` keeps the first",
                )
            )
    if queries.empty:
        advice = "drop them with their labels (`trimtab import beir` does)"
        message = "queries without text: {ids}"
        findings.append(about("empty_queries", "warning", queries.empty, message, advice))
    findings += _check_empty_documents(documents, relevant)
    twins = documents.twins()
    if twins:
        findings.append(
            about(
                "duplicate_documents",
                "warning" if len(twins) > _MANY * len(documents.keys) else "note",
                twins,
                "documents whose text another document has, too: {ids}",
                "label them alike, or keep one: a search can't tell them apart, and the fit takes "
                "the unlabelled twin for a wrong answer",
            )
        )
    return findings + _check_lengths(documents, max_tokens)


def _check_empty_documents(documents: TextFacts, relevant: set[str]) -> list[Finding]:
    """Tell empty documents apart by whether someone wants them."""
    wanted = documents.empty & relevant
    if wanted:
        advice = "give them text, or drop their labels: nothing in them can match a query"
        message = "relevant documents without text: {ids}"
        return [about("empty_relevant_documents", "warning", wanted, message, advice)]
    if documents.empty:
        message = "documents without text: {ids}"
        return [about("empty_documents", "note", documents.empty, message)]
    return []


def _check_lengths(documents: TextFacts, max_tokens: int | None) -> list[Finding]:
    """Count what an encoder cuts off."""
    limit = max_tokens or ASSUMED_MAX_TOKENS
    n_long = sum(tokens > limit for tokens in documents.tokens)
    if not n_long:
        return []
    source = "the encoder's limit" if max_tokens else "a common limit; the encoder's is not known"
    share = n_long / len(documents.tokens)
    return [
        Finding(
            "long_documents",
            "warning" if share > _MANY and max_tokens else "note",
            f"about {n_long:,} documents ({share:.1%}) are longer than {limit} tokens ({source}), "
            f"the longest about {max(documents.tokens):,}; tokens are estimated from words",
            "what lies beyond the limit is in no vector: cut long documents into chunks before "
            "embedding, or know that only their beginnings are searched",
            n_long,
        )
    ]
