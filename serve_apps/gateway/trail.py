"""The gateway's audit events: what was received, what opened a request, what joined one, what was refused.

The first duplicates of a RemediationRequest are told at the next flush, those after them every ten seconds with their count,
so that a storm does not drown the trail; their number in the request's status is never behind. A trail that cannot be written (a full disk) is logged and holds nobody up: the request itself is durable.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts import recorded
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from kubernaut_ray.redact import redact, redact_values
from serve_apps.gateway.occurrences import Address
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.tally import Seen, Tally

ACTOR = "gateway"
MEMBERS_AN_EVENT = 100
TELL_SECONDS = 10.0
STORMS_REMEMBERED = 1000

log = structlog.get_logger(__name__)


class Hushed:
    """What silences kept quiet since the last flush: told once a flush, so that a silenced storm does not drown the trail."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], Seen] = {}

    def note(self, signal: Signal, resource: str, silences: Sequence[str]) -> None:
        for silence in silences:
            seen = self._seen.get((silence, signal.name, resource))
            if seen is None:
                self._seen[silence, signal.name, resource] = Seen(1, signal.received_time, signal.received_time)
            else:
                seen.again(signal.received_time)

    def drain(self) -> dict[tuple[str, str, str], Seen]:
        seen, self._seen = self._seen, {}
        return seen


@dataclass(slots=True)
class _Repeated:
    """Duplicates of one request that are in its status and not told yet."""

    duplicates: int = 0
    seen: Seen | None = None
    names: set[str] = field(default_factory=set)
    due: float = 0.0

    def add(self, duplicates: int, seen: Seen, names: set[str]) -> None:
        self.duplicates += duplicates
        self.seen = seen.joined(self.seen)
        self.names |= names


class Trail:
    """``tick`` is called at every flush, ``end`` after the last."""

    def __init__(
        self,
        sink: AuditSink,
        now: Clock,
        *,
        namespace: str,
        cluster_name: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._repeated: dict[Address, _Repeated] = {}
        self._sink, self._now, self._namespace, self._cluster_name = sink, now, namespace, cluster_name
        self._incarnation = uuid.uuid4().hex
        """Tells this process's flushes from those of others; a flush has no other identity."""
        self._flushes = 0
        self._storms: dict[tuple[str, str], None] = {}
        """Storms that were told lately; each is one fact however often it is seen, and whoever sees it."""

    async def created(
        self, signal: Signal, resolution: Resolution, fingerprint: str, address: Address, spec: Mapping[str, Any]
    ) -> None:
        """Tell of a signal that opened a request, with the spec as it was created (JSON form)."""
        about = {
            "signal_name": signal.name,
            "signal_type": signal.type,
            "signal_source": signal.source,
            "severity": signal.severity,
            "fingerprint": fingerprint,
            "target_resource": str(resolution.target),
            "signal_resource": str(resolution.signal_resource) if resolution.signal_resource else "",
            "assumed": resolution.note,
        }
        # People write secrets into annotations; the trail is kept for years and read by many.
        received = {**about, "labels": redact_values(signal.labels), "annotations": redact_values(signal.annotations)}
        await self._record("gateway.signal.received", address.name, (address.uid,), received, signal=signal)
        # Every field must be recoverable from the trail when the object is long gone.
        made = {**about, "uid": address.uid, **recorded.write(spec)}
        await self._record("gateway.crd.created", address.name, (address.uid,), made, signal=signal)

    async def failed(self, signal: Signal, resolution: Resolution, fingerprint: str, why: str) -> None:
        data = {"signal_name": signal.name, "fingerprint": fingerprint, "target_resource": str(resolution.target)}
        key = (fingerprint, signal.received_time.isoformat())
        await self._record(
            "gateway.crd.failed",
            f"signal-{fingerprint[:12]}",
            key,
            {**data, "error": redact(why)[:1000]},
            signal=signal,
            outcome=AuditOutcome.FAILURE,
        )

    async def silenced(self, seen: Mapping[tuple[str, str, str], Seen]) -> None:
        """Tell which signals each silence kept quiet."""
        by_silence: dict[str, list[dict[str, Any]]] = {}
        for (silence, name, resource), times in sorted(seen.items()):
            quiet = {
                "signal_name": name,
                "resource": resource,
                "count": times.count,
                "first_seen": times.first.isoformat(),
                "last_seen": times.last.isoformat(),
            }
            by_silence.setdefault(silence, []).append(quiet)
        for silence, signals in by_silence.items():
            self._flushes += 1
            for start in range(0, len(signals), MEMBERS_AN_EVENT):
                part = signals[start : start + MEMBERS_AN_EVENT]
                key = (silence, self._incarnation, str(self._flushes), str(start))
                data = {"silence": silence, "signals": part, "count": sum(one["count"] for one in part)}
                await self._record("gateway.signal.silenced", silence, key, data)

    async def flushed(self, address: Address, tally: Tally) -> None:
        """Tell what one flush wrote: duplicates, and symptoms that are over."""
        self._flushes += 1
        key = (address.uid, self._incarnation, str(self._flushes))
        if tally.duplicates and tally.seen:
            repeated = self._repeated.get(address)
            if repeated is None:
                repeated = self._repeated[address] = _Repeated()
            repeated.add(tally.duplicates, tally.seen, {name for name, _ in tally.symptoms})
            if repeated.due <= self._monotonic():
                await self._tell_repeated(address, repeated)
        if tally.storm is not None and (address.uid, tally.storm.storm_type) not in self._storms:
            self._storms[address.uid, tally.storm.storm_type] = None
            if len(self._storms) > STORMS_REMEMBERED:
                del self._storms[next(iter(self._storms))]
            storm = tally.storm.model_dump(mode="json")
            data = {**storm, "affected_resources": storm["affected_resources"][:MEMBERS_AN_EVENT]}
            await self._record("gateway.storm.detected", address.name, (address.uid, tally.storm.storm_type), data)
        if tally.members:
            folded = [{"signal_name": n, "resource": r, "target": t} for n, r, t in sorted(tally.members)]
            for start in range(0, len(folded), MEMBERS_AN_EVENT):
                part = folded[start : start + MEMBERS_AN_EVENT]
                data = {"members": part, "count": len(part)}
                await self._record("gateway.signal.folded", address.name, (*key, str(start)), data)
        if tally.resolved:
            over = [{"signal_name": name, "resource": resource} for name, resource in sorted(tally.resolved)]
            for start in range(0, len(over), MEMBERS_AN_EVENT):
                part = over[start : start + MEMBERS_AN_EVENT]
                await self._record("gateway.signal.resolved", address.name, (*key, str(start)), {"symptoms": part})

    async def tick(self) -> None:
        """Tell of the duplicates that were held back long enough."""
        now = self._monotonic()
        for address, repeated in list(self._repeated.items()):
            if repeated.due > now:
                continue
            if repeated.seen is None:
                del self._repeated[address]  # Quiet for a whole while: the next one is told at once again.
            else:
                await self._tell_repeated(address, repeated)

    async def end(self) -> None:
        """Tell of everything that is left."""
        for address, repeated in list(self._repeated.items()):
            if repeated.seen is not None:
                await self._tell_repeated(address, repeated)

    async def _tell_repeated(self, address: Address, repeated: _Repeated) -> None:
        if repeated.seen is None:
            return
        self._flushes += 1
        data = {
            "occurrences": repeated.duplicates,
            "first_seen": repeated.seen.first.isoformat(),
            "last_seen": repeated.seen.last.isoformat(),
            "signal_names": sorted(repeated.names)[:50],
        }
        repeated.duplicates, repeated.seen, repeated.names = 0, None, set()
        repeated.due = self._monotonic() + TELL_SECONDS
        key = (address.uid, self._incarnation, str(self._flushes), "repeated")
        await self._record("gateway.signal.deduplicated", address.name, key, data)

    async def _record(
        self,
        event_type: str,
        correlation_id: str,
        key: tuple[str, ...],
        data: dict[str, Any],
        *,
        signal: Signal | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> None:
        event = AuditEvent.fact(
            event_type,
            correlation_id=correlation_id,
            category=AuditCategory.GATEWAY,
            now=self._now(),
            outcome=outcome,
            actor=ACTOR,
            key=key,
            event_data=data,
            resource_type=REMEDIATION_REQUEST.kind,
            resource_id=correlation_id,
            namespace=self._namespace,
            cluster_name=self._cluster_name,
            severity=signal.severity[:20] if signal else "",
        )
        try:
            await self._sink.record(event)
        except KubernautError as error:
            log.warning("gateway.audit_failed", event_type=event_type, correlation_id=correlation_id, error=str(error))
