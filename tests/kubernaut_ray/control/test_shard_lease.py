"""Shards have one owner: fleets of any two sizes meet at the same Leases, and all blocks of a range are had or none."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubernaut_ray import names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.fencing import Holder, Stamp
from kubernaut_ray.control import shards
from kubernaut_ray.control.lease import Fenced
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Unavailable
from kubernaut_ray.kube.resources import LEASE
from tests.memory_kube import MemoryKube

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KIND = "workflowexecutions"
DURATION = 15.0


class World(MemoryKube):
    """One API server, and one clock that all processes share but none may compare."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.seconds = 0.0

    def leases(self, part: str = "-by-") -> list[Object]:
        return [o for (kind, _, name), o in self.objects.items() if kind == "Lease" and part in name]

    def verdict(self, stamp: Stamp) -> str:
        """What the admission webhook would say of a write with this stamp."""
        block = self.objects.get(("Lease", "ns", stamp.lease))
        holder = Holder.of(block or {})
        return fencing.stale(stamp, block, self.objects.get(("Lease", "ns", holder.lease)) if holder else None)


def lease(world: Any, part: ShardRange, place: str, clock: Callable[[], float] | None = None) -> ShardLease:
    monotonic = clock or (lambda: world.seconds)
    return ShardLease(world, "ns", KIND, part, place, duration=DURATION, renew=0.01, monotonic=monotonic)


def stamp(of: ShardLease, shard: int) -> Stamp:
    made = Stamp.of({"metadata": {"annotations": of.stamp(labelled(shard))}})
    assert made is not None
    return made


def labelled(shard: int) -> Object:
    return {"metadata": {"labels": {names.LABEL_SHARD: str(shard)}}}


@pytest.fixture
def world() -> World:
    return World()


async def test_a_fleet_of_one_keeps_a_fleet_of_three_out_and_hands_over_at_once(world: World) -> None:
    """Whatever the sizes; giving up is one write, after which everything is free."""
    one = lease(world, ShardRange(), "a")
    three = [lease(world, part, "b") for part in shards.ranges(3)]
    assert await one.attempt()
    assert [await other.attempt() for other in three] == [False] * 3
    assert [other.contended for other in three] == [True] * 3
    before = world.writes
    await one.release()
    assert world.writes == before + 1
    assert [await other.attempt() for other in three] == [True] * 3
    assert not await one.attempt()
    assert {name: token for other in three for name, token in other.tokens.items()} == {
        fencing.block_lease(KIND, first): 2 for first in range(0, 64, 4)
    }


async def test_at_rest_one_lease_an_actor_is_renewed(world: World) -> None:
    """However many blocks it owns."""
    one = lease(world, ShardRange(), "a")
    assert await one.attempt()
    before = world.writes
    assert await one.renew()
    assert world.writes == before + 1


async def test_who_cannot_have_all_holds_none(world: World) -> None:
    """Of two fleets that overlap, neither keeps from the other what it cannot use itself."""
    low, high = (lease(world, part, "b") for part in shards.ranges(2))
    one = lease(world, ShardRange(), "a")
    assert await high.attempt()
    assert not await one.attempt()
    assert await low.attempt()


async def test_a_silent_owner_is_put_out_and_its_token_is_old(world: World) -> None:
    """After its duration by the other's clock; when it wakes, it knows by its clock, and its writes are refused."""
    old, new = lease(world, ShardRange(), "a"), lease(world, ShardRange(), "b")
    assert await old.attempt()
    written = stamp(old, 5)
    assert world.verdict(written) == ""
    assert not await new.attempt()
    world.seconds = 14.0
    assert not await new.attempt()
    world.seconds = 15.5
    assert world.verdict(written) == "", "silent, but nobody else has worked on it"
    assert await new.attempt()
    assert "token 1 is old, 2 is current" in world.verdict(written)
    with pytest.raises(Fenced, match="shards 00-63 of workflowexecutions are not held"):
        old.stamp(labelled(5))
    assert not await old.renew()
    assert world.verdict(stamp(new, 5)) == ""


async def test_a_renewed_lease_is_not_taken(world: World) -> None:
    """Whoever renews stays the owner for as long as it likes."""
    old, new = lease(world, ShardRange(), "a"), lease(world, shards.ranges(4)[2], "b")
    assert await old.attempt()
    for seconds in range(10, 100, 10):
        world.seconds = float(seconds)
        assert await old.renew()
        assert not await new.attempt()


async def test_a_restart_in_the_same_place_waits_for_nobody(world: World) -> None:
    """Also when the fleet has another size afterwards; the old life is out."""
    old = lease(world, ShardRange(), "a")
    assert await old.attempt()
    written = stamp(old, 40)
    low, high = (lease(world, part, "a") for part in shards.ranges(2))
    assert await low.attempt()
    assert "which has given up or was put out" in world.verdict(written)
    assert await high.attempt()
    assert not await old.renew()
    assert not await old.attempt(), "a twin that lost must not win it back"


async def test_given_up_leases_of_places_that_are_gone_are_tidied_away(world: World) -> None:
    """A pod's name comes once; what it held is in nobody's way, and its Lease does not stay forever."""
    for place in ("pod-1", "pod-2", "pod-3"):
        passing = lease(world, ShardRange(), place)
        assert await passing.attempt()
        await passing.release()
    last = lease(world, ShardRange(), "pod-4")
    assert await last.attempt()
    assert [o["metadata"]["name"] for o in world.leases()] == [last.name]


async def test_a_deleted_block_begins_anew_and_old_stamps_do_not_count(world: World) -> None:
    """The token starts again, so the holder is compared too."""
    old, new = lease(world, ShardRange(), "a"), lease(world, ShardRange(), "b")
    assert await old.attempt()
    written = stamp(old, 0)
    await old.release()
    await world.delete(LEASE, written.lease, "ns")
    assert await new.attempt()
    assert stamp(new, 0).token == written.token
    assert "is held by" in world.verdict(written)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"fencing-lease": "l", "fencing-token": "seven", "fencing-holder": "h"}, None, id="no number"),
        pytest.param({"fencing-lease": "l", "fencing-token": "7"}, None, id="nobody"),
        pytest.param({"fencing-lease": "l", "fencing-token": "9" * 5000, "fencing-holder": "h"}, None, id="too long"),
        pytest.param(
            {"fencing-lease": "l", "fencing-token": "7", "fencing-holder": "h"}, Stamp("l", 7, "h"), id="whole"
        ),
    ],
)
def test_a_stamp_is_read_whole_or_not_at_all(annotations: dict[str, str], expected: Stamp | None) -> None:
    """Half a stamp is none."""
    notes = {f"{names.GROUP}/{name}": value for name, value in annotations.items()}
    assert Stamp.of({"metadata": {"annotations": notes}}) == expected


async def test_what_belongs_to_another_actors_shards_gets_no_stamp(world: World) -> None:
    """By its label, or by its remediation where it has none; whoever checks stamps then refuses it."""
    low, _ = (lease(world, part, "b") for part in shards.ranges(2))
    assert await low.attempt()
    assert low.stamp(labelled(40)) == {}
    remediation = next(f"rr-{i}" for i in range(100) if names.shard_of(f"rr-{i}") == 9)
    unlabelled = {"metadata": {"labels": {names.LABEL_REMEDIATION: remediation}}}
    assert low.stamp(unlabelled) == low.stamp(labelled(9)) != {}


class Gated(World):
    """Every call stops before and after it is done, until the schedule lets it go on; some never reach the server, and of
    some no answer comes back.
    """

    def __init__(self, inner: World, process: Process) -> None:
        self._inner, self._process = inner, process

    async def list(self, *args: Any, **rest: Any) -> Any:
        return await self._through(lambda: self._inner.list(*args, **rest))

    async def get(self, *args: Any, **rest: Any) -> Any:
        return await self._through(lambda: self._inner.get(*args, **rest))

    async def create(self, *args: Any, **rest: Any) -> Any:
        return await self._through(lambda: self._inner.create(*args, **rest))

    async def replace(self, *args: Any, **rest: Any) -> Any:
        return await self._through(lambda: self._inner.replace(*args, **rest))

    async def delete(self, *args: Any, **rest: Any) -> Any:
        return await self._through(lambda: self._inner.delete(*args, **rest))

    async def _through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if await self._process.stop() == "lost":
            raise Unavailable("the request was lost")
        answer = await call()
        if await self._process.stop() == "lost":
            raise Unavailable("the answer was lost")
        return answer


@dataclass
class Process:
    """One actor of a fleet, driven a step at a time: it takes its shards when it has none, and renews when it has."""

    world: World
    part: ShardRange
    place: str
    waiting: list[asyncio.Future[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lease = lease(Gated(self.world, self), self.part, self.place, lambda: self.world.seconds)
        self.task = asyncio.create_task(self._live())

    async def stop(self) -> str:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        return await gate

    async def _live(self) -> None:
        while True:
            word = await self.stop()
            if self.lease.held and word != "release":
                await self.lease.renew()
            elif self.lease.held:
                await self.lease.release()
            else:
                await self.lease.attempt()

    @property
    def owns(self) -> Iterator[int]:
        return iter(range(self.part.first, self.part.last + 1) if self.lease.held else ())


async def play(sizes: list[int], seed: int, loss: float, leap: float, steps: int) -> int:
    """Let fleets of these sizes live for so many steps; how often a block changed hands."""
    dice, world = random.Random(seed), World()
    fleet = [
        Process(world, part, f"place-{number}-{part}")
        for number, size in enumerate(sizes)
        for part in shards.ranges(size)
    ]
    current: dict[int, Stamp] = {}
    taken = 0
    try:
        process = fleet[0]
        for _ in range(steps):
            await _settle()
            if dice.random() < 0.2:  # the others stand still for a while
                process = dice.choice(fleet)
            roll = dice.random()
            word = "lost" if roll < loss else "release" if roll < loss + 0.02 else "go"
            if dice.random() < 0.1:
                dice.shuffle(process.waiting)
                going = process.waiting[:1]
            else:
                going = [*process.waiting]
            for gate in going:
                process.waiting.remove(gate)
                gate.set_result(word)
            await _settle()
            if dice.random() < 0.2:
                world.seconds += dice.expovariate(1 / leap)
            owners = Counter(shard for one in fleet for shard in one.owns)
            assert not owners or max(owners.values()) == 1, owners
            for one in fleet:
                for first in one.part.blocks if one.lease.held else ():
                    mine, before = stamp(one.lease, first), current.get(first)
                    assert world.verdict(mine) == "", "an owner is never refused"
                    if before in (None, mine):
                        current[first] = mine
                        continue
                    taken += 1
                    assert mine.token > before.token, "tokens grow with every change of hands"
                    assert world.verdict(before) != "", "a former owner always is refused"
                    current[first] = mine
        return taken
    finally:
        for one in fleet:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in fleet), return_exceptions=True)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    leap=st.sampled_from([0.2, 2.0, 6.0]),
)
async def test_no_shard_ever_has_two_owners(sizes: list[int], seed: int, loss: float, leap: float) -> None:
    """Fleets of any sizes, processes that pause anywhere between two calls for as long as one likes, calls and answers that
    are lost, owners that give up: at every instant at most one believes that it owns a shard, and only its stamp is good.
    """
    await play(sizes, seed, loss, leap, steps=120)


async def test_such_a_life_is_full_of_changes() -> None:
    """What the property is about does happen: blocks change hands many times."""
    assert sum([await play([1, 2, 3], seed, loss=0.05, leap=6.0, steps=400) for seed in range(4)]) > 50


async def _settle() -> None:
    """Let everything run that can."""
    for _ in range(6):
        await asyncio.sleep(0)
