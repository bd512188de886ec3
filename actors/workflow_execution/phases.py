"""The state machine of a WorkflowExecution. The engine checks every status against it."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase

TABLE = PhaseTable(
    "WorkflowExecution",
    {
        "": {Phase.PENDING: "it was seen, and its PipelineRun is protected by a finalizer"},
        Phase.PENDING: {
            Phase.RUNNING: "its PipelineRun exists, which makes the target its own",
            Phase.COMPLETED: "a dry run: its PipelineRun was rendered and not created",
            Phase.FAILED: "it cannot be executed: wrong specification, or the target belongs to a running execution",
        },
        Phase.RUNNING: {
            Phase.COMPLETED: "the PipelineRun succeeded",
            Phase.FAILED: "the PipelineRun failed, was deleted, or never ended",
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
    },
    known=frozenset(Phase),
)
