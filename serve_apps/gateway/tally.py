"""Arithmetic of occurrences: what a RemediationRequest's gateway-owned status becomes when signals were seen. Pure.

Counts are sums, instants are extremes, so that two replicas that fold their tallies in any order get one result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from kubernaut_ray import clock
from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.crds.remediation_request import Deduplication, Member, SignalResolution, Storm, Symptom
from kubernaut_ray.crds.shared import TargetResource

MAX_SYMPTOMS = 50
MAX_MEMBERS = 2000
MAX_MEMBER_SIGNALS = 50
MAX_AFFECTED = 100
MAX_RESOURCE = 1024

SymptomKey = tuple[str, str]
"""(signal name, resource that the signal named)."""
MemberKey = tuple[str, str, str]
"""(signal name, resource that the signal named, target that it would have had)."""


@dataclass(slots=True)
class Seen:
    """How often something was seen, and when first and last."""

    count: int
    first: datetime
    last: datetime

    def joined(self, other: Seen | None) -> Seen:
        """Return the sum, which is a thing of its own."""
        if other is None:
            return Seen(self.count, self.first, self.last)
        return Seen(self.count + other.count, min(self.first, other.first), max(self.last, other.last))

    def again(self, now: datetime, times: int = 1) -> None:
        """Count in place. What was received later may be counted earlier."""
        self.count += times
        if now > self.last:
            self.last = now
        elif now < self.first:
            self.first = now


@dataclass(slots=True)
class Tally:
    """What happened to one RemediationRequest since the last flush. ``duplicates`` counts those that opened nothing.

    Mutable, because a storm adds to it a hundred thousand times a second.
    """

    seen: Seen | None = None
    duplicates: int = 0
    symptoms: dict[SymptomKey, Seen] = field(default_factory=dict)
    members: dict[MemberKey, Seen] = field(default_factory=dict)
    """What was folded in."""
    resolved: dict[SymptomKey, datetime] = field(default_factory=dict)
    source: str = ""
    storm: Storm | None = None

    def count(self, times: int, now: datetime, source: str, *, duplicates: int) -> None:
        """Add occurrences of the incident as such."""
        if self.seen is None:
            self.seen = Seen(times, now, now)
        else:
            self.seen.again(now, times)
        self.duplicates += duplicates
        self.source = source

    def symptom(self, key: SymptomKey, now: datetime) -> None:
        seen = self.symptoms.get(key)
        if seen is None:
            self.symptoms[key] = Seen(1, now, now)
        else:
            seen.again(now)

    def member(self, key: MemberKey, now: datetime) -> None:
        seen = self.members.get(key)
        if seen is None:
            self.members[key] = Seen(1, now, now)
        else:
            seen.again(now)

    def over(self, key: SymptomKey, now: datetime) -> None:
        self.resolved[key] = max(now, self.resolved.get(key, now))

    def drop(self, members: Collection[MemberKey]) -> None:
        """Take members out again, with their counts."""
        for key in members:
            times = self.members.pop(key).count
            self.duplicates = max(0, self.duplicates - times)
            if self.seen is not None:
                self.seen.count -= times
        if self.seen is not None and self.seen.count <= 0:
            self.seen = None
        if not self.members and not self.symptoms:
            self.storm = None

    def mark(self, storm: Storm | None) -> None:
        self.storm = join_storms(self.storm, storm)

    def add(self, other: Tally) -> None:
        for key, seen in other.symptoms.items():
            self.symptoms[key] = seen.joined(self.symptoms.get(key))
        for member, seen in other.members.items():
            self.members[member] = seen.joined(self.members.get(member))
        for key, instant in other.resolved.items():
            self.over(key, instant)
        if other.seen is not None:
            self.seen = other.seen.joined(self.seen)
        self.duplicates += other.duplicates
        self.source = other.source or self.source
        self.mark(other.storm)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The part of the status that the gateway owns."""

    deduplication: Deduplication | None = None
    resolved: SignalResolution | None = None
    storm: Storm | None = None
    members: tuple[Member, ...] = ()


def record(old: Recorded, tally: Tally, opener: SymptomKey | None = None, *, admits: bool = True) -> Recorded:
    """Return what the status says once the tally is added to what it said. ``opener`` is the symptom in the spec.

    An incident that has ended (``admits`` false) takes no member in: nobody would look after it.
    """
    symptoms = _symptoms(old.deduplication, tally)
    members = _members(old.members, tally, admits=admits)
    return Recorded(
        _deduplication(old.deduplication, tally, symptoms),
        _resolution(old.resolved, tally, symptoms, members, opener),
        _sized(join_storms(old.storm, tally.storm), tally, members),
        members,
    )


def _sized(storm: Storm | None, tally: Tally, members: tuple[Member, ...]) -> Storm | None:
    """A storm that takes members in has as many alerts as are listed, and the one that it began with."""
    if storm is None or tally.storm is None or not tally.members:
        return storm
    listed = 1 + sum(len(member.signals) + len(member.over) for member in members)
    return storm.replace(alert_count=max(storm.alert_count, listed))


def unlisted(new: Recorded, tally: Tally) -> list[MemberKey]:
    """Return the members of the tally that the incident does not list: it has ended, or has no room for them."""
    if not tally.members:
        return []
    listed = {(m.target, m.resource): m for m in new.members}
    return [
        (signal, resource, target)
        for signal, resource, target in tally.members
        if (member := listed.get((target, resource))) is None or signal not in (*member.signals, *member.over)
    ]


def recount(status: Mapping[str, Any], tally: Tally) -> dict[str, Any] | None:
    """Return the change of the status when a tally only repeats what it says already; ``None`` when it is not that simple.

    The same result as ``record``'s, without reading and validating the whole: a storm does this hundreds of times a second.
    """
    old = status.get("deduplication")
    if tally.seen is None or tally.members or tally.resolved or tally.storm or "resolved" in status:
        return None
    if not isinstance(old, dict) or not isinstance(listed := old.get("symptoms"), list):
        return None
    try:
        at = {(one["signalName"], one["resource"]): place for place, one in enumerate(listed)}
        symptoms = list(listed)
        for key, seen in tally.symptoms.items():
            symptoms[at[key]] = symptoms[at[key]] | _again(symptoms[at[key]], seen)
        return {"deduplication": _again(old, tally.seen) | {"symptoms": symptoms}}
    except (KeyError, TypeError, ValueError):
        return None


def _again(old: Mapping[str, Any], seen: Seen) -> dict[str, Any]:
    """Add to a count. Raises ``ValueError`` where more than the count and the last instant would change."""
    last, first = clock.rfc3339(seen.last), clock.rfc3339(seen.first)
    before = (old["firstSeenAt"], old["lastSeenAt"])
    if old.get("resolvedAt") or not all(len(text) == len(last) for text in before) or first < before[0]:
        raise ValueError
    if not isinstance(old["occurrenceCount"], int) or old["occurrenceCount"] < 1:
        raise ValueError
    return {"lastSeenAt": max(last, before[1]), "occurrenceCount": old["occurrenceCount"] + seen.count}


def _members(old: tuple[Member, ...], tally: Tally, *, admits: bool) -> tuple[Member, ...]:
    if not tally.members and not (old and tally.resolved):
        return old
    members = {(m.target, m.resource): m for m in old}
    for (signal, resource, target), seen in tally.members.items() if admits else ():
        member = members.get((target, resource))
        if member is None:
            if len(members) < MAX_MEMBERS:
                members[target, resource] = Member(
                    target=target, resource=resource, signals=(signal,), first_seen_at=seen.first
                )
        elif signal not in member.signals and len(member.signals) < MAX_MEMBER_SIGNALS:
            over = tuple(s for s in member.over if s != signal)
            members[target, resource] = member.replace(signals=(*member.signals, signal), over=over)
    ended: dict[str, dict[str, datetime]] = {}
    for (signal, resource), instant in tally.resolved.items():
        ended.setdefault(resource, {})[signal] = instant
    for key, member in members.items():
        gone = {
            signal
            for signal, instant in ended.get(member.resource, {}).items()
            if signal in member.signals
            and not _fired_after(tally.members.get((signal, member.resource, key[0])), instant)
        }
        if gone:
            members[key] = member.replace(
                signals=tuple(s for s in member.signals if s not in gone),
                over=(*(s for s in member.over if s not in gone), *sorted(gone))[:MAX_MEMBER_SIGNALS],
            )
    return tuple(members.values())


def _fired_after(seen: Seen | None, instant: datetime) -> bool:
    return seen is not None and seen.last > instant


def _symptoms(old: Deduplication | None, tally: Tally) -> tuple[Symptom, ...]:
    symptoms = {(s.signal_name, s.resource): s for s in (old.symptoms if old else ())}
    for key, seen in tally.symptoms.items():
        before = symptoms.get(key)
        if before is not None:
            both = seen.joined(Seen(before.occurrence_count, before.first_seen_at, before.last_seen_at))
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
    before = Seen(old.occurrence_count, old.first_seen_at, old.last_seen_at) if old else None
    seen = tally.seen.joined(before)
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
    over: SignalResolution | None,
    tally: Tally,
    symptoms: tuple[Symptom, ...],
    members: tuple[Member, ...],
    opener: SymptomKey | None,
) -> SignalResolution | None:
    """The incident's signal is over once every symptom and member is; one that fires later undoes that."""
    if over is not None and tally.seen is not None and tally.seen.last > over.resolved_at:
        over = None
    if not tally.resolved:
        return over
    if len(symptoms) >= MAX_SYMPTOMS or any(s.resolved_at is None for s in symptoms):
        return over  # At the limit some symptoms are not listed, and those may go on.
    if any(member.signals for member in members):
        return over
    listed = {(s.signal_name, s.resource) for s in symptoms}
    listed |= {(signal, m.resource) for m in members for signal in m.over}
    if opener is not None and opener not in tally.resolved and opener not in listed:
        return over  # Its count is in the memory of another replica still, or went with one that died.
    return SignalResolution(resolved_at=max(tally.resolved.values()), source=tally.source)


def join_storms(old: Storm | None, new: Storm | None) -> Storm | None:
    """Return the storm that both describe: it began with the first, is as large as the larger, and hit what either names."""
    if old is None or new is None:
        return old or new
    if old.storm_type is StormType.PATTERN:
        # An anchor whose own signal goes on often takes members in all the same.
        new = new.replace(storm_type=old.storm_type, window=old.window)
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
