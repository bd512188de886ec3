"""Reads a batch of audit events from the bytes it came in as straight into columns, in a few microseconds an event.

It takes exactly what ``AuditBatch`` takes, and makes of it exactly what ``catalog.events.columns`` makes of the parsed batch;
a property test says so. An event that is written plainly (its fields as we write them, no number with a fraction, nested no
deeper than ours are) is decoded, checked and written as canonical JSON without Python looking into it. Any other is parsed as
the contract's model. When anything is wrong with the batch there is no answer, and the model is there to say what.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pydantic import ValidationError

from catalog.events import Columns, canonical_event, microseconds
from kubernaut_ray.contracts.audit import EVENT_VERSION, MAX_BATCH, AuditEvent
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import InvalidInput

NESTED = 6
"""Lists and objects in ``event_data`` may be nested so deep in a plain event."""
_FIRST_BEYOND_BMP = 0xF0

_IDS = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n)*")
_INSTANTS = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\n)*")
_TYPE = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+")

_TEXT = {limit: Annotated[str, Meta(max_length=limit)] for limit in (20, 50, 100, 253, 255)}
_VALUE: Any = bool | int | str | None
for _ in range(NESTED - 1):
    _VALUE = bool | int | str | list[_VALUE] | dict[str, _VALUE] | None

_PLAIN: Any = msgspec.defstruct(
    "Plain",
    [  # canonical order, so that a plain event is written as it is stored
        ("actor_id", _TEXT[255], ""),
        ("actor_type", _TEXT[50], "service"),
        ("cluster_name", _TEXT[255], ""),
        ("correlation_id", Annotated[str, Meta(min_length=1, max_length=255)]),
        ("duration_ms", Annotated[int, Meta(ge=0)] | UnsetType, UNSET),
        ("event_action", _TEXT[50]),
        ("event_category", Literal[tuple(one.value for one in AuditCategory)]),
        ("event_data", dict[str, _VALUE], {}),
        ("event_id", str),
        ("event_outcome", Literal[tuple(one.value for one in AuditOutcome)]),
        ("event_timestamp", str),
        ("event_type", _TEXT[100]),
        ("namespace", _TEXT[253], ""),
        ("parent_event_id", str | UnsetType, UNSET),
        ("resource_id", _TEXT[255], ""),
        ("resource_type", _TEXT[100], ""),
        ("severity", _TEXT[20], ""),
        ("version", str, EVENT_VERSION),
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]


_BATCHES = msgspec.json.Decoder(_Batch)
_EVENTS = msgspec.json.Decoder(_PLAIN)
_WRITER = msgspec.json.Encoder(order="sorted")
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError)


def read(batch: bytes) -> Columns | None:
    """Return a batch as columns; ``None`` when it is not for certain one that the contract takes."""
    decode, encode = _EVENTS.decode, _WRITER.encode
    events, bodies = [], []
    try:
        for text in _BATCHES.decode(batch).events:
            try:
                event = decode(text)
                body = encode(event)
            except _NOT_PLAIN:
                event, body = None, b""
            if event is None or not (body.isascii() or max(body) < _FIRST_BEYOND_BMP):
                event = AuditEvent.model_validate_json(bytes(text))
                body = canonical_event(event)
            events.append(event)
            bodies.append(body)
    except (*_NOT_PLAIN, ValidationError, InvalidInput):
        return None
    told = _told(events)
    return None if told is None else {**told, "body": bodies}


def _told(events: list[Any]) -> Columns | None:
    """Return what is asked for beside the bodies, having checked what the decoder did not."""
    ids = [e.event_id for e in events]
    types = [e.event_type for e in events]
    instants = [e.event_timestamp for e in events]
    written = [one for one in instants if one.__class__ is str]
    if not _all(_IDS, ids) or not _all(_INSTANTS, written) or not all(_TYPE.fullmatch(one) for one in set(types)):
        return None
    try:
        event_us = [microseconds(datetime.fromisoformat(one) if one.__class__ is str else one) for one in instants]
    except ValueError:
        return None
    return {
        "event_id": ids,
        "event_us": event_us,
        "correlation_id": [e.correlation_id for e in events],
        "event_type": types,
        "event_category": [e.event_category for e in events],
        "event_outcome": [e.event_outcome for e in events],
        "severity": [e.severity for e in events],
    }


def _all(pattern: re.Pattern[str], texts: list[str]) -> bool:
    """Whether each of these texts is a match: asked at once for all of them."""
    joined = "".join([f"{one}\n" for one in texts])
    return pattern.fullmatch(joined) is not None and joined.count("\n") == len(texts)
