"""The life of the Qdrant test server's process: what it keeps, what it records, how it ends."""

import socket

import grpc
import httpx
import pytest
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException

from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import running_server

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)
POINTS = [models.PointStruct(id=i, vector=[i, 1], payload={"n": i}) for i in range(5)]


def test_a_killed_server_comes_back_with_its_points(tmp_path):
    alias = models.CreateAlias(collection_name="kept", alias_name="also-kept")
    with running_server(path=tmp_path) as server:
        client = connect(server)
        client.create_collection("kept", DOT)
        client.create_payload_index("kept", "n", models.PayloadSchemaType.INTEGER)
        client.upsert("kept", POINTS)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        before = client.scroll("kept", with_vectors=True)
        server.kill()
        with pytest.raises(ResponseHandlingException):
            client.scroll("kept")
        with running_server(
            path=tmp_path, rest_port=server.rest_port, grpc_port=server.grpc_port
        ) as again:
            assert (again.rest_port, again.grpc_port) == (server.rest_port, server.grpc_port)
            assert client.scroll("also-kept", with_vectors=True) == before
            assert client.get_collection("kept").payload_schema["n"].points == len(POINTS)
        client.close()


def test_a_terminated_server_ends_cleanly():
    with running_server() as server:
        process = server.process
    assert process is not None
    assert process.returncode == 0


def test_a_server_that_cannot_start_says_why():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(RuntimeError, match=r"did not start(?s:.)*[Aa]ddress already in use"),
            running_server(rest_port=taken.getsockname()[1]),
        ):
            pass


def test_requests_are_recorded_as_they_came():
    body = b'{"query" : [1.50,  2], "limit": 1 }'
    with running_server(record=True) as server:
        client = connect(server)
        client.create_collection("seen", DOT)
        server.clear_requests()
        headers = {"content-type": "application/json", "x-mark": "here"}
        httpx.post(
            f"{server.rest_url}/collections/seen/points/query?timeout=3",
            content=body,
            headers=headers,
        )
        message = messages.CountPoints(collection_name="seen", exact=True)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            messages.PointsStub(channel).Count(message, metadata=(("x-mark", "there"),))
        sent = {"POST", "/qdrant.Points/Count"}  # the client may ask for the version meanwhile
        rest, rpc = (one for one in server.requests() if one["method"] in sent)
        client.close()
    assert (rest["protocol"], rest["method"], rest["body"]) == ("rest", "POST", body)
    assert rest["path"] == "/collections/seen/points/query?timeout=3"
    assert ["x-mark", "here"] in rest["headers"]
    assert (rpc["method"], rpc["body"]) == ("/qdrant.Points/Count", message.SerializeToString())
    assert ["x-mark", "there"] in rpc["headers"]


def test_nothing_is_recorded_unless_asked():
    with running_server() as server:
        httpx.get(f"{server.rest_url}/collections")
        assert server.requests() == []
