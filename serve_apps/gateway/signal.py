"""A signal in the one form that the gateway works with, whatever source sent it, and what is not one.

Adapters make these; nothing here knows a wire format. Text from outside is cut to what our own CRD takes, so that a long
label can never make a signal unacceptable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernaut_ray.crds.shared import TargetResource

UNKNOWN_SEVERITY = "unknown"
_MAX_LABELS = 256
_MAX_VALUE = 4096


@dataclass(frozen=True, slots=True)
class Signal:
    """One alert or event. ``involved`` is set when the source names the resource outright; else labels are read."""

    name: str
    type: str
    source: str
    severity: str
    firing_time: datetime
    received_time: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    resolved: bool = False
    involved: TargetResource | None = None
    provider_data: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    """As it came, for ``spec.originalPayload``."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry of the payload that is no signal; ``problems`` are (path, what is wrong)."""

    name: str
    problems: tuple[tuple[str, str], ...]

    @property
    def why(self) -> str:
        return "; ".join(f"{path}: {what}" for path, what in self.problems)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed entry that asks for nothing, such as a Normal event."""

    name: str
    why: str


Parsed = Signal | Malformed | Ignored


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP request's worth of signals. Header names are in lower case."""

    body: bytes
    headers: Mapping[str, str]
    received: datetime


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def text_map(value: Any, path: str, problems: list[tuple[str, str]]) -> dict[str, str]:
    """Read a map of text from JSON, clipped to our CRD's limits; appends to ``problems`` what does not fit at all."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append((path, f"must be an object of strings, not {type(value).__name__}"))
        return {}
    texts: dict[str, str] = {}
    for key, item in value.items():
        if not isinstance(item, str):
            problems.append((f"{path}.{key}", f"must be a string, not {type(item).__name__}"))
        elif len(texts) < _MAX_LABELS:
            texts[key] = cut(item, _MAX_VALUE)
    return texts
