"""Texts as units that can be compared: words, or characters where a script has no spaces."""

import re
import unicodedata

_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_UNIT = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")


def units_of(text: str) -> list[str]:
    """Cut a text into comparable units: case, accents' encoding and punctuation don't count.

    Returns:
        Its words; of Chinese, Japanese, Thai, Lao, Khmer and Burmese its characters.

    Example:
        >>> units_of("Runny nose, again?"), units_of("鼻水が")
        (['runny', 'nose', 'again'], ['鼻', '水', 'が'])
    """
    return _UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def trigrams_of(units: list[str]) -> frozenset[str]:
    """Give the character trigrams of some units, whatever the order of the units.

    Example:
        >>> sorted(trigrams_of(["hat"]))
        [' ha', 'at ', 'hat']
    """
    return frozenset(
        padded[at : at + 3]
        for unit in units
        for padded in [f" {unit} "]
        for at in range(len(padded) - 2)
    )
