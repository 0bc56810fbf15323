"""Is a query in another language than it should be? By script, and by a small classifier.

The classifier (py3langid: 133 languages, a few megabytes, no network) is unsure of short texts. A
query counts as wrong only where the expected language is nearly ruled out: of 1,048 English lay
queries of HPO of 20 characters and more, 2 were dropped at this threshold; of 9 sentences in five
other languages, 8. Shorter queries are judged by their script alone.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from trimtab_training.errors import ConfigError

_RULED_OUT = 0.01
_SURE = 0.9
_FEWEST_LETTERS, _FEWEST_DOCUMENT_LETTERS = 17, 60
_FEWEST_CHARACTERS = 20
_SHOWN_CHARACTERS = 2000


class LanguageCheck:
    """Tells wrong languages for one run.

    Attributes:
        expected: The language asked for, or else that of most documents; None where unknown.
    """

    def __init__(self, language: str | None, documents: Iterable[str]) -> None:
        """Load the classifier, and find the documents' language where none is asked for.

        Args:
            language: ISO 639-1 code of the language asked for, or None for the documents' own.
            documents: Texts, or a sample of them.

        Raises:
            ConfigError: py3langid is missing, or it does not know the language.
        """
        self._identifier = _load_identifier()
        known = set(self._shares("a text"))
        if language is not None and language not in known:
            raise ConfigError(
                f"unknown language {language!r}; expected an ISO 639-1 code such as en, de or zh"
            )
        self._asked = language
        found = Counter(filter(None, map(self.language_of, documents)))
        self.expected = language or (found.most_common(1)[0][0] if found else None)

    def language_of(self, text: str) -> str | None:
        """Give the code of a document's language, or None where that is not certain."""
        shown = text[:_SHOWN_CHARACTERS]
        if sum(map(str.isalpha, shown)) < _FEWEST_DOCUMENT_LETTERS:
            return None
        shares = self._shares(shown)
        best = max(shares, key=lambda code: shares[code])
        return best if shares[best] >= _SURE else None

    def is_wrong(self, query: str, document: str) -> bool:
        """Tell whether a query is in a language that it should not be in.

        Args:
            query: Its text.
            document: Text of its document.
        """
        if self._asked is None and _is_foreign_script(query, document):
            return True
        n_letters = sum(map(str.isalpha, query))
        wanted = {self.expected}
        if self._asked is None:
            wanted.add(self.language_of(document))
        codes = wanted - {None}
        if not codes or len(query) < _FEWEST_CHARACTERS or n_letters < _FEWEST_LETTERS:
            return False
        shares = self._shares(query)
        return max(shares.get(code or "", 0.0) for code in codes) < _RULED_OUT

    def _shares(self, text: str) -> dict[str, float]:
        """Give each language's probability."""
        return {str(code): float(share) for code, share in self._identifier.rank(text)}


@cache
def _load_identifier() -> Any:
    """Load the classifier, which takes most of a second, once."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "telling languages needs py3langid: pip install 'trimtab[training]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def script_of(letter: str) -> str:
    """Name a letter's script; the three of Japanese and Chinese count as one.

    Example:
        >>> script_of("é"), script_of("я"), script_of("カ")
        ('LATIN', 'CYRILLIC', 'CJK')
    """
    name = unicodedata.name(letter, "").split(" ", maxsplit=1)[0]
    return "CJK" if name in {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"} else name


def _is_foreign_script(query: str, document: str) -> bool:
    """Tell whether most letters of a query are in a script that its document does not use."""
    known = {script_of(letter) for letter in set(document) if letter.isalpha()}
    scripts = [script_of(letter) for letter in query if letter.isalpha()]
    foreign = sum(script not in known for script in scripts)
    return bool(known) and foreign * 2 > len(scripts)
