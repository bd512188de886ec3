"""A Data Storage for tests: an in-process owner with workflows on its shelf, an app around it, who may come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from catalog.client import Catalog, InProcess, Transport
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow, WorkflowDescription, WorkflowLabels
from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube.client import UserInfo
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps
from serve_apps.data_storage.metrics import Metrics
from serve_apps.http import Gate
from tests import build

MEMORY = build.workflow(
    labels=WorkflowLabels(signal_type="OOMKilled", severity=("critical", "high"), component="deployment"),
    parameters=[{"name": "TARGET_RESOURCE_NAME", "required": True}, {"name": "MEMORY_LIMIT", "required": True}],
)
ROLLBACK = build.workflow(
    "rollback-deployment",
    action_type="RollbackDeployment",
    description=WorkflowDescription(
        what="Rolls a Deployment back to its previous revision",
        when_to_use="Containers crash in a loop since the last rollout",
    ),
    labels=WorkflowLabels(
        signal_type="CrashLoopBackOff", component="deployment", environment=("staging", "production")
    ),
)
NODE = build.workflow(
    "uncordon-node",
    action_type="UncordonNode",
    description=WorkflowDescription(what="Makes a node schedulable again", when_to_use="A node was left cordoned"),
    labels=WorkflowLabels(component="node", environment="staging"),
)
SHELF = (MEMORY, ROLLBACK, NODE)


class Shelf:
    """Bundles by reference; what is not there is no bundle."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}

    def workflow(self, ref: str) -> tuple[Workflow, Any]:
        if ref not in self.workflows:
            raise InvalidInput(f"{ref}: no such bundle", problems=(("container_image", "no such bundle"),))
        return self.workflows[ref], None


class Away:
    """A catalog owner that may go away: ``away`` is then told as a transport tells it."""

    def __init__(self, inner: Transport) -> None:
        self._inner, self.away = inner, False

    async def call(self, method: str, payload: bytes) -> bytes:
        self._look()
        return await self._inner.call(method, payload)

    async def snapshot(self, have: int) -> bytes:
        self._look()
        return await self._inner.snapshot(have)

    def _look(self) -> None:
        if self.away:
            raise Retryable("the catalog owner does not answer: ActorDiedError", after=2.0)


class Straight:
    """Writes what Data Storage says about itself straight into the trail, and keeps it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)
        await self._catalog.append_audit([event])


class Doorman:
    """Knows two tokens: ``ann`` may everything, ``bob`` nothing."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"ann", "bob"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return user.username == "ann"


@dataclass(slots=True)
class World:
    app: FastAPI
    catalog: Catalog
    transport: Away
    trail: Straight
    metrics: Metrics
    shelf: Shelf
    client: httpx.AsyncClient
    clock: list[Any] = field(default_factory=lambda: [build.NOW])

    async def register(self, workflow: Workflow) -> Workflow:
        self.shelf.workflows[workflow.container_image] = workflow
        return (await self.catalog.register(RegisterWorkflow(container_image=workflow.container_image)))[0]


@asynccontextmanager
async def world(
    directory: Path, gate: Gate | None = None, workflows: tuple[Workflow, ...] = SHELF
) -> AsyncIterator[World]:
    """A Data Storage with these workflows registered; its clock stands at ``clock[0]``."""
    shelf, metrics, clock = Shelf(), Metrics(monotonic=lambda: 100.0), [build.NOW]
    owner = Owner(directory, embedder=Lexicon(), source=shelf, now=lambda: clock[0])
    transport = Away(InProcess(owner))
    catalog = Catalog(metrics.measured(transport), metrics.timed(Lexicon()))
    trail = Straight(catalog)
    app = create_app(Deps(catalog, gate, trail, now=lambda: clock[0], metrics=metrics))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage")
    try:
        async with client:
            made = World(app, catalog, transport, trail, metrics, shelf, client, clock)
            for workflow in workflows:
                await made.register(workflow)
            yield made
    finally:
        await asyncio.to_thread(owner.close)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is an RFC 7807 problem that tells nothing of the database."""
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    body: dict[str, Any] = answer.json()
    assert body["type"].startswith("https://kubernaut.ai/problems/")
    assert not {"select", "insert", "duckdb", "traceback"} & set(answer.text.lower().split())
    return body
