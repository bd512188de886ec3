"""Signals about what a lost node has taken down belong to the node: from the topology, and read live, alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import target
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.facts import PodFacts
from serve_apps.gateway.kinds import CRON_JOB, Kinds
from serve_apps.gateway.owners import Owners, Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.topology import Topology
from tests.build import NOW
from tests.serve_apps.gateway.plant import Plant
from tests.serve_apps.gateway.world import World

KINDS = Kinds()
SOON = NOW + timedelta(minutes=1)
SINCE = "2026-03-01T12:00:00Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Shop:
    """Owners over a world with a topology that follows it, or is blind."""

    def __init__(self, *, follows: bool, fold_node_loss: bool = True) -> None:
        self.follows = follows
        self.world = World()
        self.plant = Plant(self.world, "shop")
        self.topology = Topology(self.world, fold_node_loss=fold_node_loss, now=self.world.now)
        self.owners = Owners(Cluster(self.world, attempts=1), timeout=2.0, topology=self.topology)

    async def resolve(self, fired: datetime | None = SOON, **labels: str) -> Resolution:
        """Resolve a signal once the topology, if it follows, has seen everything."""
        if self.follows:
            if self.topology.healthy and not self.topology._tasks:
                await self.topology.start()
            await until(lambda: self.topology.blind == () and self._caught_up())
        labels = {"namespace": "shop", **labels}
        signal = Signal("A", "t", "s", "warning", NOW, NOW, labels=labels)
        return await self.owners.resolve(target.candidates(signal, KINDS), "shop", KINDS, fired)

    async def where(self, fired: datetime | None = SOON, **labels: str) -> str:
        return str((await self.resolve(fired, **labels)).target)

    def _caught_up(self) -> bool:
        kept = {
            (kind.resource.kind, home, name): obj["metadata"]["resourceVersion"]
            for kind in self.topology._kinds.values()
            for (home, name), obj in kind._cache._objects.items()
        }
        there = {
            address: obj["metadata"]["resourceVersion"]
            for address, obj in self.world.objects.items()
            if address[0] in {kind.resource.kind for kind in self.topology._kinds.values()}
        }
        return kept == there


@pytest.fixture(params=[True, False], ids=["followed", "read live"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """A shop whose topology follows, and one whose topology is blind: the answers must be the same."""
    made = Shop(follows=request.param)
    yield made
    await made.topology.stop()


async def test_a_pod_on_a_lost_node(shop: Shop) -> None:
    """The node is the target; what was named and what would have been the target are kept, and the note says why."""
    await shop.plant.node("n1", "Unknown")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1")

    found = await shop.resolve(pod="web-1")

    assert (str(found.target), found.target.api_version) == ("node/n1", "v1")
    assert (str(found.workload), str(found.signal_resource)) == ("shop/deployment/web", "shop/pod/web-1")
    assert found.note == f"it runs on node n1, which is not ready since {SINCE}"
    assert found.identified


@pytest.mark.parametrize("kind", [resources.DEPLOYMENT, resources.STATEFUL_SET, resources.DAEMON_SET])
async def test_a_workload_whose_pods_are_on_lost_nodes(shop: Shop, kind: Resource) -> None:
    """All of its pods that are not ready count, and the node with most of them is the target."""
    for node in ("n1", "n2"):
        await shop.plant.node(node, "False")
    await shop.plant.node("n3")
    workload = await shop.plant.workload(kind, "web")
    if kind is resources.DEPLOYMENT:
        workload = await shop.plant.workload(resources.REPLICA_SET, "web-7d4b9c6f5d", workload, {"app": "web"})
    for name, node, ready in (("a", "n1", False), ("b", "n2", False), ("c", "n2", False), ("d", "n3", True)):
        await shop.plant.pod(name, workload, node=node, ready=ready, labels={"app": "web"})

    found = await shop.resolve(**{kind.kind.lower(): "web"})

    assert str(found.target) == "node/n2"
    assert str(found.workload) == str(found.signal_resource) == f"shop/{kind.kind.lower()}/web"
    assert found.note == f"its pods that are not ready run on node n2, which is not ready since {SINCE}"


async def test_what_is_not_the_node_s(shop: Shop) -> None:
    """An old signal, a workload with a pod in trouble elsewhere, one with none in trouble, and a node that is well again."""
    plant = shop.plant
    await plant.node("n1", "False")
    await plant.node("n2")
    _, web = await plant.deployment("web")
    await plant.pod("web-1", web, node="n1", labels={"app": "web"})
    _, api = await plant.deployment("api")
    await plant.pod("api-1", api, node="n1", labels={"app": "api"})
    await plant.pod("api-2", api, node="n2", labels={"app": "api"})
    _, idle = await plant.deployment("idle")
    await plant.pod("idle-1", idle, node="n1", ready=True, labels={"app": "idle"})

    assert await shop.where(NOW - timedelta(minutes=3), pod="web-1") == "shop/deployment/web"
    assert await shop.where(NOW - timedelta(minutes=3), deployment="web") == "shop/deployment/web"
    assert await shop.where(NOW - timedelta(minutes=1), deployment="web") == "node/n1"
    assert await shop.where(None, deployment="web") == "node/n1"
    assert await shop.where(deployment="api") == "shop/deployment/api"
    assert await shop.where(pod="api-1") == "node/n1"
    assert await shop.where(pod="api-2") == "shop/deployment/api"
    assert await shop.where(deployment="idle") == "shop/deployment/idle"
    if shop.follows:  # read live, a node's state is kept for some seconds
        await plant.node("n1", "True", NOW + timedelta(minutes=10))
        assert await shop.where(pod="web-1") == await shop.where(deployment="web") == "shop/deployment/web"


async def test_a_node_that_is_gone(shop: Shop) -> None:
    """Its pods name it still: that is enough for them and for their workloads."""
    await shop.plant.node("n1")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1", labels={"app": "web"})
    if shop.follows:
        assert await shop.where(pod="web-1") == "shop/deployment/web"
    shop.world.time = SOON
    await shop.world.delete(resources.NODE, "n1")

    assert await shop.where(pod="web-1") == "node/n1"
    found = await shop.resolve(deployment="web")
    assert str(found.target) == "node/n1"
    since = "2026-03-01T12:01:00Z" if shop.follows else SINCE
    assert found.note == f"its pods that are not ready run on node n1, which is gone since {since}"
    assert await shop.where(NOW - timedelta(minutes=30), deployment="web") == "shop/deployment/web"


async def test_the_node_itself(shop: Shop) -> None:
    """A signal about the lost node is about the node, with nothing folded."""
    await shop.plant.node("n1", "False")
    found = await shop.resolve(node="n1")
    assert (str(found.target), found.workload, found.signal_resource, found.note) == ("node/n1", None, None, "")


async def test_static_pods_and_loose_ones(shop: Shop) -> None:
    """A pod that the node owns, and one that nobody owns, go with the node; the pod itself would have been the target."""
    await shop.plant.node("n1", "False")
    node = await shop.world.get(resources.NODE, "n1")
    await shop.plant.pod("etcd-n1", node, node="n1")
    await shop.plant.pod("loose", node="n1")
    for pod in ("etcd-n1", "loose"):
        found = await shop.resolve(pod=pod)
        assert (str(found.target), str(found.workload)) == ("node/n1", f"shop/pod/{pod}")


async def test_a_replacement_that_waits_to_be_placed(shop: Shop) -> None:
    """It has no node to blame, but what it waits for is that its workload's node is lost."""
    await shop.plant.node("n1", "False")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1", labels={"app": "web"})
    shop.world.time = SOON
    await shop.plant.pod("web-2", replica_set, phase="Pending", labels={"app": "web"})

    assert await shop.where(deployment="web") == "node/n1"
    found = await shop.resolve(pod="web-2")
    assert (str(found.target), str(found.workload)) == ("node/n1", "shop/deployment/web")


async def test_a_pod_that_always_waited(shop: Shop) -> None:
    """A pod that could not be placed before the loss either has a trouble of its own."""
    shop.world.time = NOW - timedelta(minutes=30)
    await shop.plant.node("n1", "False")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1", labels={"app": "web"})
    await shop.plant.pod("web-2", replica_set, phase="Pending", labels={"app": "web"})
    assert await shop.where(deployment="web") == await shop.where(pod="web-2") == "shop/deployment/web"


async def test_a_service_stays_what_the_signal_is_about(shop: Shop) -> None:
    """What owns no pods is not folded: its trouble may be elsewhere."""
    await shop.plant.node("n1", "False")
    await shop.world.own(resources.SERVICE, "web")
    assert await shop.where(service="web") == "shop/service/web"


async def test_a_deleted_pod_of_a_lost_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that a pod last ran on is remembered with its owner; no call is needed for what cannot have come again."""
    shop = Shop(follows=True)
    await shop.plant.node("n1", "False")
    _, replica_set = await shop.plant.deployment("web")
    stateful = await shop.plant.workload(resources.STATEFUL_SET, "db")
    await shop.plant.pod("web-1", replica_set, node="n1")
    await shop.plant.pod("db-0", stateful, node="n1")
    await shop.resolve(pod="web-1")
    for pod in ("web-1", "db-0"):
        await shop.world.delete(resources.POD, pod, "shop")
    shop.world.reads.clear()

    found = await shop.resolve(pod="web-1")
    assert (str(found.target), str(found.workload)) == ("node/n1", "shop/deployment/web")
    assert "web-1 is gone; this was its owner when last seen; it runs on node n1" in found.note
    assert shop.world.reads == {}
    assert await shop.where(pod="db-0") == "node/n1"
    assert shop.world.reads == {"get Pod": 1}
    # Its namesake on another node is found live although the watch has not told of it yet.
    assert isinstance(shop.topology.remembered("", "Pod", "db-0", "shop"), PodFacts)
    await shop.plant.node("n2")
    await until(lambda: shop.topology.node("n2") is not None)
    monkeypatch.setattr(shop.topology._pods._cache, "_put", lambda _: None)
    await shop.plant.pod("db-0", stateful, node="n2")
    candidates = target.candidates(
        Signal("A", "t", "s", "warning", NOW, NOW, labels={"namespace": "shop", "pod": "db-0"}), KINDS
    )
    assert str((await shop.owners.resolve(candidates, "shop", KINDS, SOON)).target) == "shop/statefulset/db"
    await shop.topology.stop()


async def test_a_pod_whose_whole_workload_was_deleted() -> None:
    """The chain of owners is remembered, too; only the top is asked for, because it may have come again."""
    shop = Shop(follows=True)
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("odd", replica_set)
    await shop.resolve(pod="odd")
    await shop.world.delete(resources.DEPLOYMENT, "web", "shop")

    found = await shop.resolve(pod="odd")

    assert str(found.target) == "shop/deployment/web"
    assert "Deployment web is gone" in found.note
    await shop.topology.stop()


async def test_an_off_switch() -> None:
    """Without folding every signal is its workload's."""
    shop = Shop(follows=True, fold_node_loss=False)
    await shop.plant.node("n1", "False")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1")
    assert await shop.where(pod="web-1") == "shop/deployment/web"
    await shop.topology.stop()


class Refusing(World):
    """Refuses reads of some kinds."""

    refused: frozenset[str] = frozenset()
    error: type[Forbidden | Unavailable] = Forbidden

    def _called(self, what: str) -> None:
        super()._called(what)
        if what in self.refused:
            raise (Forbidden("no", status=403, reason="Forbidden") if self.error is Forbidden else Unavailable("away"))


@pytest.mark.parametrize("what", ["get Node", "list Pod", "list ReplicaSet"])
async def test_what_may_not_be_read_explains_nothing(what: str) -> None:
    """Without the rights the workload is the target; without an answer there is no target at all."""
    shop = Shop(follows=False)
    world = Refusing()
    shop.world, shop.plant = world, Plant(world, "shop")
    shop.owners = Owners(Cluster(world, attempts=1), timeout=2.0, topology=Topology(world))
    await shop.plant.node("n1", "False")
    _, replica_set = await shop.plant.deployment("web")
    await shop.plant.pod("web-1", replica_set, node="n1", labels={"app": "web"})
    world.refused = frozenset({what})

    assert await shop.where(deployment="web") == "shop/deployment/web"
    shop.owners = Owners(Cluster(world, attempts=1), timeout=2.0, topology=Topology(world))
    world.error = Unavailable
    with pytest.raises(Unavailable):
        await shop.where(deployment="web")


async def test_read_live_nodes_are_kept_for_some_seconds() -> None:
    """A storm from one lost node asks for it once."""
    shop = Shop(follows=False)
    await shop.plant.node("n1", "False")
    for n in range(5):
        await shop.plant.pod(f"p{n}", node="n1")
    shop.world.reads.clear()
    for n in range(5):
        assert await shop.where(pod=f"p{n}") == "node/n1"
    assert shop.world.reads["get Node"] == 1


async def test_followed_it_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners, nodes and pods come from memory; what is not known is asked for, and never taken as missing.

    A workload's pods are looked at once more, where they can be, before its signal goes to a node.
    """
    shop = Shop(follows=True)
    await shop.plant.node("n1", "False")
    cron = await shop.plant.workload(CRON_JOB, "backup")
    job = await shop.plant.workload(resources.JOB, "backup-28", cron)
    await shop.plant.pod("backup-28-abcde", job, node="n1")
    await shop.resolve(pod="backup-28-abcde")
    shop.world.reads.clear()

    for labels in ({"pod": "backup-28-abcde"}, {"job_name": "backup-28"}, {"cronjob": "backup"}):
        found = await shop.resolve(**labels)
        assert (str(found.target), str(found.workload)) == ("node/n1", "shop/cronjob/backup")
    assert shop.world.reads == {"get Job": 1}

    topology = shop.topology
    deployments = topology._kinds["apps", "Deployment"]._cache
    monkeypatch.setattr(deployments, "_put", lambda _: None)  # The watch lags behind.
    await shop.plant.workload(resources.DEPLOYMENT, "new")
    candidates = target.candidates(
        Signal("A", "t", "s", "warning", NOW, NOW, labels={"namespace": "shop", "deployment": "new"}), KINDS
    )
    found = await shop.owners.resolve(candidates, "shop", KINDS, SOON)
    assert (str(found.target), found.note, shop.world.reads["get Deployment"]) == ("shop/deployment/new", "", 1)
    await topology.stop()


@pytest.mark.parametrize("kind", [resources.DEPLOYMENT, resources.STATEFUL_SET])
async def test_a_workload_that_is_ill_elsewhere_while_the_watch_of_pods_lags(
    monkeypatch: pytest.MonkeyPatch, kind: Resource
) -> None:
    """A node's loss is known at once, the pod that fails on another node not yet: nothing is folded on old news."""
    shop = Shop(follows=True)
    await shop.plant.node("n1", "False")
    await shop.plant.node("n2")
    owner = await shop.plant.workload(kind, "web")
    if kind is resources.DEPLOYMENT:
        owner = await shop.plant.workload(resources.REPLICA_SET, "web-7d4b9c6f5d", owner, {"app": "web"})
    await shop.plant.pod("web-1", owner, node="n1", labels={"app": "web"})
    await shop.plant.pod("web-2", owner, node="n2", ready=True, labels={"app": "web"})
    label = kind.kind.lower()
    assert await shop.where(**{label: "web"}) == "node/n1"

    monkeypatch.setattr(shop.topology._pods._cache, "_put", lambda _: None)  # The watch lags behind.
    await shop.plant.pod_status("web-2", ready=False)
    candidates = target.candidates(
        Signal("A", "t", "s", "warning", NOW, NOW, labels={"namespace": "shop", label: "web"}), KINDS
    )
    found = await shop.owners.resolve(candidates, "shop", KINDS, SOON)
    assert str(found.target) == f"shop/{label}/web"
    await shop.topology.stop()


@pytest.mark.integration
async def test_a_lost_node_under_four_hundred_pods(kube: KubeClient, namespace: str) -> None:
    """Every signal of its pods and of their forty workloads is the node's; of a workload ill elsewhere, only its pod's."""
    plant = Plant(kube, namespace)
    lost, well = f"lost-{namespace}", f"well-{namespace}"
    await plant.node(lost)
    await plant.node(well)
    topology = Topology(kube)
    owners = Owners(Cluster(kube), timeout=5.0, topology=topology)
    await topology.start()
    try:
        at_once = asyncio.Semaphore(16)

        async def pod(name: str, owner: Object, node: str, *, ready: bool = True) -> None:
            async with at_once:
                await plant.pod(name, owner, node=node, ready=ready)

        async def workload(n: int) -> None:
            name = f"w{n:02}"
            if n % 4 == 0:
                owner = await plant.workload(resources.STATEFUL_SET, name)
            elif n % 4 == 1:
                owner = await plant.workload(resources.DAEMON_SET, name)
            else:
                _, owner = await plant.deployment(name)
            await asyncio.gather(*(pod(f"{name}-{i}", owner, lost) for i in range(10)))

        await asyncio.gather(*(workload(n) for n in range(40)))
        _, ill = await plant.deployment("ill")
        await pod("ill-here", ill, lost)
        await pod("ill-there", ill, well, ready=False)

        async def resolve(fired: datetime = SOON, **labels: str) -> Resolution:
            labels = {"namespace": namespace, **labels}
            signal = Signal("A", "t", "s", "warning", NOW, NOW, labels=labels)
            return await owners.resolve(target.candidates(signal, KINDS), namespace, KINDS, fired)

        await until(lambda: not set(topology.blind) - {"cronjobs"})
        assert str((await resolve(pod="w02-3")).target) == f"{namespace}/deployment/w02"
        before = topology.generation
        await plant.node(lost, "Unknown")
        pods = [f"w{n:02}-{i}" for n in range(40) for i in range(10)]
        names = [*pods, "ill-here"]

        async def fails(name: str) -> None:
            async with at_once:
                await plant.pod_status(name, ready=False)

        await asyncio.gather(*(fails(name) for name in names))
        await until(lambda: all(_unready(topology, name, namespace) for name in names))
        assert topology.generation > before

        words = {0: "statefulset", 1: "daemonset", 2: "deployment", 3: "deployment"}
        found = [await resolve(pod=name) for name in pods]
        found += [await resolve(**{words[n % 4]: f"w{n:02}"}) for n in range(40)]
        assert {str(one.target) for one in found} == {f"node/{lost}"}
        assert {str(one.workload) for one in found} == {f"{namespace}/{words[n % 4]}/w{n:02}" for n in range(40)}
        assert str((await resolve(deployment="ill")).target) == f"{namespace}/deployment/ill"
        assert str((await resolve(pod="ill-here")).target) == f"node/{lost}"
        old = await resolve(NOW - timedelta(hours=1), pod="w02-3")
        assert str(old.target) == f"{namespace}/deployment/w02"

        await kube.delete(resources.NODE, lost)
        await until(lambda: topology.node(lost) is None)
        assert {str((await resolve(pod=name)).target) for name in pods[::20]} == {f"node/{lost}"}
        await plant.node(lost, "True", NOW + timedelta(minutes=5))
        await until(lambda: topology.node(lost) is not None)
        assert str((await resolve(daemonset="w01")).target) == f"{namespace}/daemonset/w01"
    finally:
        await topology.stop()
        for node in (lost, well):
            await _gone(kube, node)


def _unready(topology: Topology, name: str, namespace: str) -> bool:
    pod = topology.find("", "Pod", name, namespace)
    return isinstance(pod, PodFacts) and not pod.ready


async def _gone(kube: KubeClient, node: str) -> None:
    try:
        await kube.delete(resources.NODE, node)
    except NotFound:
        return
