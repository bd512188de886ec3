"""Writing occurrences: conditional, repeated on conflict, kept on failure, never counted twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kubernaut_ray.kube.client import Object, PatchKind
from kubernaut_ray.kube.errors import Conflict, Unavailable
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, Resource
from serve_apps.gateway import request
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.occurrences import Address, Occurrences
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.tally import Seen, Tally
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
    occurrences.add(address, ONCE)
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
    occurrences.add(address, ONCE)
    await occurrences.flush()
    occurrences.add(address, ONCE)
    await occurrences.flush()
    assert await count(world) == 2


async def test_a_lost_answer_and_more_occurrences() -> None:
    """The written part is recognised; only the rest is added."""
    world, told = Odd(["lost"]), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.add(address, ONCE)
    await occurrences.flush()
    occurrences.add(address, ONCE)
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
    occurrences.add(address, ONCE)
    await occurrences.flush()
    assert (await count(world), occurrences.pending, told) == (0, 0, [])


async def test_nonsense_in_the_status_is_replaced() -> None:
    """A deduplication that somebody edited into nonsense starts anew instead of blocking the count."""
    world, told = Odd(), list[Tally]()
    address = await opened(world)
    world.objects["RemediationRequest", NAMESPACE, "rr-1"]["status"] = {"deduplication": {"occurrenceCount": -3}}
    occurrences = counting(world, told)
    occurrences.add(address, ONCE)
    await occurrences.flush()
    assert await count(world) == 1


async def test_stop_writes_what_is_left_even_if_the_first_try_fails() -> None:
    """Draining repeats a failed write."""
    world, told = Odd(["away"]), list[Tally]()
    address = await opened(world)
    occurrences = counting(world, told)
    occurrences.start()
    assert occurrences.healthy
    occurrences.add(address, ONCE)
    await occurrences.stop()
    assert not occurrences.healthy
    assert await count(world) == 1
