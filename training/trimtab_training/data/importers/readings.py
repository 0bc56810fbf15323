"""Can a file of pairs be read in two ways? Then it is refused, with both and what decides.

Everything here looks at the first rows alone and says nothing about a file that has one reading.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from trimtab_training.data.importers.cells import (
    is_in_brackets,
    is_of_texts,
    is_word_in_braces,
    spelled_list,
    spelled_object,
)
from trimtab_training.data.importers.columns import (
    PAIR_ROLES,
    Columns,
    is_missing,
    plain_name,
    refuse_thousands,
    usual_columns,
    value_of,
)
from trimtab_training.data.importers.judging import FEW_CLASSES, is_rising, may_grade, number_of
from trimtab_training.data.importers.objects import has_text, is_id
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.sources import Sample
from trimtab_training.errors import DataError

_OUTSPOKEN = ("positive", "pos", "positives", "positive_passages", "positive_ctxs")
_CLASS_NAMES = {"label", "labels", "gold_label", "class", "class_label"}
_OF_INFERENCE = {"premise", "hypothesis"}
_CLASS_IDS = {-1.0, 0.0, 1.0, 2.0}  # natural language inference; -1: people did not agree
_MANY_FRACTIONS = 3  # different ones, from which scores may be similarities
_OF_DOCUMENTS = ("document", "negative")
_TEXT_ROLES = ("query", *_OF_DOCUMENTS)


def refuse_two_readings(
    sample: Sample, columns: Columns, settings: ImportSettings, where: str
) -> None:
    """Refuse a file whose columns or scores can mean different things.

    Raises:
        DataError: With both readings and the option that decides.
    """
    refuse_rivals(sample, PAIR_ROLES, settings.columns, where)
    _refuse_flags(sample, columns, settings, where)
    _refuse_graded_objects(sample, columns, settings, where)
    _refuse_unnamed_grades(sample, columns, settings, where)
    _refuse_unknown_grades(sample, columns, settings, where)
    if "score" in columns:
        _refuse_object_scores(_scores(sample, columns), columns["score"][0], where)
    if "score" in columns and not settings.grades:
        if "score" not in settings.columns:
            name = columns["score"][0]
            refuse_thousands(_flat(_values(sample, name)), name, "score", where)
        _refuse_classes(sample, columns, settings, where)
        if "score" not in settings.columns and settings.relevant_from is None:
            _refuse_similarities(sample, columns["score"][0], where)


def find_lists(sample: Sample, columns: Columns, given: bool | None, where: str) -> frozenset[str]:
    """Find the columns whose cells hold lists as text.

    Args:
        sample: The file's first rows.
        columns: Its columns by role.
        given: Whether what is spelled like a list is one, where the user says so.
        where: The file, for messages.

    Raises:
        DataError: Some cells of a column are spelled as lists, and others are not; or all cells of
            documents stand in brackets, and can't be read.
    """
    if given is False:
        return frozenset()
    found = set()
    for role in (*_TEXT_ROLES, "score"):
        for name in columns.get(role, ()):
            values = [value for value in _values(sample, name) if isinstance(value, str)]
            cells = [value for value in values if value.strip() not in {"[]", "{}"}]
            if role in _OF_DOCUMENTS:
                cells = [cell for cell in cells if not is_word_in_braces(cell)]
            spelled = [list_of(cell, role) is not None for cell in cells]
            if any(spelled) and not all(spelled) and given is None:
                cell = cells[spelled.index(True)]
                raise DataError(
                    f"{where}: some cells of {name!r} are spelled as lists, such as {cell[:60]!r}, "
                    "and others are not: say --lists if those are lists, --no-lists if they are "
                    "texts"
                )
            if any(spelled):
                found.add(name)
            elif cells and role in _OF_DOCUMENTS and all(map(is_in_brackets, cells)):
                raise DataError(
                    f"{where}: the cells of {name!r} stand in brackets, such as {cells[0][:60]!r}, "
                    "as lists or objects do, and can't be read as such: write them as JSON if they "
                    "are, or say --no-lists if they are texts"
                )
    return frozenset(found)


def list_of(cell: str, role: str) -> list[Any] | None:
    """Take the list that a cell is nothing but the spelling of, if its role can have it.

    A document that is spelled as an object with a text is a list of one. No query is an array of
    Postgres.
    """
    items = spelled_list(cell, as_postgres=role != "query")
    if items is not None:
        return items if is_of_texts(items) or role == "score" or not items else None
    found = spelled_object(cell) if role in _OF_DOCUMENTS else None
    return [found] if found is not None and has_text(found) else None


def refuse_rivals(
    sample: Sample,
    roles: Mapping[str, tuple[str, ...]],
    given: Mapping[str, tuple[str, ...]],
    where: str,
    *,
    only_alike: bool = False,
) -> None:
    """Refuse several columns that could have one role, unless they say the same.

    Args:
        sample: The file's first rows.
        roles: Usual names by role.
        given: What the user says of columns.
        where: The file, for messages.
        only_alike: Whether a list, an object and a single value can't stand for one another.

    Raises:
        DataError: With what decides.
    """
    for role in roles:
        if role in given:
            continue
        taken = {name for names in given.values() for name in names}
        rivals = [
            name
            for name in usual_columns(sample.names, roles, role)
            if name not in taken and any(True for _ in _values(sample, name))
        ]
        if only_alike:
            rivals = [name for name in rivals if _shape(sample, name) == _shape(sample, rivals[0])]
        if role == "document":
            rivals = [name for name in rivals if plain_name(name) in _OUTSPOKEN] or rivals
        if len(rivals) > 1 and any(_differ(sample, rivals[0], other) for other in rivals[1:]):
            choices = " or ".join(f"--column {role}={name}" for name in rivals)
            raise DataError(
                f"{where}: {' and '.join(map(repr, rivals))} could each be the {_word(role)}; say "
                f"which: {choices}"
            )


def _refuse_flags(sample: Sample, columns: Columns, settings: ImportSettings, where: str) -> None:
    """Refuse columns called positive or negative that hold numbers, or yes and no: of the pair."""
    for role in ("document", "negative"):
        for name in columns.get(role, ()) if role not in settings.columns else ():
            values = list(_flat(_values(sample, name)))
            is_outspoken = role == "negative" or plain_name(name) in _OUTSPOKEN
            if not is_outspoken or not values or any(number_of(one) is None for one in values):
                continue
            others = usual_columns(sample.names, PAIR_ROLES, "document")
            text = next((one for one in others if one != name), "NAME")
            as_none = f"--column document={text}" if role == "document" else "--column negative="
            as_grade = (
                f"--column score={name} if more is better, and " if role == "document" else ""
            )
            raise DataError(
                f"{where}: {name!r} holds {', '.join(map(str, values[:3]))}, which may say "
                f"something of the pair and be no text: {as_grade}{as_none}; or say --column "
                f"{role}={name} if these are texts"
            )


def _refuse_unnamed_grades(
    sample: Sample, columns: Columns, settings: ImportSettings, where: str
) -> None:
    """Refuse numbers that stand beside every document, and that nobody called grades."""
    if {"score", "negative"} & (columns.keys() | settings.columns.keys()):
        return
    used = {name for names in columns.values() for name in names}
    for document in columns.get("document") or columns.get("document_id", ()):
        for name in sample.names:
            if name not in used and _is_parallel(sample, document, name):
                raise DataError(
                    f"{where}: {name!r} has a number for every entry of {document!r}: say "
                    f"--column score={name} if they grade the texts, --column score= if they do "
                    "not"
                )


def _refuse_unknown_grades(
    sample: Sample, columns: Columns, settings: ImportSettings, where: str
) -> None:
    """Refuse a column that seems to grade the pairs, by its name or by its values."""
    if {"score", "negative"} & columns.keys() or "score" in settings.columns:
        return
    used = {name for names in columns.values() for name in names}
    for name in sample.names:
        if name in used:
            continue
        values, queries = _beside_queries(sample, columns, name)
        named = [_class_name(sample, name, value) for value in values]
        if may_grade(name, values, queries) or may_grade(name, named, queries):
            raise DataError(
                f"{where}: {name!r} holds {', '.join(map(str, values[:3]))}, which may say whether "
                f"a document is relevant: say --column score={name} if it does (with --grades "
                "where more is not better), --column score= if it does not"
            )


def _refuse_graded_objects(
    sample: Sample, columns: Columns, settings: ImportSettings, where: str
) -> None:
    """Refuse documents that are objects and say themselves whether they are relevant."""
    if "score" in columns or "score" in settings.columns:
        return
    for document in columns.get("document", ()):
        if plain_name(document) in _OUTSPOKEN:
            continue
        inside: dict[str, list[tuple[Any, Any]]] = {}
        for value, query in zip(*_beside_queries(sample, columns, document), strict=True):
            is_text = isinstance(value, str) and settings.lists is False
            for item in [] if is_text else _documents(value):
                for key, of in item.items() if isinstance(item, dict) else ():
                    if not is_missing(of):
                        inside.setdefault(str(key), []).append((of, query))
        graded = sorted(
            key
            for key, found in inside.items()
            if not is_id(key) and may_grade(key, *zip(*found, strict=True))
        )
        if graded:
            raise DataError(
                f"{where}: the objects in {document!r} have {graded[0]!r}: say --column "
                f"score={graded[0]} if it is their grade (with --grades where more is not "
                "better), --column score= if all are relevant"
            )


def _beside_queries(sample: Sample, columns: Columns, name: str) -> tuple[list[Any], list[Any]]:
    """Give what a column holds in the sample, less what is missing, and the query of each."""
    rows = [(record.get(name), value_of(record, columns, "query")) for _, record in sample.rows]
    kept = [(value, query) for value, query in rows if not is_missing(value)]
    return [value for value, _ in kept], [query for _, query in kept]


def _class_name(sample: Sample, name: str, value: Any) -> Any:
    """Give the name of a class that is a number, where the file has one; else the value."""
    classes = sample.classes.get(name, [])
    is_known = isinstance(value, int) and 0 <= value < len(classes)
    return classes[value] if is_known else value


def keys_inside(sample: Sample, names: Sequence[str]) -> set[str]:
    """Give the keys of the objects that some columns hold."""
    return {key for name in names for item in _objects(sample, name) for key in item}


def _objects(sample: Sample, name: str) -> Iterator[dict[str, Any]]:
    """Give the objects that a column holds, lists taken apart."""
    values = _values(sample, name)
    return (item for value in values for item in _documents(value) if isinstance(item, dict))


def _documents(value: Any) -> list[Any]:
    """Take a list of documents apart, also one that a cell spells."""
    items = list_of(value, "document") if isinstance(value, str) else value
    return items if isinstance(items, list) else [value]


def _is_parallel(sample: Sample, texts: str, numbers: str) -> bool:
    """Tell whether one column has as many numbers as the other has texts, in several rows."""
    n_rows = 0
    for _, record in sample.rows:
        one, other = _as_list(record.get(texts)), _as_list(record.get(numbers))
        if one is None or other is None:
            continue
        if len(one) != len(other) or not all(isinstance(item, int | float) for item in other):
            return False
        n_rows += len(one) > 1
    return n_rows > 0


def _as_list(value: Any) -> list[Any] | None:
    """Take a list, also one that a cell spells."""
    return value if isinstance(value, list) else spelled_list(value)


def _scores(sample: Sample, columns: Columns) -> list[Any]:
    """Give what grades the documents: what the score's column holds, or the documents themselves.

    What is missing is left out, and lists are taken apart.
    """
    name = columns["score"][0]
    if name in sample.names:
        return list(_flat(_values(sample, name)))
    inside = (item.get(name) for of in columns.get("document", ()) for item in _objects(sample, of))
    return [value for value in inside if not is_missing(value)]


def _refuse_object_scores(values: Sequence[Any], name: str, where: str) -> None:
    """Refuse objects where grades are expected, as databases and annotation tools write them."""
    objects = [value for value in values if isinstance(value, dict)]
    if 2 * len(objects) > len(values):
        raise DataError(
            f"{where}: {name!r} holds objects, such as {str(objects[0])[:60]}, and a score "
            "is a number or the name of a class: write it alone, or say --column score=NAME for "
            "another column"
        )


def _refuse_classes(sample: Sample, columns: Columns, settings: ImportSettings, where: str) -> None:
    """Refuse classes where grades are expected: of them, more is not better."""
    name, values = columns["score"][0], _scores(sample, columns)
    if not values:
        return
    texts = [str(value).strip() for value in values if number_of(value) is None]
    if any(re.fullmatch(r"-?\d+,\d+", text) for text in texts):
        raise DataError(f"{where}: {name!r} has decimal commas, such as {texts[0]}; write points")
    if 2 * len(texts) > len(values):
        _refuse_as_classes(where, name, sorted(set(texts)))
    classes, is_given = sample.classes.get(name, []), "score" in settings.columns
    is_accepted = is_given and plain_name(name) in PAIR_ROLES["score"]  # classes were told before
    are_grades = is_rising(classes) and (is_given or len(classes) == 2)
    if classes and not is_accepted and not are_grades:
        _refuse_as_classes(where, name, [f"{n} ({of})" for n, of in enumerate(classes)])
    if is_given:
        return
    numbers = {number for value in values if (number := number_of(value)) is not None}
    used = {plain_name(one) for role in _TEXT_ROLES for one in columns.get(role, ())}
    looks_so = 2.0 in numbers or (bool(used & _OF_INFERENCE) and len(numbers) > 1)
    if looks_so and plain_name(name) in _CLASS_NAMES and numbers <= _CLASS_IDS:
        _refuse_as_classes(where, name, [f"{number:g}" for number in sorted(numbers)])


def _refuse_as_classes(where: str, name: str, classes: Sequence[str]) -> NoReturn:
    """Refuse, naming the classes and how to grade them."""
    shown = ", ".join(classes[:FEW_CLASSES]) + (", ..." if len(classes) > FEW_CLASSES else "")
    numbered = all(one.lstrip("-")[:1].isdigit() for one in classes)
    named = [one.split(" (")[0] if numbered else one for one in classes[:3]]
    example = ",".join(f"'{one}'=GRADE" if " " in one else f"{one}=GRADE" for one in named)
    may_grade_so = numbered and plain_name(name) in PAIR_ROLES["score"]
    is_grade = f", or --column score={name} if the numbers are grades" if may_grade_so else ""
    raise DataError(
        f"{where}: {name!r} holds {shown}, which may be classes, of which more is not better: say "
        f"what each is worth, such as --grades {example}{is_grade}"
    )


def _refuse_similarities(sample: Sample, name: str, where: str) -> None:
    """Refuse fractions of many sizes: even a low similarity would count as relevant."""
    numbers = [number_of(value) for value in _flat(_values(sample, name))]
    fractions = [one for one in numbers if one is not None and not one.is_integer()]
    n_many = 1 if plain_name(name).startswith("similar") else _MANY_FRACTIONS
    if len(set(fractions)) < n_many or 2 * len(fractions) < len(numbers):
        return
    raise DataError(
        f"{where}: {name!r} holds fractions such as {', '.join(f'{x:g}' for x in fractions[:3])}: "
        f"if they are similarities, say from where a pair is relevant, --relevant-from SCORE; if "
        f"they are grades, of which all above 0 are relevant, --column score={name}"
    )


def _values(sample: Sample, name: str) -> Iterator[Any]:
    """Give what a column holds in the sample, less what is missing."""
    for _, record in sample.rows:
        value = record.get(name)
        if not is_missing(value):
            yield value


def _flat(values: Iterator[Any]) -> Iterator[Any]:
    """Take lists apart, also those that cells spell."""
    for value in values:
        yield from one if (one := _as_list(value)) is not None else [value]


def _differ(sample: Sample, one: str, other: str) -> bool:
    """Tell whether two columns ever hold different values; 7 and "7" are none."""
    pairs = ((record.get(one), record.get(other)) for _, record in sample.rows)
    return any(value != beside and str(value) != str(beside) for value, beside in pairs)


def _shape(sample: Sample, name: str) -> type:
    """Tell what a column holds by its first value: lists, objects or single values."""
    value = next(_values(sample, name))
    return type(value) if isinstance(value, list | dict) else str


def _word(role: str) -> str:
    """Write a role in words."""
    return role.replace("_", " ").replace(" id", "'s id")
