"""Whoever waits for a turn is told when it may have come; timers are for what nobody tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from actors.workflow_execution import queue as turns
from actors.workflow_execution.controller import WorkflowExecutionController
from actors.workflow_execution.queue import Entry
from actors.workflow_execution.waiting import HEADS, LOST, WaitingRoom
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control import shards
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube.resources import PIPELINE_RUN, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.build import NOW, later
from tests.memory_kube import MemoryKube
from tests.shelf import Shelf

NS = names.SYSTEM_NAMESPACE
FIRST, SECOND = shards.ranges(2)


def waits(room: WaitingRoom, name: str, namespace: str, created: float, due: float = 30) -> Key:
    key = Key(NS, name)
    room.enter(key, Entry(name, name, f"{namespace}/deployment/{name}", later(created)), later(due), NOW)
    return key


def changed(namespace: str = "a", phase: Phase = Phase.COMPLETED, **status: Any) -> dict[str, Any]:
    made = build.workflow_execution(build.remediation_request("rr-9"), phase, **status)
    return made.replace(spec=made.spec.replace(target_resource=f"{namespace}/deployment/x")).to_object()


def test_the_oldest_of_each_namespace_is_called() -> None:
    """Where it ended first; not everybody at once."""
    room = WaitingRoom()
    first, _ = waits(room, "a1", "a", 2), waits(room, "a2", "a", 3)
    others = [waits(room, f"o{i}", f"o{i}", i / 10) for i in range(HEADS + 1)]
    assert room.called(changed()) == [first, *others[: HEADS - 1]]
    room.leave(first)
    assert room.called(changed())[0] == Key(NS, "a2")


@pytest.mark.parametrize(
    ("obj", "calls"),
    [
        pytest.param(changed(), True, id="completed"),
        pytest.param(changed(phase=Phase.FAILED), True, id="failed"),
        pytest.param(changed(phase=Phase.PENDING, admitted_at=NOW), True, id="admitted"),
        pytest.param(changed(phase=Phase.RUNNING, admitted_at=NOW), False, id="running"),
        pytest.param(changed(phase=Phase.PENDING, queued_at=NOW), False, id="waiting itself"),
    ],
)
def test_only_what_may_leave_room_calls(obj: dict[str, Any], calls: bool) -> None:
    """Whoever waits or runs changes often, and that frees nothing."""
    room = WaitingRoom()
    waits(room, "a1", "a", 0)
    assert bool(room.called(obj)) is calls
    marked = {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-03-01T12:00:00Z"}}
    assert room.called(marked)


def test_one_that_nobody_looks_at_any_more_is_forgotten() -> None:
    """Its shard is another process's: it must not stand before those that are here."""
    room = WaitingRoom()
    waits(room, "a1", "a", 0)
    late = NOW + timedelta(seconds=31) + LOST
    room.enter(Key(NS, "a2"), Entry("a2", "a2", "a/deployment/a2", later(1)), late, late)
    assert (len(room), room.called(changed())) == (1, [Key(NS, "a2")])


class Sink:
    async def record(self, event: AuditEvent) -> None:
        """Nobody asks here."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def named(part: shards.ShardRange, count: int, stem: str) -> list[str]:
    return [n for n in (f"{stem}-{i}" for i in range(500)) if names.shard_of(n) in part][:count]


async def put(kube: MemoryKube, request: str, status: dict[str, Any] | None = None) -> WorkflowExecution:
    made = build.workflow_execution(build.remediation_request(request), None)
    made = made.replace(
        metadata=made.metadata.replace(labels=names.shard_label(request), owner_references=()),
        spec=made.spec.replace(target_resource=f"shop/deployment/{request}", deadline=None),
    )
    await kube.create(WORKFLOW_EXECUTION, made.to_object())
    if status is not None:
        await kube.patch(WORKFLOW_EXECUTION, made.name, {"status": status}, NS, subresource="status")
    return made


async def test_an_end_elsewhere_gives_the_next_ones_their_turn_without_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three run in another process's shards; of three that wait here two begin when two of those end, then the last."""
    monkeypatch.setattr(turns, "SHORTEST_PAUSE", timedelta(hours=1))
    monkeypatch.setattr(turns, "LONGEST_PAUSE", timedelta(hours=1))
    kube, now = MemoryKube(clock.utcnow), clock.rfc3339(clock.utcnow())
    run = {"phase": "Running", "startTime": now, "admittedAt": now, "pipelineRunRef": {"name": "x"}}
    running = [await put(kube, name, run) for name in named(SECOND, 3, "busy")]
    waiting = [await put(kube, name) for name in named(FIRST, 3, "next")]
    settings = Settings.load(execution={"max_running": 3})
    deps = Deps(kube, settings, Endpoints(), lambda: "", lambda *_: None)
    controller = WorkflowExecutionController(deps, Shelf(build.registered(waiting[0])))
    loop = ControlLoop(controller, kube, Sink(), WorkQueue(), settings=settings.fleet, namespace=NS, shard_range=FIRST)

    def begun() -> int:
        return sum(kind == PIPELINE_RUN.kind for kind, _, _ in kube.objects)

    def told() -> int:
        found = (kube.objects["WorkflowExecution", NS, w.name].get("status") or {} for w in waiting)
        return sum("Waiting for its turn" in status.get("message", "") for status in found)

    task = asyncio.create_task(loop.run())
    await until(lambda: told() == 3 and not len(loop.queue) and not loop.queue.working)
    for ended in running[:2]:
        over = {"status": {"phase": "Completed", "completionTime": now}}
        await kube.patch(WORKFLOW_EXECUTION, ended.name, over, NS, subresource="status")
    await until(lambda: begun() == 2 and told() == 1)
    await kube.patch(WORKFLOW_EXECUTION, running[2].name, over, NS, subresource="status")
    await until(lambda: begun() == 3)
    loop.drain()
    await asyncio.wait_for(task, 20)
