"""deploy/sidecar.toml holds every setting, at its default."""

import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from trimtab.addresses import Address, Origin
from trimtab.settings import (
    CollectionSettings,
    EncoderSettings,
    RouteSettings,
    Settings,
    UpstreamSettings,
)
from trimtab.settings_file import Source

SAMPLE = Path(__file__).parents[3] / "deploy" / "sidecar.toml"
TABLES = {"route": RouteSettings, "collection": CollectionSettings, "encoder": EncoderSettings}
UPSTREAM = (Origin(Address("qdrant", 6333), is_tls=False),)


@pytest.fixture
def with_examples(tmp_path: Path) -> Path:
    """The sample with its examples switched on."""
    path = tmp_path / "sidecar.toml"
    path.write_text(re.sub(r"(?m)^#(?=\S)", "", SAMPLE.read_text(encoding="utf-8")))
    return path


def test_sample_is_the_defaults():
    upstream = UpstreamSettings(rest=UPSTREAM)
    assert Source(SAMPLE, {}).read() == replace(Settings(), upstream=upstream, source=SAMPLE)


def test_examples_are_the_defaults_but_for_what_has_none(with_examples):
    settings = Source(with_examples, {}).read()
    (route,), (collection,) = settings.routes, settings.collections
    (encoder,) = settings.encoders
    folder = with_examples.parent
    assert route == RouteSettings("docs", folder / "models/docs")
    assert collection == CollectionSettings("papers", folder / "papers.faiss")
    file = folder / "models/docs/encoder.onnx"
    assert encoder == EncoderSettings("sentence-transformers/all-minilm-l6-v2", file)


def test_sample_names_every_setting(with_examples):
    record = tomllib.loads(with_examples.read_text(encoding="utf-8"))
    settings = Settings()
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            assert set(record[field.name]) == names_of(value), field.name
    for key, kind in TABLES.items():
        assert [set(table) for table in record[key]] == [names_of(kind)]
    assert set(record) == names_of(Settings) - {
        *("routes", "collections", "encoders", "source")
    } | set(TABLES)


def test_every_setting_but_those_of_tables_has_a_default():
    kinds = [type(value) for value in vars_of(Settings()) if is_dataclass(value)]
    lacking = {
        field.name
        for kind in kinds
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    assert lacking == set()


def names_of(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def vars_of(settings: Settings) -> list[Any]:
    return [getattr(settings, field.name) for field in fields(settings)]
