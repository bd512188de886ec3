"""The short way through a structural schema: values that are certainly right as they are, which nearly all are.

``plain`` compiles a schema into one predicate. Where it holds, none of the passes of ``schema.py`` (nulls, pruning, defaults,
validation) would change or refuse anything, so that ``crd.py`` and ``objects.py`` leave them out. Where it does not, nothing is
known: the value may be wrong, or lack a default, or only be of a rare shape, and the passes say which. Validation rules (CEL) are
not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubernaut_ray.kube.embedded.formats import FORMATS
from kubernaut_ray.kube.embedded.schema import Node, check_number, has_default, item_key

Plain = Callable[[Any], bool]


def plain(node: Node) -> Plain:
    """Compile a schema. The predicate takes any JSON value, and leaves it alone."""
    if node.combined or node.embedded:
        return _unknown
    if node.int_or_string:
        simple = not (node.bounds or node.format or node.pattern or node.enum)
        check: Plain = _int_or_string if simple else _unknown
    else:
        check = _BY_TYPE.get(node.type, _any)(node)
    if node.enum is not None:
        check = _one_of(node)
    if node.nullable:
        return lambda value: value is None or check(value)
    return check


def needed(node: Node) -> frozenset[str]:
    """Return the fields that a plain object has: those that are required, and those that would be defaulted."""
    return frozenset(node.required) | {name for name, child in node.properties.items() if has_default(child)}


def _unknown(_: Any) -> bool:
    return False


def _int_or_string(value: Any) -> bool:
    return type(value) is int or type(value) is str


def _boolean(_: Node) -> Plain:
    return lambda value: type(value) is bool


def _any(node: Node) -> Plain:
    """Values of no declared type: those that are left wholly alone."""
    if node.bounds or node.format or node.pattern or node.required or node.properties or node.items or node.additional:
        return _unknown
    return (lambda value: value is not None) if node.preserve else _unknown


def _one_of(node: Node) -> Plain:
    allowed = node.enum or ()
    if node.type != "string" or node.bounds or node.format or node.pattern:
        return _unknown
    words = frozenset(word for word in allowed if isinstance(word, str))
    return lambda value: type(value) is str and value in words


def _text(node: Node) -> Plain:
    shortest, longest = node.bounds.get("minLength", 0), node.bounds.get("maxLength", float("inf"))
    pattern = node.pattern.search if node.pattern is not None else None
    check = FORMATS.get(node.format)
    if pattern is None and check is None:
        return lambda value: type(value) is str and shortest <= len(value) <= longest

    def fits(value: Any) -> bool:
        return (
            type(value) is str
            and shortest <= len(value) <= longest
            and (pattern is None or pattern(value) is not None)
            and (check is None or check(value))
        )

    return fits


def _number(node: Node) -> Plain:
    types = (int, float) if node.type == "number" else (int,)
    if not node.bounds and node.format not in ("int32", "int64"):
        return lambda value: type(value) in types
    return lambda value: type(value) in types and not check_number(node, value, "")


def _object(node: Node) -> Plain:
    child_of = {name: plain(child) for name, child in node.properties.items()}.get
    other = plain(node.additional) if isinstance(node.additional, Node) else None
    open_ = node.preserve or node.additional is True
    there = needed(node)
    fewest, most = node.bounds.get("minProperties", 0), node.bounds.get("maxProperties", float("inf"))

    def fits(value: Any) -> bool:
        if type(value) is not dict or not fewest <= len(value) <= most:
            return False
        for key, item in value.items():
            child = child_of(key, other)
            if child is None:
                if not open_:
                    return False
            elif not child(item):
                return False
        return there <= value.keys()

    return fits


def _list(node: Node) -> Plain:
    item_fits = plain(node.items) if node.items is not None else None
    fewest, most = node.bounds.get("minItems", 0), node.bounds.get("maxItems", float("inf"))
    keys = node.map_keys if node.list_type == "map" else None
    distinct = node.list_type in ("map", "set") or "uniqueItems" in node.bounds

    def fits(value: Any) -> bool:
        if type(value) is not list or not fewest <= len(value) <= most:
            return False
        if item_fits is not None:
            for item in value:
                if not item_fits(item):
                    return False
        if not distinct or len(value) < 2:
            return True
        return len({repr(item) if keys is None else item_key(item, keys) for item in value}) == len(value)

    return fits


_BY_TYPE: dict[str, Callable[[Node], Plain]] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "object": _object,
    "array": _list,
}
