"""Durable investigation sessions in the store, with a compare-and-set on their attempt.

Whoever wants to work on a session writes ``attempt + 1`` while the stored one is still at ``attempt``: of two replicas that
try, one is told ``Conflict``. Heartbeats and the answer are written under the attempt that the worker won.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from catalog.errors import Conflict, NotFound
from catalog.events import microseconds
from catalog.store import Connection
from kubernaut_ray.contracts.investigation import InvestigationSession, SessionState

RETENTION = timedelta(days=7)
"""Finished sessions are kept this long; their remediation's audit trail outlives them."""


def put(connection: Connection, session: InvestigationSession, expected_attempt: int | None, now: datetime) -> None:
    """Store a session if the stored one is at ``expected_attempt`` (``None``: if there is none). Raises ``Conflict``."""
    row = connection.execute("SELECT attempt FROM sessions WHERE session_id = ?", [session.session_id]).fetchone()
    stored = int(row[0]) if row else None
    if stored != expected_attempt:
        where = "is not stored" if stored is None else f"is at attempt {stored}"
        wanted = "a new one" if expected_attempt is None else f"attempt {expected_attempt}"
        raise Conflict(f"investigation {session.session_id} {where}, not {wanted}; read it again")
    if expected_attempt is not None and session.attempt < expected_attempt:
        raise Conflict(f"investigation {session.session_id}: attempts only rise; {session.attempt} is below {stored}")
    connection.execute(
        "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)",
        [
            session.session_id,
            session.attempt,
            session.state.value,
            microseconds(now),
            session.model_dump_json(exclude_none=True),
        ],
    )


def get(connection: Connection, session_id: str) -> str:
    """Return a session as JSON text. Raises ``NotFound``."""
    row = connection.execute("SELECT body FROM sessions WHERE session_id = ?", [session_id]).fetchone()
    if row is None:
        raise NotFound(f"no investigation {session_id}")
    return str(row[0])


def forget_old(connection: Connection, now: datetime) -> int:
    """Delete sessions that ended longer than ``RETENTION`` ago; return how many."""
    gone = connection.execute(
        "DELETE FROM sessions WHERE state IN (?, ?) AND updated_us < ? RETURNING session_id",
        [SessionState.DONE.value, SessionState.FAILED.value, microseconds(now - RETENTION)],
    ).fetchall()
    return len(gone)
