"""A signal with what it is about: its target, its fingerprint, and whether it is a member of something larger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kubernaut_ray.crds.enums import AdmissionReason, SignalOutcome
from serve_apps.gateway import fingerprint as fingerprints
from serve_apps.gateway.metrics import RepeatedLabels
from serve_apps.gateway.outcome import Outcome
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.tally import MAX_RESOURCE, MemberKey, SymptomKey
from serve_apps.gateway.verdict import Held, Known, Open


@dataclass(slots=True)
class Located:
    signal: Signal
    resolution: Resolution
    fingerprint: str
    resource: str
    """What the signal named, as text."""
    symptom: SymptomKey
    member: MemberKey | None
    """Set when the incident is that of a node which was lost under the signal's own target."""
    place: int = 0
    """Its position in the payload."""
    recorded_by: Known | None = field(default=None, repr=False)
    """The reading of a request that was seen to list it."""
    answer: bytes = field(default=b"", repr=False)
    """The outcome of one more occurrence, rendered; ``answer_for`` says of which request."""
    answer_for: str = ""
    answer_labels: RepeatedLabels = ("", "", "", AdmissionReason.IN_PROGRESS)
    """As metrics count it."""

    @classmethod
    def of(cls, signal: Signal, resolution: Resolution) -> Located:
        if resolution.identified:
            fingerprint = fingerprints.of_target(resolution.target)
        else:
            fingerprint = fingerprints.of_nameless(signal.name, signal.labels)
        resource = str(resolution.signal_resource or resolution.target)[:MAX_RESOURCE]
        workload = resolution.workload
        return cls(
            signal,
            resolution,
            fingerprint,
            resource,
            (signal.name, resource),
            None if workload is None else (signal.name, resource, str(workload)[:MAX_RESOURCE]),
        )

    @property
    def as_member(self) -> MemberKey:
        """How it is listed on an incident that it is folded into."""
        return self.member or (*self.symptom, str(self.resolution.target)[:MAX_RESOURCE])

    def at(self, place: int, signal: Signal) -> Located:
        """Return the same finding for another signal like it."""
        return replace(self, place=place, signal=signal, answer=b"", answer_for="")

    def bare(self) -> Located:
        """Return it without all that only opening an incident needs: thousands are remembered."""
        signal = replace(self.signal, annotations={}, description="", provider_data={}, raw={})
        return replace(self, signal=signal)

    def alone(self) -> Located:
        """Return it as an incident of its own target, when the larger one takes nobody in any more."""
        workload = self.resolution.workload
        if workload is None:
            return self
        itself = self.resolution.signal_resource
        resolution = replace(
            self.resolution, target=workload, signal_resource=None if itself == workload else itself, workload=None
        )
        return Located.of(self.signal, resolution).at(self.place, self.signal)

    def on_record(self, known: Known) -> bool:
        """Tell whether the request says already that this signal fires."""
        return self.symptom in known.members or (self.is_own(known.fingerprint) and known.knows(self.symptom))

    def is_own(self, fingerprint: str) -> bool:
        """Tell whether the request of this fingerprint is that of the signal's own target, and not of something larger."""
        return self.member is None and self.fingerprint == fingerprint

    def held_by(self, known: Known) -> bool:
        """Tell whether an ended anchor holds this signal back: when it lists it. One that is over is held by nobody."""
        return self.signal.resolved or self.symptom in known.members

    @property
    def part_of(self) -> AdmissionReason:
        """Of what kind the larger incident is that takes this signal in."""
        return AdmissionReason.PART_OF_STORM if self.member is None else AdmissionReason.PART_OF_NODE_LOSS

    def repeated(self, verdict: Open | Held, namespace: str) -> Outcome:
        """The outcome of one more occurrence of what a request has on record."""
        known = verdict.request
        if isinstance(verdict, Held):
            reason, message = verdict.reason, f"{known.name} {verdict.why}"
        elif self.is_own(known.fingerprint):
            reason, message = AdmissionReason.IN_PROGRESS, f"one more occurrence of {known.name}"
        else:
            reason, message = self.part_of, f"one more occurrence within {known.name}"
        return self.outcome(SignalOutcome.DUPLICATE, reason, message, remediation=known.name, namespace=namespace)

    def outcome(
        self,
        status: SignalOutcome,
        reason: AdmissionReason,
        message: str,
        *,
        remediation: str = "",
        namespace: str = "",
    ) -> Outcome:
        return Outcome(
            status=status,
            reason=reason,
            message=message,
            signal=self.signal.name,
            fingerprint=self.fingerprint,
            remediation=remediation,
            namespace=namespace if remediation else "",
            target=str(self.resolution.target),
            note=self.resolution.note,
        )
