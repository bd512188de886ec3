"""The audit trail in the store: append-only, each event once by its id, in the order of a sequence the owner gives.

Timestamps come from many clocks and order what people read; the sequence orders what was stored. Events are kept as the
JSON they were accepted as, with the columns that are asked for beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from catalog.errors import NotFound
from catalog.events import AuditQuery, Columns, microseconds
from catalog.store import Connection

_FIELDS = (
    "event_id",
    "event_us",
    "correlation_id",
    "event_type",
    "event_category",
    "event_outcome",
    "severity",
    "body",
)
_SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("stored_us", pa.int64()),
        *((f, pa.int64() if f == "event_us" else pa.string()) for f in _FIELDS),
    ]
)


def last_sequence(connection: Connection) -> int:
    row = connection.execute("SELECT coalesce(max(seq), 0) FROM audit_events").fetchone()
    return int(row[0]) if row else 0


def append(connection: Connection, events: Columns, first: int, now: datetime) -> int:
    """Store events under sequence numbers from ``first``; return how many were new (the others were stored before)."""
    count = len(events["event_id"])
    incoming = pa.table(
        {"seq": range(first, first + count), "stored_us": [microseconds(now)] * count, **events}, schema=_SCHEMA
    )
    connection.register("incoming_audit", incoming)
    try:
        stored = connection.execute(
            """
            INSERT INTO audit_events BY NAME
            SELECT seq, stored_us, event_id::UUID AS event_id, event_us, correlation_id, event_type, event_category,
                   event_outcome, severity, body
            FROM incoming_audit
            ON CONFLICT DO NOTHING RETURNING seq
            """
        ).fetchall()
    finally:
        connection.unregister("incoming_audit")
    return len(stored)


def find(connection: Connection, query: AuditQuery) -> tuple[list[str], int]:
    """Return the page's events as JSON texts, and how many the filters match in all."""
    where, values = _where(query)
    row = connection.execute(f"SELECT count(*) FROM audit_events WHERE {where}", values).fetchone()  # noqa: S608
    direction = "ASC" if query.order == "asc" else "DESC"
    rows = connection.execute(
        f"SELECT body FROM audit_events WHERE {where} "  # noqa: S608 - names are ours, values are bound
        f"ORDER BY event_us {direction}, seq {direction} LIMIT ? OFFSET ?",
        [*values, query.limit, query.offset],
    ).fetchall()
    return [body for (body,) in rows], int(row[0]) if row else 0


def get(connection: Connection, event_id: str) -> str:
    """Return an event as JSON text. Raises ``NotFound``."""
    row = connection.execute("SELECT body FROM audit_events WHERE event_id = ?::UUID", [event_id]).fetchone()
    if row is None:
        raise NotFound(f"no audit event {event_id}")
    return str(row[0])


def timeline(connection: Connection, remediation_id: str) -> list[str]:
    """Return all events of a remediation as JSON texts, by their instants."""
    rows = connection.execute(
        "SELECT body FROM audit_events WHERE correlation_id = ? ORDER BY event_us, seq", [remediation_id]
    ).fetchall()
    return [body for (body,) in rows]


def _where(query: AuditQuery) -> tuple[str, list[Any]]:
    tests: list[tuple[str, Any]] = [
        ("correlation_id = ?", query.correlation_id),
        ("event_type = ?", query.event_type),
        ("event_category = ?", query.event_category.value if query.event_category else ""),
        ("event_outcome = ?", query.event_outcome.value if query.event_outcome else ""),
        ("severity = ?", query.severity),
        ("event_us >= ?", "" if query.since is None else microseconds(query.since)),
        ("event_us < ?", "" if query.until is None else microseconds(query.until)),
    ]
    used = [(test, value) for test, value in tests if value != ""]
    return " AND ".join(["true", *(test for test, _ in used)]), [value for _, value in used]
