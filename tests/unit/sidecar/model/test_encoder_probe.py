"""Two encoders are the same where they give a few texts the same vectors, but for rounding."""

import numpy as np
import pytest

from trimtab.model.encoder_probe import PROBE_TEXTS, pack_probe, probes_agree, unpack_probe

VECTORS = np.random.default_rng(0).standard_normal((len(PROBE_TEXTS), 384)).astype(np.float32)
PROBE = pack_probe(VECTORS)


def rotated(share: float) -> np.ndarray:
    """Turn the last vector by a share of its length."""
    turned = VECTORS.copy()
    turned[-1] += share * np.linalg.norm(turned[-1]) * np.eye(384, dtype=np.float32)[0]
    return turned


def test_vectors_are_read_as_they_were_written_but_for_float16() -> None:
    assert np.allclose(unpack_probe(PROBE), VECTORS, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rounding_makes_no_other_encoder(scale: float) -> None:
    assert probes_agree(pack_probe(scale * VECTORS), pack_probe(scale * rotated(3e-3)))


@pytest.mark.parametrize(
    "other",
    [rotated(0.1), 1.1 * VECTORS, VECTORS[:, :192], VECTORS[:, ::-1].copy()],
    ids=["one text", "length", "width", "order"],
)
def test_other_vectors_are_of_another_encoder(other: np.ndarray) -> None:
    assert not probes_agree(PROBE, pack_probe(other))
    assert not probes_agree(pack_probe(other), PROBE)


def test_what_is_not_known_is_taken() -> None:
    for one, other in (("", PROBE), (PROBE, ""), ("", "")):
        assert probes_agree(one, other)


@pytest.mark.parametrize("damaged", ["not base64!", PROBE[:-8], "AAAA", PROBE[4:]])
def test_what_is_damaged_agrees_with_nothing(damaged: str) -> None:
    assert not probes_agree(PROBE, damaged)


def test_text_without_a_vector_and_values_beyond_float16_agree_with_themselves() -> None:
    odd = VECTORS.copy()
    odd[0], odd[1, 0] = 0.0, 1e6
    assert probes_agree(pack_probe(odd), pack_probe(odd.astype(np.float64) * (1 + 1e-3)))
