"""What the wire formats of several sources have in common: a JSON object, times, statuses, text to read, pieces of text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from kubernaut_ray import clock
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.signal import cut

STATUSES = ("firing", "resolved")
DESCRIPTION_LENGTH = 32_768

Problems = list[tuple[str, str]]
"""(path, what is wrong), collected while an entry is read."""


def json_object(body: bytes | str, what: str = "the body") -> dict[str, Any]:
    """Read a JSON object. Raises ``InvalidInput`` about ``what``."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} must be a JSON object, not {type(value).__name__}")
    return value


def instant(value: Any, path: str, problems: Problems) -> datetime | None:
    """Read a time; Go's zero time and an absent one are ``None``."""
    if value is None or value == "" or (isinstance(value, str) and value.startswith("0001-01-01T")):
        return None
    try:
        return clock.parse_rfc3339(value)
    except (ValueError, TypeError, OverflowError):
        problems.append((path, "must be an RFC 3339 time such as 2026-01-31T12:00:00Z"))
        return None


def text(obj: Mapping[str, Any], key: str, path: str, problems: Problems, *, required: bool = False) -> str:
    """Read a string; an absent one is empty, and a problem only when it is ``required``."""
    value = obj.get(key)
    if value is None or value == "":
        if required:
            problems.append((path, "is missing"))
        return ""
    if isinstance(value, str):
        return value
    problems.append((path, f"must be a string, not {type(value).__name__}"))
    return ""


def optional(obj: Mapping[str, Any], key: str) -> str:
    """Read a string that does without: anything else is empty."""
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def description(annotations: Mapping[str, str]) -> str:
    """Return what the usual annotations say in words, each sentence once."""
    parts = [annotations[k].strip() for k in ("summary", "description", "message") if annotations.get(k, "").strip()]
    return cut("\n".join(dict.fromkeys(parts)), DESCRIPTION_LENGTH)
