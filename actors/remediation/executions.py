"""Starting a WorkflowExecution where that is still sensible, and what follows from its end: done, recovery, or a person.

An execution that exists is watched, whatever the verdicts on starting one say: a crash between creating it and writing
``Executing`` must never lead to a second one.
"""

from __future__ import annotations

from datetime import datetime

from actors.remediation import analyses, blocking, children, endings, facts, moves, pauses, recovery, verification
from actors.remediation.blocking import Stage
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray import names
from kubernaut_ray.control.decision import Decision
from kubernaut_ray.crds.approval import Grant
from kubernaut_ray.crds.enums import NotificationPriority, WorkflowExecutionPhase
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.shared import SelectedWorkflow, WorkflowRef
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import Settings

Result = Decision[Status]

_MARKS = (Mark("AIAnalysisComplete", True, "WorkflowSelected"), Mark("WorkflowExecutionReady", True, "Created"))


def start(
    seen: Observed, workflow: SelectedWorkflow, now: datetime, settings: Settings, *, grant: Grant | None = None
) -> Result:
    """Start the workflow, unless something stands in the way now. ``grant`` is the leave under which it runs."""
    request = seen.request
    if stopped(seen):
        return endings.execution_gone(seen, now, settings)
    if seen.execution is not None:
        return watch(seen, seen.execution, now, settings)
    if seen.routing is None:
        return moves.stay(seen, "RoutingUnknown", now, settings.orchestrator)
    verdict = blocking.judge(
        request,
        seen.routing,
        Stage.EXECUTION,
        workflow_id=workflow.workflow_id,
        now=now,
        settings=settings.orchestrator,
    )
    if verdict is not None:
        return stop(seen, verdict, request.status.overall_phase or Phase.ANALYZING, now, settings)
    rehearsing = dry(seen, settings)
    child = children.workflow_execution(
        request,
        workflow,
        attempt=request.status.recovery_attempts,
        now=now,
        settings=settings,
        grant=grant,
        dry_run=rehearsing,
        spec_hash=seen.routing.spec_hash,
    )
    if rehearsing:
        return moves.stay(
            seen,
            "RehearsalCreated",
            now,
            settings.orchestrator,
            effects=(children.create(request, child),),
            workflow_execution_ref=children.reference(request, WorkflowExecution, child.name),
        )
    return moves.advance(
        seen,
        Phase.EXECUTING,
        "WorkflowExecutionCreated",
        _running(workflow, child.spec.target_resource),
        now,
        settings.orchestrator,
        effects=(children.create(request, child),),
        marks=_MARKS,
        workflow_execution_ref=children.reference(request, WorkflowExecution, child.name),
    )


def watch(seen: Observed, execution: WorkflowExecution, now: datetime, settings: Settings) -> Result:
    """Follow the execution that is there."""
    if execution.spec.dry_run:
        if execution.status.phase in {WorkflowExecutionPhase.COMPLETED, WorkflowExecutionPhase.FAILED}:
            return endings.dry_run(seen, execution, now, settings)
        return moves.stay(seen, "WaitingForRehearsal", now, settings.orchestrator)
    message = _running(execution.spec.workflow_ref, execution.spec.target_resource)
    return moves.advance(
        seen, Phase.EXECUTING, "WorkflowExecutionFound", message, now, settings.orchestrator, marks=_MARKS
    )


def stopped(seen: Observed) -> bool:
    """Was this attempt's execution deleted while it was under way?"""
    request = seen.request
    name = names.workflow_execution(request.name, request.status.recovery_attempts)
    return request.metadata.annotations.get(names.ANNOTATION_STOPPED_EXECUTION) == name


def dry(seen: Observed, settings: Settings) -> bool:
    """Is everything to happen but the execution? Then nobody is asked for leave either."""
    return seen.request.spec.dry_run or settings.orchestrator.dry_run


def stop(seen: Observed, verdict: blocking.Verdict, origin: Phase, now: datetime, settings: Settings) -> Result:
    """Enter Blocked, or stay there for the reason that holds now; or hand over where only a person can help."""
    if isinstance(verdict, blocking.Handover):
        return endings.manual_review(
            seen,
            verdict.message,
            now,
            settings,
            priority=NotificationPriority.CRITICAL,
            sub_reason=verdict.reason,
            skip_reason=verdict.reason,
            blocking_execution=verdict.execution,
        )
    return pauses.enter(seen, verdict, origin, now, settings)


def executing(seen: Observed, now: datetime, settings: Settings) -> Result:
    execution = seen.execution
    if execution is None or stopped(seen):
        return endings.execution_gone(seen, now, settings)
    match execution.status.phase:
        case WorkflowExecutionPhase.COMPLETED if settings.effectiveness.enabled:
            return verification.begin(seen, execution, now, settings)
        case WorkflowExecutionPhase.COMPLETED:
            return endings.remediated(seen, execution, now, settings)
        case WorkflowExecutionPhase.FAILED:
            return _recover(seen, execution, now, settings)
        case _:
            return moves.stay(seen, "WaitingForExecution", now, settings.orchestrator)


def _recover(seen: Observed, execution: WorkflowExecution, now: datetime, settings: Settings) -> Result:
    """Investigate again with the whole history, or hand over to a person."""
    status, limits = seen.request.status, settings.orchestrator
    failure = recovery.failure_of(execution, now)
    history = (*status.previous_executions, recovery.record(execution, seen.analysis, now))[-10:]
    refusal = recovery.evaluate(
        attempts=status.recovery_attempts,
        previous=status.previous_executions,
        failure=failure,
        finished=seen.finished,
        now=now,
        settings=limits,
    )
    told = failure.natural_language_summary or failure.message or failure.reason
    judged = facts.recovery(seen.request, execution, failure, refusal, now)
    if refusal is not None:
        return endings.manual_review(
            seen,
            f"The workflow failed ({told}) and no further attempt is made: {refusal.message}",
            now,
            settings,
            failure=failure,
            priority=NotificationPriority.CRITICAL,
            sub_reason=refusal.reason,
            history=history,
            effects=(judged,),
        )
    attempt = status.recovery_attempts + 1
    message = f"Recovery attempt {attempt} of {limits.max_recovery_attempts}: {told}"
    return analyses.begin(
        seen,
        "RecoveryStarted",
        message,
        now,
        settings,
        attempt=attempt,
        history=history,
        effects=(judged,),
        marks=(
            Mark("WorkflowExecutionComplete", False, "Failed", told),
            Mark("RecoveryComplete", None, "InProgress", message),
        ),
        workflow_execution_ref=None,
        approval_request_ref=None,
        approval_notification_sent=False,
        awaiting_approval_start_time=None,
        executing_start_time=None,
    )


def _running(workflow: WorkflowRef, target: str) -> str:
    return f"Running {workflow.workflow_name or workflow.workflow_id} {workflow.version} on {target}"
