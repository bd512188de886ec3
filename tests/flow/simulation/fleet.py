"""The controllers, each in a process of its own that may die: the real control loop, started anew by a supervisor.

Every tenth decision is made twice, and must be the same both times.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from actors.ai_analysis.controller import AIAnalysisController
from actors.approval import controller as approval
from actors.effectiveness.controller import EffectivenessController
from actors.effectiveness.observe import Reader as EffectReader
from actors.notification.controller import NotificationController
from actors.remediation.controller import RemediationController
from actors.signal_processing.classify import Classifier
from actors.signal_processing.controller import SignalProcessingController
from actors.signal_processing.enrich import Enricher
from actors.signal_processing.observe import Reader
from actors.workflow_execution.controller import WorkflowExecutionController
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.contracts.statistics import EffectivenessRecord, ExecutionRecord
from kubernaut_ray.control import shards
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Controller, Decision, Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.control.stats import Result
from kubernaut_ray.crds.notification_request import NotificationRequest
from tests.flow.simulation.client import Life, SimClient
from tests.flow.simulation.faults import Crash
from tests.flow.simulation.outside import SHELF
from tests.policies import Policies

if TYPE_CHECKING:
    from tests.flow.simulation.world import World


class Processing(SignalProcessingController):
    """Classifies by the shipped policies."""

    def __init__(self, deps: Deps, now: Callable[[], datetime]) -> None:
        super().__init__(deps)
        policies: Any = Policies()
        self._policies = policies
        classifier = Classifier(policies, self._settings)
        self._reader = Reader(deps.client, Enricher(deps.client), classifier, self._settings, now)


class Notifying(NotificationController):
    """Sends into the simulated channels."""

    def __init__(self, deps: Deps, world: World, life: Life) -> None:
        super().__init__(deps, now=world.now)
        self._world, self._life = world, life

    async def start(self) -> None:
        self._routing.load()

    async def _send(self, notification: NotificationRequest, key: str, attempt: int, possible_duplicate: bool) -> None:
        await self._world.channels.send(self._life, f"{notification.name} {notification.uid}", key, possible_duplicate)


class Assessing(EffectivenessController):
    """Asks the simulated Alertmanager, and takes the time from the simulation."""

    def __init__(self, deps: Deps, world: World, life: Life) -> None:
        super().__init__(deps, _Catalog(world, life), world.effects.of(life))
        self._reader = EffectReader(deps.client, self._settings, self._alertmanager, None, world.now)


class _Catalog:
    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def workflow(self, workflow_id: str) -> Workflow | None:
        await self._world.reach(self._life)
        return SHELF.get(workflow_id)

    async def record(self, execution: ExecutionRecord) -> None:
        await self._world.statistics.record(self._life, execution)

    async def record_effectiveness(self, record: EffectivenessRecord) -> None:
        await self._world.statistics.judge(self._life, record)

    async def close(self) -> None:
        """Nothing is open."""


class _Trail:
    """The audit trail as one process reaches it."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def record(self, event: AuditEvent) -> None:
        await self._world.reach(self._life)
        self._world.rules.told(event)
        await self._world.reach(self._life)


class Twice:
    """A controller whose decisions are checked: the same observation gives the same decision."""

    def __init__(self, controller: Controller[Any, Any]) -> None:
        self._controller = controller
        self._turn = 0

    def decide(self, observed: Any, now: datetime) -> Decision[Any]:
        decision = self._controller.decide(observed, now)
        self._turn += 1
        if self._turn % 10 == 0:
            assert decision == self._controller.decide(observed, now), "two decisions on one observation"
        return decision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)


LEASE = 300.0
"""Seconds. Twenty times of what is usual: each renewal is a write, and most of them say nothing."""
Build = Callable[["World", Deps, Life], Any]
BUILDERS: Mapping[str, Build] = {
    "remediation": lambda world, deps, life: RemediationController(deps),
    "processing": lambda world, deps, life: Processing(deps, world.now),
    "analysis": lambda world, deps, life: AIAnalysisController(
        deps.client,
        deps.settings,
        world.investigator.of(life),
        Policies(),  # type: ignore[arg-type]
    ),
    "approval": lambda world, deps, life: approval.build(deps),
    "execution": lambda world, deps, life: WorkflowExecutionController(deps, _Catalog(world, life)),
    "effectiveness": lambda world, deps, life: Assessing(deps, world, life),
    "notification": lambda world, deps, life: Notifying(deps, world, life),
}


class Fleet:
    """``start`` brings everything up; ``end`` takes it down in order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loops: dict[str, ControlLoop] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.crashes = 0
        self.results: Counter[str] = Counter()

    def start(self) -> None:
        rng = self._world.rng
        shared = {"execution", rng.choice(tuple(BUILDERS))} if self._world.leased else set()
        for kind in BUILDERS:
            for place in ("a", "b") if kind in shared else ("",):
                for part in shards.ranges(rng.choice((1, 1, 2))):
                    self._tasks.append(asyncio.create_task(self._supervise(kind, part, place)))

    async def end(self) -> None:
        for loop in self._loops.values():
            loop.drain()
        await asyncio.gather(*self._tasks)
        for loop in self._loops.values():
            self._note(loop)

    async def _supervise(self, kind: str, part: ShardRange, place: str) -> None:
        turn = 0
        while True:
            turn += 1
            name = f"{kind}{place}-{part}-{turn}"
            life = Life(name, leased=bool(place))
            queue, controller, loop = self._make(kind, part, life, place)
            self._loops[f"{kind}{place}-{part}"] = loop
            try:
                await loop.run()
            except Crash:
                self.crashes += 1
                life.dead = True
                queue.close()
                if isinstance(controller, Notifying):
                    await _cancel(controller._outbox._tasks.values())
                self._note(loop)
                await asyncio.sleep(self._world.rng.uniform(0.5, 15.0))
            else:
                return

    def _make(self, kind: str, part: ShardRange, life: Life, place: str) -> tuple[WorkQueue, Any, ControlLoop]:
        world = self._world
        settings = world.settings.fleet
        client = SimClient(world.server, world.faults, life, desk=world.desk)
        queue = WorkQueue(backoff_base=settings.backoff_base, backoff_max=settings.backoff_max)
        deps = Deps(client, world.settings, Endpoints(), lambda: "", lambda ns, name: queue.add(Key(ns, name)))
        controller = BUILDERS[kind](world, deps, life)
        twice: Any = Twice(controller)
        lease = None
        if place:
            lease = ShardLease(
                client, world.settings.namespace, controller.resource.plural, part, place,
                duration=LEASE, renew=LEASE / 3, now=world.now, monotonic=world.loop.time,
            )  # fmt: skip
        loop = ControlLoop(
            twice,
            client,
            _Trail(world, life),
            queue,
            settings=settings,
            namespace=world.settings.namespace,
            shard_range=part,
            lease=lease,
            clock=world.now,
            recall=deps.recall,
        )
        return queue, controller, loop

    def _note(self, loop: ControlLoop) -> None:
        """A reconcile may fail for what is going on around it, never for a bug or for what it wrote itself."""
        results = loop.stats.results
        self.results.update(results)
        for bad in (Result.ERROR, Result.PERMANENT, Result.INVALID):
            self._world.rules.hold(
                not results[bad], f"{results[bad]} reconciles ended as {bad}: {loop.stats.last_error}"
            )


async def _cancel(tasks: Any) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
