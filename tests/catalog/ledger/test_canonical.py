"""Canonical JSON: the bytes of RFC 8785, from whichever of the two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from catalog.ledger.canonical import canonical, parse
from kubernaut_ray.errors import InvalidInput
from tests import build

SAFE = 2**53 - 1
TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(JSON)
@example({"\ufb33": 1, "\U0001f600": 2, "\r": 3, "1": 4, "\u0080": 5, "\u00f6": 6, "\u20ac": 7})
@example([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27, -0.0, 1e21, 5e-324])
@example("\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/\u007f\u2028")
def test_the_bytes_are_those_of_the_standard(value: Any) -> None:
    """Whatever the value, the fast way and the long way agree with the reference implementation."""
    assert rfc8785.dumps(value) == canonical(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-1000, 1000, places=4).map(float))
@example(9.9e-6)
@example(1e-5)
@example(1.5e-6)
@example(2**53 - 0.5)
@example(2.0**53)
@example(2.0**53 + 2)
@example(-0.0)
@example(-3.0)
@example(1e20)
def test_every_float_is_written_as_ecmascript_does(number: float) -> None:
    """Those that take the fast way, too."""
    assert rfc8785.dumps({"n": [number]}) == canonical({"n": [number]})


@given(JSON)
def test_reading_and_writing_again_changes_nothing(value: Any) -> None:
    """Canonical text is its own canonical form, which is how a verifier meets it."""
    text = canonical(value)
    assert text == canonical(parse(text))


@given(st.integers())
@example(2**53)
@example(-(2**53))
@example(2**64)
@example(10**40)
def test_integers_keep_their_digits(number: int) -> None:
    """RFC 8785 has no form for an integer beyond 2^53-1; a trail keeps what it was told."""
    text = canonical({"n": number})
    assert (text, {"n": number}) == (b'{"n":%d}' % number, parse(text))


def test_text_of_services_is_read_as_it_is_stored() -> None:
    """An event as a service sends it, and as the owner hashes it, differ in the order of keys only."""
    sent = build.audit_event(event_data={"score": 0.5, "labels": {"b": "2", "a": "1"}}).model_dump_json(
        exclude_none=True
    )
    assert orjson.loads(sent) == orjson.loads(canonical(parse(sent.encode())))
    assert b'"labels":{"a":"1","b":"2"},"score":0.5' in canonical(parse(sent.encode()))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("inf")],
        float("inf"),
        {"a": [float("-inf")]},
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {"a": {1, 2}},
        b"bytes",
    ],
    ids=repr,
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    """Nothing is written that another reader would read otherwise."""
    with pytest.raises(InvalidInput, match="cannot be written as canonical JSON"):
        canonical(value)


def test_a_number_of_numpy_is_the_number() -> None:
    """A subclass of float must not slip into orjson's way of writing it."""
    assert canonical({"score": np.float64(1.0)}) == b'{"score":1}'


@pytest.mark.parametrize("text", [b"", b"{", b"{} {}", b"NaN", b'{"a":Infinity}', b"\xff", b"'a'"])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    """Parsing is strict."""
    with pytest.raises(InvalidInput, match="not JSON"):
        parse(text)
