"""Real parts around an investigation: Data Storage over HTTP with the shipped workflows, a cluster in memory, a scripted LLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow
from kubernaut_ray.settings import AnalysisSettings, LlmSettings
from serve_apps.data_storage.app import create_app as create_storage
from serve_apps.data_storage.deps import Deps as StorageDeps
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.investigate import Investigator
from serve_apps.holmesgpt.metrics import Metrics
from serve_apps.holmesgpt.models.evidence import EvidenceModel
from serve_apps.holmesgpt.models.model import InvestigationModel
from tests.serve_apps.holmesgpt.world import World
from tests.trail import fits

WORKFLOWS = Path(__file__).parents[3] / "manifests" / "workflows"


class Facts:
    """An audit sink that keeps one event an id."""

    def __init__(self) -> None:
        self.events: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        self.events.setdefault(event.event_id, fits(event))

    def types(self) -> list[str]:
        return [e.event_type for e in self.events.values()]


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of this process; gives the base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundles, tuple[str, ...]]:
    """The shipped workflows in an OCI layout, pushed once."""
    store = Bundles(tmp_path_factory.mktemp("bundles"))
    folders = sorted(p for p in WORKFLOWS.iterdir() if (p / "workflow-schema.yaml").is_file())
    return store, tuple(str(store.push(f, f"bundles.kubernaut.local/workflows/{f.name}:1.0.0")) for f in folders)


@pytest.fixture
def owner(tmp_path: Path, bundles: tuple[Bundles, tuple[str, ...]]) -> Iterator[Owner]:
    owner = Owner(tmp_path, embedder=Lexicon(), source=bundles[0], now=utcnow)
    yield owner
    owner.close()


@pytest.fixture
async def storage(owner: Owner, bundles: tuple[Bundles, tuple[str, ...]]) -> AsyncIterator[DataStorage]:
    """Data Storage's client, over real HTTP, with the shipped workflows registered."""
    app = create_storage(StorageDeps(Catalog(InProcess(owner), Lexicon()), None, Facts()))
    async with served(app) as url, DataStorage(url, lambda: "token") as client:
        for reference in bundles[1]:
            image, _, digest = reference.partition("@")
            await client.register(RegisterWorkflow(container_image=image, container_digest=digest))
        yield client


@pytest.fixture
async def workflows(storage: DataStorage) -> dict[str, Workflow]:
    """The registered workflows by name."""
    return {w.workflow_name: w for w in (await storage.workflows()).workflows}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
def investigator(storage: DataStorage, world: World, facts: Facts) -> Any:
    """Build an investigator: ``investigator()`` uses the evidence model, ``investigator(model=…, max_tool_calls=…)`` others."""

    def make(model: InvestigationModel | None = None, **llm: Any) -> Investigator:
        return Investigator(
            model=model or EvidenceModel(world.now),
            catalog=storage,
            cluster=Cluster(world.kube),
            audit=facts,
            clock=world.now,
            llm=LlmSettings(**llm),
            analysis=AnalysisSettings(),
            metrics=Metrics(),
        )

    return make
