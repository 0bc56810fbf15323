"""`trimtab serve --check` is green where `serve` serves, and red, in one line, where not."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import faiss
import grpc
import grpc.aio
import numpy as np
import pytest
from click.testing import CliRunner, Result
from qdrant_client import grpc as messages

from tests.support.grpc_upstream import Scripted, first
from tests.support.onnx_models import CARD, linear_bytes
from tests.support.sidecar import running_sidecar
from tests.support.sidecar_world import DIM, write_model
from tests.support.tiny_encoder import words_bytes
from trimtab.commands.group import main
from trimtab_training.export.fused_encoder import fuse_adapter

PLAIN = {"size": DIM, "distance": "Cosine"}
COLLECTIONS: dict[str, dict[str, Any]] = {
    "docs": {"vectors": PLAIN},
    "named": {"vectors": {"title": PLAIN, "body": {**PLAIN, "size": 5}}},
    "narrow": {"vectors": {**PLAIN, "size": 5}},
    "bytes": {"vectors": {**PLAIN, "datatype": "uint8"}},
    "sparse": {"vectors": {}, "sparse_vectors": {"words": {}}},
    "mixed": {"vectors": {"title": PLAIN}, "sparse_vectors": {"words": {}}},
    "rows": {"vectors": {**PLAIN, "multivector_config": {"comparator": "max_sim"}}},
    "manhattan": {"vectors": {**PLAIN, "distance": "Manhattan"}},
}
ALIASES = {"an-alias": "docs"}


class Qdrant(BaseHTTPRequestHandler):
    """Describes collections, under any path."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        *_, kind, name = f"/{self.path}".split("/")
        params = COLLECTIONS.get(ALIASES.get(name, name)) if kind == "collections" else None
        aliases = [{"alias_name": k, "collection_name": v} for k, v in ALIASES.items()]
        body: Any = {"result": {"aliases": aliases} if name == "aliases" else None}
        if params is not None:
            body = {"result": {"config": {"params": params}}}
        known = params is not None or name in {"aliases", "healthz"}
        content = json.dumps(body).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def qdrant() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Qdrant) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "adapter.onnx")
    return tmp_path


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["serve", "--check", *arguments])


def report(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what is said as JSON."""
    result = check("--json", *arguments)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    assert said["ok"] is (result.exit_code == 0)
    assert bool(said["error"]) is not said["ok"]
    return result.exit_code, said


FITS = {
    "docs": ("fine", ""),
    "an-alias": ("fine", ""),
    "named/title": ("fine", ""),
    "manhattan": ("doubtful", "manhattan"),
}
FAULTS = {
    "typo": ("missing", "no collection or alias of that name"),
    "named": ("unfit", "has no unnamed vector, and the route names none"),
    "named/typo": (
        "unfit",
        "does not exist; the collection's dense vectors are: 'bo",
    ),
    "docs/title": ("unfit", "has no name: leave the name out"),
    "narrow": ("unfit", "has vectors of 5 values"),
    "bytes": ("unfit", "uint8"),
    "sparse/words": ("unfit", "has no dense vectors"),
    "mixed/words": ("unfit", "is sparse"),
    "rows": ("idle", "multivector"),
}


@pytest.mark.parametrize("place", [*FITS, *FAULTS])
def test_qdrant_is_asked_about_a_route(qdrant: str, model: Path, place: str) -> None:
    fit, said = {**FITS, **FAULTS}[place]
    flags = ("--upstream-rest", qdrant, "--route", f"{place}={model}")
    code, found = report("--online", *flags)
    (route,) = found["routes"]
    assert code == (place in FAULTS)
    assert (route["fit"], found["online"]) == (fit, True)
    assert said in route["text"]
    collection, _, vector = place.partition("/")
    assert (route["collection"], route["vector"]) == (collection, vector)
    assert report(*flags)[0] == 0  # which needs no Qdrant
    told = check("--online", *flags)
    assert told.exit_code == code
    assert said in told.stderr


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with an adapter behind it, in one file."""
    file = tmp_path_factory.mktemp("fused") / "fused.onnx"
    words = words_bytes(dim=DIM, fingerprint=CARD.fingerprint)
    adapter = linear_bytes(dim_in=DIM, dim_out=DIM, use="relevance")
    file.write_bytes(fuse_adapter(words, adapter))
    return file


def encoder_config(folder: Path, qdrant: str, fused: Path, *adapts: str, more: str = "") -> Path:
    """Settings with an encoder whose adapter is for some collections."""
    config = folder / "sidecar.toml"
    config.write_text(
        f'upstream.rest = "{qdrant}"\n{more}\n'
        f'[[encoder]]\nmodel = "toy"\nfile = "{fused}"\nadapts = {json.dumps(adapts)}\n'
    )
    return config


@pytest.mark.parametrize("place", [*FITS, *FAULTS])
def test_qdrant_is_asked_about_what_an_encoder_adapts(
    qdrant: str, fused: Path, tmp_path: Path, place: str
) -> None:
    fit, said = {**FITS, **FAULTS}[place]
    said = said.replace("the route", "adapts of [[encoder]] 'toy'")
    config = str(encoder_config(tmp_path, qdrant, fused, place))
    code, found = report("--online", "--config", config)
    assert (code, found["routes"]) == (place in FAULTS, [])
    (encoder,) = found["encoders"]
    collection, _, vector = place.partition("/")
    assert [encoder[key] for key in ("model", "collection", "vector")] == [
        *("toy", collection, vector)
    ]
    assert encoder["fit"] == fit
    assert said in encoder["text"]
    assert report("--config", config)[0] == 0  # which needs no Qdrant
    told = check("--online", "--config", config)
    assert told.exit_code == code
    assert said in told.stderr
    assert code or told.stdout == "fine: 0 routes, 0 indexes, 1 adapted by encoders\n"


@pytest.mark.parametrize(
    ("meeting", "fit"),
    [
        (("an-alias", "docs", "on"), "unfit"),
        (("docs", "an-alias", "on"), "unfit"),
        (("an-alias", "docs", "off"), "fine"),
        (("manhattan", "docs", "on"), "fine"),
    ],
)
def test_an_encoder_and_a_route_that_meet_by_an_alias_are_told(
    qdrant: str, fused: Path, model: Path, meeting: tuple[str, str, str], fit: str
) -> None:
    route, adapts, mode = meeting
    table = f'[[route]]\ncollection = "{route}"\nadapter = "adapter.onnx"\nmode = "{mode}"\n'
    config = encoder_config(model, qdrant, fused, adapts, more=table)
    code, found = report("--online", "--config", str(config))
    assert (code, found["encoders"][0]["fit"]) == (fit != "fine", fit)
    assert ("has a [[route]] as well" in found["encoders"][0]["text"]) is (fit != "fine")


def test_a_start_says_what_an_encoder_cannot_adapt(
    qdrant: str, fused: Path, tmp_path: Path
) -> None:
    config = encoder_config(tmp_path, qdrant, fused, "typo", "docs")
    with running_sidecar(config=config) as sidecar:
        (told,) = [line for line in sidecar.log().splitlines() if "can't apply" in line]
    assert "collection=typo" in told
    config = encoder_config(tmp_path, qdrant, fused, "narrow")
    ports = ("--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    result = CliRunner().invoke(main, ["serve", "--config", str(config), *ports])
    assert result.exit_code == 1
    assert "adapts of [[encoder]] 'toy') has vectors of 5 values" in result.stderr


def test_every_route_is_reported_and_a_fault_of_one_is_no_others(qdrant: str, model: Path) -> None:
    places = {**FITS, **FAULTS}
    flags = [each for place in places for each in ("--route", f"{place}={model}")]
    code, found = report("--online", "--upstream-rest", qdrant, *flags)
    assert code == 1
    shown = {f"{each['collection']}/{each['vector']}".rstrip("/"): each for each in found["routes"]}
    assert {name: each["fit"] for name, each in shown.items()} == {
        name: fit for name, (fit, _) in places.items()
    }
    assert all(shown[place]["text"] in found["error"] for place in FAULTS)


def test_a_multivector_whose_rows_are_adapted_is_fine(qdrant: str, model: Path) -> None:
    config = model / "sidecar.toml"
    config.write_text(
        f'upstream.rest = "{qdrant}"\npolicies.multivector = "rows"\n'
        '[[route]]\ncollection = "rows"\nadapter = "adapter.onnx"\n'
    )
    assert report("--online", "--config", str(config))[0] == 0


def test_a_path_before_qdrants_own_is_used(qdrant: str, model: Path) -> None:
    flags = ("--upstream-rest", qdrant, "--upstream-path-prefix", "/deep/down")
    assert report("--online", *flags, "--route", f"docs={model}")[0] == 0
    assert Qdrant.asked[-1] == "/deep/down/collections/docs"


def test_a_qdrant_that_does_not_answer_is_a_fault(model: Path) -> None:
    flags = ("--upstream-rest", "http://127.0.0.1:9", "--route", f"docs={model}")
    code, found = report("--online", *flags)
    assert (code, found["routes"][0]["fit"]) == (1, "unknown")
    assert "127.0.0.1:9" in found["error"]


def test_settings_that_cannot_be_used_are_told_as_json_too(model: Path) -> None:
    code, found = report("--upstream-rest", "a:1", "--route", "docs=/no/such/model")
    assert (code, found["routes"]) == (1, [])
    assert "/no/such/model" in found["error"]


def test_asking_qdrant_goes_with_checking(model: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--online", "--upstream-rest", "a:1"])
    assert result.exit_code == 2
    assert "--check" in result.stderr


def test_a_route_that_leads_nowhere_is_refused_where_there_is_no_qdrant(model: Path) -> None:
    index = faiss.IndexFlatIP(DIM)
    index.add(np.eye(DIM, dtype=np.float32))
    faiss.write_index(index, str(model / "papers.faiss"))
    flags = ("--collection", f"papers={model / 'papers.faiss'}")
    assert report(*flags, "--route", f"papers={model}")[0] == 0
    code, found = report(*flags, "--route", f"paper={model}")
    assert code == 1
    assert "the indexes are: 'papers'" in found["error"]


def test_what_an_encoder_adapts_is_held_against_indexes(fused: Path, tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(5)
    index.add(np.eye(5, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "papers.faiss"))
    config = tmp_path / "sidecar.toml"
    for name, said in (("papers", "has vectors of 5 values"), ("paper", "indexes are: 'papers'")):
        config.write_text(
            '[[collection]]\nname = "papers"\nindex = "papers.faiss"\n'
            f'[[encoder]]\nmodel = "toy"\nfile = "{fused}"\nadapts = ["{name}"]\n'
        )
        code, found = report("--config", str(config))
        assert code == 1
        assert said in found["error"]


@pytest.mark.parametrize("mode", ["canary", "shadow"])
@pytest.mark.parametrize(
    "command", [("--check",), ("--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0")]
)
def test_a_migration_that_answers_raw_queries_is_refused(
    tmp_path: Path, mode: str, command: tuple[str, ...]
) -> None:
    write_model(tmp_path / "adapter.onnx", use="migration", name="moved")
    flags = ("--upstream-rest", "http://127.0.0.1:9", "--route", f"docs={tmp_path}", "--mode", mode)
    result = CliRunner().invoke(main, ["serve", *command, *flags])
    assert result.exit_code == 1
    (line,) = [each for each in result.stderr.splitlines() if not each.startswith("warning:")]
    assert f"mode '{mode}'" in line
    assert "'moved' is for a migration" in line


def test_a_migration_that_passes_what_fails_is_warned_of(tmp_path: Path) -> None:
    write_model(tmp_path / "adapter.onnx", use="migration")
    config = tmp_path / "sidecar.toml"
    config.write_text(
        'upstream.rest = "http://127.0.0.1:9"\n[[route]]\ncollection = "docs"\n'
        'adapter = "adapter.onnx"\non_error = "passthrough"\n'
    )
    code, found = report("--config", str(config))
    assert (code, found["routes"][0]["fit"]) == (0, "doubtful")
    assert "set refuse" in found["routes"][0]["text"]


def test_a_start_says_which_routes_cannot_apply_and_serves(qdrant: str, model: Path) -> None:
    routes = [each for name in ("typo", "rows", "docs") for each in ("--route", f"{name}={model}")]
    with running_sidecar("--upstream-rest", qdrant, *routes) as sidecar:
        told = [line for line in sidecar.log().splitlines() if "can't apply" in line]
    assert len(told) == 2
    assert "collection=typo" in told[0]
    assert "collection=rows" in told[1]


@pytest.mark.parametrize(
    ("place", "fit"), [("docs", "fine"), ("typo", "missing"), ("words", "unfit")]
)
def test_where_there_is_only_grpc_it_is_asked(model: Path, place: str, fit: str) -> None:
    async def script(method: str, requests: Any, context: Any) -> None:
        asked = messages.GetCollectionInfoRequest.FromString(await first(requests))
        info = messages.CollectionInfo()
        params = info.config.params
        if asked.collection_name == "typo":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such collection")
        elif asked.collection_name == "words":
            params.sparse_vectors_config.map["words"].SetInParent()
        else:
            params.vectors_config.params.size = DIM
            params.vectors_config.params.distance = messages.Distance.Cosine
        await context.write(messages.GetCollectionInfoResponse(result=info).SerializeToString())

    async def run() -> tuple[int, dict[str, Any]]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Scripted(script),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        config = model / "sidecar.toml"
        config.write_text(
            f'listen = {{ rest = "", grpc = "127.0.0.1:0" }}\nupstream.grpc = "127.0.0.1:{port}"\n'
            f'[[route]]\ncollection = "{place}"\nadapter = "adapter.onnx"\n'
        )
        found = await asyncio.to_thread(report, "--online", "--config", str(config))
        await server.stop(None)
        return found

    code, found = asyncio.run(run())
    assert found["routes"][0]["fit"] == fit
    assert code == (fit != "fine")
