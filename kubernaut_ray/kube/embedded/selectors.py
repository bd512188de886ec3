"""Label and field selectors: query text → predicate. Refuses what it cannot read with 400 and the offending part."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from kubernaut_ray.kube.embedded.status import Obj, bad_request

Labels = Mapping[str, str]
Predicate = Callable[[Obj], bool]

_KEY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"^\s*({_KEY})\s+(in|notin)\s*\(([^()]*)\)\s*$")
_COMPARE = re.compile(rf"^\s*({_KEY})\s*(==|!=|=)\s*({_VALUE})\s*$")
_ORDER = re.compile(rf"^\s*({_KEY})\s*([<>])\s*(-?\d+)\s*$")
_EXISTS = re.compile(rf"^\s*(!?)\s*({_KEY})\s*$")
_VALUE_ONLY = re.compile(rf"^{_VALUE}$")


def _split(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts


def _label_requirement(part: str) -> Callable[[Labels], bool]:
    if match := _SET.match(part):
        key, operator = match[1], match[2]
        values = frozenset(v.strip() for v in match[3].split(","))
        if any(not _VALUE_ONLY.match(v) for v in values):
            raise bad_request(f"unable to parse requirement: {part.strip()!r} has a value that is no label value")
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _COMPARE.match(part):
        key, operator, value = match[1], match[2], match[3]
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _ORDER.match(part):
        key, operator, bound = match[1], match[2], int(match[3])

        def ordered(labels: Labels) -> bool:
            try:
                number = int(labels.get(key, ""))
            except ValueError:
                return False
            return number > bound if operator == ">" else number < bound

        return ordered
    if match := _EXISTS.match(part):
        key = match[2]
        if match[1]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise bad_request(f"unable to parse requirement: found {part.strip()!r}, expected KEY=VALUE, KEY in (A,B) or KEY")


@lru_cache(maxsize=1024)
def labels_match(text: str) -> Callable[[Labels], bool] | None:
    """Parse a label selector; ``None`` selects everything."""
    if not text.strip():
        return None
    tests = [_label_requirement(part) for part in _split(text)]
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)


def narrowest(text: str) -> tuple[str, frozenset[str] | None] | None:
    """Return a requirement by which an index can choose: a label and the values that it may have, or a label that must be absent.

    Values are preferred, because they leave least; ``None`` when there is neither. Assumes that ``labels_match`` took the text.
    """
    absent = None
    for part in _split(text):
        if (match := _SET.match(part)) and match[2] == "in":
            return match[1], frozenset(value.strip() for value in match[3].split(","))
        if (match := _COMPARE.match(part)) and match[2] != "!=":
            return match[1], frozenset((match[3],))
        if (match := _EXISTS.match(part)) and match[1]:
            absent = match[2]
    return None if absent is None else (absent, None)


def parse_fields(text: str) -> list[tuple[str, str, str]]:
    """Parse a field selector into (path, ``=`` or ``!=``, value)."""
    terms = []
    for part in text.split(","):
        if not part.strip():
            continue
        match = re.match(r"^\s*([^=!]+?)\s*(==|!=|=)(.*)$", part)
        if match is None:
            raise bad_request(f"invalid field selector {part!r}: write PATH=VALUE or PATH!=VALUE")
        terms.append((match[1], "!=" if match[2] == "!=" else "=", match[3].strip()))
    return terms


def field_text(obj: Obj, path: str) -> str:
    """Return the field's value as field selectors see it; missing is the empty text."""
    value: Any = obj
    for part in path.split("."):
        if not isinstance(value, dict):
            return ""
        value = value.get(part)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def selector(label_selector: str, field_selector: str, selectable: Sequence[str]) -> Predicate | None:
    """Build one predicate of both selectors, or ``None`` when everything matches."""
    labels = labels_match(label_selector)
    terms = parse_fields(field_selector)
    for path, _, _ in terms:
        if path not in ("metadata.name", "metadata.namespace") and path not in selectable:
            raise bad_request(f"field label not supported: {path}")
    if labels is None and not terms:
        return None

    def matches(obj: Obj) -> bool:
        if labels is not None and not labels(obj["metadata"].get("labels") or {}):
            return False
        return all((field_text(obj, path) == value) is (operator == "=") for path, operator, value in terms)

    return matches


def exact_name(field_selector: str) -> str | None:
    """Return the name when the field selector pins one, so that a list can be a look-up."""
    for path, operator, value in parse_fields(field_selector):
        if path == "metadata.name" and operator == "=":
            return value
    return None


def exact_field(field_selector: str, selectable: Sequence[str]) -> tuple[str, str] | None:
    """Return a field of the kind and the value that the selector pins it to, so that an index can choose."""
    for path, operator, value in parse_fields(field_selector):
        if path in selectable and operator == "=":
            return path, value
    return None


def from_label_selector(obj: Mapping[str, Any]) -> str:
    """Render a ``metav1.LabelSelector`` as text, as ``/scale`` shows it."""
    parts = [f"{k}={v}" for k, v in sorted((obj.get("matchLabels") or {}).items())]
    for expression in obj.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        values = ",".join(sorted(expression.get("values") or ()))
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(parts)
