"""What became of one signal, as it is told to the sender, and the status of a whole answer.

One signal: 201 created, 202 duplicate, folded or resolution recorded, 200 nothing to do. Several: 207 with every outcome. Anything
that a later attempt could still save makes the whole answer 503, because the sender repeats on 5xx only, and repeating is
harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.crds.enums import AdmissionReason, SignalOutcome


@dataclass(frozen=True, slots=True)
class Outcome:
    status: SignalOutcome
    reason: AdmissionReason
    message: str
    signal: str = ""
    fingerprint: str = ""
    remediation: str = ""
    namespace: str = ""
    target: str = ""
    note: str = ""
    """What was assumed on the way, for example that a deleted pod belonged to a Deployment."""

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "signal": self.signal,
            "duplicate": self.status is SignalOutcome.DUPLICATE,
        }
        if self.fingerprint:
            body |= {"fingerprint": self.fingerprint, "target": self.target}
        if self.remediation:
            body |= {"remediationRequestName": self.remediation, "remediationRequestNamespace": self.namespace}
        if self.note:
            body["note"] = self.note
        return body


_SUMMED = {
    "created": SignalOutcome.CREATED,
    "deduplicated": SignalOutcome.DUPLICATE,
    "accepted": SignalOutcome.ACCEPTED,
    "resolved": SignalOutcome.RESOLVED,
    "silenced": SignalOutcome.SILENCED,
    "rejected": SignalOutcome.REJECTED,
    "failed": SignalOutcome.FAILED,
}


def summary(counts: Mapping[SignalOutcome, int]) -> dict[str, int]:
    """Say how many signals of an answer came to what."""
    return {"total": sum(counts.values())} | {name: counts.get(status, 0) for name, status in _SUMMED.items()}


def http_status(outcomes: Sequence[Outcome]) -> int:
    """Return the status of the answer to a request of these outcomes."""
    if any(o.reason is AdmissionReason.UNAVAILABLE for o in outcomes):
        return 503
    if all(o.status is SignalOutcome.FAILED for o in outcomes):
        return 400
    if len(outcomes) > 1:
        return 207
    match outcomes[0].reason:
        case AdmissionReason.NEW_INCIDENT:
            return 201
        case (
            AdmissionReason.NOTHING_OPEN
            | AdmissionReason.UNMANAGED_RESOURCE
            | AdmissionReason.NOT_A_SIGNAL
            | AdmissionReason.SILENCED
        ):
            return 200
        case _:
            return 202
