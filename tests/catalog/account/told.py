"""Trails as the services tell them, fact by fact, each in the form that the vocabulary declares.

``Told().opened().processed().analysed().executed().ended()`` is the trail of an incident that was fixed at once; a test leaves
out, or adds, what it is about. Every call is a second later than the one before.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from kubernaut_ray import clock, names
from kubernaut_ray.contracts import recorded
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.vocabulary import EVENT_TYPES
from kubernaut_ray.crds.enums import AuditOutcome
from tests import build
from tests.trail import fits

REMEDIATION = "rr-1"
REQUEST = build.remediation_request(
    REMEDIATION,
    spec={
        "signal_labels": {"alertname": "KubePodOOMKilled", "namespace": "shop"},
        "signal_annotations": {"summary": "out of memory"},
        "description": "out of memory",
        "original_payload": '{"alerts":[{"status":"firing"}]}',
        "timeout_config": {"global": "2h"},
    },
)
SPEC = REQUEST.spec.to_object()
DIGEST = "sha256:" + "1" * 64
WORKFLOW = {
    "workflow_id": "wf-memory",
    "workflow_name": "increase-memory",
    "version": "1.0.0",
    "container_image": "bundles.kubernaut.local/workflows/increase-memory:1.0.0",
    "container_digest": DIGEST,
    "confidence": 0.9,
    "parameters": {"MEMORY_LIMIT": "512Mi"},
    "rationale": "the container was killed for want of memory",
}
ACTORS = {"user": "ann"}


class Told:
    def __init__(self, remediation: str = REMEDIATION, *, start: datetime = build.NOW) -> None:
        self.remediation = remediation
        self.start = self.now = start
        self.events: list[AuditEvent] = []
        self.phase = ""
        self.attempt = 0

    def later(self, **length: float) -> Self:
        self.now += timedelta(**length)
        return self

    def fact(self, event_type: str, *key: str, about: str = "", who: str = "", **data: Any) -> Self:
        """Tell one fact; what else its type must hold is empty."""
        known = EVENT_TYPES[event_type]
        outcome = next(o for o in AuditOutcome if o in known.outcomes)
        event = AuditEvent.fact(
            event_type,
            correlation_id=self.remediation,
            category=known.category,
            now=self.now,
            outcome=outcome,
            actor=who or known.service,
            key=key,
            resource_id=about or self.remediation,
            actor_type="user" if who else "service",
            event_data={**dict.fromkeys(known.holds, ""), **data},
        )
        self.events.append(fits(event))
        return self

    def without(self, *types: str) -> Self:
        self.events = [event for event in self.events if event.event_type not in types]
        return self

    def to(self, phase: str, reason: str = "Because") -> Self:
        self.later(seconds=1)
        self.fact(
            "orchestrator.phase.transitioned",
            self.phase,
            phase,
            clock.rfc3339(self.now),
            from_phase=self.phase,
            to_phase=phase,
            reason=reason,
            message=f"{reason}.",
            attempt=self.attempt,
        )
        self.phase = phase
        return self

    def opened(self, **spec: Any) -> Self:
        signal = {
            "signal_name": "KubePodOOMKilled",
            "fingerprint": build.FINGERPRINT,
            "target_resource": "shop/deployment/web",
            "signal_type": "prometheus-alert",
            "signal_source": "alertmanager",
            "severity": "critical",
        }
        told = recorded.write({**SPEC, **spec})
        labels = {"labels": SPEC["signalLabels"], "annotations": SPEC["signalAnnotations"]}
        self.fact("gateway.signal.received", **signal, **labels)
        self.fact("gateway.crd.created", uid="uid-rr-1", **signal, **told)
        self.later(seconds=1)
        self.fact(
            "orchestrator.lifecycle.started",
            uid="uid-rr-1",
            opened_by="gateway-service",
            signal="KubePodOOMKilled",
            target="shop/deployment/web",
            fingerprint=build.FINGERPRINT,
            **told,
        )
        return self.to("Pending", "Accepted")

    def processed(self) -> Self:
        self.to("Processing", "SignalProcessingCreated")
        about = names.signal_processing(self.remediation)
        self.fact(
            "signalprocessing.enrichment.completed", about=about, degraded=False, owner_chain=["ReplicaSet/web-1"]
        )
        self.fact(
            "signalprocessing.classification.decision",
            about=about,
            severity="critical",
            environment="production",
            priority="P0",
            policy_hash="f" * 64,
            flaws=[],
            notes=[],
        )
        self.fact(
            "signalprocessing.business.classified", about=about, business_unit="retail", criticality="high", flaws=[]
        )
        self.fact("signalprocessing.signal.processed", about=about, degraded=False)
        return self

    def analysed(
        self, *, approval: bool = False, chosen: dict[str, Any] | None = WORKFLOW, model: str = "evidence", **data: Any
    ) -> Self:
        """Enter Analyzing and end the analysis; the orchestrator has not looked at it yet."""
        if self.phase != "Analyzing":
            self.to("Analyzing", "SignalProcessed")
        about, run = names.ai_analysis(self.remediation, self.attempt), f"s{self.attempt}/1"
        agent: dict[str, Any] = {"about": about, "model": model, "incident_id": about, "run": run}
        self.fact("aianalysis.holmesgpt.call", run, about=about, session_id=run, is_recovery_attempt=False)
        self.fact("aiagent.investigation.started", run, **agent, is_recovery=bool(self.attempt))
        if model != "evidence":
            self.fact("aiagent.llm.request", run, **agent, attempt=1)
            self.fact("aiagent.llm.response", run, **agent, requests=3, input_tokens=1200, output_tokens=80)
        self.later(seconds=2)
        self.fact("aiagent.llm.tool_call", run, **agent, number=1, tool="get_pod")
        self.fact("workflow.catalog.search_completed", run, query="OOMKilled", total_matched=1)
        self.fact("aiagent.investigation.completed", run, **agent, tool_calls=1)
        self.fact(
            "aianalysis.approval.decision", about, about=about, approval_required=approval, reason="production",
            policy_hash="e" * 64,
        )  # fmt: skip
        self.fact(
            "aianalysis.analysis.completed",
            about,
            about=about,
            **{
                "phase": "Completed",
                "reason": "WorkflowSelected",
                "message": "increase-memory 1.0.0",
                "model": model,
                "root_cause": {"summary": "The memory limit is too low", "contributing_factors": ["limit 64Mi"]},
                "evidence": ["terminated 7 times"],
                "warnings": [],
                "alternative_workflows": [{"workflow_id": "wf-restart", "rationale": "treats the symptom"}],
                "selected_workflow": chosen,
                **data,
            },
        )
        return self

    def asked(self) -> Self:
        self.fact(
            "orchestrator.approval.requested",
            str(self.attempt),
            approval_request=names.approval_request(self.remediation, self.attempt),
            workflow_id="wf-memory",
            workflow_name="increase-memory",
            container_digest=DIGEST,
            required_by=clock.rfc3339(self.now + timedelta(minutes=15)),
            reason="production",
        )
        return self.told("approval").to("AwaitingApproval", "ApprovalRequired")

    def decided(self, decision: str = "approved", by: str = "ann", via: str = "console", said: str = "go") -> Self:
        self.later(seconds=42)
        about = names.approval_request(self.remediation, self.attempt)
        return self.fact(
            f"orchestrator.approval.{decision}",
            about=about,
            who=by,
            approval_request=about,
            decision=decision.capitalize(),
            decided_by=by,
            decided_via=via,
            message=said,
        )

    def executed(self, end: str = "completed", engine: str = "tekton", **data: Any) -> Self:
        self.to("Executing", "WorkflowExecutionCreated")
        about = names.workflow_execution(self.remediation, self.attempt)
        run: dict[str, Any] = {
            "about": about,
            "workflow_id": "wf-memory",
            "workflow_name": "increase-memory",
            "version": "1.0.0",
            "container_image": f"bundles.kubernaut.local/workflows/increase-memory@{DIGEST}",
            "target_resource": "shop/deployment/web",
            "parameters": {"MEMORY_LIMIT": "512Mi"},
            "pipeline_run": "wfe-1",
            **data,
        }
        self.later(seconds=1).fact("workflow.started", about, engine=engine, **run)
        self.later(seconds=9)
        match end:
            case "completed":
                self.fact("workflow.completed", about, **run, results={"summary": "128Mi → 512Mi"})
            case "failed":
                self.fact(
                    "workflow.failed", about, **run, reason="TaskFailed", was_execution_failure=True, exit_code=1,
                    failed_task="fix", failed_step="apply", summary="step apply exited with 1",
                )  # fmt: skip
            case "cancelled":
                self.fact("workflow.cancelled", about, **run, was="Running")
        return self

    def recovered(self) -> Self:
        about = names.workflow_execution(self.remediation, self.attempt)
        self.fact(
            "orchestrator.recovery.started", about, attempt=self.attempt + 1, execution=about, failure="exited with 1"
        )
        self.to("Analyzing", "RecoveryStarted")
        self.attempt += 1
        return self

    def given_up(self) -> Self:
        about = names.workflow_execution(self.remediation, self.attempt)
        return self.fact(
            "orchestrator.recovery.refused", about, attempt=self.attempt, execution=about,
            reason="repeated_failure_pattern", message="it failed at apply with TaskFailed, as an earlier attempt did",
        ).fact("orchestrator.remediation.manual_review", reason="the workflow failed twice")  # fmt: skip

    def judged(self, effective: bool) -> Self:
        """The effect of the execution, from the beginning of its assessment to the verdict."""
        about = names.effectiveness_assessment(self.remediation)
        run = {
            "execution": names.workflow_execution(self.remediation, self.attempt),
            **{name: WORKFLOW[name] for name in ("workflow_id", "workflow_name", "version")},
            "target_resource": "shop/deployment/web",
        }
        self.to("Verifying", "VerificationStarted")
        self.fact("effectiveness.assessment.started", about=about, **run)
        message = "It helped (score 1.00)" if effective else "It did not help (score 0.00)"
        self.later(minutes=5).fact(
            "effectiveness.assessment.completed", about=about, **run, reason="Full", message=message,
            score=float(effective), effective=effective,
        )  # fmt: skip
        return self

    def told(self, kind: str, sent: bool = True) -> Self:
        name = names.notification(kind, self.remediation, self.attempt)
        self.fact(
            "orchestrator.notification.requested", name, notification=name, type=kind, subject="Something happened"
        )
        end = "sent" if sent else "failed"
        more: dict[str, Any] = {} if sent else {"error": "connection refused"}
        return self.fact(
            f"notification.message.{end}", name, about=name, delivery="ops/log", type=kind, attempts=1, of=1, **more
        )

    def ended(self, phase: str = "Completed", outcome: str = "Remediated", reason: str = "Remediated") -> Self:
        seconds = (self.now - self.start).total_seconds() + 1
        self.later(seconds=1)
        self.fact(
            "orchestrator.lifecycle.completed", phase, phase=phase, outcome_of_remediation=outcome, reason=reason,
            message=f"{reason}.", duration_seconds=seconds,
        )  # fmt: skip
        self.now -= timedelta(seconds=1)
        return self.to(phase, reason).told("completion")

    def at(self, event_type: str) -> datetime:
        return next(event.event_timestamp for event in self.events if event.event_type == event_type)


def fixed() -> Told:
    return Told().opened().processed().analysed().executed().ended()


def verified() -> Told:
    return Told().opened().processed().analysed().executed().judged(effective=True).ended()


def in_vain() -> Told:
    told = Told().opened().processed().analysed().executed().judged(effective=False)
    told.fact("orchestrator.remediation.manual_review", reason="increase-memory succeeded and did not help")
    return told.ended("Completed", "Inconclusive", "Inconclusive")


def approved() -> Told:
    return Told().opened().processed().analysed(approval=True).asked().decided().executed().ended()


def rejected() -> Told:
    told = Told().opened().processed().analysed(approval=True).asked().decided("rejected", said="not today")
    return told.ended("Failed", "", "ApprovalRejected")


def expired() -> Told:
    told = Told().opened().processed().analysed(approval=True).asked().later(minutes=15)
    return told.decided("expired", by="", via="deadline", said="Nobody decided").ended("Failed", "", "ApprovalExpired")


def recovered() -> Told:
    told = (
        Told().opened().processed().analysed().executed("failed").recovered().analysed(approval=True, model="openai:x")
    )
    return told.asked().decided().executed().ended()


def given_up() -> Told:
    told = Told().opened().processed().analysed().executed("failed").recovered().analysed().executed("failed")
    return told.given_up().ended("Failed", "ManualReviewRequired", "ManualReviewRequired")


def unprocessable() -> Told:
    told = Told().opened().to("Processing")
    told.fact("signalprocessing.error.occurred", about="sp-rr-1", error="enrichment failed 5 times")
    return told.ended("Failed", "", "SignalProcessingFailed")


def self_resolved() -> Told:
    told = Told().opened().processed()
    told.analysed(chosen=None, reason="WorkflowNotNeeded", message="The problem is gone")
    return told.ended("Completed", "NoActionRequired", "WorkflowNotNeeded")


def over_at_source() -> Told:
    told = Told().opened().processed().to("Analyzing")
    told.fact("gateway.signal.resolved", symptoms=[{"signal_name": "KubePodOOMKilled", "resource": "shop/pod/web-1"}])
    return told.ended("Completed", "NoActionRequired", "SignalResolved")


def duplicate() -> Told:
    told = Told().opened().later(seconds=1)
    told.fact(
        "orchestrator.routing.blocked", reason="DuplicateInProgress", message="rr-0 works on it", duplicate_of="rr-0",
        blocked_from="Pending",
    )  # fmt: skip
    return told.to("Blocked", "DuplicateInProgress").later(minutes=3).ended("Completed", "Remediated", "Inherited")


def busy() -> Told:
    told = Told().opened().processed().analysed()
    told.fact(
        "orchestrator.routing.blocked", reason="ResourceBusy", message="we-rr-0 runs", blocking_execution="we-rr-0"
    )
    return told.to("Blocked", "ResourceBusy").later(seconds=30).to("Analyzing", "BlockOver").executed().ended()


def called_off() -> Told:
    return Told().opened().processed().analysed().executed("cancelled").ended("Cancelled", "", "Cancelled")


def timed_out() -> Told:
    return Told().opened().to("Processing").later(minutes=5).ended("TimedOut", "", "TimedOut")


STORIES = {
    story.__name__: story
    for story in (
        fixed, verified, in_vain, approved, rejected, expired, recovered, given_up, unprocessable, self_resolved, over_at_source, duplicate, busy, called_off,
        timed_out,
    )
}  # fmt: skip
