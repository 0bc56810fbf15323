"""Which columns of a search log hold what: searches, or documents shown, or sums over searches."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.click_values import flag_of
from trimtab_training.data.importers.columns import (
    CLICK_RIVALS,
    CLICK_ROLES,
    SEARCH_RIVALS,
    Columns,
    as_number,
    find_columns,
    is_missing,
    plain_name,
    refuse_thousands,
    require,
    usual_columns,
    value_of,
)
from trimtab_training.data.importers.readings import refuse_rivals
from trimtab_training.data.importers.settings import ClickSettings
from trimtab_training.data.importers.sources import Sample
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.errors import DataError

_EVENTS = {  # what a column of kinds of events is called, less underscores
    "event", "eventtype", "eventname", "action", "actionname", "actiontype", "interaction",
    "interactiontype", "type",
}  # fmt: skip
_DOINGS = {  # last words of its other names
    "event", "action", "interaction", "behavior", "behaviour", "activity", "signal", "verb",
}  # fmt: skip
_SORTS = {"name", "type", "kind", "category"}  # the same, behind one of those or a hit
_EXPOSURES = {  # words in names of kinds of events that are no clicks
    "view", "views", "viewed", "pageview", "pageviews", "impression", "impressions", "shown",
    "seen",
}  # fmt: skip
_ACTIONS = {  # and in those of kinds that may be
    "click", "clicks", "clicked", "select", "selected", "purchase", "purchased", "buy", "cart",
    "open", "opened",
}  # fmt: skip
_RANKED = ("query", "document", "rank", "clicked")  # what a document shown a row needs
_SHOWINGS = {"shown", "impressions"}  # where they hold numbers, how often something was shown
_LISTED = {"clicked", "clicked_ids"}  # where they hold numbers, these may be documents' ids
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})*")
_STARTS = {"start", "offset"}  # where they count results, the page begins after so many
_LEAST_PAGE = 5  # results
_COUNTING = {"clicks", "n", "num", "number", "nb", "total", "sum"}  # words in names of counts
_CLICKS = {"click", "clicks", "clicked"}  # words in names of kinds of events
_PLACES = {"position", "rank", "index"}  # last words of names of what may be 0 for a click
_ORIGINS = {"source", "session", "x", "y"}  # and of what says nothing of whether it was one
_MOMENT = 1e6  # from which numbers are times, and 0 is none
_FEW_WORDS = 3  # of such a name
_MANY_KINDS = 8  # of events, above which they are texts
_FEW_KINDS = 5  # named in a message


def find_click_columns(
    sample: Sample, given: Mapping[str, tuple[str, ...]], chosen: ClickSettings, path: Path
) -> Columns:
    """Find a log's columns and check that they are enough, and that no two have one role.

    Args:
        sample: The file's first rows.
        given: What the user says of columns.
        chosen: How clicks become labels.
        path: The file, for messages.

    Raises:
        ConfigError: A column that was given is not there.
        DataError: Columns are missing, or can be read in two ways.
    """
    names = list(sample.names)
    if chosen.search_id is not None and chosen.search_id != "none":
        given = {**given, "search": (chosen.search_id,)}
    columns = find_columns(names, CLICK_ROLES, given)
    if chosen.search_id == "none":
        columns.pop("search", None)
    if "page" not in given and not _counts_pages(sample, columns):
        columns.pop("page", None)
    if "shown" in columns and "shown" not in given:
        columns, given = _settle_shown(sample, columns, given)
    _settle_sums(sample, columns, given, chosen, path)
    rivals = SEARCH_RIVALS if "shown" in columns else CLICK_RIVALS
    refuse_rivals(sample, rivals, given, str(path), only_alike=True)
    if "shown" in columns:
        require(columns, ("query", "shown"), names, str(path))
        return columns
    is_count = "document" in columns and "clicked" not in given  # else ids, parted by commas
    for name in columns.get("clicked", ()) if is_count else ():
        values = (record.get(name) for _, record in sample.rows)
        refuse_thousands(values, name, "clicked", str(path))
    if chosen.estimate == "counts":
        _require_clicks(sample, columns, given, path)
    elif "document" in columns and "rank" not in columns:
        raise DataError(
            f"{path} has no column that looks like rank, so that nothing tells position bias from "
            "relevance; say which it is: --column rank=NAME; or take clicks as they are: "
            "--estimate counts"
        )
    else:
        if {role for role in _RANKED if role not in columns} == {"clicked"}:
            _refuse_events(sample, columns, path, ranked=True)
        require(columns, _RANKED, names, str(path))
    return columns


def _require_clicks(
    sample: Sample, columns: Columns, given: Mapping[str, tuple[str, ...]], path: Path
) -> None:
    """Refuse rows that do not say of which query they are, which document, and whether a click.

    Raises:
        DataError: They do not.
    """
    if not {"clicked"} & (columns.keys() | given.keys()):
        _refuse_events(sample, columns, path)
    wanted = ("query",) if "document" in columns else ("query", "clicked")
    require(columns, wanted, list(sample.names), str(path))
    if "document" not in columns and "clicked" not in given:
        _refuse_clicks_on_nothing(sample, columns["clicked"][0], path)


def _counts_pages(sample: Sample, columns: Columns) -> bool:
    """Tell a page's number, or its first result's, from a start or an offset of something else."""
    name = columns.get("page", ("",))[0]
    if plain_name(name) not in _STARTS:
        return True
    first, *others = sorted(set(_numbers(sample, name) or [-1.0]))
    steps = [other - first for other in others]
    least = min(steps, default=_LEAST_PAGE)
    return first in {0, 1} and least >= _LEAST_PAGE and all(step % least == 0 for step in steps)


def _settle_shown(
    sample: Sample, columns: Columns, given: Mapping[str, tuple[str, ...]]
) -> tuple[Columns, Mapping[str, tuple[str, ...]]]:
    """Take what holds lists for what was shown; numbers beside a document count something.

    Under impressions, they always do.

    Returns:
        The columns, and what is no longer to be asked about.
    """
    names = usual_columns(sample.names, CLICK_ROLES, "shown")
    lists = [name for name in names if _largest(sample, name) is None]
    if len(lists) == 1:
        return {**columns, "shown": tuple(lists)}, {**given, "shown": tuple(lists)}
    if lists or not ("document" in columns or _has_impressions(sample)):
        return columns, given
    return {role: of for role, of in columns.items() if role != "shown"}, given


def _settle_sums(
    sample: Sample,
    columns: Columns,
    given: Mapping[str, tuple[str, ...]],
    chosen: ClickSettings,
    path: Path,
) -> None:
    """Take no ranks from rows that are sums over searches: theirs are averages, or the last.

    Where nothing says which rows are clicks, all are, and their ranks tell nothing either.

    Raises:
        DataError: Ranks are needed.
    """
    if "shown" in columns:
        return
    usual = [] if "shown" in given else usual_columns(sample.names, CLICK_ROLES, "shown")
    showings = [name for name in usual if plain_name(name) in _SHOWINGS]
    if chosen.estimate == "counts":
        counts = (_largest(sample, name) or 0 for name in (*showings, *columns.get("clicked", ())))
        if "clicked" not in columns or any(largest > 1 for largest in counts):
            columns.pop("rank", None)
        return
    for name in showings:
        if (largest := _largest(sample, name) or 0) > 1:
            raise DataError(
                f"{path}: {name!r} holds numbers up to {largest:g}, so that a row is a sum over "
                "searches, whose ranks tell nothing of any one of them; take clicks as they are: "
                f"--estimate counts; or say --column shown= if {name!r} does not count showings"
            )


def _largest(sample: Sample, name: str) -> float | None:
    """Give the largest number of a column that holds nothing else; None where it does."""
    return max(_numbers(sample, name), default=None)


def _numbers(sample: Sample, name: str) -> list[float]:
    """Give the numbers of a column that holds nothing else; none where it does."""
    values = [value for _, record in sample.rows if not is_missing(value := record.get(name))]
    if all(_THOUSANDS.fullmatch(str(value)) for value in values):
        heads = {len(str(value).partition(",")[0]) for value in values if "," in str(value)}
        if heads - {3}:  # ids of three digits may be lists
            values = [str(value).replace(",", "") for value in values]
    try:
        return [as_number(value, name) for value in values]
    except Unusable:
        return []


def _has_impressions(sample: Sample) -> bool:
    """Tell whether a column is called impressions."""
    return any(plain_name(name) == "impressions" for name in sample.names)


def _refuse_clicks_on_nothing(sample: Sample, name: str, path: Path) -> None:
    """Refuse counts of clicks, or flags, where no column says on which document."""
    numbers = _numbers(sample, name)
    may_be_ids = plain_name(name) in _LISTED and not _has_impressions(sample)
    if numbers and not (may_be_ids and set(numbers) - {0, 1}):
        have = ", ".join(repr(one) for one in list(sample.names)[:12])
        raise DataError(
            f"{path}: {name!r} holds {', '.join(f'{one:g}' for one in numbers[:3])}, and no column "
            f"looks like the document that was clicked; it has {have}; say which it is: --column "
            f"document=NAME, or --column clicked={name} if these are documents' ids"
        )


def _refuse_events(sample: Sample, columns: Columns, path: Path, *, ranked: bool = False) -> None:
    """Refuse rows that are not all clicks, it seems, where no known column says which are.

    Raises:
        DataError: With the way out, which for ``ranked`` rows keeps those of what was passed over.
    """
    used = {name for names in columns.values() for name in names}
    for name in sample.names:
        if name not in used and _tells_rows_apart(sample, name, columns):
            values = [record.get(name) for _, record in sample.rows]
            is_told = all(flag_of(value) is not None for value in values) or _counts(name)
            say = f"say --column clicked={name if is_told else 'NAME'}"
            ways = f"keep the clicks' rows alone, {say}, or --column clicked= if every row counts "
            ways += "as a click"
            if ranked:
                ways = say if is_told else f"write 1 for a click and 0 for all else, and {say}"
            raise DataError(
                f"{path}: {name!r} holds {', '.join(_kinds(values)[:_FEW_KINDS])}, and no column "
                f"says which rows are clicks: {ways}"
            )


def _tells_rows_apart(sample: Sample, name: str, columns: Columns) -> bool:
    """Tell a column that seems to say which rows are clicks: of kinds of events, or of clicks."""
    values = [record.get(name) for _, record in sample.rows]
    kinds = _kinds(values)
    is_event = len(kinds) > 1 and _names_events(name, len(kinds))
    is_click = "click" in plain_name(name) and _tells_clicks(sample, name, columns)
    return bool(kinds) and (is_event or is_click or _are_kinds(name, values, kinds))


def _names_events(name: str, n_kinds: int) -> bool:
    """Tell the name of a column of kinds of events; one that only ends like it holds few."""
    if plain_name(name).replace("_", "") in _EVENTS:
        return True
    *others, last = plain_name(name).split("_")
    is_sort = last in _SORTS and not (_DOINGS | {"hit"}).isdisjoint(others)
    return (last in _DOINGS or is_sort) and n_kinds <= _MANY_KINDS


def _kinds(values: Sequence[Any]) -> list[str]:
    """Give the different values that there are, as text."""
    return sorted({str(value) for value in values if not is_missing(value)})


def _tells_clicks(sample: Sample, name: str, columns: Columns) -> bool:
    """Tell a column of clicks, by its name, that holds more than a yes for every row.

    What every row has, such as each click's id or time, says of none that it is no click; other
    rows' documents do. So does a 0, but for one of a rank or a measure.
    """
    if _last_word(name) in _ORIGINS:
        return False
    values = [record.get(name) for _, record in sample.rows]
    if any(map(is_missing, values)):
        return True
    numbers = _numbers(sample, name)
    least, largest = min(numbers, default=1), max(numbers, default=1)
    if least < 0 or (_counts(name) and largest > 1):
        return True
    is_measure = set(numbers) - {0, 1} and min(filter(None, numbers)) < _MOMENT
    has_zeros = any(not value or flag_of(value) is False for value in values)
    if has_zeros and not is_measure and _last_word(name) not in _PLACES:
        return True
    documents = [str(value_of(record, columns, "document")) for _, record in sample.rows]
    names = list(map(str, values))
    return names != documents and set(names) <= set(documents)


def _last_word(name: str) -> str:
    """Give the last word of a column's name, which says what it holds."""
    return plain_name(name).rpartition("_")[2]


def _counts(name: str) -> bool:
    """Tell a name of a column that counts, such as ``click_count``."""
    return "count" in plain_name(name) or bool(_COUNTING & set(plain_name(name).split("_")))


def _are_kinds(name: str, values: Sequence[Any], kinds: Sequence[str]) -> bool:
    """Tell a column of few kinds, one of which is a click, in rows of which not all are clicks.

    A name of a kind ends in the click, or is one word of a program's: a button says Click here.
    Beside a kind that says what was shown, any action may be one.
    """
    is_one = len(kinds) == 1 and not any(map(is_missing, values))
    is_text = len(kinds) > _MANY_KINDS or 2 * len(kinds) > len(values)
    if is_one or is_text or _last_word(name) in _ORIGINS:
        return False
    named = {kind: words for kind in kinds if len(words := _words(kind)) <= _FEW_WORDS}
    for kind, words in named.items():
        if _CLICKS & set(words[-1:] if " " in kind.strip() else words):
            return True
        if _EXPOSURES & set(words) and any(
            _ACTIONS & set(others) for other, others in named.items() if other != kind
        ):
            return True
    return False


def _words(kind: str) -> list[str]:
    """Take the name of a kind apart."""
    return [word for word in plain_name(kind).split("_") if word]
