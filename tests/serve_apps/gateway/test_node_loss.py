"""The cascade: a node is lost with hundreds of pods on it, and all that is told about them becomes one incident."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray import clock, names
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from serve_apps.gateway import tally, verdict
from tests.build import NOW
from tests.serve_apps.gateway.plant import Plant
from tests.serve_apps.gateway.several import (
    Alert,
    One,
    alert,
    counted,
    end,
    gateways,
    listed,
    over,
    parts,
    requests,
    running,
)
from tests.serve_apps.gateway.world import World, settings

WORKLOADS, PODS_EACH = 40, 10
NAMES = ("KubePodNotReady", "KubePodCrashLooping", "KubeContainerWaiting", "TargetDown", "PodUnreachable")


async def cascade(kube: KubeClient, namespace: str, node: str, lost: datetime) -> list[Alert]:
    """Plant Deployments with pods on a lost node; returns what is told about it, about them and about their pods."""
    plant, fired = Plant(kube, namespace), clock.rfc3339(lost + timedelta(seconds=40))
    await plant.node(node, ready="Unknown", since=lost)
    alerts = []
    pods = []
    for n in range(WORKLOADS):
        _, replica_set = await plant.deployment(f"w{n:02}")
        pods += [(f"w{n:02}-7d4b9c6f5d-x2x4{k}", replica_set) for k in range(PODS_EACH)]
        labels = {"namespace": namespace, "deployment": f"w{n:02}"}
        alerts.append(alert("KubeDeploymentReplicasMismatch", starts_at=fired, **labels))
    for group in parts(pods, 20):
        made = (plant.pod(name, owner, node=node, since=lost) for name, owner in group)
        await asyncio.gather(*made)
    for name, _ in pods:
        alerts += [alert(what, starts_at=fired, namespace=namespace, pod=name) for what in NAMES]
    return [*alerts, alert("KubeNodeNotReady", starts_at=fired, node=node)]


def shuffled(alerts: list[Alert], seed: int) -> list[list[Alert]]:
    """Return the alerts in any order, in groups of one to fifty."""
    chance = random.Random(seed)
    rest = chance.sample(alerts, len(alerts))
    groups = []
    while rest:
        size = chance.randint(1, 50)
        groups.append(rest[:size])
        rest = rest[size:]
    return groups


async def tell(some: list[One], groups: list[list[Alert]]) -> list[dict[str, str]]:
    """Send the groups, twenty at a time, over all gateways."""
    room = asyncio.Semaphore(20)

    async def send(number: int, group: list[Alert]) -> list[dict[str, str]]:
        async with room:
            return await some[number % len(some)].send(group)

    told = await asyncio.gather(*(send(number, group) for number, group in enumerate(groups)))
    return [outcome for outcomes in told for outcome in outcomes]


def pairs(alerts: list[Alert]) -> set[tuple[str, str]]:
    """Return the (signal name, resource) pairs of alerts about pods and Deployments."""
    found = set()
    for one in alerts:
        labels = one["labels"]
        kind = "pod" if "pod" in labels else "deployment" if "deployment" in labels else ""
        if kind:
            found.add((labels["alertname"], f"{labels['namespace']}/{kind}/{labels[kind]}"))
    return found


def about(found: list[RemediationRequest], node: str) -> RemediationRequest:
    (request,) = found
    assert (request.spec.target_resource.kind, request.spec.target_resource.name) == ("Node", node)
    return request


@pytest.mark.integration
async def test_a_cascade_of_two_thousand_alerts(api_server: Path, kube: KubeClient, namespace: str) -> None:
    """One request, whose target is the node; it lists every signal of every pod, counts each once, and ends with the last."""
    node = f"node-{namespace}"
    alerts = await cascade(kube, namespace, node, clock.utcnow() - timedelta(minutes=2))
    assert len(alerts) == 2041
    async with gateways(api_server, namespace, 2) as some:
        for one in some:
            await one.sees_the_cluster()
        outcomes = await tell(some, shuffled(alerts, 1))
        assert [o["status"] for o in outcomes].count("created") == 1
        request = about(await requests(kube, namespace), node)
        assert {o["remediationRequestName"] for o in outcomes} == {request.name}
        assert listed([request]) == pairs(alerts)
        assert len(request.status.members) == WORKLOADS * PODS_EACH + WORKLOADS
        assert {m.target for m in request.status.members} == {
            f"{namespace}/deployment/w{n:02}" for n in range(WORKLOADS)
        }
        again = await tell(some, shuffled(alerts, 2))
        assert {o["status"] for o in again} == {"duplicate"}

    request = about(await requests(kube, namespace), node)
    assert counted([request]) == 2 * len(alerts)
    async with gateways(api_server, namespace, 2) as some:
        for one in some:
            await one.sees_the_cluster()
        *most, last = over(alerts)
        told = await tell(some, shuffled(most, 3))
        assert {o["reason"] for o in told} == {"ResolutionRecorded"}
        request = about(await requests(kube, namespace), node)
        assert listed([request]) == set()
        assert request.status.resolved is None
        await some[0].send([last])
        request = about(await requests(kube, namespace), node)
        assert request.status.resolved is not None
        ends = [e.event_data["symptoms"] for one in some for e in one.facts.events if e.event_type.endswith("resolved")]
        told_of = {(s["signal_name"], s["resource"]) for symptoms in ends for s in symptoms}
        assert told_of == {*pairs(alerts), ("KubeNodeNotReady", f"node/{node}")}
        assert {(s, m.resource) for m in request.status.members for s in m.over} == pairs(alerts)
    await kube.delete(resources.NODE, node)


LOST = NOW - timedelta(minutes=1)


async def planted(world: World, workloads: int = 3, **labels: str) -> list[Alert]:
    """Plant a lost node with a pod of each workload; returns an alert for each pod."""
    plant = Plant(world, "shop")
    await plant.node("n1", ready="Unknown", since=LOST)
    await world.own(resources.NAMESPACE, "shop", labels=labels)
    alerts = []
    for n in range(workloads):
        _, replica_set = await plant.deployment(f"w{n}")
        await plant.pod(f"w{n}-0", replica_set, node="n1", since=LOST)
        alerts.append(alert("Down", starts_at=clock.rfc3339(NOW), namespace="shop", pod=f"w{n}-0"))
    return alerts


async def test_a_node_that_nobody_manages() -> None:
    """With opt-in and a label on the namespace only, each workload has its own; with one on the node, it is the node's."""
    world = World()
    alerts = await planted(world, **{names.LABEL_MANAGED: "true"})
    async with running(world, settings(scope="opt-in"), now=world.now) as one:
        await one.sees_the_cluster()
        outcomes = await one.send(alerts)
        assert {(o["status"], o["target"]) for o in outcomes} == {
            ("created", f"shop/deployment/w{n}") for n in range(3)
        }
        assert {o["status"] for o in await one.send(alerts)} == {"duplicate"}
        await world.patch(resources.NODE, "n1", {"metadata": {"labels": {names.LABEL_MANAGED: "true"}}})
    for request in await requests(world):
        await end(world, request.name)
    async with running(world, settings(scope="opt-in"), now=world.now) as one:
        await one.sees_the_cluster()
        assert [o["status"] for o in await one.send(alerts)] == ["created", "accepted", "accepted"]
    (request,) = [r for r in await requests(world) if r.status.overall_phase is None]
    assert request.spec.target_resource.kind == "Node"


async def test_nobody_manages_either() -> None:
    """Neither the node nor the workload is ours: nothing is opened, and the sender is told which labels it takes."""
    world = World()
    alerts = await planted(world)
    async with running(world, settings(scope="opt-in"), now=world.now) as one:
        await one.sees_the_cluster()
        outcomes = await one.send(alerts)
        assert {(o["status"], o["reason"]) for o in outcomes} == {("rejected", "UnmanagedResource")}
    assert await requests(world) == []


@pytest.mark.parametrize("own", [False, True], ids=["nothing else is open", "its workload has an incident of its own"])
async def test_over_after_the_node_came_back(own: bool) -> None:
    """The alert ends when the node is well again, and is then about its workload: it is over where it was listed."""
    world = World()
    alerts = await planted(world)
    async with running(world, settings(), now=world.now) as one:
        await one.sees_the_cluster()
        await one.send(alerts)
        world.time += timedelta(minutes=5)
        generation = one.parts.intake.locator.generation
        await Plant(world, "shop").node("n1", ready="True", since=world.time)
        async with asyncio.timeout(10):
            while one.parts.intake.locator.generation == generation:
                await asyncio.sleep(0.01)
        if own:
            later = clock.rfc3339(world.time)
            outcomes = await one.send([alert("Slow", starts_at=later, namespace="shop", deployment="w0")])
            assert outcomes[0]["target"] == "shop/deployment/w0"
        told = await one.send(over(alerts))
        assert {o["reason"] for o in told} == {"ResolutionRecorded"}
    (request,) = [r for r in await requests(world) if r.spec.target_resource.kind == "Node"]
    assert listed([request]) == set()
    assert request.status.resolved is not None


async def test_a_full_incident_takes_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its room workloads have incidents of their own, and as soon as those make a storm, one of them folds the rest."""
    for module in (tally, verdict):
        monkeypatch.setattr(module, "MAX_MEMBERS", 4)
    world = World()
    alerts = await planted(world, 16)
    async with running(world, settings(), now=world.now) as one:
        await one.sees_the_cluster()
        for group in parts(alerts, 3):
            assert {o["status"] for o in await one.send(group)} <= {"created", "accepted"}
        for group in parts(alerts, 5):
            assert {o["status"] for o in await one.send(group)} == {"duplicate"}
    found = await requests(world)
    (node,) = [r for r in found if r.spec.target_resource.kind == "Node"]
    assert len(node.status.members) == 4
    opened = {("Down", str(r.spec.signal_resource)) for r in found if r is not node}
    assert opened | listed(found) == pairs(alerts)
    assert len(found) < 12
    assert counted(found) == 32


async def test_an_end_between_look_and_write() -> None:
    """A node's incident that ends just when a pod is to be listed on it: the pod is taken by what comes next."""

    class Ending(World):
        ends = ""

        async def patch(self, resource: Any, name: str, patch: Any, *rest: Any, **options: Any) -> Any:
            if name == self.ends:
                self.ends = ""
                await end(self, name)
            return await super().patch(resource, name, patch, *rest, **options)

    world = Ending()
    alerts = await planted(world, 6)
    async with running(world, settings(occurrence_flush_interval=60), now=world.now) as one:
        await one.sees_the_cluster()
        (first,) = await one.send(alerts[:1])
        await one.flush()
        world.ends = first["remediationRequestName"]
        outcomes = await one.send(alerts)
        assert not world.ends
        still = [r for r in await requests(world) if r.status.overall_phase is None]
        opened = {("Down", str(r.spec.signal_resource)) for r in still}
        assert pairs(alerts[1:]) <= opened | listed(still)
        assert first["remediationRequestName"] not in {o["remediationRequestName"] for o in outcomes[1:]}
