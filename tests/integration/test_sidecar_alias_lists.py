"""Aliases that Qdrant shows to some keys alone, and ones that change though nobody heard of it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.raw_http import Message
from tests.support.raw_place import Place, query_body, running_place
from tests.support.raw_upstream import GOOD, Exchange, raw_upstream
from tests.support.sidecar_world import eventually, mark_of


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run one sidecar that asks Qdrant with its callers' keys, and believes it for an hour."""
    with raw_upstream() as upstream:
        tables = {"facts": {"ttl_s": 3600.0}}
        with running_place(tmp_path_factory.mktemp("aliases"), [upstream], **tables) as place:
            yield place


def mark(place: Place, name: str, key: str) -> str:
    """Query by a name with a key; give the mark of the adapter that was used."""
    url = f"{place.sidecar.rest_url}/collections/{name}/points/query"
    headers = {"api-key": key, "content-type": "application/json"}
    return mark_of(httpx.post(url, content=query_body(), headers=headers, timeout=60.0))


def test_an_alias_that_one_key_is_not_shown_is_adapted_for_the_others(shared_place: Place) -> None:
    """Qdrant lists to each key the aliases of those collections alone that it may see."""

    def shown(request: Message) -> dict[str, str]:
        return {"live": "docs"} if request.value("api-key") == "full" else {}

    shared_place.upstream.aliases = shown
    assert mark(shared_place, "another", "narrow") == ""
    assert mark(shared_place, "live", "full") == mark(shared_place, "docs", "full") != ""
    assert mark(shared_place, "another", "full") == ""


def test_an_alias_is_followed_though_nobody_waited_for_its_change(shared_place: Place) -> None:
    """Qdrant carries out what its client has given up, once the sidecar has asked it again."""
    upstream, target = shared_place.upstream, {"moving": "docs"}

    def carry_out_late(exchange: Exchange) -> None:
        if not exchange.request.target.endswith("/aliases"):
            GOOD(exchange)
            return
        exchange.read_body()
        exchange.hang()
        assert mark(shared_place, "moving", "key") != "", "as nothing has happened yet"
        target["moving"] = "elsewhere"

    upstream.aliases = lambda _: target
    assert mark(shared_place, "moving", "key") != ""
    upstream.answer = carry_out_late
    url = f"{shared_place.sidecar.rest_url}/collections/aliases"
    with pytest.raises(httpx.TimeoutException):
        httpx.post(url, json={"actions": []}, timeout=0.5)
    eventually(lambda: mark(shared_place, "moving", "key"), is_right=lambda found: found == "")
    upstream.recover()
