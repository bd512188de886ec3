"""A console over an API server, with incidents in every state, for the HTTP and the browser tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from catalog.account.story import reconstruct
from kubernaut_ray import names
from kubernaut_ray.contracts.timeline import Timeline
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    ApprovalDecision,
    NotificationPhase,
    Outcome,
    RcaSeverity,
    RemediationPhase,
    WorkflowExecutionPhase,
)
from kubernaut_ray.crds.remediation_request import Deduplication, Symptom
from kubernaut_ray.crds.shared import RootCauseAnalysis
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, UserInfo
from tests import build
from tests.catalog.account import told as stories

PARAMETERS = {"TARGET_NAMESPACE": "shop", "TARGET_NAME": "web", "MEMORY_LIMIT": "512Mi"}
EVIDENCE = (
    "pod web-7d4b9c6f5d-x2x4b was terminated 7 times, last reason OOMKilled (exit code 137)",
    "memory limit is 128Mi; the last three terminations happened at 127Mi working set",
    "revision 4 was rolled out 11 minutes before the first termination",
)


class Gatekeeper:
    """``amy`` may look and approve, ``bob`` may only look; ``<script>`` shows that names are escaped."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"amy", "bob", "eve", "<script>alert(1)</script>"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        if resource == "approvals":
            return user.username != "bob"
        return user.username != "eve"


class Trail:
    """The audit trail of every remediation, or a Data Storage that is away."""

    def __init__(self, start: datetime) -> None:
        self.start, self.away = start, False
        self.tells, self.without = True, ""

    async def timeline(self, remediation: str) -> Timeline:
        if self.away:
            raise Retryable("connection refused")
        told = stories.Told(remediation, start=self.start)
        told.opened().processed().analysed(approval=True).asked()
        if self.without:
            told.without(self.without)
        return Timeline(
            remediation_id=remediation,
            incident=reconstruct(remediation, told.events) if self.tells else None,
            events=tuple(told.events),
        )


class Scene:
    """Puts incidents into an API server."""

    def __init__(self, client: KubeClient, namespace: str, now: datetime) -> None:
        self._client, self._namespace, self.now = client, namespace, now

    async def put(self, obj: CustomResource) -> Any:
        """Create an object with its status, in our namespace; returns it as stored."""
        resource = resources.of(type(obj))
        body = obj.to_object()
        body["metadata"] = {
            "name": obj.name,
            "namespace": self._namespace,
            "labels": body["metadata"].get("labels") or {},
        }
        if resource is not resources.REMEDIATION_REQUEST:
            body["metadata"]["labels"][names.LABEL_REMEDIATION] = self._current
        await self._client.create(resource, body)
        status = body.get("status") or {}
        if status:
            patched = await self._client.patch(
                resource, obj.name, {"status": status}, self._namespace, subresource="status"
            )
            return type(obj).from_object(patched)
        return type(obj).from_object(await self._client.get(resource, obj.name, self._namespace))

    async def remediation(self, name: str, phase: RemediationPhase, ago: float, **fields: Any) -> Any:
        start = self.now - timedelta(seconds=ago)
        times: dict[str, Any] = {
            "start_time": start,
            "processing_start_time": start + timedelta(seconds=0.4),
            "analyzing_start_time": start + timedelta(seconds=2),
        }
        self._current = name
        spec = {
            "received_time": start,
            "firing_time": start,
            "signal_labels": {"alertname": "KubePodOOMKilled", "namespace": "shop", "severity": "critical"},
            "description": "Container web of web-7d4b9c6f5d-x2x4b was OOMKilled.",
            **fields.pop("spec", {}),
        }
        symptoms = tuple(
            Symptom(
                signal_name=signal,
                resource="shop/pod/web-7d4b9c6f5d-x2x4b",
                first_seen_at=start,
                last_seen_at=start,
                occurrence_count=count,
            )
            for signal, count in (("KubePodOOMKilled", 3), ("KubePodCrashLooping", 2))
        )
        seen = Deduplication(first_seen_at=start, last_seen_at=start, occurrence_count=5, symptoms=symptoms)
        made = build.remediation_request(name, phase=phase, spec=spec, deduplication=seen, **{**times, **fields})
        return await self.put(made)

    async def waiting(self, name: str = "rr-ab12cd34ef56-00000001") -> Any:
        """An incident that waits for approval."""
        rr = await self.remediation(
            name,
            RemediationPhase.AWAITING_APPROVAL,
            45,
            awaiting_approval_start_time=self.now - timedelta(seconds=20),
            message="Waiting for approval: production changes need a person's leave",
        )
        await self.put(self._analysis(rr))
        request = build.approval_request(rr, required_by=self.now + timedelta(minutes=14))
        spec = request.spec.replace(
            evidence_collected=EVIDENCE,
            recommended_workflow=request.spec.recommended_workflow.replace(
                workflow_name="increase-memory-limits", parameters=PARAMETERS
            ),
        )
        await self.put(request.replace(spec=spec))
        return rr

    async def fixed(self, name: str = "rr-ab12cd34ef56-00000002") -> Any:
        """An incident that was fixed after a person's approval."""
        start = self.now - timedelta(seconds=600)
        rr = await self.remediation(
            name,
            RemediationPhase.COMPLETED,
            600,
            awaiting_approval_start_time=start + timedelta(seconds=9),
            executing_start_time=start + timedelta(seconds=95),
            completed_at=start + timedelta(seconds=107),
            outcome=Outcome.REMEDIATED,
            message="increase-memory-limits ran and Deployment shop/web is healthy",
            spec={"signal_name": "KubeDeploymentReplicasMismatch"},
        )
        await self.put(self._analysis(rr))
        await self.put(
            build.approval_request(
                rr,
                required_by=start + timedelta(minutes=15),
                decision=ApprovalDecision.APPROVED,
                sealed_decision=ApprovalDecision.APPROVED,
                decided_by="amy",
                decided_via="cli",
                decided_at=start + timedelta(seconds=94),
                decision_message="checked with the shop team",
            )
        )
        await self.put(
            build.workflow_execution(
                rr, WorkflowExecutionPhase.COMPLETED, ended=self.now, results={"memoryLimit": "128Mi → 512Mi"}
            )
        )
        await self.put(build.notification_request(f"nr-completion-{name}", phase=NotificationPhase.SENT))
        return rr

    async def failed(self, name: str = "rr-ab12cd34ef56-00000003") -> Any:
        """An incident whose workflow failed and that a person has to look at."""
        start = self.now - timedelta(hours=3)
        rr = await self.remediation(
            name,
            RemediationPhase.FAILED,
            3 * 3600,
            executing_start_time=start + timedelta(seconds=9),
            completed_at=start + timedelta(seconds=30),
            outcome=Outcome.MANUAL_REVIEW_REQUIRED,
            requires_manual_review=True,
            failure_reason="Step apply of task fix ended with exit code 1",
            spec={"signal_name": "KubeContainerWaiting"},
        )
        await self.put(self._analysis(rr))
        await self.put(build.workflow_execution(rr, WorkflowExecutionPhase.FAILED, ended=self.now))
        return rr

    def _analysis(self, rr: Any) -> Any:
        return build.ai_analysis(
            rr,
            phase=AIAnalysisPhase.COMPLETED,
            root_cause_analysis=RootCauseAnalysis(
                summary="The container's memory limit of 128Mi is below what revision 4 needs, so the kernel kills it.",
                severity=RcaSeverity.HIGH,
                contributing_factors=("memory limit 128Mi", "revision 4 caches the whole catalogue"),
            ),
            evidence=EVIDENCE,
            investigated_by="evidence",
            selected_workflow=build.selected_workflow(
                workflow_name="increase-memory-limits",
                confidence=0.86,
                parameters=PARAMETERS,
                rationale="Seven OOMKilled terminations at the limit; no leak shows over the last day.",
            ),
        )
