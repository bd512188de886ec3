"""The approval controller killed at every point: one seal, one fact."""

from __future__ import annotations

import pytest

from actors.approval.controller import ApprovalController
from actors.approval.decide import Rules
from kubernaut_ray import names
from kubernaut_ray.contracts import grants
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.approval import DecisionRecord
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import APPROVAL_REQUEST
from kubernaut_ray.signing import SigningKey
from tests import build
from tests.crash import crash_everywhere

KEY = Key(names.SYSTEM_NAMESPACE, "rar-rr-1")


@pytest.mark.parametrize(("written", "sealed"), [("Approved", "Approved"), ("Rejected", "Rejected"), ("", "Expired")])
async def test_a_decision_survives_every_crash(written: str, sealed: str) -> None:
    """Decided by a person, or by the deadline; never twice."""

    async def world(client: KubeClient) -> None:
        request = build.approval_request(build.remediation_request(), required_by=build.later(900))
        await client.create(APPROVAL_REQUEST, request.to_object())

    async def advance(client: KubeClient) -> None:
        found = await client.get(APPROVAL_REQUEST, KEY.name, KEY.namespace)
        if written and found.get("status", {}).get("createdAt") and not found["status"].get("decision"):
            body = {"status": {"decision": written, "decidedBy": "ann"}}
            await client.patch(APPROVAL_REQUEST, KEY.name, body, KEY.namespace, subresource="status")

    report = await crash_everywhere(ApprovalController, world, KEY, advance=advance, start=build.NOW)
    status = report.world.objects["RemediationApprovalRequest kubernaut-system/rar-rr-1"]["status"]
    assert (status["sealedDecision"], status["decision"]) == (sealed, sealed)
    assert len(report.world.facts) == 1


async def test_a_stamped_decision_survives_every_crash() -> None:
    """One grant, signed the same way whoever made it, and one fact."""
    key = SigningKey.generate()

    def controller(client: KubeClient) -> ApprovalController:
        return ApprovalController(client, Rules(key))

    async def world(client: KubeClient) -> None:
        request = build.approval_request(build.remediation_request(), required_by=build.later(900))
        await client.create(APPROVAL_REQUEST, request.to_object())

    async def advance(client: KubeClient) -> None:
        found = await client.get(APPROVAL_REQUEST, KEY.name, KEY.namespace)
        if found.get("status", {}).get("createdAt") and not found["status"].get("decision"):
            request = RemediationApprovalRequest.from_object(found)
            record = DecisionRecord(
                decision=ApprovalDecision.APPROVED,
                by="ann",
                at=build.later(1),
                subject=grants.subject(grants.decided_workflow(request)),
            )
            signed = grants.sign_record(key, request.uid, record)
            body = {"status": {"decision": "Approved", "approvals": [signed.to_object()]}}
            await client.patch(APPROVAL_REQUEST, KEY.name, body, KEY.namespace, subresource="status")

    report = await crash_everywhere(controller, world, KEY, advance=advance, start=build.NOW)
    status = report.world.objects["RemediationApprovalRequest kubernaut-system/rar-rr-1"]["status"]
    assert (status["sealedDecision"], status["decidedBy"], status["authenticated"]) == ("Approved", "ann", True)
    assert status["grant"]["approvedBy"] == ["ann"]
    assert len(report.world.facts) == 1
