"""The event watcher in a real Ray: an actor of the fleet that ``kill -9`` does not make forget."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.resident import EVENT_WATCHER
from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import LEASE
from tests.actors.event_watcher.world import Door, door, settings, until, warn

pytestmark = [
    pytest.mark.rayed,
    pytest.mark.integration,
    pytest.mark.xdist_group("ray"),
    pytest.mark.usefixtures("ray_session"),
]


@pytest.fixture
async def gateway() -> AsyncIterator[Door]:
    async with door() as made:
        yield made


@pytest.fixture
def fleet_of(api_server: Path, namespace: str, gateway: Door, tmp_path: Path) -> Callable[..., Any]:
    """Make a fleet of nothing but the event watcher."""
    from actors.fleet import Fleet, FleetPlan

    (tmp_path / "token").write_text("a-token")

    def make(**changes: Any) -> Fleet:
        given = settings(namespace, **changes).model_copy(update={"data_dir": tmp_path})
        endpoints = Endpoints(gateway=gateway.url)
        plan = FleetPlan.of(given, endpoints, kubeconfig=api_server, token_file=tmp_path / "token", builders={})
        return Fleet(plan)

    return make


async def test_kill_9_loses_no_event(
    fleet_of: Callable[..., Any], gateway: Door, kube: KubeClient, namespace: str
) -> None:
    """Killed while events come, it is back by itself and forwards what came meanwhile; then it is replaced, and drained."""
    import ray

    from actors import fleet as fleets

    fleet = fleet_of()
    try:
        await fleet.ensure()
        await fleet.ready()
        posted: set[str] = set()

        async def arrived() -> bool:
            return posted <= set(gateway.names())

        for round_ in range(3):
            health = (await fleet.health())[EVENT_WATCHER]
            for n in range(10):
                posted.add((await warn(kube, namespace, f"e{round_}-{n}", about=f"pod-{n}"))["metadata"]["name"])
                if n == 4:
                    os.kill(health["pid"], signal.SIGKILL)
            await until(arrived, 60)
            await fleet.ready()
        stats = (await fleet.stats())[EVENT_WATCHER]
        assert stats["state"] == "running"
        assert stats["forwarded"] >= 1
        assert gateway.tokens[-1] == "Bearer a-token"

        before = (await fleet.health())[EVENT_WATCHER]["pid"]
        await fleet_of().ensure()
        assert (await fleet.health())[EVENT_WATCHER]["pid"] == before
        other = fleet_of(concurrency=2)
        await other.ensure()
        await other.ready()
        assert (await other.health())[EVENT_WATCHER]["pid"] != before
        posted.add((await warn(kube, namespace, "after"))["metadata"]["name"])
        await until(arrived)

        await other.drain()
        assert fleets.running() == []
        lease = await kube.get(LEASE, names.EVENT_WATCHER, namespace)
        assert lease["spec"]["holderIdentity"] == ""
    finally:
        if (handle := fleets.find(EVENT_WATCHER)) is not None:
            ray.kill(handle)
            await asyncio.sleep(0)
