"""What a record and a grant are bound to: any other thing is not what was approved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubernaut_ray.contracts import grants
from kubernaut_ray.crds.approval import DecisionRecord, Grant
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest as Approval
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.signing import SigningKey
from tests import build

KEY = SigningKey.generate()
REMEDIATION = build.remediation_request()
APPROVED = ApprovalDecision.APPROVED


def record(by: str = "ann", *, request: Approval | None = None, key: SigningKey = KEY, **fields: Any) -> DecisionRecord:
    asked = request or build.approval_request(REMEDIATION)
    subject = grants.subject(grants.decided_workflow(asked))
    made = DecisionRecord(**{"decision": APPROVED, "by": by, "at": build.later(60), "subject": subject, **fields})
    return grants.sign_record(key, asked.uid, made)


def granted(target_uid: str = "uid-web") -> tuple[Approval, Grant, WorkflowExecution]:
    """A sealed request, its grant, and the execution that may use it."""
    request = build.approval_request(REMEDIATION)
    workflow = grants.decided_workflow(request)
    grant = grants.sign_grant(
        KEY,
        request,
        workflow,
        approved_by=("ann",),
        target_uid=target_uid,
        issued_at=build.NOW,
        expires_at=build.later(3600),
    )
    sealed = request.replace(status=request.status.replace(decision=APPROVED, sealed_decision=APPROVED, grant=grant))
    execution = build.workflow_execution(REMEDIATION)
    spec = execution.spec.replace(
        workflow_ref={f: getattr(workflow, f) for f in type(execution.spec.workflow_ref).model_fields},
        parameters=workflow.parameters,
        target_resource=str(request.spec.target_resource),
        approval=grant,
    )
    return sealed, grant, execution.replace(spec=spec)


def problems(
    request: Approval, grant: Grant, execution: WorkflowExecution, *, target_uid: str = "uid-web", seconds: float = 60
) -> str:
    found = grants.grant_problems(KEY, grant, execution, request, target_uid=target_uid, now=build.later(seconds))
    return "; ".join(found)


def test_a_grant_holds_for_what_it_was_given_for() -> None:
    """Also after a trip over the API server."""
    request, grant, execution = granted()
    assert problems(request, grant, execution) == ""
    again = WorkflowExecution.from_object(execution.to_object())
    assert again.spec.approval == grant
    assert problems(Approval.from_object(request.to_object()), Grant.model_validate(grant.to_object()), again) == ""


def _spec(**changes: Any) -> Callable[[WorkflowExecution], WorkflowExecution]:
    return lambda execution: execution.replace(spec=execution.spec.replace(**changes))


def _workflow(**changes: Any) -> Callable[[WorkflowExecution], WorkflowExecution]:
    return lambda e: e.replace(spec=e.spec.replace(workflow_ref=e.spec.workflow_ref.replace(**changes)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(_workflow(container_digest="sha256:" + "9" * 64), "another image", id="another digest"),
        pytest.param(_workflow(container_image="registry.invalid/other:1"), "another image", id="another image"),
        pytest.param(_workflow(workflow_id="other"), "another workflow", id="another workflow"),
        pytest.param(_spec(parameters={"A": "b"}), "another parameters", id="other parameters"),
        pytest.param(_spec(target_resource="shop/deployment/other"), "another target", id="another target"),
        pytest.param(
            lambda e: e.replace(metadata=e.metadata.replace(name="we-rr-1-recovery-1")),
            "another execution",
            id="replayed",
        ),
    ],
)
def test_a_grant_holds_for_nothing_else(change: Callable[[WorkflowExecution], WorkflowExecution], why: str) -> None:
    """What runs is what was approved."""
    request, grant, execution = granted()
    assert why in problems(request, grant, change(execution))


@pytest.mark.parametrize("field", [f for f in Grant.model_fields if f not in ("key_id", "signature")])
def test_no_field_of_a_grant_can_be_changed(field: str) -> None:
    """The signature is over all of them."""
    request, grant, execution = granted()
    value: Any = build.later(9) if field.endswith("_at") else ("mallory",) if field == "approved_by" else "other"
    forged = grant.replace(**{field: value})
    assert problems(request, forged, execution) == "its signature does not fit"


def test_a_grant_of_another_key_is_worth_nothing() -> None:
    """Whoever made it."""
    request, grant, execution = granted()
    other = SigningKey.generate()
    forged = grant.replace(key_id=other.key_id)
    assert problems(request, forged, execution) == "its signature does not fit"


def test_a_grant_is_used_once_in_time_on_the_target_that_was_meant() -> None:
    """Not by a second execution of the same name, not after its end, not on what took the target's place."""
    request, grant, execution = granted()
    used = request.replace(status=request.status.replace(used_by="uid-of-another"))
    assert "used already" in problems(used, grant, execution)
    mine = request.replace(status=request.status.replace(used_by=execution.uid))
    assert problems(mine, grant, execution) == ""
    assert "it ended at" in problems(request, grant, execution, seconds=3600)
    assert "the target was replaced" in problems(request, grant, execution, target_uid="uid-new")
    unsealed = request.replace(status=request.status.replace(sealed_decision=ApprovalDecision.REJECTED))
    assert "does not hold it" in problems(unsealed, grant, execution)


def test_who_approved_is_counted_by_people() -> None:
    """Each once, in time, for what would run, and not the requester where four eyes are asked for."""
    request = build.approval_request(REMEDIATION)
    workflow = grants.decided_workflow(request)
    stranger = SigningKey.generate()
    records = (
        record("ann"),
        record("ann"),
        record("bob"),
        record("late", at=build.later(minutes=20)),
        record("other", subject="f" * 64),
        record("forged", key=stranger),
        record("no", decision=ApprovalDecision.REJECTED),
        record("tampered").replace(by="mallory"),
    )
    assert grants.approvers(KEY, request, records, workflow) == ("ann", "bob")
    strict = request.replace(spec=request.spec.replace(four_eyes=True, requested_by="ann"))
    assert grants.approvers(KEY, strict, records, workflow) == ("bob",)
    elsewhere = request.replace(metadata=request.metadata.replace(uid="another"))
    assert grants.approvers(KEY, elsewhere, records, workflow) == ()
