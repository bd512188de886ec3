"""The phases of an AIAnalysis. Completed and Failed are final; a recovery is a new AIAnalysis."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import AIAnalysisPhase as Phase

TABLE = PhaseTable(
    "AIAnalysis",
    {
        "": {Phase.PENDING: "seen for the first time"},
        Phase.PENDING: {
            Phase.INVESTIGATING: "the spec is sound; the investigation has an id",
            Phase.FAILED: "the spec contradicts itself, or its deadline has passed",
        },
        Phase.INVESTIGATING: {
            Phase.ANALYZING: "a workflow was selected; the approval policy is asked",
            Phase.COMPLETED: "the problem is gone; no workflow is needed",
            Phase.FAILED: "a person must take over, or the investigation failed or took too long",
        },
        Phase.ANALYZING: {
            Phase.COMPLETED: "the approval policy has spoken, or could not and a person is asked",
            Phase.FAILED: "no workflow is there to judge, or the deadline has passed",
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
    },
    known=frozenset(Phase),
)
