"""What one Event of the cluster says, and whether it is to be forwarded. Pure: no Kubernetes, HTTP or clock.

Kubernetes counts repetitions on the Event itself (``count`` and ``lastTimestamp``, or ``series``), so one Event is several
occurrences over time, and a change of it that counts nothing is none.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.kube.client import Object

OWN_REPORTERS = "kubernaut-"
"""What the names of our own parts begin with where they report Events."""


class Verdict(StrEnum):
    """What to do with an Event read: forward it, or pass over it for a reason."""

    FORWARD = "forward"
    NORMAL = "normal"
    OWN = "own"
    """We reported it, or it is about an object of our kinds: forwarding would have the system remediate itself."""
    IGNORED_NAMESPACE = "ignored-namespace"
    REPEAT = "repeat"
    """This occurrence was forwarded already."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How often an Event has been counted, and when last; a later mark is another occurrence."""

    count: int
    last_seen: datetime | None

    def follows(self, old: Mark) -> bool:
        if self.count != old.count:
            return self.count > old.count
        if self.last_seen is None or old.last_seen is None:
            return self.last_seen is not None
        return self.last_seen > old.last_seen


def mark(event: Object) -> Mark:
    """Read an Event's mark, in either of the two API forms; what cannot be read counts as once, at no known time."""
    series = _mapping(event, "series")
    metadata = _mapping(event, "metadata")
    count = next((c for c in (series.get("count"), event.get("count")) if isinstance(c, int)), 1)
    stamps = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        metadata.get("creationTimestamp"),
    )
    known = [instant for stamp in stamps if (instant := _instant(stamp)) is not None]
    return Mark(max(count, 1), max(known, default=None))


def uid(event: Object) -> str:
    """Identify an Event; by its name where it has no uid."""
    metadata = _mapping(event, "metadata")
    return str(metadata.get("uid") or f"{metadata.get('namespace', '')}/{metadata.get('name', '')}")


def version(event: Object) -> str:
    return str(_mapping(event, "metadata").get("resourceVersion") or "")


def about(event: Object) -> str:
    """Name the object that an Event regards: Events about one object are forwarded in order."""
    regarded = _regarded(event)
    return str(regarded.get("uid") or "/".join(str(regarded.get(f, "")) for f in ("namespace", "kind", "name")))


class Recent:
    """The marks of the Events forwarded last, so many at most; the oldest are forgotten first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._marks: OrderedDict[str, Mark] = OrderedDict()

    def __len__(self) -> int:
        return len(self._marks)

    def knows(self, event: Object) -> bool:
        """Whether this occurrence, or a later one of the same Event, was noted."""
        old = self._marks.get(uid(event))
        return old is not None and not mark(event).follows(old)

    def note(self, event: Object) -> None:
        key = uid(event)
        self._marks[key] = mark(event)
        self._marks.move_to_end(key)
        if len(self._marks) > self._capacity:
            self._marks.popitem(last=False)

    def forget(self, event: Object) -> None:
        self._marks.pop(uid(event), None)


def judge(event: Object, ignored_namespaces: frozenset[str], recent: Recent) -> Verdict:
    """Say whether to forward an Event, the cheapest reasons not to first."""
    if event.get("type", "Normal") == "Normal":
        return Verdict.NORMAL
    regarded = _regarded(event)
    if str(regarded.get("apiVersion", "")).partition("/")[0] == names.GROUP:
        return Verdict.OWN
    if any(reporter.startswith(OWN_REPORTERS) for reporter in _reporters(event)):
        return Verdict.OWN
    name = regarded.get("name") if regarded.get("kind") == "Namespace" else ""
    if ignored_namespaces & {str(regarded.get("namespace") or ""), str(name or "")}:
        return Verdict.IGNORED_NAMESPACE
    return Verdict.REPEAT if recent.knows(event) else Verdict.FORWARD


def _reporters(event: Object) -> tuple[str, ...]:
    found = (
        _mapping(event, "source").get("component"),
        event.get("reportingComponent"),
        event.get("reportingController"),
    )
    return tuple(str(reporter) for reporter in found if reporter)


def _regarded(event: Object) -> dict[str, Any]:
    return _mapping(event, "involvedObject") or _mapping(event, "regarding")


def _mapping(obj: Object, field: str) -> dict[str, Any]:
    value = obj.get(field)
    return value if isinstance(value, dict) else {}


def _instant(text: Any) -> datetime | None:
    try:
        return clock.parse_rfc3339(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
