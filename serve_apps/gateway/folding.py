"""Folding: once a signal has opened incidents on so many resources, the next ones join the oldest instead of opening more.

The first requests of a storm are never delayed; from then on the storm costs one investigation, which sees every resource
that it hit. What counts as a storm is read from the API server, so replicas agree on it and a restart forgets nothing:

- more than so many open requests of one signal name were created within two minutes, or
- one of them is folding already and is not older than the longest storm.

The one it folds into is the *anchor*. A signal is folded once it is listed in the anchor's ``status.members``; an anchor that
ended meanwhile lists nobody, and the signal opens an incident of its own.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubernaut_ray import clock, names
from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.rounds import Rounds, batched
from serve_apps.gateway.storm import PATTERN_WINDOW
from serve_apps.gateway.tally import SymptomKey
from serve_apps.gateway.turns import Turn, Turns
from serve_apps.gateway.verdict import Held, Known, Open, judge

REMEMBER_SECONDS = 1.0
NAMES_AT_ONCE = 100
MAX_HOMES = 20_000
MAX_NAMES = 100


@dataclass(frozen=True, slots=True)
class Rules:
    """``threshold``: so many incidents of one name open on their own. ``longest``: no anchor takes members for longer."""

    enabled: bool
    threshold: int
    longest: timedelta


def choose(requests: Sequence[Known], symptom: SymptomKey, now: datetime, rules: Rules) -> Known | None:
    """Return the anchor for a new signal, ``None`` when it opens an incident of its own. ``requests`` share its name. Pure."""
    oldest_first = sorted((r for r in requests if r.open), key=lambda r: (r.created, r.name))
    for request in oldest_first:
        if symptom in request.members:
            return request
    takes = [r for r in oldest_first if not r.crowded]
    for request in takes:
        if request.members and request.storm == StormType.PATTERN and now - _created(request, now) <= rules.longest:
            return request
    recent = [r for r in oldest_first if now - _created(r, now) <= PATTERN_WINDOW]
    if len(recent) < rules.threshold:
        return None
    return next((r for r in recent if not r.crowded), None)


def holding(requests: Sequence[Known], symptom: SymptomKey, now: datetime) -> Held | None:
    """Return the ended storm that lists the signal and asks for a person, or must not be repeated yet. Pure.

    What holds the anchor's own signal back holds its members back: otherwise the storm would begin again at once.
    """
    for request in requests:
        if not request.open and symptom in request.members:
            kin = [one for one in requests if one.fingerprint == request.fingerprint]
            verdict = judge(request.fingerprint, kin, now)
            if isinstance(verdict, Held) and verdict.request.uid == request.uid:
                return verdict
    return None


def _created(request: Known, now: datetime) -> datetime:
    try:
        return clock.parse_rfc3339(request.created)
    except ValueError:
        return now


@dataclass(frozen=True, slots=True)
class Home:
    """The anchor that took a fingerprint's signals in."""

    fingerprint: str
    uid: str


class Folding:
    """Finds anchors, and remembers where fingerprints went; both are confirmed by a fresh read before they count."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        rules: Rules,
        now: clock.Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._namespace, self._rules, self._now = cluster, namespace, rules, now
        self._monotonic = monotonic
        self._turns = Turns[str, None]()
        self._rounds: Rounds[int] = Rounds(self._count)
        self._named_lately: OrderedDict[str, tuple[Sequence[Known], float]] = OrderedDict()
        """The requests among which an anchor was found, by signal name."""
        self._homes: OrderedDict[str, Home] = OrderedDict()

    @property
    def enabled(self) -> bool:
        return self._rules.enabled

    def turn(self, signal_name: str) -> AbstractAsyncContextManager[Turn[None]]:
        """Let new incidents of one name open one after the other, so that each sees those before it."""
        return self._turns.turn(signal_name)

    async def anchor(self, symptom: SymptomKey) -> Open | Held | None:
        """Find the request that a new signal is to be folded into, or that holds it back. Asked within ``turn``."""
        name = symptom[0]
        remembered, until = self._named_lately.get(name, ((), 0.0))
        if self._monotonic() < until:
            chosen = choose(remembered, symptom, self._now(), self._rules)
            # That it is listed already is not believed of a read that may be a second old.
            if chosen is not None and symptom not in chosen.members:
                return Open(chosen)
        self._named_lately.pop(name, None)
        if not (await self._rounds.ask((name,)))[name]:
            return None  # The first of its name, as most are: asked of many names at once.
        requests = await self._named(name)
        chosen = choose(requests, symptom, self._now(), self._rules)
        held = holding(requests, symptom, self._now())
        if held is not None and (chosen is None or symptom not in chosen.members):
            return held
        if chosen is None:
            return None
        self._named_lately[name] = (requests, self._monotonic() + REMEMBER_SECONDS)
        while len(self._named_lately) > MAX_NAMES:
            self._named_lately.popitem(last=False)
        return Open(chosen)

    async def holder(self, symptom: SymptomKey) -> Known | None:
        """Return the open request that lists this signal as a member."""
        if not self._rules.enabled:
            return None
        return next((r for r in await self._named(symptom[0]) if r.open and symptom in r.members), None)

    async def _count(self, signal_names: Collection[str]) -> Mapping[str, int]:
        """Count the requests of each name, by the label that stands for it."""
        values = {name: names.label_value(name) for name in signal_names}
        counted: Counter[str] = Counter()
        for part in batched(sorted(set(values.values())), NAMES_AT_ONCE):
            labels = f"{names.LABEL_SIGNAL_NAME} in ({','.join(part)})"
            found = await self._cluster.versions(REMEDIATION_REQUEST, self._namespace, labels=labels)
            counted.update(version.labels.get(names.LABEL_SIGNAL_NAME, "") for version in found)
        return {name: counted[value] for name, value in values.items()}

    async def _named(self, name: str) -> list[Known]:
        labels = f"{names.LABEL_SIGNAL_NAME}={names.label_value(name)}"
        found = await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=labels)
        return [known for known in map(Known.of, found) if known.signal_name == name]

    def forget(self, signal_name: str) -> None:
        """The anchor took nobody in: look for another next time."""
        self._named_lately.pop(signal_name, None)

    def home(self, fingerprint: str) -> Home | None:
        return self._homes.get(fingerprint)

    def moved(self, fingerprint: str, anchor: Known) -> None:
        """Remember that signals of this fingerprint are listed on the anchor."""
        self._homes[fingerprint] = Home(anchor.fingerprint, anchor.uid)
        self._homes.move_to_end(fingerprint)
        while len(self._homes) > MAX_HOMES:
            self._homes.popitem(last=False)

    def left(self, fingerprint: str) -> None:
        self._homes.pop(fingerprint, None)
