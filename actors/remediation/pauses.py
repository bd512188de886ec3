"""Blocked: entering it, waiting in it, and the three ways out (resume, take over another's outcome, give up the pause)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.remediation import children, facts, moves, summary
from actors.remediation.blocking import Block
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray import clock
from kubernaut_ray.control.decision import Decision
from kubernaut_ray.crds.enums import (
    BlockReason,
    FailurePhase,
    NotificationPriority,
    NotificationType,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.settings import Settings

Result = Decision[Status]


def enter(seen: Observed, block: Block, origin: Phase, now: datetime, settings: Settings) -> Result:
    """Block, or stay blocked with the reason that holds now. ``origin`` is the phase to go on from."""
    request, status = seen.request, seen.request.status
    fields: dict[str, Any] = {
        "block_reason": block.reason,
        "block_message": block.message,
        "blocked_until": block.until,
        "blocked_from": origin,
        "duplicate_of": block.duplicate_of,
        "blocking_workflow_execution": block.execution,
    }
    message = block.message[:1].upper() + block.message[1:]
    since = facts.entered(status)
    told = facts.fact(
        request,
        "routing.blocked",
        now,
        origin,
        block.reason,
        since.isoformat() if since else "",
        reason=str(block.reason),
        message=block.message,
        blocked_from=str(origin),
        blocked_until=clock.rfc3339(block.until) if block.until else "",
        duplicate_of=block.duplicate_of,
        blocking_execution=block.execution,
    )
    if status.overall_phase is Phase.BLOCKED:
        same = status.block_reason is block.reason
        return moves.stay(
            seen,
            "StillBlocked" if same else block.reason,
            now,
            settings.orchestrator,
            effects=() if same else (told,),
            message=message,
            **fields,
        )
    notify: tuple[NotificationRequest, ...] = ()
    if block.reason is BlockReason.CONSECUTIVE_FAILURES and block.until is not None:
        notify = (
            children.notification(
                request,
                "consecutive-failure",
                summary.paused(seen, message, block.until),
                type_=NotificationType.ESCALATION,
                priority=NotificationPriority.HIGH,
                metadata=summary.routing(seen, phase=Phase.BLOCKED, **{"skip-reason": block.reason}),
            ),
        )
    return moves.advance(
        seen,
        Phase.BLOCKED,
        block.reason,
        message,
        now,
        settings.orchestrator,
        effects=(told,),
        notify=notify,
        marks=(Mark(facts.BLOCKED_CONDITION, True, block.reason, block.message),),
        **fields,
    )


def resume(seen: Observed, origin: Phase, now: datetime, settings: Settings) -> Result:
    """Go on where the block fell."""
    status = seen.request.status
    kept: dict[str, Any] = {"start_time": status.start_time} if origin is Phase.PENDING else {}
    return moves.advance(
        seen,
        origin,
        "BlockOver",
        f"The block ({status.block_reason}) is over; going on",
        now,
        settings.orchestrator,
        block_reason=None,
        block_message="",
        blocked_until=None,
        blocked_from=None,
        duplicate_of="",
        blocking_workflow_execution="",
        **kept,
    )


def sat_out(seen: Observed, now: datetime, settings: Settings) -> Result:
    """The pause after failures in a row ends this request; the next signal may try again."""
    message = "The pause after failures in a row is over; the next signal may try again"
    return moves.finish(
        seen,
        Phase.FAILED,
        "PauseOver",
        message,
        now,
        settings.orchestrator,
        failure_phase=FailurePhase.BLOCKED,
        failure_reason=seen.request.status.block_message,
    )


def follow(seen: Observed, original: RemediationRequest, now: datetime, settings: Settings) -> Result:
    """Wait for the request that this one duplicates, then take over its outcome."""
    ended = original.status.overall_phase
    if ended is None or not ended.terminal:
        return moves.stay(seen, "DuplicateInProgress", now, settings.orchestrator)
    said = f"{original.name}, which this duplicates, ended as {ended}: {original.status.message}"
    if ended in {Phase.COMPLETED, Phase.CANCELLED}:
        return moves.finish(seen, ended, "Inherited", said, now, settings.orchestrator, outcome=original.status.outcome)
    return moves.finish(
        seen,
        Phase.FAILED,
        "Inherited",
        said,
        now,
        settings.orchestrator,
        failure_phase=FailurePhase.DEDUPLICATED,
        failure_reason=original.status.failure_reason or original.status.message,
        requires_manual_review=original.status.requires_manual_review,
        outcome=original.status.outcome,
    )
