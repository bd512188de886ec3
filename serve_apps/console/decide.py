"""Write a person's decision on an approval request: once, in time, in the name of who is logged in.

Where the admission webhook stamps who decides, the write bears the person's own token (``as_person``), so that the API server
itself establishes who it is, and no service needs the right to be anybody.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import structlog

from kubernaut_ray.crds import RemediationApprovalRequest
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, UserInfo
from kubernaut_ray.kube.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized

VIA = "console"
log = structlog.get_logger(__name__)
MAX_ATTEMPTS = 5


class Result(StrEnum):
    """What became of the click."""

    APPROVED = "approved"
    REJECTED = "rejected"
    ALREADY_DECIDED = "already-decided"
    EXPIRED = "expired"
    GONE = "gone"
    REASON_MISSING = "reason-missing"
    RECORDED = "recorded"
    """The approval counts; others must approve too."""
    REFUSED = "refused"


async def decide(
    client: KubeClient,
    namespace: str,
    name: str,
    decision: ApprovalDecision,
    message: str,
    user: UserInfo,
    now: datetime,
    *,
    as_person: KubeClient | None = None,
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
            written = await (as_person or client).patch(
                resources.APPROVAL_REQUEST, name, patch, namespace, subresource="status"
            )
        except Conflict:
            continue  # Somebody decided, or the controller wrote its part: look again.
        except NotFound:
            return Result.GONE
        except (Forbidden, Invalid, Unauthorized) as error:
            log.warning("console.decision_refused", approval=name, by=user.username, error=str(error))
            return Result.REFUSED
        if not (written.get("status") or {}).get("decision"):
            return Result.RECORDED
        return Result.APPROVED if decision is ApprovalDecision.APPROVED else Result.REJECTED
    raise Retryable(f"approval request {name} changes faster than it can be decided; try again")
