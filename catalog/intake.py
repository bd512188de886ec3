"""Reads a batch of audit events from the bytes it came in as straight into columns, in a few microseconds an event.

It takes exactly what ``AuditBatch`` takes, and makes of it exactly what ``catalog.events.columns`` makes of the parsed batch;
a property test says so. An event that is written plainly (its fields as we write them, no number with a fraction, nested no
deeper than ours are) is decoded, checked and written as canonical JSON without Python looking into it. Any other is parsed as
the contract's model. When anything is wrong with the batch there is no answer, and the model is there to say what.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, UnsetType

from catalog.events import Columns, canonical_event, microseconds
from kubernaut_ray.contracts.audit import EVENT_VERSION, MAX_BATCH, AuditEvent
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import InvalidInput

Chars = npt.NDArray[np.uint8]

NESTED = 6
"""Lists and objects in ``event_data`` may be nested so deep in a plain event."""
_FIRST_BEYOND_BMP = 0xF0

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
                event_us.append(None)
            ids.append(event.event_id)
            types.append(event.event_type)
            correlations.append(event.correlation_id)
            categories.append(event.event_category)
            outcomes.append(event.event_outcome)
            severities.append(event.severity)
            bodies.append(body)
    except (*_NOT_PLAIN, ValueError, InvalidInput):
        return None
    return told if _fits(told, written) else None


def _fits(told: Columns, written: list[str]) -> bool:
    """Check what the decoder did not, for the whole batch at once, and fill in the instants of the plain events."""
    ids, instants = _matrix(told["event_id"], _ID), _matrix(written, _INSTANT)
    if ids is None or instants is None or not all(map(_TYPE.fullmatch, set(told["event_type"]))):
        return False
    try:
        # Without the Z, which NumPy does not take.
        plain = np.ascontiguousarray(instants[:, :-1]).view("S26")[:, 0].astype("M8[us]").astype(np.int64)
    except ValueError:
        return False
    given = iter(plain.tolist())
    told["event_us"] = [next(given) if us is None else us for us in told["event_us"]]
    return True


def _matrix(texts: list[str], pattern: Chars) -> Chars | None:
    """Return texts as rows of characters; ``None`` when one of them is not as the pattern allows, place by place."""
    width = len(pattern)
    if set(map(len, texts)) - {width}:
        return None
    try:
        rows = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(-1, width)
    except UnicodeEncodeError:
        return None
    return rows if bool((_CLASSES[rows] & pattern).all()) else None


def _classes(pattern: str) -> Chars:
    """Return for each place of a pattern which classes of characters it allows: a bit for each."""
    return np.asarray([_BITS.get(sign, 0) for sign in pattern], np.uint8)


_BITS = {"h": 1, "9": 2, "1": 4, "-": 8, "T": 16, ":": 32, ".": 64, "Z": 128}
"""``h`` a hexadecimal digit, ``9`` a digit, ``1`` one that is not 0; others stand for themselves."""
_CLASSES = np.zeros(256, np.uint8)
for _sign in map(chr, range(128)):
    _CLASSES[ord(_sign)] = (
        _BITS.get(_sign if _sign in "-T:.Z" else "", 0)
        | (_sign in "0123456789abcdef") * 1
        | (_sign in "0123456789") * 2
        | (_sign in "123456789") * 4
    )
_ID = _classes("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh")
_INSTANT = _classes("1999-99-99T99:99:99.999999Z")
