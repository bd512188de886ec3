"""Write a person's decision on an approval request: once, in time, in the name of who is logged in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from kubernaut_ray.crds import RemediationApprovalRequest
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, UserInfo
from kubernaut_ray.kube.errors import Conflict, NotFound

VIA = "console"
MAX_ATTEMPTS = 5


class Result(StrEnum):
    """What became of the click."""

    APPROVED = "approved"
    REJECTED = "rejected"
    ALREADY_DECIDED = "already-decided"
    EXPIRED = "expired"
    GONE = "gone"
    REASON_MISSING = "reason-missing"


async def decide(
    client: KubeClient,
    namespace: str,
    name: str,
    decision: ApprovalDecision,
    message: str,
    user: UserInfo,
    now: datetime,
) -> Result:
    """Decide on the approval request ``name``. The write is conditional: of two clicks at a time only one counts."""
    if decision is ApprovalDecision.REJECTED and not message.strip():
        return Result.REASON_MISSING
    for _ in range(MAX_ATTEMPTS):
        try:
            obj = await client.get(resources.APPROVAL_REQUEST, name, namespace)
            request = RemediationApprovalRequest.from_object(obj)
            if request.status.decision or request.status.sealed_decision:
                return Result.ALREADY_DECIDED
            if request.status.expired or now >= request.spec.required_by:
                return Result.EXPIRED
            status = {
                "decision": decision.value,
                "decidedBy": user.username,
                "decidedVia": VIA,
                "decisionMessage": message.strip()[:4096],
            }
            patch = {"metadata": {"resourceVersion": request.metadata.resource_version}, "status": status}
            await client.patch(resources.APPROVAL_REQUEST, name, patch, namespace, subresource="status")
        except Conflict:
            continue  # Somebody decided, or the controller wrote its part: look again.
        except NotFound:
            return Result.GONE
        return Result.APPROVED if decision is ApprovalDecision.APPROVED else Result.REJECTED
    raise Retryable(f"approval request {name} changes faster than it can be decided; try again")
