"""How workflow executions ended, in the store: what the orchestrator's safety rate and the catalog's statistics count."""

from __future__ import annotations

import uuid
from datetime import datetime

from catalog.events import microseconds
from catalog.store import Connection
from kubernaut_ray.contracts.statistics import ExecutionRecord, ExecutionStatistics, WorkflowStatistics


def record(connection: Connection, execution: ExecutionRecord, now: datetime) -> bool:
    """Store one end; false when this execution's end was told before."""
    stored = connection.execute(
        "INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING execution_id",
        [
            execution.execution_id or f"anonymous-{uuid.uuid4()}",
            execution.workflow_id,
            execution.success,
            execution.target,
            execution.remediation_id,
            microseconds(execution.finished_at or now),
        ],
    ).fetchall()
    return bool(stored)


def statistics(connection: Connection, since: datetime) -> ExecutionStatistics:
    """Count executions that ended at or after ``since``, by workflow and in all."""
    rows = connection.execute(
        "SELECT workflow_id, count(*), count(*) FILTER (success) FROM executions WHERE finished_us >= ? "
        "GROUP BY workflow_id ORDER BY workflow_id",
        [microseconds(since)],
    ).fetchall()
    workflows = tuple(WorkflowStatistics(workflow_id=w, total=t, successful=s) for w, t, s in rows)
    return ExecutionStatistics(
        since=since,
        total=sum(w.total for w in workflows),
        successful=sum(w.successful for w in workflows),
        workflows=workflows,
    )
