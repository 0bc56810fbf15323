"""sidecar.toml and flags, read into one value."""

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from trimtab.addresses import Address
from trimtab.errors import ConfigError
from trimtab.settings import CollectionSettings, RouteSettings, Settings
from trimtab.settings_file import Source, parse_settings, read_secret

WHOLE = """
workers = 3
[listen]
rest = "127.0.0.1:7000"
grpc = "127.0.0.1:7001"
admin = ""
certificate = "c.pem"
key = "/keys/k.pem"
[upstream]
rest = ["http://a:1", "https://b"]
grpc = "https://c"
connect_timeout_s = 3
[[route]]
collection = "docs"
adapter = "models/docs"
[[route]]
collection = "docs"
vector = "title"
adapter = "/models/title.onnx"
mode = "canary"
share = 0.25
on_error = "refuse"
[[collection]]
name = "papers"
index = "papers.faiss"
payload = "papers.jsonl"
[policies]
inference = "refuse"
[limits]
body_bytes = 5000
[shadow]
share = 0.5
[admin]
token_env = "TOKEN"
[reload]
watch = false
[facts]
ttl_s = 5
"""


def read(folder: Path, text: str, **flags: Any) -> Settings:
    path = folder / "sidecar.toml"
    path.write_text(text)
    return Source.of(path, flags).read()


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    assert settings.workers == 3
    assert settings.listen.rest == Address("127.0.0.1", 7000)
    assert settings.listen.admin is None
    assert settings.listen.certificate == tmp_path / "c.pem"
    assert settings.listen.key == Path("/keys/k.pem")
    assert [str(each) for each in settings.upstream.rest] == ["http://a:1", "https://b:6333"]
    assert [str(each) for each in settings.upstream.grpc] == ["https://c:6334"]
    assert settings.upstream.connect_timeout_s == 3.0
    assert settings.routes == (
        RouteSettings("docs", tmp_path / "models/docs"),
        RouteSettings("docs", Path("/models/title.onnx"), "title", "canary", 0.25, "refuse"),
    )
    assert settings.collections == (
        CollectionSettings("papers", tmp_path / "papers.faiss", None, tmp_path / "papers.jsonl"),
    )
    assert settings.policies.inference == "refuse"
    assert settings.limits.body_bytes == 5000
    assert (settings.shadow.share, settings.admin.token_env) == (0.5, "TOKEN")
    assert (settings.reload.watch, settings.facts.ttl_s) == (False, 5.0)
    assert settings.source == tmp_path / "sidecar.toml"


def test_what_is_not_said_keeps_its_default(tmp_path: Path) -> None:
    settings = read(tmp_path, 'upstream.rest = "qdrant"\n')
    plain = Settings()
    for field in fields(Settings):
        if field.name not in {"upstream", "source"}:
            assert getattr(settings, field.name) == getattr(plain, field.name)


def test_flags_alone_are_enough() -> None:
    flags = {
        "rest": "127.0.0.1:0",
        "upstream_rest": ("http://q:1", "http://r:1"),
        "route": ("docs=models/docs", "docs/text=models/text"),
        "collection": ("papers=p.faiss",),
        "mode": "canary",
        "share": 0.5,
        "workers": 2,
    }
    settings = Source.of(None, flags).read()
    assert settings.source is None
    assert settings.workers == 2
    assert settings.listen.rest == Address("127.0.0.1", 0)
    assert len(settings.upstream.rest) == 2
    assert [(each.collection, each.vector) for each in settings.routes] == [
        ("docs", ""),
        ("docs", "text"),
    ]
    assert {(each.mode, each.share) for each in settings.routes} == {("canary", 0.5)}
    assert settings.routes[0].adapter == Path("models/docs").absolute()
    assert settings.collections[0].index == Path("p.faiss").absolute()


def test_flags_go_before_the_file_and_leave_the_rest_of_it(tmp_path: Path) -> None:
    settings = read(
        tmp_path, WHOLE, rest="127.0.0.1:1", upstream_rest=("http://z:1",), route=("x=y",)
    )
    assert settings.listen.rest == Address("127.0.0.1", 1)
    assert settings.listen.grpc == Address("127.0.0.1", 7001)
    assert [str(each) for each in settings.upstream.rest] == ["http://z:1"]
    assert settings.upstream.connect_timeout_s == 3.0
    assert [each.collection for each in settings.routes] == ["x"]


def test_the_file_is_read_anew_each_time_also_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.toml"
    path.write_text('upstream.rest = "a"\n')
    source: Source = pickle.loads(pickle.dumps(Source.of(path, {"workers": 2})))  # noqa: S301
    assert source.read().workers == 2
    path.write_text('upstream.rest = "a"\nlimits.body_bytes = 7000\n')
    assert source.read().limits.body_bytes == 7000


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    route = {"collection": "docs", "adapter": "a", "share": share}
    with pytest.raises(ConfigError, match="share"):
        parse_settings({"upstream": {"rest": "q"}, "route": [route]}, "told", Path())


@pytest.mark.parametrize("mode", [None, "on", "shadow"])
def test_a_share_where_none_is_taken_is_refused(mode: str | None) -> None:
    route = {"collection": "docs", "adapter": "a", "share": 0.1}
    route |= {} if mode is None else {"mode": mode}
    told = f"'docs' has share 0.1 and mode '{mode or 'on'}'.*; set mode to canary"
    with pytest.raises(ConfigError, match=told):
        parse_settings({"upstream": {"rest": "q"}, "route": [route]}, "told", Path())
    flags = {"upstream_rest": ("q",), "route": ("docs=a",), "share": 0.1, "mode": mode}
    with pytest.raises(ConfigError, match=told):
        Source.of(None, flags).read()


@pytest.mark.parametrize("mode", ["canary", "off"])
def test_a_canary_keeps_its_share_while_it_is_off(mode: str) -> None:
    route = {"collection": "docs", "adapter": "a", "mode": mode, "share": 0.2}
    settings = parse_settings({"upstream": {"rest": "q"}, "route": [route]}, "told", Path())
    assert (settings.routes[0].mode, settings.routes[0].share) == (mode, 0.2)


@pytest.mark.parametrize("on_error", ["passthrough", "refuse"])
@pytest.mark.parametrize("mode", ["on", "off", "shadow", "canary"])
def test_every_mode_and_failure_policy_can_be_set(mode: str, on_error: str) -> None:
    route = {"collection": "docs", "adapter": "a", "mode": mode, "on_error": on_error}
    settings = parse_settings({"upstream": {"rest": "q"}, "route": [route]}, "told", Path())
    assert (settings.routes[0].mode, settings.routes[0].on_error) == (mode, on_error)


WITHOUT_ZERO = {
    "upstream": ("connect_timeout_s", "max_connections", "idle_timeout_s", "check_interval_s",
                 "resolve_interval_s"),
    "limits": ("body_bytes", "head_bytes", "connections", "head_timeout_s", "body_timeout_s",
               "idle_timeout_s"),
    "reload": ("interval_s",),
}  # fmt: skip
WITH_ZERO = {
    "listen": ("busy_poll_us",),
    "upstream": ("query_timeout_s",),
    "limits": ("drain_timeout_s",),
    "shadow": ("share", "concurrent", "kept"),
    "facts": ("ttl_s",),
}


def each_of(tables: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(table, key) for table, keys in tables.items() for key in keys]


@pytest.mark.parametrize(("table", "key"), each_of(WITHOUT_ZERO))
def test_a_zero_with_which_nothing_is_served_is_refused(table: str, key: str) -> None:
    record = {"upstream": {"rest": "q"}}
    record[table] = record.get(table, {}) | {key: 0}
    with pytest.raises(ConfigError, match=rf"\[{table}\] {key} is 0, expected .* or more"):
        parse_settings(record, "told", Path())


@pytest.mark.parametrize(("table", "key"), each_of(WITH_ZERO))
def test_a_zero_that_means_none_or_never_is_taken(table: str, key: str) -> None:
    record = {"upstream": {"rest": "q"}}
    record[table] = record.get(table, {}) | {key: 0}
    assert getattr(getattr(parse_settings(record, "told", Path()), table), key) == 0


COUNTS = [
    (table, key)
    for table, key in (*each_of(WITHOUT_ZERO), *each_of(WITH_ZERO))
    if type(getattr(getattr(Settings(), table), key)) is int
]


@pytest.mark.parametrize(("table", "key"), COUNTS)
def test_a_count_beyond_what_a_machine_holds_is_refused(table: str, key: str) -> None:
    record: dict[str, Any] = {"upstream": {"rest": "q"}}
    record[table] = record.get(table, {}) | {key: 2**63}
    with pytest.raises(ConfigError, match=rf"\[{table}\] {key} is 9223372036854775808, .* at most"):
        parse_settings(record, "told", Path())


def test_every_number_is_held_against_zero() -> None:
    settings, known = Settings(), {*each_of(WITHOUT_ZERO), *each_of(WITH_ZERO)}
    tables = {name: getattr(settings, name) for name in ("listen", "upstream", "limits", "shadow")}
    tables |= {"reload": settings.reload, "facts": settings.facts}
    assert known == {
        (name, each.name)
        for name, table in tables.items()
        for each in fields(table)
        if type(getattr(table, each.name)) in {int, float}
    }


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"limits": 7}, ("told", "[limits]", "table")),
        ({"limits": {"nothing": 7}}, ("[limits]", "nothing", "body_bytes")),
        ({"route": [{"adapter": "a"}]}, ("route", "collection")),
        ({"route": {"collection": "a", "adapter": "b"}}, ("[[route]]",)),
        ({"route": [7]}, ("route", "table")),
        ({"facts": {"ttl_s": "5"}}, ("[facts]", "ttl_s", "float")),
        ({"facts": {"ttl_s": float("nan")}}, ("ttl_s",)),
        ({"workers": True}, ("workers",)),
        ({"workers": 0}, ("workers",)),
        ({"workers": 2**31}, ("workers is 2147483648", "1024 at most")),
        (
            {"encoder": [{"model": "a", "file": "b", "cached": 2**63}]},
            ("[[encoder]] number 1 cached", "at most"),
        ),
        ({"source": "x"}, ("source",)),
        ({"listen": {"rest": "x"}}, ("[listen]", "rest", "HOST:PORT")),
        ({"upstream": {"rest": [7]}}, ("[upstream]", "rest")),
        (
            {"upstream": {"rest": "127.0.0.1"}},
            ("[upstream] rest http://127.0.0.1:6333", "itself", "[listen] rest 127.0.0.1:6333"),
        ),
        (
            {"listen": {"admin": "0.0.0.0:7"}, "upstream": {"rest": ["q", "https://localhost:7"]}},
            ("https://localhost:7", "itself", "[listen] admin 0.0.0.0:7"),
        ),
        (
            {"listen": {"grpc": "[::]:6334"}, "upstream": {"grpc": "localhost"}},
            ("[upstream] grpc http://localhost:6334", "itself", "[listen] grpc [::]:6334"),
        ),
        (
            {"listen": {"rest": "0.0.0.0:6340"}},
            ("[listen] rest 0.0.0.0:6340", "[listen] admin 127.0.0.1:6340", "one place"),
        ),
        ({"reload": {"interval_s": 1e-9}}, ("interval_s", "0.01 or more")),
        ({"limits": {"head_bytes": 17}}, ("head_bytes", "1024 or more")),
        (
            {"upstream": {"grpc": "q", "connect_timeout_s": float("inf")}},
            ("connect_timeout_s", "86400 at most"),
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(record: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings({"upstream": {"rest": "q"}, **record}, "told", Path())
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("place", "record"),
    [
        ("[listen] certificate", {"listen": {"certificate": "a\0b", "key": "c"}}),
        ("[listen] key", {"listen": {"certificate": "a", "key": "a\0b"}}),
        ("[upstream] ca", {"upstream": {"rest": "q", "ca": "a\0b"}}),
        ("[upstream] certificate", {"upstream": {"rest": "q", "certificate": "a\0b"}}),
        ("[upstream] key", {"upstream": {"rest": "q", "key": "a\0b"}}),
        ("[[route]] number 1 adapter", {"route": [{"collection": "c", "adapter": "a\0b"}]}),
        ("[[collection]] number 1 index", {"collection": [{"name": "n", "index": "a\0b"}]}),
        (
            "[[collection]] number 1 ids",
            {"collection": [{"name": "n", "index": "i", "ids": "a\0b"}]},
        ),
        (
            "[[collection]] number 1 payload",
            {"collection": [{"name": "n", "index": "i", "payload": "a\0b"}]},
        ),
        ("[[encoder]] number 1 file", {"encoder": [{"model": "m", "file": "a\0b"}]}),
    ],
)
def test_a_path_that_no_file_can_have_is_told_with_its_place(
    place: str, record: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings({"upstream": {"rest": "q"}, **record}, "told", Path())
    assert f"{place} is 'a\\x00b', expected a path without NUL" in str(caught.value)


@pytest.mark.parametrize("flag", ["docs", "=model", "docs=", ""])
def test_a_route_flag_that_cannot_be_read_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="--route"):
        Source.of(None, {"route": (flag,)})


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.toml", tmp_path):
        with pytest.raises(ConfigError, match="can't read"):
            Source.of(path, {}).read()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML: it is not UTF-8; convert it"):
        Source.of(tmp_path / "binary.toml", {}).read()


def test_a_file_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(f"workers = {'[' * 5000}")
    with pytest.raises(ConfigError, match=r"deep\.toml is not TOML: it is nested too deep"):
        Source.of(tmp_path / "deep.toml", {}).read()


def test_a_file_as_an_editor_of_windows_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.toml"
    path.write_bytes(b"\xef\xbb\xbfworkers = 3\r\n[upstream]\r\nrest = 'HTTP://q:1'\r\n")
    settings = Source.of(path, {}).read()
    assert (settings.workers, [str(each) for each in settings.upstream.rest]) == (3, ["http://q:1"])


@pytest.mark.parametrize("value", ["secret", "secret\n", " secret\r\n", "two words"])
def test_white_space_around_a_secret_is_no_part_of_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", value)
    assert read_secret("A_KEY") == value.strip()


@pytest.mark.parametrize("value", ["se\ncret", "secret\r\nx-more: 1", "s\u00e9cret", "\x1bsecret"])
def test_a_secret_that_no_header_can_carry_is_refused_and_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", value)
    with pytest.raises(ConfigError, match="A_KEY holds something else than printable") as raised:
        read_secret("A_KEY")
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_secret_that_is_not_set_is_none(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("A_KEY", value)
    assert read_secret("A_KEY") is None
