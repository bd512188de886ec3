"""Workflow records in the store: registered once, immutable but for their status, the newest version marked.

A version is its schema *and* its bundle: the same name and version with another digest runs something else, whatever its
schema says, and is refused. Latest is by SemVer precedence alone, whatever order versions come in and whatever their
status: where the latest is disabled, no older version is offered in its place, because nobody decided that.

A change raises the catalog version in the same transaction; replicas compare that number to know whether their snapshot
is old.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from catalog import executions
from catalog.embed import Vectors
from catalog.errors import Conflict, NotFound
from catalog.store import Connection
from kubernaut_ray.contracts.catalog import Workflow, WorkflowPatch
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.errors import InvalidInput

_NUMBER = re.compile(r"\d+")
_STATISTICS = {
    "total_executions",
    "successful_executions",
    "actual_success_rate",
    "last_execution_at",
    "average_duration_seconds",
}
"""Counted from the executions at each read, never stored with the record."""


@dataclass(frozen=True, slots=True)
class Registration:
    """``created`` is false when the same content was registered before."""

    workflow: Workflow
    created: bool


def version(connection: Connection) -> int:
    """Return the catalog version: it rises with every change to any record."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'catalog_version'").fetchone()
    return int(row[0]) if row else 0


def register(connection: Connection, workflow: Workflow, now: datetime) -> Registration:
    """Store a workflow as read from its bundle. Raises ``Conflict`` for other content under a registered version."""
    known = _get(connection, workflow.workflow_id)
    if known is not None:
        if (known.container_digest, known.content_hash) != (workflow.container_digest, workflow.content_hash):
            raise Conflict(_other_content(known, workflow))
        return Registration(_with_statistics(connection, [known])[0], created=False)
    latest = _latest(connection, workflow.workflow_name)
    newest = latest is None or precedence(workflow.version) > precedence(latest.version)
    record = workflow.model_copy(
        update={
            "status": WorkflowStatus.ACTIVE,
            "is_latest_version": newest,
            "previous_version": _next_lower(connection, workflow),
            "created_at": now,
            "updated_at": now,
        }
    )
    if latest is not None and newest:
        _put(connection, latest.model_copy(update={"is_latest_version": False, "updated_at": now}))
    _put(connection, record)
    _raise_version(connection)
    return Registration(record, created=True)


def patch(connection: Connection, workflow_id: str, change: WorkflowPatch, by: str, now: datetime) -> Workflow:
    """Change a workflow's status. Saying the same again changes nothing, not even the instant.

    Raises ``NotFound``; ``InvalidInput`` for a status that nobody may set.
    """
    record = get(connection, workflow_id)
    if change.status is WorkflowStatus.SUPERSEDED:
        raise InvalidInput("status superseded is set by registering a newer version, not by hand")
    told = (change.status, by, change.reason)
    if told == (record.status, record.status_changed_by, record.status_changed_reason):
        return record
    disabled = change.status is not WorkflowStatus.ACTIVE
    changed = record.model_copy(
        update={
            "status": change.status,
            "disabled_at": now if disabled else None,
            "disabled_by": by if disabled else "",
            "disabled_reason": change.reason if disabled else "",
            "status_changed_at": now,
            "status_changed_by": by,
            "status_changed_reason": change.reason,
            "updated_at": now,
        }
    )
    _put(connection, changed)
    _raise_version(connection)
    return changed


def get(connection: Connection, workflow_id: str) -> Workflow:
    """Return one record with its statistics. Raises ``NotFound``."""
    record = _get(connection, workflow_id)
    if record is None:
        raise NotFound(f"no workflow {workflow_id} in the catalog; GET /api/v1/workflows lists them")
    return _with_statistics(connection, [record])[0]


def page(
    connection: Connection, *, status: str, name: str, limit: int, offset: int
) -> tuple[tuple[Workflow, ...], int]:
    """Return records by name, then version as text, and how many there are in all."""
    where = "(? = '' OR status = ?) AND (? = '' OR workflow_name = ?)"
    values = [status, status, name, name]
    row = connection.execute(f"SELECT count(*) FROM workflows WHERE {where}", values).fetchone()  # noqa: S608
    rows = connection.execute(
        f"SELECT record FROM workflows WHERE {where} "  # noqa: S608 - a constant, values are bound
        "ORDER BY workflow_name, version LIMIT ? OFFSET ?",
        [*values, limit, offset],
    ).fetchall()
    found = _with_statistics(connection, [Workflow.model_validate_json(record) for (record,) in rows])
    return tuple(found), int(row[0]) if row else 0


Mark = tuple[int, int, int]
"""What a record is now: the hash of its text, and its executions, all and successful ones. Another mark, another record."""


def marks(connection: Connection) -> dict[str, Mark]:
    """Return the marks of all records, so that a snapshot reads only those that changed since the last."""
    rows = connection.execute(
        "SELECT w.workflow_id, hash(w.record), coalesce(e.total, 0), coalesce(e.good, 0) FROM workflows w LEFT JOIN "
        "(SELECT workflow_id, count(*) AS total, count(*) FILTER (success) AS good FROM executions GROUP BY workflow_id) e "
        "USING (workflow_id)"
    ).fetchall()
    return {workflow_id: (text, total, good) for workflow_id, text, total, good in rows}


def some(connection: Connection, ids: Sequence[str]) -> list[Workflow]:
    """Return these records with their statistics, in any order."""
    rows = connection.execute("SELECT record FROM workflows WHERE workflow_id IN (SELECT unnest(?))", [ids]).fetchall()
    return _with_statistics(connection, [Workflow.model_validate_json(record) for (record,) in rows])


def vectors(connection: Connection, fingerprint: str, ids: Sequence[str]) -> dict[str, Vectors]:
    """Return the vectors of these workflows that this embedder made, by workflow id."""
    rows = connection.execute(
        "SELECT workflow_id, vector FROM workflow_vectors WHERE fingerprint = ? AND workflow_id IN (SELECT unnest(?))",
        [fingerprint, ids],
    ).fetchall()
    return {workflow_id: np.frombuffer(vector, dtype=np.float32) for workflow_id, vector in rows}


def keep_vectors(connection: Connection, fingerprint: str, made: Sequence[tuple[str, Vectors]]) -> None:
    """Keep vectors so that a restart embeds nothing; another embedder's are replaced."""
    incoming = pa.table(
        {
            "workflow_id": [workflow_id for workflow_id, _ in made],
            "fingerprint": [fingerprint] * len(made),
            "vector": [vector.tobytes() for _, vector in made],
        }
    )
    connection.register("incoming_vectors", incoming)
    try:
        connection.execute("INSERT OR REPLACE INTO workflow_vectors BY NAME SELECT * FROM incoming_vectors")
    finally:
        connection.unregister("incoming_vectors")


def semantic(text: str) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]:
    """Return a sort key by Semantic Versioning 2.0 precedence: numbers, then release over pre-release, then its parts."""
    core, _, pre = text.split("+", 1)[0].partition("-")
    numbers = tuple(int(part) for part in _NUMBER.findall(core))
    parts = tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in pre.split(".") if p)
    return numbers, not pre, parts


def precedence(text: str) -> tuple[Any, ...]:
    """Return a sort key that is total: by SemVer precedence, then by the text, so that ``1.0.0+b`` follows ``1.0.0+a``."""
    return (*semantic(text), text)


def _other_content(known: Workflow, new: Workflow) -> str:
    """Say what is registered, what came, and what to do."""
    same_schema = known.content_hash == new.content_hash
    what = "the same schema in another bundle" if same_schema else "another content"
    return (
        f"{known.workflow_name} {known.version} is registered with {known.pinned_image} (schema sha256 {known.content_hash}); "
        f"{new.pinned_image} (schema sha256 {new.content_hash}) is {what}, and what a version runs never changes: "
        "raise the version in its schema, or name the registered digest"
    )


def _next_lower(connection: Connection, workflow: Workflow) -> str:
    rows = connection.execute("SELECT version FROM workflows WHERE workflow_name = ?", [workflow.workflow_name])
    lower = [v for (v,) in rows.fetchall() if precedence(v) < precedence(workflow.version)]
    return max(lower, key=precedence, default="")


def _get(connection: Connection, workflow_id: str) -> Workflow | None:
    row = connection.execute("SELECT record FROM workflows WHERE workflow_id = ?", [workflow_id]).fetchone()
    return Workflow.model_validate_json(row[0]) if row else None


def _latest(connection: Connection, name: str) -> Workflow | None:
    row = connection.execute("SELECT record FROM workflows WHERE workflow_name = ? AND is_latest", [name]).fetchone()
    return Workflow.model_validate_json(row[0]) if row else None


def _put(connection: Connection, record: Workflow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO workflows VALUES (?, ?, ?, ?, ?, ?)",
        [
            record.workflow_id,
            record.workflow_name,
            record.version,
            record.status.value,
            record.is_latest_version,
            record.model_dump_json(exclude_none=True, exclude=_STATISTICS),
        ],
    )


def _raise_version(connection: Connection) -> None:
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'catalog_version'")


def _with_statistics(connection: Connection, records: Sequence[Workflow]) -> list[Workflow]:
    found = executions.summaries(connection, [record.workflow_id for record in records])
    return [
        record.model_copy(update=found[record.workflow_id]) if record.workflow_id in found else record
        for record in records
    ]
