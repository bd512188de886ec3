"""From what a signal names to the top of its owners, also when half of it is already gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Forbidden, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import target
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.kinds import CRON_JOB, Kinds
from serve_apps.gateway.owners import Owners, Resolution
from serve_apps.gateway.signal import Signal
from tests.build import NOW
from tests.serve_apps.gateway.world import World

KINDS = Kinds()


class Resolver:
    """Owners over a world, with a clock to turn."""

    def __init__(self, world: World, timeout: float = 2.0) -> None:
        self.time = 0.0
        self._owners = Owners(Cluster(world, attempts=1), timeout=timeout, monotonic=lambda: self.time)

    async def __call__(self, **labels: str) -> Resolution:
        labels = {"namespace": "shop", **labels}
        signal = Signal("A", "t", "s", "warning", NOW, NOW, labels=labels)
        return await self._owners.resolve(target.candidates(signal, KINDS), target.namespace(labels), KINDS)


async def test_a_pod_s_deployment() -> None:
    """Pod → ReplicaSet → Deployment; both pods have one target, and the pod is kept as what was named."""
    world = World()
    first, second = await world.deployment(pods=2)
    resolve = Resolver(world)

    one, other = await resolve(pod=first), await resolve(pod=second)

    assert str(one.target) == str(other.target) == "shop/deployment/web"
    assert one.target.api_version == "apps/v1"
    assert (str(one.signal_resource), one.note, one.identified) == (f"shop/pod/{first}", "", True)


async def test_answers_are_kept_for_a_while() -> None:
    """A storm of one pod's alerts reads its owners once; half a minute later they are read again."""
    world = World()
    (pod,) = await world.deployment()
    resolve = Resolver(world)

    for _ in range(5):
        await resolve(pod=pod)
    assert world.reads["get Pod"] == 1
    resolve.time = 31
    await resolve(pod=pod)
    assert world.reads["get Pod"] == 2


async def test_a_pod_of_a_cron_job() -> None:
    """Kinds that the API serves are climbed through to the last."""
    world = World()
    cron = await world.own(CRON_JOB, "backup")
    job = await world.own(resources.JOB, "backup-28", cron)
    await world.own(resources.POD, "backup-28-abcde", job)

    assert str((await Resolver(world)(pod="backup-28-abcde")).target) == "shop/cronjob/backup"


async def test_a_static_pod_belongs_to_itself() -> None:
    """The node owns a static pod, but a failing kube-proxy is not a failing node."""
    world = World()
    node = await world.own(resources.NODE, "n1")
    await world.own(resources.POD, "etcd-n1", node)

    assert str((await Resolver(world)(pod="etcd-n1", node="n1")).target) == "shop/pod/etcd-n1"


@pytest.mark.parametrize(
    ("labels", "expected", "said"),
    [
        pytest.param({"pod": "gone", "deployment": "web"}, "shop/deployment/web", "the label deployment", id="a label"),
        pytest.param({"pod": "web-7d4b9c6f5d-zzzzz"}, "shop/deployment/web", "its name says", id="a Deployment's pod"),
        pytest.param({"pod": "db-0"}, "shop/statefulset/db", "its name says", id="a StatefulSet's pod"),
        pytest.param({"pod": "agent-x7k2z"}, "shop/daemonset/agent", "its name says", id="a DaemonSet's pod"),
        pytest.param({"pod": "gone"}, "shop/pod/gone", "taken as the signal names it", id="nothing to go by"),
        pytest.param({"pod": "api-7d4b9c6f5d-zzzzz"}, "shop/pod/api-7d4b9c6f5d-zzzzz", "taken", id="no such workload"),
        pytest.param({"pod": "gone", "node": "n1"}, "shop/pod/gone", "taken", id="the node is not to blame"),
        pytest.param({"pod": "db-0", "service": "web"}, "shop/statefulset/db", "its name", id="nor the service"),
        pytest.param({"deployment": "gone", "node": "n1"}, "shop/deployment/gone", "taken", id="a deleted Deployment"),
        pytest.param(
            {"deployment": "gone", "hpa": "web"}, "shop/horizontalpodautoscaler/web", "the label hpa", id="what is left"
        ),
    ],
)
async def test_what_is_gone_is_never_guessed_silently(labels: dict[str, str], expected: str, said: str) -> None:
    """The target of a signal about a deleted object follows fixed rules, and the note says which."""
    world = World()
    await world.deployment()
    await world.own(resources.STATEFUL_SET, "db")
    await world.own(resources.DAEMON_SET, "agent")
    await world.own(resources.NODE, "n1")
    await world.own(resources.SERVICE, "web")
    await world.own(resources.HPA, "web")

    resolution = await Resolver(world)(**labels)

    assert str(resolution.target) == expected
    assert said in resolution.note


async def test_a_deleted_pod_keeps_its_last_known_owner() -> None:
    """A pod whose name tells nothing is still its workload's after it was deleted, for an hour."""
    world = World()
    owner = await world.own(resources.STATEFUL_SET, "db")
    await world.own(resources.POD, "odd", owner)
    resolve = Resolver(world)
    await resolve(pod="odd")
    await world.delete(resources.POD, "odd", "shop")

    resolve.time = 60
    kept = await resolve(pod="odd")
    assert (str(kept.target), "when last seen" in kept.note) == ("shop/statefulset/db", True)
    resolve.time = 7200
    assert str((await resolve(pod="odd")).target) == "shop/pod/odd"


async def test_a_deleted_replica_set_is_seen_through() -> None:
    """The pod carries the hash that its ReplicaSet's name ends in, so the Deployment is known."""
    world = World()
    deployment = await world.own(resources.DEPLOYMENT, "web")
    replica_set = await world.own(resources.REPLICA_SET, "web-7d4b9c6f5d", deployment)
    await world.own(resources.POD, "p", replica_set, {"pod-template-hash": "7d4b9c6f5d"})
    del world.objects["ReplicaSet", "shop", "web-7d4b9c6f5d"]

    resolution = await Resolver(world)(pod="p")

    assert str(resolution.target) == "shop/deployment/web"
    assert "its name tells" in resolution.note


async def test_forbidden_reads_are_said() -> None:
    """Without leave to read pods the signal is taken at its word, and the note names the cause."""
    world = World()
    world.fault = Forbidden("pods is forbidden", status=403, reason="Forbidden")

    resolution = await Resolver(world)(pod="web-1")
    assert (str(resolution.target), "RBAC" in resolution.note) == ("shop/pod/web-1", True)


@pytest.mark.parametrize(("labels", "where"), [({}, "namespace/shop"), ({"namespace": ""}, "unknown/unknown")])
async def test_a_signal_that_names_nothing(labels: dict[str, str], where: str) -> None:
    """It is not identified by a resource; its namespace is where to look."""
    resolution = await Resolver(World())(**labels)
    assert (str(resolution.target), resolution.identified) == (where, False)


async def test_a_silent_api_server_is_no_answer() -> None:
    """Neither an error nor a time-out makes a fingerprint: the signal has to come again."""

    class Slow(World):
        async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
            await asyncio.sleep(5)
            raise AssertionError

    with pytest.raises(Unavailable, match=r"could not be read in 0\.05s"):
        await Resolver(Slow(), timeout=0.05)(pod="web-1")
    world = World()
    world.fault = Unavailable("connection refused")
    with pytest.raises(Unavailable):
        await Resolver(world)(pod="web-1")


async def test_an_owner_cycle_ends() -> None:
    """Two objects that own each other (edited by hand) stop the climb after a few steps."""
    world = World()
    first = await world.own(resources.REPLICA_SET, "a")
    second = await world.own(resources.REPLICA_SET, "b", first)
    reference: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "b", "controller": True}
    reference["uid"] = second["metadata"]["uid"]
    world.objects["ReplicaSet", "shop", "a"]["metadata"]["ownerReferences"] = [reference]

    assert (await Resolver(world)(replicaset="a")).target.kind == "ReplicaSet"
