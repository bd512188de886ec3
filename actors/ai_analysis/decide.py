"""What becomes of an analysis. Pure and total: one function a phase, each fits a screen.

The HolmesGPT-API is observed like a child. An investigation that failed for a passing reason is tried again under a new id,
with a backoff that lies in the status; a service that is merely away is waited for until the deadline, since its restart
says nothing about the investigation.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, assert_never

from pydantic import ValidationError

from actors.ai_analysis import answer
from actors.ai_analysis.approval import ApprovalVerdict, approval_context
from actors.ai_analysis.events import fact, found
from actors.ai_analysis.observe import NotAsked, NotStarted, Observed, Refused, Unreachable
from actors.ai_analysis.request import build_request, session_id
from kubernaut_ray import clock, conditions
from kubernaut_ray.contracts.investigation import IncidentResponse, InvestigationSession, SessionState
from kubernaut_ray.control.decision import Audit, Call, Decision, Effect
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisStatus
from kubernaut_ray.crds.enums import AIAnalysisPhase as Phase
from kubernaut_ray.crds.enums import AIAnalysisReason as Reason
from kubernaut_ray.crds.enums import AIAnalysisSubReason as Sub
from kubernaut_ray.crds.enums import AuditOutcome
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import Settings

Result = Decision[AIAnalysisStatus]

PERFORMER = "holmesgpt"
POLL_FIRST, POLL_MOST = 0.25, 5.0
"""Seconds between looks at a running investigation: each 1.5 times the one before."""
UNREACHABLE_POLL = 2.0
_TOO_MANY = 429


def decide(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Return the analysis's next step."""
    analysis = seen.analysis
    if analysis.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    match analysis.status.phase:
        case None:
            status = analysis.status.replace(
                phase=Phase.PENDING,
                started_at=now,
                observed_generation=analysis.metadata.generation,
                message="Accepted",
            )
            return Decision("Accepted", status, (_moved(analysis, Phase.PENDING, now),))
        case Phase.PENDING:
            return _pending(seen, now, settings)
        case Phase.INVESTIGATING:
            return _investigating(seen, now, settings)
        case Phase.ANALYZING:
            return _analyzing(seen, now)
        case Phase.COMPLETED | Phase.FAILED as ended:
            return Decision(str(ended), settled=True)
        case unknown:
            assert_never(unknown)


def _pending(seen: Observed, now: datetime, settings: Settings) -> Result:
    analysis, spec = seen.analysis, seen.analysis.spec
    if spec.is_recovery_attempt != bool(spec.previous_executions):
        wrong = (
            "isRecoveryAttempt without previousExecutions"
            if spec.is_recovery_attempt
            else "previousExecutions without isRecoveryAttempt"
        )
        return _fail(analysis, Reason.INVALID_SPEC, Sub.VALIDATION_ERROR, f"the spec contradicts itself: {wrong}", now)
    if now >= _deadline(analysis):
        return _too_late(analysis, "before the investigation began", now)
    return Decision(
        "InvestigationStarts",
        _with(
            analysis,
            now,
            ("InvestigationComplete", False, "InProgress", ""),
            phase=Phase.INVESTIGATING,
            investigation_id=session_id(analysis),
            message="Investigating",
        ),
        (_start(analysis, settings), *_started(analysis, now)),
        wake_at=now + timedelta(seconds=POLL_FIRST),
    )


def _investigating(seen: Observed, now: datetime, settings: Settings) -> Result:
    analysis, retry_at = seen.analysis, seen.analysis.status.next_retry_at
    deadline = _deadline(analysis)
    found = seen.investigation
    if not (isinstance(found, InvestigationSession) and found.state is SessionState.DONE):
        if now >= deadline:
            return _too_late(analysis, _so_far(found), now)
        if retry_at is not None and now < retry_at:
            return Decision("BackingOff", wake_at=min(retry_at, deadline))
    match found:
        case NotAsked() | NotStarted():
            # Its id is in the status already; what started it may have died, or its store may have been emptied.
            wake_at = min(now + timedelta(seconds=POLL_FIRST), deadline)
            # The fact first: once the call is made, what is seen is the investigation, and nobody comes back here to tell.
            effects = (_called(analysis, now), _start(analysis, settings))
            return Decision("InvestigationStarts", effects=effects, wake_at=wake_at)
        case Unreachable():
            wait = found.after if found.after is not None else UNREACHABLE_POLL
            return Decision("HolmesGptUnreachable", wake_at=min(now + timedelta(seconds=wait), deadline))
        case Refused():
            return _fail(analysis, Reason.API_ERROR, Sub.PERMANENT_ERROR, found.message, now)
        case InvestigationSession(state=SessionState.DONE, response=IncidentResponse() as response):
            return _answered(analysis, response, now, settings)
        case InvestigationSession(state=SessionState.FAILED | SessionState.DONE):
            return _failed_investigation(analysis, found, now, settings)
        case InvestigationSession():
            waited = max(0.0, (now - found.created_at).total_seconds())
            wait = min(POLL_FIRST + waited / 2, POLL_MOST)
            return Decision("Investigating", wake_at=min(now + timedelta(seconds=wait), deadline))
        case unknown:
            assert_never(unknown)


def _answered(analysis: AIAnalysis, response: IncidentResponse, now: datetime, settings: Settings) -> Result:
    told = {**answer.told(response), "next_retry_at": None}
    if response.needs_human_review:
        sub = (
            answer.SUB_REASONS[response.human_review_reason]
            if response.human_review_reason
            else Sub.INVESTIGATION_INCONCLUSIVE
        )
        why = f"A person must take over ({sub}): {response.root_cause_analysis.summary}"
        return _fail(analysis, Reason.WORKFLOW_RESOLUTION_FAILED, sub, why, now, **told)
    chosen = response.selected_workflow
    if response.resolved or (chosen is None and response.confidence >= settings.analysis.review_threshold):
        message = f"No workflow is needed: {response.root_cause_analysis.summary}"
        return _complete(
            analysis,
            Reason.WORKFLOW_NOT_NEEDED,
            message,
            now,
            sub_reason=Sub.PROBLEM_RESOLVED,
            approval_required=False,
            **told,
        )
    if chosen is None:
        return _fail(
            analysis,
            Reason.NO_WORKFLOW_SELECTED,
            Sub.NO_MATCHING_WORKFLOWS,
            "The investigation selected no workflow",
            now,
            **told,
        )
    if chosen.confidence < settings.analysis.review_threshold:
        why = f"Confidence {chosen.confidence:.2f} is below {settings.analysis.review_threshold:.2f}"
        return _fail(analysis, Reason.WORKFLOW_RESOLUTION_FAILED, Sub.LOW_CONFIDENCE, why, now, **told)
    try:
        selected = answer.selected(chosen)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        why = f"The selected workflow cannot be recorded; wrong are: {fields}"
        return _fail(analysis, Reason.WORKFLOW_RESOLUTION_FAILED, Sub.VALIDATION_ERROR, why, now, **told)
    status = _with(
        analysis,
        now,
        ("InvestigationComplete", True, "Answered", f"answered by {response.model}"),
        ("WorkflowSelected", True, "WorkflowSelected", selected.workflow_name),
        phase=Phase.ANALYZING,
        message=f"{selected.workflow_name} was selected with confidence {selected.confidence:.2f}",
        selected_workflow=selected,
        **told,
    )
    return Decision("WorkflowSelected", status, (_moved(analysis, Phase.ANALYZING, now),))


def _failed_investigation(
    analysis: AIAnalysis, session: InvestigationSession, now: datetime, settings: Settings
) -> Result:
    """Try again under a new id, later; or give up."""
    error, failures = session.error, analysis.status.consecutive_failures + 1
    message = error.message if error else "the investigation ended without an answer"
    if error is not None and not error.retryable:
        return _fail(analysis, Reason.API_ERROR, Sub.PERMANENT_ERROR, message, now, consecutive_failures=failures)
    if failures >= settings.analysis.max_attempts:
        why = f"{failures} investigations failed, the last one: {message}"
        return _fail(analysis, Reason.API_ERROR, Sub.MAX_RETRIES_EXCEEDED, why, now, consecutive_failures=failures)
    base = settings.analysis.retry_base * (2 if error is not None and error.status == _TOO_MANY else 1)
    wait = min(base * 2 ** (failures - 1), settings.analysis.retry_max) * _jitter(analysis.uid, failures)
    retry_at = now + timedelta(seconds=wait)
    renumbered = analysis.replace(status=analysis.status.replace(consecutive_failures=failures))
    status = renumbered.status.replace(
        investigation_id=session_id(renumbered),
        next_retry_at=retry_at,
        message=answer.clip(f"Investigation {failures} failed and is tried again: {message}", answer.LONG),
    )
    event = fact(
        analysis, "error.occurred", now, str(failures), outcome=AuditOutcome.FAILURE, error=redact(answer.clip(message, 2000)), attempt=failures
    )  # fmt: skip
    return Decision("InvestigationFailed", status, (event,), wake_at=min(retry_at, _deadline(analysis)))


def _analyzing(seen: Observed, now: datetime) -> Result:
    analysis, chosen = seen.analysis, seen.analysis.status.selected_workflow
    if chosen is None:
        return _fail(
            analysis, Reason.NO_WORKFLOW_SELECTED, Sub.VALIDATION_ERROR, "There is no selected workflow to judge", now
        )
    verdict = seen.verdict or ApprovalVerdict(True, "the approval policy was not asked", degraded=True)
    context = approval_context(analysis.status, chosen, verdict) if verdict.required else None
    asked = f"approval is required: {verdict.reason}" if verdict.required else "approval is not required"
    effects = (
        fact(
            analysis, "rego.evaluation", now, verdict.policy_hash, policy_hash=verdict.policy_hash, degraded=verdict.degraded,
            matched_rules=list(verdict.evaluation.matched_rules),
            outcome=AuditOutcome.FAILURE if verdict.degraded else AuditOutcome.SUCCESS,
        ),
        fact(
            analysis, "approval.decision", now, approval_required=verdict.required, reason=verdict.reason,
            confidence=chosen.confidence, policy_hash=verdict.policy_hash, environment=analysis.spec.analysis_request.signal_context.environment.value,
            decision=verdict.evaluation.decision.value,
        ),
    )  # fmt: skip
    return _complete(
        analysis,
        Reason.WORKFLOW_SELECTED,
        answer.clip(
            f"{chosen.workflow_name} {chosen.version} (confidence {chosen.confidence:.2f}); {asked}", answer.LONG
        ),
        now,
        effects=effects,
        marks=(
            (
                "ApprovalRequired",
                verdict.required,
                "PolicyDegraded" if verdict.degraded else "PolicyEvaluated",
                verdict.reason,
            ),
        ),
        approval_required=verdict.required,
        approval_reason=verdict.reason if verdict.required else "",
        approval_context=context,
        degraded_mode=verdict.degraded,
    )


def _complete(
    analysis: AIAnalysis,
    reason: Reason,
    message: str,
    now: datetime,
    *,
    effects: tuple[Effect, ...] = (),
    marks: tuple[tuple[str, bool, str, str], ...] = (),
    **changes: Any,
) -> Result:
    marks = (
        ("InvestigationComplete", True, "Answered", ""),
        *marks,
        ("Ready", True, str(reason), answer.clip(message, answer.SHORT)),
    )
    return _end(analysis, Phase.COMPLETED, reason, message, now, effects, marks, changes)


def _fail(analysis: AIAnalysis, reason: Reason, sub: Sub, message: str, now: datetime, **changes: Any) -> Result:
    marks = (("Ready", False, str(sub), answer.clip(message, answer.SHORT)),)
    event = fact(
        analysis, "error.occurred", now, "final", outcome=AuditOutcome.FAILURE, reason=reason.value, sub_reason=sub.value,
        error=redact(answer.clip(message, 2000)),
    )  # fmt: skip
    return _end(analysis, Phase.FAILED, reason, message, now, (event,), marks, {**changes, "sub_reason": sub})


def _end(
    analysis: AIAnalysis,
    phase: Phase,
    reason: Reason,
    message: str,
    now: datetime,
    effects: tuple[Effect, ...],
    marks: tuple[tuple[str, bool, str, str], ...],
    changes: dict[str, Any],
) -> Result:
    seconds = (now - (analysis.status.started_at or now)).total_seconds()
    status = _with(
        analysis,
        now,
        *marks,
        **{
            **changes,
            "phase": phase,
            "reason": reason,
            "message": answer.clip(message, answer.LONG),
            "completed_at": now,
            "total_analysis_time": max(0.0, seconds),
            "next_retry_at": None,
        },
    )
    chosen = status.selected_workflow
    event = fact(
        analysis, "analysis.completed", now, seconds=seconds, phase=phase.value, reason=reason.value,
        outcome=AuditOutcome.SUCCESS if phase is Phase.COMPLETED else AuditOutcome.FAILURE,
        workflow=chosen.workflow_name if chosen else None, confidence=status.confidence, model=status.investigated_by or None,
        sub_reason=status.sub_reason.value if status.sub_reason else None, approval_required=status.approval_required,
        message=redact(answer.clip(message, 2000)), **found(status),
    )  # fmt: skip
    return Decision(str(status.sub_reason or reason), status, (*effects, event, _moved(analysis, phase, now)))


def _too_late(analysis: AIAnalysis, so_far: str, now: datetime) -> Result:
    message = f"The deadline of {clock.rfc3339(_deadline(analysis))} has passed {so_far}"
    return _fail(analysis, Reason.TIMED_OUT, Sub.TRANSIENT_ERROR, message, now)


def _so_far(found: object) -> str:
    match found:
        case InvestigationSession():
            return f"while the investigation was {found.state}"
        case Unreachable():
            return f"while the HolmesGPT-API could not be reached: {found.message}"
        case _:
            return "before the investigation ended"


def _start(analysis: AIAnalysis, settings: Settings) -> Call:
    return Call(PERFORMER, session_id(analysis), build_request(analysis, cluster_name=settings.cluster_name).to_json())


def _started(analysis: AIAnalysis, now: datetime) -> tuple[Audit, ...]:
    return _called(analysis, now), _moved(analysis, Phase.INVESTIGATING, now)


def _called(analysis: AIAnalysis, now: datetime) -> Audit:
    """The fact that an investigation was asked for; one fact a session, however often it is asked for."""
    session = session_id(analysis)
    return fact(
        analysis, "holmesgpt.call", now, session, session_id=session,
        is_recovery_attempt=analysis.spec.is_recovery_attempt,
    )  # fmt: skip


def _moved(analysis: AIAnalysis, phase: Phase, now: datetime) -> Audit:
    old = str(analysis.status.phase or "")
    return fact(analysis, "phase.transition", now, old, phase.value, old_phase=old, new_phase=phase.value)


def _deadline(analysis: AIAnalysis) -> datetime:
    """The earlier of the investigation's own limit and the deadline that the orchestrator gave."""
    spec = analysis.spec
    own = (analysis.status.started_at or analysis.created) + clock.parse_duration(
        spec.timeout_config.investigating_timeout
    )
    return min(own, spec.deadline) if spec.deadline is not None else own


def _jitter(uid: str, attempt: int) -> float:
    """Between 0.9 and 1.1, the same whenever it is derived."""
    return 0.9 + hashlib.sha256(f"{uid}/{attempt}".encode()).digest()[0] / 255 * 0.2


def _with(analysis: AIAnalysis, now: datetime, *marks: tuple[str, bool, str, str], **changes: Any) -> AIAnalysisStatus:
    found = analysis.status.conditions
    for type_, status, reason, message in marks:
        found = conditions.with_condition(
            found, type_, status=status, reason=reason, message=answer.clip(message, answer.SHORT), now=now,
            generation=analysis.metadata.generation,
        )  # fmt: skip
    return analysis.status.replace(conditions=found, **changes)
