"""Who may ask, with which key, over which TLS; and what never shows in a log."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme

from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server, running_server
from tests.support.raw_http import connect as connect_to
from tests.support.raw_http import request_bytes
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DIM,
    ask,
    exact,
    fill,
    hits,
    mark_of,
    new_client,
    query,
    samples,
    search,
    write_model,
)
from trimtab.model.adapter import Adapter

KEY, TOKEN = "qdrants-topsecret-key", "admins-topsecret-token"
GUARDED = {"routes": "GET", "metrics": "GET", "shadow": "GET", "reload": "POST", "rollback": "POST"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(api_key=KEY) as server:
        direct = connect(server)
        fill(direct, "docs", "alias")
        direct.close()
        yield server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Adapter]:
    folder = tmp_path_factory.mktemp("model")
    return folder, write_model(folder / "adapter.onnx", name="model")


def adapted(adapter: Adapter) -> np.ndarray:
    return adapter.transform(np.array(query(), dtype=np.float32))


@pytest.fixture(scope="module")
def guarded(
    server: Server,
    model: tuple[Path, Adapter],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sidecar]:
    """Has a token, no key of its own, and a policy of each kind that talks."""
    config = tmp_path_factory.mktemp("guarded") / "sidecar.toml"
    config.write_text(
        f'upstream = {{ rest = "{server.rest_url}", api_key_env = "UNSET_KEY" }}\n'
        'admin.token_env = "ADMIN_TOKEN"\n'
        f'[[route]]\ncollection = "docs"\nadapter = "{model[0]}"\n'
        f'[[route]]\ncollection = "shadowed"\nadapter = "{model[0]}"\nmode = "shadow"\n'
    )
    with running_sidecar(config=config, env={"ADMIN_TOKEN": TOKEN}) as sidecar:
        yield sidecar


def test_all_but_health_and_readiness_ask_for_the_token(guarded: Sidecar) -> None:
    for name, method in GUARDED.items():
        url = f"{guarded.admin_url}/{name}"
        for given in ("", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"bearer{TOKEN}"):
            assert ask(method, url, headers={"authorization": given}).status_code == 401
        assert ask(method, url).status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert ask(method, url, headers=right).status_code in {200, 409}
    for name in ("health", "ready"):
        assert ask("GET", f"{guarded.admin_url}/{name}").status_code == 200


def test_other_methods_and_paths_are_refused(guarded: Sidecar) -> None:
    assert ask("GET", f"{guarded.admin_url}/reload").status_code == 405
    assert ask("GET", f"{guarded.admin_url}/nothing").status_code == 404
    with new_client(guarded.rest_url) as raw:  # not on the public address
        answer = raw.get("/trimtab/routes", headers={"authorization": f"Bearer {TOKEN}"})
        assert "workers" not in answer.text


def test_without_a_token_only_a_host_of_this_machine_is_served(server: Server) -> None:
    """A web page can lead a name of its own here, but not choose what a browser calls it."""
    expected = {
        "localhost": 200,
        "127.0.0.1:1": 200,
        "[::1]:6340": 200,
        "evil.example": 403,
        "": 403,
        **dict.fromkeys(("[", "[::1", "a]b", "[x]"), 403),  # no hosts at all
    }
    with running_sidecar("--upstream-rest", server.rest_url) as sidecar:
        name, _, port = sidecar.admin.rpartition(":")
        answered = {}
        for host in expected:
            with connect_to((name, int(port))) as wire:
                asked = request_bytes("GET", "/trimtab/metrics", host=host)
                answered[host] = wire.ask(asked).status
        assert answered == expected
        assert samples(sidecar)["trimtab_unforeseen_errors_total", "admin"] == 0
        assert "Traceback" not in sidecar.log()


def test_without_a_key_qdrant_says_no_and_with_the_callers_all_is_adapted(
    guarded: Sidecar, server: Server, model: tuple[Path, Adapter]
) -> None:
    with new_client(guarded.rest_url) as raw:
        assert search(raw, "docs", query()).status_code == 401
        keys = {"api-key": KEY, "authorization": f"Bearer {KEY}"}
        for name, value in keys.items():
            server.clear_requests()
            answer = raw.post(
                "/collections/docs/points/query",
                json={"query": query(), "limit": 6},
                headers={name: value},
            )
            assert hits(answer) == exact(adapted(model[1]))
            for one in server.requests():
                sent = dict(one["headers"]).items() & keys.items()
                # What the sidecar asks for itself may be left from the other key's search.
                assert sent == {(name, value)} if one["body"] else sent


def test_a_caller_without_rights_leaves_no_wrong_facts_behind(
    guarded: Sidecar, model: tuple[Path, Adapter]
) -> None:
    with new_client(guarded.rest_url) as raw:
        assert search(raw, "alias", query()).status_code == 401
        raw.headers["api-key"] = KEY
        answer = search(raw, "alias", query())
        assert hits(answer) == exact(adapted(model[1]))
        assert mark_of(answer) == model[1].mark


def test_the_sidecars_own_key_is_for_its_own_questions_alone(
    server: Server, model: tuple[Path, Adapter]
) -> None:
    server.clear_requests()
    flags = ("--upstream-rest", server.rest_url, "--route", f"docs={model[0]}")
    with running_sidecar(*flags, env={"QDRANT_API_KEY": KEY}) as sidecar:
        with new_client(sidecar.rest_url) as raw:
            assert search(raw, "docs", query()).status_code == 401
            raw.headers["api-key"] = KEY
            assert mark_of(search(raw, "docs", query())) == model[1].mark
        assert "not checked" not in sidecar.log()
        assert KEY not in sidecar.log()
    asked = [one for one in server.requests() if one["path"] == "/collections/docs"]
    assert [dict(one["headers"])["api-key"] for one in asked] == [KEY]


def test_a_secret_that_ends_with_a_line_is_the_secret(
    server: Server, model: tuple[Path, Adapter], tmp_path: Path
) -> None:
    config = tmp_path / "sidecar.toml"
    config.write_text(
        f'upstream.rest = "{server.rest_url}"\nadmin.token_env = "ADMIN_TOKEN"\n'
        f'[[route]]\ncollection = "docs"\nadapter = "{model[0]}"\n'
    )
    secrets = {"QDRANT_API_KEY": f"{KEY}\n", "ADMIN_TOKEN": f"{TOKEN}\r\n"}
    with running_sidecar(config=config, env=secrets) as sidecar:
        with new_client(sidecar.rest_url, headers={"api-key": KEY}) as raw:
            assert mark_of(search(raw, "alias", query())) == model[1].mark
        for scheme in ("Bearer", "bearer"):
            given = {"authorization": f"{scheme} {TOKEN}"}
            assert ask("GET", f"{sidecar.admin_url}/routes", headers=given).status_code == 200
        assert not sidecar.log()


def send_secrets(sidecar: Sidecar) -> None:
    """Send requests of all kinds that something may be logged of."""
    bad = "/collections/docs/points/query"
    point = {"id": 1, "vector": {"": query()}, "payload": {"a": "topsecret"}}
    with new_client(sidecar.rest_url, headers={"api-key": KEY}) as raw:
        search(raw, "docs", query())
        search(raw, "docs", [3e38] * DIM)
        search(raw, "shadowed", query())
        raw.post(bad, content=b'{"query": [0.123456789, topsecret')
        raw.post(bad, json={"query": {"text": "topsecret"}})
        raw.put("/collections/topsecret-not-there/points", json={"points": [point]})
        raw.get("/collections/topsecret-not-logged?api-key=" + KEY)
        raw.post(bad, content=b"\x00topsecret")


def check_log(log: str) -> None:
    assert log
    for secret in (KEY, TOKEN, "topsecret", "0.123456789", "e+38", "3e38", str(query()[0])[:8]):
        assert secret not in log
    assert "Traceback" not in log


def test_logs_hold_no_vector_text_or_key(guarded: Sidecar) -> None:
    send_secrets(guarded)
    check_log(guarded.log())


def test_logs_of_workers_are_json_where_that_is_asked_for_and_hold_no_secrets(
    server: Server, model: tuple[Path, Adapter]
) -> None:
    flags = ("--upstream-rest", server.rest_url, "--route", f"docs={model[0]}", "--workers", "2")
    with running_sidecar(*flags, "--log-format", "json") as sidecar:
        send_secrets(sidecar)
        ask("POST", f"{sidecar.admin_url}/reload").raise_for_status()
        log = sidecar.log()
    check_log(log)
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "event"} <= set(line) for line in lines)
    assert [line["event"] for line in lines].count("routes reloaded") == 2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(
    server: Server,
    model: tuple[Path, Adapter],
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Sidecar, Sidecar, Path]]:
    """Two sidecars: TLS towards the first, and from the first to the second."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    route = f'[[route]]\ncollection = "docs"\nadapter = "{model[0]}"\n'
    listen = 'listen.certificate = "certificate.pem"\nlisten.key = "key.pem"\n'
    env = {"QDRANT_API_KEY": KEY}
    with contextlib.ExitStack() as stack:
        configs = {"back": f'upstream.rest = "{server.rest_url}"\n'}
        sidecars = []
        for name in ("back", "front"):
            config = folder / f"{name}.toml"
            config.write_text(listen + configs[name] + route)
            sidecars.append(stack.enter_context(running_sidecar(config=config, env=env)))
            configs["front"] = (
                f'upstream.rest = "https://{sidecars[0].rest}"\nupstream.ca = "ca.pem"\n'
            )
        yield sidecars[1], sidecars[0], folder / "ca.pem"


def test_a_query_passes_two_sidecars_over_tls_and_is_adapted_once(
    secure: tuple[Sidecar, Sidecar, Path], model: tuple[Path, Adapter]
) -> None:
    front, back, ca = secure
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(
        base_url=f"https://{front.rest}", verify=context, headers={"api-key": KEY}
    ) as raw:
        answer = search(raw, "docs", query())
        assert hits(answer) == exact(adapted(model[1]))
        assert mark_of(answer) == model[1].mark
        assert raw.get("/collections").status_code == 200
    assert samples(back)["trimtab_query_vectors_total", "docs", "already_adapted"] == 1
    assert samples(front)["trimtab_query_vectors_total", "docs", "adapted"] == 1


def test_who_does_not_know_the_authority_is_not_served(
    secure: tuple[Sidecar, Sidecar, Path],
) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{secure[0].rest}/")
    with pytest.raises(httpx.TransportError):  # and plain HTTP is not either
        httpx.get(f"http://{secure[0].rest}/")
    assert "Traceback" not in secure[0].log()


def test_an_upstream_of_an_unknown_authority_is_not_trusted(
    secure: tuple[Sidecar, Sidecar, Path], tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    config = tmp_path / "sidecar.toml"
    config.write_text(
        f'upstream.rest = "https://{secure[1].rest}"\nupstream.ca = "ca.pem"\n', encoding="utf-8"
    )
    with running_sidecar(config=config) as sidecar:
        answer = httpx.get(f"{sidecar.rest_url}/collections")
        assert answer.status_code == 502
        assert "certificate" in answer.json()["status"]["error"]
        assert "Traceback" not in sidecar.log()
