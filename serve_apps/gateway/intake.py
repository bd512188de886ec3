"""The walk of the signals of one request: what each is about, whether it is new, and what became of it.

Signals of one fingerprint are handled together and in order, so that a group of twenty alerts about one Deployment costs one
look at the API server; different fingerprints go side by side. Whatever happens to one never touches the others. Nothing
is reported as created before the API server has said so, and no new symptom as joined before it is on record: an incident
that does not know of it would be called over while it goes on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from kubernaut_ray.clock import Clock
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import AdmissionReason, SignalOutcome
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Invalid
from kubernaut_ray.settings import Settings
from serve_apps.gateway import fingerprint as fingerprints
from serve_apps.gateway import request, target
from serve_apps.gateway.admit import Absent, Admission, Held, Known, Open, Verdict
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.metrics import Metrics
from serve_apps.gateway.occurrences import Address, Occurrences
from serve_apps.gateway.outcome import Outcome
from serve_apps.gateway.owners import Owners, Resolution
from serve_apps.gateway.scope import Scope
from serve_apps.gateway.signal import Ignored, Malformed, Parsed, Signal
from serve_apps.gateway.storm import StormDetector
from serve_apps.gateway.tally import MAX_RESOURCE, Seen, SymptomKey, Tally
from serve_apps.gateway.trail import Trail

LOOKUPS = 32
"""Owner look-ups and admissions at a time, over all requests."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Located:
    """A signal, its place in the answer, and what it is about."""

    place: int
    signal: Signal
    resolution: Resolution
    fingerprint: str

    @property
    def resource(self) -> str:
        return str(self.resolution.signal_resource or self.resolution.target)

    @property
    def symptom(self) -> SymptomKey:
        return self.signal.name, self.resource[:MAX_RESOURCE]

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


class Intake:
    """Takes parsed signals. ``start`` before the first, ``stop`` after the last."""

    def __init__(self, client: KubeClient, settings: Settings, audit: AuditSink, metrics: Metrics, now: Clock) -> None:
        gateway = settings.gateway
        self.cluster = Cluster(client, attempts=gateway.kubernetes_retries)
        self._namespace, self._now, self._metrics = settings.namespace, now, metrics
        self._owners = Owners(self.cluster, timeout=gateway.owner_lookup_timeout)
        self._scope = Scope(self.cluster, gateway.scope)
        self._admission = Admission(self.cluster, settings.namespace, now)
        self._trail = Trail(audit, now, namespace=settings.namespace, cluster_name=settings.cluster_name)
        self._storms = StormDetector(
            enabled=gateway.storm_enabled,
            rate_threshold=gateway.storm_rate_threshold,
            pattern_threshold=gateway.storm_pattern_threshold,
        )
        self.occurrences = Occurrences(
            self.cluster,
            settings.namespace,
            interval=gateway.occurrence_flush_interval,
            flushed=self._trail.flushed,
        )
        self._lookups = asyncio.Semaphore(LOOKUPS)

    def start(self) -> None:
        self.occurrences.start()

    async def stop(self) -> None:
        await self.occurrences.stop()

    async def take(self, parsed: Sequence[Parsed]) -> list[Outcome]:
        """Return what became of each entry, in order. Never raises for an entry's sake."""
        outcomes: dict[int, Outcome] = {}
        signals: list[tuple[int, Signal]] = []
        for place, entry in enumerate(parsed):
            match entry:
                case Malformed():
                    outcomes[place] = _unusable(entry)
                case Ignored(name, why):
                    outcomes[place] = Outcome(SignalOutcome.REJECTED, AdmissionReason.NOT_A_SIGNAL, why, signal=name)
                case Signal():
                    self._metrics.received(entry.type, entry.severity)
                    signals.append((place, entry))
        groups: defaultdict[str, list[_Located]] = defaultdict(list)
        for located in await self._locate_all(signals):
            if isinstance(located, _Located):
                groups[located.fingerprint].append(located)
            else:
                outcomes[located[0]] = located[1]
        for results in await asyncio.gather(*(self._group(group) for group in groups.values())):
            outcomes.update(results)
        ordered = [outcomes[place] for place in range(len(parsed))]
        for outcome in ordered:
            self._metrics.outcome(outcome.status, outcome.reason)
        return ordered

    async def _locate_all(self, signals: Sequence[tuple[int, Signal]]) -> list[_Located | tuple[int, Outcome]]:
        if not signals:
            return []
        try:
            kinds = await self.cluster.kinds()
        except KubernautError as error:
            return [(place, _unavailable(signal.name, error)) for place, signal in signals]
        return list(await asyncio.gather(*(self._locate(place, signal, kinds) for place, signal in signals)))

    async def _locate(self, place: int, signal: Signal, kinds: Kinds) -> _Located | tuple[int, Outcome]:
        try:
            async with self._lookups:
                found = target.candidates(signal, kinds)
                resolution = await self._owners.resolve(found, target.namespace(signal.labels), kinds)
        except KubernautError as error:
            return place, _unavailable(signal.name, error)
        if resolution.note:
            self._metrics.assumed()
        if resolution.identified:
            fingerprint = fingerprints.of_target(resolution.target)
        else:
            fingerprint = fingerprints.of_nameless(signal.name, signal.labels)
        return _Located(place, signal, resolution, fingerprint)

    async def _group(self, group: Sequence[_Located]) -> dict[int, Outcome]:
        """Handle the signals of one fingerprint: those that fire, then those that are over."""
        outcomes: dict[int, Outcome] = {}
        verdict: Verdict | None = None
        news: list[_Located] = []
        async with self._lookups:
            for located in sorted(group, key=lambda one: one.signal.resolved):
                try:
                    verdict = verdict or await self._admission.verdict(located.fingerprint)
                    if located.signal.resolved:
                        outcomes[located.place] = await self._over(located, verdict)
                    else:
                        verdict, outcomes[located.place] = await self._firing(located, verdict)
                        if isinstance(verdict, Open) and not verdict.request.knows(located.symptom):
                            news.append(located)
                except Invalid as error:
                    await self._trail.failed(located.signal, located.resolution, located.fingerprint, str(error))
                    outcomes[located.place] = located.outcome(
                        SignalOutcome.FAILED,
                        AdmissionReason.REFUSED,
                        f"the Kubernetes API refused the request: {error}",
                    )
                except (Retryable, Permanent) as error:
                    log.warning("gateway.signal_not_durable", signal=located.signal.name, error=str(error))
                    outcomes[located.place] = _unavailable(located.signal.name, error)
            if isinstance(verdict, Open):
                outcomes |= await self._put_on_record(verdict.request, news)
        return outcomes

    async def _put_on_record(self, known: Known, news: Sequence[_Located]) -> dict[int, Outcome]:
        """Write new symptoms down before they are acknowledged; returns the outcomes of those that could not be."""
        if not news:
            return {}
        try:
            await self.occurrences.flush_now(Address(known.name, known.uid))
        except Retryable as error:
            log.warning("gateway.symptoms_not_durable", remediation=known.name, error=str(error))
            return {located.place: _unavailable(located.signal.name, error) for located in news}
        return {}

    async def _firing(self, located: _Located, verdict: Verdict) -> tuple[Verdict, Outcome]:
        match verdict:
            case Open(known):
                self._count(located, known, duplicate=True)
                message = f"one more occurrence of {known.name}"
                return verdict, self._joined(located, known, AdmissionReason.IN_PROGRESS, message)
            case Held(known, reason, why):
                self._count(located, known, duplicate=True)
                return verdict, self._joined(located, known, reason, f"{known.name} {why}")
            case Absent():
                return await self._open(located, verdict)

    async def _open(self, located: _Located, absent: Absent) -> tuple[Verdict, Outcome]:
        signal, resolution = located.signal, located.resolution
        if not await self._scope.manages(resolution.target):
            message = f"{resolution.target} is not managed; label it or its namespace kubernaut.ai/managed=true"
            outcome = located.outcome(SignalOutcome.REJECTED, AdmissionReason.UNMANAGED_RESOURCE, message)
            return absent, outcome
        result = await self._admission.create(
            located.fingerprint,
            absent,
            lambda name: request.build(signal, resolution, located.fingerprint, name, self._namespace),
        )
        if isinstance(result, Held):
            return await self._firing(located, result)
        known, ours = result
        if not ours:
            return await self._firing(located, Open(known))
        self._metrics.created(signal.type)
        await self._trail.created(signal, resolution, located.fingerprint, Address(known.name, known.uid))
        self._count(located, known, duplicate=False)
        log.info(
            "gateway.remediation_created", remediation=known.name, target=str(resolution.target), signal=signal.name
        )
        outcome = located.outcome(
            SignalOutcome.CREATED,
            AdmissionReason.NEW_INCIDENT,
            f"opened {known.name} for {resolution.target}",
            remediation=known.name,
            namespace=self._namespace,
        )
        return Open(known), outcome

    async def _over(self, located: _Located, verdict: Verdict) -> Outcome:
        """Record that the source says a signal is over. Such a signal never opens anything."""
        if not isinstance(verdict, Open):
            message = "the signal is over and no request is open for it"
            return located.outcome(SignalOutcome.RESOLVED, AdmissionReason.NOTHING_OPEN, message)
        known, signal = verdict.request, located.signal
        tally = Tally(resolved={located.symptom: signal.received_time}, source=signal.source)
        await self.occurrences.write(Address(known.name, known.uid), tally)
        return located.outcome(
            SignalOutcome.RESOLVED,
            AdmissionReason.RESOLUTION_RECORDED,
            f"recorded on {known.name} that the signal is over",
            remediation=known.name,
            namespace=self._namespace,
        )

    def _joined(self, located: _Located, known: Known, reason: AdmissionReason, message: str) -> Outcome:
        self._metrics.deduplicated(located.signal.name)
        return located.outcome(
            SignalOutcome.DUPLICATE, reason, message, remediation=known.name, namespace=self._namespace
        )

    def _count(self, located: _Located, known: Known, *, duplicate: bool) -> None:
        signal = located.signal
        storm = self._storms.observe(signal.name, located.resource[:MAX_RESOURCE], signal.received_time)
        if storm is not None:
            self._metrics.storm(storm.storm_type)
        seen = Seen(1, signal.received_time, signal.received_time)
        tally = Tally(
            seen=seen, duplicates=int(duplicate), symptoms={located.symptom: seen}, source=signal.source, storm=storm
        )
        self.occurrences.add(Address(known.name, known.uid), tally)


def _unusable(entry: Malformed) -> Outcome:
    return Outcome(SignalOutcome.FAILED, AdmissionReason.MALFORMED, entry.why, signal=entry.name)


def _unavailable(name: str, error: Exception) -> Outcome:
    return Outcome(SignalOutcome.FAILED, AdmissionReason.UNAVAILABLE, f"not taken yet: {error}", signal=name)
