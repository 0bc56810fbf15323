"""Protocol Buffers wire format, as far as looking into a file safely needs it.

Reads fields without a schema and without building anything from them, so that a hostile file
costs no more than its own bytes. Source of the format:
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator

from trimtab.errors import IntegrityError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_MOST_KEY, _MOST_LENGTH, _MOST_NUMBER = 2**32 - 1, 2**31 - 1, 2**64 - 1

Value = int | memoryview


def read_fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Yield every field of one message as ``(number, wire type, value)``, in file order.

    Keys and lengths of more than 32 bits are refused: other readers drop their upper bits, and so
    find another field in the same bytes.

    Args:
        message: The bytes of one message.

    Yields:
        The field's number and wire type, with an int for a varint and the raw bytes for everything
        else.

    Raises:
        IntegrityError: The bytes end in the middle of a field or are no message at all.
    """
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position, most=_MOST_KEY)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT and number:
            value, position = _read_varint(message, position)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH:
            length, position = _read_varint(message, position, most=_MOST_LENGTH)
        elif wire_type in _WIDTHS:
            length = _WIDTHS[wire_type]
        else:
            raise IntegrityError("the file is not a valid ONNX model (unknown field type)")
        end = position + length
        if number == 0 or end > len(message):
            raise IntegrityError("the file is truncated or not an ONNX model; copy it again")
        yield number, wire_type, message[position:end]
        position = end


def _read_varint(
    message: memoryview, position: int, *, most: int = _MOST_NUMBER
) -> tuple[int, int]:
    """Read one variable-length integer; give it and the position after it."""
    result = 0
    for shift in range(0, most.bit_length(), 7):
        if position >= len(message):
            raise IntegrityError("the file is truncated or not an ONNX model; copy it again")
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result > most:
                break
            return result, position
    raise IntegrityError("the file is not a valid ONNX model (number too long)")
