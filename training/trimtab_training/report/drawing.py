"""How a drawing gets onto the page: SVG whose colours and fonts the page's style decides.

Shapes are drawn in placeholder colours, which become CSS variables; text stays text. So one drawing
does for light, dark and print.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

INK, QUIET, GRID, RAW, ADAPTED, LOSS, PAPER = (
    "#a10001", "#a10002", "#a10003", "#a10004", "#a10005", "#a10006", "#a10007",
)  # fmt: skip
_VARIABLES = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--grid)",
    RAW: "var(--raw)",
    ADAPTED: "var(--adapted)",
    LOSS: "var(--loss)",
    PAPER: "var(--paper)",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trimtab",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "hatch.color": PAPER,
    "hatch.linewidth": 1.2,
}
_WIDTH = 7.2  # inches; the page scales drawings, so only proportions matter


@dataclass(frozen=True)
class Plot:
    """A drawing and what it says.

    Attributes:
        name: Short name, unique on a page.
        title: What is shown.
        caption: What to see in it, beside it.
        text: The drawing in words, for whoever can't see it.
        svg: The drawing, one ``<svg>`` element.
    """

    name: str
    title: str
    caption: str
    text: str
    svg: str


@contextmanager
def draw_figure(height: float, *, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """Make a figure in the page's style, whatever the user's own settings of matplotlib are.

    Args:
        height: In inches; every figure has the same width.
        columns: Axes side by side.

    Yields:
        The figure, and its axes: one, or an array of as many as there are columns.
    """
    with _styled() as figure_class:
        figure = figure_class(figsize=(_WIDTH, height))
        yield figure, figure.subplots(ncols=columns)


def finish_figure(figure: Any, name: str, title: str, caption: str, text: str) -> Plot:
    """Write a figure as one SVG element that lives on a page with others."""
    drawn = StringIO()
    with _styled():
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(drawn, metadata=nothing)  # savefig would draw the figure twice
    return Plot(name, title, caption, text, _inline(drawn.getvalue(), name, title, text))


@contextmanager
def _styled() -> Iterator[Any]:
    """Import matplotlib, which takes a second, and draw in our style; gives the class of figures.

    Where no home can be written to, matplotlib keeps its cache in a temporary folder and says so
    in three lines that help nobody here.
    """
    talk = logging.getLogger("matplotlib")
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    finally:
        talk.setLevel(level)
    with matplotlib.style.context(_STYLE, after_reset=True):
        yield Figure


def _inline(svg: str, name: str, title: str, text: str) -> str:
    """Make a drawing that shares a page: colours and family from its style, ids of its own."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    # matplotlib 3.11 writes size and family apart, those before it in one.
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    label = f'role="img" aria-labelledby="{name}-title {name}-text" class="drawing"'
    words = (
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-text">{escape(text)}</desc>'
    )
    svg = svg.replace("<svg", f"<svg {label}", 1)
    start = svg.index(">") + 1
    return svg[:start] + words + svg[start:]
