"""What was done to a target before, as an investigation is told it: from the executions on it and what they came to. Pure.

It reaches as far back as finished remediations are kept. This remediation's own attempts are told in full elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import WorkflowExecutionPhase
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.shared import PastRemediation
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

LONGEST = 10
"""So many are told."""
_SUMMARY = 2000


def of(
    request: RemediationRequest, executions: Iterable[WorkflowExecution], assessments: Sequence[EffectivenessAssessment]
) -> tuple[PastRemediation, ...]:
    """Return the executions of other remediations that ended, the newest first, each with what its assessment found."""
    judged = {one.spec.workflow_execution_ref.uid: one for one in assessments}
    told = [
        _told(execution, judged.get(execution.uid))
        for execution in executions
        if execution.spec.remediation_request_ref.uid != request.uid
        and execution.status.completion_time is not None
        and not execution.spec.dry_run
    ]
    return tuple(sorted(told, key=lambda one: (one.ended_at, one.remediation), reverse=True)[:LONGEST])


def _told(execution: WorkflowExecution, judged: EffectivenessAssessment | None) -> PastRemediation:
    spec, status = execution.spec, execution.status
    failure = status.failure_details
    found = judged.status.message if judged is not None else ""
    summary = found or (failure.natural_language_summary or failure.message if failure is not None else "")
    return PastRemediation(
        remediation=spec.remediation_request_ref.name,
        workflow_id=spec.workflow_ref.workflow_id,
        workflow_name=spec.workflow_ref.workflow_name,
        version=spec.workflow_ref.version,
        parameters=spec.parameters,
        ended_at=status.completion_time or execution.created,
        succeeded=status.phase is WorkflowExecutionPhase.COMPLETED,
        effective=judged.status.effective if judged is not None else None,
        score=judged.status.score if judged is not None else None,
        summary=summary[:_SUMMARY],
    )
