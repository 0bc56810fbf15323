"""The rival that re-embeds: its loss, its schedule, its order."""

import math
from types import SimpleNamespace

import pytest
import torch

from benchmarks.quality.encoder_fit import (
    TEMPERATURE,
    Encoder,
    Setting,
    Texts,
    batch_loss,
    batches,
    rate_at,
)


class FixedEncoder:
    """Gives the vector that a text's only token names."""

    def __init__(self, vectors: list[list[float]]) -> None:
        self.vectors = torch.tensor(vectors)

    def embed(self, tokens: list[list[int]]) -> torch.Tensor:
        return self.vectors[[row[0] for row in tokens]]


def test_that_another_document_of_the_query_is_no_negative() -> None:
    encoder = FixedEncoder([[1.0, 0.0], [0.0, 1.0]])
    texts = Texts({"q": [0], "r": [1]}, {"a": [0], "b": [0], "c": [1]})
    pairs = [("q", "a"), ("r", "c"), ("q", "b")]
    masked = batch_loss(encoder, texts, {"q": {"a": 1, "b": 1}, "r": {"c": 1}}, pairs)
    other = math.log1p(math.exp(-1 / TEMPERATURE))
    alone = math.log1p(2 * math.exp(-1 / TEMPERATURE))
    assert float(masked) == pytest.approx((2 * other + alone) / 3, abs=1e-6)
    unmasked = batch_loss(encoder, texts, {"q": {"a": 1}, "r": {"c": 1}}, pairs)
    assert float(unmasked) > float(masked) + 0.2


def test_that_an_epoch_holds_every_pair_once_in_an_order_of_its_own() -> None:
    qrels = {f"q{row}": {f"d{row}": 1.0, "x": 0.0} for row in range(150)}
    first, second = list(batches(qrels, 1)), list(batches(qrels, 2))
    assert [len(part) for part in first] == [64, 64, 22]
    assert first == list(batches(qrels, 1)) != second
    wanted = sorted((f"q{row}", f"d{row}") for row in range(150))
    for parts in (first, second):
        assert sorted(pair for part in parts for pair in part) == wanted


def test_that_the_rate_rises_and_falls() -> None:
    shares = [rate_at(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == pytest.approx(1.0)
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert 0 < shares[-1] < 0.02


def test_that_a_setting_is_found_again_by_its_folder() -> None:
    setting = Setting(5e-05, 6, "bfloat16")
    assert Setting.named(setting.name) == setting
    assert Setting.named(Setting(0.0001, 6, "float32").name).rate == 1e-4


def test_that_texts_come_back_in_their_order_whatever_their_length() -> None:
    encoder = Encoder.__new__(Encoder)
    encoder.precision = "float32"
    encoder.tokenizer = SimpleNamespace(pad_token_id=0)
    encoder.body = torch.nn.Module()
    encoder.body.config = SimpleNamespace(hidden_size=3)
    table = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    encoder.body.forward = lambda input_ids, attention_mask: SimpleNamespace(
        last_hidden_state=table[input_ids]
    )
    tokens = [[1, 2, 3, 4], [5], [6, 7], [8]]
    wanted = torch.stack(
        [torch.nn.functional.normalize(table[row].mean(dim=0), dim=-1) for row in tokens]
    )
    torch.testing.assert_close(encoder.embed(tokens, n_at_once=2), wanted)
    torch.testing.assert_close(torch.from_numpy(encoder.embed_all(tokens)), wanted)
