"""The ledger: every look is a fresh read, however many share it and whatever was remembered before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubernaut_ray.kube.client import Version
from kubernaut_ray.kube.errors import Unavailable
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, Resource
from serve_apps.gateway import ledger as ledgers
from serve_apps.gateway import request
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from tests.build import NOW, TARGET
from tests.serve_apps.gateway.world import World

NAMESPACE = "kubernaut-system"


def fingerprint(i: int) -> str:
    return f"{i:064x}"[::-1]


async def opened(world: World, i: int) -> str:
    signal = Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW)
    obj = request.build(signal, Resolution(TARGET), fingerprint(i), f"rr-{i}", NAMESPACE)
    made = await world.create(REMEDIATION_REQUEST, obj, NAMESPACE)
    return str(made["metadata"]["uid"])


async def finish(world: World, i: int) -> None:
    status = {"status": {"overallPhase": "Completed"}}
    await world.patch(REMEDIATION_REQUEST, f"rr-{i}", status, NAMESPACE, subresource="status")


async def advance(world: World, i: int) -> None:
    status = {"status": {"overallPhase": "Analyzing"}}
    await world.patch(REMEDIATION_REQUEST, f"rr-{i}", status, NAMESPACE, subresource="status")


class Slow(World):
    """Holds each read of versions until it is let go; ``begun`` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Event] = []

    async def versions(self, resource: Resource, namespace: str | None = None, *, labels: str) -> tuple[Version, ...]:
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return await super().versions(resource, namespace, labels=labels)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_look_sees_every_change_before_it() -> None:
    """What is remembered is never believed: a request that ended a moment ago is seen as ended."""
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    await opened(world, 1)
    assert [k.phase for k in (await ledger.look([fingerprint(1)]))[fingerprint(1)]] == [""]
    await finish(world, 1)
    assert [k.phase for k in (await ledger.look([fingerprint(1)]))[fingerprint(1)]] == ["Completed"]
    await world.delete(REMEDIATION_REQUEST, "rr-1", NAMESPACE)
    assert (await ledger.look([fingerprint(1)]))[fingerprint(1)] == ()


async def test_what_has_not_changed_is_not_read_again() -> None:
    """A second look at a hundred open requests reads their versions only."""
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    for i in range(100):
        await opened(world, i)
    wanted = [fingerprint(i) for i in range(100)]
    first = await ledger.look(wanted)
    assert sum(map(len, first.values())) == 100
    lists = world.reads["list RemediationRequest"]
    await finish(world, 7)
    again = await ledger.look(wanted)
    # The one that changed, and those that lack the label.
    assert world.reads["list RemediationRequest"] == lists + 2
    assert [f for f, known in again.items() if known and known[0].phase] == [fingerprint(7)]


async def test_who_asks_during_a_read_shares_the_next() -> None:
    """A read under way may have missed what the asker must see; five askers cost one more."""
    world = Slow()
    ledger = Ledger(Cluster(world), NAMESPACE)
    await opened(world, 1)
    await ledger.look([fingerprint(1)])

    first = asyncio.create_task(ledger.look([fingerprint(1)]))
    await until(lambda: len(world.gates) == 1)
    await advance(world, 1)
    more = [asyncio.create_task(ledger.look([fingerprint(1)])) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert len(world.gates) == 1
    world.gates[0].set()
    await first
    await until(lambda: len(world.gates) == 2)
    world.gates[1].set()
    assert {(await one)[fingerprint(1)][0].phase for one in more} == {"Analyzing"}
    assert len(world.gates) == 2


async def test_an_answer_to_a_write_is_remembered() -> None:
    """The next look finds the version that our own write made, and reads nothing else."""
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    uid = await opened(world, 1)
    await ledger.look([fingerprint(1)])
    lists = world.reads["list RemediationRequest"]
    status = {"status": {"overallPhase": "Analyzing"}}
    ledger.note(await world.patch(REMEDIATION_REQUEST, "rr-1", status, NAMESPACE, subresource="status"))
    remembered = ledger.remembered(fingerprint(1), uid)
    assert remembered is not None
    assert remembered.phase == "Analyzing"
    assert (await ledger.look([fingerprint(1)]))[fingerprint(1)][0].phase == "Analyzing"
    assert world.reads["list RemediationRequest"] == lists


async def test_a_failed_read_fails_its_askers_and_nobody_else() -> None:
    """The error reaches those who asked; the next look works."""
    world = World()
    ledger = Ledger(Cluster(world, attempts=1), NAMESPACE)
    world.fault = Unavailable("away")
    with pytest.raises(Unavailable):
        await ledger.look([fingerprint(1)])
    world.fault = None
    assert (await ledger.look([fingerprint(1)]))[fingerprint(1)] == ()


async def test_one_made_by_hand_is_seen_beside_a_finished_one() -> None:
    """What has no label is found whenever what has one stands in nobody's way."""
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    await opened(world, 1)
    await ledger.look([fingerprint(1)])
    await finish(world, 1)
    assert len((await ledger.look([fingerprint(1)]))[fingerprint(1)]) == 1
    signal = Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW)
    by_hand = request.build(signal, Resolution(TARGET), fingerprint(1), "by-hand", NAMESPACE)
    del by_hand["metadata"]["labels"]
    await world.create(REMEDIATION_REQUEST, by_hand, NAMESPACE)
    found = (await ledger.look([fingerprint(1)]))[fingerprint(1)]
    assert {k.name: k.open for k in found} == {"rr-1": False, "by-hand": True}
    again = (await ledger.look([fingerprint(1)]))[fingerprint(1)]
    assert {k.name for k in again} == {"rr-1", "by-hand"}


async def test_a_round_that_was_cancelled_holds_nobody_up() -> None:
    """Whoever asks after it begins another one."""
    world = Slow()
    ledger = Ledger(Cluster(world), NAMESPACE)
    await opened(world, 1)
    first = asyncio.create_task(ledger.look([fingerprint(1)]))
    await until(first.done)
    for _ in range(2):
        asking = asyncio.create_task(ledger.look([fingerprint(1)]))
        begun = len(world.gates)
        await until(lambda: len(world.gates) > begun)  # noqa: B023
        waiting = asyncio.create_task(ledger.look([fingerprint(1)]))
        await asyncio.sleep(0)
        round_ = ledger._rounds._next
        assert round_ is not None
        round_.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        world.gates[-1].set()
        await asking
    later = asyncio.create_task(ledger.look([fingerprint(1)]))
    begun = len(world.gates)
    await until(lambda: len(world.gates) > begun)
    world.gates[-1].set()
    assert len((await later)[fingerprint(1)]) == 1


async def test_who_gives_up_does_not_take_the_others_along() -> None:
    """A sender's time is over: the round goes on for those who share it."""
    world = Slow()
    ledger = Ledger(Cluster(world), NAMESPACE)
    await opened(world, 1)
    await ledger.look([fingerprint(1)])
    asking = [asyncio.create_task(ledger.look([fingerprint(1)])) for _ in range(3)]
    await until(lambda: world.gates)
    asking[0].cancel()
    world.gates[0].set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True, False, False]


async def test_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can be remembered are all found, in one look and after it."""
    monkeypatch.setattr(ledgers, "CAPACITY", 10)
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    for i in range(40):
        await opened(world, i)
    for _ in range(3):
        found = await ledger.look([fingerprint(i) for i in range(40)])
        assert all(len(found[fingerprint(i)]) == 1 for i in range(40))
        assert len(ledger._held) == 10


async def test_little_is_remembered_of_each() -> None:
    """An alert may carry a quarter of a megabyte; what a write goes by is all that is kept."""
    world = World()
    ledger = Ledger(Cluster(world), NAMESPACE)
    raw = {"annotations": {"text": "x" * 100_000}}
    signal = Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW, raw=raw)
    obj = request.build(signal, Resolution(TARGET), fingerprint(1), "rr-1", NAMESPACE)
    await world.create(REMEDIATION_REQUEST, obj, NAMESPACE)
    (known,) = (await ledger.look([fingerprint(1)]))[fingerprint(1)]
    assert len(repr(known.obj)) < 1000
