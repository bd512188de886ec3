"""How workflow executions ended, in the store: what the orchestrator's safety rate and the catalog's statistics count."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from catalog.events import instant, microseconds
from catalog.store import Connection
from kubernaut_ray.contracts.statistics import ExecutionRecord, ExecutionStatistics, WorkflowStatistics


def record(connection: Connection, execution: ExecutionRecord, now: datetime) -> bool:
    """Store one end; false when this execution's end was told before."""
    stored = connection.execute(
        "INSERT INTO executions (execution_id, workflow_id, success, target, remediation_id, finished_us, duration_s) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING execution_id",
        [
            execution.execution_id or f"anonymous-{uuid.uuid4()}",
            execution.workflow_id,
            execution.success,
            execution.target,
            execution.remediation_id,
            microseconds(execution.finished_at or now),
            execution.duration_seconds,
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


def summaries(connection: Connection, workflow_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the statistics fields of a catalog record, by workflow id; nothing where nothing was executed."""
    rows = connection.execute(
        "SELECT workflow_id, count(*), count(*) FILTER (success), max(finished_us), avg(duration_s) FROM executions "
        "WHERE list_contains(?, workflow_id) GROUP BY workflow_id",
        [list(workflow_ids)],
    ).fetchall()
    return {
        workflow_id: {
            "total_executions": total,
            "successful_executions": good,
            "actual_success_rate": round(good / total, 4),
            "last_execution_at": instant(last),
            "average_duration_seconds": None if seconds is None else round(seconds, 3),
        }
        for workflow_id, total, good, last, seconds in rows
    }
