"""`trimtab transform`: JSON lines or a matrix in, the same out, or nothing and one line."""

import io
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.onnx_models import DIM_OUT, linear_adapter, linear_bytes, queries_of
from trimtab.commands.group import main

QUERIES = queries_of(3)
LINES = "".join(json.dumps(row) + "\n" for row in QUERIES.tolist())
WANTED = linear_adapter().transform(QUERIES)
GAP = 1e-6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def transform(*arguments: object, stdin: str | bytes = "") -> Result:
    """Run the command on the model in the current folder."""
    return CliRunner().invoke(main, ["transform", ".", *map(str, arguments)], input=stdin)


def rows_of(result: Result) -> np.ndarray:
    """Read the JSON lines of a run that went well."""
    assert result.exit_code == 0, result.output
    return np.array([json.loads(line) for line in result.stdout.splitlines()])


def fails(result: Result, because: str) -> None:
    """Expect one line on stderr, nothing on stdout, and exit status 1."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert because in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_transform_reads_and_writes_json_lines(folder: Path) -> None:
    assert np.abs(rows_of(transform(stdin=LINES)) - WANTED).max() < GAP


def test_transform_reads_json_lines_from_a_file(folder: Path) -> None:
    (folder / "queries.jsonl").write_text(LINES)
    assert transform("--input", "queries.jsonl").stdout == transform(stdin=LINES).stdout


def test_transform_writes_numbers_that_read_back_exactly(folder: Path) -> None:
    alone = np.stack([linear_adapter().transform(query) for query in QUERIES])
    assert np.array_equal(rows_of(transform(stdin=LINES)).astype(np.float32), alone)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_transform_reads_a_matrix(folder: Path, dtype: str) -> None:
    np.save("queries.npy", QUERIES.astype(dtype))
    assert np.abs(rows_of(transform("--input", "queries.npy")) - WANTED).max() < 1e-2


def test_transform_reads_a_matrix_in_fortran_order(folder: Path) -> None:
    np.save("queries.npy", np.asfortranarray(QUERIES))
    assert np.abs(rows_of(transform("--input", "queries.npy")) - WANTED).max() < GAP


def test_transform_reads_a_matrix_of_one_vector(folder: Path) -> None:
    np.save("query.npy", QUERIES[0])
    assert rows_of(transform("--input", "query.npy")).shape == (1, DIM_OUT)


@pytest.mark.parametrize("source", ["lines", "matrix"])
def test_transform_writes_a_matrix(folder: Path, source: str) -> None:
    np.save("queries.npy", QUERIES)
    given = ["--input", "queries.npy"] if source == "matrix" else []
    result = transform(*given, "-o", "adapted.npy", stdin=LINES)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "wrote 3 adapted queries to adapted.npy\n"
    adapted = np.load("adapted.npy")
    assert adapted.dtype == np.float32
    assert np.abs(adapted - WANTED).max() < GAP


def test_transform_writes_where_it_is_told_and_nothing_else(folder: Path) -> None:
    before = set(folder.iterdir())
    transform("-o", "adapted", stdin=LINES)
    assert set(folder.iterdir()) - before == {folder / "adapted"}


def test_transform_replaces_an_earlier_answer(folder: Path) -> None:
    (folder / "adapted.npy").write_text("old")
    transform("-o", "adapted.npy", stdin=LINES)
    assert np.load("adapted.npy").shape == (3, DIM_OUT)


def test_transform_skips_blank_lines(folder: Path) -> None:
    assert len(rows_of(transform(stdin="\n" + LINES.replace("\n", "\n  \n")))) == 3


def test_transform_takes_a_last_line_without_its_end(folder: Path) -> None:
    assert len(rows_of(transform(stdin=LINES.rstrip("\n")))) == 3


def test_transform_takes_lines_as_windows_ends_them(folder: Path) -> None:
    assert len(rows_of(transform(stdin=LINES.replace("\n", "\r\n")))) == 3


def test_transform_of_nothing_is_nothing(folder: Path) -> None:
    result = transform(stdin="")
    assert (result.exit_code, result.output) == (0, "")


def test_transform_of_nothing_writes_no_matrix(folder: Path) -> None:
    fails(transform("-o", "adapted.npy", stdin="\n"), "no queries came in")
    assert not (folder / "adapted.npy").exists()


BAD_LINES = [
    ("nonsense", "line 4 is not JSON"),
    ("[1, 2", "line 4 is not JSON"),
    ("[1, 2, 3]", "line 4: query has 3 values; the adapter wants 6"),
    ("[NaN, 1, 1, 1, 1, 1]", "line 4: query holds nan at position 0"),
    ("[1e39, 1, 1, 1, 1, 1]", "line 4: query holds inf at position 0"),
    ('"text"', "line 4: query holds <U4 values"),
    ("null", "line 4: query holds object values"),
    ("{}", "line 4: query holds object values"),
    ("[]", "line 4: query is empty"),
    ("[[1], [2, 3]]", "line 4: query rows have different lengths"),
]


@pytest.mark.parametrize(("line", "because"), BAD_LINES)
def test_transform_names_the_bad_line_and_writes_nothing(
    folder: Path, line: str, because: str
) -> None:
    before = set(folder.iterdir())
    fails(transform("-o", "adapted.npy", stdin=f"{LINES}{line}\n{LINES}"), because)
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(("line", "because"), BAD_LINES)
def test_transform_prints_nothing_of_a_file_with_a_bad_line(
    folder: Path, line: str, because: str
) -> None:
    (folder / "queries.jsonl").write_text(f"{LINES}{line}\n{LINES}")
    fails(transform("--input", "queries.jsonl"), because)


def test_transform_counts_blank_lines_too(folder: Path) -> None:
    fails(transform(stdin="\n\n[1]\n"), "line 3: query has 1 values")


def test_transform_keeps_an_earlier_answer_where_it_fails(folder: Path) -> None:
    (folder / "adapted.npy").write_text("old")
    fails(transform("-o", "adapted.npy", stdin="[1]"), "line 1")
    assert (folder / "adapted.npy").read_text() == "old"


@pytest.mark.parametrize("name", ["absent.npy", "absent.jsonl"])
def test_transform_names_an_input_that_is_not_there(folder: Path, name: str) -> None:
    fails(transform("--input", name), f"from {name}" if name.endswith("npy") else f"read {name}")


@pytest.mark.parametrize("name", ["folder.npy", "folder.jsonl"])
def test_transform_names_an_input_that_is_a_folder(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    fails(transform("--input", name), "Is a directory")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_transform_refuses_a_file_that_is_no_matrix(folder: Path, content: bytes) -> None:
    (folder / "queries.npy").write_bytes(content)
    fails(transform("--input", "queries.npy"), "can't read a matrix from queries.npy")


def test_transform_never_unpickles(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("sprung",)

    np.save("queries.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    fails(transform("--input", "queries.npy"), "can't read a matrix")
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    ("matrix", "because"),
    [
        (np.ones((2, 3)), "query has 3 values; the adapter wants 6"),
        (np.ones((2, 2, 6)), "query has 3 dimensions"),
        (np.ones((0, 6)), "query is empty"),
        (np.full((2, 6), np.nan), "query holds nan at row 0, position 0"),
        (np.array([["a"] * 6]), "query holds <U1 values"),
    ],
)
def test_transform_refuses_a_matrix_that_is_no_queries(
    folder: Path, matrix: np.ndarray, because: str
) -> None:
    np.save("queries.npy", matrix)
    fails(transform("--input", "queries.npy", "-o", "adapted.npy"), because)
    assert not (folder / "adapted.npy").exists()


def test_transform_refuses_a_bad_model_before_it_reads(folder: Path) -> None:
    (folder / "adapter.onnx").write_bytes(b"")
    stdin = io.BytesIO(LINES.encode())
    result = CliRunner().invoke(main, ["transform", "."], input=stdin)
    fails(result, "the model file is empty")


BROKEN = [
    pytest.param(b"[1, 2, \xff]\n", id="not UTF-8"),
    pytest.param(b"[" + b"9" * 5000 + b"]\n", id="a number of 5000 digits"),
    pytest.param(b"[" * 100_000 + b"\n", id="nested too deeply"),
]


@pytest.mark.parametrize("line", BROKEN)
def test_transform_names_a_line_that_python_chokes_on(folder: Path, line: bytes) -> None:
    (folder / "queries.jsonl").write_bytes(LINES.encode() + line)
    fails(transform("--input", "queries.jsonl"), "line 4")


@pytest.mark.parametrize("target", ["absent/adapted.npy", "folder.npy", "a" * 300])
def test_transform_says_why_it_cannot_write(folder: Path, target: str) -> None:
    (folder / "folder.npy").mkdir()
    before = set(folder.iterdir())
    fails(transform("-o", target, stdin=LINES), target)
    assert set(folder.iterdir()) == before


def test_transform_never_replaces_what_is_no_plain_file(folder: Path) -> None:
    """Such as /dev/stdout or /dev/null, which as root would be gone for everybody."""
    target = folder / "pipe"
    os.mkfifo(target)
    reader = os.open(target, os.O_RDWR | os.O_NONBLOCK)  # so that a writer need not wait
    try:
        transform("-o", "pipe", stdin=LINES)
        assert stat.S_ISFIFO(target.stat().st_mode)
    finally:
        os.close(reader)


def test_transform_writes_a_whole_matrix_into_a_pipe(folder: Path) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        result = transform("-o", "pipe", stdin=LINES)
        content = os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert (result.exit_code, result.stderr) == (0, "wrote 3 adapted queries to pipe\n")
    assert np.abs(np.load(io.BytesIO(content)) - WANTED).max() < GAP


@pytest.mark.parametrize("exists", [True, False])
def test_transform_writes_through_a_link(folder: Path, exists: bool) -> None:
    """Such as /dev/stdout: as root, the link would be gone for everybody."""
    real, link = folder / "real.npy", folder / "link.npy"
    if exists:
        real.write_text("old")
    link.symlink_to(real)
    result = transform("-o", "link.npy", stdin=LINES)
    assert result.exit_code == 0
    assert link.is_symlink()
    assert np.load(real).shape == (3, DIM_OUT)


def test_transform_names_the_line_that_is_not_utf8(folder: Path) -> None:
    (folder / "queries.jsonl").write_bytes(LINES.encode() + b"[1, 2, \xff]\n")
    fails(transform("--input", "queries.jsonl"), "line 4")
