"""Whatever a manifest holds: written is read, and anything else is one typed error."""

import json
from dataclasses import asdict, fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.onnx_models import MANIFEST, manifest_record, queries_of
from trimtab.errors import ManifestError
from trimtab.model.manifest import SIMILARITIES, USES, EncoderCard, Manifest, QueryRegion

SOME = settings(max_examples=150, deadline=None)
texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(texts, json_values, max_size=3)
cards = st.builds(
    EncoderCard,
    name=texts,
    fingerprint=texts,
    max_tokens=st.none() | st.integers(1, 10**6),
    query_prefix=texts,
    document_prefix=texts,
)
manifests = st.builds(
    Manifest,
    name=texts,
    kind=texts,
    use=st.sampled_from(USES),
    dim_in=st.integers(1, 2**16),
    dim_out=st.integers(1, 2**16),
    similarity=st.sampled_from(SIMILARITIES),
    normalised=st.booleans(),
    encoder=cards,
    stores_queries=st.booleans(),
    training=records,
    metrics=records,
    versions=st.dictionaries(texts, texts, max_size=3),
    created=texts,
)
REGION = asdict(QueryRegion.pack(queries_of(2), threshold=0.25, share=0.01))
KNOWN = {item.name for kind in (Manifest, EncoderCard) for item in fields(kind)}
unknown = st.dictionaries(texts.filter(lambda name: name not in KNOWN), json_values, max_size=3)


@given(manifests)
@SOME
def test_manifest_written_is_manifest_read(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(manifests, unknown, unknown)
@SOME
def test_unknown_keys_are_tolerated(
    manifest: Manifest, more: dict[str, Any], more_of_encoder: dict[str, Any]
) -> None:
    record = json.loads(manifest.to_json()) | more
    record["encoder"] |= more_of_encoder
    assert Manifest.from_json(json.dumps(record)) == manifest


@given(st.sampled_from(sorted(manifest_record())), json_values)
@SOME
def test_any_value_of_any_field_is_read_or_refused(name: str, value: Any) -> None:
    try:
        read = Manifest.from_json(json.dumps(manifest_record(**{name: value})))
    except ManifestError:
        return
    if name != "encoder":
        assert getattr(read, name) == value
        assert type(getattr(read, name)) is type(value)


@given(st.sampled_from(sorted(manifest_record()["encoder"])), json_values)
@SOME
def test_any_value_of_any_field_of_the_encoder_is_read_or_refused(name: str, value: Any) -> None:
    encoder = manifest_record()["encoder"] | {name: value}
    try:
        read = Manifest.from_json(json.dumps(manifest_record(encoder=encoder)))
    except ManifestError:
        return
    assert getattr(read.encoder, name) == value


@given(st.sampled_from(sorted(REGION)), json_values)
@SOME
def test_any_value_of_any_field_of_the_query_region_is_read_or_refused(
    name: str, value: Any
) -> None:
    try:
        read = Manifest.from_json(json.dumps(manifest_record(query_region=REGION | {name: value})))
    except ManifestError:
        return
    assert getattr(read.query_region, name) == value


@given(st.text(max_size=40) | json_values.map(json.dumps))
@SOME
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Manifest.from_json(text)
    except ManifestError:
        return


@given(st.sets(st.sampled_from(sorted(manifest_record()))))
@SOME
def test_missing_fields_are_refused_or_filled_in(dropped: set[str]) -> None:
    record = {name: value for name, value in manifest_record().items() if name not in dropped}
    needed = {"name", "kind", "use", "dim_in", "dim_out", "similarity", "normalised", "encoder"}
    try:
        read = Manifest.from_json(json.dumps(record))
    except ManifestError:
        assert dropped & (needed | {"schema_version"})
        return
    assert not dropped & (needed | {"schema_version"})
    assert read.encoder == MANIFEST.encoder
