"""Tekton's variable substitution: ``$(params.X)``, ``$(tasks.T.results.R)``, ``$(context.…)``, ``$(workspaces.W.path)``.

Names with dots may be written ``$(params["X"])``. Whole arrays are ``$(params.X[*])`` (as a list item, each element becomes
an item), elements ``$(params.X[0])``, object fields ``$(params.X.key)``. What names no known variable stays as it is, so
that a shell's ``$(date)`` survives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

ParamValue = str | list[str] | dict[str, str]
Variables = Mapping[str, ParamValue]

_REFERENCE = re.compile(r"\$\(([a-zA-Z][^\s$()]*)\)")
_BRACKET = re.compile(r"""\[(?:"([^"\]]+)"|'([^'\]]+)')\]""")
_INDEX = re.compile(r"^(.*)\[(\*|\d+)\]$")
_RESULT = re.compile(r"^tasks\.([^.\s]+)\.results\.(.+)$")


def names_in(value: Any) -> Iterator[str]:
    """Yield every reference in strings anywhere inside a JSON value, brackets written as dots."""
    if isinstance(value, str):
        for match in _REFERENCE.finditer(value):
            yield _dotted(match[1])
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from names_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from names_in(item)


def result_references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (task, result) of every task-result reference in a JSON value."""
    for name in names_in(value):
        if match := _RESULT.match(name):
            index = _INDEX.match(match[2])
            yield match[1], index[1] if index else match[2]


def substitute(value: Any, variables: Variables) -> Any:
    """Return a JSON value with every known reference replaced."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            found = _look_up(_dotted(whole[1]), variables)
            return value if found is None else found
        return _REFERENCE.sub(lambda m: _as_text(_look_up(_dotted(m[1]), variables), m[0]), value)
    if isinstance(value, Mapping):
        return {key: substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(_items(value, variables))
    return value


def text(value: str, variables: Variables) -> str:
    """Return a string with every known reference replaced; arrays and objects become JSON."""
    return _REFERENCE.sub(lambda m: _as_text(_look_up(_dotted(m[1]), variables), m[0]), value)


def _items(values: list[Any] | tuple[Any, ...], variables: Variables) -> Iterator[Any]:
    for item in values:
        whole = _REFERENCE.fullmatch(item) if isinstance(item, str) else None
        if whole and whole[1].endswith("[*]"):
            found = _look_up(_dotted(whole[1]), variables)
            if isinstance(found, list):
                yield from found
                continue
        yield substitute(item, variables)


def _dotted(name: str) -> str:
    return _BRACKET.sub(lambda m: f".{m[1] or m[2]}", name)


def _look_up(name: str, variables: Variables) -> ParamValue | None:
    index = _INDEX.match(name)
    found = variables.get(index[1] if index else name)
    if found is None and not index:
        stem, _, key = name.rpartition(".")
        owner = variables.get(stem)
        return owner.get(key) if isinstance(owner, Mapping) else None
    if index and index[2] != "*":
        position = int(index[2])
        return found[position] if isinstance(found, list) and position < len(found) else None
    return found


def _as_text(value: ParamValue | None, original: str) -> str:
    if value is None:
        return original
    return value if isinstance(value, str) else orjson.dumps(value).decode()
