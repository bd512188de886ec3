"""Does the signal still fire? From what the gateway was told, and from Alertmanager where it is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kubernaut_ray.crds.remediation_request import RemediationRequest

_OF_ONE_POD = frozenset({"pod", "instance", "container", "uid", "id", "endpoint", "job", "node", "alertstate"})
"""Labels that may differ between an alert and its successor about the same workload."""


class Signal(StrEnum):
    RESOLVED = "resolved"
    FIRING = "firing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Heard:
    """``unreachable``: somebody who could tell does not answer now."""

    signal: Signal = Signal.UNKNOWN
    details: str = "the source has said nothing since the execution"
    unreachable: bool = False


NOTHING = Heard()


def told(request: RemediationRequest, quiet_since: datetime) -> Heard:
    """Return what the gateway was told. An occurrence before ``quiet_since`` may be an echo of what has been repaired since."""
    resolved, seen = request.status.resolved, request.status.deduplication
    last = seen.last_seen_at if seen is not None else request.spec.received_time
    if resolved is not None and resolved.resolved_at >= last:
        return Heard(Signal.RESOLVED, f"resolved at its source at {resolved.resolved_at:%H:%M:%S} UTC")
    if last > quiet_since:
        return Heard(Signal.FIRING, f"seen again at {last:%H:%M:%S} UTC, after the execution")
    return NOTHING


def active(request: RemediationRequest, alerts: Iterable[Mapping[str, str]], pods: frozenset[str] | None) -> Heard:
    """Return what Alertmanager says. Alerts about pods that are gone by now (``pods`` are those there) do not count."""
    wanted = {k: v for k, v in request.spec.signal_labels.items() if k not in _OF_ONE_POD}
    mine = [one for one in alerts if all(one.get(k) == v for k, v in wanted.items())]
    about = [one for one in mine if pods is None or not one.get("pod") or one["pod"] in pods]
    if about:
        return Heard(
            Signal.FIRING, f"Alertmanager holds {len(about)} active alert{'s' if len(about) > 1 else ''} of it"
        )
    gone = f" but {len(mine)} of pods that are gone" if mine else ""
    return Heard(Signal.RESOLVED, f"Alertmanager holds no active alert of it{gone}")


def from_alertmanager(request: RemediationRequest) -> bool:
    """Whether Alertmanager is who would know of this signal."""
    return request.spec.signal_type == "prometheus-alert"
