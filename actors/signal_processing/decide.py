"""What follows from what a phase found: the next phase, conditions, audit facts, or another try. Pure.

    Pending → Enriching → Classifying → Categorizing → Completed

Only enriching can fail, by a fault of the API server; it is tried again with growing delays that the status keeps, so
that neither a restart nor our own status write shortens them. Policies that give no answer do not stop an incident: the
safe word stands in, and the condition says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from actors.signal_processing.classify import Categorization, Classification
from actors.signal_processing.enrich import Enriched, NotEnriched
from actors.signal_processing.observe import Observed
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.conditions import with_condition
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit, Decision
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome, CategorizationReason, ClassificationReason
from kubernaut_ray.crds.enums import ProcessingReason as Processing
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase
from kubernaut_ray.crds.signal_processing import (
    EnvironmentClassification,
    PriorityAssignment,
    SignalProcessing,
    SignalProcessingStatus,
)
from kubernaut_ray.settings import SignalProcessingSettings

ACTOR = "signal-processing"
RETRY_BASE = timedelta(seconds=1)
RETRY_MAX = timedelta(seconds=60)
MAX_MESSAGE = 4096

ENRICHED = "EnrichmentComplete"
CLASSIFIED = "ClassificationComplete"
CATEGORIZED = "CategorizationComplete"
PROCESSED = "ProcessingComplete"

Next = Decision[SignalProcessingStatus]


def decide(observed: Observed, now: datetime, settings: SignalProcessingSettings) -> Next:
    """Return the next step of one SignalProcessing."""
    step = _Step(observed.processing, now, settings)
    status = observed.processing.status
    if status.phase in (Phase.COMPLETED, Phase.FAILED):
        return Decision(f"Already{status.phase}", settled=True)
    if status.phase is None:
        return step.move(Phase.PENDING, "Accepted", {"start_time": now})
    deadline = observed.processing.spec.deadline
    if deadline is not None and now >= deadline:
        return step.fail(f"not done by {rfc3339(deadline)}, when the orchestrator gives up")
    if status.phase is Phase.PENDING:
        return step.move(Phase.ENRICHING, "EnrichmentStarted", {})
    if status.next_retry_at is not None and now < status.next_retry_at:
        return Decision("RetryNotDue", wake_at=_earliest(status.next_retry_at, deadline))
    match observed.finding:
        case Enriched() as finding:
            return step.enriched(finding)
        case NotEnriched() as finding:
            return step.not_enriched(finding)
        case Classification() as finding:
            return step.classified(finding)
        case Categorization() as finding:
            return step.categorized(finding)
        case None:
            # The retry became due between looking and deciding.
            return Decision("LookAgain", wake_at=now)


def retry_delay(failures: int) -> timedelta:
    """Return the delay after the n-th failure in a row: 1 s, 2 s, 4 s … at most a minute."""
    return min(RETRY_BASE * (1 << (min(failures, 16) - 1)), RETRY_MAX)


@dataclass(frozen=True, slots=True)
class _Step:
    processing: SignalProcessing
    now: datetime
    settings: SignalProcessingSettings

    def enriched(self, found: Enriched) -> Next:
        context = found.context
        conditions = self._with(ENRICHED, reason=found.reason, message=found.message)
        fact = self._fact(
            "signalprocessing.enrichment.completed",
            reason=found.reason.value,
            degraded=context.degraded_mode,
            owner_chain=[f"{entry.kind}/{entry.name}" for entry in context.owner_chain],
            detected=context.detected_labels.to_object() if context.detected_labels else None,
            events=len(context.recent_events),
        )
        changes = {
            "kubernetes_context": context,
            "conditions": conditions,
            "consecutive_failures": 0,
            "next_retry_at": None,
            "error": "",
        }
        return self.move(Phase.CLASSIFYING, found.reason, changes, fact)

    def not_enriched(self, found: NotEnriched) -> Next:
        status = self.processing.status
        failures = status.consecutive_failures + 1
        changes: dict[str, Any] = {
            "conditions": self._with(ENRICHED, status=False, reason=found.reason, message=found.message),
            "consecutive_failures": failures,
            "last_failure_time": self.now,
            "error": found.message[:MAX_MESSAGE],
        }
        if failures >= self.settings.max_failures:
            return self.fail(f"enrichment failed {failures} times, last: {found.message}", changes)
        retry_at = self.now + retry_delay(failures)
        fact = self._fact(
            "signalprocessing.error.occurred",
            AuditOutcome.FAILURE,
            (str(failures),),
            reason=found.reason.value,
            error=found.message[:MAX_MESSAGE],
            failures=failures,
        )
        return Decision(
            found.reason,
            status.replace(**changes, next_retry_at=retry_at),
            (Audit(fact),),
            wake_at=_earliest(retry_at, self.processing.spec.deadline),
        )

    def classified(self, found: Classification) -> Next:
        status, now = self.processing.status, self.now
        reason = found.flaws[0].reason if found.flaws else ClassificationReason.SUCCEEDED
        message = "; ".join((*(flaw.message for flaw in found.flaws), *found.notes))
        context = status.kubernetes_context
        changes = {
            "severity": found.severity,
            "environment_classification": EnvironmentClassification(
                environment=found.environment, source=found.environment_source, classified_at=now
            ),
            "priority_assignment": PriorityAssignment(
                priority=found.priority, source=found.priority_source, policy_name=found.policy_name, assigned_at=now
            ),
            "kubernetes_context": context and context.replace(custom_labels=dict(found.custom_labels)),
            "policy_hash": found.policy_hash,
            "conditions": self._with(CLASSIFIED, reason=reason, message=message),
        }
        fact = self._fact(
            "signalprocessing.classification.decision",
            severity_raw=self.processing.spec.signal.severity,
            severity=found.severity.value,
            environment=found.environment.value,
            environment_source=found.environment_source.value,
            priority=found.priority.value,
            priority_source=found.priority_source.value,
            policy_name=found.policy_name,
            policy_hash=found.policy_hash,
            flaws=[flaw.message for flaw in found.flaws],
            notes=list(found.notes),
        )
        return self.move(Phase.CATEGORIZING, reason, changes, fact)

    def categorized(self, found: Categorization) -> Next:
        business, status = found.business, self.processing.status
        reason = CategorizationReason.FAILED if found.flaws else CategorizationReason.SUCCEEDED
        conditions = self._with(CATEGORIZED, reason=reason, message="; ".join(found.flaws))
        conditions = with_condition(
            conditions,
            PROCESSED,
            status=True,
            reason=Processing.SUCCEEDED,
            now=self.now,
            generation=self.processing.metadata.generation,
        )
        changes = {
            "business_classification": business,
            "conditions": conditions,
            "completion_time": self.now,
        }
        categorized = self._fact(
            "signalprocessing.business.classified",
            **business.model_dump(mode="json"),
            policy_hash=found.policy_hash,
            flaws=list(found.flaws),
        )
        environment, priority = status.environment_classification, status.priority_assignment
        processed = self._fact(
            "signalprocessing.signal.processed",
            fingerprint=self.processing.spec.signal.fingerprint,
            signal_name=self.processing.spec.signal.name,
            severity=status.severity and status.severity.value,
            environment=environment and environment.environment.value,
            priority=priority and priority.priority.value,
            degraded=bool(status.kubernetes_context and status.kubernetes_context.degraded_mode),
        )
        return self.move(Phase.COMPLETED, reason, changes, categorized, processed)

    def fail(self, message: str, changes: dict[str, Any] | None = None) -> Next:
        changed = self.processing.status.replace(**(changes or {}))
        failed = {
            **(changes or {}),
            "conditions": with_condition(
                changed.conditions,
                PROCESSED,
                status=False,
                reason=Processing.FAILED,
                message=message[:MAX_MESSAGE],
                now=self.now,
                generation=self.processing.metadata.generation,
            ),
            "error": message[:MAX_MESSAGE],
            "completion_time": self.now,
            "next_retry_at": None,
        }
        fact = self._fact(
            "signalprocessing.error.occurred", AuditOutcome.FAILURE, ("final",), error=message[:MAX_MESSAGE]
        )
        return self.move(Phase.FAILED, Processing.FAILED, failed, fact)

    def move(self, phase: Phase, reason: str, changes: dict[str, Any], *facts: AuditEvent) -> Next:
        old = self.processing.status.phase
        changes = {**changes, "phase": phase, "observed_generation": self.processing.metadata.generation}
        moved = self._fact(
            "signalprocessing.phase.transition",
            key=(str(phase),),
            from_phase=str(old or ""),
            to_phase=str(phase),
            reason=str(reason),
        )
        return Decision(str(reason), self.processing.status.replace(**changes), tuple(map(Audit, (*facts, moved))))

    def _with(self, type_: str, *, status: bool = True, reason: str, message: str) -> Any:
        return with_condition(
            self.processing.status.conditions,
            type_,
            status=status,
            reason=str(reason),
            message=message[:MAX_MESSAGE],
            now=self.now,
            generation=self.processing.metadata.generation,
        )

    def _fact(
        self,
        event_type: str,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        key: tuple[str, ...] = (),
        **data: Any,
    ) -> AuditEvent:
        processing = self.processing
        return AuditEvent.fact(
            event_type,
            correlation_id=processing.spec.remediation_request_ref.name,
            category=AuditCategory.SIGNAL_PROCESSING,
            now=self.now,
            outcome=outcome,
            actor=ACTOR,
            key=(processing.uid, *key),
            resource_type=processing.kind(),
            resource_id=processing.name,
            namespace=processing.spec.signal.target_resource.namespace,
            event_data=data,
        )


def _earliest(instant: datetime, deadline: datetime | None) -> datetime:
    return instant if deadline is None else min(instant, deadline)
