"""A mapped file gives the lines that it has."""

from pathlib import Path

import pytest

from trimtab.errors import ConfigError
from trimtab.faiss_collections.mapped_lines import Lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a", [b"a"]),
        (b"a\nbc\n", [b"a", b"bc"]),
        (b"a\r\nbc\r\n", [b"a", b"bc"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\nb\n\n \n", [b"a", b"b"]),
        (b"\xef\xbb\xbfa\nb", [b"a", b"b"]),
    ],
)
def test_lines_are_found(tmp_path: Path, text: bytes, lines: list[bytes]) -> None:
    path = tmp_path / "lines"
    path.write_bytes(text)
    found = Lines.map(path)
    assert (len(found), list(found)) == (len(lines), lines)


def test_lines_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.faiss_collections.mapped_lines._BLOCK_BYTES", 3)
    path = tmp_path / "lines"
    path.write_bytes(b"one\n\nthree\nfour")
    assert list(Lines.map(path)) == [b"one", b"", b"three", b"four"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read .*absent: No such file"):
        Lines.map(tmp_path / "absent")
