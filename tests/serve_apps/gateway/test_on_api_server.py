"""Several gateways over one real API server: one request per incident, exact counts, and nothing the CRD would refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from kubernaut_ray.settings import GatewaySettings, Settings
from serve_apps.gateway.app import Deps, create_app
from tests.serve_apps.gateway.world import Facts

pytestmark = pytest.mark.integration

PROMETHEUS = "/api/v1/signals/prometheus"


@asynccontextmanager
async def gateways(api_server: Path, namespace: str, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """So many gateways, each with a connection of its own, whose requests go into ``namespace``."""
    settings = Settings(namespace=namespace, gateway=GatewaySettings(occurrence_flush_interval=0.05))
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            client = await stack.enter_async_context(await KubeClient.connect(api_server))
            app = create_app(Deps(client, settings, Facts(), None))
            await stack.enter_async_context(app.router.lifespan_context(app))
            http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=60)
            made.append(await stack.enter_async_context(http))
        yield made


async def workload(kube: KubeClient, namespace: str, pods: int) -> list[str]:
    """Create a Deployment, its ReplicaSet and pods as their controllers would. Returns the pods' names."""

    def meta(name: str, kind: str = "", owner: dict[str, Any] | None = None) -> dict[str, Any]:
        reference = {"apiVersion": "apps/v1", "kind": kind, "controller": True}
        references = (
            [{**reference, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}] if owner else []
        )
        return {"name": name, "namespace": namespace, "labels": {"app": "web"}, "ownerReferences": references}

    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "registry.example.org/web:1"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    deployment = await kube.create(resources.DEPLOYMENT, {"metadata": meta("web"), "spec": spec | {"paused": True}})
    owned = {"metadata": meta("web-7d4b9c6f5d", "Deployment", deployment), "spec": spec}
    replica_set = await kube.create(resources.REPLICA_SET, owned)
    names = [f"web-7d4b9c6f5d-x2x4{c}" for c in "bcdfghjklm"[:pods]]
    for name in names:
        pod = {"metadata": meta(name, "ReplicaSet", replica_set), "spec": template["spec"]}
        pod["metadata"]["labels"] = {"app": "loose"}
        await kube.create(resources.POD, pod)
    return names


def webhook(*alerts: dict[str, str]) -> dict[str, Any]:
    fired = [{"status": "firing", "labels": labels, "startsAt": "2026-03-01T11:59:00Z"} for labels in alerts]
    return {"version": "4", "status": "firing", "alerts": fired}


async def requests(kube: KubeClient, namespace: str) -> list[RemediationRequest]:
    listed = await kube.list(REMEDIATION_REQUEST, namespace)
    return [RemediationRequest.from_object(obj) for obj in listed.items]


async def test_sixty_four_posts_of_one_incident(api_server: Path, kube: KubeClient, namespace: str) -> None:
    """Three gateways, sixty-four posts at once, five pods of one Deployment: one request, sixty-four occurrences."""
    pods = await workload(kube, namespace, 5)
    async with gateways(api_server, namespace, 3) as some:
        posts = [
            some[n % 3].post(
                PROMETHEUS,
                json=webhook(
                    {"alertname": f"Alert{n % 2}", "namespace": namespace, "pod": pods[n % 5], "severity": "x"}
                ),
            )
            for n in range(64)
        ]
        answers = await asyncio.gather(*posts)

    assert sorted(answer.status_code for answer in answers) == [201] + [202] * 63
    (request,) = await requests(kube, namespace)
    assert {answer.json()["remediationRequestName"] for answer in answers} == {request.name}
    assert request.spec.target_resource.kind == "Deployment"
    assert request.status.deduplication is not None
    assert request.status.deduplication.occurrence_count == 64
    symptoms = request.status.deduplication.symptoms
    assert sum(s.occurrence_count for s in symptoms) == 64
    assert len(symptoms) == 10


async def test_a_group_over_two_gateways_and_its_end(api_server: Path, kube: KubeClient, namespace: str) -> None:
    """A highly available pair sends each group twice; afterwards all of it is over, and then fires anew."""
    (pod,) = await workload(kube, namespace, 1)
    labels = {"alertname": "A", "namespace": namespace, "pod": pod}
    nameless = {"alertname": "B", "namespace": namespace}
    async with gateways(api_server, namespace, 2) as (one, two):
        answers = await asyncio.gather(*(g.post(PROMETHEUS, json=webhook(labels, nameless)) for g in (one, two)))
        assert {answer.status_code for answer in answers} == {207}
        assert sum(answer.json()["summary"]["created"] for answer in answers) == 2

        by_name = {r.spec.signal_name: r for r in await requests(kube, namespace)}
        assert set(by_name) == {"A", "B"}
        assert by_name["B"].spec.target_resource.kind == "Namespace"

        over = webhook(labels)
        over["alerts"][0]["status"] = "resolved"
        recorded = await two.post(PROMETHEUS, json=over)
        assert recorded.json()["reason"] == "ResolutionRecorded"
        again = next(r for r in await requests(kube, namespace) if r.spec.signal_name == "A")
        assert again.status.resolved is not None

        patch = {"status": {"overallPhase": "Completed", "outcome": "Remediated"}}
        await kube.patch(REMEDIATION_REQUEST, again.name, patch, namespace, subresource="status")
        assert (await one.post(PROMETHEUS, json=webhook(labels))).status_code == 201
        assert (await two.post(PROMETHEUS, json=webhook(labels))).status_code == 202
    assert len(await requests(kube, namespace)) == 3


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"alertname": "x" * 4000, "severity": "y" * 300, "pod": "z" * 253}, id="all too long"),
        pytest.param({"alertname": "😀 \u0000\t", "severity": "ä ö/ü", "weird key/…": "\u202e"}, id="odd characters"),
        pytest.param({"alertname": "A", **{f"label{n}": "v" * 100 for n in range(400)}}, id="very many labels"),
        pytest.param({"alertname": "A", "severity": "---"}, id="a severity that no label can hold"),
    ],
)
async def test_odd_signals_are_taken(
    api_server: Path, kube: KubeClient, namespace: str, labels: dict[str, str]
) -> None:
    """Text of any kind makes an object that the API server takes."""
    async with gateways(api_server, namespace, 1) as (gateway,):
        answer = await gateway.post(PROMETHEUS, json=webhook({"namespace": namespace, **labels}))
        assert answer.status_code == 201, answer.text
    (request,) = await requests(kube, namespace)
    assert request.status.deduplication is not None
