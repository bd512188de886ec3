"""The walk of the signals of one request: what each is about, whether it is new, and what became of it.

Signals of one fingerprint are handled together and in order, so that a group of twenty alerts about one Deployment costs one
look at the API server; different fingerprints go side by side. Whatever happens to one never touches the others. Nothing
is reported as created before the API server has said so, and no new symptom or member as joined before it is on record: an
incident that does not know of it would be called over while it goes on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog

from kubernaut_ray.clock import Clock
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import AdmissionReason, SignalOutcome, StormType
from kubernaut_ray.crds.remediation_request import Storm
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Invalid
from kubernaut_ray.settings import Settings
from serve_apps.gateway import fingerprint as fingerprints
from serve_apps.gateway import request
from serve_apps.gateway.admit import Admission
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.folding import Folding, Rules
from serve_apps.gateway.ledger import Ledger, Requests
from serve_apps.gateway.locate import Locator
from serve_apps.gateway.located import Located
from serve_apps.gateway.metrics import Metrics
from serve_apps.gateway.occurrences import Address, Occurrences
from serve_apps.gateway.outcome import Outcome
from serve_apps.gateway.scope import Scope
from serve_apps.gateway.signal import Ignored, Malformed, Parsed, Signal
from serve_apps.gateway.storm import StormDetector
from serve_apps.gateway.trail import Hushed, Trail
from serve_apps.gateway.verdict import Absent, Held, Known, Open, Verdict, judge

GROUPS = 128
"""Fingerprints at work at a time, over all requests."""
MAX_REFUSALS = 2
"""After so many larger incidents that did not take a signal in, it opens one of its own."""

log = structlog.get_logger(__name__)


class Intake:
    """Takes parsed signals. ``start`` before the first, ``stop`` after the last."""

    def __init__(self, client: KubeClient, settings: Settings, audit: AuditSink, metrics: Metrics, now: Clock) -> None:
        gateway = settings.gateway
        self.cluster = Cluster(client, attempts=gateway.kubernetes_retries)
        self.metrics, self.now = metrics, now
        self.namespace = settings.namespace
        self.locator = Locator(client, self.cluster, settings, metrics, now)
        self.ledger = Ledger(self.cluster, settings.namespace)
        self.storms = StormDetector(
            enabled=gateway.storm_enabled,
            rate_threshold=gateway.storm_rate_threshold,
            pattern_threshold=gateway.storm_pattern_threshold,
        )
        rules = Rules(gateway.storm_enabled, gateway.storm_pattern_threshold, timedelta(seconds=gateway.storm_longest))
        self.folding = Folding(self.cluster, settings.namespace, rules, now)
        self._scope = Scope(self.cluster, gateway.scope, topology=self.locator.topology)
        self._admission = Admission(self.cluster, self.ledger, settings.namespace, now)
        self._trail = Trail(audit, now, namespace=settings.namespace, cluster_name=settings.cluster_name)
        self.occurrences = Occurrences(
            self.cluster,
            self.ledger,
            settings.namespace,
            interval=gateway.occurrence_flush_interval,
            flushed=self._trail.flushed,
            storm_of=lambda name: self.storms.storm(name, now()),
            ticked=self._tell,
        )
        self._hushed = Hushed()
        self._groups = asyncio.Semaphore(GROUPS)

    async def start(self) -> None:
        await self.locator.start()
        self.occurrences.start()

    async def stop(self) -> None:
        try:
            await self.occurrences.stop()
            await self._trail.end()
        finally:
            await self.locator.stop()

    async def _tell(self) -> None:
        await self._trail.silenced(self._hushed.drain())
        await self._trail.tick()

    async def take(self, parsed: Sequence[Parsed], located: dict[int, Located] | None = None) -> list[Outcome]:
        """Return what became of each entry, in order. Never raises for an entry's sake.

        ``located`` is told what each entry that is a signal is about.
        """
        outcomes: dict[int, Outcome] = {}
        signals: list[tuple[int, Signal]] = []
        for place, entry in enumerate(parsed):
            match entry:
                case Malformed():
                    outcomes[place] = _unusable(entry)
                case Ignored(name, why):
                    outcomes[place] = Outcome(SignalOutcome.REJECTED, AdmissionReason.NOT_A_SIGNAL, why, signal=name)
                case Signal():
                    self.metrics.received(entry.type, entry.severity)
                    signals.append((place, entry))
        groups: defaultdict[str, list[Located]] = defaultdict(list)
        for place, found in await self.locator.locate_all(signals):
            match found:
                case Located():
                    if not found.signal.resolved and (silences := await self.locator.silenced(found)):
                        outcomes[place] = self._silenced(found, silences)
                        continue
                    groups[found.fingerprint].append(found)
                    if located is not None:
                        located[place] = found
                case KubernautError():
                    outcomes[place] = _unavailable(parsed[place].name, found)
        outcomes |= await self._take_groups(groups)
        ordered = [outcomes[place] for place in range(len(parsed))]
        for outcome in ordered:
            self.metrics.outcome(outcome.status, outcome.reason)
        return ordered

    async def _take_groups(self, groups: Mapping[str, Sequence[Located]]) -> dict[int, Outcome]:
        if not groups:
            return {}
        try:
            found = await self.look(groups)
        except KubernautError as error:
            return {one.place: _unavailable(one.signal.name, error) for group in groups.values() for one in group}
        outcomes: dict[int, Outcome] = {}
        for results in await asyncio.gather(*(self._group(group, found) for group in groups.values())):
            outcomes.update(results)
        return outcomes

    async def look(self, fingerprints: Iterable[str]) -> Mapping[str, Requests]:
        """Read the requests of these fingerprints, and of the anchors that some of them were folded into."""
        wanted = set(fingerprints)
        wanted |= {home.fingerprint for f in tuple(wanted) if (home := self.folding.home(f)) is not None}
        return await self.ledger.look(wanted)

    def verdict(self, group: Sequence[Located], found: Mapping[str, Requests]) -> Verdict:
        """Judge signals of one fingerprint by what was just read; one that was folded stands as its anchor does."""
        fingerprint = group[0].fingerprint
        verdict = judge(fingerprint, found[fingerprint], self.now())
        home = self.folding.home(fingerprint)
        if home is None or home.fingerprint not in found or not isinstance(verdict, Absent):
            return verdict  # A home that it moved to since the look is found again by ``folding.anchor``.
        anchor = next((k for k in found[home.fingerprint] if k.uid == home.uid and k.open), None)
        if anchor is not None:
            return Open(anchor)
        held = judge(home.fingerprint, found[home.fingerprint], self.now())
        if isinstance(held, Held) and held.request.uid == home.uid and all(one.held_by(held.request) for one in group):
            return held
        # It ended, or what was about to be listed there never was: nobody would look after it.
        self.folding.left(fingerprint)
        return verdict

    async def _group(
        self, group: Sequence[Located], found: Mapping[str, Requests], refusals: int = 0
    ) -> dict[int, Outcome]:
        """Handle the signals of one fingerprint: those that fire, then those that are over.

        ``refusals`` is how often a larger incident did not take them in.
        """
        outcomes: dict[int, Outcome] = {}
        unwritten: defaultdict[Address, list[Located]] = defaultdict(list)
        refused: list[Located] = []
        fold = refusals < MAX_REFUSALS
        waits = self._groups.locked()
        async with self._groups:
            if waits:
                # An incident may have ended while this waited for room.
                try:
                    found = await self.look({group[0].fingerprint})
                except KubernautError as error:
                    return {one.place: _unavailable(one.signal.name, error) for one in group}
            verdict = self.verdict(group, found)
            for located in sorted(group, key=lambda one: one.signal.resolved):
                try:
                    if located.signal.resolved:
                        known, outcomes[located.place] = await self._over(located, verdict)
                        if known is not None:
                            unwritten[Address.of(known)].append(located)
                        continue
                    verdict, outcomes[located.place] = await self._firing(located, verdict, fold=fold)
                    if isinstance(verdict, Open) and not located.on_record(verdict.request):
                        unwritten[Address.of(verdict.request)].append(located)
                except _Elsewhere:
                    refused.append(located)
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
            for address, some in unwritten.items():
                failed, turned_away = await self._put_on_record(address, some)
                outcomes |= failed
                refused += turned_away
        if refused:
            outcomes |= await self._take_again(refused, refusals + 1)
        return outcomes

    async def _put_on_record(
        self, address: Address, some: Sequence[Located]
    ) -> tuple[dict[int, Outcome], list[Located]]:
        """Write new symptoms and members, and what is over, down before they are acknowledged.

        Returns the outcomes of those that could not be written, and those that the incident does not take in any more.
        """
        news = [one for one in some if not one.signal.resolved]
        try:
            after = await self.occurrences.flush_now(address)
        except Invalid:
            # No repeat could write it. Its own target's incident goes on all the same.
            return {}, [one for one in news if not one.is_own(address.fingerprint)]
        except (Retryable, Permanent) as error:
            log.warning("gateway.symptoms_not_durable", remediation=address.name, error=str(error))
            return {one.place: _unavailable(one.signal.name, error) for one in some}, []
        if after is None or not after.open:
            return {}, news
        # A later resolution may be on record already: then it was taken in too.
        return {}, [
            one
            for one in news
            if not (one.is_own(after.fingerprint) or one.on_record(after) or after.over(one.symptom))
        ]

    async def _take_again(self, refused: Sequence[Located], refusals: int) -> dict[int, Outcome]:
        """Handle signals that the larger incident refused: it ended just now, is full, or is nobody's to manage."""
        if refusals > MAX_REFUSALS:
            error = Retryable("the incidents that it could be part of change faster than they can be read")
            return {one.place: _unavailable(one.signal.name, error) for one in refused}
        groups: defaultdict[str, list[Located]] = defaultdict(list)
        for located in refused:
            self.folding.forget(located.signal.name)
            self.folding.left(located.fingerprint)
            alone = located.alone()
            groups[alone.fingerprint].append(alone)
        try:
            found = await self.look(groups)
        except KubernautError as error:
            return {one.place: _unavailable(one.signal.name, error) for one in refused}
        outcomes: dict[int, Outcome] = {}
        for group in groups.values():
            outcomes |= await self._group(group, found, refusals)
        return outcomes

    async def _firing(self, located: Located, verdict: Verdict, *, fold: bool) -> tuple[Verdict, Outcome]:
        match verdict:
            case Open(known):
                self.count(located, known, duplicate=True)
                if not located.is_own(known.fingerprint) and not located.on_record(known):
                    return verdict, self._accepted(located, known)
                return verdict, self._joined(located, verdict)
            case Held(known):
                self.count(located, known, duplicate=True)
                return verdict, self._joined(located, verdict)
            case Absent():
                return await self._open(located, verdict, fold=fold)

    async def _open(self, located: Located, absent: Absent, *, fold: bool) -> tuple[Verdict, Outcome]:
        if not await self._scope.manages(located.resolution.target):
            if located.member is not None:
                raise _Elsewhere
            target = located.resolution.target
            message = f"{target} is not managed; label it or its namespace kubernaut.ai/managed=true"
            outcome = located.outcome(SignalOutcome.REJECTED, AdmissionReason.UNMANAGED_RESOURCE, message)
            return absent, outcome
        if not (fold and self.folding.enabled) or located.member is not None:
            return await self._create(located, absent)
        async with self.folding.turn(located.signal.name):
            anchor = await self.folding.anchor(located.symptom)
            if anchor is None:
                return await self._create(located, absent)
        if isinstance(anchor, Held):
            self.folding.moved(located.fingerprint, anchor.request)
            return await self._firing(located, anchor, fold=fold)
        # Outside the turn: it was read up to a second ago, and all who come here now share one look.
        chosen = anchor.request
        found = await self.ledger.look((chosen.fingerprint, located.fingerprint))
        own = judge(located.fingerprint, found[located.fingerprint], self.now())
        if not isinstance(own, Absent):
            return await self._firing(located, own, fold=fold)  # Somebody opened one of its own meanwhile.
        current = next((k for k in found[chosen.fingerprint] if k.uid == chosen.uid and k.open), None)
        if current is None or (current.crowded and not located.on_record(current)):
            raise _Elsewhere
        self.folding.moved(located.fingerprint, current)
        return await self._firing(located, Open(current), fold=fold)

    async def _create(self, located: Located, absent: Absent) -> tuple[Verdict, Outcome]:
        signal, resolution = located.signal, located.resolution
        made: dict[str, Any] = {}

        def build(name: str) -> dict[str, Any]:
            made.update(request.build(signal, resolution, located.fingerprint, name, self.namespace))
            return made

        result = await self._admission.create(located.fingerprint, absent, build)
        if isinstance(result, Held):
            return await self._firing(located, result, fold=False)
        known, ours = result
        if not ours:
            return await self._firing(located, Open(known), fold=False)
        self.metrics.created(signal.type)
        await self._trail.created(signal, resolution, located.fingerprint, Address.of(known), made["spec"])
        self.count(located, known, duplicate=False)
        log.info(
            "gateway.remediation_created", remediation=known.name, target=str(resolution.target), signal=signal.name
        )
        outcome = located.outcome(
            SignalOutcome.CREATED,
            AdmissionReason.NEW_INCIDENT,
            f"opened {known.name} for {resolution.target}",
            remediation=known.name,
            namespace=self.namespace,
        )
        return Open(known), outcome

    async def _over(self, located: Located, verdict: Verdict) -> tuple[Known | None, Outcome]:
        """Count that the source says a signal is over, and where that is to be written. Such a signal never opens anything."""
        known = verdict.request if isinstance(verdict, Open) else None
        if known is None or not located.on_record(known):
            known = await self._holder(located) or known
        if known is None:
            message = "the signal is over and no request is open for it"
            return None, located.outcome(SignalOutcome.RESOLVED, AdmissionReason.NOTHING_OPEN, message)
        tally = self.occurrences.tally(Address.of(known))
        tally.over(located.symptom, located.signal.received_time)
        tally.source = located.signal.source
        outcome = located.outcome(
            SignalOutcome.RESOLVED,
            AdmissionReason.RESOLUTION_RECORDED,
            f"recorded on {known.name} that the signal is over",
            remediation=known.name,
            namespace=self.namespace,
        )
        return known, outcome

    async def _holder(self, located: Located) -> Known | None:
        """Find the incident that took this signal in: that of its storm, or of a node that may be back by now."""
        if (anchor := await self.folding.holder(located.symptom)) is not None:
            return anchor
        nodes = {fingerprints.of_target(node) for node in self.locator.topology.lost_lately()}
        found = await self.ledger.look(nodes) if nodes else {}
        return next((k for known in found.values() for k in known if k.open and located.symptom in k.members), None)

    def _silenced(self, located: Located, silences: Sequence[str]) -> Outcome:
        self._hushed.note(located.signal, located.resource, silences)
        message = f"kept quiet by silence {', '.join(silences)}"
        return located.outcome(SignalOutcome.SILENCED, AdmissionReason.SILENCED, message)

    def _joined(self, located: Located, verdict: Open | Held) -> Outcome:
        self.metrics.deduplicated(located.signal.name)
        return located.repeated(verdict, self.namespace)

    def _accepted(self, located: Located, known: Known) -> Outcome:
        """The outcome of a signal that is part of something larger, and new to it."""
        reason, node = located.part_of, located.member is not None
        self.metrics.folded(reason)
        what = f"the loss of {located.resolution.target}" if node else f"the storm of {located.signal.name}"
        return located.outcome(
            SignalOutcome.ACCEPTED,
            reason,
            f"taken into {known.name}: part of {what}",
            remediation=known.name,
            namespace=self.namespace,
        )

    def count(self, located: Located, known: Known, *, duplicate: bool) -> None:
        """Count one signal on a request, as a symptom of its own or as a member."""
        signal = located.signal
        if (storm := self.storms.observe(signal.name, (located.resource,), signal.received_time)) is not None:
            self.metrics.storm(storm)
        tally = self.occurrences.tally(Address.of(known))
        tally.count(1, signal.received_time, signal.source, duplicates=int(duplicate))
        if located.is_own(known.fingerprint):
            tally.symptom(located.symptom, signal.received_time)
        elif known.open and not located.on_record(known):
            tally.member(located.as_member, signal.received_time)
            if located.member is None:
                tally.mark(_pattern(located, known))


class _Elsewhere(Exception):
    """Nobody manages the larger thing, or it takes no further signal in."""


def _pattern(located: Located, anchor: Known) -> Storm:
    return Storm(
        storm_type=StormType.PATTERN,
        window="2m",
        alert_count=len(anchor.members) + 2,  # At least; what is written counts those that come with it.
        affected_resources=(located.resource,),
        detected_at=located.signal.received_time,
    )


def _unusable(entry: Malformed) -> Outcome:
    return Outcome(SignalOutcome.FAILED, AdmissionReason.MALFORMED, entry.why, signal=entry.name)


def _unavailable(name: str, error: Exception) -> Outcome:
    return Outcome(SignalOutcome.FAILED, AdmissionReason.UNAVAILABLE, f"not taken yet: {error}", signal=name)
