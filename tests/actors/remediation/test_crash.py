"""The orchestrator killed at every point of its work, with the other controllers played: it ends as if nothing had been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from actors.remediation.controller import RemediationController
from actors.remediation.observe import Observed
from kubernaut_ray import crds, names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import ApprovalDecision, NotificationPhase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import OrchestratorSettings, Settings
from tests import build
from tests.crash import crash_everywhere

KEY = Key(names.SYSTEM_NAMESPACE, "rr-1")
Play = Callable[[KubeClient], Awaitable[None]]


class Kept(RemediationController):
    """Does not wait for the retention time, so that the finished world can be looked at."""

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationRequestStatus]:
        decision = super().decide(observed, now)
        return replace(decision, wake_at=None) if decision.reason == "Finished" else decision


def controller(client: KubeClient, settings: Settings | None = None) -> RemediationController:
    return Kept(Deps(client, settings or Settings(), Endpoints(), lambda: "token", lambda _ns, _name: None))


async def world(client: KubeClient) -> None:
    await client.create(resources.REMEDIATION_REQUEST, build.remediation_request().to_object())


async def play(client: KubeClient, kind: type[CustomResource], name: str, status: Any) -> None:
    """Give a child this status, if it exists and has none yet."""
    listed = await client.list(resources.of(kind), names.SYSTEM_NAMESPACE)
    for item in listed.items:
        if item["metadata"]["name"] == name and not item.get("status"):
            body = {"status": status.to_object()}
            await client.patch(resources.of(kind), name, body, names.SYSTEM_NAMESPACE, subresource="status")


def cast(*, approval: ApprovalDecision | None = None, runs: tuple[Run, ...] = (Run.COMPLETED,)) -> Play:
    """The other controllers: everything goes well, but for the approval and the ends of executions that are named."""
    request = build.remediation_request()

    async def advance(client: KubeClient) -> None:
        await play(client, crds.SignalProcessing, "sp-rr-1", build.signal_processing(request).status)
        for attempt in range(4):
            analysis = build.ai_analysis(request, attempt=attempt, approval_required=approval is not None)
            await play(client, crds.AIAnalysis, analysis.name, analysis.status)
            if approval is not None:
                sealed = build.approval_request(request, attempt=attempt, decision=approval, sealed_decision=approval)
                await play(client, crds.RemediationApprovalRequest, sealed.name, sealed.status)
            if attempt < len(runs):
                run = build.workflow_execution(request, runs[attempt], attempt=attempt, step=f"step-{attempt}")
                await play(client, crds.WorkflowExecution, run.name, run.status)
        for kind in ("completion", "approval", "manual-review", "declined", "timeout"):
            for attempt in range(3):
                notice = build.notification_request(
                    names.notification(kind, "rr-1", attempt), phase=NotificationPhase.SENT
                )
                await play(client, crds.NotificationRequest, notice.name, notice.status)

    return advance


def status_of(report: Any) -> dict[str, Any]:
    return dict(report.world.objects["RemediationRequest kubernaut-system/rr-1"]["status"])


async def test_straight_to_the_fix() -> None:
    """No approval needed, the first workflow succeeds."""
    report = await crash_everywhere(controller, world, KEY, advance=cast())
    status = status_of(report)
    assert (status["overallPhase"], status["outcome"], status["notificationStatus"]) == (
        "Completed",
        "Remediated",
        "Sent",
    )
    assert sorted(name.split("/")[1] for name in report.world.objects) == [
        "ai-rr-1",
        "nr-completion-rr-1",
        "rr-1",
        "sp-rr-1",
        "we-rr-1",
    ]


async def test_with_a_person_s_leave() -> None:
    """Approval asked for and given."""
    report = await crash_everywhere(controller, world, KEY, advance=cast(approval=ApprovalDecision.APPROVED))
    assert status_of(report)["overallPhase"] == "Completed"
    assert "NotificationRequest kubernaut-system/nr-approval-rr-1" in report.world.objects


async def test_without_a_person_s_leave() -> None:
    """Rejected: no execution in any world."""
    report = await crash_everywhere(controller, world, KEY, advance=cast(approval=ApprovalDecision.REJECTED))
    assert status_of(report)["failurePhase"] == "Approval"
    assert not any(name.startswith("WorkflowExecution") for name in report.world.objects)


@pytest.mark.parametrize(
    ("runs", "phase", "executions"),
    [
        pytest.param((Run.FAILED, Run.COMPLETED), "Completed", 2, id="the second attempt succeeds"),
        pytest.param((Run.FAILED, Run.FAILED), "Failed", 2, id="the attempts are used up"),
    ],
)
async def test_recovery(runs: tuple[Run, ...], phase: str, executions: int) -> None:
    """Each attempt is made exactly once, wherever the process dies."""
    once = Settings(orchestrator=OrchestratorSettings(max_recovery_attempts=1))
    report = await crash_everywhere(lambda client: controller(client, once), world, KEY, advance=cast(runs=runs))
    assert status_of(report)["overallPhase"] == phase
    assert executions == sum(name.startswith("WorkflowExecution") for name in report.world.objects)


async def test_nobody_answers() -> None:
    """Children that never move: the phase's deadline ends it."""

    async def silence(_: KubeClient) -> None:
        pass

    report = await crash_everywhere(controller, world, KEY, advance=silence)
    assert status_of(report)["overallPhase"] == "TimedOut"
    assert status_of(report)["timeoutPhase"] == "Processing"


async def test_called_off_while_running() -> None:
    """The execution is deleted, and nothing is created anew. Only whether its UID was still seen may differ."""
    going = cast(runs=(Run.RUNNING,))

    async def advance(client: KubeClient) -> None:
        await going(client)
        found = await client.list(resources.WORKFLOW_EXECUTION, names.SYSTEM_NAMESPACE)
        if found.items and found.items[0].get("status"):
            note = {"metadata": {"annotations": {names.ANNOTATION_CANCEL: "enough"}}}
            await client.patch(resources.REMEDIATION_REQUEST, "rr-1", note, names.SYSTEM_NAMESPACE)

    report = await crash_everywhere(controller, world, KEY, advance=advance, ignore=("workflowExecutionRef",))
    assert status_of(report)["overallPhase"] == "Cancelled"
    assert "NotificationRequest kubernaut-system/nr-cancelled-rr-1" in report.world.objects
    assert "WorkflowExecution kubernaut-system/we-rr-1" not in report.world.objects


async def test_a_duplicate_waits_and_takes_over() -> None:
    """Two requests with one fingerprint: the younger one waits for the older one's outcome."""

    async def both(client: KubeClient) -> None:
        await client.create(resources.REMEDIATION_REQUEST, build.remediation_request("rr-0").to_object())
        await world(client)

    async def advance(client: KubeClient) -> None:
        mine = await client.get(resources.REMEDIATION_REQUEST, "rr-1", names.SYSTEM_NAMESPACE)
        if mine.get("status", {}).get("overallPhase") == "Blocked":
            done = build.remediation_request(
                phase=crds.remediation_request.RemediationPhase.COMPLETED, outcome="Remediated"
            )
            body = {"status": done.status.to_object()}
            await client.patch(
                resources.REMEDIATION_REQUEST, "rr-0", body, names.SYSTEM_NAMESPACE, subresource="status"
            )

    report = await crash_everywhere(controller, both, KEY, advance=advance)
    status = status_of(report)
    assert (status["overallPhase"], status["outcome"], status["duplicateOf"]) == ("Completed", "Remediated", "rr-0")
    assert len(report.world.objects) == 2


async def test_the_end_of_retention_removes_everything() -> None:
    """The request and, with it, all its children; what stays is its UID, once, so that its name does not come back."""

    def patient(client: KubeClient) -> RemediationController:
        return RemediationController(Deps(client, Settings(), Endpoints(), lambda: "token", lambda _ns, _name: None))

    report = await crash_everywhere(patient, world, KEY, advance=cast())
    [left] = report.world.objects.values()
    assert lineage.last_of(left, build.FINGERPRINT) is not None
    assert (left["kind"], len(left["data"])) == ("ConfigMap", 1)
    assert "RetentionOver" in report.outcomes
