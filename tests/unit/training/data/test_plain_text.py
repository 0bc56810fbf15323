"""Files that should be text and are none are named for what they are, with the way out."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab_training.data.json_lines import read_texts
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.data.qrels import load_qrels
from trimtab_training.embeddings.store import EncoderInfo, read_ids
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.fit.recipe import load_recipe
from trimtab_training.synthesis.corpus import Corpus

READERS = {
    "labels.tsv": load_qrels,
    "corpus.jsonl": lambda path: list(read_texts(path)),
    "docs.ids": read_ids,
    "encoder.json": EncoderInfo.load,
    "recipe.toml": load_recipe,
    "written-for.jsonl": Corpus.open,
}


def as_npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.eye(3))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("d0".encode("utf-16"), "it is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
        ("\ufeffd0".encode("utf-16-be"), "it is UTF-16; convert it to UTF-8"),
        (gzip.compress(b"d0"), "it is gzipped; unpack it (gunzip)"),
        (bz2.compress(b"d0"), "it is packed by bzip2; unpack it (bunzip2)"),
        (lzma.compress(b"d0"), "it is packed by xz; unpack it (unxz)"),
        (b"\x28\xb5\x2f\xfd\x04\xff", "it is packed by Zstandard; unpack it (unzstd)"),
        (as_npy(), "it is a NumPy array (.npy); write it as text"),
        ("Käse".encode("latin-1"), "it is not UTF-8 (it holds byte 0xe4); convert it (iconv"),
    ],
    ids=["utf-16-le", "utf-16-be", "gzip", "bzip2", "xz", "zstd", "npy", "latin-1"],
)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_text_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    read: Callable[[Path], Any] = READERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ConfigError)) as caught:
        read(tmp_path / name)
    assert f"{name}" in str(caught.value)
    assert said in str(caught.value)
    assert "codec" not in str(caught.value)


@pytest.mark.parametrize("read", [lambda path: list(read_texts(path)), Corpus.open])
def test_packed_file_beside_a_missing_one_is_named(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b"d0"))
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz is there; unpack it \(gunzip\)"):
        read(tmp_path / "corpus.jsonl")


def test_other_errors_are_told_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none").open()
    assert explain_unreadable(tmp_path / "none", caught.value) == "No such file or directory"
    assert explain_unreadable(tmp_path / "none", ValueError("no")) == "no"
