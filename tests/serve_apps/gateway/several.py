"""Several gateways over one API server, and alerts to send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from kubernaut_ray.settings import Settings
from serve_apps.gateway.adapters import Adapter
from serve_apps.gateway.app import Deps, Gateway, create_app
from tests.serve_apps.gateway.world import Facts, settings

PROMETHEUS = "/api/v1/signals/prometheus"
FIRED_AT = "2026-03-01T11:59:00Z"

Alert = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class One:
    """One running gateway."""

    http: httpx.AsyncClient
    parts: Gateway
    facts: Facts

    async def send(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        """Post a group; returns the outcome of each alert. None of them may have failed."""
        answer = await self.http.post(PROMETHEUS, json=webhook(*alerts))
        assert answer.status_code in {200, 201, 202, 207}, answer.text
        body = answer.json()
        outcomes: list[dict[str, Any]] = body.get("results", [body])
        assert len(outcomes) == len(alerts)
        assert not [o for o in outcomes if o["status"] == "failed"], answer.text
        return outcomes

    async def sees_the_cluster(self) -> None:
        """Wait until workloads, pods and nodes are known."""
        topology = self.parts.intake.locator.topology
        async with asyncio.timeout(30):
            while not {"pods", "nodes", "deployments", "replicasets"}.isdisjoint(topology.blind):
                await asyncio.sleep(0.01)

    async def flush(self) -> None:
        await self.parts.intake.occurrences.flush()

    async def metric(self, line: str) -> float:
        """Return the value of the metric that begins so; 0 when there is none."""
        text = (await self.http.get("/metrics")).text
        found = [each.rpartition(" ")[2] for each in text.splitlines() if each.startswith(line)]
        return sum(map(float, found))


@asynccontextmanager
async def running(
    client: KubeClient, config: Settings, *, adapters: Sequence[Adapter] | None = None, **deps: Any
) -> AsyncIterator[One]:
    facts = Facts()
    app = create_app(Deps(client, config, facts, None, **deps), adapters)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=60)
    async with app.router.lifespan_context(app), http:
        yield One(http, app.state.gateway, facts)


@asynccontextmanager
async def gateways(api_server: Path, namespace: str, count: int, **gateway: Any) -> AsyncIterator[list[One]]:
    """So many gateways, each with a connection of its own, whose requests go into ``namespace``."""
    # Patience: the machine may be shared, and being slow is not what is asked about here.
    patience = {"occurrence_flush_interval": 0.05, "owner_lookup_timeout": 60, "kubernetes_timeout": 60}
    config = settings(**(patience | gateway)).model_copy(update={"namespace": namespace})
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            client = await stack.enter_async_context(await KubeClient.connect(api_server))
            made.append(await stack.enter_async_context(running(client, config)))
        yield made


def alert(name: str = "A", *, over: bool = False, starts_at: str = FIRED_AT, **labels: str) -> Alert:
    return {
        "status": "resolved" if over else "firing",
        "labels": {"alertname": name, **labels},
        "annotations": {"summary": "something is wrong"},
        "startsAt": starts_at,
    }


def over(alerts: Sequence[Alert]) -> list[Alert]:
    """Return the same alerts, resolved."""
    return [one | {"status": "resolved"} for one in alerts]


def webhook(*alerts: Alert) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "alerts": list(alerts)}


def parts(some: Sequence[T], size: int) -> list[Sequence[T]]:
    return [some[start : start + size] for start in range(0, len(some), size)]


async def requests(kube: KubeClient, namespace: str = "kubernaut-system") -> list[RemediationRequest]:
    listed = await kube.list(REMEDIATION_REQUEST, namespace)
    return [RemediationRequest.from_object(obj) for obj in listed.items]


async def end(kube: KubeClient, name: str, namespace: str = "kubernaut-system") -> None:
    """Let a request be finished, as the orchestrator would."""
    status = {"status": {"overallPhase": "Completed", "outcome": "Remediated"}}
    await kube.patch(REMEDIATION_REQUEST, name, status, namespace, subresource="status")


def counted(found: Sequence[RemediationRequest]) -> int:
    """Return how many occurrences the requests have on record together."""
    return sum(r.status.deduplication.occurrence_count for r in found if r.status.deduplication)


def listed(found: Sequence[RemediationRequest]) -> set[tuple[str, str]]:
    """Return the (signal name, resource) pairs that the requests list as members that fire."""
    return {(signal, member.resource) for r in found for member in r.status.members for signal in member.signals}
