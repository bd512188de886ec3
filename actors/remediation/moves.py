"""The ways a RemediationRequest's status can move: stay, advance to another phase, or finish. Used by ``decide.py`` only.

Each returns a whole ``Decision``: the new status with its bookkeeping (start times, references, conditions, observed
generation), the effects in order, the audit facts, and when to look again. Fields that the gateway owns are carried along
untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from actors.remediation import children, facts, timeouts
from actors.remediation.observe import Observed
from kubernaut_ray import conditions
from kubernaut_ray.control.decision import Create, Decision, Delete, Effect, Key
from kubernaut_ray.crds.base import CustomResource, ObjectReference
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    ApprovalDecision,
    AuditOutcome,
    DeliveryState,
    NotificationPhase,
    Outcome,
    SignalProcessingPhase,
    WorkflowExecutionPhase,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import OrchestratorSettings

Status = RemediationRequestStatus

_STARTED = {
    Phase.PENDING: "start_time",
    Phase.PROCESSING: "processing_start_time",
    Phase.ANALYZING: "analyzing_start_time",
    Phase.AWAITING_APPROVAL: "awaiting_approval_start_time",
    Phase.EXECUTING: "executing_start_time",
    Phase.VERIFYING: "verifying_start_time",
}
_AWAITED = frozenset({Phase.PROCESSING, Phase.ANALYZING, Phase.EXECUTING, Phase.VERIFYING})
"""Phases that only a child ends, which was created on the way in."""
TEXT_LIMIT = 32_768
_GOOD = frozenset({Phase.COMPLETED, Phase.SKIPPED, Phase.CANCELLED})


@dataclass(frozen=True, slots=True)
class Mark:
    """A condition to set."""

    type: str
    status: bool | None
    reason: str
    message: str = ""


def stay(
    seen: Observed,
    reason: str,
    now: datetime,
    settings: OrchestratorSettings,
    *,
    effects: tuple[Effect, ...] = (),
    marks: Sequence[Mark] = (),
    notify: Sequence[NotificationRequest] = (),
    **changes: Any,
) -> Decision[Status]:
    """Remain in the phase; what is known about deliveries is brought up to date."""
    request, status = seen.request, seen.request.status
    tracked: dict[str, Any] = {"notification_status": DeliveryState.PENDING if notify else delivery(seen)}
    if notify or marks:
        tracked["notification_request_refs"] = _referenced(seen, notify)
        tracked["conditions"] = _marked(status, marks, now, request.metadata.generation)
    status = status.replace(**{**tracked, **changes})
    return _decision(seen, reason, status, (*effects, *_told(seen, notify, now)), now, settings)


def advance(
    seen: Observed,
    phase: Phase,
    reason: str,
    message: str,
    now: datetime,
    settings: OrchestratorSettings,
    *,
    effects: tuple[Effect, ...] = (),
    marks: Sequence[Mark] = (),
    notify: Sequence[NotificationRequest] = (),
    last: tuple[Effect, ...] = (),
    **changes: Any,
) -> Decision[Status]:
    """Enter ``phase``. ``notify`` are created after ``effects``; the transition is told after them, and then ``last``.

    Texts quote what others said, which may be as long as the CRD allows already: they are cut, never a reason to stop.
    """
    request, status = seen.request, seen.request.status
    refs = _referenced(seen, notify)
    started = {_STARTED[phase]: now} if phase in _STARTED else {}
    if status.overall_phase is Phase.BLOCKED:
        marks = (*marks, Mark(facts.BLOCKED_CONDITION, False, reason, message))
    new = status.replace(
        **{
            **_known_children(seen),
            "overall_phase": phase,
            "message": message[:TEXT_LIMIT],
            "observed_generation": request.metadata.generation,
            "notification_request_refs": refs,
            "notification_status": DeliveryState.PENDING if notify else delivery(seen),
            "conditions": _marked(status, marks, now, request.metadata.generation),
            **started,
            **{name: value[:TEXT_LIMIT] if isinstance(value, str) else value for name, value in changes.items()},
        },
    )
    told = facts.transition(request, phase, reason, message, now)
    rests = phase in _AWAITED and any(isinstance(effect, Create) for effect in effects)
    return _decision(seen, reason, new, (*effects, *_told(seen, notify, now), told, *last), now, settings, rests=rests)


def finish(
    seen: Observed,
    phase: Phase,
    reason: str,
    message: str,
    now: datetime,
    settings: OrchestratorSettings,
    *,
    effects: tuple[Effect, ...] = (),
    **rest: Any,
) -> Decision[Status]:
    """Enter a terminal phase: completion and retention times are set and the end of the lifecycle is told.

    Told last: an end that a crash and another decision overtake is then known by its transition, which led nowhere.
    """
    request = seen.request
    took = now - request.created
    good = phase in _GOOD and rest.get("outcome") is not Outcome.INCONCLUSIVE
    outcome = str(rest.get("outcome") or "")
    ended = facts.fact(
        request,
        "lifecycle.completed",
        now,
        phase,
        outcome,
        reason,
        outcome=AuditOutcome.SUCCESS if good else AuditOutcome.FAILURE,
        phase=str(phase),
        outcome_of_remediation=outcome,
        reason=reason,
        message=message,
        duration_seconds=round(took.total_seconds(), 3),
    )
    return advance(
        seen,
        phase,
        reason,
        message,
        now,
        settings,
        effects=effects,
        last=(ended,),
        completed_at=now,
        retention_expiry_time=now + timedelta(seconds=settings.retention),
        blocked_until=None,
        **rest,
    )


def cancel_children(seen: Observed, *, investigation: bool) -> tuple[Delete, ...]:
    """Delete what still runs or waits: an unfinished execution (its finalizer stops the run) and an open approval.

    ``investigation`` takes unfinished analysis and processing along; where their traces matter they end by their deadlines.
    """
    execution, approval, processing = seen.execution, seen.approval, seen.processing
    doomed: list[CustomResource] = []
    if execution is not None and running(seen):
        doomed.append(execution)
    if approval is not None and approval.status.sealed_decision is ApprovalDecision.NONE:
        doomed.append(approval)
    if investigation:
        analyses = (seen.analysis, seen.ahead)
        doomed.extend(one for one in analyses if one is not None and one.status.phase not in _ENDED_ANALYSIS)
    if investigation and processing is not None and processing.status.phase not in _ENDED_PROCESSING:
        doomed.append(processing)
    return tuple(
        Delete(resources.of(type(child)), Key(child.namespace, child.name), child.uid)
        for child in doomed
        if child.metadata.deletion_timestamp is None
    )


def running(seen: Observed) -> bool:
    """Is, or was until somebody deleted it, an execution under way?

    In Executing an execution that is gone counts: a crash right after deleting it must lead to the same message to people.
    """
    if seen.execution is None:
        return seen.request.status.overall_phase is Phase.EXECUTING
    return seen.execution.status.phase not in _ENDED_EXECUTION


def delivery(seen: Observed) -> DeliveryState | None:
    """Sum up what became of the request's notifications; a deleted one was called off by a person."""
    refs = seen.request.status.notification_request_refs
    if not refs:
        return None
    found = {notice.name: notice.status.phase for notice in seen.notifications}
    states = {found.get(ref.name, DeliveryState.CANCELLED) for ref in refs}
    if states & {None, NotificationPhase.PENDING, NotificationPhase.SENDING, NotificationPhase.RETRYING}:
        return DeliveryState.IN_PROGRESS
    if NotificationPhase.FAILED in states:
        return DeliveryState.FAILED
    if states & {NotificationPhase.SENT, NotificationPhase.PARTIALLY_SENT}:
        return DeliveryState.SENT
    return DeliveryState.CANCELLED


_ENDED_EXECUTION = frozenset({WorkflowExecutionPhase.COMPLETED, WorkflowExecutionPhase.FAILED})
_ENDED_ANALYSIS = frozenset({AIAnalysisPhase.COMPLETED, AIAnalysisPhase.FAILED})
_ENDED_PROCESSING = frozenset({SignalProcessingPhase.COMPLETED, SignalProcessingPhase.FAILED})


def _decision(
    seen: Observed,
    reason: str,
    new: Status,
    effects: tuple[Effect, ...],
    now: datetime,
    settings: OrchestratorSettings,
    *,
    rests: bool = False,
) -> Decision[Status]:
    changed = new != seen.request.status
    return Decision(reason, new if changed else None, effects, _wake(seen, new, now, settings), rests=rests)


def _wake(seen: Observed, new: Status, now: datetime, settings: OrchestratorSettings) -> datetime | None:
    phase = new.overall_phase
    if phase is None:
        return None
    if phase.terminal:
        due = new.retention_expiry_time
        return due if due is not None and due > now else None
    candidates: list[datetime] = []
    if deadline := timeouts.pending(seen.request, settings, new):
        candidates.append(deadline.at)
    if phase is Phase.BLOCKED:
        candidates.append(new.blocked_until or now + timedelta(seconds=settings.recheck_interval))
    if phase is Phase.AWAITING_APPROVAL and seen.approval is not None:
        candidates.append(seen.approval.spec.required_by + timeouts.APPROVAL_GRACE)
    return min(candidates, default=None)


def _told(seen: Observed, notify: Sequence[NotificationRequest], now: datetime) -> tuple[Effect, ...]:
    """Tell that the messages are wanted, and create them: what was sent must never be what nobody wanted."""
    created = (children.create(seen.request, notice) for notice in notify)
    return (*(facts.notified(seen.request, notice, now) for notice in notify), *created)


def _marked(status: Status, marks: Iterable[Mark], now: datetime, generation: int) -> tuple[conditions.Condition, ...]:
    result: tuple[conditions.Condition, ...] = status.conditions
    for mark in marks:
        result = conditions.with_condition(
            result,
            mark.type,
            status=mark.status,
            reason=mark.reason,
            message=mark.message[:1024],
            now=now,
            generation=generation,
        )
    return result


def _referenced(seen: Observed, notify: Sequence[NotificationRequest]) -> tuple[ObjectReference, ...]:
    known = {notice.name: notice.reference for notice in seen.notifications}
    old = seen.request.status.notification_request_refs
    names = {ref.name for ref in old}
    new = tuple(
        children.reference(seen.request, NotificationRequest, notice.name)
        for notice in notify
        if notice.name not in names
    )
    return (*(known.get(ref.name, ref) for ref in old), *new)[-50:]


def _known_children(seen: Observed) -> dict[str, ObjectReference]:
    """References to children that have been seen, now with their UIDs."""
    pairs: dict[str, CustomResource | None] = {
        "signal_processing_ref": seen.processing,
        "ai_analysis_ref": seen.analysis,
        "approval_request_ref": seen.approval,
        "workflow_execution_ref": seen.execution,
        "effectiveness_assessment_ref": seen.assessment,
    }
    return {field: child.reference for field, child in pairs.items() if child is not None}
