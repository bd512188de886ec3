"""Reading the audit trail: what the database holds and, where a question can touch them, the archives beside it.

Timestamps come from many clocks and order what people read; the sequence orders what was stored. Events are kept as the
canonical JSON of what was accepted, with the columns that are asked for beside it. ``catalog.trail`` writes them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from catalog import archives
from catalog.errors import NotFound
from catalog.events import AuditQuery, microseconds
from catalog.store import Connection
from catalog.trail import read_tip


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records, in the order of their sequence, after one of them."""

    after: int = 0
    limit: int = 1000
    correlation_id: str = ""
    event_type: str = ""
    since: datetime | None = None
    until: datetime | None = None


def find(connection: Connection, query: AuditQuery, directory: Path) -> tuple[list[str], int]:
    """Return the page's events as JSON texts, and how many the filters match in all."""
    where, values = _where(query)
    since = None if query.since is None else microseconds(query.since)
    source = archives.source(connection, directory, since_us=since)
    row = connection.execute(f"SELECT count(*) FROM {source} WHERE {where}", values).fetchone()  # noqa: S608
    direction = "ASC" if query.order == "asc" else "DESC"
    rows = connection.execute(
        f"SELECT body FROM {source} WHERE {where} "  # noqa: S608 - names are ours, values are bound
        f"ORDER BY event_us {direction}, seq {direction} LIMIT ? OFFSET ?",
        [*values, query.limit, query.offset],
    ).fetchall()
    return [body for (body,) in rows], int(row[0]) if row else 0


def get(connection: Connection, event_id: str, directory: Path) -> str:
    """Return an event as JSON text. Raises ``NotFound``."""
    source = archives.source(connection, directory)
    row = connection.execute(
        f"SELECT body FROM {source} WHERE event_id = ?::UUID LIMIT 1",  # noqa: S608 - names are ours
        [event_id],
    ).fetchone()
    if row is None:
        raise NotFound(f"no audit event {event_id}")
    return str(row[0])


def timeline(connection: Connection, remediation_id: str, directory: Path) -> list[str]:
    """Return all events of a remediation as JSON texts, by their instants."""
    source = chain_source(connection, remediation_id, directory)
    rows = connection.execute(
        f"SELECT body FROM {source} WHERE correlation_id = ? ORDER BY event_us, seq",  # noqa: S608 - names are ours
        [remediation_id],
    ).fetchall()
    return [body for (body,) in rows]


def chain_source(connection: Connection, correlation_id: str, directory: Path, *, lenient: bool = False) -> str:
    """Return what to select a chain from: only one that has records in archives asks them."""
    row = connection.execute("SELECT 1 FROM audit_chains WHERE correlation_id = ?", [correlation_id]).fetchone()
    return "audit_events" if row is None else archives.source(connection, directory, lenient=lenient)


def records(connection: Connection, query: RecordQuery, directory: Path) -> tuple[list[bytes], int, bool]:
    """Return records as JSON, the last sequence that was looked at, and whether there are more.

    Archives whose files are gone are left out, so that who verifies finds their records missing.
    """
    tests: list[tuple[str, Any]] = [
        ("correlation_id = ?", query.correlation_id),
        ("event_type = ?", query.event_type),
        ("event_us >= ?", "" if query.since is None else microseconds(query.since)),
        ("event_us < ?", "" if query.until is None else microseconds(query.until)),
    ]
    used = [(test, value) for test, value in tests if value != ""]
    if query.correlation_id:
        source = chain_source(connection, query.correlation_id, directory, lenient=True)
    else:
        since = None if query.since is None else microseconds(query.since)
        source = archives.source(connection, directory, after=query.after, since_us=since, lenient=True)
    if not used:
        # Sequences have few gaps, so the next so-and-so-many lie close together: no sorting of all that follows.
        row = connection.execute(f"SELECT min(seq) FROM {source} WHERE seq > ?", [query.after]).fetchone()  # noqa: S608
        first = int(row[0]) if row and row[0] is not None else query.after + 1
        used.append(("seq < ?", first + query.limit))
    where = " AND ".join(["seq > ?", *(test for test, _ in used)])
    rows = connection.execute(
        f"SELECT seq, position, previous, hash, stored_us, body FROM {source} WHERE {where} "  # noqa: S608
        "ORDER BY seq LIMIT ?",
        [query.after, *(value for _, value in used), query.limit],
    ).fetchall()
    end = read_tip(connection).sequence
    last = int(rows[-1][0]) if rows else end
    more = last < end if used[0][0] == "seq < ?" else len(rows) == query.limit
    return [_record(*row) for row in rows], last if more else max(end, query.after), more


def checkpoints(connection: Connection, after: int, limit: int, *, leaves: bool) -> list[bytes]:
    """Return the checkpoints after a number as JSON, with their leaves when asked for."""
    rows = connection.execute(
        "SELECT body, leaves FROM audit_checkpoints WHERE number > ? ORDER BY number LIMIT ?", [after, limit]
    ).fetchall()
    return [_with_leaves(body, data) if leaves else body.encode() for body, data in rows]


def chain_end(connection: Connection, correlation_id: str) -> tuple[int, str]:
    """Return how long a chain is and the hash of its last record."""
    row = (
        connection.execute(
            "SELECT position, hash FROM audit_events WHERE correlation_id = ? ORDER BY position DESC LIMIT 1",
            [correlation_id],
        ).fetchone()
        or connection.execute(
            "SELECT length, head FROM audit_chains WHERE correlation_id = ?", [correlation_id]
        ).fetchone()
    )
    return (0, "") if row is None else (int(row[0]), bytes(row[1]).hex())


def chain_count(connection: Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM (SELECT correlation_id FROM audit_events UNION SELECT correlation_id FROM audit_chains)"
    ).fetchone()
    return int(row[0]) if row else 0


def _record(seq: int, position: int, previous: bytes, digest: bytes, stored_us: int, body: str) -> bytes:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        # Somebody wrote that there. As a text it can be shipped, and whoever verifies it says that it is no event.
        body = orjson.dumps(body).decode()
    return (
        f'{{"sequence":{seq},"position":{position},"previous":"{bytes(previous).hex()}","hash":"{bytes(digest).hex()}",'
        f'"stored_us":{stored_us},"event":{body}}}'
    ).encode()


def _with_leaves(body: str, leaves: bytes) -> bytes:
    return f'{body[:-1]},"leaves":"{base64.b64encode(leaves).decode()}"}}'.encode()


def _where(query: AuditQuery) -> tuple[str, Sequence[Any]]:
    tests: list[tuple[str, Any]] = [
        ("event_id = ?::UUID", query.event_id),
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
