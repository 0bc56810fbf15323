"""JSON that knows where it stands: what is read, what is refused, and what a splice leaves."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.onnx_models import linear_adapter, weight_of
from trimtab.errors import MalformedError
from trimtab.rewrite import Policies, Reason
from trimtab.rewrite.json_spans import (
    MAX_DEPTH,
    FlatArray,
    parse_token,
    read_json,
    write_floats,
)
from trimtab.routing.adapt_rest import adapt_rest
from trimtab.routing.outcome import Outcome
from trimtab.routing.routes import Routes

VECTOR = [0.5, -1.25, 3.0, 0.1, 2e-3, 1.0]
WANTED = np.float32(VECTOR) @ weight_of()
GAP = 1e-5
"""float32 sums of six products in two orders differ by less."""
ROUTES = Routes.of({"docs": linear_adapter(), ("docs", "title"): linear_adapter(seed=1)})
ADAPTED, MALFORMED = Counter({Reason.ADAPTED: 1}), Counter({Reason.MALFORMED: 1})
SOME = settings(max_examples=200, deadline=None)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def send(body: bytes, path: str = "/collections/docs/points/query") -> Outcome:
    return adapt_rest("POST", path, body, ROUTES.of_collection, Policies())


def plain(value: Any) -> Any:
    """Give what was read as json.loads would."""
    if isinstance(value, FlatArray):
        return value.items()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return json.loads(value) if isinstance(value, bytes) else value


@given(values, st.sampled_from([None, 1, "\t"]), st.booleans())
@SOME
def test_reads_what_json_reads(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    found = plain(read_json(text))
    assert found == json.loads(text)
    assert json.dumps(found) == json.dumps(value)


@given(values, st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), st.data())
@SOME
def test_splice_changes_one_array_and_no_other_byte(
    value: Any, numbers: list[float], data: st.DataObject
) -> None:
    body = json.dumps({"a": value, "here": numbers, "b": value}).encode()
    found = read_json(body)["here"]
    span = found.floats()
    assert body[found.start : found.end] == found.text == json.dumps(numbers).encode()
    assert np.array_equal(np.asarray(span), np.float32(numbers))
    new = np.float32(data.draw(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5)))
    written = write_floats(body, [(span, new)])
    assert written.startswith(body[: span.start])
    assert written.endswith(body[span.end :])
    middle = json.loads(written[span.start : len(written) - len(body) + span.end])
    assert np.array_equal(np.float32(middle), new)


@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True),
        min_size=1,
        max_size=4,
    )
)
@SOME
def test_any_float32_is_written_so_that_it_reads_the_same(numbers: list[float]) -> None:
    body = b" [0] "
    written = write_floats(body, [(read_json(body).floats(), np.float32(numbers))])
    again = np.float32(json.loads(written))
    assert again.tobytes() == np.float32(numbers).tobytes()


def test_splices_may_come_in_any_order() -> None:
    body = b'{"a": [1], "b": [2.0], "c": [3]}'
    found = read_json(body)
    edits = [(found[key].floats(), np.float32([9, 8])) for key in ("c", "a", "b")]
    assert json.loads(write_floats(body, edits)) == {key: [9, 8] for key in "abc"}
    assert write_floats(body, edits).count(b" ") == body.count(b" ")


def test_nothing_to_splice_leaves_the_text() -> None:
    assert write_floats(b" {} ", []) == b" {} "


def test_key_that_stands_twice_is_noted() -> None:
    found = read_json(b'{"a": 1, "b": 2, "\\u0061": 3}')
    assert set(found.repeated) == {"a"}
    assert not read_json(b'{"a": {"a": 1}}').repeated


def test_objects_know_where_they_stand() -> None:
    body = b' {"a" : {"b": "}"} , "c": [ {} ]} '
    found = read_json(body)
    inner = [found, found["a"], found["c"][0]]
    texts = [body[each.start : each.end] for each in inner]
    assert texts == [body.strip(), b'{"b": "}"}', b"{}"]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[", "}", "]", "{]", "[}", '{"a"}', '{"a":}', '{"a" 1}', "{1:2}", "{a:1}"),
        *('{"a":1,}', '{,"a":1}', '{"a":1 "b":2}', '["a",]', '[,"a"]', '["a" "b"]', "{} {}", "1 2"),
        *('"', '"a', '"\\"', "{'a':1}", "\ufeff{}", "{}\x00", '{"a":1}]', "//x\n{}", '{"a"::1}'),
        *("[[1,2],]", "[{},]", "[{} {}]", '{"a":[1}', '{"a":{"b":1]}', "\x0b{}", "\u00a0{}"),
    ],
)
def test_text_that_is_no_json_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        read_json(text.encode())


@pytest.mark.parametrize("token", [b"", b"x", b"tru", b"01", b"1.", b".5", b"+1", b"NaN", b'"a'])
def test_token_that_is_none_is_malformed(token: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_token(token)


@pytest.mark.parametrize("item", [b"true", b"null"])
def test_array_of_anything_but_numbers_is_no_vector(item: bytes) -> None:
    found = read_json(b"[1, " + item + b"]")
    assert found.items()[0] == 1
    assert send(b'{"query": [1,2,3,4,5,' + item + b"]}").decisions[Reason.ADAPTED] == 0


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_what_serde_reads_is_read_and_far_deeper_is_not(opening: str, closing: str) -> None:
    """serde_json counts down from 128 and fails at nought: 127 levels are the most."""

    def nested(levels: int) -> bytes:
        inner = "{}" if opening != "[" else "[]"
        return (opening * (levels - 1) + inner + closing * (levels - 1)).encode()

    read_json(nested(127))
    with pytest.raises(MalformedError):
        read_json(nested(MAX_DEPTH + 2))


# Bodies


@pytest.mark.parametrize(
    "end",
    [
        *(
            ",NaN]",
            ",Infinity]",
            ",]",
            ",,6]",
            " 6]",
            ",+6]",
            ",06]",
            ",.6]",
            ",6.]",
            ",0x6]",
            ",6",
        ),
        *(
            ",1_0]",
            ",6]]",
            ",1e]",
            ",tru]",
            ",\u00a06]",
            ",6/**/]",
            ",-]",
            ",--6]",
            ",1e+]",
            ",6]}",
        ),
    ],
)
def test_vector_that_is_no_json_makes_the_body_malformed(end: str) -> None:
    body = f'{{"query": [1,2,3,4,5{end}, "limit": 3}}'.encode()
    outcome = send(body)
    assert outcome.content is body
    assert outcome.decisions == MALFORMED


@pytest.mark.parametrize("item", ["true", "null", '"1"', "{}", "[]", "9" * 5000, "1e400"])
def test_vector_of_anything_but_numbers_is_left(item: str) -> None:
    for call, key in (("query", "query"), ("search", "vector"), ("recommend", "positive")):
        body = f'{{"{key}": [1, 2, 3, 4, 5, {item}], "limit": 3}}'.encode()
        outcome = send(body, f"/collections/docs/points/{call}")
        assert outcome.content is body
        assert not outcome.decisions[Reason.ADAPTED]


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\u0071uery":[0.5,-1.25,3,0.1,2E-3,1]}',
        b'\r\n\t {"query"\n:\t[ 0.5 , -1.25\n,3,0.10,2E-3,1.0 ] }  \n',
        b'{"query":{"n\\u0065arest":[0.5,-1.25,3,1e-1,0.2e-2,1E0]}}',
        b'{"zz":1,"zz":2,"query":[0.5,-1.25,3,0.1,2E-3,1],"zz":[]}',
        b'{"zz":"\xff\xfe","query":[0.5,-1.25,3,0.1,2E-3,1]}',
        b'{"zz":"\\ud800","query":[0.5,-1.25,3,0.1,2E-3,1]}',
        b'{"query":[0.5,-1.25,3,0.1,2E-3,1],"limit":18446744073709551615}',
        b'{"query":[0.5,-1.25,3,0.1,2E-3,1],"x":123456789012345678901234567890.10E+05}',
        b'{"":{"query":[]},"query":[0.5,-1.25,3,0.1,2E-3,1]}',
        b'{"query":[0.5,-1.25,3,0.1,2E-3,1],"using":null,"prefetch":null,"filter":null}',
        b'{"query":[0.5,-1.25,3,0.1,2E-3,1],"using":"","prefetch":[]}',
    ],
)
def test_vector_is_found_however_the_body_is_written(body: bytes) -> None:
    outcome = send(body)
    assert outcome.decisions[Reason.ADAPTED] == 1
    start, end = body.rindex(b"[0.5" if b"[0.5" in body else b"[ 0.5"), len(body)
    tail = body[body.index(b"]", start) + 1 : end]
    assert outcome.content.startswith(body[:start] + b"[")
    assert outcome.content.endswith(b"]" + tail)
    found = json.loads(outcome.content[start : len(outcome.content) - len(tail)])
    np.testing.assert_allclose(found, WANTED, atol=GAP)


def test_integers_past_64_bits_are_numbers_of_a_vector() -> None:
    body = b'{"query":[1,2,3,4,5,123456789012345678901234567890]}'
    assert send(body).decisions == ADAPTED


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("query", b'{"query":[1,2,3,4,5,6],"query":[1,2,3,4,5,6]}'),
        ("query", b'{"query":[1,2,3,4,5,6],"\\u0071uery":null}'),
        ("query", b'{"using":"title","query":[1,2,3,4,5,6],"using":""}'),
        ("query", b'{"prefetch":{"query":[1,2,3,4,5,6]},"prefetch":[]}'),
        ("query", b'{"query":{"nearest":[1,2,3,4,5,6],"nearest":7}}'),
        ("query/batch", b'{"searches":[{"query":[1,2,3,4,5,6]}],"searches":[]}'),
        ("search", b'{"vector":[1,2,3,4,5,6],"vector":[1,2,3,4,5,6]}'),
        ("search", b'{"vector":{"name":"title","vector":[1,2,3,4,5,6],"name":""}}'),
        ("discover", b'{"target":[1,2,3,4,5,6],"target":7,"context":[]}'),
    ],
)
def test_known_key_that_stands_twice_makes_the_body_malformed(call: str, body: bytes) -> None:
    outcome = send(body, f"/collections/docs/points/{call}")
    assert outcome.content is body
    assert outcome.decisions == MALFORMED
