"""The states of a RemediationApprovalRequest: pending until a decision is sealed, and then for good."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequestStatus

PENDING = "Pending"

TABLE = PhaseTable(
    "RemediationApprovalRequest",
    {
        "": {PENDING: "taken up; the clock runs until requiredBy"},
        PENDING: {
            ApprovalDecision.APPROVED: "a person gave leave in time",
            ApprovalDecision.REJECTED: "a person said no in time",
            ApprovalDecision.EXPIRED: "requiredBy passed without a decision",
        },
        ApprovalDecision.APPROVED: {},
        ApprovalDecision.REJECTED: {},
        ApprovalDecision.EXPIRED: {},
    },
)


def phase_of(status: RemediationApprovalRequestStatus) -> str:
    """The sealed decision is the state; what a person wrote last is only a wish."""
    if status.sealed_decision is not ApprovalDecision.NONE:
        return str(status.sealed_decision)
    return PENDING if status.created_at is not None else ""
