"""The fleet in a real Ray: actors work from their first breath, and killing them, one way or another, loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray import names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.contracts.fencing import Holder
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import CONFIG_MAP, LEASE, NOTIFICATION_REQUEST
from kubernaut_ray.settings import FleetSettings, Settings
from tests import courier

pytestmark = [
    pytest.mark.rayed,
    pytest.mark.integration,
    pytest.mark.xdist_group("ray"),
    pytest.mark.usefixtures("ray_session"),
]

COURIERS = {"notificationrequests": "tests.courier:build"}


@pytest.fixture
def plan(api_server: Path, namespace: str, tmp_path: Path) -> Callable[..., Any]:
    """Make a plan of two couriers for this test's namespace."""
    from actors.fleet import FleetPlan

    (tmp_path / "token").write_text("unused")

    def make(actors: int = 2, gateway: str = "", **fleet: Any) -> FleetPlan:
        settings = Settings(
            data_dir=tmp_path,
            namespace=namespace,
            fleet=FleetSettings(shards={"notificationrequests": actors}, concurrency=4, **fleet),
        )
        return FleetPlan.of(
            settings,
            Endpoints(data_storage="http://127.0.0.1:9/storage", gateway=gateway),
            kubeconfig=api_server,
            token_file=tmp_path / "token",
            builders=COURIERS,
        )

    return make


@pytest.fixture
async def fleet(plan: Callable[..., Any]) -> AsyncIterator[Any]:
    import ray

    from actors import fleet as fleets

    made = fleets.Fleet(plan())
    await made.ensure()
    await made.ready()
    yield made
    for name in fleets.running():
        if (handle := fleets.find(name)) is not None:
            ray.kill(handle)
    await until(_none_running)


async def _none_running() -> bool:
    from actors import fleet as fleets

    return not fleets.running()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def phases(kube: KubeClient, namespace: str) -> Counter[str]:
    found = (await kube.list(NOTIFICATION_REQUEST, namespace)).items
    return Counter((obj.get("status") or {}).get("phase", "") for obj in found)


async def all_sent(kube: KubeClient, namespace: str, count: int) -> None:
    """Wait until everything is sent, and see that each parcel exists once and is signed."""

    async def done() -> bool:
        return (await phases(kube, namespace))["Sent"] == count

    await until(done)
    parcels = [o for o in (await kube.list(CONFIG_MAP, namespace)).items if o["metadata"]["name"].startswith("n")]
    assert len(parcels) == count
    assert all(parcel["data"]["receipt"] == "signed" for parcel in parcels)


async def pids(fleet: Any) -> dict[str, int]:
    return {name: health["pid"] for name, health in (await fleet.health()).items() if health["ok"]}


async def test_kill_9_of_actor_processes_in_the_middle_of_work_loses_nothing(
    fleet: Any, kube: KubeClient, namespace: str
) -> None:
    """Both actors are killed again and again while 120 objects are on their way; nobody calls them back into life."""
    count, killed = 120, 0
    for index in range(count):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"n{index}", namespace))
        if index in {20, 60, 100}:
            for pid in (await pids(fleet)).values():
                os.kill(pid, signal.SIGKILL)
                killed += 1
    await all_sent(kube, namespace, count)
    assert killed >= 2


async def test_ray_kill_for_good_is_repaired_by_supervision(fleet: Any, kube: KubeClient, namespace: str) -> None:
    """An actor that Ray will not restart is made anew by the fleet, and goes on where the old one was."""
    import ray

    from actors import fleet as fleets

    for index in range(20):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"n{index}", namespace))
    for name in fleets.running():
        ray.kill(fleets.find(name))
    watching = asyncio.create_task(fleet.supervise(interval=0.2))
    try:
        await all_sent(kube, namespace, 20)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_new_configuration_replaces_the_actors_and_the_same_one_does_not(
    fleet: Any, plan: Callable[..., Any], kube: KubeClient, namespace: str
) -> None:
    """Equal digests leave the processes alone; another configuration, or another number of shards, replaces them."""
    from actors import fleet as fleets

    before = await pids(fleet)
    await fleets.Fleet(plan()).ensure()
    assert await pids(fleet) == before

    other = fleets.Fleet(plan(actors=1, resync_interval=77))
    await other.ensure()
    await other.ready()
    assert fleets.running() == ["controller:notificationrequests:00-63"]
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1", namespace))
    await all_sent(kube, namespace, 1)


async def test_health_and_stats_answer_while_the_loop_is_busy(fleet: Any, kube: KubeClient, namespace: str) -> None:
    """Counters tell what happened; both calls answer at once."""
    for index in range(10):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"n{index}", namespace))
    await all_sent(kube, namespace, 10)

    async def counted() -> bool:
        stats = (await fleet.stats()).values()
        return sum(s["transitions"].get("Sending → Sent", 0) for s in stats) == 10

    await until(counted)
    for health in (await fleet.health()).values():
        assert (health["ok"], health["state"], health["error"]) == (True, "running", "")


async def test_draining_gives_the_leases_up(fleet: Any, kube: KubeClient, namespace: str) -> None:
    """A drained fleet leaves no actor and no holder behind."""
    from actors import fleet as fleets

    prefix = fencing.member_lease_prefix("notificationrequests")

    async def living() -> list[str]:
        leases = [lease for lease in (await kube.list(LEASE, namespace)).items if Holder.living(lease)]
        return [name for lease in leases if (name := lease["metadata"]["name"]).startswith(prefix)]

    stats = (await fleet.stats()).values()
    assert sorted(one["lease"]["member"] for one in stats) == sorted(await living())
    assert sum(len(one["lease"]["tokens"]) for one in stats) == names.SHARD_BLOCKS
    await fleet.drain()
    assert fleets.running() == []
    assert await living() == []


async def test_those_who_share_a_process_come_back_together(
    fleet: Any, plan: Callable[..., Any], kube: KubeClient, namespace: str
) -> None:
    """Killed in the middle of work they lose nothing; each answers for itself, and all are drained with their process."""
    from actors import fleet as fleets

    shared = fleets.Fleet(plan(actors=1, gateway="http://127.0.0.1:9"))
    await shared.ensure()
    await shared.ready()
    assert fleets.running() == [fleets.SHARED]
    assert sorted(await pids(shared)) == ["controller:notificationrequests:00-63", "event-watcher"]
    for index in range(40):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"n{index}", namespace))
        if index == 20:
            [pid] = set((await pids(shared)).values())
            os.kill(pid, signal.SIGKILL)
    await all_sent(kube, namespace, 40)
    await shared.ready()
    stats = await shared.stats()
    assert stats["event-watcher"]["state"] == stats["controller:notificationrequests:00-63"]["state"] == "running"
    await shared.drain()
    assert fleets.running() == []
