"""Signing and checking decision records and grants: what is bound, and why one does not hold.

The webhook makes records, the approval controller checks them and makes the grant, the controller of executions checks the
grant against what it is about to run. All three speak this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from kubernaut_ray import names
from kubernaut_ray.crds.approval import DecisionRecord, Grant
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest, RemediationApprovalRequestStatus
from kubernaut_ray.crds.shared import SelectedWorkflow, WorkflowRef
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.signing import SigningKey, digest

_RECORD, _GRANT = "kubernaut.ai/decision-record", "kubernaut.ai/grant"


def pinned(workflow: WorkflowRef) -> str:
    """Return the image reference with its digest when there is one: what is approved is what runs."""
    if workflow.container_digest and "@" not in workflow.container_image:
        return f"{workflow.container_image}@{workflow.container_digest}"
    return workflow.container_image


def decided_workflow(
    request: RemediationApprovalRequest, status: RemediationApprovalRequestStatus | None = None
) -> SelectedWorkflow:
    """Return what an approval is about: the recommended workflow, or what the approver puts in its place."""
    spec = request.spec
    override = (status or request.status).workflow_override
    fields = WorkflowRef.model_fields
    if override is None or override.resolved is None:
        chosen = spec.recommended_workflow
        return SelectedWorkflow(
            **{f: getattr(chosen, f) for f in fields},
            parameters=chosen.parameters,
            rationale=chosen.rationale,
            confidence=spec.confidence,
        )
    return SelectedWorkflow(
        **{f: getattr(override.resolved, f) for f in fields},
        parameters=override.parameters,
        rationale=override.rationale or "chosen by the approver",
        confidence=spec.confidence,
    )


def subject(workflow: SelectedWorkflow) -> str:
    """Return the digest of a workflow with its parameters."""
    return digest({"id": workflow.workflow_id, "image": pinned(workflow), "parameters": dict(workflow.parameters)})


def sign_record(key: SigningKey, request_uid: str, record: DecisionRecord) -> DecisionRecord:
    named = record.replace(key_id=key.key_id)
    return named.replace(signature=key.signature(_RECORD, _record(request_uid, named)))


def record_holds(key: SigningKey, request_uid: str, record: DecisionRecord) -> bool:
    """Whether the webhook made this record, about this request."""
    return record.key_id == key.key_id and key.verifies(_RECORD, _record(request_uid, record), record.signature)


def approvers(
    key: SigningKey,
    request: RemediationApprovalRequest,
    records: Iterable[DecisionRecord],
    workflow: SelectedWorkflow,
) -> tuple[str, ...]:
    """Return who approved this workflow in time, each once, and not the requester where four eyes are asked for."""
    about, spec = subject(workflow), request.spec
    found = (
        record.by
        for record in records
        if record.decision is ApprovalDecision.APPROVED
        and record.subject == about
        and record.at < spec.required_by
        and not (spec.four_eyes and record.by == spec.requested_by)
        and record_holds(key, request.uid, record)
    )
    return tuple(dict.fromkeys(found))


def sign_grant(
    key: SigningKey,
    request: RemediationApprovalRequest,
    workflow: SelectedWorkflow,
    *,
    approved_by: tuple[str, ...],
    target_uid: str,
    issued_at: datetime,
    expires_at: datetime,
) -> Grant:
    """Make the leave to run this workflow for this request, once."""
    policy = request.spec.policy_evaluation
    grant = Grant(
        request=request.name,
        request_uid=request.uid,
        remediation_uid=request.spec.remediation_request_ref.uid,
        execution=execution_of(request.name),
        workflow_id=workflow.workflow_id,
        workflow_image=pinned(workflow),
        parameters_digest=digest(dict(workflow.parameters)),
        target_resource=str(request.spec.target_resource),
        target_uid=target_uid,
        policy_hash=policy.policy_hash if policy is not None else "",
        approved_by=approved_by,
        issued_at=issued_at,
        expires_at=expires_at,
        key_id=key.key_id,
    )
    return grant.replace(signature=key.signature(_GRANT, _body(grant)))


def grant_problems(
    key: SigningKey,
    grant: Grant,
    execution: WorkflowExecution,
    request: RemediationApprovalRequest,
    *,
    target_uid: str,
    now: datetime,
) -> Iterator[str]:
    """Yield every reason why this execution may not use this grant."""
    if grant.key_id != key.key_id or not key.verifies(_GRANT, _body(grant), grant.signature):
        yield "its signature does not fit"
        return
    spec, policy = execution.spec, request.spec.policy_evaluation
    bound: Mapping[str, tuple[str, str]] = {
        "execution": (grant.execution, execution.name),
        "approval request": (grant.request_uid, request.uid),
        "remediation": (grant.remediation_uid, spec.remediation_request_ref.uid),
        "workflow": (grant.workflow_id, spec.workflow_ref.workflow_id),
        "image": (grant.workflow_image, pinned(spec.workflow_ref)),
        "parameters": (grant.parameters_digest, digest(dict(spec.parameters))),
        "target": (grant.target_resource, spec.target_resource),
        "policy": (grant.policy_hash, policy.policy_hash if policy is not None else ""),
    }
    for what, (approved, found) in bound.items():
        if approved != found:
            yield f"it was given for another {what} ({approved or '(none)'}, not {found or '(none)'})"
    if grant.target_uid and grant.target_uid != target_uid:
        yield f"the target was replaced since ({grant.target_uid} is {target_uid or 'gone'})"
    if now >= grant.expires_at:
        yield f"it ended at {grant.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    status = request.status
    if status.sealed_decision is not ApprovalDecision.APPROVED or status.grant != grant:
        yield f"{request.name} does not hold it"
    if status.used_by not in ("", execution.uid):
        yield f"it was used already, by the execution with UID {status.used_by}"


def execution_of(request: str) -> str:
    """Name the execution for which an approval request asks."""
    return names.workflow_execution(request.removeprefix("rar-"))


def _record(request_uid: str, record: DecisionRecord) -> dict[str, object]:
    return {"request": request_uid, **record.model_dump(mode="json", exclude={"signature"})}


def _body(grant: Grant) -> dict[str, object]:
    return grant.model_dump(mode="json", exclude={"signature"})
