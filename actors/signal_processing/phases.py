"""The phases of a SignalProcessing: one line, no way back, and Failed from anywhere."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase

_GIVEN_UP = "out of attempts, or the orchestrator's deadline is over"

TABLE = PhaseTable(
    "SignalProcessing",
    {
        "": {Phase.PENDING: "seen for the first time"},
        Phase.PENDING: {
            Phase.ENRICHING: "the spec can be read; look at the cluster",
            Phase.FAILED: _GIVEN_UP,
        },
        Phase.ENRICHING: {
            Phase.CLASSIFYING: "the context is complete, or known to be degraded",
            Phase.FAILED: _GIVEN_UP,
        },
        Phase.CLASSIFYING: {
            Phase.CATEGORIZING: "environment, severity and priority are decided",
            Phase.FAILED: _GIVEN_UP,
        },
        Phase.CATEGORIZING: {
            Phase.COMPLETED: "the business side is decided; everything is known",
            Phase.FAILED: _GIVEN_UP,
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
    },
    known=frozenset(phase.value for phase in Phase),
)
