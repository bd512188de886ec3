"""Data Storage as a Ray Serve application: replicas that search in memory, in front of one catalog owner actor.

``build`` is given to Serve by ``up`` and by the Serve config; each replica connects to Kubernetes (who may call) and to the
owner when it starts. A replica holds no state: killing one loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from starlette.types import ASGIApp

from kubernaut_ray import collector, names
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import KubeClient
from serve_apps.http import KubeGate
from serve_apps.wiring import Wiring

CALL_TIMEOUT = 30.0
SLOW = {"audit_archive": 600.0}
"""Rolling months off takes as long as there are events in them."""


class ActorTransport:
    """Reaches the owner's actor by its name, anew after it was replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def call(self, method: str, payload: bytes) -> bytes:
        answer: bytes = await self._ask(SLOW.get(method, CALL_TIMEOUT), "call", method, payload)
        return answer

    async def snapshot(self, have: int) -> bytes:
        answer: bytes = await self._ask(CALL_TIMEOUT, "snapshot", have)
        return answer

    async def _ask(self, timeout: float, name: str, *args: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = ray.get_actor(names.CATALOG_OWNER_ACTOR, namespace=names.RAY_NAMESPACE)
            async with asyncio.timeout(timeout):
                return await getattr(self._handle, name).remote(*args)
        except (ValueError, TimeoutError, ray.exceptions.RayError) as error:
            self._handle = None
            raise Retryable(f"the catalog owner does not answer: {type(error).__name__}", after=1.0) from error


class DataStorageReplica:
    """What Serve starts; ``args`` as ``serve_apps.wiring`` describes them."""

    async def __init__(self, args: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits constructors
        # FAISS comes with these: imported in the replica, so that who only builds the application does without.
        from catalog.client import Catalog
        from catalog.embed import embedder_for
        from serve_apps.data_storage.app import SERVICE, create_app
        from serve_apps.data_storage.deps import Deps
        from serve_apps.data_storage.metrics import Metrics

        wiring = Wiring.parse(args)
        self._client = await KubeClient.connect(wiring.kubeconfig)
        self._audit = AuditWriter(
            wiring.endpoints.data_storage,
            wiring.token,
            wiring.settings.data_dir / "audit-spool",
            SERVICE,
            flush_interval=wiring.settings.catalog.audit_flush_interval,
        )
        metrics = Metrics()
        self._deps = Deps(
            catalog=Catalog(metrics.measured(ActorTransport()), metrics.timed(embedder_for(wiring.settings.catalog))),
            metrics=metrics,
            gate=KubeGate(self._client),
            audit=self._audit,
            trust=wiring.settings.trust,
            lifespan=self._lifespan,
        )
        self._app = create_app(self._deps)
        collector.settle()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._app

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        del app
        await self._audit.start()
        try:
            yield
        finally:
            await self._audit.close()
            await self._client.close()
            self._deps.searchers.shutdown(wait=False)


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application. Searches are CPU work on two threads; everything else waits for the owner."""
    settings = Wiring.parse(args).settings
    deployment = serve.deployment(
        name="DataStorage",
        num_replicas=settings.catalog.search_replicas,
        max_ongoing_requests=200,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=15,
    )(serve.ingress()(DataStorageReplica))
    application: serve.Application = deployment.bind(args)
    return application
