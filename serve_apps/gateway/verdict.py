"""Is this signal a new incident? The judgement, pure: from every RemediationRequest of its fingerprint to a verdict.

::

    one not finished ─────────────────────────── Open: duplicate
    the newest finished one asks for a person ┐
    or must not be repeated yet ──────────────┴─ Held: duplicate
    none, or only finished ones ──────────────── Absent: a new one may be created

A finished request that asks for a person (manual review) holds its signal back for as long as it exists (retention removes
it after a day) or until somebody annotates it with ``kubernaut.ai/reviewed=true``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.crds.enums import AdmissionReason, Outcome, RemediationPhase
from kubernaut_ray.kube.client import Object
from serve_apps.gateway.tally import MAX_MEMBERS, MAX_SYMPTOMS, SymptomKey, opened_by

_OPENER = ("signalName", "signalResource", "targetResource")
_OURS = ("deduplication", "resolved", "storm", "members")
_TERMINAL = frozenset(phase for phase in RemediationPhase if phase.terminal)


@dataclass(frozen=True, slots=True)
class Known:
    """A RemediationRequest as far as admission looks at it; tolerant, because people edit objects by hand."""

    name: str
    uid: str
    created: str
    fingerprint: str
    version: str = ""
    phase: str = ""
    """Anything that is no terminal phase counts as in progress."""
    asks_for_person: bool = False
    held_until: datetime | None = None
    deleting: bool = False
    signal_name: str = ""
    firing: frozenset[SymptomKey] = frozenset()
    """Symptoms that are on record and not over; the one in the spec is on record from the start."""
    members: frozenset[SymptomKey] = frozenset()
    """Signals that were folded into it and are not over."""
    full: bool = False
    """No further symptom is put on record, and nobody calls the incident over."""
    crowded: bool = False
    """It takes no further member in."""
    storm: str = ""
    """The type of the storm that it is marked with."""
    obj: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the next conditional write goes by, as it was read. No more of it: thousands are remembered."""

    @classmethod
    def of(cls, obj: Object) -> Known:
        meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
        wants_review = bool(status.get("requiresManualReview")) or (
            status.get("outcome") == Outcome.MANUAL_REVIEW_REQUIRED
        )
        reviewed = (meta.get("annotations") or {}).get(names.ANNOTATION_REVIEWED) == "true"
        storm = status.get("storm")
        return cls(
            name=meta["name"],
            uid=meta.get("uid", ""),
            created=meta.get("creationTimestamp", ""),
            fingerprint=spec.get("signalFingerprint", ""),
            version=meta.get("resourceVersion", ""),
            phase=str(status.get("overallPhase") or ""),
            asks_for_person=wants_review and not reviewed,
            held_until=_instant(status.get("nextAllowedExecution")),
            deleting="deletionTimestamp" in meta,
            signal_name=str(spec.get("signalName", "")),
            storm=str(storm.get("stormType", "")) if isinstance(storm, dict) else "",
            obj={
                "spec": {name: spec[name] for name in _OPENER if name in spec},
                "status": {name: status[name] for name in _OURS if name in status},
            },
            **_symptoms(spec, status),
            **_members(status),
        )

    def over(self, symptom: SymptomKey) -> bool:
        """Tell whether it says that this signal fired, as a member or as a symptom, and is over."""
        status = self.obj.get("status") or {}
        return any(
            signal == symptom[0] and member.get("resource") == symptom[1]
            for member in _listed(status, "members")
            for signal in member.get("over") or ()
        ) or any(
            (one.get("signalName"), one.get("resource")) == symptom and one.get("resolvedAt")
            for one in _listed(status.get("deduplication"), "symptoms")
        )

    def knows(self, symptom: SymptomKey) -> bool:
        """Tell whether this firing symptom keeps the incident from being called over already, without another write."""
        return self.full or symptom in self.firing

    @property
    def finished(self) -> bool:
        return self.phase in _TERMINAL

    @property
    def open(self) -> bool:
        return not self.deleting and not self.finished


@dataclass(frozen=True, slots=True)
class Open:
    """Work on it goes on: the signal is one more occurrence of it."""

    request: Known


@dataclass(frozen=True, slots=True)
class Held:
    """Finished, but the signal must not open another one now."""

    request: Known
    reason: AdmissionReason
    why: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing stands in the way; ``previous_uid`` is the newest finished one's, empty when there is none."""

    previous_uid: str = ""
    previous: Known | None = field(default=None, compare=False, repr=False)


Verdict = Open | Held | Absent


def judge(fingerprint: str, requests: Sequence[Known], now: datetime) -> Verdict:
    """Say what a firing signal of this fingerprint is, given every request of that fingerprint. Pure and total."""
    unfinished = [r for r in requests if r.open]
    if unfinished:
        return Open(unfinished[0] if len(unfinished) == 1 else _newest(fingerprint, unfinished))
    if not requests:
        return Absent()
    newest = _newest(fingerprint, requests)
    if newest.finished and not newest.deleting:
        if newest.asks_for_person:
            why = (
                f"waits for a person's review; annotate it {names.ANNOTATION_REVIEWED}=true to let the signal in again"
            )
            return Held(newest, AdmissionReason.AWAITING_REVIEW, why)
        if newest.held_until is not None and newest.held_until > now:
            why = f"must not be repeated before {clock.rfc3339(newest.held_until)}"
            return Held(newest, AdmissionReason.HELD, why)
    return Absent(newest.uid, newest)


def _newest(fingerprint: str, requests: Sequence[Known]) -> Known:
    """Return the end of the chain. Creation times have whole seconds, but each name tells its predecessor."""
    taken = {r.name for r in requests}
    return max(requests, key=lambda r: (r.created, names.remediation_request(fingerprint, r.uid) not in taken, r.name))


def _symptoms(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    listed = _listed(status.get("deduplication"), "symptoms")
    over = {(str(s.get("signalName", "")), str(s.get("resource", ""))): bool(s.get("resolvedAt")) for s in listed}
    if (opener := opened_by(spec)) is not None:
        over.setdefault(opener, False)
    return {"firing": frozenset(key for key, ended in over.items() if not ended), "full": len(listed) >= MAX_SYMPTOMS}


def _members(status: dict[str, Any]) -> dict[str, Any]:
    listed = _listed(status, "members")
    firing = frozenset((str(signal), str(m.get("resource", ""))) for m in listed for signal in m.get("signals") or ())
    return {"members": firing, "crowded": len(listed) >= MAX_MEMBERS}


def _listed(value: Any, name: str) -> list[dict[str, Any]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _instant(value: Any) -> datetime | None:
    try:
        return clock.parse_rfc3339(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
