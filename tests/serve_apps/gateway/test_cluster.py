"""The breaker and the retries in front of the Kubernetes API."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Forbidden, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.cluster import Breaker, BreakerState, Cluster
from tests.serve_apps.gateway.world import World


class Flaky(World):
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures, self.calls = failures, 0

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self.calls += 1
        if self.calls <= self.failures:
            raise Unavailable("connection refused")
        return {"metadata": {"name": name}}


async def no_wait(_: float) -> None: ...


@pytest.mark.parametrize(("failures", "calls", "ok"), [(0, 1, True), (2, 3, True), (3, 3, False)])
async def test_retries(failures: int, calls: int, ok: bool) -> None:
    """Two failures are retried, the third is the caller's."""
    world = Flaky(failures)
    cluster = Cluster(world, attempts=3, wait=no_wait)
    if ok:
        await cluster.get(resources.POD, "p", "n")
    else:
        with pytest.raises(Unavailable):
            await cluster.get(resources.POD, "p", "n")
    assert world.calls == calls


@pytest.mark.parametrize("error", [NotFound, Forbidden])
async def test_refusals_are_not_retried(error: type[NotFound]) -> None:
    """What the API server refuses it refuses again; and it is plainly there."""
    world = World()
    world.fault = error("no", status=404, reason="NotFound")
    cluster = Cluster(world, attempts=3, wait=no_wait)
    for _ in range(10):
        with pytest.raises(error):
            await cluster.get(resources.POD, "p", "n")
    assert world.reads["get Pod"] == 10
    assert cluster.breaker.state is BreakerState.CLOSED


async def test_breaker() -> None:
    """Opens after five failures, fails at once while open, lets one probe through, and closes on success."""
    now = [0.0]
    world = World()
    world.fault = Unavailable("connection refused")
    breaker = Breaker(failures=5, open_seconds=5, monotonic=lambda: now[0])
    cluster = Cluster(world, attempts=1, breaker=breaker)

    async def fails() -> int:
        with pytest.raises(Unavailable):
            await cluster.get(resources.POD, "p", "n")
        return world.reads["get Pod"]

    assert [await fails() for _ in range(7)] == [1, 2, 3, 4, 5, 5, 5]
    assert breaker.state is BreakerState.OPEN
    now[0] = 5.0
    assert [await fails() for _ in range(3)] == [6, 6, 6]
    now[0] = 10.0
    world.fault = NotFound("no", status=404, reason="NotFound")
    with pytest.raises(NotFound):
        await cluster.get(resources.POD, "p", "n")
    assert breaker.state is BreakerState.CLOSED


async def test_the_last_discovery_serves_while_the_api_is_away() -> None:
    """A discovery that has grown old is better than none."""
    world = World()
    cluster = Cluster(world, attempts=1)
    kinds = await cluster.kinds()
    world.fault = Unavailable("connection refused")
    cluster._kinds_until = 0.0
    assert await cluster.kinds() is kinds


async def test_without_leave_to_discover_the_well_known_kinds_serve() -> None:
    """A refused discovery is no reason to refuse signals, and concurrent ones ask once."""
    world = World()
    world.fault = Forbidden("no", status=403, reason="Forbidden")
    cluster = Cluster(world, attempts=1)
    all_kinds = await asyncio.gather(*(cluster.kinds() for _ in range(10)))
    assert all_kinds[0].of_word("pod") is not None
    assert world.reads["discovery"] == 1
