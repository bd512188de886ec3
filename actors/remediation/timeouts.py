"""Deadlines of a RemediationRequest: one for the whole, from its creation, and one a phase, from the phase's start.

Approval has a clock of its own, the RemediationApprovalRequest's ``requiredBy``, and so has no phase deadline here. A pause
after failures in a row ends by its own clock too; the global deadline does not cut it short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubernaut_ray import clock
from kubernaut_ray.crds.enums import BlockReason
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus
from kubernaut_ray.settings import OrchestratorSettings

APPROVAL_GRACE = timedelta(seconds=30)
"""How long after ``requiredBy`` the approval controller may take to say so before the orchestrator acts without it."""


_ALLOWANCES: Mapping[Phase | None, tuple[str, str]] = {
    None: ("global_", "global_timeout"),
    Phase.PROCESSING: ("processing", "processing_timeout"),
    Phase.ANALYZING: ("analyzing", "analyzing_timeout"),
    Phase.AWAITING_APPROVAL: ("awaiting_approval", "approval_timeout"),
    Phase.EXECUTING: ("executing", "executing_timeout"),
    Phase.VERIFYING: ("verifying", "verifying_timeout"),
}
"""The fields of ``TimeoutConfig`` and of the settings that say how long each phase may take."""


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """``phase`` is ``None`` for the deadline of the whole remediation."""

    at: datetime
    allowed: timedelta
    phase: Phase | None


def allowance(request: RemediationRequest, phase: Phase | None, settings: OrchestratorSettings) -> timedelta:
    """Return how long a phase (``None``: the whole) may take; what the object says wins over the settings."""
    own, general = _ALLOWANCES[phase]
    text = getattr(request.spec.timeout_config, own) if request.spec.timeout_config else None
    return clock.parse_duration(text) if text else timedelta(seconds=getattr(settings, general))


def overall(request: RemediationRequest, settings: OrchestratorSettings) -> Deadline:
    allowed = allowance(request, None, settings)
    return Deadline(request.created + allowed, allowed, None)


def for_child(request: RemediationRequest, phase: Phase, now: datetime, settings: OrchestratorSettings) -> datetime:
    """Return the absolute deadline handed to a child that is created on entering ``phase`` now."""
    return min(now + allowance(request, phase, settings), overall(request, settings).at)


def pending(
    request: RemediationRequest, settings: OrchestratorSettings, status: RemediationRequestStatus | None = None
) -> Deadline | None:
    """Return the next deadline that applies to the request in its present phase, or in that of ``status``; or ``None``."""
    status = request.status if status is None else status
    if status.overall_phase is Phase.BLOCKED and status.block_reason is BlockReason.CONSECUTIVE_FAILURES:
        return None
    whole = overall(request, settings)
    start = {
        Phase.PROCESSING: status.processing_start_time,
        Phase.ANALYZING: status.analyzing_start_time,
        Phase.EXECUTING: status.executing_start_time,
        Phase.VERIFYING: status.verifying_start_time,
    }.get(status.overall_phase or Phase.PENDING)
    if start is None:
        return whole
    allowed = allowance(request, status.overall_phase, settings)
    own = Deadline(start + allowed, allowed, status.overall_phase)
    return own if own.at < whole.at else whole
