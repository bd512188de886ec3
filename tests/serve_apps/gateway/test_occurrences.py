"""Writing occurrences: conditional, repeated on conflict, kept on failure, never counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kubernaut_ray.kube.client import Object, PatchKind
from kubernaut_ray.kube.errors import Conflict, Forbidden, Unavailable
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, Resource
from serve_apps.gateway import request
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.occurrences import Address, Occurrences
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.tally import Seen, Tally
from serve_apps.gateway.verdict import Known
from tests.build import FINGERPRINT, NOW, TARGET
from tests.serve_apps.gateway.world import World

NAMESPACE = "kubernaut-system"
ONCE = Tally(seen=Seen(1, NOW, NOW), duplicates=1, symptoms={("A", "r"): Seen(1, NOW, NOW)})


class Odd(World):
    """Answers a patch as ``mode`` says: refused as old, refused as away, or done and then away."""

    def __init__(self, modes: Sequence[str] = ()) -> None:
        super().__init__()
        self.modes = list(modes)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = "kubernaut-ray",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        mode = self.modes.pop(0) if self.modes else ""
        if mode == "conflict":
            raise Conflict("changed")
        if mode == "away":
            raise Unavailable("connection refused")
        done = await super().patch(resource, name, patch, namespace, kind=kind, subresource=subresource)
        if mode == "lost":
            raise Unavailable("the answer never came")
        return done


async def opened(world: World) -> Address:
    signal = Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW)
    obj = request.build(signal, Resolution(TARGET), FINGERPRINT, "rr-1", NAMESPACE)
    made = await world.create(REMEDIATION_REQUEST, obj, NAMESPACE)
    return Address("rr-1", made["metadata"]["uid"])


def counting(world: World, told: list[Tally]) -> Occurrences:
    async def flushed(_: Address, tally: Tally) -> None:
        told.append(tally)

    cluster = Cluster(world)
    return Occurrences(cluster, Ledger(cluster, NAMESPACE), NAMESPACE, interval=60, flushed=flushed)


async def count(world: World) -> int:
    (obj,) = await world.remediations()
    return int(obj.get("status", {}).get("deduplication", {}).get("occurrenceCount", 0))


@pytest.mark.parametrize(
    ("modes", "flushes"),
    [
        pytest.param([], 1, id="undisturbed"),
        pytest.param(["conflict", "conflict"], 1, id="others write in between"),
        pytest.param(["away", "away"], 3, id="the API server is away for a while"),
        pytest.param(["lost"], 2, id="the answer is lost though the write was done"),
        pytest.param(["lost", "lost"], 2, id="and again"),
    ],
)
async def test_counted_exactly_once(modes: list[str], flushes: int) -> None:
    """Whatever happens to the write, the count is right at the end and told once."""
    world, told = Odd(modes), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    for _ in range(flushes):
        await occurrences.flush()

    assert await count(world) == 1
    assert occurrences.pending == 0
    assert len(told) == 1


async def test_what_comes_during_a_failed_flush_is_added() -> None:
    """A failed flush and later occurrences make one sum."""
    world, told = Odd(["away"]), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    assert await count(world) == 2


async def test_a_lost_answer_and_more_occurrences() -> None:
    """The written part is recognised; only the rest is added."""
    world, told = Odd(["lost"]), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    await occurrences.flush()
    assert await count(world) == 2


async def test_a_successor_of_the_same_name_is_not_counted_on() -> None:
    """Occurrences of a deleted request are not added to the one that has its name now."""
    world, told = Odd(), list[Tally]()
    address = await opened(world)
    await world.delete(REMEDIATION_REQUEST, "rr-1", NAMESPACE)
    await opened(world)
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    assert (await count(world), occurrences.pending, told) == (0, 0, [])


async def test_nonsense_in_the_status_is_replaced() -> None:
    """A deduplication that somebody edited into nonsense starts anew instead of blocking the count."""
    world, told = Odd(), list[Tally]()
    address = await opened(world)
    world.objects["RemediationRequest", NAMESPACE, "rr-1"]["status"] = {"deduplication": {"occurrenceCount": -3}}
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    assert await count(world) == 1


async def test_stop_writes_what_is_left_even_if_the_first_try_fails() -> None:
    """Draining repeats a failed write."""
    world, told = Odd(["away"]), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.start()
    assert occurrences.healthy
    occurrences.tally(address).add(ONCE)
    await occurrences.stop()
    assert not occurrences.healthy
    assert await count(world) == 1


MEMBER = ("A", "r2", "t2")


def joined(member: tuple[str, str, str] = MEMBER) -> Tally:
    return Tally(seen=Seen(1, NOW, NOW), duplicates=1, members={member: Seen(1, NOW, NOW)})


class Gated(World):
    """Holds each write until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.begun = 0
        self.done = 0

    async def patch(self, *arguments: Any, **options: Any) -> Object:
        self.begun += 1
        await self.go.wait()
        done = await super().patch(*arguments, **options)
        self.done += 1
        return done


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def ledgered(world: World, told: list[Tally]) -> tuple[Occurrences, Ledger]:
    async def flushed(_: Address, tally: Tally) -> None:
        told.append(tally)

    cluster = Cluster(world)
    ledger = Ledger(cluster, NAMESPACE)
    return Occurrences(cluster, ledger, NAMESPACE, interval=60, flushed=flushed), ledger


async def test_who_waits_shares_a_write_and_sees_it() -> None:
    """Ten who come during a write share the next one, and each is told the object with what it brought."""
    world, told = Gated(), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)

    async def bring(n: int) -> Known | None:
        occurrences.tally(address).add(joined(("A", f"r{n}", f"t{n}")))
        return await occurrences.flush_now(address)

    tasks = []
    for n in range(10):
        tasks.append(asyncio.create_task(bring(n)))
        await until(lambda: world.begun)
    world.go.set()
    for n, task in enumerate(tasks):
        known = await task
        assert known is not None
        assert ("A", f"r{n}") in known.members
    assert world.done == 2
    assert await count(world) == 10
    assert (occurrences.pending, len(occurrences._turns)) == (0, 0)


async def test_what_is_remembered_is_no_proof() -> None:
    """Whose part is written already is shown the object as it is now, and not as a slow read remembered it."""
    world, told = World(), list[Tally]()
    made = await opened(world)
    occurrences, ledger = ledgered(world, told)
    address = Address(made.name, made.uid, FINGERPRINT)
    await ledger.look([FINGERPRINT])
    old = dict(ledger._held)
    occurrences.tally(address).add(joined())
    await occurrences.flush()
    ledger._held.update(old)  # An answer that was under way meanwhile.
    known = await occurrences.flush_now(address)
    assert known is not None
    assert MEMBER[:2] in known.members


async def test_what_seems_to_change_nothing_is_read_again() -> None:
    """The end of a member that the remembered object does not list yet is written all the same."""
    world, told = World(), list[Tally]()
    made = await opened(world)
    occurrences, ledger = ledgered(world, told)
    address = Address(made.name, made.uid, FINGERPRINT)
    await ledger.look([FINGERPRINT])
    other = counting(world, told)
    other.tally(address).add(joined())
    await other.flush()
    occurrences.tally(address).add(Tally(resolved={MEMBER[:2]: NOW.replace(minute=1)}, source="alertmanager"))
    known = await occurrences.flush_now(address)
    assert known is not None
    assert known.over(MEMBER[:2])
    (obj,) = await world.remediations()
    assert obj["status"]["members"][0]["over"] == ["A"]


async def test_what_an_ended_incident_does_not_list_it_does_not_count() -> None:
    """Nothing of it is written or told."""
    world, told = World(), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    await world.patch(
        REMEDIATION_REQUEST, "rr-1", {"status": {"overallPhase": "Completed"}}, NAMESPACE, subresource="status"
    )
    occurrences.tally(address).add(joined())
    known = await occurrences.flush_now(address)
    assert known is not None
    assert not known.open
    assert (await count(world), [t.members for t in told if t.seen]) == (0, [])


async def test_a_write_that_is_given_up_is_found_out_about() -> None:
    """A sender's time is over in the middle of a write: whether it arrived is asked before anything is counted again."""
    for arrives in (True, False):
        world, told = Gated(), list[Tally]()
        address = await opened(world)
        occurrences = counting(world, told)
        occurrences.tally(address).add(ONCE)
        writing = asyncio.create_task(occurrences.flush_now(address))
        await until(lambda: world.begun)  # noqa: B023
        if arrives:
            world.go.set()
            await until(lambda: world.done)  # noqa: B023
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        world.go.set()
        assert occurrences.pending == 1 or arrives
        occurrences.tally(address).add(ONCE)
        await occurrences.stop()
        assert await count(world) == 2
        assert sum(t.duplicates for t in told) == 2


async def test_what_is_written_is_told_though_nobody_waits_for_it() -> None:
    """The audit trail has every write, also one whose sender gave up while it was being told."""
    world = World()
    address = await opened(world)
    told: list[Tally] = []
    go = asyncio.Event()
    begun = asyncio.Event()

    async def slowly(_: Address, tally: Tally) -> None:
        begun.set()
        await go.wait()
        told.append(tally)

    cluster = Cluster(world)
    occurrences = Occurrences(cluster, Ledger(cluster, NAMESPACE), NAMESPACE, interval=60, flushed=slowly)
    occurrences.tally(address).add(ONCE)
    writing = asyncio.create_task(occurrences.flush_now(address))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    asyncio.get_running_loop().call_later(0.01, go.set)
    await occurrences.stop()
    assert len(told) == 1


async def test_a_request_that_is_gone_is_told_of_nothing() -> None:
    """Deleted between read and write: there is nothing to tell of."""

    class Vanishing(World):
        async def patch(self, resource: Resource, name: str, *rest: Any, **options: Any) -> Object:
            await self.delete(resource, name, NAMESPACE)
            return await super().patch(resource, name, *rest, **options)

    world, told = Vanishing(), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.tally(address).add(ONCE)
    assert await occurrences.flush_now(address) is None
    assert (told, occurrences.pending) == ([], 0)


async def test_a_refusal_reaches_who_asked_and_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the API server refuses is dropped and raised; the background flush writes the others and goes on."""
    world, told = World(), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)

    async def refuse(*_: Any, **__: Any) -> Object:
        raise Forbidden("status may not be patched", status=403, reason="Forbidden")

    with monkeypatch.context() as broken:
        broken.setattr(world, "patch", refuse)
        occurrences.tally(address).add(ONCE)
        with pytest.raises(Forbidden):
            await occurrences.flush_now(address)
        assert occurrences.pending == 0
        occurrences.tally(address).add(ONCE)
        await occurrences.flush()
        assert occurrences.pending == 0
    occurrences.tally(address).add(ONCE)
    await occurrences.flush()
    assert await count(world) == 1


async def test_two_gateways_that_write_one_object_all_the_time() -> None:
    """Neither starves, and every occurrence is there in the end."""
    world, told = World(), list[Tally]()
    address = await opened(world)
    some = [counting(world, told) for _ in range(4)]

    async def write(occurrences: Occurrences, n: int) -> None:
        for i in range(25):
            occurrences.tally(address).add(joined(("A", f"r{n}-{i}", "t")))
            known = await occurrences.flush_now(address)
            assert known is not None
            assert ("A", f"r{n}-{i}") in known.members

    await asyncio.gather(*(write(one, n) for n, one in enumerate(some)))
    assert await count(world) == 100
