"""Texts through the sidecar: official clients get the hits of encoding and adapting by hand."""

import gzip
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from qdrant_client import QdrantClient, models

from tests.support.onnx_models import linear_bytes, weight_of
from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DEPTH,
    DIM,
    close,
    eventually,
    exact,
    fill,
    found,
    new_client,
    samples,
    write_model,
)
from tests.support.tiny_encoder import WORDS, embed, words_bytes, words_model
from trimtab import Adapter
from trimtab.routing.routes import MARK_HEADER
from trimtab_training.export.fused_encoder import fuse_adapter

JS = Path(__file__).parents[1] / "support" / "js"
MODEL = "Toy/Words"
PREFIX = "query "
TEXT, OTHER = "how do i cancel my plan", "money back"
FINGERPRINT = "sha256:toy"  # of the adapters that write_model makes


def raw(text: str) -> np.ndarray:
    """Embed a query by hand."""
    return embed(PREFIX + text, dim=DIM)


def written(text: str) -> np.ndarray:
    """Embed a document by hand."""
    return embed("passage " + text, dim=DIM)


def asked(text: str = TEXT, model: str = MODEL, **more: Any) -> models.Document:
    return models.Document(text=text, model=model, **more)


def encoder_bytes(**settings: Any) -> bytes:
    told = {"fingerprint": FINGERPRINT, "query_prefix": PREFIX, "document_prefix": "passage "}
    return words_bytes(dim=DIM, **told | settings)


@dataclass
class World:
    """A collection, its adapter on the unnamed vector, and a sidecar that embeds."""

    sidecar: Sidecar
    server: Server
    direct: QdrantClient
    name: str
    adapter: Adapter
    folder: Path

    def adapted(self, text: str = TEXT) -> np.ndarray:
        """Embed and adapt by hand."""
        return self.adapter.transform(raw(text))

    def client(self, *, grpc: bool, **more: Any) -> QdrantClient:
        return QdrantClient(
            url=self.sidecar.rest_url,
            grpc_port=self.sidecar.grpc_address[1],
            prefer_grpc=grpc,
            api_key=self.server.api_key,
            cloud_inference=True,  # texts go to the server as they are
            check_compatibility=False,
            **more,
        )


def addresses(server: Server) -> str:
    """Write the settings of a sidecar that listens to everything, in front of a server."""
    return f"""
listen = {{ rest = "127.0.0.1:0", grpc = "127.0.0.1:0", admin = "127.0.0.1:0" }}
upstream = {{ rest = "{server.rest_url}", grpc = "http://{server.host}:{server.grpc_port}" }}
"""


@pytest.fixture(scope="module")
def world(qdrant: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("texts")
    name, direct = unique_name("texts"), connect(qdrant)
    fill(direct, name, f"{name}-alias")
    adapter = write_model(folder / "adapter.onnx", seed=5)
    (folder / "words.onnx").write_bytes(encoder_bytes())
    (folder / "other.onnx").write_bytes(encoder_bytes(fingerprint="sha256:other"))
    fused = fuse_adapter(encoder_bytes(), linear_bytes(dim_in=DIM, dim_out=DIM, seed=9))
    (folder / "fused.onnx").write_bytes(fused)
    queries_alone = onnx.load_from_string(fused)
    del queries_alone.graph.output[1:]
    onnx.save(queries_alone, folder / "tuned.onnx")
    config = folder / "sidecar.toml"
    config.write_text(
        f"""
{addresses(qdrant)}
[[route]]
collection = "{name}"
adapter = "adapter.onnx"
[[encoder]]
model = "{MODEL.lower()}"
file = "words.onnx"
writes = true
[[encoder]]
model = "toy/reader"
file = "words.onnx"
[[encoder]]
model = "toy/other"
file = "other.onnx"
[[encoder]]
model = "toy/fused"
file = "fused.onnx"
adapts = ["{name}/title"]
[[encoder]]
model = "toy/tuned"
file = "tuned.onnx"
adapts = ["{name}/title"]
[[encoder]]
model = "toy/guarded"
file = "words.onnx"
writes = true
token_env = "TEXT_KEYS"
"""
    )
    with running_sidecar(config=config, env={"TEXT_KEYS": "first-key second-key"}) as sidecar:
        yield World(sidecar, qdrant, direct, name, adapter, folder)
    direct.delete_collection(name)
    direct.close()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, world: World) -> Iterator[QdrantClient]:
    made = world.client(grpc=request.param == "grpc")
    yield made
    made.close()


def test_a_text_gives_the_hits_of_its_adapted_vector(client: QdrantClient, world: World) -> None:
    answer = client.query_points(world.name, query=asked(), limit=DEPTH)
    assert found(answer.points) == exact(world.adapted())


def test_a_vector_without_a_route_gets_the_raw_embedding(
    client: QdrantClient, world: World
) -> None:
    answer = client.query_points(world.name, query=asked(), using="title", limit=DEPTH)
    assert found(answer.points) == exact(raw(TEXT), name="title")


def test_an_adapter_in_the_encoders_file_is_used_where_the_table_says_so(
    client: QdrantClient, world: World
) -> None:
    text = asked(model="toy/fused")
    before = samples(world.sidecar)
    answer = client.query_points(world.name, query=text, using="title", limit=DEPTH)
    wanted = raw(TEXT) @ weight_of(DIM, DIM, seed=9)
    assert found(answer.points) == exact(wanted, name="title")
    decided = ("trimtab_query_vectors_total", world.name, "adapted")
    eventually(
        lambda: samples(world.sidecar).get(decided, 0) - before.get(decided, 0),
        is_right=lambda count: count == 1,
    )
    unrouted = ("trimtab_query_vectors_total", "", "no_route")
    assert samples(world.sidecar).get(unrouted, 0) == before.get(unrouted, 0)
    answer = client.query_points(world.name, query=text, limit=DEPTH)
    assert found(answer.points) == exact(world.adapted())  # by the route, from the raw embedding


def test_a_file_for_queries_alone_embeds_nothing_else(client: QdrantClient, world: World) -> None:
    text = asked(model="toy/tuned")
    answer = client.query_points(world.name, query=text, using="title", limit=DEPTH)
    assert found(answer.points) == exact(raw(TEXT) @ weight_of(DIM, DIM, seed=9), name="title")
    said = told_of(lambda: client.query_points(world.name, query=text))
    assert "toy/tuned embeds queries alone, of the collections that its adapts names" in said


@pytest.mark.parametrize(("opted_out", "mark"), [(False, "toy@"), (True, None)])
def test_a_query_that_the_encoders_file_has_adapted_carries_its_mark(
    world: World, opted_out: bool, mark: str | None
) -> None:
    body = body_of(model="toy/fused") | {"using": "title"}
    with rest(world) as http:
        answer = http.post(
            f"/collections/{world.name}/points/query",
            json=body,
            headers={MARK_HEADER: "none"} if opted_out else {},
        )
    said = answer.headers.get(MARK_HEADER)
    assert said is None if mark is None else str(said).startswith(mark)
    wanted = raw(TEXT) if opted_out else raw(TEXT) @ weight_of(DIM, DIM, seed=9)
    assert found(answer.json()["result"]["points"]) == exact(wanted, name="title")


def test_examples_are_spared_by_an_adapter_in_the_file_as_by_a_route(
    client: QdrantClient, world: World
) -> None:
    def ask(example: Any) -> Any:
        recommend = models.RecommendInput(
            positive=[example], strategy=models.RecommendStrategy.BEST_SCORE
        )
        query = models.RecommendQuery(recommend=recommend)
        return client.query_points(world.name, query=query, using="title", limit=DEPTH)

    wanted = hits_of(ask(raw(TEXT).tolist()))
    assert list(map(dict, hits_of(ask(asked(model="toy/fused"))))) == [
        {point: close(score) for point, score in hits} for hits in wanted
    ]


@pytest.mark.parametrize("model", ["toy/fused", MODEL])
def test_an_alias_leads_to_what_is_behind_it(
    client: QdrantClient, world: World, model: str
) -> None:
    for name in (world.name, f"{world.name}-alias"):
        answer = client.query_points(name, query=asked(model=model), using="title", limit=DEPTH)
        wanted = raw(TEXT) @ weight_of(DIM, DIM, seed=9) if model == "toy/fused" else raw(TEXT)
        assert found(answer.points) == exact(wanted, name="title")


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize(
    ("given", "is_admitted"),
    [
        ({}, False),
        ({"api-key": "first-ke"}, False),
        ({"api-key": "first-key second-key"}, False),
        ({"authorization": "Basic first-key"}, False),
        ({"api-key": "first-key"}, True),
        ({"authorization": "Bearer second-key"}, True),
    ],
)
def test_texts_are_embedded_for_whoever_brings_a_key(
    world: World, grpc: bool, given: dict[str, str], is_admitted: bool
) -> None:
    text = asked(model="toy/guarded")
    client = world.client(grpc=grpc, headers=given)
    point = models.PointStruct(id=4711, vector={"title": text})
    try:
        if is_admitted:
            answer = client.query_points(world.name, query=text, limit=DEPTH)
            assert found(answer.points) == exact(world.adapted())
            return
        for ask in (
            lambda: client.query_points(world.name, query=text),
            lambda: client.upsert(world.name, [point], wait=True),
        ):
            said, code = refused(ask)
            assert "texts for toy/guarded are embedded for whoever brings a key" in said
            assert code == ("UNAUTHENTICATED" if grpc else 401)
        assert not world.direct.retrieve(world.name, [4711])
        # Vectors, and texts for encoders that ask for no key, go on as ever.
        assert client.query_points(world.name, query=asked(), limit=1).points
    finally:
        client.close()


def test_an_opted_out_query_may_use_any_encoder(world: World) -> None:
    with rest(world) as http:
        answer = http.post(
            f"/collections/{world.name}/points/query",
            json=body_of(model="toy/other"),
            headers={MARK_HEADER: "none"},
        )
    assert answer.status_code == 200, answer.text


Ask = Callable[[QdrantClient, str, Any], Any]

ASKS: dict[str, Ask] = {
    "prefetch": lambda client, name, text: client.query_points(
        name,
        prefetch=[
            models.Prefetch(query=text(TEXT), limit=20),
            models.Prefetch(query=text(OTHER), using="title", limit=20),
        ],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        limit=DEPTH,
    ),
    "nested": lambda client, name, text: client.query_points(
        name,
        prefetch=models.Prefetch(
            prefetch=models.Prefetch(query=text(OTHER), using="title", limit=30),
            query=text(TEXT),
            limit=20,
        ),
        query=text(OTHER),
        limit=DEPTH,
    ),
    "batch": lambda client, name, text: client.query_batch_points(
        name,
        requests=[
            models.QueryRequest(query=text(TEXT), limit=DEPTH),
            models.QueryRequest(query=text(TEXT), using="title", limit=DEPTH),
            models.QueryRequest(query=text(OTHER), limit=DEPTH),
        ],
    ),
    "groups": lambda client, name, text: client.query_points_groups(
        name, group_by="group", query=text(TEXT), limit=3
    ),
    "mmr": lambda client, name, text: client.query_points(
        name, query=models.NearestQuery(nearest=text(TEXT), mmr=models.Mmr(diversity=0.4)), limit=4
    ),
    "recommend": lambda client, name, text: client.query_points(
        name,
        query=models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[text(TEXT), 3],
                negative=[text(OTHER)],
                strategy=models.RecommendStrategy.BEST_SCORE,
            )
        ),
        limit=DEPTH,
    ),
    "discover": lambda client, name, text: client.query_points(
        name,
        query=models.DiscoverQuery(
            discover=models.DiscoverInput(
                target=text(TEXT), context=models.ContextPair(positive=text(OTHER), negative=2)
            )
        ),
        limit=DEPTH,
    ),
    "context": lambda client, name, text: client.query_points(
        name,
        query=models.ContextQuery(
            context=[models.ContextPair(positive=text(TEXT), negative=text(OTHER))]
        ),
        limit=DEPTH,
    ),
}


@pytest.mark.parametrize("kind", ASKS)
def test_wherever_a_vector_can_stand_a_text_gives_the_same(
    client: QdrantClient, world: World, kind: str
) -> None:
    by_hand = ASKS[kind](client, world.name, lambda text: raw(text).tolist())
    answer = ASKS[kind](client, world.name, asked)
    assert list(map(dict, hits_of(answer))) == [  # which of equal scores comes first is chance
        {point: close(score) for point, score in hits} for hits in hits_of(by_hand)
    ]


def hits_of(answer: Any) -> list[list[tuple[Any, float]]]:
    """Ids and scores of every list of points in an answer."""
    if isinstance(answer, list):
        return [hits for each in answer for hits in hits_of(each)]
    if isinstance(answer, models.GroupsResult):
        return [found(group.hits) for group in answer.groups]
    return [found(answer.points)]


@pytest.mark.parametrize("model", ["toy/words", "TOY/WORDS", "Toy/Words"])
def test_names_are_compared_without_regard_to_case(
    client: QdrantClient, world: World, model: str
) -> None:
    answer = client.query_points(world.name, query=asked(model=model), limit=DEPTH)
    assert found(answer.points) == exact(world.adapted())


def told_of(call: Callable[[], object]) -> str:
    """Make a call that is refused, and give what was said."""
    return refused(call)[0]


def refused(call: Callable[[], object]) -> tuple[str, str | int]:
    """Make a call that is refused, and give what was said, and the status of its protocol."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  # each protocol has its own types
        call()
    error: Any = raised.value
    if hasattr(error, "details"):
        return str(error.details()), str(error.code().name)
    return str(error), getattr(error, "status_code", 0)


def test_a_text_that_its_encoders_file_adapts_is_counted_once_whatever_the_route(
    world: World, tmp_path: Path
) -> None:
    write_model(tmp_path / "adapter.onnx", seed=5)
    shutil.copy(world.folder / "fused.onnx", tmp_path)
    config = tmp_path / "sidecar.toml"
    config.write_text(
        f"""
{addresses(world.server)}
[[route]]
collection = "{world.name}"
vector = "title"
adapter = "adapter.onnx"
mode = "off"
[[encoder]]
model = "toy/fused"
file = "fused.onnx"
adapts = ["{world.name}/title"]
"""
    )
    text = models.QueryRequest(query=asked(model="toy/fused"), using="title", limit=DEPTH)
    vectors = [models.QueryRequest(query=raw(OTHER).tolist(), using=name) for name in ("title", "")]
    with running_sidecar(config=config) as sidecar:
        for grpc in (False, True):
            client = replace(world, sidecar=sidecar).client(grpc=grpc)
            client.query_points(world.name, query=text.query, using="title")
            answer, *_ = client.query_batch_points(world.name, [text, *vectors])
            assert found(answer.points) == exact(
                raw(TEXT) @ weight_of(DIM, DIM, seed=9), name="title"
            )
            client.close()
        counted = eventually(
            lambda: {
                reason[-1]: n
                for (name, *reason), n in samples(sidecar).items()
                if name == "trimtab_query_vectors_total"
            },
            is_right=lambda counts: sum(counts.values()) >= 8,
        )
    assert counted == {"adapted": 4, "off": 2, "no_route": 2}


def nudged_encoder() -> bytes:
    """Make the encoder again, of other last bits: as one that embeds other texts beside."""
    told = {"fingerprint": FINGERPRINT, "query_prefix": PREFIX, "document_prefix": "passage "}
    model = words_model(dim=DIM, **told)
    (table,) = [each for each in model.graph.initializer if each.name == "table"]
    noise = 1 + 1e-6 * np.random.default_rng(0).standard_normal(DIM)
    values = numpy_helper.to_array(table) * noise.astype(np.float32)
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    return model.SerializeToString()


def test_a_canary_draws_a_text_always_alike(world: World, tmp_path: Path) -> None:
    """Alone or in a batch, over either protocol, and by a file of other last bits."""
    write_model(tmp_path / "adapter.onnx", seed=5)
    config = tmp_path / "sidecar.toml"
    config.write_text(
        f"""
{addresses(world.server)}
[[route]]
collection = "{world.name}"
adapter = "adapter.onnx"
mode = "canary"
share = 0.5
[[encoder]]
model = "{MODEL}"
file = "words.onnx"
"""
    )
    texts = [" ".join(pair) for pair in itertools.combinations(WORDS[:8], 2)]
    ways = [(exact(raw(text)), exact(world.adapted(text))) for text in texts]
    drawn = []
    for content, in_batch in ((encoder_bytes(), False), (nudged_encoder(), True)):
        (tmp_path / "words.onnx").write_bytes(content)
        searches = [models.QueryRequest(query=asked(text), limit=DEPTH) for text in texts]
        with running_sidecar(config=config) as sidecar:
            for grpc in (False, True):
                client = replace(world, sidecar=sidecar).client(grpc=grpc)
                if in_batch:
                    answers = client.query_batch_points(world.name, searches)
                else:
                    answers = [
                        client.query_points(world.name, each.query, limit=DEPTH)
                        for each in searches
                    ]
                client.close()
                hits = [found(answer.points) for answer in answers]
                drawn.append([way.index(hit) for way, hit in zip(ways, hits, strict=True)])
    assert drawn == [drawn[0]] * 4
    assert set(drawn[0]) == {0, 1}


def test_models_that_are_not_known_go_on_to_qdrant(client: QdrantClient, world: World) -> None:
    """Open-source Qdrant refuses them; what matters is that it is Qdrant who does."""

    def ask(asking: QdrantClient) -> str:
        return told_of(lambda: asking.query_points(world.name, query=asked(model="no/such")))

    straight = QdrantClient(
        url=world.server.rest_url, api_key=world.server.api_key, cloud_inference=True
    )
    said = ask(client)
    assert "trimtab" not in said
    assert "InferenceService is not initialized" in said
    assert "InferenceService is not initialized" in ask(straight)
    straight.close()


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_policy_of_inference_holds_for_an_adapter_in_a_file_as_for_a_route(
    world: World, tmp_path: Path, grpc: bool
) -> None:
    config, server = tmp_path / "sidecar.toml", world.server
    config.write_text(f"""
listen = {{ rest = "127.0.0.1:0", grpc = "127.0.0.1:0" }}
upstream = {{ rest = "{server.rest_url}", grpc = "http://{server.host}:{server.grpc_port}" }}
policies = {{ inference = "refuse" }}
[[encoder]]
model = "toy/fused"
file = "{world.folder / "fused.onnx"}"
adapts = ["{world.name}/title"]
""")
    with running_sidecar(config=config) as sidecar:
        client = replace(world, sidecar=sidecar).client(grpc=grpc)
        text = asked(model="qdrant/unknown")
        said = told_of(lambda: client.query_points(world.name, query=text, using="title"))
        assert "out of reach of the adapter in the file of toy/fused" in said
        unadapted = told_of(lambda: client.query_points(world.name, query=text))
        assert "out of reach" not in unadapted  # the engine's own refusal
        client.close()


def test_options_that_nobody_here_knows_are_refused(client: QdrantClient, world: World) -> None:
    document = asked(options={"mrl": 4})
    said = told_of(lambda: client.query_points(world.name, query=document))
    assert "has options, and the encoder in this sidecar knows none" in said


def test_another_encoder_than_the_adapters_is_refused(client: QdrantClient, world: World) -> None:
    said = told_of(lambda: client.query_points(world.name, query=asked(model="toy/other")))
    assert "toy/other is another encoder than the one whose queries adapter toy" in said
    answer = client.query_points(world.name, query=asked(model="toy/other"), using="title")
    assert answer.points  # no adapter stands there


NOTHING = [0.0] * DIM


@pytest.fixture
def stored(world: World) -> Iterator[Callable[[int], dict[str, np.ndarray]]]:
    """Reads a point's vectors as they are stored; points from 1001 to 1003 go afterwards."""

    def read(point: int) -> dict[str, np.ndarray]:
        (kept,) = world.direct.retrieve(world.name, [point], with_vectors=True)
        vectors: Any = kept.vector
        return {name: np.array(values) for name, values in vectors.items()}

    yield read
    world.direct.delete(world.name, [1001, 1002, 1003], wait=True)


def is_near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() < 1e-6)


def test_written_texts_are_embedded_raw_as_documents(
    client: QdrantClient, world: World, stored: Callable[[int], dict[str, np.ndarray]]
) -> None:
    points = [
        models.PointStruct(id=1001, vector={"": asked(), "title": NOTHING}, payload={"n": 1}),
        models.PointStruct(id=1002, vector={"title": asked(OTHER), "": written(TEXT).tolist()}),
    ]
    client.upsert(world.name, points, wait=True)
    assert is_near(stored(1001)[""], written(TEXT))
    assert is_near(stored(1002)["title"], written(OTHER))
    assert is_near(stored(1002)[""], written(TEXT))
    update = models.PointVectors(id=1001, vector={"title": asked(OTHER)})
    client.update_vectors(world.name, [update], wait=True)
    assert is_near(stored(1001)["title"], written(OTHER))
    assert is_near(stored(1001)[""], written(TEXT))


def test_writes_in_a_batch_are_embedded(
    world: World, stored: Callable[[int], dict[str, np.ndarray]]
) -> None:
    client = world.client(grpc=False)
    point = models.PointStruct(id=1003, vector={"": asked(), "title": NOTHING})
    update = models.PointVectors(id=1003, vector={"title": asked(OTHER)})
    client.batch_update_points(
        world.name,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[point])),
            models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=[update])),
        ],
        wait=True,
    )
    client.close()
    assert is_near(stored(1003)[""], written(TEXT))
    assert is_near(stored(1003)["title"], written(OTHER))


def test_columns_of_a_batch_are_embedded(
    world: World, stored: Callable[[int], dict[str, np.ndarray]]
) -> None:
    """The other form of an upsert, which the client no longer writes."""
    text = {"text": TEXT, "model": MODEL}
    body = {"batch": {"ids": [1001], "vectors": {"": [text], "title": [written(OTHER).tolist()]}}}
    with rest(world) as http:
        answer = http.put(f"/collections/{world.name}/points?wait=true", json=body)
    assert answer.status_code == 200, answer.text
    assert is_near(stored(1001)[""], written(TEXT))


def test_writes_go_on_where_the_table_does_not_say_so(client: QdrantClient, world: World) -> None:
    before = passed(world)
    point = models.PointStruct(id=1001, vector={"": asked(model="toy/reader")})
    said = told_of(lambda: client.upsert(world.name, [point], wait=True))
    assert "InferenceService is not initialized" in said
    assert passed(world) == before + 1


def passed(world: World) -> float:
    return samples(world.sidecar).get(
        ("trimtab_texts_total", "toy/reader", "passed", "document"), 0
    )


def rest(world: World) -> httpx.Client:
    headers = {"api-key": world.server.api_key} if world.server.api_key else {}
    return new_client(world.sidecar.rest_url, headers=headers)


def body_of(text: str = TEXT, model: str = MODEL) -> dict[str, Any]:
    return {"query": {"text": text, "model": model}, "limit": DEPTH}


def test_a_query_that_wants_no_adapter_is_embedded_all_the_same(world: World) -> None:
    with rest(world) as http:
        answer = http.post(
            f"/collections/{world.name}/points/query",
            json=body_of(),
            headers={MARK_HEADER: "none"},
        )
    assert found(answer.json()["result"]["points"]) == exact(raw(TEXT))
    assert MARK_HEADER not in answer.headers


def test_a_packed_body_is_unpacked(world: World) -> None:
    content = gzip.compress(json.dumps(body_of()).encode())
    for using, wanted in (("", exact(world.adapted())), ("title", exact(raw(TEXT), name="title"))):
        content = gzip.compress(json.dumps(body_of() | {"using": using}).encode())
        with rest(world) as http:
            answer = http.post(
                f"/collections/{world.name}/points/query",
                content=content,
                headers={"content-encoding": "gzip", "content-type": "application/json"},
            )
        assert found(answer.json()["result"]["points"]) == wanted


def test_a_key_that_is_escaped_is_a_key(world: World) -> None:
    content = json.dumps(body_of()).replace('"text"', '"te\\u0078t"').replace("plan", "pl\\u0061n")
    with rest(world) as http:
        answer = http.post(f"/collections/{world.name}/points/query", content=content)
    assert found(answer.json()["result"]["points"]) == exact(world.adapted())


def test_a_text_that_is_too_long_is_refused(world: World) -> None:
    with rest(world) as http:
        answer = http.post(f"/collections/{world.name}/points/query", json=body_of("a " * 200_000))
    assert answer.status_code == 413
    assert "more than 262144 letters" in answer.text


def test_repeated_texts_are_kept(world: World) -> None:
    key = ("trimtab_texts_total", MODEL.lower())
    text = "where is the invoice of my plan"
    with rest(world) as http:
        for _ in range(3):
            http.post(f"/collections/{world.name}/points/query", json=body_of(text))
    counted = samples(world.sidecar)
    assert counted[(*key, "cached", "query")] >= 2
    assert counted[("trimtab_texts_cached", MODEL.lower())] >= 1
    assert counted[("trimtab_texts_waiting", MODEL.lower())] == 0
    assert counted[("trimtab_encode_seconds_count", MODEL.lower())] >= 1


def test_a_newer_file_takes_the_place_of_the_old_one(world: World) -> None:
    file = world.folder / "other.onnx"
    with rest(world) as http:

        def ask() -> list[tuple[int, float]]:
            answer = http.post(
                f"/collections/{world.name}/points/query",
                json=body_of(model="toy/other") | {"using": "title"},
            )
            return found(answer.json()["result"]["points"])

        assert ask() == exact(raw(TEXT), name="title")
        file.write_bytes(encoder_bytes(fingerprint="sha256:other", query_prefix="invoice "))
        wanted = exact(embed(f"invoice {TEXT}", dim=DIM), name="title")
        eventually(ask, is_right=lambda hits: hits == wanted)


def test_the_javascript_client_asks_by_text(world: World) -> None:
    node = shutil.which("node")
    if node is None or not (JS / "node_modules").is_dir():
        pytest.skip("the JavaScript client needs node, and npm ci in tests/support/js")
    told = {"url": world.sidecar.rest_url, "apiKey": world.server.api_key}
    told |= {"collection": world.name, "text": TEXT, "model": MODEL}
    done = subprocess.run(
        [node, "texts.js", json.dumps(told)],
        cwd=JS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [found(points) for points in json.loads(done.stdout)] == [exact(world.adapted())] * 3
