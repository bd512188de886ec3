"""What a RemediationRequest does next: one match on its phase, one small function a phase. Pure and total.

Checked first, in any phase that is not terminal: called off by a person, out of time, resolved at the source before anything
was executed. An execution that exists wins over all verdicts on whether it should: a crash between creating it and writing
``Executing`` must lead to watching it, never to a second one.
"""

from __future__ import annotations

from datetime import datetime

from actors.remediation import (
    aftermath,
    analyses,
    approvals,
    blocking,
    children,
    endings,
    executions,
    facts,
    moves,
    pauses,
    timeouts,
    verification,
)
from actors.remediation.blocking import Stage
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray import names
from kubernaut_ray.contracts import recorded
from kubernaut_ray.control.decision import Decision
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    AIAnalysisReason,
    AIAnalysisSubReason,
    BlockReason,
    FailurePhase,
    NotificationPriority,
    SignalProcessingPhase,
    WorkflowExecutionPhase,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.settings import Settings

Result = Decision[Status]


def decide(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Return the request's next step."""
    request, phase = seen.request, seen.request.status.overall_phase
    if request.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    if phase is None:
        return _begin(seen, now, settings)
    if phase.terminal:
        return aftermath.ended(seen, now, settings)
    if names.ANNOTATION_CANCEL in request.metadata.annotations:
        return endings.cancelled(seen, now, settings)
    deadline = timeouts.pending(request, settings.orchestrator)
    if deadline is not None and now >= deadline.at and not _succeeded(seen):
        return endings.timed_out(seen, deadline, now, settings)
    if request.status.resolved is not None and not _executed(seen):
        return endings.resolved(seen, now, settings)
    match phase:
        case Phase.PENDING:
            return _pending(seen, now, settings)
        case Phase.PROCESSING:
            return _processing(seen, now, settings)
        case Phase.ANALYZING:
            return _analyzing(seen, now, settings)
        case Phase.AWAITING_APPROVAL:
            return approvals.awaiting(seen, now, settings)
        case Phase.EXECUTING:
            return executions.executing(seen, now, settings)
        case Phase.VERIFYING:
            return verification.verifying(seen, now, settings)
        case _:
            return _blocked(seen, now, settings)


def _begin(seen: Observed, now: datetime, settings: Settings) -> Result:
    request = seen.request
    spec = request.spec
    started = facts.fact(
        request,
        "lifecycle.started",
        now,
        signal=spec.signal_name,
        target=str(spec.target_resource),
        fingerprint=spec.signal_fingerprint,
        uid=request.uid,
        opened_by=request.metadata.labels.get(names.LABEL_MANAGED_BY, ""),
        **recorded.write(spec.to_object()),
    )
    message = f"{spec.signal_name} on {spec.target_resource} was received"
    return moves.advance(seen, Phase.PENDING, "Accepted", message, now, settings.orchestrator, effects=(started,))


def _pending(seen: Observed, now: datetime, settings: Settings) -> Result:
    if seen.routing is None:
        return moves.stay(seen, "RoutingUnknown", now, settings.orchestrator)
    request = seen.request
    verdict = blocking.judge(request, seen.routing, Stage.ANALYSIS, now=now, settings=settings.orchestrator)
    if verdict is not None:
        return executions.stop(seen, verdict, Phase.PENDING, now, settings)
    child = children.signal_processing(request, now, settings)
    return moves.advance(
        seen,
        Phase.PROCESSING,
        "SignalProcessingCreated",
        "The signal is being enriched and classified",
        now,
        settings.orchestrator,
        effects=(children.create(request, child),),
        marks=(Mark("SignalProcessingReady", True, "Created"),),
        signal_processing_ref=children.reference(request, SignalProcessing, child.name),
        consecutive_failure_count=blocking.failures_in_a_row(seen.routing.siblings),
    )


def _processing(seen: Observed, now: datetime, settings: Settings) -> Result:
    request = seen.request
    if seen.processing is None:
        again = children.create(request, children.signal_processing(request, now, settings))
        return moves.stay(seen, "SignalProcessingRecreated", now, settings.orchestrator, effects=(again,))
    status = seen.processing.status
    match status.phase:
        case SignalProcessingPhase.COMPLETED:
            done = Mark("SignalProcessingComplete", True, "Completed")
            return analyses.begin(
                seen, "SignalProcessed", "The cause is being investigated", now, settings, marks=(done,)
            )
        case SignalProcessingPhase.FAILED:
            why = f"The signal could not be processed: {status.error or 'no reason was given'}"
            mark = Mark("SignalProcessingComplete", False, "Failed", why)
            return endings.failed(
                seen, FailurePhase.SIGNAL_PROCESSING, "SignalProcessingFailed", why, now, settings, marks=(mark,)
            )
        case _:
            return moves.stay(seen, "WaitingForSignalProcessing", now, settings.orchestrator)


def _analyzing(seen: Observed, now: datetime, settings: Settings) -> Result:
    analysis = seen.analysis
    if seen.execution is not None:
        return executions.watch(seen, seen.execution, now, settings)
    if analysis is None:
        return analyses.again(seen, now, settings)
    status = analysis.status
    match status.phase:
        case AIAnalysisPhase.COMPLETED if status.reason is AIAnalysisReason.WORKFLOW_NOT_NEEDED:
            return endings.not_needed(seen, status.message, now, settings)
        case AIAnalysisPhase.COMPLETED:
            workflow = status.selected_workflow
            if workflow is None:
                return endings.manual_review(seen, "The analysis selected no workflow", now, settings)
            if status.approval_required is False or executions.dry(seen, settings):
                return executions.start(seen, workflow, now, settings)
            return approvals.ask(seen, analysis, workflow, now, settings)
        case AIAnalysisPhase.FAILED if status.reason in _FOR_A_PERSON:
            why = status.message or f"{status.reason} ({status.sub_reason})"
            return endings.manual_review(
                seen,
                why,
                now,
                settings,
                priority=_review_priority(status.sub_reason),
                sub_reason=status.sub_reason or "",
            )
        case AIAnalysisPhase.FAILED:
            why = f"The investigation failed: {status.message or status.reason or 'no reason was given'}"
            mark = Mark("AIAnalysisComplete", False, "Failed", why)
            return endings.failed(seen, FailurePhase.AI_ANALYSIS, "AIAnalysisFailed", why, now, settings, marks=(mark,))
        case _:
            return moves.stay(seen, "WaitingForAnalysis", now, settings.orchestrator)


def _blocked(seen: Observed, now: datetime, settings: Settings) -> Result:
    status = seen.request.status
    if seen.execution is not None:
        return executions.watch(seen, seen.execution, now, settings)
    over = status.blocked_until is None or now >= status.blocked_until
    match status.block_reason:
        case BlockReason.CONSECUTIVE_FAILURES if over:
            return pauses.sat_out(seen, now, settings)
        case BlockReason.DUPLICATE_IN_PROGRESS if seen.original is not None:
            return pauses.follow(seen, seen.original, now, settings)
        case _ if not over or seen.routing is None:
            return moves.stay(seen, "StillBlocked", now, settings.orchestrator)
    origin = status.blocked_from or Phase.PENDING
    chosen = seen.analysis.status.selected_workflow if seen.analysis is not None else None
    verdict = blocking.judge(
        seen.request,
        seen.routing,
        Stage.ANALYSIS if origin is Phase.PENDING else Stage.EXECUTION,
        workflow_id=chosen.workflow_id if chosen else "",
        now=now,
        settings=settings.orchestrator,
    )
    if verdict is not None:
        return executions.stop(seen, verdict, origin, now, settings)
    return pauses.resume(seen, origin, now, settings)


def _succeeded(seen: Observed) -> bool:
    return seen.execution is not None and seen.execution.status.phase is WorkflowExecutionPhase.COMPLETED


def _executed(seen: Observed) -> bool:
    status = seen.request.status
    begun = status.overall_phase in {Phase.EXECUTING, Phase.VERIFYING}
    there = seen.execution is not None and not seen.execution.spec.dry_run
    return begun or there or bool(status.previous_executions)


_FOR_A_PERSON = frozenset({AIAnalysisReason.WORKFLOW_RESOLUTION_FAILED, AIAnalysisReason.NO_WORKFLOW_SELECTED})
_MODERATE = frozenset(
    {
        AIAnalysisSubReason.NO_MATCHING_WORKFLOWS,
        AIAnalysisSubReason.LOW_CONFIDENCE,
        AIAnalysisSubReason.INVESTIGATION_INCONCLUSIVE,
    }
)


def _review_priority(sub_reason: AIAnalysisSubReason | None) -> NotificationPriority:
    return NotificationPriority.MEDIUM if sub_reason in _MODERATE else NotificationPriority.HIGH
