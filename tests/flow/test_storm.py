"""The whole system under a storm: a lost node is one incident and one investigation, and a killed replica loses no alert."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubernaut_ray import clock
from kubernaut_ray.crds import AIAnalysis, RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from serve_apps.gateway.adapters import PREFIX
from tests.flow.running import Running, descendants, eventually, started, webhook
from tests.serve_apps.gateway.plant import Plant

pytestmark = [pytest.mark.flow, pytest.mark.rayed, pytest.mark.timeout(600)]

NAMESPACE, NODE = "flow-storm", "node-7"
WORKLOADS, PODS_EACH = 40, 10
SIGNALS = ("KubePodNotReady", "KubePodCrashLooping", "TargetDown", "KubeContainerWaiting", "PodProbeFailing")
REPLICA, CONTROLLERS = "ray::ServeReplica:gateway", "ControllerHost"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("storm"), "--no-dashboard") as system:
        yield system


@pytest.fixture
async def client(running: Running) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(running.kubeconfig) as connected:
        yield connected


async def lose_a_node(client: KubeClient) -> None:
    """Plant 40 StatefulSets of ten pods each, all on one node that stopped to answer a moment ago."""
    now = clock.utcnow()
    await client.create(resources.NAMESPACE, {"metadata": {"name": NAMESPACE}})
    plant = Plant(client, NAMESPACE)
    await plant.node(NODE, "Unknown", now)

    async def workload(number: int) -> None:
        owner = await plant.workload(resources.STATEFUL_SET, f"db-{number}")
        for ordinal in range(PODS_EACH):
            await plant.pod(f"db-{number}-{ordinal}", owner, node=NODE, since=now)

    await asyncio.gather(*(workload(number) for number in range(WORKLOADS)))


def fired(signal_name: str, pod: str) -> dict[str, Any]:
    labels = {"alertname": signal_name, "namespace": NAMESPACE, "pod": pod, "severity": "critical"}
    return {"status": "firing", "labels": labels, "annotations": {}, "startsAt": clock.rfc3339(clock.utcnow())}


async def deliver(running: Running, alerts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Post a group to the gateway's own port until it is taken, as Alertmanager does."""
    url = f"{running.endpoints.signals}{PREFIX}/prometheus"
    async with asyncio.timeout(120):
        while True:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url, json=webhook(*alerts), headers=running.headers) as response,
                ):
                    if response.status < 300:
                        answer: dict[str, Any] = await response.json()
                        return answer
                    assert response.status >= 500, await response.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


async def test_a_lost_node_is_one_incident(running: Running, client: KubeClient) -> None:
    """2,000 alerts about 400 pods of 40 workloads on a lost node make one request that lists all of them, and one analysis."""
    await lose_a_node(client)
    # Alerts come half a minute after a loss, and later; here the replicas' watches may lag by seconds.
    await asyncio.sleep(5)
    pairs = [(s, f"db-{w}-{p}") for s in SIGNALS for w in range(WORKLOADS) for p in range(PODS_EACH)]
    random.Random(7).shuffle(pairs)
    groups = [pairs[i : i + 50] for i in range(0, len(pairs), 50)]
    gate = asyncio.Semaphore(8)

    async def one(group: list[tuple[str, str]]) -> dict[str, Any]:
        async with gate:
            return await deliver(running, [fired(*pair) for pair in group])

    with asleep(running):
        answers = await asyncio.gather(*(one(group) for group in groups))

    outcomes = [result for answer in answers for result in answer["results"]]
    assert {result["target"] for result in outcomes} == {f"node/{NODE}"}
    assert {result["status"] for result in outcomes} <= {"created", "accepted"}
    (obj,) = [
        obj
        for obj in (await client.list(resources.REMEDIATION_REQUEST)).items
        if obj["spec"]["targetResource"]["name"] == NODE
    ]
    request = RemediationRequest.from_object(obj)
    listed = {(signal_name, member.resource) for member in request.status.members for signal_name in member.signals}
    assert listed == {(signal_name, f"{NAMESPACE}/pod/{pod}") for signal_name, pod in pairs}
    assert {member.target for member in request.status.members} == {
        f"{NAMESPACE}/statefulset/db-{number}" for number in range(WORKLOADS)
    }

    await eventually(client, request.name, lambda r: r.status.ai_analysis_ref is not None and counted(r) == len(pairs))
    analyses = [AIAnalysis.from_object(obj) for obj in (await client.list(resources.AI_ANALYSIS)).items]
    assert len([one for one in analyses if one.spec.remediation_request_ref.name == request.name]) == 1
    assert len((await client.list(resources.REMEDIATION_REQUEST)).items) == 1


def counted(request: RemediationRequest) -> int:
    seen = request.status.deduplication
    return seen.occurrence_count if seen is not None else 0


@contextmanager
def asleep(running: Running) -> Iterator[None]:
    """Keep the controllers from working: they end an incident that only a person can help within a second, storm or not."""
    controllers = processes(running, CONTROLLERS)
    assert controllers
    try:
        for pid in controllers:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in controllers:
            os.kill(pid, signal.SIGCONT)


def processes(running: Running, name: str) -> set[int]:
    found = set()
    for pid in descendants(running.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if name in command:
            found.add(pid)
    return found


async def test_a_killed_replica_loses_no_alert(running: Running, client: KubeClient) -> None:
    """While one of the gateway's replicas is killed, every alert is taken at the second try at the latest, and only once."""
    before = processes(running, REPLICA)
    assert len(before) == 2

    async def storm() -> list[dict[str, Any]]:
        answers = []
        for number in range(60):
            labels = {"alertname": f"Killed{number}", "namespace": "nowhere", "deployment": f"app-{number}"}
            answers.append(await deliver(running, [{"status": "firing", "labels": labels}]))
        return answers

    sending = asyncio.create_task(storm())
    await asyncio.sleep(0.3)
    os.kill(min(before), signal.SIGKILL)
    answers = await sending
    made = {
        obj["spec"]["targetResource"]["name"]: obj["metadata"]["name"]
        for obj in (await client.list(resources.REMEDIATION_REQUEST)).items
        if obj["spec"]["targetResource"]["namespace"] == "nowhere"
    }
    assert sorted(made) == sorted(f"app-{number}" for number in range(60))
    assert {answer["remediationRequestName"] for answer in answers} == set(made.values())

    async with asyncio.timeout(60):
        while len(alive := processes(running, REPLICA)) != 2 or min(before) in alive:
            await asyncio.sleep(0.2)
