"""Is the text of a corpus where its name says, or are titles alone known, or file names?"""

from collections.abc import Iterable

from trimtab_training.data.importers.columns import Columns, is_missing, plain_name
from trimtab_training.data.importers.dates import as_datetime
from trimtab_training.data.importers.sources import Sample
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.errors import DataError

_NO_TEXTS = {  # last words of names under which many words stand that are no text
    "author", "authors", "creator", "creators", "contributor", "contributors", "editor", "editors",
    "category", "categories", "keyword", "keywords", "tag", "tags",
}  # fmt: skip
_UNSURE_TEXTS = {"query", "question", "document"}  # names that texts have, and other things, too
_DATE_CHARS = 70  # no date is longer: JavaScript's, with the zone's whole name, has 65 or so


def refuse_title_for_text(sample: Sample, columns: Columns, where: str) -> None:
    """Refuse a corpus of whose texts only titles are known, where another column says more.

    Dates, authors, keywords and the like say nothing here, nor does a column most of whose cells
    are alike.

    Args:
        sample: The file's first rows.
        columns: Its columns by role.
        where: The file, for messages.

    Raises:
        DataError: With the columns that could be the text.
    """
    name = columns.get("text", ("",))[0]
    if plain_name(name) != "title":
        return
    used = {one for of in columns.values() for one in of}
    n_words = count_words(_texts(sample, name))
    others = [
        one
        for one in sample.names
        if one not in used
        and count_words(texts := _texts(sample, one)) > n_words
        and may_be_text(one, texts)
    ]
    if others:
        choices = " or ".join(f"--column text={one}" for one in [*others, name])
        raise DataError(
            f"{where}: {' and '.join(map(repr, others))} could be the text, which has no name that "
            f"is known, or {name!r} is all of it; say which: {choices}"
        )


def refuse_longer_summary(sample: Sample, columns: Columns, where: str) -> None:
    """Refuse a corpus whose text is called like a query or a file, where its summary says more.

    Args:
        sample: The file's first rows.
        columns: Its columns by role.
        where: The file, for messages.

    Raises:
        DataError: With both columns.
    """
    (text,), (summary,) = columns.get("text", ("",)), columns.get("summary", ("",))
    n_words = count_words(_texts(sample, text))
    if plain_name(text) in _UNSURE_TEXTS and count_words(_texts(sample, summary)) > n_words:
        raise DataError(
            f"{where}: {summary!r} has more words than {text!r}, and either could be the text; say "
            f"which: --column text={summary} or --column text={text}"
        )


def may_be_text(name: str, texts: list[str]) -> bool:
    """Tell what can be the text of documents: mostly different ones that are no dates."""
    is_beside = plain_name(name).split("_")[-1] in _NO_TEXTS
    return not is_beside and 2 * sum(not _is_date(text) for text in set(texts)) > len(texts)


def _texts(sample: Sample, name: str) -> list[str]:
    """Give the texts of a column, less what is missing."""
    values = [record.get(name) for _, record in sample.rows]
    return [value for value in values if isinstance(value, str) and not is_missing(value)]


def count_words(texts: Iterable[str]) -> int:
    """Count the words of texts."""
    return sum(len(text.split()) for text in texts)


def _is_date(text: str) -> bool:
    """Tell a date, with or without a time of day."""
    if len(text) > _DATE_CHARS:
        return False
    try:
        as_datetime(text, day_first=True)
    except (ValueError, OverflowError) as error:
        return isinstance(error, Unusable)  # of a date whose end, such as PM, is not known
    return True
