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
_NAMES = (
    "event_id", "event_us", "correlation_id", "event_type", "event_category", "event_outcome", "severity", "body",
)  # fmt: skip
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError)


def read(batch: bytes) -> Columns | None:
    """Return a batch as columns; ``None`` when it is not for certain one that the contract takes."""
    told: Columns = {name: [] for name in _NAMES}
    ids, event_us, correlations, types, categories, outcomes, severities, bodies = told.values()
    written: list[str] = []
    decode, encode = _EVENTS.decode, _WRITER.encode
    try:
        # Nothing of an event is held on to but what is asked for: thousands of objects that live for the whole batch would have
        # the garbage collector look through the process again and again.
        for text in _BATCHES.decode(batch).events:
            try:
                event = decode(text)
                body = encode(event)
            except _NOT_PLAIN:
                event, body = None, b""
            if event is None or not (body.isascii() or max(body) < _FIRST_BEYOND_BMP):
                event = AuditEvent.model_validate_json(bytes(text))
                body = canonical_event(event)
                event_us.append(microseconds(event.event_timestamp))
            else:
                written.append(event.event_timestamp)
                event_us.append(microseconds(datetime.fromisoformat(event.event_timestamp)))
            ids.append(event.event_id)
            types.append(event.event_type)
            correlations.append(event.correlation_id)
            categories.append(event.event_category)
            outcomes.append(event.event_outcome)
            severities.append(event.severity)
            bodies.append(body)
    except (*_NOT_PLAIN, ValueError, InvalidInput):
        return None
    fits = _all(_IDS, ids) and _all(_INSTANTS, written) and all(_TYPE.fullmatch(one) for one in set(types))
    return told if fits else None


def _all(pattern: re.Pattern[str], texts: list[str]) -> bool:
    """Whether each of these texts is a match: asked at once for all of them."""
    joined = "".join([f"{one}\n" for one in texts])
    return pattern.fullmatch(joined) is not None and joined.count("\n") == len(texts)
