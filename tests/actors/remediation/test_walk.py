"""Orchestrator, approval and notification on a real API server, by the real loop; the other three controllers are played.

What the CRDs refuse, what watches miss and what field selectors do not find shows here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.approval import controller as _approval
from actors.notification import controller as _notification
from actors.remediation import controller as _remediation
from catalog.account.story import reconstruct
from kubernaut_ray import clock, crds, names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import NotificationSettings, Settings
from tests import build
from tests.trail import fits

pytestmark = pytest.mark.integration
BUILDERS = (_remediation.build, _approval.build, _notification.build)


class Sink:
    def __init__(self) -> None:
        self.events: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        self.events[event.event_id] = fits(event)


@asynccontextmanager
async def fleet(kube: KubeClient, namespace: str, tmp_path: Path, sink: Sink) -> AsyncIterator[None]:
    """The three controllers at work."""
    settings = Settings(namespace=namespace, data_dir=tmp_path, notification=NotificationSettings())
    loops, tasks = [], []
    for make in BUILDERS:
        queue = WorkQueue(backoff_base=0.05)
        deps = Deps(
            kube,
            settings,
            Endpoints(),
            lambda: "",
            lambda ns, name, queue=queue: queue.add(Key(ns, name)),  # type: ignore[misc]
        )
        loop = ControlLoop(make(deps), kube, sink, queue, settings=settings.fleet, namespace=namespace)  # type: ignore[operator]
        loops.append(loop)
        tasks.append(asyncio.create_task(loop.run()))
    try:
        yield
    finally:
        for loop in loops:
            loop.drain()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)


class Incident:
    """One request on the server, and the hands that play its other controllers."""

    def __init__(self, kube: KubeClient, namespace: str, name: str = "rr-1") -> None:
        self.kube, self.namespace, self.name = kube, namespace, name
        self.request = build.remediation_request(name)

    async def open(self) -> None:
        body = self.request.to_object()
        body["metadata"] = {"name": self.name, "namespace": self.namespace, "labels": names.shard_label(self.name)}
        del body["status"]
        await self.kube.create(resources.REMEDIATION_REQUEST, body)

    async def wait(self, kind: type[CustomResource], name: str, **status: str) -> dict[str, Any]:
        """Wait until an object is there with this status (camelCase)."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while True:
                listed = await self.kube.list(resources.of(kind), self.namespace, fields=f"metadata.name={name}")
                found = listed.items[0] if listed.items else {}
                if found and all(found.get("status", {}).get(k) == v for k, v in status.items()):
                    return found
                await asyncio.sleep(0.01)

    async def play(self, kind: type[CustomResource], name: str, status: Any) -> None:
        await self.wait(kind, name)
        body = {"status": status if isinstance(status, dict) else status.to_object()}
        await self.kube.patch(resources.of(kind), name, body, self.namespace, subresource="status")

    async def analysed(self, *, approval: bool, attempt: int = 0) -> None:
        analysis = build.ai_analysis(self.request, attempt=attempt, approval_required=approval)
        await self.play(crds.AIAnalysis, analysis.name, analysis.status)


async def test_from_signal_to_fix_with_leave_and_recovery(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """Approval, a failed execution, a second one that succeeds; messages in files, facts on record, nothing twice."""
    incident, sink = Incident(kube, namespace), Sink()
    async with fleet(kube, namespace, tmp_path, sink):
        await incident.open()
        await incident.play(crds.SignalProcessing, "sp-rr-1", build.signal_processing(incident.request).status)
        await incident.analysed(approval=True)
        await incident.play(crds.RemediationApprovalRequest, "rar-rr-1", {"decision": "Approved", "decidedBy": "ann"})
        failed = build.workflow_execution(incident.request, Run.FAILED)
        await incident.play(crds.WorkflowExecution, "we-rr-1", failed.status)
        await incident.analysed(approval=False, attempt=1)
        done = build.workflow_execution(incident.request, Run.COMPLETED, attempt=1, ended=clock.utcnow())
        await incident.play(crds.WorkflowExecution, "we-rr-1-recovery-1", done.status)
        ended = await incident.wait(
            crds.RemediationRequest, "rr-1", overallPhase="Completed", outcome="Remediated", notificationStatus="Sent"
        )
    assert ended["status"]["recoveryAttempts"] == 1
    assert len(ended["status"]["previousExecutions"]) == 1
    sealed = await incident.wait(crds.RemediationApprovalRequest, "rar-rr-1")
    assert (sealed["status"]["sealedDecision"], sealed["status"]["decidedBy"]) == ("Approved", "ann")
    documents = [json.loads(file.read_text()) for file in (tmp_path / "notifications").glob("*.json")]
    assert sorted(document["name"] for document in documents) == ["nr-approval-rr-1", "nr-completion-rr-1"]
    assert not any(document["delivery"]["possibleDuplicate"] for document in documents)
    types = [event.event_type for event in sink.events.values()]
    assert types.count("orchestrator.phase.transitioned") == 8
    assert types.count("orchestrator.approval.approved") == 1
    assert types.count("notification.message.sent") == 4
    account = reconstruct("rr-1", sink.events.values())
    played = ("gateway.", "signalprocessing.", "aianalysis.", "aiagent.", "workflow.")
    assert [gap for gap in account.gaps if not gap.event_type.startswith(played)] == []
    assert account.gaps, "what the played controllers would have told is missed"
    assert [(one.number, one.approval.by) for one in account.attempts] == [(0, "ann")]
    assert account.attempts[0].recovery is not None
    assert account.attempts[0].recovery.started
    assert [one.phase for one in account.phases].count("Analyzing") == 2


async def test_an_incident_on_the_same_target_waits(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """Found by the field selector on the target: the second one is blocked while the first one runs."""
    first = Incident(kube, namespace, "rr-1")
    second = Incident(kube, namespace, "rr-2")
    second.request = build.remediation_request("rr-2", spec={"signal_fingerprint": "cd" * 32, "signal_name": "Slow"})
    async with fleet(kube, namespace, tmp_path, Sink()):
        for incident in (first, second):
            await incident.open()
            name = incident.name
            await incident.play(crds.SignalProcessing, f"sp-{name}", build.signal_processing(incident.request).status)
            await incident.analysed(approval=False)
            if incident is first:
                await incident.wait(crds.WorkflowExecution, "we-rr-1")
        blocked = await second.wait(crds.RemediationRequest, "rr-2", overallPhase="Blocked")
        assert blocked["status"]["blockReason"] == "ResourceBusy"
        assert blocked["status"]["blockingWorkflowExecution"] == "we-rr-1"


async def test_two_requests_for_one_signal_are_one_remediation(
    kube: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """Found by the field selector on the fingerprint: the second one waits for the first one's outcome."""
    async with fleet(kube, namespace, tmp_path, Sink()):
        first, second = Incident(kube, namespace, "rr-1"), Incident(kube, namespace, "rr-2")
        await first.open()
        await first.wait(crds.RemediationRequest, "rr-1", overallPhase="Processing")
        await second.open()
        blocked = await second.wait(crds.RemediationRequest, "rr-2", overallPhase="Blocked")
        assert blocked["status"]["duplicateOf"] == "rr-1"


async def test_reactions_do_not_wait_for_anything(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """Every step follows from a watch event: the orchestrator's share of a whole walk stays far below its timers."""
    incident = Incident(kube, namespace)
    async with fleet(kube, namespace, tmp_path, Sink()):
        began = time.monotonic()
        await incident.open()
        await incident.play(crds.SignalProcessing, "sp-rr-1", build.signal_processing(incident.request).status)
        await incident.analysed(approval=False)
        done = build.workflow_execution(incident.request, Run.COMPLETED, ended=clock.utcnow())
        await incident.play(crds.WorkflowExecution, "we-rr-1", done.status)
        await incident.wait(crds.RemediationRequest, "rr-1", overallPhase="Completed")
        took = time.monotonic() - began
    assert took < 5
