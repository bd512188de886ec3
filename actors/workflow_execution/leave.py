"""May this execution run at all: the last check of a person's leave, right before the PipelineRun is created. Pure.

What runs is what was approved, or it does not run. The grant that the orchestrator copied into the execution is compared
with the execution, with the sealed approval request and with the target as it is now. It is used up first, by a write that
only one execution can win, and the PipelineRun is created only once that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubernaut_ray import names
from kubernaut_ray.contracts import grants
from kubernaut_ray.control.decision import Key, Patch
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import resources
from kubernaut_ray.signing import SigningKey


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of the leave: whether one is needed, unless the analysis denies it; the request for it; the target's UID now."""

    needed: bool = False
    request: RemediationApprovalRequest | None = None
    target_uid: str = ""


NOTHING = Asked()


@dataclass(frozen=True, slots=True)
class Given:
    """It may run."""


@dataclass(frozen=True, slots=True)
class Unused:
    """It may run once the grant is marked as used by it."""

    claim: Patch


@dataclass(frozen=True, slots=True)
class Refused:
    why: str


Leave = Given | Unused | Refused


def judge(execution: WorkflowExecution, asked: Asked, key: SigningKey | None, now: datetime) -> Leave:
    """Judge the leave of an execution. Without a key nothing is signed here, and there is nothing to check."""
    if key is None:
        return Given()
    grant, request = execution.spec.approval, asked.request
    if grant is None and request is None:
        if asked.needed:
            return Refused(
                "a person's approval is needed, or nothing says that it is not, and there is no request for it"
            )
        return Given()
    if grant is None:
        return Refused("it carries no approval, although one was asked for")
    if request is None:
        return Refused(f"the approval request {grant.request} is gone, so nobody can tell whether its leave was used")
    problems = tuple(grants.grant_problems(key, grant, execution, request, target_uid=asked.target_uid, now=now))
    if problems:
        return Refused("its approval does not hold: " + "; ".join(problems))
    if request.status.used_by == execution.uid:
        return Given()
    claim = Patch(
        resources.APPROVAL_REQUEST,
        Key(request.namespace, request.name),
        {"status": {"usedBy": execution.uid}},
        subresource="status",
        resource_version=request.metadata.resource_version,
    )
    return Unused(claim)


def request_of(execution: WorkflowExecution) -> str:
    """Name the approval request that this execution would need."""
    return names.approval_of(execution.name)
