"""TREC's tagged text: topics (<top>, <topic>) and documents (<DOC>) as records of fields.

The tags are SGML's as TREC has used them since 1992: letter case is free, a tag need not be closed,
and `<` and `&` stand in texts as they are. XML files, as later tracks have them, are read as well.

Source:
    TREC's ad hoc topics and collections, https://trec.nist.gov/data/topics_eng/
"""

import codecs
import html
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

from trimtab_training.data.importers.lines import read_lines
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Text, Unusable, as_name, as_text
from trimtab_training.errors import DataError

_RECORD_LIMIT = 1 << 26  # characters of one record
_TOPICS, _DOCUMENTS = frozenset({"top", "topic"}), frozenset({"doc"})
_MARK = re.compile(r"<(/?)(doc|top|topic)(?=[\s>/]|$)|(<!--)|(<!\[CDATA\[)", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_STRAY = re.compile(r"<(?!/?[A-Za-z][^<>]*>)")  # no tag: a text's own less-than sign
_CLOSING = re.compile(r"</([A-Za-z][^\s<>/]*)")
_ENCODING = re.compile(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']([\w.:-]+)")
_LABEL = re.compile(
    r"^\s*(number|title|topic|description|narrative|domain|summary)\s*:", re.IGNORECASE
)
_ID_TAGS = ("docno", "docid", "num")
_ID_ATTRIBUTES = ("number", "num", "id", "qid", "topic_id", "docno", "docid")
_OTHER_ID_TAGS = ("id", "identifier", "number", "qid", "topicid", "topic_id", "query_id")
_TITLES = ("title", "head", "headline", "hl", "ttl")
_TOPIC_TEXTS = ("title", "query", "question", "desc", "description")
_DOC_TEXTS = ("text", "body", "abstract")
_NOT_TEXT = frozenset({*_ID_TAGS, *_OTHER_ID_TAGS, *_TITLES, "dochdr", "dochead"})
_OF_LAYOUT = (
    "p br hr b i u em strong a span sub sup font center li ul ol dl dt dd table tr td th div pre "
    "blockquote img small big tt code h1 h2 h3 h4 h5 h6"
)
_LAYOUT = frozenset(_OF_LAYOUT.split())  # tags that set a text and do not name a field


def read_tagged(
    path: Path, tally: Tally, what: str, given: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[int, Text]]:
    """Yield every document, or topic, of a file of tagged text with its place.

    Args:
        path: The file.
        tally: Counts the records, and those that can't be used.
        what: ``query`` or ``document``.
        given: Tags of the ``id`` and the ``text``, as the user names them.

    Raises:
        DataError: The file can't be read, or a record or a comment in it does not end.
    """
    for place, record in _Records(path, tally).read():
        tally.row()
        try:
            yield place, parse_record(record, what, given)
        except Unusable as reason:
            tally.drop(str(reason), place)


def parse_record(record: str, what: str, given: Mapping[str, tuple[str, ...]]) -> Text:
    """Take id, title and text of one tagged record.

    Raises:
        Unusable: It has no id, or a topic no text.
    """
    fields = _Fields(record)
    name = as_name(fields.name(given.get("id", ())), f"{what} id")
    wanted = given.get("text")
    if what == "query":
        text = as_text(fields.first(wanted or _TOPIC_TEXTS), "query")
        if not text and wanted is None:
            text = as_text(_flat(fields.own), "query")
        if not text:
            tags = ", ".join(f"<{tag}>" for tag in wanted or _TOPIC_TEXTS)
            raise Unusable(f"a topic without a text in {tags} (--column query=TAG takes another)")
        return Text(text, "", name)
    title = as_text(fields.first(given.get("title", _TITLES)), "title")
    return Text(as_text(fields.body(wanted), "document"), title, name)


def has_record(lines: list[str]) -> bool:
    """Tell whether lines are, or lead up to, tagged text."""
    return any(line.lstrip().startswith("<") for line in lines)


class _Records:
    """A file taken apart where records begin and end; comments and CDATA hide such tags."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._path, self._tally = path, tally
        self._names: frozenset[str] = frozenset()  # tags of the file's records, once one is seen
        self._held: list[str] = []
        self._size, self._start = 0, -1  # start: where the open record begins; -1: none is open
        self._until, self._since = "", -1  # what ends the comment or section, and where it began
        self._hides_start = self._has_finished = False

    def read(self) -> Iterator[tuple[int, str]]:
        """Yield every record's place and text."""
        encoding = ""
        for place, raw in read_lines(self._path, self._tally):
            encoding = encoding or self._encoding(raw)
            yield from self._line(place, raw.decode(encoding, "surrogateescape"))
            if self._size > _RECORD_LIMIT:
                raise DataError(
                    f"{self._tally.where(max(self._start, self._since))}: nothing ends within "
                    "64 MB what begins there"
                )
        if self._until:
            raise DataError(
                f"{self._tally.where(self._since)}: a comment, or a CDATA section, begins and does "
                f"not end; close it with {self._until}"
            )
        if self._start >= 0:
            yield self._finish(is_closed=False)

    def _encoding(self, line: bytes) -> str:
        """Take the encoding that an XML declaration names, or UTF-8."""
        named = _ENCODING.search(line)
        name = named[1].decode() if named else "utf-8"
        try:
            return codecs.lookup(name).name
        except LookupError as error:
            raise DataError(f"{self._path}: no such encoding as {name!r}; use UTF-8") from error

    def _line(self, place: int, line: str) -> Iterator[tuple[int, str]]:
        """Go through one line from mark to mark."""
        begin = at = 0
        while "<" in line or self._until:
            if self._until and (at := self._unhide(line, at)) < 0:
                break
            mark = _MARK.search(line, at)
            if mark is None:
                break
            at = mark.end()
            if mark[2] is None:
                self._hide("-->" if mark[3] else "]]>", place)
            elif self._is_ours(mark[2]):
                end = line.find(">", at) + 1 or at if mark[1] else mark.start()
                if self._start >= 0:
                    self._hold(line[begin:end])
                    yield self._finish(is_closed=bool(mark[1]))
                self._begin(mark, place)
                begin = end
        if self._start >= 0:
            self._hold(line[begin:])
        elif self._until:
            self._size += len(line)

    def _begin(self, mark: "re.Match[str]", place: int) -> None:
        """Begin a record at its tag; count a closing tag that closes none."""
        if not mark[1]:
            self._start, self._size = place, 0
        elif not self._has_finished:
            self._tally.row()
            self._tally.drop(f"</{mark[2]}> without its beginning", place)
        self._has_finished = False

    def _hide(self, until: str, place: int) -> None:
        """Pass over records' tags from here on."""
        self._until, self._since, self._hides_start = until, place, False

    def _unhide(self, line: str, at: int) -> int:
        """Find where what is hidden ends, or -1.

        In a record, a comment that does not end before the record's closing tag is none (web pages
        have such), unless a whole record is commented out.
        """
        end = line.find(self._until, at)
        for mark in _MARK.finditer(line, at, len(line) if end < 0 else end):
            if mark[2] is None or not self._is_ours(mark[2]):
                continue
            if not mark[1]:
                self._hides_start = True
            elif self._start >= 0 and not self._hides_start:
                self._until = ""
                return mark.start()
        if end < 0:
            return -1
        end += len(self._until)
        self._until = ""
        return end

    def _is_ours(self, tag: str) -> bool:
        """Tell the tags of this file's records; the first one says which they are."""
        name = tag.lower()
        if not self._names:
            self._names = _TOPICS if name in _TOPICS else _DOCUMENTS
        return name in self._names

    def _hold(self, text: str) -> None:
        """Keep a part of the open record."""
        self._held.append(text)
        self._size += len(text)

    def _finish(self, *, is_closed: bool) -> tuple[int, str]:
        """Give the open record, and begin anew."""
        if not is_closed:
            self._tally.note("a record that is not closed; it was read up to the next", self._start)
        found = self._start, "".join(self._held)
        self._held, self._size, self._start = [], 0, -1
        self._has_finished = is_closed
        return found


class _Fields(HTMLParser):
    """The fields of one record by tag, and its text that is in none of them."""

    def __init__(self, record: str) -> None:
        super().__init__()
        self.own: list[str] = []
        self._by_tag: dict[str, list[str]] = {}
        self._attributes: dict[str, str] = {}
        self._open: list[str] = []
        self._has_begun = False
        if "<!" in record or "<?" in record:
            record = _DECLARATION.sub(" ", _CDATA.sub(_escaped, _COMMENT.sub(" ", record)))
        self._closed = {name.lower() for name in _CLOSING.findall(record)}
        self.feed(_STRAY.sub("&lt;", record))
        self.close()

    def set_cdata_mode(self, *_args: object, **_options: object) -> None:
        """Read on: nothing in a record is a program, and titles hold no more than text."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a field: one that has no closing tag in this record ends here."""
        if not self._has_begun:
            self._has_begun = True
            self._attributes = {name: value or "" for name, value in attrs}
        elif tag in _LAYOUT:
            self.handle_data(" ")
        else:
            self._open = [one for one in self._open if one in self._closed]
            self.handle_data(" ")
            self._open.append(tag)
            self._by_tag.setdefault(tag, []).append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Pass an empty field over."""
        if not self._has_begun:
            self.handle_starttag(tag, attrs)
        else:
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        """End a field, and what is open in it."""
        if tag in self._open:
            del self._open[self._open.index(tag) :]
        self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        """Add text to the fields that are open, or to none."""
        for tag in self._open:
            self._by_tag[tag].append(data)
        if not self._open:
            self.own.append(data)

    def first(self, tags: tuple[str, ...]) -> str:
        """Give the text of the first of some tags that has any."""
        return next((text for tag in tags if (text := self._text(tag))), "")

    def name(self, given: tuple[str, ...]) -> str:
        """Give the record's id, from the tags or attributes that were named, or the usual ones."""
        wanted = tuple(one.lower() for one in given)
        found = [self._attributes[one] for one in wanted if one in self._attributes]
        found += [self._text(tag) for tag in wanted or _ID_TAGS]
        if not wanted:
            found += [self._attributes[one] for one in _ID_ATTRIBUTES if one in self._attributes]
            found += [self._text(tag) for tag in _OTHER_ID_TAGS]
        name = next((text for text in found if text.strip()), "")
        return name.split()[0] if name else ""

    def body(self, wanted: tuple[str, ...] | None) -> str:
        """Give a document's text: under the usual tags, or all but id and title without them."""
        tags = tuple(wanted or _DOC_TEXTS)
        if wanted or any(tag in self._by_tag for tag in tags):
            return self.first(tags)
        parts = [text for tag in self._by_tag if tag not in _NOT_TEXT and (text := self._text(tag))]
        return _flat([*self.own, *(f" {part}" for part in parts)])

    def _text(self, tag: str) -> str:
        """Give the text under a tag, without what only names the tag again."""
        text = _flat(self._by_tag.get(tag.lower(), []))
        return _LABEL.sub("", text).strip()


def _flat(parts: list[str]) -> str:
    """Join parts of a text, blanks made one."""
    return " ".join("".join(parts).split())


def _escaped(section: "re.Match[str]") -> str:
    """Write a CDATA section as any other text is written."""
    return html.escape(section[1], quote=False)
