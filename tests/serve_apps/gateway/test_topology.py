"""The copy of the cluster that owners are read from: it follows, it remembers, it knows when it knows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import yaml

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList, WatchEvent
from kubernaut_ray.kube.errors import Forbidden, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import topology as module
from serve_apps.gateway.facts import Facts, NodeFacts, PodFacts
from serve_apps.gateway.nodeloss import NodeState
from serve_apps.gateway.topology import REMEMBERED_PODS, Topology, _Gone
from tests.build import NOW
from tests.serve_apps.gateway.plant import Plant
from tests.serve_apps.gateway.world import World


@asynccontextmanager
async def following(kube: KubeClient, *, blind: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Topology]:
    """A topology that has seen all there is, but for the kinds that it is expected to be blind for."""
    topology = Topology(kube, **options)
    await topology.start()
    try:
        await until(lambda: unseen(topology) == set(blind))
        yield topology
    finally:
        await topology.stop()


def unseen(topology: Topology) -> set[str]:
    """Return what it is blind for, but for CronJobs, which not every API server of these tests has."""
    return set(topology.blind) - {"cronjobs"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Cluster(World):
    """A world with a clock of its own, whose reads of some kinds are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, Exception] = {}
        self.plant = Plant(self, "shop")

    async def list(self, resource: Resource, namespace: str | None = None, **selectors: Any) -> ObjectList:
        if (error := self.refused.get(resource.kind)) is not None:
            raise error
        return await super().list(resource, namespace, **selectors)

    async def watch(self, resource: Resource, namespace: str | None = None, **query: Any) -> AsyncGenerator[WatchEvent]:
        if (error := self.refused.get(resource.kind)) is not None:
            raise error
        async for event in super().watch(resource, namespace, **query):
            yield event
            if (error := self.refused.get(resource.kind)) is not None:
                raise error


async def test_before_it_has_seen_everything_it_knows_nothing() -> None:
    """Nothing is answered from half a list, nor once it has been stopped."""
    world = Cluster()
    _, replica_set = await world.plant.deployment("web")
    await world.plant.pod("web-1", replica_set)
    topology = Topology(world)

    assert topology.find("", "Pod", "web-1", "shop") is None
    assert topology.wanting_under(replica_set["metadata"]["uid"]) is None
    async with following(world) as topology:
        assert isinstance(topology.find("", "Pod", "web-1", "shop"), PodFacts)
        assert topology.healthy
    assert topology.find("", "Pod", "web-1", "shop") is None
    assert "pods" in topology.blind


async def test_pods_that_want_for_something() -> None:
    """Found at any depth under an owner: those that should be ready and are not."""
    world = Cluster()
    plant = world.plant
    deployment, replica_set = await plant.deployment("web")
    older = await plant.workload(resources.REPLICA_SET, "web-older", deployment)
    await plant.pod("a", replica_set, ready=True)
    await plant.pod("b", replica_set, node="n1")
    await plant.pod("c", older, node="n2")
    await plant.pod("d", older, phase="Failed")
    await plant.pod("loose")
    async with following(world) as topology:

        def nodes(owner: Object) -> set[str]:
            pods = topology.wanting_under(owner["metadata"]["uid"])
            assert pods is not None
            return {pod.node for pod in pods}

        assert (nodes(deployment), nodes(replica_set), nodes(older)) == ({"n1", "n2"}, {"n1"}, {"n2"})
        await plant.pod_status("b", ready=True)
        await until(lambda: nodes(deployment) == {"n2"})
        assert topology.wanting_under("nobody") == ()


async def test_the_deleted_are_remembered_for_an_hour() -> None:
    """What was deleted is not there any more, but what it was is known; what has come again is not remembered."""
    world = Cluster()
    _, replica_set = await world.plant.deployment("web")
    time = [0.0]
    async with following(world, monotonic=lambda: time[0]) as topology:
        await world.plant.pod("p", replica_set, node="n1")
        await until(lambda: topology.find("", "Pod", "p", "shop") is not None)
        await world.delete(resources.POD, "p", "shop")
        await until(lambda: topology.find("", "Pod", "p", "shop") is None)

        def last() -> Facts | None:
            return topology.remembered("", "Pod", "p", "shop")

        kept = last()
        assert isinstance(kept, PodFacts)
        assert kept.node == "n1"
        assert kept.owner is not None
        assert kept.owner.name == replica_set["metadata"]["name"]
        time[0] = 3601
        assert last() is None
        time[0] = 10
        await world.plant.pod("p", replica_set)
        await until(lambda: last() is None)


def test_what_is_remembered_is_bounded() -> None:
    """By number, oldest out first, and by age."""
    time = [0.0]
    gone = _Gone(3, lambda: time[0])
    for n in range(5):
        gone.add(("ns", str(n)), Facts(str(n)))
    assert [gone.get(("ns", str(n))) is not None for n in range(5)] == [False, False, True, True, True]
    gone.discard(("ns", "3"))
    time[0] = 4000
    gone.add(("ns", "new"), Facts("new"))
    assert list(gone._known) == [("ns", "new")]
    assert REMEMBERED_PODS == 20_000


async def test_the_generation_moves_with_the_nodes() -> None:
    """Up when a node appears, is lost, comes back, is lost anew or goes; a heartbeat, a label or a pod moves nothing."""
    world = Cluster()
    plant = world.plant
    async with following(world, now=world.now) as topology:
        seen = topology.generation

        async def moved(to: NodeState | None) -> bool:
            nonlocal seen
            await until(lambda: topology.node("n1") == to)
            before, seen = seen, topology.generation
            return seen > before

        await plant.node("n1")
        assert await moved(NodeState("n1", lost=False))
        since = NOW - timedelta(minutes=1)
        await plant.node("n1", "Unknown", since)
        assert await moved(NodeState("n1", lost=True, since=since))
        status = (await world.get(resources.NODE, "n1"))["status"] | {"nodeInfo": {"kernelVersion": "6"}}
        await world.patch(resources.NODE, "n1", {"status": status}, subresource="status")
        await world.patch(resources.NODE, "n1", {"metadata": {"labels": {"kubernaut.ai/managed": "true"}}})
        await plant.pod("p", node="n1")
        await until(lambda: getattr(topology.find("", "Node", "n1"), "managed", None) == "true")
        assert not await moved(NodeState("n1", lost=True, since=since))
        await plant.node("n1", "True", NOW)
        assert await moved(NodeState("n1", lost=False))
        await plant.node("n1", "False", NOW)
        assert await moved(NodeState("n1", lost=True, since=NOW))
        await world.delete(resources.NODE, "n1")
        assert await moved(None)
        assert topology.node_gone_since("n1") == NOW


async def test_when_a_node_that_is_gone_was_lost() -> None:
    """Since it was not ready, else since it was deleted; forgotten when it is back, and after an hour."""
    world = Cluster()
    plant = world.plant
    for name, ready in (("well", "True"), ("ill", "Unknown"), ("old", "True")):
        await plant.node(name, ready, NOW - timedelta(minutes=7))
    async with following(world, now=world.now) as topology:

        async def delete(name: str) -> None:
            await world.delete(resources.NODE, name)
            await until(lambda: topology.node(name) is None)

        await delete("old")
        world.time = NOW + timedelta(minutes=61)
        await delete("well")
        await delete("ill")
        gone = {name: topology.node_gone_since(name) for name in ("well", "ill", "old", "never")}
        assert gone == {"well": world.time, "ill": NOW - timedelta(minutes=7), "old": None, "never": None}
        await plant.node("well")
        await until(lambda: topology.node("well") is not None)
        assert topology.node_gone_since("well") is None


async def test_nodes_lost_lately() -> None:
    """A signal that is over belongs to the node that it was folded into, also once that node is well again."""
    world = Cluster()
    plant = world.plant
    await plant.node("steady", "True", NOW - timedelta(hours=2))
    await plant.node("lost", "False", NOW - timedelta(hours=2))
    await plant.node("back", "True", NOW - timedelta(minutes=5))
    await plant.node("gone", "True", NOW - timedelta(hours=2))
    async with following(world, now=world.now) as topology:
        await world.delete(resources.NODE, "gone")
        await until(lambda: topology.node("gone") is None)
        assert [str(node) for node in topology.lost_lately()] == ["node/back", "node/gone", "node/lost"]


@pytest.mark.parametrize("error", [Forbidden, NotFound])
async def test_a_kind_that_is_refused(error: type[Forbidden]) -> None:
    """A missing right, or a kind that is not served, costs that kind only, and is asked for again."""
    world = Cluster()
    world.refused["Node"] = error("no", status=403, reason="no")
    await world.plant.node("n1")
    _, replica_set = await world.plant.deployment("web")
    async with following(world, blind=("nodes",), refused_retry=0.01) as topology:
        assert topology.find("apps", "ReplicaSet", "web-7d4b9c6f5d", "shop") is not None
        assert topology.wanting_under(replica_set["metadata"]["uid"]) == ()
        assert topology.node("n1") is None
        world.refused.clear()
        await until(lambda: topology.blind == ())
        assert topology.node("n1") == NodeState("n1", lost=False)


async def test_a_break_makes_it_blind_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that cannot be followed is believed for half a minute, and then not, until it can be followed again."""
    world = Cluster()
    await world.plant.node("n1")
    async with following(world) as topology:
        world.refused["Node"] = Unavailable("away")
        await world.plant.node("n1", "False")
        cache = topology._nodes._cache
        await until(lambda: cache.failing_for > 0)
        assert topology.find("", "Node", "n1") is not None
        monkeypatch.setattr(module, "STALE_SECONDS", 1e-9)
        assert topology.blind == ("nodes",)
        assert topology.find("", "Node", "n1") is None
        world.refused.clear()
        await world.plant.node("n1", "True", NOW + timedelta(minutes=1))
        await until(lambda: cache.failing_for == 0)
        monkeypatch.undo()
        assert topology.node("n1") == NodeState("n1", lost=False)


async def test_a_task_that_died_is_told() -> None:
    """A defect in the following shows in ``healthy``, and the kind is read live."""
    world = Cluster()
    world.refused["Job"] = ValueError("a defect")
    topology = Topology(world)
    await topology.start()
    await until(lambda: not topology.healthy)
    assert "jobs" in topology.blind
    await topology.stop()
    assert topology.healthy


class Proxy:
    """A TCP proxy before the API server whose connections can be cut."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.open = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self.open:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers.add(back)
        for source, sink in ((reader, back), (there, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()


def with_cluster(kubeconfig: Path, folder: Path, **user: str) -> tuple[dict[str, Any], Path]:
    """Return a kubeconfig's content to be changed, and where to write it."""
    config = yaml.safe_load(kubeconfig.read_text())
    if user:
        config["users"] = [{"name": one["name"], "user": dict(user)} for one in config["users"]]
    return config, folder / "kubeconfig"


@pytest.mark.integration
async def test_it_follows_an_api_server(kube: KubeClient, namespace: str) -> None:
    """What controllers, scheduler and kubelets write there is known within moments, and so is what goes."""
    plant = Plant(kube, namespace)
    deployment, replica_set = await plant.deployment("web")
    node = f"node-{namespace}"
    await plant.node(node)
    try:
        async with following(kube) as topology:
            assert topology.find("apps", "Deployment", "web", namespace) == Facts(deployment["metadata"]["uid"])
            await plant.pod("web-1", replica_set, node=node, ready=True)
            await until(lambda: getattr(topology.find("", "Pod", "web-1", namespace), "ready", False))
            await plant.pod_status("web-1", ready=False)
            await plant.node(node, "Unknown")
            await until(lambda: bool(topology.wanting_under(deployment["metadata"]["uid"])))
            await until(lambda: topology.node(node) == NodeState(node, lost=True, since=NOW))
            await kube.delete(resources.POD, "web-1", namespace, grace_period_seconds=0)
            await until(lambda: topology.remembered("", "Pod", "web-1", namespace) is not None)
            await kube.patch(resources.NAMESPACE, namespace, {"metadata": {"labels": {"kubernaut.ai/managed": "true"}}})
            await until(lambda: getattr(topology.find("", "Namespace", namespace), "managed", None) == "true")
    finally:
        await kube.delete(resources.NODE, node)


@pytest.mark.integration
async def test_cut_connections(api_server: Path, kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """After its watches were cut, and could not be opened again at first, it learns what it missed."""
    plant = Plant(kube, namespace)
    _, replica_set = await plant.deployment("web")
    await plant.pod("old", replica_set)
    async with Proxy(kube.host) as proxy:
        config, path = with_cluster(api_server, tmp_path)
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        path.write_text(yaml.safe_dump(config))
        async with await KubeClient.connect(path) as through, following(through) as topology:
            proxy.open = False
            await proxy.cut()
            await plant.pod("new", replica_set)
            await kube.delete(resources.POD, "old", namespace, grace_period_seconds=0)
            await until(lambda: topology._pods._cache.failing_for > 0)
            assert topology.find("", "Pod", "old", namespace) is not None
            proxy.open = True
            await until(lambda: topology.find("", "Pod", "new", namespace) is not None)
            await until(lambda: topology.remembered("", "Pod", "old", namespace) is not None)


@pytest.mark.integration
async def test_rights_that_are_missing(api_server: Path, kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """A gateway that may not watch nodes starts all the same, and follows them once it may."""
    name = f"gateway-{namespace}"
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "gateway", "namespace": namespace}})
    kinds = [r for r in module.FOLLOWED if r.kind != "Node"]
    rules = [{"apiGroups": [r.group], "resources": [r.plural], "verbs": ["list", "watch"]} for r in kinds]
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    config, path = with_cluster(api_server, tmp_path, token=await kube.service_account_token(namespace, "gateway"))
    path.write_text(yaml.safe_dump(config))
    try:
        async with (
            await KubeClient.connect(path) as limited,
            following(limited, blind=("nodes",), refused_retry=0.05) as topology,
        ):
            rules.append({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]})
            await kube.patch(resources.CLUSTER_ROLE, name, {"rules": rules})
            await until(lambda: unseen(topology) == set())
    finally:
        await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
        await kube.delete(resources.CLUSTER_ROLE, name)


def test_node_facts_of_a_fresh_node() -> None:
    """A node that has not reported yet is not lost."""
    assert module.node_state("n", NodeFacts("u")) == NodeState("n", lost=False)
