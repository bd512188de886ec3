"""Counting what was silenced: conditional, repeated on conflict, kept on failure, never counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Conflict, Forbidden, Unavailable
from kubernaut_ray.kube.resources import SILENCE
from serve_apps.gateway.silences.counts import Address, Counts, Due
from tests.build import NOW, later, silence
from tests.serve_apps.gateway.world import World

NAMESPACE = "kubernaut-system"
ONCE = Due(count=1, first=NOW, last=NOW)


class Odd(World):
    """Answers a patch as ``modes`` say: refused as old, as away, as forbidden, or done and then away."""

    def __init__(self, *modes: str) -> None:
        super().__init__()
        self.modes = list(modes)

    async def patch(self, *arguments: Any, **options: Any) -> Object:
        mode = self.modes.pop(0) if self.modes else ""
        match mode:
            case "conflict":
                raise Conflict("changed")
            case "away":
                raise Unavailable("connection refused")
            case "forbidden":
                raise Forbidden("no", status=403, reason="Forbidden")
        done = await super().patch(*arguments, **options)
        if mode == "lost":
            raise Unavailable("the answer never came")
        return done


async def made(world: World, name: str = "one") -> Address:
    stored = await world.create(SILENCE, silence(name).to_object(), NAMESPACE)
    return Address(name, stored["metadata"]["uid"])


async def held(world: World, name: str = "one") -> Silence:
    return Silence.from_object(await world.get(SILENCE, name, NAMESPACE))


@pytest.mark.parametrize(
    ("modes", "flushes"),
    [
        pytest.param([], 1, id="undisturbed"),
        pytest.param(["conflict", "conflict"], 1, id="others write in between"),
        pytest.param(["away", "away"], 3, id="the API server is away for a while"),
        pytest.param(["lost"], 2, id="the answer is lost though the write was done"),
        pytest.param(["lost", "lost"], 2, id="and again"),
        pytest.param(["conflict", "lost", "away"], 4, id="everything at once"),
    ],
)
async def test_counted_exactly_once(modes: list[str], flushes: int) -> None:
    """Whatever happens to the write, the count is right at the end."""
    world = Odd(*modes)
    address, counts = await made(world), Counts(world, NAMESPACE)
    counts.add(address, ONCE)
    for _ in range(flushes):
        await counts.flush()
    assert (await held(world)).status.silenced_count == 1
    assert counts.pending == 0


async def test_two_replicas_add_up() -> None:
    """Each adds to what the other wrote; the instants are the first and the last of all."""
    world = World()
    address = await made(world)
    for instant in (later(5), later(1), later(9)):
        counts = Counts(world, NAMESPACE)
        counts.add(address, Due(count=2, first=instant, last=instant))
        counts.add(address, Due(summary="alertname=Foo"))
        await counts.flush()
    status = (await held(world)).status
    assert (status.silenced_count, status.summary) == (6, "alertname=Foo")
    assert (status.first_silenced_at, status.last_silenced_at) == (later(1), later(9))


async def test_what_is_written_already_costs_no_write() -> None:
    """Every replica sees a new silence; one of them describes it."""
    world = World()
    address = await made(world)
    for _ in range(3):
        counts = Counts(world, NAMESPACE)
        counts.add(address, Due(summary="alertname=Foo"))
        await counts.flush()
    assert world.writes == 2


async def test_a_successor_of_the_same_name_is_not_counted_on() -> None:
    """What a deleted silence kept quiet is not the next one's."""
    world = World()
    address, counts = await made(world), Counts(world, NAMESPACE)
    await world.delete(SILENCE, "one", NAMESPACE)
    await made(world)
    counts.add(address, ONCE)
    await counts.flush()
    assert ((await held(world)).status.silenced_count, counts.pending) == (0, 0)


async def test_a_refusal_is_given_up_and_holds_nobody_up() -> None:
    """The count of one is lost, with a line in the log; the others are written."""
    world = Odd("forbidden")
    one, two, counts = await made(world), await made(world, "two"), Counts(world, NAMESPACE)
    counts.add(one, ONCE)
    counts.add(two, ONCE)
    await counts.flush()
    assert counts.pending == 0
    assert sorted([(await held(world, name)).status.silenced_count for name in ("one", "two")]) == [0, 1]
