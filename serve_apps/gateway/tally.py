"""Arithmetic of occurrences: what a RemediationRequest's gateway-owned status becomes when signals were seen. Pure.

Counts are sums, instants are extremes, so that two replicas that fold their tallies in any order get one result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from kubernaut_ray.crds.remediation_request import Deduplication, SignalResolution, Storm, Symptom
from kubernaut_ray.crds.shared import TargetResource

MAX_SYMPTOMS = 50
MAX_AFFECTED = 100
MAX_RESOURCE = 1024

SymptomKey = tuple[str, str]
"""(signal name, resource that the signal named)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How often something was seen, and when first and last."""

    count: int
    first: datetime
    last: datetime

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.count + other.count, min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened to one RemediationRequest since the last flush. ``duplicates`` counts those that opened nothing."""

    seen: Seen | None = None
    duplicates: int = 0
    symptoms: dict[SymptomKey, Seen] = field(default_factory=dict)
    resolved: dict[SymptomKey, datetime] = field(default_factory=dict)
    source: str = ""
    storm: Storm | None = None

    def __add__(self, other: Tally) -> Tally:
        symptoms = dict(self.symptoms)
        for key, seen in other.symptoms.items():
            symptoms[key] = symptoms[key] + seen if key in symptoms else seen
        resolved = dict(self.resolved)
        for key, instant in other.resolved.items():
            resolved[key] = max(instant, resolved.get(key, instant))
        seen_both = self.seen + other.seen if self.seen and other.seen else self.seen or other.seen
        return Tally(
            seen_both,
            self.duplicates + other.duplicates,
            symptoms,
            resolved,
            other.source or self.source,
            join_storms(self.storm, other.storm),
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """The part of the status that the gateway owns."""

    deduplication: Deduplication | None = None
    resolved: SignalResolution | None = None
    storm: Storm | None = None


def record(old: Recorded, tally: Tally, opener: SymptomKey | None = None) -> Recorded:
    """Return what the status says once the tally is added to what it said. ``opener`` is the symptom in the spec."""
    symptoms = _symptoms(old.deduplication, tally)
    return Recorded(
        _deduplication(old.deduplication, tally, symptoms),
        _resolution(old.resolved, tally, symptoms, opener),
        join_storms(old.storm, tally.storm),
    )


def _symptoms(old: Deduplication | None, tally: Tally) -> tuple[Symptom, ...]:
    symptoms = {(s.signal_name, s.resource): s for s in (old.symptoms if old else ())}
    for key, seen in tally.symptoms.items():
        before = symptoms.get(key)
        if before is not None:
            both = Seen(before.occurrence_count, before.first_seen_at, before.last_seen_at) + seen
            again = before.resolved_at is not None and seen.last > before.resolved_at
            symptoms[key] = _symptom(key, both, None if again else before.resolved_at)
        elif len(symptoms) < MAX_SYMPTOMS:
            symptoms[key] = _symptom(key, seen, None)
    for key, instant in tally.resolved.items():
        known = symptoms.get(key)
        if known is not None and instant >= known.last_seen_at:
            symptoms[key] = known.replace(resolved_at=instant)
    return tuple(symptoms.values())


def _deduplication(old: Deduplication | None, tally: Tally, symptoms: tuple[Symptom, ...]) -> Deduplication | None:
    if tally.seen is None:
        return old.replace(symptoms=symptoms) if old else None
    seen = Seen(old.occurrence_count, old.first_seen_at, old.last_seen_at) + tally.seen if old else tally.seen
    return Deduplication(
        first_seen_at=seen.first, last_seen_at=seen.last, occurrence_count=seen.count, symptoms=symptoms
    )


def _symptom(key: SymptomKey, seen: Seen, resolved_at: datetime | None) -> Symptom:
    return Symptom(
        signal_name=key[0],
        resource=key[1],
        first_seen_at=seen.first,
        last_seen_at=seen.last,
        occurrence_count=seen.count,
        resolved_at=resolved_at,
    )


def _resolution(
    over: SignalResolution | None, tally: Tally, symptoms: tuple[Symptom, ...], opener: SymptomKey | None
) -> SignalResolution | None:
    """The incident's signal is over once every symptom is; a symptom that fires later undoes that."""
    if over is not None and tally.seen is not None and tally.seen.last > over.resolved_at:
        over = None
    if not tally.resolved:
        return over
    if len(symptoms) >= MAX_SYMPTOMS or any(s.resolved_at is None for s in symptoms):
        return over  # At the limit some symptoms are not listed, and those may go on.
    if (
        opener is not None
        and opener not in tally.resolved
        and opener not in {(s.signal_name, s.resource) for s in symptoms}
    ):
        return over  # Its count is in the memory of another replica still, or went with one that died.
    return SignalResolution(resolved_at=max(tally.resolved.values()), source=tally.source)


def join_storms(old: Storm | None, new: Storm | None) -> Storm | None:
    """Return the storm that both describe: it began with the first, is as large as the larger, and hit what either names."""
    if old is None or new is None:
        return old or new
    affected = tuple(dict.fromkeys((*old.affected_resources, *new.affected_resources)))[:MAX_AFFECTED]
    return new.replace(
        detected_at=min(old.detected_at, new.detected_at),
        alert_count=max(old.alert_count, new.alert_count),
        affected_resources=affected,
    )


def opened_by(spec: Mapping[str, Any]) -> SymptomKey | None:
    """Return the symptom that a RemediationRequest was opened for, from its spec; ``None`` when that cannot be read."""
    try:
        resource = TargetResource.model_validate(spec.get("signalResource") or spec.get("targetResource"))
    except ValidationError:
        return None
    return str(spec.get("signalName", "")), str(resource)[:MAX_RESOURCE]
