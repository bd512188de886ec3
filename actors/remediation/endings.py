"""The ways a RemediationRequest ends, each with its outcome, its message to people and what is called off on the way.

A failure tells somebody, always: a remediation that stops silently leaves the incident with nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from actors.remediation import blocking, children, facts, moves, summary
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from actors.remediation.timeouts import Deadline
from kubernaut_ray import clock, names
from kubernaut_ray.control.decision import Decision, Effect
from kubernaut_ray.crds.enums import (
    AuditOutcome,
    FailurePhase,
    NotificationPriority,
    NotificationType,
    Outcome,
    SkipReason,
    WorkflowExecutionPhase,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.shared import FailureDetails, PreviousExecution
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import Settings

Result = Decision[Status]


def remediated(
    seen: Observed,
    execution: WorkflowExecution,
    now: datetime,
    settings: Settings,
    *,
    verified: str = "",
    sure: bool = True,
    marks: Sequence[Mark] = (),
    **changes: Any,
) -> Result:
    """The workflow succeeded. ``verified`` is what was found of its effect, empty where nobody was to look; ``sure`` is false
    where somebody looked and could not tell.
    """
    request = seen.request
    name = execution.spec.workflow_ref.workflow_name or execution.spec.workflow_ref.workflow_id
    took = clock.format_duration(now - request.created)
    notice = children.notification(
        request,
        "completion",
        summary.remediated(seen, execution, now, verified, sure=sure),
        type_=NotificationType.COMPLETION,
        priority=NotificationPriority.LOW,
        metadata=summary.routing(seen, phase=Phase.COMPLETED, outcome=Outcome.REMEDIATED),
    )
    marks = [Mark("WorkflowExecutionComplete", True, "Completed"), *marks]
    if request.status.recovery_attempts:
        marks.append(Mark("RecoveryComplete", True, "Recovered"))
    return moves.finish(
        seen,
        Phase.COMPLETED,
        "Remediated" if sure else "RemediatedUnverified",
        f"{name} fixed {request.spec.target_resource} in {took}"
        if sure
        else f"{name} succeeded on {request.spec.target_resource} after {took}. {verified}",
        now,
        settings.orchestrator,
        notify=(notice,),
        marks=marks,
        outcome=Outcome.REMEDIATED,
        **changes,
    )


def inconclusive(
    seen: Observed, why: str, now: datetime, settings: Settings, *, marks: Sequence[Mark] = (), **changes: Any
) -> Result:
    """The workflow succeeded, and nobody can say that it helped, or it did not: never a success, and a person looks."""
    told = facts.fact(
        seen.request,
        "remediation.manual_review",
        now,
        outcome=AuditOutcome.PENDING,
        reason=why,
        sub_reason=str(Outcome.INCONCLUSIVE),
    )
    return moves.finish(
        seen,
        Phase.COMPLETED,
        "Inconclusive",
        f"A person must take over: {why}",
        now,
        settings.orchestrator,
        effects=(told,),
        notify=(_manual_notice(seen, why, NotificationPriority.HIGH, None, "", now),),
        marks=marks,
        outcome=Outcome.INCONCLUSIVE,
        requires_manual_review=True,
        **changes,
    )


def not_needed(seen: Observed, why: str, now: datetime, settings: Settings) -> Result:
    message = why or "The investigation found the problem gone; nothing needs to be done"
    return _without_action(
        seen, "WorkflowNotNeeded", message, (Mark("AIAnalysisComplete", True, "WorkflowNotNeeded"),), now, settings
    )


def resolved(seen: Observed, now: datetime, settings: Settings) -> Result:
    """The source says that it is over and nothing was executed: stop, and take along what still works on it."""
    resolution = seen.request.status.resolved
    at = resolution.resolved_at if resolution is not None else now
    message = f"The signal was resolved at its source at {at:%H:%M:%S} UTC, before anything was executed"
    return _without_action(seen, "SignalResolved", message, (), now, settings, cancel=True)


def _without_action(
    seen: Observed,
    reason: str,
    message: str,
    marks: Sequence[Mark],
    now: datetime,
    settings: Settings,
    *,
    cancel: bool = False,
) -> Result:
    notify: tuple[NotificationRequest, ...] = ()
    if settings.orchestrator.notify_self_resolved:
        notify = (
            children.notification(
                seen.request,
                "completion",
                summary.self_resolved(seen, message, now),
                type_=NotificationType.COMPLETION,
                priority=NotificationPriority.LOW,
                metadata=summary.routing(
                    seen,
                    phase=Phase.COMPLETED,
                    outcome=Outcome.NO_ACTION_REQUIRED,
                    **{"investigation-outcome": "resolved"},
                ),
            ),
        )
    return moves.finish(
        seen,
        Phase.COMPLETED,
        reason,
        message,
        now,
        settings.orchestrator,
        effects=moves.cancel_children(seen, investigation=True) if cancel else (),
        notify=notify,
        marks=marks,
        outcome=Outcome.NO_ACTION_REQUIRED,
    )


def dry_run(seen: Observed, execution: WorkflowExecution, now: datetime, settings: Settings) -> Result:
    """What would have run was rendered: show it. The next signal waits a while before it is rehearsed again."""
    workflow, analysis = execution.spec.workflow_ref, seen.analysis
    name = f"{workflow.workflow_name or workflow.workflow_id} {workflow.version}".strip()
    leave = analysis is not None and analysis.status.approval_required is not False
    after = ", once a person had approved it" if leave else ""
    message = f"Dry run: {name} would have run on {execution.spec.target_resource}{after}"
    if execution.status.phase is WorkflowExecutionPhase.FAILED:
        message = f"Dry run: {name} could not have run on {execution.spec.target_resource}: {execution.status.message}"
    notice = children.notification(
        seen.request,
        "completion",
        summary.rehearsed(seen, execution, f"{message}."),
        type_=NotificationType.STATUS_UPDATE,
        priority=NotificationPriority.LOW,
        metadata=summary.routing(seen, phase=Phase.COMPLETED, outcome=Outcome.DRY_RUN),
    )
    return moves.finish(
        seen,
        Phase.COMPLETED,
        "DryRun",
        message,
        now,
        settings.orchestrator,
        notify=(notice,),
        marks=(Mark("AIAnalysisComplete", True, "WorkflowSelected"),),
        outcome=Outcome.DRY_RUN,
        next_allowed_execution=now + timedelta(seconds=settings.orchestrator.dry_run_hold),
    )


def failed(
    seen: Observed,
    phase: FailurePhase,
    reason: str,
    why: str,
    now: datetime,
    settings: Settings,
    *,
    marks: Sequence[Mark] = (),
) -> Result:
    """A step failed before anything was executed. A later signal may try again after a growing pause."""
    notice = children.notification(
        seen.request,
        "failed",
        summary.failed(seen, why, now),
        type_=NotificationType.ESCALATION,
        priority=summary.urgency(seen),
        metadata=summary.routing(seen, phase=Phase.FAILED, **{"failure-phase": phase}),
    )
    return moves.finish(
        seen,
        Phase.FAILED,
        reason,
        why,
        now,
        settings.orchestrator,
        notify=(notice,),
        marks=marks,
        failure_phase=phase,
        failure_reason=why,
        next_allowed_execution=_next_allowed(seen, now, settings),
    )


def declined(
    seen: Observed, reason: str, why: str, now: datetime, settings: Settings, *, effects: tuple[Effect, ...] = ()
) -> Result:
    """A person said no, or nobody answered. An unanswered request is more urgent than a refused one.

    The approval request stays, undecided too: it is past its deadline, and its controller will say so. Were it deleted, whoever
    ends between that and the status would be followed by somebody who asks again.
    """
    expired = reason == "ApprovalExpired"
    notice = children.notification(
        seen.request,
        "declined",
        summary.failed(seen, why, now),
        type_=NotificationType.ESCALATION if expired else NotificationType.STATUS_UPDATE,
        priority=NotificationPriority.HIGH if expired else NotificationPriority.MEDIUM,
        metadata=summary.routing(seen, phase=Phase.FAILED, **{"failure-phase": FailurePhase.APPROVAL}),
        attempt=seen.request.status.recovery_attempts,
    )
    return moves.finish(
        seen,
        Phase.FAILED,
        reason,
        why,
        now,
        settings.orchestrator,
        effects=effects,
        notify=(notice,),
        failure_phase=FailurePhase.APPROVAL,
        failure_reason=why,
        next_allowed_execution=_next_allowed(seen, now, settings),
    )


def manual_review(
    seen: Observed,
    why: str,
    now: datetime,
    settings: Settings,
    *,
    priority: NotificationPriority = NotificationPriority.HIGH,
    sub_reason: str = "",
    failure: FailureDetails | None = None,
    history: tuple[PreviousExecution, ...] | None = None,
    skip_reason: SkipReason | None = None,
    blocking_execution: str = "",
    effects: tuple[Effect, ...] = (),
) -> Result:
    """A person takes over. ``Failed`` where an execution of this request failed; else nothing failed, so ``Completed``."""
    request = seen.request
    past = history if history is not None else request.status.previous_executions
    phase = Phase.FAILED if past else Phase.COMPLETED
    told = facts.fact(
        request, "remediation.manual_review", now, outcome=AuditOutcome.PENDING, reason=why, sub_reason=str(sub_reason)
    )
    marks = [Mark("AIAnalysisComplete", failure is not None, str(sub_reason) or "ManualReviewRequired", why)]
    if seen.analysis is None:
        marks = []
    if failure is not None:
        marks.append(Mark("WorkflowExecutionComplete", False, "Failed", why))
    if past:
        marks.append(Mark("RecoveryComplete", False, str(sub_reason) or "ManualReviewRequired", why))
    changes: dict[str, Any] = {}
    if past:
        changes = {"failure_phase": FailurePhase.WORKFLOW_EXECUTION, "failure_reason": why, "previous_executions": past}
        if failure is not None and not failure.was_execution_failure:
            changes["next_allowed_execution"] = _next_allowed(seen, now, settings)
    if skip_reason is not None:
        changes |= {"skip_reason": skip_reason, "skip_message": why, "blocking_workflow_execution": blocking_execution}
    return moves.finish(
        seen,
        phase,
        "ManualReviewRequired",
        f"A person must take over: {why}",
        now,
        settings.orchestrator,
        effects=(*effects, told),
        notify=(_manual_notice(seen, why, priority, failure, str(skip_reason or sub_reason), now),),
        marks=marks,
        outcome=Outcome.MANUAL_REVIEW_REQUIRED,
        requires_manual_review=True,
        **changes,
    )


def execution_gone(seen: Observed, now: datetime, settings: Settings) -> Result:
    """The execution was deleted while it ran. It is not made again: nobody knows how far it came."""
    request = seen.request
    name = names.workflow_execution(request.name, request.status.recovery_attempts)
    why = f"Workflow execution {name} was deleted while it was running"
    return moves.finish(
        seen,
        Phase.FAILED,
        "ExecutionDeleted",
        why,
        now,
        settings.orchestrator,
        notify=(_manual_notice(seen, why, NotificationPriority.CRITICAL, None, "", now),),
        marks=(Mark("WorkflowExecutionComplete", False, "Deleted", why),),
        failure_phase=FailurePhase.WORKFLOW_EXECUTION,
        failure_reason=why,
        outcome=Outcome.MANUAL_REVIEW_REQUIRED,
        requires_manual_review=True,
    )


def timed_out(seen: Observed, deadline: Deadline, now: datetime, settings: Settings) -> Result:
    """Out of time: what still runs is stopped, not abandoned."""
    request, status = seen.request, seen.request.status
    running = moves.running(seen)
    phase = deadline.phase or status.overall_phase
    allowed = clock.format_duration(deadline.allowed)
    why = (
        f"The phase {deadline.phase} took longer than the {allowed} it may take"
        if deadline.phase
        else f"The remediation took longer than the {allowed} it may take; it was in phase {status.overall_phase}"
    )
    notice = children.notification(
        request,
        "timeout",
        summary.timed_out(seen, why, running, now),
        type_=NotificationType.ESCALATION,
        priority=NotificationPriority.HIGH if deadline.phase else NotificationPriority.CRITICAL,
        metadata=summary.routing(seen, phase=Phase.TIMED_OUT, **{"timeout-phase": str(phase)}),
    )
    return moves.finish(
        seen,
        Phase.TIMED_OUT,
        "TimedOut",
        why,
        now,
        settings.orchestrator,
        effects=moves.cancel_children(seen, investigation=False),
        notify=(notice,),
        timeout_phase=phase,
        timeout_time=now,
        failure_reason=why,
        requires_manual_review=running,
        next_allowed_execution=_next_allowed(seen, now, settings),
    )


def cancelled(seen: Observed, now: datetime, settings: Settings) -> Result:
    """A person called it off. Somebody else is told only where a running workflow was stopped."""
    notes = seen.request.metadata.annotations
    who, reason = notes.get(names.ANNOTATION_CANCELLED_BY), notes.get(names.ANNOTATION_CANCEL)
    why = f"Cancelled by {who or 'a person'}: {reason or 'no reason was given'}"
    notify: tuple[NotificationRequest, ...] = ()
    if moves.running(seen):
        notify = (
            children.notification(
                seen.request,
                "cancelled",
                summary.cancelled(seen, f"{why}."),
                type_=NotificationType.STATUS_UPDATE,
                priority=NotificationPriority.HIGH,
                metadata=summary.routing(seen, phase=Phase.CANCELLED),
            ),
        )
    return moves.finish(
        seen,
        Phase.CANCELLED,
        "Cancelled",
        why,
        now,
        settings.orchestrator,
        effects=moves.cancel_children(seen, investigation=True),
        notify=notify,
    )


def _manual_notice(
    seen: Observed,
    why: str,
    priority: NotificationPriority,
    failure: FailureDetails | None,
    skip_reason: str,
    now: datetime,
) -> NotificationRequest:
    source = "WorkflowExecution" if failure is not None or seen.execution is not None else "AIAnalysis"
    return children.notification(
        seen.request,
        "manual-review",
        summary.manual_review(seen, why, failure, now),
        type_=NotificationType.MANUAL_REVIEW,
        priority=priority,
        metadata=summary.routing(
            seen,
            outcome=Outcome.MANUAL_REVIEW_REQUIRED,
            **{
                "review-source": source,
                "skip-reason": skip_reason,
                "investigation-outcome": _inconclusive(skip_reason),
            },
        ),
    )


def _inconclusive(reason: str) -> str:
    return "inconclusive" if reason == "InvestigationInconclusive" else ""


def _next_allowed(seen: Observed, now: datetime, settings: Settings) -> datetime:
    failures = seen.request.status.consecutive_failure_count + 1
    return now + blocking.backoff(failures, seen.request.uid, settings.orchestrator)
