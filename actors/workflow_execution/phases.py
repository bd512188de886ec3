"""The state machine of a WorkflowExecution. The engine checks every status against it."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase

TABLE = PhaseTable(
    "WorkflowExecution",
    {
        "": {Phase.PENDING: "it was seen, and its run is protected by a finalizer"},
        Phase.PENDING: {
            Phase.RUNNING: "its run exists, which makes the target its own",
            Phase.COMPLETED: "a dry run: its run was rendered and not created",
            Phase.FAILED: "it cannot be executed: wrong specification, or the target belongs to a running execution",
        },
        Phase.RUNNING: {
            Phase.COMPLETED: "the run succeeded",
            Phase.FAILED: "the run failed, was deleted, or never ended",
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
    },
    known=frozenset(Phase),
)
