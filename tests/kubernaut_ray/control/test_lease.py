"""Leases: one owner at a time, taken over when they stop moving, lost when they cannot be renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from kubernaut_ray.control.lease import Fenced, Lease
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Conflict, Forbidden, Unavailable
from kubernaut_ray.kube.resources import LEASE, Resource
from tests.memory_kube import MemoryKube

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clocked(MemoryKube):
    """A world with a monotonic clock to move, and an outage to switch on."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.seconds = 0.0
        self.away = False

    async def replace(self, resource: Resource, obj: Any, namespace: str | None = None, **rest: Any) -> Object:
        if self.away:
            raise Unavailable("away")
        return await super().replace(resource, obj, namespace, **rest)


@pytest.fixture
def kube() -> Clocked:
    return Clocked()


def lease(kube: Clocked, stem: str) -> Lease:
    return Lease(
        kube,
        "ns",
        "shards",
        stem,
        duration=15,
        renew=0.01,
        now=lambda: NOW + timedelta(seconds=kube.seconds),
        monotonic=lambda: kube.seconds,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_first_takes_it_and_the_second_waits(kube: Clocked) -> None:
    """A held Lease keeps others out until it has not moved for its whole duration by their own clock."""
    first, second = lease(kube, "one"), lease(kube, "two")
    await first.acquire()
    assert first.held
    first.check()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert (first.contended, second.contended) == (False, True)
    with pytest.raises(Fenced):
        second.check()
    kube.seconds = 14.0
    await asyncio.sleep(0.05)
    assert not waiting.done()
    kube.seconds = 15.5
    await asyncio.wait_for(waiting, 5)
    assert (first.held, second.held) == (False, True)
    assert (first.token, second.token) == (1, 2)
    stored = await kube.get(LEASE, "shards", "ns")
    assert (stored["spec"]["holderIdentity"], stored["spec"]["leaseTransitions"]) == ("two#2", 2)


async def test_a_renewed_lease_is_not_taken(kube: Clocked) -> None:
    """Whoever renews stays the owner for as long as it likes."""
    first, second = lease(kube, "one"), lease(kube, "two")
    await first.acquire()
    keeper, waiting = asyncio.create_task(first.keep()), asyncio.create_task(second.acquire())
    for seconds in range(10, 100, 10):
        kube.seconds = float(seconds)
        await until(lambda: kube.seconds + 14 < first._held_until)
    assert first.held
    assert not waiting.done()
    for task in (keeper, waiting):
        task.cancel()
    await asyncio.gather(keeper, waiting, return_exceptions=True)


async def test_a_restarted_process_takes_its_own_lease_at_once(kube: Clocked) -> None:
    """After a crash the same place goes on without waiting, under a new token; the old life is out at its next renewal."""
    old, new = lease(kube, "one"), lease(kube, "one")
    await old.acquire()
    await asyncio.wait_for(new.acquire(), 1)
    assert (old.token, new.token) == (1, 2)
    await asyncio.wait_for(old.keep(), 1)
    assert old.lost.is_set()
    assert not old.held
    again = asyncio.create_task(old.acquire())
    await asyncio.sleep(0.05)
    assert not again.done(), "a twin that lost must not win it back"
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_a_lease_that_cannot_be_renewed_is_lost(kube: Clocked) -> None:
    """During an outage the owner goes on until its last renewal runs out, then stops by itself."""
    only = lease(kube, "one")
    await only.acquire()
    kube.away = True
    keeper = asyncio.create_task(only.keep())
    kube.seconds = 14.0
    await asyncio.sleep(0.05)
    assert only.held
    assert not keeper.done()
    kube.seconds = 15.1
    await asyncio.wait_for(keeper, 1)
    assert only.lost.is_set()
    with pytest.raises(Fenced, match="shards is not held"):
        only.check()
    kube.away = False
    kube.seconds = 100.0
    acquired = asyncio.create_task(only.acquire())
    await asyncio.sleep(0.03)
    kube.seconds = 116.0
    await asyncio.wait_for(acquired, 5)
    assert (only.held, only.lost.is_set(), only.token) == (True, False, 2)


async def test_a_released_lease_is_free_at_once(kube: Clocked) -> None:
    """A drained owner lets the next one in without a wait."""
    first, second = lease(kube, "one"), lease(kube, "two")
    await first.acquire()
    await first.release()
    assert not first.held
    await asyncio.wait_for(second.acquire(), 1)
    assert second.token == 2


async def test_a_claim_that_was_cut_off_is_given_up_too(kube: Clocked) -> None:
    """A drain that comes while the Lease is being made leaves no Lease behind that nobody keeps."""
    first, second = lease(kube, "one"), lease(kube, "two")
    create = kube.create

    async def cut_off(*args: Any, **rest: Any) -> Object:
        await create(*args, **rest)
        raise asyncio.CancelledError

    kube.create = cut_off  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await first.acquire()
    assert not first.held
    await first.release()
    await asyncio.wait_for(second.acquire(), 1)


async def test_a_renewal_that_was_cut_off_does_not_keep_a_lease_from_being_released(kube: Clocked) -> None:
    """The Lease moved on without our seeing the answer; it is given up all the same."""
    first, second = lease(kube, "one"), lease(kube, "two")
    await first.acquire()
    await kube.patch(LEASE, "shards", {"spec": {"renewTime": "2026-03-01T12:00:05.000000Z"}}, "ns")
    await first.release()
    await asyncio.wait_for(second.acquire(), 1)


async def test_a_lease_that_must_not_be_read_any_more_is_released_as_far_as_that_goes(
    kube: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releasing is the last thing that is done, often on the way out: what refuses it is told, and raises nothing."""
    only = lease(kube, "one")
    await only.acquire()
    refusal = Forbidden("leases: get is not allowed", status=403, reason="Forbidden")
    monkeypatch.setattr(kube, "replace", mock.AsyncMock(side_effect=Conflict("the object has been modified")))
    monkeypatch.setattr(kube, "get", mock.AsyncMock(side_effect=refusal))
    await only.release()
    assert not only.held


async def test_an_annotation_by_somebody_else_is_no_loss(kube: Clocked) -> None:
    """A conflict is looked into before the work is stopped."""
    only = lease(kube, "one")
    await only.acquire()
    await kube.patch(LEASE, "shards", {"metadata": {"annotations": {"note": "hello"}}}, "ns")
    keeper = asyncio.create_task(only.keep())
    kube.seconds = 10.0
    await until(lambda: only._held_until > 20)
    assert not only.lost.is_set()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


async def test_a_deleted_lease_is_lost(kube: Clocked) -> None:
    """Deleting the Lease takes the shards away; it is made again by whoever comes first."""
    only = lease(kube, "one")
    await only.acquire()
    await kube.delete(LEASE, "shards", "ns")
    await asyncio.wait_for(only.keep(), 1)
    assert only.lost.is_set()
    await asyncio.wait_for(only.acquire(), 1)
    assert only.token == 2
