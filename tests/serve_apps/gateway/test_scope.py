"""Whose signals are taken: by the label on the object, or on its namespace, and never by mistake."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Forbidden, Unavailable
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.scope import Mode
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.scope import Scope
from serve_apps.gateway.topology import Topology
from tests.serve_apps.gateway.world import World

WEB = TargetResource(api_version="apps/v1", kind="Deployment", name="web", namespace="shop")
NODE = TargetResource(api_version="v1", kind="Node", name="n1")
PVC = TargetResource(api_version="v1", kind="PersistentVolumeClaim", name="data", namespace="shop")
OF: dict[str, Resource] = {r.kind: r for r in (resources.DEPLOYMENT, resources.NODE, resources.PVC)}


async def world(target: TargetResource, own: str | None, namespace: str | None) -> World:
    """A world with this target and its namespace, labelled so; without a label for ``None``, without the object for ``-``."""
    made = World()
    for resource, name, value in (
        (OF[target.kind], target.name, own),
        (resources.NAMESPACE, target.namespace or "shop", namespace),
    ):
        if value != "-":
            await made.own(resource, name, labels={} if value is None else {"kubernaut.ai/managed": value})
    return made


async def followed(kube: World) -> Topology:
    topology = Topology(kube)
    await topology.start()
    async with asyncio.timeout(10):
        while topology.blind:
            await asyncio.sleep(0.005)
    return topology


@pytest.mark.parametrize("follows", [True, False], ids=["followed", "read live"])
@pytest.mark.parametrize(
    ("target", "own", "namespace", "opt_in", "opt_out"),
    [
        pytest.param(WEB, None, None, False, True, id="no label anywhere"),
        pytest.param(WEB, "true", None, True, True, id="the object says yes"),
        pytest.param(WEB, "false", "true", False, False, id="the object's no beats its namespace's yes"),
        pytest.param(WEB, "true", "false", True, True, id="the object's yes beats its namespace's no"),
        pytest.param(WEB, None, "true", True, True, id="the namespace says yes"),
        pytest.param(WEB, None, "false", False, False, id="the namespace says no"),
        pytest.param(WEB, "maybe", "true", False, False, id="a word that is neither"),
        pytest.param(WEB, "-", "true", True, True, id="an object that is gone goes by its namespace"),
        pytest.param(WEB, "-", "-", False, True, id="nothing is there"),
        pytest.param(PVC, None, "true", True, True, id="a kind that is always read live"),
        pytest.param(NODE, None, "true", False, True, id="a node has no namespace to go by"),
        pytest.param(NODE, "true", None, True, True, id="a node says yes"),
        pytest.param(NODE, "false", None, False, False, id="a node says no"),
    ],
)
async def test_labels(
    target: TargetResource, own: str | None, namespace: str | None, opt_in: bool, opt_out: bool, follows: bool
) -> None:
    """The object's own label first, then its namespace's; a cluster-scoped object has only its own."""
    kube = await world(target, own, namespace)
    topology = await followed(kube) if follows else None
    expected: dict[Mode, bool] = {"opt-in": opt_in, "opt-out": opt_out, "all": True}
    for mode, managed in expected.items():
        assert await Scope(Cluster(kube, attempts=1), mode, topology=topology).manages(target) is managed
    if topology is not None:
        await topology.stop()


@pytest.mark.parametrize("mode", ["opt-in", "opt-out"])
async def test_never_managed_by_mistake(mode: Mode) -> None:
    """A server that does not answer is neither a yes nor a no; a refused read is a no, for half a minute."""
    kube = await world(WEB, None, "true")
    time = [0.0]
    scope = Scope(Cluster(kube, attempts=1), mode, monotonic=lambda: time[0])
    kube.fault = Unavailable("away")
    with pytest.raises(Unavailable):
        await scope.manages(WEB)
    kube.fault = Forbidden("no", status=403, reason="Forbidden")
    assert not await scope.manages(WEB)
    kube.fault = None
    assert not await scope.manages(WEB)
    time[0] = 31.0
    assert await scope.manages(WEB)


async def test_what_costs_a_call() -> None:
    """Followed, a label costs nothing and is as new as the watch; read live, it is kept for half a minute."""
    kube = await world(WEB, None, "true")
    time = [0.0]
    topology = await followed(kube)
    cluster = Cluster(kube, attempts=1)
    kube.reads.clear()
    known, live = Scope(cluster, "opt-in", topology=topology), Scope(cluster, "opt-in", monotonic=lambda: time[0])
    for _ in range(3):
        assert await known.manages(WEB)
    assert kube.reads == {}
    for _ in range(3):
        assert await live.manages(WEB)
    assert (kube.reads["get Deployment"], kube.reads["get Namespace"]) == (1, 1)

    await kube.patch(resources.DEPLOYMENT, "web", {"metadata": {"labels": {"kubernaut.ai/managed": "false"}}}, "shop")
    async with asyncio.timeout(10):
        while await known.manages(WEB):
            await asyncio.sleep(0.005)
    assert await live.manages(WEB)
    time[0] = 31.0
    assert not await live.manages(WEB)
    await topology.stop()
