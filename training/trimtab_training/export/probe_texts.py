"""Texts of every length, in several scripts, on which an export is proved."""

from collections.abc import Sequence

_SENTENCES = (
    "How do I cancel my subscription before it renews?",
    "Zwei Jungen spielen im Park; einer von ihnen fällt vom Klettergerüst.",
    "pip install --no-deps 'trimtab[server]'  # then: trimtab serve",
    "Bronchial asthma, moderate persistent, with acute exacerbation (J45.41)",
    "東京の天気は明日から雨になるそうです。",
    "Где находится ближайшая аптека?",
    "ΦΩΣ ΨΣΩΣ İSTANBUL GROẞ",
    "naïve café — “quoted”, it\u2019s 20 °C… ½ price!",
    "مرحبا بالعالم",
    "🙂🙃 emoji and\ttabs\nand new lines",
    "def f(x): return {k: v**2 for k, v in x.items() if v >= 0}",
    "The court held that the statute of limitations had expired in 1998.",
    "\u03b1-ketoglutarate dehydrogenase complex; 5\u2032-UTR; H₂O",
)
_EDGES = ("", " ", "a", "?", "x" * 300, "word " * 3, "  spaces   around  ")


def probe_texts(max_tokens: int, special_tokens: Sequence[str] = ()) -> list[str]:
    """Give texts from no token to more than an encoder reads.

    Args:
        max_tokens: Tokens that it reads.
        special_tokens: Its tokenizer's own, as ``[SEP]``: some take them for words in a text.

    Returns:
        Texts that roughly double in length, up to twice as long, and one for each special token.
    """
    texts = [*_EDGES, *_SENTENCES, *(f"do {token} cancel" for token in special_tokens)]
    words = " ".join(_SENTENCES).split()
    n_words = 1
    while n_words <= 2 * max_tokens:
        start = 7 * len(texts) % len(words)
        endless = words[start:] + words * (1 + n_words // len(words))
        texts.append(" ".join(endless[:n_words]))
        n_words = max(n_words + 1, int(1.6 * n_words))
    return texts
