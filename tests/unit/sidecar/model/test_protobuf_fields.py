"""The wire format: every field as written, and one typed error for anything else."""

import pytest

from trimtab.errors import IntegrityError
from trimtab.model.protobuf_fields import FIXED32, FIXED64, LENGTH, VARINT, read_fields


def fields_of(content: bytes) -> list[tuple[int, int | bytes]]:
    """Read everything, with copies in place of views."""
    return [
        (number, value if isinstance(value, int) else bytes(value))
        for number, _, value in read_fields(memoryview(content))
    ]


def test_read_gives_every_wire_type_in_file_order() -> None:
    content = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x19" + bytes(range(8)) + b"\x25\x01\x02\x03\x04"
    assert fields_of(content) == [
        (1, 150),
        (2, b"abc"),
        (3, bytes(range(8))),
        (4, b"\x01\x02\x03\x04"),
    ]


def test_read_tells_on_which_wire_type_a_field_stands() -> None:
    content = b"\x08\x07" + b"\x12\x00" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    found = [wire_type for _, wire_type, _ in read_fields(memoryview(content))]
    assert found == [VARINT, LENGTH, FIXED64, FIXED32]


def test_read_gives_repeated_fields_one_by_one() -> None:
    assert fields_of(b"\x0a\x01a\x0a\x00\x0a\x01b") == [(1, b"a"), (1, b""), (1, b"b")]


def test_read_gives_nothing_for_an_empty_message() -> None:
    assert fields_of(b"") == []


def test_read_takes_field_numbers_of_several_bytes() -> None:
    assert fields_of(b"\xa2\x01\x01x") == [(20, b"x")]


def test_read_keeps_a_negative_number_as_its_64_bits() -> None:
    assert fields_of(b"\x08" + b"\xff" * 9 + b"\x01") == [(1, 2**64 - 1)]


def test_read_does_not_copy_the_content() -> None:
    content = bytearray(b"\x0a\x03abc")
    ((_, _, value),) = read_fields(memoryview(content))
    content[2] = ord("z")
    assert isinstance(value, memoryview)
    assert bytes(value) == b"zbc"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x08", id="key without a number"),
        pytest.param(b"\x08\x96", id="number without its end"),
        pytest.param(b"\x88", id="key without its end"),
        pytest.param(b"\x12", id="key without a length"),
        pytest.param(b"\x12\x04abc", id="length past the end"),
        pytest.param(b"\x12" + b"\xff" * 9 + b"\x01", id="length past any memory"),
        pytest.param(b"\x19" + b"\x00" * 7, id="seven bytes for eight"),
        pytest.param(b"\x25\x00\x00\x00", id="three bytes for four"),
        pytest.param(b"\x02\x01a", id="field number zero"),
        pytest.param(b"\x00\x01", id="field number zero, with a number"),
        pytest.param(b"\xa2\x80\x80\x80\x10\x01a", id="key whose upper bits others drop"),
        pytest.param(b"\xa2\x80\x80\x80\x80\x00\x01a", id="key of six bytes"),
        pytest.param(b"\x12\x81\x80\x80\x80\x10a", id="length whose upper bits others drop"),
        pytest.param(b"\x08" + b"\xff" * 9 + b"\x03", id="number of more than 64 bits"),
        pytest.param(b"\x0b", id="group start"),
        pytest.param(b"\x0c", id="group end"),
        pytest.param(b"\x0e\x00", id="wire type 6"),
        pytest.param(b"\x0f\x00", id="wire type 7"),
        pytest.param(b"\x08" + b"\xff" * 11, id="number of more than ten bytes"),
    ],
)
def test_read_refuses_what_is_no_message(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"ONNX model"):
        fields_of(content)


def test_read_gives_the_fields_before_the_damage() -> None:
    fields = read_fields(memoryview(b"\x08\x07\x12\x7f"))
    assert next(fields) == (1, VARINT, 7)
    with pytest.raises(IntegrityError, match="truncated"):
        next(fields)
