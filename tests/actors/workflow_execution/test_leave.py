"""The last check of a person's leave before a PipelineRun is created."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.workflow_execution import controller, leave
from actors.workflow_execution.decide import decide
from actors.workflow_execution.observe import Observed, Reader
from actors.workflow_execution.queue import Entry
from kubernaut_ray import names
from kubernaut_ray.contracts import grants
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Create, Key, Patch
from kubernaut_ray.crds.approval import Grant
from kubernaut_ray.crds.enums import ApprovalDecision, ExecutionFailureReason, WorkflowExecutionPhase
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest as Approval
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import (
    AI_ANALYSIS,
    APPROVAL_REQUEST,
    PIPELINE_RUN,
    REMEDIATION_REQUEST,
    WORKFLOW_EXECUTION,
)
from kubernaut_ray.settings import AdmissionSettings, Settings
from kubernaut_ray.signing import SigningKey
from tests import build
from tests.crash import crash_everywhere
from tests.memory_kube import MemoryKube
from tests.shelf import Shelf

_private = Ed25519PrivateKey.generate()
PEM = _private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEY = SigningKey(_private)
SETTINGS = Settings()
REMEDIATION = build.remediation_request()


def scene(*, needed: bool = True) -> Observed:
    """An approved execution that is about to start."""
    request = build.approval_request(REMEDIATION)
    workflow = grants.decided_workflow(request)
    grant = grants.sign_grant(
        KEY, request, workflow, approved_by=("ann",), target_uid="uid-web", issued_at=build.NOW,
        expires_at=build.NOW + timedelta(hours=1),
    )  # fmt: skip
    status = request.status.replace(
        decision=ApprovalDecision.APPROVED, sealed_decision=ApprovalDecision.APPROVED, grant=grant
    )
    execution = build.workflow_execution(REMEDIATION, WorkflowExecutionPhase.PENDING, admitted_at=build.NOW)
    spec = execution.spec.replace(
        workflow_ref={f: getattr(workflow, f) for f in type(execution.spec.workflow_ref).model_fields},
        parameters=workflow.parameters,
        target_resource=str(request.spec.target_resource),
        approval=grant,
    )
    asked = leave.Asked(needed, request.replace(status=status), "uid-web")
    execution = execution.replace(spec=spec)
    return Observed(execution, leave=asked, workflow=build.registered(execution))


def used(seen: Observed, by: str) -> Observed:
    request = seen.leave.request
    assert request is not None
    return replace(seen, leave=replace(seen.leave, request=request.replace(status=request.status.replace(used_by=by))))


def without_grant(execution: WorkflowExecution) -> WorkflowExecution:
    return execution.replace(spec=execution.spec.replace(approval=None))


def test_the_approval_is_used_up_before_anything_is_created() -> None:
    """First the claim on the very version that was seen, and the PipelineRun only once the claim is there."""
    seen = scene()
    first = decide(seen, build.NOW, SETTINGS, KEY)
    [claim] = first.effects
    assert isinstance(claim, Patch)
    assert (claim.patch, claim.subresource) == ({"status": {"usedBy": seen.execution.uid}}, "status")
    assert seen.leave.request is not None
    assert claim.resource_version == seen.leave.request.metadata.resource_version
    second = decide(used(seen, seen.execution.uid), build.NOW, SETTINGS, KEY)
    [create] = second.effects
    assert isinstance(create, Create)
    assert create.resource == PIPELINE_RUN


def refused(seen: Observed) -> str:
    """Return why it did not run; nothing but telling it may happen."""
    decision = decide(seen, build.NOW, SETTINGS, KEY)
    assert not [e for e in decision.effects if isinstance(e, (Create, Patch))]
    assert decision.status is not None
    assert decision.status.phase is WorkflowExecutionPhase.FAILED
    details = decision.status.failure_details
    assert details is not None
    assert (details.reason, details.was_execution_failure) == (ExecutionFailureReason.APPROVAL_INVALID, False)
    return details.message


def test_a_replay_does_not_run() -> None:
    """Another execution used the leave; one of the same name made anew is another execution."""
    assert "used already" in refused(used(scene(), "uid-of-the-first"))


def test_what_was_not_approved_does_not_run() -> None:
    """Other parameters than the ones that were approved."""
    seen = scene()
    changed = seen.execution.replace(spec=seen.execution.spec.replace(parameters={"MEMORY_LIMIT": "64Gi"}))
    assert "another parameters" in refused(replace(seen, execution=changed))


def test_a_replaced_target_is_left_alone() -> None:
    """The Deployment that was looked at is gone, and another has its name."""
    seen = scene()
    assert "replaced" in refused(replace(seen, leave=replace(seen.leave, target_uid="uid-new")))


def test_leave_that_expires_in_the_queue_is_not_used() -> None:
    """It waits no longer than its grant holds, and has not spent it while it waits."""
    seen = scene()
    waiting = replace(seen, execution=build.with_status(seen.execution, admitted_at=None))
    settings = Settings.load(execution={"max_running": 1})
    runs = Entry("u", "we-other", "shop/deployment/db", build.NOW, build.NOW, started=True)
    crowded = replace(waiting, others=(runs,))
    at, last = build.NOW, build.NOW + timedelta(hours=1)
    while at < last:
        decision = decide(crowded, at, settings, KEY)
        assert (decision.reason, decision.effects) == ("Queued", ())
        assert decision.wake_at is not None
        assert at < decision.wake_at <= last
        at = max(decision.wake_at, at + timedelta(minutes=1))
    final = decide(crowded, last, settings, KEY).status
    assert final is not None
    assert final.failure_details is not None
    assert final.failure_details.reason is ExecutionFailureReason.APPROVAL_INVALID


def test_without_leave_nothing_runs_that_needs_it() -> None:
    """No grant though one was asked for; none at all though the analysis needs one; a request that is gone."""
    seen = scene()
    bare = replace(seen, execution=without_grant(seen.execution))
    assert "carries no approval" in refused(bare)
    assert "no request" in refused(replace(bare, leave=leave.Asked(needed=True)))
    assert "is gone" in refused(replace(seen, leave=leave.Asked(needed=True)))


def test_what_needs_no_leave_runs_without() -> None:
    """And where nothing is signed, nothing is checked."""
    seen = replace(scene(), leave=leave.Asked())
    bare = replace(seen, execution=without_grant(seen.execution))
    assert [type(e) for e in decide(bare, build.NOW, SETTINGS, KEY).effects] == [Create]
    assert [type(e) for e in decide(scene(), build.NOW, SETTINGS).effects] == [Create]


@pytest.mark.parametrize(
    ("analysed", "needed"),
    [
        pytest.param({"approvalRequired": True}, True, id="it needs leave"),
        pytest.param({"approvalRequired": False}, False, id="it needs none"),
        pytest.param({"phase": "Investigating"}, True, id="it is being made anew"),
        pytest.param(None, True, id="it is gone"),
    ],
)
async def test_what_does_not_say_that_it_needs_no_leave_needs_it(
    tmp_path: Path, analysed: dict[str, Any] | None, needed: bool
) -> None:
    """Deleting the analysis is no way round a person."""
    kube = MemoryKube(lambda: build.NOW)
    request = RemediationRequest.from_object(await kube.create(REMEDIATION_REQUEST, REMEDIATION.to_object()))
    if analysed is not None:
        analysis = build.ai_analysis(request, None)
        await kube.create(AI_ANALYSIS, analysis.to_object())
        told = {"status": analysed}
        await kube.patch(AI_ANALYSIS, analysis.name, told, request.namespace, subresource="status")
    execution = build.workflow_execution(request, None)
    await kube.create(WORKFLOW_EXECUTION, execution.to_object())
    pending = {"status": {"phase": "Pending"}}
    await kube.patch(WORKFLOW_EXECUTION, execution.name, pending, request.namespace, subresource="status")
    settings = _signing(tmp_path)
    seen = await Reader(kube, settings, Shelf()).observe(Key(request.namespace, execution.name))
    assert seen is not None
    assert seen.leave == leave.Asked(needed)


APPROVED = ApprovalDecision.APPROVED


async def _stored(client: KubeClient) -> tuple[Approval, Grant]:
    """A sealed approval request with its grant, as the approval controller leaves it."""
    asked = build.approval_request(REMEDIATION)
    request = Approval.from_object(await client.create(APPROVAL_REQUEST, asked.to_object()))
    now = build.NOW
    grant = grants.sign_grant(
        KEY, request, grants.decided_workflow(request), approved_by=("ann",), target_uid="", issued_at=now,
        expires_at=now + timedelta(days=3650),
    )  # fmt: skip
    status = request.status.replace(decision=APPROVED, sealed_decision=APPROVED, grant=grant, authenticated=True)
    await client.patch(
        APPROVAL_REQUEST, request.name, {"status": status.to_object()}, request.namespace, subresource="status"
    )
    return request, grant


def _execution(grant: Grant) -> WorkflowExecution:
    seen = scene().execution
    fresh = build.workflow_execution(REMEDIATION, None)
    return fresh.replace(spec=seen.spec.replace(approval=grant))


async def test_a_crash_anywhere_uses_the_approval_once(tmp_path: Path) -> None:
    """The claim and the PipelineRun are made once, in this order, whatever crashes on the way."""
    settings = _signing(tmp_path)
    key = Key(names.SYSTEM_NAMESPACE, "we-rr-1")

    async def world(client: KubeClient) -> None:
        _, grant = await _stored(client)
        await client.create(WORKFLOW_EXECUTION, _execution(grant).to_object(), key.namespace)

    report = await crash_everywhere(
        lambda client: controller.WorkflowExecutionController(
            Deps(client, settings, Endpoints(), lambda: "token", lambda *_: None),
            Shelf(build.registered(scene().execution)),
        ),
        world,
        key,
    )
    objects = report.world.objects
    used_by = objects[f"RemediationApprovalRequest {names.SYSTEM_NAMESPACE}/rar-rr-1"]["status"]["usedBy"]
    assert used_by == objects[f"WorkflowExecution {key}"]["metadata"]["uid"]
    assert len([name for name in objects if name.startswith("PipelineRun ")]) == 1
    assert "ApprovalClaimed" in report.outcomes


async def test_an_execution_made_anew_cannot_use_the_approval_again(tmp_path: Path) -> None:
    """Same name, same grant, another UID: a replay, which ends before anything is created."""
    settings = _signing(tmp_path)
    key = Key(names.SYSTEM_NAMESPACE, "we-rr-1")

    async def world(client: KubeClient) -> None:
        request, grant = await _stored(client)
        used = {"status": {"usedBy": "uid-of-the-one-that-was-deleted"}}
        await client.patch(APPROVAL_REQUEST, request.name, used, request.namespace, subresource="status")
        await client.create(WORKFLOW_EXECUTION, _execution(grant).to_object(), key.namespace)

    report = await crash_everywhere(
        lambda client: controller.WorkflowExecutionController(
            Deps(client, settings, Endpoints(), lambda: "token", lambda *_: None),
            Shelf(build.registered(scene().execution)),
        ),
        world,
        key,
    )
    objects = report.world.objects
    status = objects[f"WorkflowExecution {key}"]["status"]
    assert (status["phase"], status["failureDetails"]["reason"]) == ("Failed", "ApprovalInvalid")
    assert not [name for name in objects if name.startswith("PipelineRun ")]


def _signing(folder: Path) -> Settings:
    """Settings under which decisions are signed, with this module's key in its place."""
    settings = Settings(data_dir=folder, admission=AdmissionSettings(mode="required"))
    settings.approval_key.parent.mkdir(exist_ok=True)
    settings.approval_key.write_bytes(PEM)
    return settings
