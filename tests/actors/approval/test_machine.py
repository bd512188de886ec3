"""A random life of a RemediationApprovalRequest: people decide, change their minds, come late or forge, and it dies anywhere.

A decision is sealed once and stays; only one that was made in time, and where the webhook is installed only one that it
stamped, is ever sealed; the deadline ends the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from actors.approval.controller import ApprovalController
from actors.approval.decide import WITHOUT_WEBHOOK, Rules
from kubernaut_ray.contracts import grants
from kubernaut_ray.crds.approval import DecisionRecord
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest as Approval
from kubernaut_ray.kube import resources
from kubernaut_ray.signing import SigningKey
from tests import build
from tests.machines import Machine, Trouble, examples, places, troubles

REQUIRED_BY = build.later(minutes=15)
KEY, ANOTHER = SigningKey.generate(), SigningKey.generate()


class Life(Machine):
    resource, name = resources.APPROVAL_REQUEST, "rar-rr-1"
    key: SigningKey | None = None
    needed = 1

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()
        """Decisions that people made in time, as they may."""

    def build(self) -> ApprovalController:
        return ApprovalController(self.client, Rules(self.key) if self.key is not None else WITHOUT_WEBHOOK)

    @initialize()
    def begin(self) -> None:
        made = build.approval_request(build.remediation_request(), required_by=REQUIRED_BY)
        made = made.replace(spec=made.spec.replace(required_approvals=self.needed))
        self.run(self.kube.create(self.resource, made.to_object()))

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule(minutes=st.sampled_from([0.1, 1, 1, 4, 14, 20]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(
        decision=st.sampled_from(["Approved", "Approved", "Rejected", "Expired"]),
        person=st.sampled_from(["ann", "bob"]),
        forged=st.booleans(),
    )
    def somebody_decides(self, decision: str, person: str, forged: bool) -> None:
        """As the webhook lets it through: before the end and in time it is stamped, unless somebody went round it."""
        obj = self.found()
        assert obj is not None
        request = Approval.from_object(obj)
        status: dict[str, Any] = {"decision": decision, "decidedBy": person}
        genuine = not forged and self.now < REQUIRED_BY and decision != "Expired"
        if self.key is not None and decision != "Expired":
            status |= self.stamped(request, ApprovalDecision(decision), person, ANOTHER if forged else self.key)
        if genuine and not request.status.decision and not request.status.sealed_decision:
            self.said.add(decision)
        elif not forged and self.key is not None:
            return  # The webhook refuses a second decision, and a late one.
        self.write(self.resource, self.name, status)
        if self.key is None and self.now < REQUIRED_BY:
            self.said.add(decision)

    def stamped(self, request: Approval, decision: ApprovalDecision, person: str, key: SigningKey) -> dict[str, Any]:
        about = grants.subject(grants.decided_workflow(request))
        record = DecisionRecord(decision=decision, by=person, at=self.now, subject=about)
        signed = grants.sign_record(key, request.uid, record)
        if decision is ApprovalDecision.REJECTED:
            return {"rejection": signed.to_object()}
        before = [given.to_object() for given in request.status.approvals]
        return {"approvals": [*before, signed.to_object()][-20:]}

    @invariant()
    def it_stays_sealed(self) -> None:
        self.an_end_is_an_end()
        obj = self.found()
        assert obj is not None
        status = Approval.from_object(obj).status
        sealed = status.sealed_decision
        if sealed in {ApprovalDecision.APPROVED, ApprovalDecision.REJECTED}:
            assert str(sealed) in self.said
            assert status.authenticated == (self.key is not None)
        if sealed is ApprovalDecision.EXPIRED:
            assert self.now >= REQUIRED_BY
        assert (status.grant is not None) == (sealed is ApprovalDecision.APPROVED and self.key is not None)

    def at_rest(self) -> None:
        """Decided, or ended by the clock; told once."""
        told = [f"orchestrator.approval.{word}" for word in ("approved", "rejected", "expired")]
        assert sum(map(self.trail.told, told)) == 1


class Signed(Life):
    key = KEY


TestLife = Life.TestCase
TestLife.settings = examples(12)
TestSigned = Signed.TestCase
TestSigned.settings = examples(8)
