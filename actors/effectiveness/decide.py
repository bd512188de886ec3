"""What an EffectivenessAssessment does next: wait, look, and say what it came to. Pure and total.

Nothing is judged before the target has had its time, and a verdict is given as soon as no further look can change it. What is
bad for good (a crash loop, a changed spec) ends at once; what may yet become well (a roll-out, an alert that still decays) is
waited for until the assessment's validity is over. After the end the verdict is told to the catalog, once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_never

from actors.effectiveness import score
from actors.effectiveness.alerts import Signal
from actors.effectiveness.observe import Observed
from actors.effectiveness.windows import Windows, problem, windows
from kubernaut_ray import conditions
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.statistics import EffectivenessRecord
from kubernaut_ray.control.decision import Audit, Call, Decision
from kubernaut_ray.crds.effectiveness_assessment import (
    Component,
    Components,
    EffectivenessAssessment,
    EffectivenessAssessmentStatus,
)
from kubernaut_ray.crds.enums import AssessmentPhase as Phase
from kubernaut_ray.crds.enums import AssessmentReason as Reason
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome, WorkflowExecutionPhase
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import EffectivenessSettings

Status = EffectivenessAssessmentStatus
Result = Decision[Status]

ACTOR = "effectiveness-controller"
RECORD = "effectiveness.record"
"""The performer that tells the catalog what an assessment came to."""
RECORDED = "StatisticsRecorded"
_TEXT = 4000


def decide(seen: Observed, now: datetime, settings: EffectivenessSettings) -> Result:
    """Return the assessment's next step."""
    assessment = seen.assessment
    if assessment.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    phase = assessment.status.phase
    match phase:
        case None:
            return _begin(assessment, now)
        case Phase.PENDING:
            return _pending(seen, now)
        case Phase.WAITING_FOR_PROPAGATION:
            return _propagating(seen, now)
        case Phase.STABILIZING:
            return _stabilizing(seen, now)
        case Phase.ASSESSING:
            return _assessing(seen, now, settings)
        case Phase.COMPLETED | Phase.FAILED:
            return _over(assessment, now)
        case _:
            assert_never(phase)


def _begin(assessment: EffectivenessAssessment, now: datetime) -> Result:
    status = assessment.status.replace(
        phase=Phase.PENDING,
        started_at=now,
        valid_until=windows(assessment, now).valid_until,
        observed_generation=assessment.metadata.generation,
        message="Accepted",
    )
    told = _fact(
        assessment, "started", AuditOutcome.PENDING, now, valid_until=rfc3339(windows(assessment, now).valid_until)
    )
    return Decision("Accepted", status, (told,), wake_at=now)


def _pending(seen: Observed, now: datetime) -> Result:
    assessment = seen.assessment
    if why := problem(assessment):
        return _end(assessment, Reason.UNRECOVERABLE, Components(), now, why)
    if (ended := _pointless(seen, now)) is not None:
        return ended
    at = windows(assessment, now)
    if at.propagated > now:
        message = f"Waiting until {at.propagated:%H:%M:%S} UTC for GitOps to carry the change to the cluster"
        return _enter(assessment, Phase.WAITING_FOR_PROPAGATION, message, at.propagated)
    return _stabilize(assessment, at)


def _propagating(seen: Observed, now: datetime) -> Result:
    if (ended := _pointless(seen, now)) is not None:
        return ended
    at = windows(seen.assessment, now)
    if now < at.propagated:
        return Decision("WaitingForPropagation", wake_at=min(at.propagated, at.valid_until))
    return _stabilize(seen.assessment, at)


def _stabilize(assessment: EffectivenessAssessment, at: Windows) -> Result:
    message = f"The target is left alone until {at.stabilized:%H:%M:%S} UTC"
    return _enter(assessment, Phase.STABILIZING, message, min(at.hash_at, at.stabilized))


def _stabilizing(seen: Observed, now: datetime) -> Result:
    assessment, status = seen.assessment, seen.assessment.status
    if (ended := _pointless(seen, now)) is not None:
        return ended
    at = windows(assessment, now)
    if (drifted := _drift(seen, now)) is not None:
        return drifted
    if now < max(at.stabilized, at.hash_at):
        wake = at.stabilized if now >= at.hash_at else min(at.hash_at, at.valid_until)
        if now >= at.hash_at and not status.post_remediation_spec_hash and seen.target.spec_hash:
            return Decision("SpecHashed", _hashed(seen), wake_at=min(wake, at.valid_until))
        return Decision("Stabilizing", wake_at=min(wake, at.valid_until))
    message = "Looking at the target, the signal and the metrics"
    assessing = _hashed(seen).replace(phase=Phase.ASSESSING, message=message)
    return Decision("AssessmentBegins", assessing, wake_at=now)


def _assessing(seen: Observed, now: datetime, settings: EffectivenessSettings) -> Result:
    assessment = seen.assessment
    at = windows(assessment, now)
    last = now >= at.valid_until
    found = Components(health=_health(seen), alert=_alert(seen), metrics=_metrics(seen))
    if (drifted := _drift(seen, now, found)) is not None:
        return drifted
    if _gone(seen):
        return _end(assessment, Reason.NO_EXECUTION, Components(), now, "the execution is gone")
    waiting = () if last else tuple(_waiting(seen, found, at, now))
    if waiting:
        status = assessment.status.replace(components=found, message=f"Waiting: {'; '.join(waiting)}"[:_TEXT])
        wake = min(now + timedelta(seconds=max(settings.poll_interval, 0.1)), at.valid_until)
        # Measured values differ at every look; written each time, their own event would ask for the next look at once.
        changed = status.message != assessment.status.message
        return Decision("Assessing", status if changed else None, wake_at=wake)
    reason, wanted = _reason(seen, found, last=last), seen.metrics.wanted
    return _end(assessment, reason, found, now, threshold=settings.threshold, wanted=wanted)


def _waiting(seen: Observed, found: Components, at: Windows, now: datetime) -> list[str]:
    """What a later look may still change for the better."""
    reasons = []
    coming_up = seen.target.pods is not None and seen.target.pods.coming_up
    if coming_up:
        reasons.append(f"the target is coming up ({found.health.details})")
    well = found.health.score is None or found.health.score >= 1.0
    if seen.heard.signal is Signal.FIRING and (well or coming_up):
        reasons.append("the target is well and the signal still fires")
    if seen.heard.signal is Signal.UNKNOWN and (seen.heard.unreachable or now < at.alert_at):
        reasons.append(seen.heard.details)
    if seen.metrics.unreachable:
        reasons.append(seen.metrics.problem)
    return reasons


def _reason(seen: Observed, found: Components, *, last: bool) -> Reason:
    scored = [part for part in (found.health, found.alert, found.metrics) if part.score is not None]
    well = found.health.score is None or found.health.score >= 1.0
    if not scored and last:
        return Reason.EXPIRED
    if last and well and seen.heard.signal is Signal.FIRING:
        return Reason.ALERT_DECAY_TIMEOUT
    if last and seen.metrics.unreachable:
        return Reason.METRICS_TIMED_OUT
    return Reason.FULL if len(scored) == 2 + seen.metrics.wanted else Reason.PARTIAL


def _health(seen: Observed) -> Component:
    target = seen.target
    if target.gone and seen.assessment.spec.remediation_target.kind == "Pod":
        return Component(details=f"{target.problem}; what has taken its place is not known")
    if target.gone:
        return Component(score=0.0, details=target.problem)
    return score.health(target.pods) if target.pods is not None else Component(details=target.problem[:_TEXT])


def _alert(seen: Observed) -> Component:
    worth = {Signal.RESOLVED: 1.0, Signal.FIRING: 0.0, Signal.UNKNOWN: None}[seen.heard.signal]
    return Component(score=worth, details=seen.heard.details[:_TEXT])


def _metrics(seen: Observed) -> Component:
    if seen.metrics.problem:
        return Component(details=seen.metrics.problem[:_TEXT])
    return score.metrics(seen.metrics.measured)


def _drift(seen: Observed, now: datetime, found: Components | None = None) -> Result | None:
    """End where the spec is not what the workflow left: somebody else is at work on the target."""
    left, is_now = seen.assessment.status.post_remediation_spec_hash, seen.target.spec_hash
    if not left or not is_now or left == is_now:
        return None
    back = is_now == seen.assessment.spec.pre_remediation_spec_hash
    how = "put back to what it was before the remediation" if back else "changed by somebody else"
    why = f"The spec of {seen.assessment.spec.target} was {how} while the effect was being judged"
    return _end(seen.assessment, Reason.SPEC_DRIFT, found or seen.assessment.status.components, now, why)


def _pointless(seen: Observed, now: datetime) -> Result | None:
    """End where there is nothing to be judged, or no time left for it."""
    if _gone(seen):
        why = f"{seen.assessment.spec.workflow_execution_ref.name} is gone, or did not complete"
        return _end(seen.assessment, Reason.NO_EXECUTION, Components(), now, why)
    if now >= windows(seen.assessment, now).valid_until:
        return _end(
            seen.assessment, Reason.EXPIRED, Components(), now, "Its time was up before anything could be judged"
        )
    return None


def _gone(seen: Observed) -> bool:
    return seen.execution is None or seen.execution.status.phase is not WorkflowExecutionPhase.COMPLETED


def _hashed(seen: Observed) -> Status:
    """What the spec is now, the workflow left; told once, and not where the target cannot be read."""
    status, before = seen.assessment.status, seen.assessment.spec.pre_remediation_spec_hash
    found = status.post_remediation_spec_hash or seen.target.spec_hash
    known = bool(found and before)
    return status.replace(post_remediation_spec_hash=found, spec_changed=found != before if known else None)


def _enter(assessment: EffectivenessAssessment, phase: Phase, message: str, wake_at: datetime) -> Result:
    return Decision(str(phase), assessment.status.replace(phase=phase, message=message), wake_at=wake_at)


def _end(
    assessment: EffectivenessAssessment,
    reason: Reason,
    found: Components,
    now: datetime,
    why: str = "",
    *,
    threshold: float = 0.0,
    wanted: bool = True,
) -> Result:
    total = score.overall(found, reason)
    helped = False if reason is Reason.SPEC_DRIFT else score.effective(total, found, threshold)
    message = why or _summary(total, helped, found, wanted=wanted)
    status = assessment.status.replace(
        phase=Phase.FAILED if reason is Reason.UNRECOVERABLE else Phase.COMPLETED,
        reason=reason,
        message=message[:_TEXT],
        completed_at=now,
        components=found,
        score=total,
        effective=helped,
        conditions=conditions.with_condition(
            assessment.status.conditions,
            "Effective",
            status=helped,
            reason=str(reason),
            message=message[:1000],
            now=now,
        ),
    )
    told = _fact(
        assessment.replace(status=status),
        "completed",
        AuditOutcome.FAILURE if helped is False or reason is Reason.UNRECOVERABLE else AuditOutcome.SUCCESS,
        now,
        reason=str(reason),
        message=message,
        score=total,
        effective=helped,
        components={
            name: {"score": part.score, "details": redact(part.details)}
            for name, part in (("health", found.health), ("alert", found.alert), ("metrics", found.metrics))
        },
        spec_changed=status.spec_changed,
        pre_remediation_spec_hash=assessment.spec.pre_remediation_spec_hash,
        post_remediation_spec_hash=status.post_remediation_spec_hash,
    )
    return Decision(str(reason), status, (told,), wake_at=now)


def _summary(total: float | None, helped: bool | None, found: Components, *, wanted: bool) -> str:
    """The verdict and what it rests on; of metrics nothing where nobody wanted any (``wanted``)."""
    if total is None:
        verdict = "Nothing could be judged"
    else:
        verdict = f"{'It helped' if helped else 'It did not help'} (score {total:.2f})"
    parts = [("health", found.health), ("signal", found.alert)]
    if wanted:
        parts.append(("metrics", found.metrics))
    return f"{verdict}. " + "; ".join(f"{name}: {part.details}" for name, part in parts if part.details)


def _over(assessment: EffectivenessAssessment, now: datetime) -> Result:
    """Tell the catalog what was found, where something was."""
    status = assessment.status
    if status.effective is None or conditions.find(status.conditions, RECORDED) is not None:
        return Decision("Over")
    spec = assessment.spec
    record = EffectivenessRecord(
        execution_id=spec.workflow_execution_ref.uid,
        workflow_id=spec.workflow.workflow_id,
        environment=spec.environment.value,
        target=spec.target,
        remediation_id=spec.correlation_id,
        effective=status.effective,
        score=status.score or 0.0,
        reason=str(status.reason or ""),
        assessed_at=status.completed_at or now,
    )
    marked = conditions.with_condition(status.conditions, RECORDED, status=True, reason="Recorded", now=now)
    call = Call(RECORD, assessment.uid, {"record": record})
    return Decision("Recorded", status.replace(conditions=marked), (call,))


def _fact(assessment: EffectivenessAssessment, what: str, outcome: AuditOutcome, now: datetime, **data: Any) -> Audit:
    """The fact that the assessment began, or what it came to."""
    spec, status = assessment.spec, assessment.status
    texts = {key: redact(value) if isinstance(value, str) else value for key, value in data.items()}
    return Audit(
        AuditEvent.fact(
            f"effectiveness.assessment.{what}",
            correlation_id=spec.correlation_id,
            category=AuditCategory.EFFECTIVENESS,
            now=now,
            outcome=outcome,
            actor=ACTOR,
            # What a process told that then died is another fact where its successor judged otherwise.
            key=(assessment.uid, str(outcome)),
            resource_type=assessment.kind(),
            resource_id=assessment.name,
            namespace=assessment.namespace,
            duration_ms=int((now - status.started_at).total_seconds() * 1000) if status.started_at else None,
            event_data={
                "execution": spec.workflow_execution_ref.name,
                "workflow_id": spec.workflow.workflow_id,
                "workflow_name": spec.workflow.workflow_name,
                "version": spec.workflow.version,
                "target_resource": spec.target,
                "environment": spec.environment.value,
                **texts,
            },
        )
    )
