"""Collections and payload indexes: the wire's JSON -> the engine's configuration, and reports."""

from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.errors import bad_format, unknown_variant, wrong_input
from tests.support.qdrant.vectors import DEFAULT

Json = dict[str, Any]

_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
    "turbo16": edge.VectorStorageDatatype.Turbo16,
}
_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
_OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
}
_OPTIMIZER_FIELDS = (
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "indexing_threshold",
    "prevent_unoptimized",
)
_QUANTIZATION_PARTS = ("scalar", "product", "binary", "turbo")


def pick(data: Json, *names: str) -> Json:
    return {name: data[name] for name in names if data.get(name) is not None}


def _choose(kinds: dict[str, Any], value: str) -> Any:
    if value not in kinds:
        raise unknown_variant(value, kinds)
    return kinds[value]


def _enum(kind: Any, value: str) -> Any:
    """The engine's member that the wire calls ``value``: `max_sim` is MaxSim."""
    name = "".join(part.capitalize() for part in value.split("_"))
    for candidate in (name, value.capitalize(), value.upper().replace("BITS", "Bits")):
        if hasattr(kind, candidate):
            return getattr(kind, candidate)
    raise bad_format(f"unknown variant `{value}`")


def _memory(data: Json) -> Json:
    return {"memory": _enum(edge.Memory, data["memory"])} if data.get("memory") else {}


def _distance(value: str) -> edge.Distance:
    return _choose(_DISTANCES, value)


def read_hnsw(data: Json | None) -> edge.HnswIndexConfig | None:
    if not data:
        return None
    full = _HNSW | pick(data, *_HNSW, "on_disk", "payload_m", "inline_storage")
    return edge.HnswIndexConfig(**full, **_memory(data))


def read_quantization(data: Json | None) -> Any:
    part = data and next((name for name in _QUANTIZATION_PARTS if data.get(name)), None)
    if not part:
        return None
    given = data[part]
    shared = pick(given, "always_ram") | _memory(given)
    if part == "scalar":
        return edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, **pick(given, "quantile"), **shared
        )
    if part == "product":
        ratio = _enum(edge.CompressionRatio, given["compression"])
        return edge.ProductQuantizationConfig(ratio, **shared)
    if part == "binary":
        return edge.BinaryQuantizationConfig(**_binary_encodings(given), **shared)
    bits = given.get("bits")
    return edge.TurboQuantQuantizationConfig(bits=bits and _turbo_bits(bits), **shared)


def _binary_encodings(data: Json) -> Json:
    kinds = {
        "encoding": edge.BinaryQuantizationEncoding,
        "query_encoding": edge.BinaryQuantizationQueryEncoding,
    }
    spelt = {"scalar4bits": "Scalar4Bits", "scalar8bits": "Scalar8Bits"}
    return {
        name: _enum(kind, spelt.get(data[name], data[name]))
        for name, kind in kinds.items()
        if data.get(name)
    }


def _turbo_bits(value: str) -> Any:
    return getattr(edge.TurboQuantBitSize, value.capitalize())


def _multivector(data: Json) -> edge.MultiVectorConfig | None:
    given = data.get("multivector_config")
    return given and edge.MultiVectorConfig(_enum(edge.MultiVectorComparator, given["comparator"]))


def _datatype(data: Json) -> Any:
    given = data.get("datatype")
    return given and _choose(_DATATYPES, given)


def read_dense(data: Json) -> edge.EdgeVectorParams:
    return edge.EdgeVectorParams(
        data["size"],
        _distance(data["distance"]),
        on_disk=data.get("on_disk"),
        multivector_config=_multivector(data),
        datatype=_datatype(data),
        quantization_config=read_quantization(data.get("quantization_config")),
        hnsw_config=read_hnsw(data.get("hnsw_config")),
        **_memory(data),
    )


def read_sparse(data: Json) -> edge.EdgeSparseVectorParams:
    index = data.get("index") or {}
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.get("full_scan_threshold"),
        on_disk=index.get("on_disk"),
        modifier=_modifier(data),
        datatype=_datatype(index),
        **_memory(index),
    )


def _modifier(data: Json) -> Any:
    return edge.Modifier.Idf if data.get("modifier") == "idf" else None


def dense_vectors(config: Json) -> dict[str, Json]:
    """The dense vectors of a collection by name; the unnamed one is ``""``."""
    vectors = config.get("vectors") or {}
    if isinstance(vectors.get("distance"), str):
        return {DEFAULT: vectors}
    return vectors


def sparse_vectors(config: Json) -> dict[str, Json]:
    return {name: params or {} for name, params in (config.get("sparse_vectors") or {}).items()}


def read_collection(config: Json) -> edge.EdgeConfig:
    dense, sparse = dense_vectors(config), sparse_vectors(config)
    optimizers = pick(config.get("optimizers_config") or {}, *_OPTIMIZER_FIELDS)
    return edge.EdgeConfig(
        vectors={name: read_dense(params) for name, params in dense.items()},
        sparse_vectors={name: read_sparse(params) for name, params in sparse.items()},
        on_disk_payload=config.get("on_disk_payload"),
        hnsw_config=read_hnsw(config.get("hnsw_config")),
        quantization_config=read_quantization(config.get("quantization_config")),
        optimizers=edge.EdgeOptimizersConfig(**optimizers),
    )


def describe_collection(config: Json) -> Json:
    """The `config` of a collection's info: what was asked for over the server's defaults."""
    params = {
        "vectors": config.get("vectors") or {},
        "shard_number": config.get("shard_number") or 1,
        "replication_factor": config.get("replication_factor") or 1,
        "write_consistency_factor": config.get("write_consistency_factor") or 1,
        "on_disk_payload": config.get("on_disk_payload", True),
        **pick(config, "sparse_vectors", "sharding_method"),
    }
    wal = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
    return {
        "params": params,
        "hnsw_config": _HNSW | {"on_disk": False} | _given(config.get("hnsw_config")),
        "optimizer_config": _OPTIMIZERS | _given(config.get("optimizers_config")),
        "wal_config": wal | _given(config.get("wal_config")),
        "quantization_config": config.get("quantization_config"),
        **pick(config, "strict_mode_config", "metadata"),
    }


def _given(data: Json | None) -> Json:
    return {name: value for name, value in (data or {}).items() if value is not None}


def merge_update(config: Json, change: Json) -> Json:
    """The configuration after `PATCH /collections/{name}`."""
    merged = dict(config)
    for name in ("optimizers_config", "hnsw_config", "strict_mode_config", "metadata"):
        if change.get(name) is not None:
            merged[name] = {**(config.get(name) or {}), **_given(change[name])}
    merged.update(_given(change.get("params")))
    if change.get("quantization_config") is not None:
        given = change["quantization_config"]
        merged["quantization_config"] = None if given == "Disabled" else given
    if change.get("vectors"):
        merged["vectors"] = _merge_vectors(config, change["vectors"])
    if change.get("sparse_vectors"):
        merged["sparse_vectors"] = {
            **sparse_vectors(config),
            **{
                n: {**sparse_vectors(config).get(n, {}), **_given(p)}
                for n, p in change["sparse_vectors"].items()
            },
        }
    return merged


def _merge_vectors(config: Json, change: Json) -> Json:
    dense = dense_vectors(config)
    for name, part in change.items():
        if name not in dense:
            raise wrong_input(f"Not existing vector name error: {name}")
        dense = {**dense, name: {**dense[name], **_given(part)}}
    return dense[DEFAULT] if list(dense) == [DEFAULT] else dense


_INDEXES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "keyword": (edge.KeywordIndexParams, edge.PayloadSchemaType.Keyword, ("is_tenant", "prefix")),
    "integer": (
        edge.IntegerIndexParams,
        edge.PayloadSchemaType.Integer,
        ("lookup", "range", "is_principal"),
    ),
    "float": (edge.FloatIndexParams, edge.PayloadSchemaType.Float, ("is_principal",)),
    "geo": (edge.GeoIndexParams, edge.PayloadSchemaType.Geo, ()),
    "text": (
        edge.TextIndexParams,
        edge.PayloadSchemaType.Text,
        ("min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching"),
    ),
    "bool": (edge.BoolIndexParams, edge.PayloadSchemaType.Bool, ()),
    "datetime": (edge.DatetimeIndexParams, edge.PayloadSchemaType.Datetime, ("is_principal",)),
    "uuid": (edge.UuidIndexParams, edge.PayloadSchemaType.Uuid, ("is_tenant",)),
}
_INDEX_SHARED = ("on_disk", "enable_hnsw", "nested")


def index_type(schema: str | Json) -> str:
    return schema if isinstance(schema, str) else schema["type"]


def read_index(schema: str | Json) -> Any:
    """A payload index: the name of its type, or its parameters."""
    params, plain_type, fields = _choose(_INDEXES, index_type(schema))
    if isinstance(schema, str):
        return plain_type
    more = _memory(schema)
    if schema["type"] == "text":
        more |= _text_index(schema)
    return params(**pick(schema, *fields, *_INDEX_SHARED), **more)


def _text_index(data: Json) -> Json:
    more: Json = {}
    if data.get("tokenizer"):
        more["tokenizer"] = _enum(edge.TokenizerType, data["tokenizer"])
    if data.get("stopwords"):
        more["stopwords"] = _stopwords(data["stopwords"])
    if data.get("stemmer"):
        more["stemmer"] = _stemmer(data["stemmer"])
    if data.get("scoring") is not None:
        more["scoring"] = bool(data["scoring"])
    return more


def _stopwords(data: str | Json) -> Any:
    if isinstance(data, str):
        return edge.StopwordsSet(languages={_enum(edge.Language, data)})
    languages = {_enum(edge.Language, name) for name in data.get("languages") or []}
    return edge.StopwordsSet(languages=languages, custom=set(data.get("custom") or []))


def _stemmer(data: Json) -> Any:
    if data["type"] == "none":
        return edge.DisabledStemmer()
    return edge.SnowballParams(_enum(edge.SnowballLanguage, data["language"]))
