"""Do two encoders give the same vectors? A few short texts, embedded by each, tell.

A fingerprint is of weights and prefixes. What stands around the weights, as pooling and tokenizer,
is told by what comes out instead: these vectors travel beside the fingerprint, and two encoders are
the same where both agree. Files of older versions have none; they are taken by fingerprint alone.
"""

import numpy as np
from numpy.typing import NDArray

from trimtab.model.packed_matrix import pack_matrix, unpack_matrix

PROBE_TEXTS = ("How do I cancel?", "Café GROẞ, 20 °C", "東京 weather")
"""Short, so that all of them is read; capitals, accents and scripts that tokenizers treat apart."""
OTHER_VECTORS = "the same weights and prefixes, and other vectors: another pooling or tokenizer"
_TOLERANCE = 0.03
"""Of the longer vector: rounding on other machines and versions is far below, a pooling above."""


def pack_probe(vectors: NDArray[np.float32]) -> str:
    """Write down what an encoder gives for :data:`PROBE_TEXTS`, without prefixes.

    Args:
        vectors: Shape ``(n, dim)``; stored as float16.
    """
    limit = np.finfo(np.float16).max
    return pack_matrix(np.clip(vectors, -limit, limit))


def unpack_probe(probe: str) -> NDArray[np.float32]:
    """Read what :func:`pack_probe` wrote.

    Returns:
        Shape ``(n, dim)``.

    Raises:
        ValueError: It is damaged.
    """
    return unpack_matrix(probe, (len(PROBE_TEXTS), -1))


def probes_agree(one: str, other: str) -> bool:
    """Tell whether two encoders give the same vectors, as far as is known.

    Args:
        one: As :func:`pack_probe` writes it, or empty where it is not known.
        other: The same; a damaged one agrees with nothing.
    """
    if not (one and other) or one == other:
        return True
    try:
        return vectors_agree(unpack_probe(one), unpack_probe(other))
    except ValueError:
        return False


def vectors_agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tell whether rows are the same but for rounding, in direction and length; widths may differ.

    Args:
        one: Shape ``(n, dim)``.
        other: Shape ``(n, dim)``, of another ``dim`` perhaps.
    """
    if one.shape != other.shape:
        return False
    longer = np.maximum(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return bool(np.all(np.linalg.norm(one - other, axis=1) <= _TOLERANCE * longer))
