"""Storms: too many signals of one name, seen in memory by each replica; it marks, and never holds anything back.

A *rate* storm is more than so many signals of one name in a minute, a *pattern* storm one name on more than so many
distinct resources in two minutes. Every signal opens or joins its RemediationRequest at once; what the detector says is
written on that request together with the count, so that people and the investigation see that it is part of something
larger. Which *new* incidents are folded into one is decided in ``folding``, by what the API server holds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.crds.remediation_request import Storm
from serve_apps.gateway.tally import MAX_AFFECTED

RATE_WINDOW = timedelta(minutes=1)
PATTERN_WINDOW = timedelta(minutes=2)
MAX_NAMES = 2000
_MAX_RESOURCES = 1000


@dataclass(slots=True)
class _History:
    """Signals of one name: how many in each second, and when each resource was last seen, oldest first."""

    seconds: deque[list[int]] = field(default_factory=deque)
    total: int = 0
    resources: dict[str, datetime] = field(default_factory=dict)
    detected_at: datetime | None = None
    type: StormType | None = None


class StormDetector:
    def __init__(self, *, enabled: bool, rate_threshold: int, pattern_threshold: int) -> None:
        self._enabled, self._rate, self._pattern = enabled, rate_threshold, pattern_threshold
        self._names: OrderedDict[str, _History] = OrderedDict()

    def observe(self, signal_name: str, resources: Collection[str], now: datetime) -> StormType | None:
        """Count signals of one name, one for each of these resources. Returns the storm's type when this begins one."""
        if not self._enabled:
            return None
        history = self._names.get(signal_name)
        if history is None:
            history = self._names[signal_name] = _History()
            while len(self._names) > MAX_NAMES:
                self._names.popitem(last=False)
        else:
            self._names.move_to_end(signal_name)
        _count(history, resources, now)
        before = history.type
        history.type = self._judge(history)
        if history.type is None:
            history.detected_at = None
        elif history.detected_at is None:
            history.detected_at = now
        return history.type if history.type is not before else None

    def storm(self, signal_name: str, now: datetime) -> Storm | None:
        """Describe the storm that signals of this name are part of now, if they are."""
        history = self._names.get(signal_name)
        if history is None or not self._goes_on(history, now) or history.type is None or history.detected_at is None:
            return None
        recent = sorted(history.resources, key=history.resources.__getitem__)[-MAX_AFFECTED:]
        return Storm(
            storm_type=history.type,
            window="2m" if history.type is StormType.PATTERN else "1m",
            alert_count=max(1, history.total),
            affected_resources=tuple(recent),
            detected_at=history.detected_at,
        )

    def active(self, now: datetime) -> int:
        """Return how many names are in a storm."""
        return sum(self._goes_on(history, now) for history in self._names.values())

    def _goes_on(self, history: _History, now: datetime) -> bool:
        """Tell whether a storm that was detected is not over by now."""
        if history.type is None:
            return False
        _forget(history, now)
        history.type = self._judge(history)
        if history.type is None:
            history.detected_at = None
        return history.type is not None

    def _judge(self, history: _History) -> StormType | None:
        if len(history.resources) > self._pattern:
            return StormType.PATTERN
        return StormType.RATE if history.total > self._rate else None


def _count(history: _History, resources: Collection[str], now: datetime) -> None:
    second = int(now.timestamp())
    if history.seconds and history.seconds[-1][0] == second:
        history.seconds[-1][1] += len(resources)
    else:
        history.seconds.append([second, len(resources)])
    history.total += len(resources)
    for resource in resources:
        # Put at the end, so that the oldest stays first.
        history.resources.pop(resource, None)
        history.resources[resource] = now
    _forget(history, now)


def _forget(history: _History, now: datetime) -> None:
    oldest = int(now.timestamp()) - int(RATE_WINDOW.total_seconds())
    while history.seconds and history.seconds[0][0] <= oldest:
        history.total -= history.seconds.popleft()[1]
    since = now - PATTERN_WINDOW
    while history.resources:
        first = next(iter(history.resources))
        if len(history.resources) <= _MAX_RESOURCES and history.resources[first] > since:
            break
        del history.resources[first]
