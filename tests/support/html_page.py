"""Reads an HTML page as strictly as a validator would where it matters, without a browser."""

from html.parser import HTMLParser

_EMPTY = {"meta", "link", "br", "hr", "img", "input"}
_REFERS = ("aria-labelledby", "aria-describedby", "for")
_LOADS = ("src", "srcset", "data", "poster", "background", "action", "formaction")


class HtmlPage(HTMLParser):
    """A parsed page.

    Attributes:
        problems: Elements that are not closed in order, ids that occur twice, references to ids
            that are not there.
        elements: Name and attributes of every element, in order.
        loads: Whatever the page would fetch.
        text: Everything there is to read, on one line; style and script left out.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.loads: list[str] = []
        self._open: list[str] = []
        self._read: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{name}> is not closed" for name in self._open]
        ids = [given["id"] for _, given in self.elements if "id" in given]
        self.problems += [f"id {one!r} occurs twice" for one in set(ids) if ids.count(one) > 1]
        for name, given in self.elements:
            for key in _REFERS:
                missing = set(given.get(key, "").split()) - set(ids)
                self.problems += [f"<{name} {key}> refers to {one!r}" for one in missing]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._read).split())

    def named(self, name: str) -> list[dict[str, str]]:
        """Attributes of every element of a name."""
        return [given for one, given in self.elements if one == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.elements.append((tag, given))
        self.loads += [given[key] for key in _LOADS if key in given]
        href = given.get("href") or given.get("xlink:href") or "#"
        if not href.startswith(("#", "data:")):
            self.loads.append(href)
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1:]}")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self._read.append(data)
