"""Answers to candidate queries, each with a name that no later run changes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from trimtab_training.synthesis.answers import read_base_answer, read_chat_answer
from trimtab_training.synthesis.prompts import Api, Request
from trimtab_training.synthesis.store import Answer

PREFIX = "synthetic-"


@dataclass(frozen=True)
class Candidate:
    """A query that a model wrote.

    Attributes:
        id: Its id, from what was asked: the same in every run.
        text: The query.
        doc_id: The document that it was written for.
        style: Name of the style.
        model: The model, as it was asked for.
    """

    id: str
    text: str
    doc_id: str
    style: str
    model: str


@dataclass
class Counts:
    """How the answers compare with what was asked.

    Attributes:
        answers: The answers read.
        missing: Queries that answers fell short of.
        surplus: Queries beyond what was asked for; they are left out.
    """

    answers: int = 0
    missing: int = 0
    surplus: int = 0


def read_candidates(
    asked: Iterable[tuple[Request, Answer]], api: Api, model: str
) -> tuple[list[Candidate], Counts]:
    """Read the queries out of answers, as many from each as were asked for."""
    candidates: list[Candidate] = []
    counts = Counts()
    for request, answer in asked:
        if api == "chat":
            queries = read_chat_answer(answer.text, is_cut=answer.is_cut)
        else:
            queries = read_base_answer(answer.text)
        counts.answers += 1
        counts.missing += max(0, request.n_queries - len(queries))
        counts.surplus += max(0, len(queries) - request.n_queries)
        for number, text in enumerate(queries[: request.n_queries]):
            digest = hashlib.sha256(f"{request.key} {number}".encode()).hexdigest()[:16]
            name = f"{PREFIX}{digest}"
            candidates.append(Candidate(name, text, request.doc_id, request.style, model))
    return candidates, counts
