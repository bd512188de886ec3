"""What becomes of an approval request."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.approval.decide import Observed, Rules, decide
from actors.approval.phases import TABLE, phase_of
from kubernaut_ray import conditions
from kubernaut_ray.contracts import grants
from kubernaut_ray.control.decision import Audit, Decision
from kubernaut_ray.crds.approval import DecisionRecord
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import (
    RemediationApprovalRequest,
    RemediationApprovalRequestStatus,
    WorkflowOverride,
)
from kubernaut_ray.crds.shared import WorkflowRef
from kubernaut_ray.signing import SigningKey
from tests import build
from tests.trail import fits

REQUEST = build.remediation_request()
APPROVED, REJECTED, EXPIRED = ApprovalDecision.APPROVED, ApprovalDecision.REJECTED, ApprovalDecision.EXPIRED


def asked(**status: Any) -> RemediationApprovalRequest:
    """A request that the controller has taken up."""
    return build.approval_request(REQUEST, **{"created_at": build.NOW, **status})


def step(request: RemediationApprovalRequest, now: datetime = build.NOW) -> Decision[RemediationApprovalRequestStatus]:
    decision = decide(Observed(request), now)
    if decision.status is not None:
        TABLE.check(phase_of(request.status), phase_of(decision.status))
    return decision


def result(decision: Decision[RemediationApprovalRequestStatus]) -> RemediationApprovalRequestStatus:
    assert decision.status is not None, decision.reason
    return decision.status


def test_a_new_request_gets_its_conditions_and_its_clock() -> None:
    """Taken up, pending, and looked at again at the deadline."""
    decision = step(build.approval_request(REQUEST))
    status = result(decision)
    assert conditions.is_true(status.conditions, "ApprovalPending")
    assert not conditions.is_true(status.conditions, "ApprovalDecided")
    assert decision.wake_at == build.later(minutes=15)


@pytest.mark.parametrize(("decision", "event"), [(APPROVED, "approved"), (REJECTED, "rejected")])
def test_a_decision_in_time_is_sealed_once(decision: ApprovalDecision, event: str) -> None:
    """The controller stamps the time and tells the fact under the decider's name."""
    sealed = step(asked(decision=decision, decided_by="ann", decision_message="go"), build.later(60))
    status = result(sealed)
    assert (status.sealed_decision, status.decided_at, status.decided_by) == (decision, build.later(60), "ann")
    assert conditions.is_true(status.conditions, "ApprovalDecided")
    [fact] = [effect.event for effect in sealed.effects if isinstance(effect, Audit)]
    assert (fact.event_type, fact.actor_id) == (f"orchestrator.approval.{event}", "ann")
    assert step(asked().replace(status=status), build.later(minutes=60)).status is None


def test_a_decision_by_nobody_says_so() -> None:
    """``kubectl patch`` without a name."""
    assert result(step(asked(decision=APPROVED))).decided_by == "unknown (kubectl)"


def test_a_person_may_say_a_lot() -> None:
    """A reason as long as its field takes does not keep the decision from being sealed."""
    wordy = asked(
        created_at=build.NOW, decision=ApprovalDecision.REJECTED, decided_by="ann", decision_message="x" * 32_768
    )
    sealed = result(step(wordy))
    assert (sealed.sealed_decision, len(sealed.message)) == (ApprovalDecision.REJECTED, 32_768)


def test_the_deadline_expires_it() -> None:
    """By the system, at the deadline and not before."""
    assert step(asked(), build.later(15 * 60 - 1)).status is None
    status = result(step(asked(), build.later(minutes=15)))
    assert (status.sealed_decision, status.decision, status.expired, status.decided_by) == (
        EXPIRED,
        EXPIRED,
        True,
        "system",
    )


def test_a_late_approval_does_not_count() -> None:
    """It expires all the same, and the object says why."""
    status = result(step(asked(decision=APPROVED, decided_by="ann"), build.later(minutes=16)))
    assert status.sealed_decision is EXPIRED
    assert "too late" in status.message


@pytest.mark.parametrize(
    ("sealed", "written"),
    [(APPROVED, REJECTED), (REJECTED, APPROVED), (EXPIRED, APPROVED), (APPROVED, ApprovalDecision.NONE)],
)
def test_a_second_decision_is_put_back(sealed: ApprovalDecision, written: ApprovalDecision) -> None:
    """What was sealed stays, and the attempt is on record."""
    status = result(step(asked(sealed_decision=sealed, decision=written, decided_by="ann")))
    assert (status.decision, status.sealed_decision) == (sealed, sealed)
    assert conditions.is_true(status.conditions, "DecisionChangeRefused")


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        pytest.param({"decision": EXPIRED}, "only the deadline", id="a person writes Expired"),
        pytest.param(
            {"decision": APPROVED, "workflow_override": WorkflowOverride(workflow_name="other")},
            "override",
            id="a workflow override",
        ),
    ],
)
def test_an_unusable_decision_is_refused_and_the_question_stays_open(status: dict[str, Any], hint: str) -> None:
    """Put back to undecided with a message that says what to do."""
    refused = result(step(asked(**status)))
    assert (refused.decision, refused.sealed_decision) == (ApprovalDecision.NONE, ApprovalDecision.NONE)
    assert hint in refused.message
    assert refused.workflow_override is None


@given(
    writes=st.lists(st.tuples(st.sampled_from(list(ApprovalDecision)), st.integers(0, 400)), min_size=1, max_size=12)
)
def test_sealed_once_and_never_after_the_deadline(writes: list[tuple[ApprovalDecision, int]]) -> None:
    """Whatever is written and whenever: one seal, never changed, no Approved or Rejected sealed after the deadline."""
    request, now, seals = build.approval_request(REQUEST), build.NOW, set[ApprovalDecision]()
    for written, seconds in writes:
        now = max(now, build.later(seconds * 4))
        request = build.with_status(request, decision=written)
        for _ in range(4):
            before = request.status.sealed_decision
            decision = step(request, now)
            if decision.status is not None:
                request = request.replace(status=decision.status)
            after = request.status.sealed_decision
            if before is ApprovalDecision.NONE and after in {APPROVED, REJECTED}:
                assert now < request.spec.required_by
            if after is not ApprovalDecision.NONE:
                seals.add(after)
        assert step(request, now).status is None
    assert len(seals) <= 1


def facts(decision: Decision[RemediationApprovalRequestStatus]) -> list[tuple[str, str]]:
    told = [fits(effect.event) for effect in decision.effects if isinstance(effect, Audit)]
    return [(event.event_type, event.event_data.get("decided_via") or event.event_data["reason"]) for event in told]


def test_how_a_decision_came_is_told() -> None:
    """By the way that was named, by ``kubectl`` where none was, and by the deadline."""
    assert facts(step(asked(decision=APPROVED, decided_via="console"))) == [
        ("orchestrator.approval.approved", "console")
    ]
    assert facts(step(asked(decision=REJECTED))) == [("orchestrator.approval.rejected", "kubectl")]
    assert facts(step(asked(), build.later(minutes=15))) == [("orchestrator.approval.expired", "deadline")]


def test_a_decision_that_does_not_count_is_told() -> None:
    """Written over a sealed one, or one that cannot be honoured: each try is a fact, told again or not."""
    over = step(asked(decision=REJECTED, sealed_decision=APPROVED))
    assert facts(over) == [("orchestrator.approval.refused", "the decision is final")]
    override = asked(decision=APPROVED, workflow_override=WorkflowOverride(workflow_name="other"))
    assert facts(step(override)) == [
        (
            "orchestrator.approval.refused",
            "a workflow override cannot be honoured; approve the recommended workflow as it is, or reject",
        )
    ]
    [first], [again] = (
        [effect.event for effect in step(override, build.later(seconds)).effects if isinstance(effect, Audit)]
        for seconds in (0, 5)
    )
    assert first.event_id == again.event_id


KEY = SigningKey.generate()
RULES = Rules(KEY, timedelta(hours=1))


def stamped(request: RemediationApprovalRequest, by: str, decision: ApprovalDecision = APPROVED) -> DecisionRecord:
    """What the admission webhook would put on a decision."""
    subject = grants.subject(grants.decided_workflow(request))
    record = DecisionRecord(decision=decision, by=by, at=build.later(30), via="kubectl", subject=subject)
    return grants.sign_record(KEY, request.uid, record)


def signed(
    request: RemediationApprovalRequest, now: datetime = build.NOW
) -> Decision[RemediationApprovalRequestStatus]:
    decision = decide(Observed(request), now, RULES)
    if decision.status is not None:
        TABLE.check(phase_of(request.status), phase_of(decision.status))
    return decision


def test_without_a_webhook_the_object_says_that_nobody_was_authenticated() -> None:
    """It counts, and it cannot be taken for more than it is."""
    status = result(step(asked(decision=APPROVED, decided_by="ann")))
    assert not status.authenticated
    assert status.grant is None
    assert "not authenticated" in status.message
    assert not conditions.is_true(status.conditions, "DecisionAuthenticated")


def test_a_stamped_approval_becomes_a_grant() -> None:
    """In the name that the webhook stamped, whatever the status claims."""
    base = asked(decision=APPROVED, decided_by="mallory", target_uid="uid-web")
    status = result(
        signed(base.replace(status=base.status.replace(approvals=(stamped(base, "ann"),))), build.later(60))
    )
    assert (status.sealed_decision, status.decided_by, status.decided_at) == (APPROVED, "ann", build.later(30))
    assert status.authenticated
    assert status.grant is not None
    assert (status.grant.approved_by, status.grant.target_uid, status.grant.execution) == (
        ("ann",),
        "uid-web",
        "we-rr-1",
    )
    assert status.grant.expires_at == build.later(3660)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"decision": APPROVED, "decided_by": "ann"}, id="nothing stamped"),
        pytest.param({"decision": REJECTED, "decided_by": "ann"}, id="a rejection by nobody"),
    ],
)
def test_where_the_webhook_is_installed_only_what_it_stamped_counts(status: dict[str, Any]) -> None:
    """Anything else is put back, and the question stays open."""
    refused = result(signed(asked(**status)))
    assert (refused.decision, refused.sealed_decision) == (ApprovalDecision.NONE, ApprovalDecision.NONE)
    assert "stamp" in refused.message


def test_a_stamp_does_not_cover_another_workflow() -> None:
    """The record is about what was seen; an override slipped in afterwards is not."""
    base = asked(decision=APPROVED)
    override = WorkflowOverride(
        workflow_name="other", resolved=WorkflowRef(workflow_id="x", version="1", container_image="i")
    )
    changed = base.replace(status=base.status.replace(approvals=(stamped(base, "ann"),), workflow_override=override))
    assert result(signed(changed)).sealed_decision is ApprovalDecision.NONE


def test_an_override_that_was_approved_is_what_the_grant_is_for() -> None:
    """And the fact says so."""
    override = WorkflowOverride(
        workflow_name="other",
        parameters={"A": "b"},
        resolved=WorkflowRef(workflow_id="x", version="1", container_image="i"),
    )
    base = asked(decision=APPROVED, workflow_override=override)
    sealed = signed(base.replace(status=base.status.replace(approvals=(stamped(base, "ann"),))))
    status = result(sealed)
    assert status.grant is not None
    assert (status.grant.workflow_id, status.grant.workflow_image) == ("x", "i")
    [fact] = [effect.event for effect in sealed.effects if isinstance(effect, Audit)]
    assert (fact.event_data["workflow_id"], fact.event_data["workflow_override"]) == ("x", True)


def test_several_people_are_counted() -> None:
    """One of two is said and waits; the second seals it in both names."""
    base = asked()
    base = base.replace(spec=base.spec.replace(required_approvals=2))
    one = base.replace(status=base.status.replace(approvals=(stamped(base, "ann"),)))
    waiting = result(signed(one))
    assert (waiting.sealed_decision, waiting.message) == (ApprovalDecision.NONE, "1 of 2 approvals: ann")
    assert signed(one.replace(status=waiting)).status is None
    early = one.replace(status=one.status.replace(decision=APPROVED))
    assert result(signed(early)).sealed_decision is ApprovalDecision.NONE
    both = (stamped(base, "ann"), stamped(base, "bob"))
    done = result(signed(base.replace(status=base.status.replace(decision=APPROVED, approvals=both))))
    assert (done.sealed_decision, done.decided_by) == (APPROVED, "ann, bob")


def test_one_rejection_is_enough() -> None:
    """Whoever approved before."""
    base = asked(decision=REJECTED)
    base = base.replace(spec=base.spec.replace(required_approvals=3))
    record = stamped(base, "bob", REJECTED)
    status = result(
        signed(base.replace(status=base.status.replace(approvals=(stamped(base, "ann"),), rejection=record)))
    )
    assert (status.sealed_decision, status.decided_by, status.authenticated) == (REJECTED, "bob", True)
    assert status.grant is None


def test_what_needs_authentication_is_not_approved_without() -> None:
    """Four eyes and N of M mean nothing where anybody can write any name."""
    base = asked(decision=APPROVED, decided_by="ann")
    for changes in ({"four_eyes": True}, {"required_approvals": 2}):
        refused = result(step(base.replace(spec=base.spec.replace(**changes))))
        assert refused.sealed_decision is ApprovalDecision.NONE
        assert "not authenticated" in refused.message
