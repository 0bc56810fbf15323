"""A user's mistake in settings or flags: one line that says what and where, and no traceback."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.sidecar_world import write_model
from trimtab.commands.group import main

UPSTREAM = 'upstream.rest = "http://127.0.0.1:9"\n'
ROUTE = '[[route]]\ncollection = "docs"\nadapter = "adapter.onnx"\n'
MOVED = ROUTE.replace("adapter.onnx", "moved.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "adapter.onnx")
    write_model(tmp_path / "moved.onnx", use="migration")
    return tmp_path


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        yield f"127.0.0.1:{opened.getsockname()[1]}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["serve", *arguments])


def check(result: Result, code: int) -> str:
    """Check that a mistake was told as one; give the line."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if code == 1:
        assert [line for line in result.stderr.splitlines() if "warning:" not in line] == lines
    return lines[0]


FILES: dict[str, tuple[str, str]] = {
    "no TOML": ("[route", "is not TOML"),
    "nothing": ("", "nothing to serve"),
    "unknown table": (UPSTREAM + "[rout]\n", "unknown key 'rout'"),
    "unknown key": (UPSTREAM + "[limits]\nbody_byte = 1\n", "unknown key 'body_byte'"),
    "unknown policy": (UPSTREAM + '[policies]\ninference = "no"\n', "inference"),
    "unknown mode": (UPSTREAM + ROUTE + 'mode = "maybe"\n', "expected on or off or shadow"),
    "unknown on_error": (UPSTREAM + ROUTE + 'on_error = "ignore"\n', "passthrough or refuse"),
    "share too large": (UPSTREAM + ROUTE + 'mode = "canary"\nshare = 1.5\n', "share is 1.5"),
    "share without canary": (UPSTREAM + ROUTE + "share = 0.1\n", "set mode to canary"),
    "share no number": (UPSTREAM + ROUTE + 'share = "half"\n', "share"),
    "share NaN": (UPSTREAM + ROUTE + "share = nan\n", "share"),
    "shadow share": (UPSTREAM + "[shadow]\nshare = 2\n", "[shadow] share"),
    "upstream that is the sidecar": ('upstream.rest = "localhost"\n', "is the sidecar itself"),
    "no connections": (UPSTREAM + "[limits]\nconnections = 0\n", "connections is 0"),
    "upstream without a port": ('upstream.rest = "http://qdrant:0"\n', "has port 0"),
    "negative limit": (UPSTREAM + "[limits]\nbody_bytes = -1\n", "body_bytes"),
    "limit as text": (UPSTREAM + '[limits]\nbody_bytes = "1 MB"\n', "body_bytes"),
    "truth as number": (UPSTREAM + "[limits]\nconnections = true\n", "connections"),
    "number as truth": (UPSTREAM + "[reload]\nwatch = 1\n", "watch"),
    "one route table": (UPSTREAM + '[route]\ncollection = "a"\nadapter = "b"\n', "[[route]]"),
    "route without adapter": (UPSTREAM + '[[route]]\ncollection = "docs"\n', "lacks 'adapter'"),
    "route without collection": (
        UPSTREAM + '[[route]]\nadapter = "adapter.onnx"\n',
        "lacks 'collection'",
    ),
    "route for nothing": (
        UPSTREAM + '[[route]]\ncollection = ""\nadapter = "adapter.onnx"\n',
        "collection",
    ),
    "two routes for one vector": (UPSTREAM + ROUTE + ROUTE, "docs"),
    "adapter missing": (UPSTREAM + ROUTE.replace("adapter.onnx", "gone.onnx"), "gone.onnx"),
    "workers zero": (UPSTREAM + "workers = 0\n", "workers"),
    "workers as text": (UPSTREAM + 'workers = "many"\n', "workers"),
    "upstream with a path": ('upstream.rest = "http://qdrant:6333/api"\n', "path_prefix"),
    "path with a collection": (
        UPSTREAM + 'listen.path_prefix = "/collections"\n',
        "[listen] path_prefix",
    ),
    "path with a query": (UPSTREAM + 'listen.path_prefix = "/a?b"\n', "is no path"),
    "path that goes up": ('upstream = { rest = "a:1", path_prefix = "/a/.." }\n', "is no path"),
    "migration as canary": (UPSTREAM + MOVED + 'mode = "canary"\n', "is for a migration"),
    "migration in the shadow": (UPSTREAM + MOVED + 'mode = "shadow"\n', "is for a migration"),
    "upstream of another kind": ('upstream.rest = "ftp://qdrant:6333"\n', "http://HOST:PORT"),
    "upstream with a wrong port": ('upstream.rest = "http://qdrant:port"\n', "HOST:PORT"),
    "upstream port too large": ('upstream.rest = "http://qdrant:70000"\n', "HOST:PORT"),
    "upstream with a password": ('upstream.rest = "http://u:topsecret@qdrant:1"\n', "HOST:PORT"),
    "upstream no text": ("upstream.rest = 6333\n", "rest"),
    "upstream empty list": ("upstream.rest = []\n", "nothing to serve"),
    "listen without port": (UPSTREAM + 'listen.rest = "127.0.0.1"\n', "HOST:PORT"),
    "listen on nothing": (UPSTREAM + 'listen.rest = ""\n', "nothing to listen on"),
    "grpc without upstream": (UPSTREAM + 'listen.grpc = "127.0.0.1:0"\n', "gRPC"),
    "certificate without key": (UPSTREAM + 'listen.certificate = "c.pem"\n', "go together"),
    "client certificate without key": (
        'upstream = { rest = "https://a:1", certificate = "c.pem" }\n',
        "go together",
    ),
    "certificate missing": (
        UPSTREAM + 'listen = { rest = "127.0.0.1:0", certificate = "c.pem", key = "k.pem" }\n',
        "c.pem",
    ),
    "certificate that no file can be": (
        UPSTREAM + 'listen = { certificate = "a\\u0000b", key = "k.pem" }\n',
        "[listen] certificate is 'a\\x00b'",
    ),
    "listen on no name": (UPSTREAM + 'listen.rest = "a..b:0"\n', "HOST:PORT"),
    "authority missing, gRPC": (
        'listen = { rest = "", grpc = "127.0.0.1:0" }\n'
        'upstream = { grpc = "https://127.0.0.1:9", ca = "ca.pem" }\n',
        "ca.pem",
    ),
    "authority missing": ('upstream = { rest = "https://127.0.0.1:9", ca = "ca.pem" }\n', "ca.pem"),
    "token not set": (UPSTREAM + 'admin.token_env = "NO_SUCH_VARIABLE"\n', "NO_SUCH_VARIABLE"),
    "two collections of one name": (
        '[[collection]]\nname = "a"\nindex = "b"\n[[collection]]\nname = "a"\nindex = "c"\n',
        "'a'",
    ),
    "index missing": ('[[collection]]\nname = "a"\nindex = "gone.faiss"\n', "gone.faiss"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_mistake_in_the_file_is_one_line(folder: Path, what: str) -> None:
    text, message = FILES[what]
    config = folder / "sidecar.toml"
    config.write_text(text)
    line = check(run("--config", str(config), "--check"), 1)
    assert message in line
    assert "topsecret" not in line


FLAGS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "nothing": ((), 1, "nothing to serve"),
    "unknown flag": (("--upstream", "a"), 2, "--upstream"),
    "argument": (("sidecar.toml",), 2, "sidecar.toml"),
    "mode": (("--mode", "maybe"), 2, "maybe"),
    "workers": (("--workers", "0"), 2, "0"),
    "log format": (("--log-format", "xml"), 2, "xml"),
    "share": (("--share", "many"), 2, "many"),
    "route without model": (("--upstream-rest", "a:1", "--route", "docs"), 1, "--route"),
    "route without name": (("--upstream-rest", "a:1", "--route", "=x"), 1, "--route"),
    "collection": (("--collection", "papers"), 1, "--collection"),
    "address": (("--upstream-rest", "a:1", "--rest", "nowhere"), 1, "HOST:PORT"),
    "model": (("--upstream-rest", "a:1", "--route", "docs=/no/such/model"), 1, "/no/such/model"),
    "no file": (("--config", "no-such-file.toml"), 1, "no-such-file.toml"),
    "a folder": (("--config", "."), 1, "."),
    "mode without route": (
        ("--upstream-rest", "a:1", "--mode", "shadow"), 1, "--route"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FLAGS)
def test_a_mistake_in_the_flags_is_one_line(what: str) -> None:
    flags, code, message = FLAGS[what]
    assert message in check(run(*flags, "--check"), code)


def test_a_key_that_no_request_can_carry_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "topsecret\r\nx-more: 1")
    line = check(run("--upstream-rest", "a:1", "--route", f"docs={folder}", "--check"), 1)
    assert "QDRANT_API_KEY" in line
    assert "topsecret" not in line


def test_a_share_of_another_size_is_refused(folder: Path) -> None:
    flags = ("--route", f"docs={folder}", "--mode", "canary", "--share", "7")
    assert "share is 7" in check(run("--upstream-rest", "a:1", *flags, "--check"), 1)


def test_a_share_without_a_canary_is_refused(folder: Path) -> None:
    flags = ("--route", f"docs={folder}", "--share", "0.1")
    assert "set mode to canary" in check(run("--upstream-rest", "a:1", *flags, "--check"), 1)


def test_check_says_what_is_fine_and_needs_no_qdrant(folder: Path) -> None:
    config = folder / "sidecar.toml"
    config.write_text(UPSTREAM + ROUTE)
    result = run("--config", str(config), "--check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 routes" in result.stdout or "1 route" in result.stdout


def test_flags_go_before_the_file(folder: Path) -> None:
    config = folder / "sidecar.toml"
    config.write_text(UPSTREAM + ROUTE.replace("adapter.onnx", "gone.onnx"))
    assert run("--config", str(config), "--check").exit_code == 1
    flags = ("--route", f"docs={folder}")
    assert run("--config", str(config), "--check", *flags).exit_code == 0


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [lambda _: b"", lambda content: content[:-100], lambda _: b"{}"],
    ids=["empty", "cut", "no model"],
)
def test_a_model_that_cannot_be_used_is_named(
    folder: Path, change: Callable[[bytes], bytes]
) -> None:
    damage(folder / "adapter.onnx", change)
    line = check(run("--upstream-rest", "a:1", "--route", f"docs={folder}", "--check"), 1)
    assert str(folder / "adapter.onnx") in line


LATE = {
    "REST's port": (("--rest", "TAKEN"), "1", "TAKEN"),
    "the administrator's port, workers": (("--admin", "TAKEN"), "2", "TAKEN"),
    "the token": ((), "1", "NO_SUCH_VARIABLE"),
}


@pytest.mark.parametrize("what", LATE)
def test_what_only_a_start_can_find_out_is_one_line_too(
    folder: Path, what: str, taken: str
) -> None:
    given, workers, message = LATE[what]
    config = folder / "sidecar.toml"
    config.write_text(UPSTREAM + ROUTE)
    if "token" in what:
        config.write_text('admin.token_env = "NO_SUCH_VARIABLE"\n' + UPSTREAM + ROUTE)
    flags = {"--rest": "127.0.0.1:0", "--admin": "127.0.0.1:0", "--workers": workers}
    flags |= {flag: taken for flag in given[::2]}
    program = str(Path(sys.executable).with_name("trimtab"))
    ended = subprocess.run(
        [
            program,
            "serve",
            "--config",
            str(config),
            *(word for pair in flags.items() for word in pair),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if not line.startswith("warning:")]
    assert len(errors) == 1, ended.stderr
    assert errors[0].startswith("Error: ")
    assert message.replace("TAKEN", taken) in errors[0]
    assert ended.stdout == ""
