"""Whose turn it is: limits on what runs, a fair order of what waits, and a budget of how much may be done to one namespace.

Everything is decided from a listing of executions, so every shard and every restart comes to the same answer. An execution
first writes that it is admitted (``status.admittedAt``), then lists again and creates its run only if the others that are
admitted leave room: of two that admit themselves at the same time at least one sees the other, so a limit is never passed.
Those that took too much give back, the youngest first. One target counts as a limit of one, for all engines together.

Order: namespaces take turns, the one that was served longest ago (or never) first; within one the oldest execution first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from actors.workflow_execution.marks import parsed, target_namespace
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.settings import ExecutionSettings

SOON = timedelta(seconds=1)
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(seconds=30)
"""Between two looks at the queue, by the place in it. They find what ``waiting.py`` was not told."""
_OVER = (Phase.COMPLETED, Phase.FAILED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One execution, as far as the queue is concerned."""

    uid: str
    name: str
    target: str
    created: datetime
    admitted: datetime | None = None
    queued: bool = False
    """Whether it waits for its turn, and not for something else: what waits for a cooldown or a catalog stands in nobody's way."""
    started: bool = False
    """Whether its run was requested: it no longer gives its place back."""
    over: bool = False
    harmless: bool = False
    """It is over, and nothing of it was executed."""
    deadline: datetime | None = None

    @property
    def namespace(self) -> str:
        return target_namespace(self.target)

    @property
    def active(self) -> bool:
        return self.admitted is not None and not self.over

    @property
    def waiting(self) -> bool:
        return self.queued and self.admitted is None and not self.over

    @property
    def age(self) -> tuple[datetime, str]:
        return self.created, self.uid

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Self | None:
        """Read one of a listing; ``None`` for a dry run, which changes nothing, and for what is no execution."""
        metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
        created = parsed(metadata.get("creationTimestamp"))
        if created is None or spec.get("dryRun") or not isinstance(spec.get("targetResource"), str):
            return None
        started = status.get("phase") == Phase.RUNNING or bool(status.get("pipelineRunRef"))
        failure = status.get("failureDetails") or {}
        admitted = parsed(status.get("admittedAt"))
        if admitted is None and started:
            admitted = parsed(status.get("startTime")) or created
        over = status.get("phase") in _OVER
        return cls(
            uid=metadata.get("uid", ""),
            name=metadata.get("name", ""),
            target=spec["targetResource"],
            created=created,
            admitted=admitted,
            queued=bool(status.get("queuedAt")),
            started=started,
            over=over,
            harmless=over and bool(failure) and not failure.get("wasExecutionFailure"),
            deadline=parsed(spec.get("deadline")),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit."""

    running: int = 0
    per_namespace: int = 0
    budget: int = 0
    window: timedelta = timedelta(hours=1)

    @classmethod
    def of(cls, settings: ExecutionSettings) -> Self:
        return cls(
            settings.max_running,
            settings.max_running_per_namespace,
            settings.budget_per_namespace,
            timedelta(seconds=settings.budget_window),
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """Write that it is admitted."""


@dataclass(frozen=True, slots=True)
class Go:
    """It is admitted, and there is room."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """It is admitted, and others were before it."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    why: str
    at: datetime


Standing = Turn | Go | GiveBack | Wait


def judge(me: Entry, others: Iterable[Entry], limits: Limits, now: datetime) -> Standing:
    """Judge where an execution stands among the others. ``others`` may hold itself, or entries twice."""
    known = {entry.uid: entry for entry in others if entry.uid != me.uid}
    # One that nobody reconciles any more must not keep the others waiting beyond its own deadline.
    rest = tuple(e for e in known.values() if not e.waiting or e.deadline is None or now < e.deadline)
    return _admitted(me, rest, limits, now) if me.active else _waiting(replace(me, queued=True), rest, limits, now)


def order(entries: Sequence[Entry]) -> list[Entry]:
    """Return those that wait in the order in which they would be served."""
    served: dict[str, tuple[int, float]] = {}
    heads: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.waiting:
            heads[entry.namespace].append(entry)
        elif entry.admitted is not None:
            when = (0, entry.admitted.timestamp())
            served[entry.namespace] = max(served.get(entry.namespace, when), when)
    for queue in heads.values():
        queue.sort(key=lambda entry: entry.age, reverse=True)
    turns: list[Entry] = []
    while heads:
        namespace = min(heads, key=lambda n: (served.get(n, (-1, 0.0)), heads[n][-1].age, n))
        turns.append(heads[namespace].pop())
        served[namespace] = (1, float(len(turns)))
        if not heads[namespace]:
            del heads[namespace]
    return turns


def _waiting(me: Entry, rest: tuple[Entry, ...], limits: Limits, now: datetime) -> Standing:
    active = [entry for entry in rest if entry.active]
    everyone = (*rest, me)
    free = limits.running - len(active) if limits.running else len(everyone)
    room = _Room(everyone, limits, now)
    queue = order(everyone)
    place = next(i for i, entry in enumerate(queue, 1) if entry.uid == me.uid)
    for entry in queue:
        why = room.refuses(entry)
        if entry.uid == me.uid:
            if not why and free > 0:
                return Turn()
            full = f"{len(active)} of {limits.running} executions run"
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, place * SOON))
            at = now + pause
            if (until := room.budget_returns(entry)) is not None:
                at = max(at, until)
            return Wait(f"place {place} of {len(queue)}: {why or full}", at)
        if not why:
            room.take(entry)
            free -= 1
    raise AssertionError("it waits, so it is in the queue")


def _admitted(me: Entry, rest: tuple[Entry, ...], limits: Limits, now: datetime) -> Standing:
    """Compare with the others that are admitted; the listing must be younger than the admission."""
    hold = ""
    for limit, among, what in _rivals(me, rest, limits, now):
        if len(among) < limit:
            continue
        fixed = [entry for entry in among if entry.started or entry.over]
        claims = sorted([*(entry for entry in among if not (entry.started or entry.over)), me], key=lambda e: e.age)
        if claims.index(me) >= limit - len(fixed):
            return GiveBack(what)
        hold = what
    return Wait(f"while younger ones give back theirs: {hold}", now + SOON) if hold else Go()


def _rivals(
    me: Entry, rest: tuple[Entry, ...], limits: Limits, now: datetime
) -> Iterator[tuple[int, list[Entry], str]]:
    """Yield each limit with the others that count against it."""
    active = [entry for entry in rest if entry.active]
    yield 1, [e for e in active if e.target == me.target], "the target is another execution's"
    if limits.running:
        yield limits.running, active, f"{limits.running} executions run"
    if limits.per_namespace:
        here = [e for e in active if e.namespace == me.namespace]
        yield limits.per_namespace, here, f"{limits.per_namespace} executions run in {_named(me.namespace)}"
    if limits.budget:
        spent = [e for e in rest if e.namespace == me.namespace and _counts(e, limits, now)]
        yield limits.budget, spent, f"the budget of {_named(me.namespace)} is spent"


class _Room:
    """What is left of each limit, while turns are dealt out."""

    def __init__(self, entries: Sequence[Entry], limits: Limits, now: datetime) -> None:
        self._limits, self._now = limits, now
        self._targets: dict[str, str] = {}
        self._running: dict[str, int] = defaultdict(int)
        self._spent: dict[str, list[datetime]] = defaultdict(list)
        for entry in entries:
            if entry.active:
                self._targets[entry.target] = entry.name
                self._running[entry.namespace] += 1
            if entry.admitted is not None and _counts(entry, limits, now):
                self._spent[entry.namespace].append(entry.admitted)

    def refuses(self, entry: Entry) -> str:
        """Say which limit keeps it from running, if one does."""
        limits, namespace = self._limits, entry.namespace
        if holder := self._targets.get(entry.target):
            return f"the target is {holder}'s"
        running, spent = self._running[namespace], len(self._spent[namespace])
        if limits.per_namespace and running >= limits.per_namespace:
            return f"{running} of {limits.per_namespace} executions run in {_named(namespace)}"
        if limits.budget and spent >= limits.budget:
            window = f"{limits.window.total_seconds() / 60:g} minutes"
            return f"{spent} of {limits.budget} executions of the last {window} were in {_named(namespace)}"
        return ""

    def budget_returns(self, entry: Entry) -> datetime | None:
        """Return when a place in a spent budget comes back."""
        spent = sorted(self._spent[entry.namespace])
        if not self._limits.budget or len(spent) < self._limits.budget:
            return None
        return spent[len(spent) - self._limits.budget] + self._limits.window

    def take(self, entry: Entry) -> None:
        self._targets[entry.target] = entry.name
        self._running[entry.namespace] += 1
        self._spent[entry.namespace].append(self._now)


def _counts(entry: Entry, limits: Limits, now: datetime) -> bool:
    return entry.admitted is not None and not entry.harmless and now - entry.admitted < limits.window


def _named(namespace: str) -> str:
    return f"namespace {namespace}" if namespace else "cluster-scoped targets"
