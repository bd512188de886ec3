"""The state machine of a RemediationWorkflow. It has no end: a declaration holds for as long as the object exists."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import RegistrationPhase as Phase

_REGISTERED = "the catalog holds what the spec asks for, and offers it"
_SUSPENDED = "the catalog holds it and does not offer it: spec.suspend, or somebody disabled it there"
_REJECTED = "the bundle, its schema, or what the spec says of them is refused"

TABLE = PhaseTable(
    "RemediationWorkflow",
    {
        "": {Phase.PENDING: "taken up, and protected by a finalizer"},
        Phase.PENDING: {
            Phase.REGISTERED: _REGISTERED,
            Phase.SUSPENDED: _SUSPENDED,
            Phase.REJECTED: _REJECTED,
        },
        Phase.REGISTERED: {Phase.SUSPENDED: _SUSPENDED, Phase.REJECTED: _REJECTED},
        Phase.SUSPENDED: {Phase.REGISTERED: _REGISTERED, Phase.REJECTED: _REJECTED},
        Phase.REJECTED: {
            Phase.REGISTERED: _REGISTERED,
            Phase.SUSPENDED: _SUSPENDED,
            Phase.PENDING: "the spec was changed, and the catalog cannot be asked yet",
        },
    },
    known=frozenset(Phase),
)
