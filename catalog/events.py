"""Audit events on their way into the store and out of it: what may come in, in which form it crosses, how it is asked for.

Imported by search replicas, so it needs neither DuckDB nor Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from catalog.ledger.canonical import canonical
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import InvalidInput

MAX_AHEAD = timedelta(minutes=5)
MAX_AGE = timedelta(days=7)
"""Events outside this are refused (ADR-034): a wrong clock must not write history. Replayed spools fit well inside."""

EVENT_ID = "^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$"

Columns = dict[str, list[Any]]
"""Events as parallel lists, in the form in which they go into Arrow; ``body`` is canonical JSON, in bytes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class AuditQuery(Contract):
    """Filters of the trail; empty filters nothing. ``until`` is exclusive."""

    event_id: Annotated[str, Field(pattern=EVENT_ID)] = ""
    correlation_id: str = ""
    event_type: str = ""
    event_category: AuditCategory | None = None
    event_outcome: AuditOutcome | None = None
    severity: str = ""
    since: Timestamp | None = None
    until: Timestamp | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    offset: Annotated[int, Field(ge=0)] = 0


def microseconds(instant: datetime) -> int:
    """Return an instant as whole microseconds since the epoch."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(us: int) -> datetime:
    """Return the instant that is so many microseconds after the epoch."""
    return _EPOCH + us * _MICROSECOND


def check_age(events: Columns, now: datetime) -> None:
    """Refuse a batch that holds an event from the future or from too long ago. Raises ``InvalidInput`` naming each."""
    instants = events["event_us"]
    latest, earliest = microseconds(now + MAX_AHEAD), microseconds(now - MAX_AGE)
    if not instants or (max(instants) <= latest and min(instants) >= earliest):
        return
    problems = []
    for index, one in enumerate(instants):
        if one > latest:
            problems.append(
                (f"events[{index}].event_timestamp", "is more than 5 minutes in the future; check the clock")
            )
        elif one < earliest:
            problems.append((f"events[{index}].event_timestamp", "is more than 7 days old"))
    raise InvalidInput(
        f"{len(problems)} of {len(instants)} events refused for their timestamps; nothing was stored",
        problems=tuple(problems),
    )


def canonical_event(event: AuditEvent) -> bytes:
    """Return an event as it is stored and hashed."""
    return canonical(event.model_dump(mode="json", exclude_none=True))


def columns(events: Sequence[AuditEvent]) -> Columns:
    """Return events as columns."""
    return {
        "event_id": [e.event_id for e in events],
        "event_us": [microseconds(e.event_timestamp) for e in events],
        "correlation_id": [e.correlation_id for e in events],
        "event_type": [e.event_type for e in events],
        "event_category": [e.event_category.value for e in events],
        "event_outcome": [e.event_outcome.value for e in events],
        "severity": [e.severity for e in events],
        "body": [canonical_event(e) for e in events],
    }


def pack(events: Columns) -> bytes:
    """Return columns in the form in which they cross to the owner."""
    return _PACK.encode(events)


def unpack(data: bytes) -> Columns:
    """Read what ``pack`` wrote. Raises ``InvalidInput``."""
    try:
        return _UNPACK.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"these are no packed audit events: {error}") from error


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(Columns)
