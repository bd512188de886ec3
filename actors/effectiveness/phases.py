"""The state machine of an EffectivenessAssessment: wait until there is something to judge, judge, end."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import AssessmentPhase as Phase

_EXPIRED = "its time is up"
_POINTLESS = "there is nothing whose effect could be judged"
_WRONG = "the spec contradicts itself"

TABLE = PhaseTable(
    "EffectivenessAssessment",
    {
        "": {Phase.PENDING: "taken up"},
        Phase.PENDING: {
            Phase.WAITING_FOR_PROPAGATION: "GitOps manages the target: its tool must carry the change there first",
            Phase.STABILIZING: "the target is left alone until it can be judged",
            Phase.COMPLETED: f"{_POINTLESS}; or {_EXPIRED}",
            Phase.FAILED: _WRONG,
        },
        Phase.WAITING_FOR_PROPAGATION: {
            Phase.STABILIZING: "the change has had its time to arrive",
            Phase.COMPLETED: f"{_POINTLESS}; or {_EXPIRED}",
        },
        Phase.STABILIZING: {
            Phase.ASSESSING: "the target has had its time to come up",
            Phase.COMPLETED: f"{_POINTLESS}; {_EXPIRED}; or somebody changed the target's spec",
        },
        Phase.ASSESSING: {
            Phase.COMPLETED: "everything that can be known is known, or its time is up",
        },
        Phase.COMPLETED: {},
        Phase.FAILED: {},
    },
    known=frozenset(Phase),
)
