"""Storms: too many signals of one name, seen in memory by each replica; it marks, and never holds anything back.

A *rate* storm is more than so many signals of one name in a minute, a *pattern* storm one name on more than so many
distinct resources in two minutes. Every signal opens or joins its RemediationRequest at once; what the detector returns is
written on that request, so that people and the investigation see that it is part of something larger.
"""

from __future__ import annotations

from collections import OrderedDict, deque
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
    resources: OrderedDict[str, datetime] = field(default_factory=OrderedDict)
    detected_at: datetime | None = None


class StormDetector:
    def __init__(self, *, enabled: bool, rate_threshold: int, pattern_threshold: int) -> None:
        self._enabled, self._rate, self._pattern = enabled, rate_threshold, pattern_threshold
        self._names: OrderedDict[str, _History] = OrderedDict()

    def observe(self, signal_name: str, resource: str, now: datetime) -> Storm | None:
        """Count one signal; returns the storm that it belongs to, if it does."""
        if not self._enabled:
            return None
        history = self._names.setdefault(signal_name, _History())
        self._names.move_to_end(signal_name)
        while len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)
        _count(history, resource, now)
        spread = len(history.resources) > self._pattern
        if not spread and history.total <= self._rate:
            history.detected_at = None
            return None
        history.detected_at = history.detected_at or now
        return Storm(
            storm_type=StormType.PATTERN if spread else StormType.RATE,
            window="2m" if spread else "1m",
            alert_count=max(1, history.total),
            affected_resources=tuple(history.resources)[-MAX_AFFECTED:],
            detected_at=history.detected_at,
        )


def _count(history: _History, resource: str, now: datetime) -> None:
    second = int(now.timestamp())
    if history.seconds and history.seconds[-1][0] == second:
        history.seconds[-1][1] += 1
    else:
        history.seconds.append([second, 1])
    history.total += 1
    oldest = second - int(RATE_WINDOW.total_seconds())
    while history.seconds and history.seconds[0][0] <= oldest:
        history.total -= history.seconds.popleft()[1]
    history.resources[resource] = now
    history.resources.move_to_end(resource)
    while history.resources and (
        len(history.resources) > _MAX_RESOURCES or next(iter(history.resources.values())) <= now - PATTERN_WINDOW
    ):
        history.resources.popitem(last=False)
