"""Crashes the apply step at every point and shows that re-running converges: one call, for any controller.

    report = await crash_everywhere(make_controller, make_world, key)

``make_world(client)`` puts the starting objects there. ``make_controller(client)`` builds a fresh controller, once a life:
a crash wipes its memory. The controller is run until nothing changes any more, first without a crash, then crashing before
and after every write, audit record and call of an outside performer, in turn; every time the world that results must be
the world that was never interrupted: same objects, one of each, same specs, owners and status, same audit facts.

What the rest of the system would do between two reconciles goes into ``advance(client)``, for example completing a child.
Time is virtual: it stands still while the controller works and jumps to ``wake_at`` when nothing else happens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Call, Controller, Key, Performer
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList
from tests import courier
from tests.memory_kube import MemoryKube
from tests.trail import fits

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")

MakeController = Callable[[KubeClient], Controller[Any, Any]]
Step = Callable[[KubeClient], Awaitable[None]]


class Crash(BaseException):
    """The process dies here. No ``except Exception`` may see it."""


@dataclass
class Fuse:
    """Counts the points that a run passes; blows at number ``at``."""

    at: int = -1
    passed: list[str] = field(default_factory=list)

    def point(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) - 1 == self.at:
            raise Crash(name)


@dataclass(frozen=True)
class World:
    """What is left when the dust has settled."""

    objects: dict[str, Any]
    facts: frozenset[str]
    calls: frozenset[str]


@dataclass(frozen=True)
class CrashReport:
    points: tuple[str, ...]
    world: World
    outcomes: tuple[str, ...]
    """The reasons of the uninterrupted run's decisions, in order."""


async def crash_everywhere(
    make_controller: MakeController,
    make_world: Step,
    key: Key,
    *,
    advance: Step | None = None,
    ignore: tuple[str, ...] = (),
    start: datetime = START,
    max_steps: int = 60,
) -> CrashReport:
    """Crash at every point in turn and assert that each world converges to the uninterrupted one.

    ``ignore`` names fields (at any depth) that may differ, for example ``possibleDuplicate``.
    """
    life = _Lives(make_controller, make_world, key, advance, start, max_steps)
    calm, fuse, reasons = await life.run(Fuse())
    expected = _without(calm, ignore)
    assert fuse.passed, "the controller did nothing: there is no point to crash at"
    for at, name in enumerate(fuse.passed):
        crashed, _, _ = await life.run(Fuse(at))
        assert expected == _without(crashed, ignore), f"a crash {name} (point {at}) ends in another world"
    return CrashReport(tuple(fuse.passed), calm, reasons)


@dataclass(frozen=True)
class _Lives:
    make_controller: MakeController
    make_world: Step
    key: Key
    advance: Step | None
    start: datetime
    max_steps: int

    async def run(self, fuse: Fuse) -> tuple[World, Fuse, tuple[str, ...]]:
        now = [self.start]
        kube = MemoryKube(lambda: now[0])
        await self.make_world(kube)
        sink, calls, reasons = _Sink(fuse), set[str](), list[str]()
        idle = steps = 0
        while True:
            controller = self.make_controller(_CrashingKube(kube, fuse))
            await controller.start()
            reconcile = Reconciler(
                _Watched(controller, fuse, calls), _CrashingKube(kube, fuse), sink, clock=lambda: now[0]
            )
            try:
                while idle < 5:
                    steps += 1
                    assert steps <= self.max_steps, f"not settled after {steps} reconciles: {reasons[-5:]}"
                    before = (kube.writes, len(sink.facts), len(calls))
                    try:
                        outcome = await reconcile(self.key)
                    except Retryable as error:
                        reasons.append(f"retry: {error}")
                        continue
                    reasons.append(outcome.reason)
                    if self.advance is not None:
                        await self.advance(kube)
                    if before != (kube.writes, len(sink.facts), len(calls)):
                        idle = 0
                    elif outcome.wake_at is not None:
                        idle += 1
                        now[0] = max(now[0], outcome.wake_at)
                    else:
                        break
                return World(_snapshot(kube), frozenset(sink.facts), frozenset(calls)), fuse, tuple(reasons)
            except Crash:
                continue
            finally:
                await controller.stop()


class _Sink:
    """An audit store that keeps one event an id."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse
        self.facts: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        if event.event_type != courier.ACCEPTED:
            fits(event)
        self._fuse.point(f"before audit {event.event_type}")
        self.facts.setdefault(event.event_id, event)
        self._fuse.point(f"after audit {event.event_type}")


class _CrashingKube(MemoryKube):
    """The same world, seen by a process that may die at any write."""

    def __init__(self, inner: MemoryKube, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    async def get(self, *args: Any, **kw: Any) -> Object:
        return await self._inner.get(*args, **kw)

    async def list(self, *args: Any, **kw: Any) -> ObjectList:
        return await self._inner.list(*args, **kw)

    async def create(self, resource: Any, obj: Any, *args: Any, **kw: Any) -> Object:
        name = f"create {resource.kind} {obj['metadata']['name']}"
        return await self._around(name, self._inner.create(resource, obj, *args, **kw))  # type: ignore[no-any-return]

    async def replace(self, resource: Any, obj: Any, *args: Any, **kw: Any) -> Object:
        name = f"replace {resource.kind} {obj['metadata']['name']}"
        return await self._around(name, self._inner.replace(resource, obj, *args, **kw))  # type: ignore[no-any-return]

    async def patch(self, resource: Any, name: str, *args: Any, **kw: Any) -> Object:
        what = f"patch {resource.kind} {name} {kw.get('subresource') or ''}".rstrip()
        return await self._around(what, self._inner.patch(resource, name, *args, **kw))  # type: ignore[no-any-return]

    async def delete(self, resource: Any, name: str, *args: Any, **kw: Any) -> None:
        await self._around(f"delete {resource.kind} {name}", self._inner.delete(resource, name, *args, **kw))

    async def _around(self, name: str, work: Any) -> Any:
        try:
            self._fuse.point(f"before {name}")
        except Crash:
            work.close()
            raise
        result = await work
        self._fuse.point(f"after {name}")
        return result


class _Watched:
    """The controller with its performers watched."""

    def __init__(self, controller: Controller[Any, Any], fuse: Fuse, calls: set[str]) -> None:
        self._controller = controller
        self.performers: Mapping[str, Performer] = {
            name: _performer(performer, fuse, calls) for name, performer in controller.performers.items()
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)


def _performer(performer: Performer, fuse: Fuse, calls: set[str]) -> Performer:
    async def perform(call: Call, /) -> None:
        fuse.point(f"before call {call.performer}")
        await performer(call)
        calls.add(f"{call.performer} {call.id}")
        fuse.point(f"after call {call.performer}")

    return perform


def _snapshot(kube: MemoryKube) -> dict[str, Any]:
    world: dict[str, Any] = {}
    for (kind, namespace, name), obj in kube.objects.items():
        if kind == "Event":
            continue
        body = copy.deepcopy(obj)
        metadata = body["metadata"]
        for volatile in ("resourceVersion", "generation"):
            metadata.pop(volatile, None)
        world[f"{kind} {namespace}/{name}"] = body
    return world


def _without(world: World, ignore: tuple[str, ...]) -> World:
    return World(_strip(world.objects, frozenset(ignore)), world.facts, world.calls)


def _strip(value: Any, ignore: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {k: _strip(v, ignore) for k, v in value.items() if k not in ignore}
    if isinstance(value, list | tuple):
        return [_strip(v, ignore) for v in value]
    if isinstance(value, str) and _INSTANT.match(value):
        return "(an instant)"
    return value
