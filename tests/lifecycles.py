"""What holds for every life of an object of a kind, whoever drives it: legal transitions, and facts that are written once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actors.ai_analysis.phases import TABLE as ANALYSIS
from actors.approval.phases import TABLE as APPROVAL
from actors.effectiveness.phases import TABLE as EFFECTIVENESS
from actors.notification.phases import TABLE as NOTIFICATION
from actors.remediation.phases import TABLE as REMEDIATION
from actors.remediation_workflow.phases import TABLE as REGISTRATION
from actors.signal_processing.phases import TABLE as PROCESSING
from actors.workflow_execution.phases import TABLE as EXECUTION
from kubernaut_ray.control.phases import PhaseTable

Obj = Mapping[str, Any]

TABLES: Mapping[str, PhaseTable] = {
    "RemediationRequest": REMEDIATION,
    "SignalProcessing": PROCESSING,
    "AIAnalysis": ANALYSIS,
    "RemediationApprovalRequest": APPROVAL,
    "WorkflowExecution": EXECUTION,
    "EffectivenessAssessment": EFFECTIVENESS,
    "NotificationRequest": NOTIFICATION,
    "RemediationWorkflow": REGISTRATION,
}
ONCE: Mapping[str, tuple[str, ...]] = {
    "RemediationRequest": ("startTime", "completedAt", "outcome", "failureReason", "retentionExpiryTime"),
    "SignalProcessing": ("startTime", "completionTime"),
    "AIAnalysis": ("startedAt", "completedAt", "selectedWorkflow"),
    "RemediationApprovalRequest": ("createdAt", "sealedDecision", "grant", "usedBy", "targetUid"),
    "WorkflowExecution": ("startTime", "completionTime", "pipelineRunUid", "failureDetails", "lockReleased"),
    "EffectivenessAssessment": ("startedAt", "completedAt", "validUntil", "reason", "score", "effective"),
    "NotificationRequest": ("queuedAt", "completionTime"),
    "RemediationWorkflow": (),
}
"""Fields of a status that stay as they are once they are written."""


def phase_of(obj: Obj) -> str:
    """Return the phase as the kind's table knows it; empty for an object that nobody took up."""
    status = obj.get("status") or {}
    if obj.get("kind") == "RemediationApprovalRequest":
        return str(status.get("sealedDecision") or ("Pending" if status.get("createdAt") else ""))
    return str(status.get("overallPhase" if obj.get("kind") == "RemediationRequest" else "phase") or "")


def ended(obj: Obj) -> bool:
    return phase_of(obj) in TABLES[obj["kind"]].terminal


def problems(old: Obj | None, new: Obj) -> Iterator[str]:
    """Yield what is wrong with a write that made ``new`` of ``old``."""
    kind, name = new["kind"], new["metadata"]["name"]
    before, after = phase_of(old or {"kind": kind}), phase_of(new)
    if not TABLES[kind].allows(before, after):
        yield f"{kind} {name} went from {before!r} to {after!r}"
    was, now = (old or {}).get("status") or {}, new.get("status") or {}
    for field in ONCE[kind]:
        if was.get(field) not in (None, "", {}, False) and was[field] != now.get(field):
            yield f"{kind} {name}: {field} went from {was[field]!r} to {now.get(field)!r}"
