"""The RemediationRequest's state machine: every edge the orchestrator may take, each with its reason.

``decide.py`` proposes, the engine checks against this table. ``Blocked`` is not terminal on purpose: while it lasts the
gateway folds further signals into the request instead of opening one remediation an alert. A terminal phase stays
terminal: a block after failures in a row falls on the next request, not back on the failed one.
"""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import RemediationPhase as Phase

_CANCELLED = "a person called it off"
_OVERDUE = "its time, or the whole remediation's, is up"
_RESOLVED = "the source says that the signal is over, and nothing has been executed"

TABLE = PhaseTable(
    "RemediationRequest",
    {
        "": {Phase.PENDING: "taken up by the orchestrator"},
        Phase.PENDING: {
            Phase.PROCESSING: "nothing stands in the way; the signal is being enriched",
            Phase.BLOCKED: "not sensible to run now",
            Phase.COMPLETED: f"{_RESOLVED}; or a person must clear an earlier execution first",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.PROCESSING: {
            Phase.ANALYZING: "the signal is enriched and classified; the investigation starts",
            Phase.COMPLETED: _RESOLVED,
            Phase.FAILED: "the signal could not be processed",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.ANALYZING: {
            Phase.AWAITING_APPROVAL: "policy asks for a person's leave",
            Phase.EXECUTING: "a workflow was selected and may run",
            Phase.COMPLETED: "nothing to execute: no workflow needed, or a person takes over",
            Phase.FAILED: "the investigation failed, or a recovery found no way",
            Phase.BLOCKED: "not sensible to execute now",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.AWAITING_APPROVAL: {
            Phase.EXECUTING: "approved, and still sensible",
            Phase.FAILED: "rejected, or not decided in time",
            Phase.BLOCKED: "approved, but not sensible to execute now",
            Phase.COMPLETED: f"{_RESOLVED}; or a person must clear an earlier execution first",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.EXECUTING: {
            Phase.COMPLETED: "the workflow succeeded",
            Phase.VERIFYING: "the workflow succeeded; its effect is being checked",
            Phase.ANALYZING: "the workflow failed and recovery is viable: investigate again, with what failed",
            Phase.FAILED: "the workflow failed and recovery is not viable",
            Phase.SKIPPED: "the execution turned out to be needless",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.VERIFYING: {
            Phase.COMPLETED: "the effect is known",
            Phase.ANALYZING: "the fix had no effect: investigate again, with what was tried",
            Phase.FAILED: "the fix had no effect and recovery is not viable",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: _CANCELLED,
        },
        Phase.BLOCKED: {
            Phase.PENDING: "the block is over; resumed where it was blocked",
            Phase.ANALYZING: "the block is over; resumed where it was blocked",
            Phase.AWAITING_APPROVAL: "the block is over; resumed where it was blocked",
            Phase.EXECUTING: "the execution had been created before the block was recorded",
            Phase.COMPLETED: f"{_RESOLVED}; or the remediation that it duplicates was completed; or a person takes over",
            Phase.FAILED: "the pause after failures in a row is over, or the remediation that it duplicates failed",
            Phase.TIMED_OUT: _OVERDUE,
            Phase.CANCELLED: f"{_CANCELLED}, or the remediation that it duplicates",
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
        Phase.TIMED_OUT: {},
        Phase.SKIPPED: {},
        Phase.CANCELLED: {},
    },
    known=frozenset(Phase),
)
