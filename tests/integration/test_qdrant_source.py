"""Stored vectors out of a Qdrant collection, over the real engine behind its REST protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.faults import fail_to_rename
from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server, running_server
from tests.support.sets import vector_of, write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed import embed_dataset
from trimtab_training.embeddings.encoders import CallableEncoder
from trimtab_training.embeddings.qdrant_source import QdrantAccess, QdrantSource
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError

DIM, N_POINTS = 4, 40
ROUNDING = 1e-6  # Qdrant normalises what it stores for cosine, in float32


def encoder() -> CallableEncoder:
    return CallableEncoder(
        lambda texts: np.stack([vector_of(text, DIM) for text in texts]),
        name="toy",
        fingerprint="sha256:toy",
    )


def vectors() -> np.ndarray:
    rows = np.random.default_rng(5).standard_normal((N_POINTS, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(client: QdrantClient, name: str, **params: Any) -> None:
    settings = {"size": DIM, "distance": models.Distance.COSINE} | params
    client.create_collection(
        name,
        vectors_config={
            "text": models.VectorParams(**settings),
            "": models.VectorParams(size=2, distance=models.Distance.DOT),
        },
    )
    client.upsert(
        name,
        [
            models.PointStruct(
                id=number,
                vector={"text": row.tolist(), "": [1.0, 0.0]},
                payload={"doc": {"id": f"doc-{number}"}, "kind": number % 2},
            )
            for number, row in enumerate(vectors())
        ],
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "data"
    labels = {"first": {"5": 1, "doc-5": 1}}, {"second": {"7": 1, "doc-7": 1}}
    write_dataset(
        folder,
        documents=["one"],
        queries=["first", "second"],
        splits=dict(zip(("train", "test"), labels, strict=True)),
    )
    return Dataset.load(folder)


@pytest.fixture
def collection(qdrant: Server) -> Iterator[str]:
    client, name = connect(qdrant), unique_name()
    fill(client, name)
    yield name
    client.delete_collection(name)
    client.close()


def source(server: Server, name: str, options: str = "?vector=text") -> str:
    return f"qdrant://{server.host}:{server.rest_port}/{name}{options}"


def access(server: Server) -> QdrantAccess:
    return QdrantAccess(server.api_key)


def test_every_vector_of_the_collection_is_copied(
    qdrant: Server,
    collection: str,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    out = tmp_path / "emb"
    embed_dataset(
        dataset, encoder(), out, documents=source(qdrant, collection), qdrant=access(qdrant)
    )
    found = Embeddings.open(out)
    assert found.documents.ids == [str(number) for number in range(N_POINTS)]
    assert np.allclose(found.documents.matrix, vectors(), atol=ROUNDING)
    said = json.loads((out / "encoder.json").read_text())["documents"]
    assert said["distance"] == "cosine"
    assert (said["lossy"], said["changed_while_read"], said["without_vector"]) == (False, False, 0)
    assert {path.name for path in out.iterdir()} == {
        "documents.npy",
        "document_ids.txt",
        "queries.npy",
        "query_ids.txt",
        "encoder.json",
    }


def test_a_filter_and_a_payload_field_choose_documents_and_ids(
    qdrant: Server,
    collection: str,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    chosen = tmp_path / "odd.json"
    chosen.write_text('{"must": [{"key": "kind", "match": {"value": 1}}]}')
    options = f"?vector=text&id=doc.id&filter={chosen}"
    embed_dataset(
        dataset,
        encoder(),
        tmp_path / "emb",
        documents=source(qdrant, collection, options),
        qdrant=access(qdrant),
    )
    found = Embeddings.open(tmp_path / "emb").documents
    assert found.ids == [f"doc-{number}" for number in range(1, N_POINTS, 2)]
    assert np.allclose(found.matrix, vectors()[1::2], atol=ROUNDING)


def test_points_without_the_vector_are_left_out_and_counted(
    qdrant: Server,
    collection: str,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    client = connect(qdrant)
    client.delete_vectors(collection, vectors=["text"], points=[3, 4], wait=True)
    client.close()
    embed_dataset(
        dataset,
        encoder(),
        tmp_path / "emb",
        documents=source(qdrant, collection),
        qdrant=access(qdrant),
    )
    said = json.loads((tmp_path / "emb" / "encoder.json").read_text())["documents"]
    assert said["without_vector"] == 2
    assert "3" not in Embeddings.open(tmp_path / "emb").documents.ids


def test_local_mode_is_read_from_its_folder(dataset: Dataset, tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    fill(client, "docs")
    client.close()
    embed_dataset(
        dataset,
        encoder(),
        tmp_path / "emb",
        documents="qdrant:///docs?vector=text",
        qdrant=QdrantAccess(path=tmp_path / "local"),
    )
    found = Embeddings.open(tmp_path / "emb").documents
    assert np.allclose(found.matrix, vectors(), atol=ROUNDING)


@pytest.mark.parametrize("change", ["insert", "overwrite", "none"])
def test_a_collection_that_changes_while_it_is_read_is_noticed(
    qdrant: Server,
    collection: str,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    monkeypatch.setattr("trimtab_training.embeddings.qdrant_source._MAX_PAGE", 16)
    client = connect(qdrant)
    number = {"insert": N_POINTS + 5, "overwrite": 0}

    def interfere(what: str, done: int, _of: int) -> None:
        if what == "documents" and done == 16 and change in number:
            row = models.PointStruct(id=number[change], vector={"text": [1.0, 2.0, 3.0, 4.0]})
            client.upsert(collection, [row], wait=True)

    embed_dataset(
        dataset,
        encoder(),
        tmp_path / "emb",
        documents=source(qdrant, collection),
        qdrant=access(qdrant),
        progress=interfere,
    )
    client.close()
    said = json.loads((tmp_path / "emb" / "encoder.json").read_text())["documents"]
    # a point inserted behind the read is read; one overwritten before it shows in the sample
    assert said["changed_while_read"] is (change == "overwrite")


def test_a_read_that_breaks_off_is_continued_not_restarted(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_training.embeddings.qdrant_source._MAX_PAGE", 16)
    out = tmp_path / "emb"
    with running_server() as server:
        client = connect(server)
        fill(client, "docs")
        client.close()
        name = source(server, "docs")

        def kill(what: str, done: int, _of: int) -> None:
            if what == "documents" and done == 32:
                server.kill()

        with pytest.raises(DataError, match=r"can't reach Qdrant at .* run the same command again"):
            embed_dataset(dataset, encoder(), out, documents=name, progress=kill)
        assert not out.exists()
        ports = {"rest_port": server.rest_port, "grpc_port": server.grpc_port}
    with running_server(**ports) as server:
        client = connect(server)
        fill(client, "docs")
        client.close()
        server.clear_requests()
        seen: list[int] = []
        embed_dataset(
            dataset,
            encoder(),
            out,
            documents=name,
            progress=lambda what, done, _of: seen.append(done) if what == "documents" else None,
        )
        scrolls = [r for r in server.requests() if r["path"].endswith("/points/scroll")]
    assert seen == [N_POINTS]
    assert [json.loads(scroll["body"])["offset"] for scroll in scrolls] == [32]
    assert np.allclose(Embeddings.open(out).documents.matrix, vectors(), atol=ROUNDING)


def test_a_read_is_not_repeated_where_the_last_step_failed(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    fill(client, "docs")
    client.close()
    local, name = QdrantAccess(path=tmp_path / "local"), "qdrant:///docs?vector=text"
    seen: list[str] = []

    def run() -> None:
        embed_dataset(
            dataset,
            encoder(),
            tmp_path / "emb",
            documents=name,
            qdrant=local,
            progress=lambda what, _done, _of: seen.append(what),
        )

    run()
    with monkeypatch.context() as patched:
        fail_to_rename(patched, tmp_path / "emb")
        with pytest.raises(OSError, match="busy"):
            run()
    assert "documents" in seen
    seen.clear()
    run()
    assert "documents" not in seen  # nothing was read
    assert np.allclose(Embeddings.open(tmp_path / "emb").documents.matrix, vectors(), atol=ROUNDING)


def test_a_read_that_is_refused_is_begun_anew(dataset: Dataset, tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    fill(client, "docs")
    client.upsert("docs", [models.PointStruct(id=3, vector={"text": [0.0] * DIM})])
    client.close()
    local, name = QdrantAccess(path=tmp_path / "local"), "qdrant:///docs?vector=text"
    with pytest.raises(DataError, match=r"1 \('3'\) documents are zero vectors"):
        embed_dataset(dataset, encoder(), tmp_path / "emb", documents=name, qdrant=local)
    client = QdrantClient(path=str(tmp_path / "local"))
    client.upsert("docs", [models.PointStruct(id=3, vector={"text": [1.0] * DIM})])
    client.close()
    embed_dataset(dataset, encoder(), tmp_path / "emb", documents=name, qdrant=local)
    assert len(Embeddings.open(tmp_path / "emb").documents) == N_POINTS


def test_a_partial_read_of_another_collection_is_not_continued(
    dataset: Dataset, tmp_path: Path
) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    fill(client, "docs")
    fill(client, "more")
    client.delete("more", [0])
    client.close()
    local = QdrantAccess(path=tmp_path / "local")

    def stop(what: str, _done: int, _of: int) -> None:
        if what == "queries":
            raise KeyboardInterrupt

    for name in ("docs", "more"):
        with pytest.raises(KeyboardInterrupt):
            embed_dataset(
                dataset,
                encoder(),
                tmp_path / "emb",
                documents=f"qdrant:///{name}?vector=text",
                qdrant=local,
                progress=stop,
            )
    embed_dataset(
        dataset, encoder(), tmp_path / "emb", documents="qdrant:///more?vector=text", qdrant=local
    )
    assert Embeddings.open(tmp_path / "emb").documents.ids[0] == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?vector=body", "has no dense vector 'body'; it has: '', 'text'"),
        (
            "?vector=text&id=doc.title",
            r"point 0 has no text or number in payload field 'doc.title'",
        ),
        ("?vector=text&limit=3", "unknown option 'limit'"),
        ("?vector=text&filter=/none.json", "can't use the filter in /none.json"),
    ],
)
def test_bad_options_give_one_clear_line(
    qdrant: Server,
    collection: str,
    dataset: Dataset,
    tmp_path: Path,
    options: str,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        embed_dataset(
            dataset,
            encoder(),
            tmp_path / "emb",
            documents=source(qdrant, collection, options),
            qdrant=access(qdrant),
        )
    assert not (tmp_path / "emb").exists()


def test_a_missing_collection_gives_one_clear_line(
    qdrant: Server,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="has no collection or alias 'trimtab-none'"):
        embed_dataset(
            dataset,
            encoder(),
            tmp_path / "emb",
            documents=source(qdrant, "trimtab-none"),
            qdrant=access(qdrant),
        )


def test_a_wrong_key_gives_one_clear_line(dataset: Dataset, tmp_path: Path) -> None:
    with running_server(api_key="right") as server:
        for key in (None, "wrong"):
            with pytest.raises(DataError, match=r"refuses the key \(401\); set QDRANT_API_KEY"):
                embed_dataset(
                    dataset,
                    encoder(),
                    tmp_path / "emb",
                    documents=source(server, "docs"),
                    qdrant=QdrantAccess(key),
                )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"distance": models.Distance.MANHATTAN}, "Manhattan distance"),
        (
            {"multivector_config": models.MultiVectorConfig(comparator="max_sim")},
            "is a multivector",
        ),
    ],
)
def test_collections_that_no_adapter_can_be_trained_on_are_refused(
    dataset: Dataset, tmp_path: Path, params: dict[str, Any], message: str
) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    settings = {"size": DIM, "distance": models.Distance.COSINE} | params
    client.create_collection("docs", vectors_config=models.VectorParams(**settings))
    client.close()
    with pytest.raises(DataError, match=message):
        embed_dataset(
            dataset,
            encoder(),
            tmp_path / "emb",
            documents="qdrant:///docs",
            qdrant=QdrantAccess(path=tmp_path / "local"),
        )


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("qdrant://localhost:6333/", None, "names no server or no collection"),
        ("qdrant:///docs", None, "names no server or no collection"),
        ("qdrant://localhost:many/docs", None, "expected qdrant://"),
        ("qdrant://[::1/docs", None, "expected qdrant://"),
        ("qdrant://localhost/docs", Path("local"), "names a server, --upstream-path a local"),
        ("qdrant:///docs", Path("nowhere"), "no collections of Qdrant's local mode in nowhere"),
        ("qdrant://127.0.0.1:1/docs", None, r"can't reach Qdrant at 127.0.0.1:1"),
    ],
)
def test_a_source_that_cannot_be_read_gives_one_clear_line(
    dataset: Dataset, tmp_path: Path, name: str, path: Path | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        embed_dataset(
            dataset, encoder(), tmp_path / "emb", documents=name, qdrant=QdrantAccess(path=path)
        )


def test_ids_that_stand_twice_are_refused_before_vectors_are_read(
    qdrant: Server, collection: str, dataset: Dataset, tmp_path: Path
) -> None:
    seen: list[int] = []
    with pytest.raises(DataError, match=r"ids in 'kind' stand more than once, such as '"):
        embed_dataset(
            dataset,
            encoder(),
            tmp_path / "emb",
            documents=source(qdrant, collection, "?vector=text&id=kind"),
            qdrant=access(qdrant),
            progress=lambda _what, done, _of: seen.append(done),
        )
    assert seen == []


def test_an_option_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="an option stands more than once"):
        QdrantSource.parse("qdrant://h/docs?id=a&id=b", QdrantAccess())


@pytest.mark.parametrize("rest", ["h:6333/docs", "h:port/docs", "[::1/docs", "h/docs?a=1"])
def test_credentials_in_a_source_are_refused_unshown(rest: str) -> None:
    with pytest.raises(DataError, match=r"^qdrant://\*\*\*@") as caught:
        QdrantSource.parse(f"qdrant://me:s3cret@{rest}", QdrantAccess())
    assert "s3cret" not in str(caught.value)
