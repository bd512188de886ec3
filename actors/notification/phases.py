"""The NotificationRequest's state machine. Every edge has its reason; the three ends are for good."""

from __future__ import annotations

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import NotificationPhase as Phase

_ENDS: dict[str, str] = {
    Phase.SENT: "every delivery succeeded",
    Phase.PARTIALLY_SENT: "some deliveries succeeded, the others are given up",
    Phase.FAILED: "every delivery is given up",
}

TABLE = PhaseTable(
    "NotificationRequest",
    {
        "": {Phase.PENDING: "taken up"},
        Phase.PENDING: {
            Phase.SENDING: "channels are resolved and the first attempts are on record",
            Phase.FAILED: "no channel could be resolved, or none can be used",
        },
        Phase.SENDING: {**_ENDS, Phase.RETRYING: "a delivery failed and will be tried again"},
        Phase.RETRYING: _ENDS,
        Phase.SENT: {},
        Phase.PARTIALLY_SENT: {},
        Phase.FAILED: {},
    },
    known=frozenset(Phase),
)
