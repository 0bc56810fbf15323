"""Does a column, or a key inside documents, seem to grade them? Its name tells, or its values."""

import re
from collections.abc import Sequence
from typing import Any

from trimtab_training.data.importers.click_values import flag_of
from trimtab_training.data.importers.columns import plain_name
from trimtab_training.data.label_lines import read_number

FEW_CLASSES = 8
"""More different values than these are no classes."""

_OF_GRADES = re.compile(  # words in names of columns that grade, by number or by class
    r"(ir|non)?relevan\w*|q?rels?|labels?|grade[sd]?|judg\w*|scores?|ratings?|similarit\w*|esci"
)
_OF_FLAGS = re.compile(  # and of such that grade only where they hold numbers, or yes and no
    r"select(ed|ion)?|duplicates?|positives?|negatives?|(in)?correct(ness)?|targets?"
    r"|gold(en)?|(ground)?truth|match(es|ed|ing)?|class|gains?|paraphrases?|click(s|ed)?"
    r"|helpful(ness)?|useful(ness)?|accepted|feedback|verdict|(un)?answerable|impossible"
)
_ANSWERS = re.compile(r"(has|contains|is)_answer")  # a flag, though "answer" alone is a text
_VERDICTS = re.compile(  # values that judge whatever their column is called, less blanks and marks
    r"\w*relevant|(h|n|non)?rel|(not|non)?entail\w*|contradict\w*|support(s|ed)|refute[sd]"
    r"|(true|false)?(pos|neg)(itive|ative)?|accept(ed)?|reject(ed)?|pass(ed)?|fail(ed)?|good|bad"
    r"|(in)?correct|wrong|(not?|non|mis)?match|(not?|non)?(duplicate|paraphrase)|(not|un)related"
    r"|(not|un)?(help|use)ful|(thumbs?|vote)?(up|down)|(up|down)vote|[👍👎].?|(dis)?like[sd]?"
    r"|(not|un|dis)?satisf\w*|(not|un)(re)?solved|(on|off)topic"  # resolved: as a ticket may be
)
_COUNTERS = {  # last words of names that tell one from another
    "id", "ids", "idx", "index", "number", "page", "turn", "fold",
}  # fmt: skip
_OF_FACTS = {"is", "has", "contains"}  # first words of names that no counter has
_DENIALS = ("not", "no", "non", "un", "in", "ir", "dis")
_NO_AND_YES = {
    ("no", "yes"), ("false", "true"), ("negative", "positive"), ("neg", "pos"), ("bad", "good"),
    ("wrong", "right"),
}  # fmt: skip


def may_grade(name: str, values: Sequence[Any], queries: Sequence[Any] = ()) -> bool:
    """Tell what seems to grade documents by the words of its name, or by what it holds.

    Values that judge are few different ones, some of them verdicts such as ``irrelevant``; or yes
    and no, 0 and 1, where they differ among the documents of one query and do not count them.

    Args:
        name: What the column is called, or the key.
        values: Some of its values, none of them missing.
        queries: The query of each; without them, 0 and 1 do not judge.
    """
    plain = plain_name(name)
    words = plain.split("_")
    if not values or words[-1] in {"id", "ids"} or any(isinstance(v, list | dict) for v in values):
        return False
    if all(number_of(value) is not None or flag_of(value) is not None for value in values):
        are_named = any(_OF_GRADES.fullmatch(word) or _OF_FLAGS.fullmatch(word) for word in words)
        are_named = are_named or _ANSWERS.fullmatch(plain) is not None
        is_counter = words[-1] in _COUNTERS or words[-1].endswith("id")
        is_counter = is_counter or (words[0] not in _OF_FACTS and _count_within(queries, values))
        are_yes_or_no = not is_counter and all(map(_is_yes_or_no, values))
        return are_named or (are_yes_or_no and _differ_within(queries, values))
    kinds = {str(value).strip().casefold() for value in values}
    if not 1 < len(kinds) <= FEW_CLASSES or 2 * len(kinds) > len(values):
        return False
    if any(_OF_GRADES.fullmatch(word) for word in words) or any(map(_is_verdict, kinds)):
        return True
    return kinds >= {"yes", "no"} and _differ_within(queries, values)


def is_rising(classes: Sequence[str]) -> bool:
    """Tell classes of which the first plainly denies what the last says, or that are numbered."""
    plain = [re.sub(r"[\s_-]+", "", one.casefold()) for one in classes]
    are_numbered = all(re.fullmatch(rf"\D*{n}", one) for n, one in enumerate(plain))
    is_denied = any(plain[:1] == [prefix + last] for last in plain[-1:] for prefix in _DENIALS)
    return are_numbered or is_denied or (*plain[:1], *plain[-1:]) in _NO_AND_YES


def number_of(value: Any) -> float | None:
    """Take a number, also one written as text; true is 1; None where it is none."""
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return float(value.strip().lower() == "true")
    try:
        return read_number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_verdict(kind: str) -> bool:
    """Tell a word that judges."""
    return _VERDICTS.fullmatch(re.sub(r"[\s_-]+", "", kind)) is not None


def _is_yes_or_no(value: Any) -> bool:
    """Tell a flag, also one that is -1 for no."""
    return flag_of(value) is not None or number_of(value) in {-1.0, 0.0, 1.0}


def _differ_within(queries: Sequence[Any], values: Sequence[Any]) -> bool:
    """Tell whether one query has several values."""
    pairs = {(str(query), str(value)) for query, value in zip(queries, values, strict=False)}
    return len({query for query, _ in pairs}) < len(pairs)


def _count_within(queries: Sequence[Any], values: Sequence[Any]) -> bool:
    """Tell numbers that count the documents of every query from 0, in the order of the rows."""
    by_query: dict[str, list[str]] = {}
    for query, value in zip(queries, values, strict=False):
        by_query.setdefault(str(query), []).append(str(value).strip().removesuffix(".0"))
    return all(found == [str(n) for n in range(len(found))] for found in by_query.values())
