"""The watch hub: rings, filters, slow watchers."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray.kube.embedded import hub
from kubernaut_ray.kube.embedded.hub import Entry, Event, Hub
from kubernaut_ray.kube.embedded.status import ApiStatus


def event(version: int, namespace: str = "a") -> Event:
    return Event("pods.", namespace, "ADDED", Entry({"v": version}, b"{}", version), None)


async def test_replay_and_live_join_without_gap_or_double() -> None:
    """A subscription from a version sees everything after it, once."""
    it = Hub(10)
    for version in (11, 12, 13):
        it.publish(event(version))
    subscription = it.subscribe("pods.", 11, lambda e: e.type)
    it.publish(event(14))
    assert [e.version for _, e in subscription.drain()] == [12, 13, 14]


async def test_versions_from_before_the_start_are_gone() -> None:
    """410 for what this process never saw; its own starting point is fine."""
    it = Hub(10)
    with pytest.raises(ApiStatus) as caught:
        it.subscribe("pods.", 9, lambda e: e.type)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    it.subscribe("pods.", 10, lambda e: e.type)


async def test_versions_that_left_the_ring_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring is bounded, per resource."""
    monkeypatch.setattr(hub, "RING", 3)
    it = Hub(0)
    for version in range(1, 6):
        it.publish(event(version))
    with pytest.raises(ApiStatus):
        it.subscribe("pods.", 1, lambda e: e.type)
    assert [e.version for _, e in it.subscribe("pods.", 2, lambda e: e.type).drain()] == [3, 4, 5]
    it.subscribe("secrets.", 0, lambda e: e.type)


async def test_a_slow_watcher_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must list again; the server's memory is not its buffer."""
    monkeypatch.setattr(hub, "BACKLOG", 2)
    it = Hub(0)
    subscription = it.subscribe("pods.", 0, lambda e: e.type)
    for version in (1, 2, 3):
        it.publish(event(version))
    assert subscription.overrun
    assert subscription.closed
    await subscription.wait()


async def test_filters_choose() -> None:
    """What is not for a watcher does not wake it."""
    it = Hub(0)
    subscription = it.subscribe("pods.", 0, lambda e: e.type if e.namespace == "b" else None)
    it.publish(event(1, "a"))
    waiting = asyncio.create_task(subscription.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    it.publish(event(2, "b"))
    await waiting
    assert [e.version for _, e in subscription.drain()] == [2]


async def test_dropping_a_resource_ends_its_watches() -> None:
    """A definition that goes takes its watches along."""
    it = Hub(0)
    subscription = it.subscribe("pods.", 0, lambda e: e.type)
    it.drop("pods.")
    await subscription.wait()
    assert subscription.closed
