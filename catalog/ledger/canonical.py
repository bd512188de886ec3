"""Canonical JSON (RFC 8785): the one form in which events and signed things are hashed.

``canonical`` writes it, ``parse`` reads JSON without losing a digit, and ``canonical(parse(text))`` of canonical text is that
text again. Audit events are plain: strings, integers, lists, objects. orjson with sorted keys gives RFC 8785's bytes for
those, twenty times as fast as anything in Python. Whole floats are made integers first, as which ECMAScript writes them. Tiny
and huge floats (it writes them otherwise), integers beyond 64 bits and characters beyond the Basic Multilingual Plane (in keys
they sort by UTF-16) take the long way.

One deviation, because a trail must not change what it was told: an integer beyond 2^53-1, for which RFC 8785 has no form,
keeps its decimal digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

import orjson
import rfc8785
from pydantic_core import from_json

from kubernaut_ray.errors import InvalidInput

_SCALARS = frozenset({str, int, bool, type(None)})
_AS_IT_IS, _MADE_WHOLE, _NOT = range(3)
_SMALLEST = 1e-5
"""From here up orjson and ECMAScript write a float that is not whole with the same digits."""
_LARGEST_WHOLE = 2.0**53
"""Up to here a whole float is one integer."""
_FIRST_BEYOND_BMP = 0xF0
"""The lowest first byte of a character of four bytes in UTF-8."""


def canonical(value: Any) -> bytes:
    """Return a JSON value's canonical bytes. Raises ``InvalidInput`` for what JSON cannot say: NaN, half a surrogate pair."""
    if (way := _look((value,))) != _NOT:
        try:
            text = orjson.dumps(_whole(value) if way == _MADE_WHOLE else value, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            pass  # An integer beyond 64 bits, or nothing that JSON can say: the long way tells.
        else:
            if text.isascii() or max(text) < _FIRST_BEYOND_BMP:
                return text
    try:
        return b"".join(_pieces(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"this cannot be written as canonical JSON: {error}") from error


def parse(text: bytes) -> Any:
    """Read JSON, integers of any size as they are. Raises ``InvalidInput``."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"this is not JSON: {error}") from error


def _look(values: Iterable[Any]) -> int:
    """Say how orjson can be given all of this: ``_AS_IT_IS``, ``_MADE_WHOLE`` or ``_NOT``."""
    found = _AS_IT_IS
    for value in values:
        kind = type(value)
        if kind in _SCALARS:
            continue
        if kind is dict:
            inner = _look(value.values())
        elif kind is list:
            inner = _look(value)
        elif kind is not float:
            return _NOT
        elif value.is_integer():
            inner = _MADE_WHOLE if abs(value) <= _LARGEST_WHOLE else _NOT
        else:
            inner = _AS_IT_IS if _SMALLEST <= abs(value) < inf else _NOT
        if inner > found:
            if inner == _NOT:
                return _NOT
            found = inner
    return found


def _whole(value: Any) -> Any:
    """Return the value with its whole floats as integers."""
    kind = type(value)
    if kind is dict:
        return {key: _whole(inner) for key, inner in value.items()}
    if kind is list:
        return [_whole(inner) for inner in value]
    return int(value) if kind is float and value.is_integer() else value


def _pieces(value: Any) -> Iterable[bytes]:
    match value:
        case bool() | None:
            yield orjson.dumps(value)
        case str():
            yield orjson.dumps(str(value))
        case int():
            yield str(int(value)).encode()
        case float():
            yield rfc8785.dumps(value)
        case dict():
            separator = b"{"
            for key in sorted(value, key=_utf16):
                yield separator + orjson.dumps(str(key)) + b":"
                yield from _pieces(value[key])
                separator = b","
            yield b"}" if value else b"{}"
        case list() | tuple():
            separator = b"["
            for item in value:
                yield separator
                yield from _pieces(item)
                separator = b","
            yield b"]" if value else b"[]"
        case _:
            raise TypeError(f"JSON has no {type(value).__name__}")


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"a key is a string, not {type(key).__name__}")
    return key.encode("utf-16-be")
