"""Audit events on their way into the store and out of it: what may come in, in which form it crosses, how it is asked for.

Imported by search replicas, so it needs neither DuckDB nor Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

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
"""Events as parallel lists: the form in which they cross to the owner and into Arrow."""

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


def check_age(events: Sequence[AuditEvent], now: datetime) -> None:
    """Refuse a batch that holds an event from the future or from too long ago. Raises ``InvalidInput`` naming each."""
    problems = []
    for index, event in enumerate(events):
        if event.event_timestamp > now + MAX_AHEAD:
            problems.append(
                (f"events[{index}].event_timestamp", "is more than 5 minutes in the future; check the clock")
            )
        elif event.event_timestamp < now - MAX_AGE:
            problems.append((f"events[{index}].event_timestamp", "is more than 7 days old"))
    if problems:
        raise InvalidInput(
            f"{len(problems)} of {len(events)} events refused for their timestamps; nothing was stored",
            problems=tuple(problems),
        )


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
        "body": [canonical(e.model_dump(mode="json", exclude_none=True)).decode() for e in events],
    }
