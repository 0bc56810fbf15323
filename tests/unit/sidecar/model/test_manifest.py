"""The manifest: what is written is read, and what is wrong with it is named."""

import base64
import json
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import DIM_IN, MANIFEST, manifest_record, queries_of
from trimtab.errors import ManifestError
from trimtab.model.manifest import MAX_CENTROIDS, SCHEMA_VERSION, EncoderCard, Manifest, QueryRegion

NEEDED = ["name", "kind", "use", "dim_in", "dim_out", "similarity", "normalised", "encoder"]


REGION = QueryRegion.pack(queries_of(3), threshold=0.25, share=0.01)


def region_record(**changes: Any) -> dict[str, Any]:
    """Give a manifest with a query region, with changes on top of the region."""
    return manifest_record(query_region=asdict(REGION) | changes)


def encoded(*values: float) -> str:
    """Write one centroid as a file would, unchecked."""
    return base64.b64encode(np.array(values, dtype="<f2").tobytes()).decode()


def refused(record: Any, because: str) -> None:
    """Expect a refusal in words."""
    with pytest.raises(ManifestError, match=because):
        Manifest.from_json(json.dumps(record))


def test_manifest_written_is_manifest_read() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_equal_manifests_are_equal_bytes() -> None:
    shuffled = json.dumps(dict(reversed(manifest_record().items())))
    assert Manifest.from_json(shuffled).to_json() == MANIFEST.to_json()


def test_manifest_keeps_names_in_any_script() -> None:
    record = manifest_record(name="сеть 検索 🔎")
    assert "検索 🔎" in Manifest.from_json(json.dumps(record)).to_json()


def test_manifest_fills_in_what_may_be_left_out() -> None:
    record = {name: manifest_record()[name] for name in [*NEEDED, "schema_version"]}
    record["encoder"] = {"name": "e", "fingerprint": "f"}
    read = Manifest.from_json(json.dumps(record))
    assert read.encoder == EncoderCard("e", "f", None, "", "")
    assert (read.stores_queries, read.training, read.metrics, read.versions) == (False, {}, {}, {})


def test_manifest_tolerates_keys_that_later_versions_add() -> None:
    record = manifest_record(licence="MIT", encoder=manifest_record()["encoder"] | {"revision": 3})
    assert Manifest.from_json(json.dumps(record)) == MANIFEST


@pytest.mark.parametrize("name", NEEDED)
def test_manifest_names_a_missing_field(name: str) -> None:
    record = manifest_record()
    del record[name]
    refused(record, f"manifest field '{name}' is missing")


@pytest.mark.parametrize("name", ["name", "fingerprint"])
def test_manifest_names_a_missing_field_of_the_encoder(name: str) -> None:
    record = manifest_record()
    del record["encoder"][name]
    refused(record, rf"manifest field 'encoder\.{name}' is missing")


@pytest.mark.parametrize(
    ("name", "value", "found", "expected"),
    [
        ("name", 3, "int", "str"),
        ("name", None, "NoneType", "str"),
        ("kind", ["linear"], "list", "str"),
        ("use", True, "bool", "str"),
        ("dim_in", "6", "str", "int"),
        ("dim_in", 6.0, "float", "int"),
        ("dim_out", True, "bool", "int"),
        ("dim_out", None, "NoneType", "int"),
        ("similarity", {}, "dict", "str"),
        ("normalised", 1, "int", "bool"),
        ("normalised", "true", "str", "bool"),
        ("stores_queries", 0, "int", "bool"),
        ("training", [], "list", "dict"),
        ("metrics", None, "NoneType", "dict"),
        ("versions", "1", "str", "dict"),
        ("created", 2026, "int", "str"),
    ],
)
def test_manifest_names_a_field_of_the_wrong_type(
    name: str, value: Any, found: str, expected: str
) -> None:
    refused(
        manifest_record(**{name: value}), f"manifest field '{name}' is {found}, expected {expected}"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("name", 1, "str"),
        ("fingerprint", None, "str"),
        ("max_tokens", "256", "int or NoneType"),
        ("max_tokens", True, "int or NoneType"),
        ("query_prefix", None, "str"),
        ("document_prefix", 0, "str"),
    ],
)
def test_manifest_names_a_field_of_the_encoder_of_the_wrong_type(
    name: str, value: Any, expected: str
) -> None:
    record = manifest_record()
    record["encoder"][name] = value
    refused(record, rf"'encoder\.{name}' is {type(value).__name__}, expected {expected}")


def test_manifest_refuses_versions_that_are_no_text() -> None:
    refused(manifest_record(versions={"numpy": 2}), "'versions' holds int, expected str")


def test_manifest_refuses_text_that_is_no_unicode() -> None:
    refused(manifest_record(**{"\ud800": 1}), "manifest as a whole .* surrogates")


@pytest.mark.parametrize("encoder", [None, "e5", ["e5"], 1])
def test_manifest_wants_the_encoder_as_an_object(encoder: Any) -> None:
    refused(manifest_record(encoder=encoder), "'encoder' is missing or not an object")


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.0, True, [1]])
def test_manifest_refuses_a_schema_that_is_no_version(version: Any) -> None:
    refused(manifest_record(schema_version=version), "'schema_version' is missing or not a posi")


def test_manifest_says_how_to_read_a_newer_schema() -> None:
    newer = SCHEMA_VERSION + 1
    refused({"schema_version": newer}, f"schema {newer}, .* up to {SCHEMA_VERSION}; upgrade")


@pytest.mark.parametrize("record", [[], "text", 1, None, True])
def test_manifest_refuses_json_that_is_no_object(record: Any) -> None:
    refused(record, "not a JSON object")


@pytest.mark.parametrize("text", ["", "{", "nonsense", "{'a': 1}", '{"a": 1,}'])
def test_manifest_refuses_what_is_no_json(text: str) -> None:
    with pytest.raises(ManifestError, match="manifest is not JSON"):
        Manifest.from_json(text)


@pytest.mark.parametrize("similarity", ["", "Cosine", "l2", "hamming"])
def test_manifest_refuses_an_unknown_similarity(similarity: str) -> None:
    refused(manifest_record(similarity=similarity), rf"'{similarity}', expected one of \('cosine'")


def test_manifest_refuses_an_unknown_use() -> None:
    refused(manifest_record(use="magic"), r"'use' is 'magic', expected one of \('relevance'")


@pytest.mark.parametrize("dims", [(0, 4), (6, 0), (-1, 4)])
def test_manifest_refuses_widths_that_are_no_widths(dims: tuple[int, int]) -> None:
    record = manifest_record(dim_in=dims[0], dim_out=dims[1])
    refused(record, f"dims are {dims[0]} and {dims[1]}, expected 1 to")


def test_manifest_is_a_value() -> None:
    with pytest.raises(FrozenInstanceError):
        MANIFEST.name = "other"  # type: ignore[misc]


def test_manifest_with_a_query_region_is_read_as_written() -> None:
    manifest = replace(MANIFEST, query_region=REGION)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_query_region_keeps_centroids_to_half_precision() -> None:
    unpacked = REGION.unpack()
    assert unpacked.dtype == np.float32
    np.testing.assert_allclose(unpacked, queries_of(3), atol=1e-3)  # float16 rounds by 2 ** -11
    np.testing.assert_allclose(np.linalg.norm(unpacked, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("absent", ["missing", "null"])
def test_query_region_may_be_absent(absent: str) -> None:
    record = manifest_record(query_region=None)
    if absent == "missing":
        del record["query_region"]
    assert Manifest.from_json(json.dumps(record)).query_region is None


def test_query_region_tolerates_keys_that_later_versions_add() -> None:
    read = Manifest.from_json(json.dumps(region_record(radius=3)))
    assert read.query_region == REGION


def test_query_region_of_a_large_encoder_stays_small() -> None:
    most = QueryRegion.pack(queries_of(MAX_CENTROIDS, dim=1536), threshold=0.1, share=0.01)
    assert len(most.centroids) <= 132_000


def test_query_region_keeps_its_centroids_out_of_logs() -> None:
    assert REGION.centroids not in repr(replace(MANIFEST, query_region=REGION))


@pytest.mark.parametrize("region", [[], "text", 1, True, False])
def test_query_region_must_be_an_object(region: Any) -> None:
    refused(manifest_record(query_region=region), "'query_region' is not an object")


@pytest.mark.parametrize("name", sorted(asdict(REGION)))
def test_query_region_names_a_missing_field(name: str) -> None:
    record = region_record()
    del record["query_region"][name]
    refused(record, rf"'query_region\.{name}' is missing")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("n_centroids", 3.0, "int"),
        ("n_centroids", True, "int"),
        ("dim", "6", "int"),
        ("centroids", [1.0], "str"),
        ("threshold", "0.5", "float or int"),
        ("threshold", None, "float or int"),
        ("share", True, "float or int"),
    ],
)
def test_query_region_names_a_field_of_the_wrong_type(name: str, value: Any, expected: str) -> None:
    found = type(value).__name__
    refused(
        region_record(**{name: value}), rf"'query_region\.{name}' is {found}, expected {expected}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_centroids", 0),
        ("n_centroids", -3),
        ("n_centroids", MAX_CENTROIDS + 1),
        ("n_centroids", 10**30),
        ("dim", 0),
        ("dim", 2**40),
        ("threshold", 1.01),
        ("threshold", -2.0),
        ("threshold", float("nan")),
        ("threshold", float("inf")),
        ("share", -0.1),
        ("share", 1.5),
        ("share", float("nan")),
    ],
)
def test_query_region_refuses_numbers_out_of_range(name: str, value: float) -> None:
    refused(region_record(**{name: value}), rf"'query_region\.{name}' is {value}, expected")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("not base64!", "is not base64"),
        ("AAA", "is not base64"),
        ("é" * 16, "is not base64"),
        ("", "holds 0 bytes, expected 12"),
        (encoded(1, 0, 0), "holds 6 bytes, expected 12"),
        (encoded(0, 0, 0, 0, 0, 0), "holds rows that are not of unit length"),
        (encoded(2, 0, 0, 0, 0, 0), "holds rows that are not of unit length"),
        (encoded(1, float("nan"), 0, 0, 0, 0), "holds rows that are not of unit length"),
        (encoded(1, float("inf"), 0, 0, 0, 0), "holds rows that are not of unit length"),
        (
            base64.b64encode(b"\x01\x7c" * DIM_IN).decode(),
            "holds rows that are not of unit length",
        ),  # signalling NaN
    ],
)
def test_query_region_refuses_damaged_centroids(text: str, because: str) -> None:
    refused(region_record(n_centroids=1, centroids=text), rf"'query_region\.centroids' {because}")


def test_query_region_refuses_another_width_than_the_queries_have() -> None:
    other = QueryRegion.pack(queries_of(3, dim=DIM_IN + 1), threshold=0.25, share=0.01)
    refused(manifest_record(query_region=asdict(other)), "'query_region.dim' is 7, .* model's 6")


def test_query_region_is_checked_before_it_is_written() -> None:
    with pytest.raises(ManifestError, match="not of unit length"):
        QueryRegion.pack(2 * queries_of(3), threshold=0.25, share=0.01)
