"""Whether executions helped, in the store: what each assessment came to, and what that adds up to by environment."""

from __future__ import annotations

from datetime import datetime

from catalog.events import instant, microseconds
from catalog.store import Connection
from kubernaut_ray.contracts.statistics import EffectivenessRecord, Trust, WorkflowEffectiveness
from kubernaut_ray.crds.enums import TrustLevel


def record(connection: Connection, assessed: EffectivenessRecord, now: datetime) -> bool:
    """Store one; false when the assessment of this execution was told before."""
    stored = connection.execute(
        "INSERT INTO assessments (execution_id, workflow_id, environment, target, remediation_id, effective, score, reason, "
        "assessed_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING execution_id",
        [
            assessed.execution_id,
            assessed.workflow_id,
            assessed.environment,
            assessed.target,
            assessed.remediation_id,
            assessed.effective,
            assessed.score,
            assessed.reason,
            microseconds(assessed.assessed_at or now),
        ],
    ).fetchall()
    return bool(stored)


def of(connection: Connection, workflow_id: str) -> WorkflowEffectiveness:
    """Count a workflow's assessments by environment. What they are worth is for the reader to say: the level is unknown."""
    rows = connection.execute(
        "WITH mine AS (SELECT environment, effective, score, assessed_us, execution_id FROM assessments WHERE workflow_id = ?), "
        "last AS (SELECT environment, max((assessed_us, execution_id)) AS at FROM mine WHERE effective GROUP BY environment) "
        "SELECT environment, count(*), count(*) FILTER (effective), "
        "count(*) FILTER (NOT effective AND (last.at IS NULL OR (assessed_us, execution_id) > last.at)), avg(score), "
        "max(assessed_us) FROM mine LEFT JOIN last USING (environment) GROUP BY environment ORDER BY environment",
        [workflow_id],
    ).fetchall()
    return WorkflowEffectiveness(
        workflow_id=workflow_id,
        environments=tuple(
            Trust(
                environment=environment,
                level=TrustLevel.UNKNOWN,
                assessed=total,
                effective=good,
                failures_in_a_row=streak,
                mean_score=round(mean, 4),
                last_assessed_at=instant(last),
            )
            for environment, total, good, streak, mean, last in rows
        ),
    )
