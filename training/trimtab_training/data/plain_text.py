"""Files that should be text: what they are where they are none, told by their first bytes."""

from contextlib import suppress
from pathlib import Path

_UTF_16 = "is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"
NOT_TEXT = {  # first bytes, and what to say of them
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"\x1f\x8b": "is gzipped; unpack it (gunzip)",
    b"BZh91AY&SY": "is packed by bzip2; unpack it (bunzip2)",
    b"\xfd7zXZ\x00": "is packed by xz; unpack it (unxz)",
    b"\x28\xb5\x2f\xfd": "is packed by Zstandard; unpack it (unzstd)",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive; unpack it",
    b"ARROW1\x00\x00": "is an Arrow file; write it as text in UTF-8, or as Parquet",
    b"SQLite format 3\x00": "is an SQLite database; write the table as text in UTF-8",
    b"PAR1": "is Parquet; write it as text in UTF-8",
    b"PK\x03\x04": "is a ZIP archive, such as an Excel file; save it as text in UTF-8",
    b"\x93NUMPY": "is a NumPy array (.npy); write it as text",
}


def packed_beside(path: Path) -> str:
    """Name a packed file beside one that is missing, and the way out; empty where there is none."""
    packed = path.with_name(f"{path.name}.gz")
    return f"{packed.name} is there; unpack it (gunzip)" if packed.is_file() else ""


def explain_unreadable(path: Path, error: Exception) -> str:
    """Say why a file could not be read as text.

    Args:
        path: The file.
        error: What was raised: where it is not UTF-8, the first bytes say more than that.
    """
    if isinstance(error, OSError):
        if isinstance(error, FileNotFoundError) and (packed := packed_beside(path)):
            return packed
        return error.strerror or str(error)
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    start = b""
    with suppress(OSError), path.open("rb") as file:
        start = file.read(max(map(len, NOT_TEXT)))
    for first, words in NOT_TEXT.items():
        if start.startswith(first):
            return f"it {words}"
    byte = error.object[error.start]
    return f"it is not UTF-8 (it holds byte 0x{byte:02x}); convert it (iconv -f LATIN1 -t UTF-8)"
