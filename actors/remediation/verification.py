"""Verifying: a workflow that succeeded is judged by its effect before the incident counts as remediated.

What is found is the assessment's business; this says what follows. It helped: remediated. It did not: inconclusive, and a
person is told what was found. Nothing could be judged: the execution's word stands, and everybody is told that it is only that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.remediation import children, endings, moves, timeouts
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray.control.decision import Decision
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import AssessmentReason, WorkflowExecutionPhase
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.signal_processing import SignalProcessingStatus
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import Settings

Result = Decision[Status]

EFFECTIVE = "EffectivenessAssessed"
"""The condition that says whether the effect was judged, and how."""


def begin(seen: Observed, execution: WorkflowExecution, now: datetime, settings: Settings) -> Result:
    """Enter Verifying: the assessment is made, and what it finds is waited for."""
    child = _assessment(seen, execution, now, settings)
    name = execution.spec.workflow_ref.workflow_name or execution.spec.workflow_ref.workflow_id
    return moves.advance(
        seen,
        Phase.VERIFYING,
        "VerificationStarted",
        f"{name} succeeded; whether it helped {seen.request.spec.target_resource} is being checked",
        now,
        settings.orchestrator,
        effects=(children.create(seen.request, child),),
        marks=(Mark("WorkflowExecutionComplete", True, "Completed"), Mark(EFFECTIVE, None, "InProgress")),
        effectiveness_assessment_ref=children.reference(seen.request, EffectivenessAssessment, child.name),
    )


def verifying(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Wait for the assessment's end, and not beyond the deadline: a controller that is away must not hold an incident."""
    execution, assessment = seen.execution, seen.assessment
    if execution is None or execution.status.phase is not WorkflowExecutionPhase.COMPLETED:
        why = "the execution was deleted before its effect could be established"
        return endings.inconclusive(seen, why, now, settings, marks=(Mark(EFFECTIVE, None, "NoExecution", why),))
    ended = assessment is not None and assessment.status.phase is not None and assessment.status.phase.terminal
    if assessment is not None and ended:
        return _judged(seen, execution, assessment, now, settings)
    deadline = timeouts.pending(seen.request, settings.orchestrator)
    if deadline is not None and now >= deadline.at:
        return _unverified(seen, execution, "VerifyingTimedOut", "its assessment did not end in time", now, settings)
    if assessment is None:
        began = seen.request.status.verifying_start_time or now
        again = children.create(seen.request, _assessment(seen, execution, began, settings))
        return moves.stay(seen, "AssessmentRecreated", now, settings.orchestrator, effects=(again,))
    return moves.stay(seen, "WaitingForAssessment", now, settings.orchestrator)


def _judged(
    seen: Observed, execution: WorkflowExecution, assessment: EffectivenessAssessment, now: datetime, settings: Settings
) -> Result:
    status = assessment.status
    reason, told = str(status.reason or AssessmentReason.UNRECOVERABLE), status.message
    found: dict[str, Any] = {"effectiveness_score": status.score}
    match status.effective:
        case True:
            marks = (Mark(EFFECTIVE, True, reason, told),)
            return endings.remediated(seen, execution, now, settings, verified=told, marks=marks, **found)
        case False:
            name = execution.spec.workflow_ref.workflow_name or execution.spec.workflow_ref.workflow_id
            why = f"{name} succeeded and did not help: {told}"
            return endings.inconclusive(
                seen, why, now, settings, marks=(Mark(EFFECTIVE, False, reason, told),), **found
            )
        case None:
            return _unverified(seen, execution, reason, told, now, settings)


def _unverified(
    seen: Observed, execution: WorkflowExecution, reason: str, why: str, now: datetime, settings: Settings
) -> Result:
    """Nothing speaks for or against it but the workflow itself."""
    said = f"Not verified: the workflow succeeded, and whether it helped is not known ({why})"
    return endings.remediated(
        seen, execution, now, settings, verified=said, sure=False, marks=(Mark(EFFECTIVE, None, reason, said),)
    )


def _assessment(
    seen: Observed, execution: WorkflowExecution, began: datetime, settings: Settings
) -> EffectivenessAssessment:
    processing = seen.processing.status if seen.processing is not None else SignalProcessingStatus()
    return children.effectiveness_assessment(seen.request, execution, processing, began=began, settings=settings)
