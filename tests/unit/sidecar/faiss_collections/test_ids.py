"""Ids of rows: what stands in a file, on the wire, and back."""

from pathlib import Path
from uuid import uuid5

import numpy as np
import pytest

from tests.support.faiss_collections import plain_rows
from trimtab.errors import ConfigError
from trimtab.faiss_collections.ids import NAMESPACE, PointIds
from trimtab.faiss_collections.replies import RequestError

UUID = "f47ac10b-58cc-4372-a567-0e02b2c3d400"  # a key that ends in zeros


def read(tmp_path: Path, *lines: str, n_rows: int | None = None) -> PointIds:
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return PointIds.read(path, plain_rows(len(lines) if n_rows is None else n_rows))


def test_numbers_and_uuids_stay_themselves(tmp_path: Path) -> None:
    wanted = [0, 256, 2**64 - 1, UUID]
    ids = read(tmp_path, *map(str, wanted))
    assert [ids[row] for row in range(4)] == wanted
    assert [ids.row(each) for each in wanted] == [0, 1, 2, 3]
    assert not ids.has_texts
    assert ids.text(0) is None


def test_a_uuid_is_found_by_every_spelling(tmp_path: Path) -> None:
    ids = read(tmp_path, UUID)
    spellings = [UUID.upper(), UUID.replace("-", ""), f"urn:uuid:{UUID}", f"{{{UUID}}}"]
    assert [ids.row(each) for each in spellings] == [0] * 4


HEX = UUID.replace("-", "")
LIKE_UUIDS = [
    HEX,  # an MD5 digest
    HEX.upper(),
    UUID.upper(),
    f"urn:uuid:{UUID}",
    f"{{{UUID}}}",
    f"uuid:{UUID}",
    f"{HEX[:28]}_003",
    f"{HEX[:16]}-{HEX[16:]}",
    f" {HEX[1:]}",
    f"0x{HEX[2:]}",
    f"+{HEX[1:]}",
    "\N{ARABIC-INDIC DIGIT THREE}" + HEX[1:],
]
LIKE_NUMBERS = [
    "007",
    str(2**64),
    "-5",
    "+5",
    "1_000",
    "1.5",
    " 7",
    "7 ",
    "\N{SUPERSCRIPT TWO}",
    "٣",
]


@pytest.mark.parametrize("text", [*LIKE_UUIDS, *LIKE_NUMBERS, "doc-1", "é", "a" * 40])
def test_other_texts_become_a_uuid_that_is_the_same_everywhere(tmp_path: Path, text: str) -> None:
    ids = read(tmp_path, "5", text)
    assert ids[1] == str(uuid5(NAMESPACE, text))
    assert ids.row(ids[1]) == 1
    assert (ids.has_texts, ids.text(0), ids.text(1)) == (True, None, text)


def test_the_namespace_never_changes() -> None:
    assert str(uuid5(NAMESPACE, "doc-1")) == "65f42d93-7970-5240-8ec8-e3ea05d78ffb"


def test_order_is_qdrants(tmp_path: Path) -> None:
    ids = read(tmp_path, UUID, "300", "2", "00000000-0000-4000-8000-000000000001")
    assert ids.order.tolist() == [2, 1, 3, 0]
    assert [ids.place_from(each) for each in (0, 2, 3, 301, UUID)] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [-1, 2**64, 1.0, True, None, "doc-1", "5", [1], {"id": 1}, *LIKE_UUIDS[5:], f"{UUID}\n"],
)
def test_what_is_no_id_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(RequestError, match="not a valid point ID") as refused:
        read(tmp_path, "5").row(value)
    assert refused.value.status == 400


def test_unknown_ids_have_no_row(tmp_path: Path) -> None:
    ids = read(tmp_path, "5", UUID)
    assert [ids.row(each) for each in (4, 6, UUID.replace("f", "e"))] == [None] * 3
    assert ids.rows([6, 5, UUID]) == [0, 1]
    assert ids.rows_of_texts(["5", "6", "doc", UUID]).tolist() == [0, -1, -1, 1]


def test_numbers_of_an_index_are_ids() -> None:
    ids = PointIds.of_numbers(np.array([7, 2**40, 3]), "x.faiss")
    assert [ids[row] for row in range(3)] == [7, 2**40, 3]
    assert ids.row(2**40) == 1


def test_no_points_have_no_ids() -> None:
    ids = PointIds.of_numbers(np.zeros(0, np.int64), "x.faiss")
    assert (len(ids), ids.row(5), ids.rows_of_texts(["5"]).tolist()) == (0, None, [-1])


@pytest.mark.parametrize(
    ("lines", "n_rows", "message"),
    [
        (["1", "2"], 3, "has 2 ids, the index 3 vectors"),
        (["1", "", "3"], None, "line 2 is empty"),
        (["1", "2", "1"], None, "id 1 stands more than once"),
        (["doc", "doc"], None, "stands more than once"),
    ],
)
def test_files_that_name_no_rows_are_refused(
    tmp_path: Path, lines: list[str], n_rows: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, *lines, n_rows=n_rows)


def test_ids_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"1\n\xff\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        PointIds.read(path, plain_rows(2))


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="id -4 is negative"):
        PointIds.of_numbers(np.array([1, -4]), "x.faiss")


@pytest.mark.parametrize("text", [*LIKE_UUIDS, "7", UUID])
def test_lines_of_number_and_id_name_the_row_of_that_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"2\tdoc-2\n0\t{text}\n1\tdoc-1\n", "utf-8")
    ids = PointIds.read(path, plain_rows(3))
    assert [ids.text(1), ids.text(2)] == ["doc-1", "doc-2"]
    assert (ids.text(0) or str(ids[0])) == text
    assert [ids.row(ids[row]) for row in range(3)] == [0, 1, 2]
