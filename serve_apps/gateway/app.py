"""The gateway's HTTP face: a webhook route for each adapter, health, readiness and metrics. Knows nothing of Ray.

A webhook is answered once the RemediationRequests of all its signals are durable in the Kubernetes API; ``door`` takes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request, Response
from starlette.routing import Route

from kubernaut_ray import clock
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from serve_apps import problem
from serve_apps.gateway.adapters import PREFIX, Adapter
from serve_apps.gateway.adapters import adapters as adapters_of
from serve_apps.gateway.cluster import BreakerState
from serve_apps.gateway.door import RESOURCE, VERB, Before, Door
from serve_apps.gateway.intake import Intake
from serve_apps.gateway.listen import listening
from serve_apps.gateway.load import Load
from serve_apps.gateway.metrics import CONTENT_TYPE, Metrics
from serve_apps.gateway.silences import api
from serve_apps.http import Gate, Problem, Rule, install

SERVICE = "gateway"
DRAIN_SECONDS = 20.0
RULES = (Rule("POST", PREFIX, VERB, RESOURCE), *api.RULES)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    """What the gateway works with. ``close`` is called when the app has drained, to let go of client and audit sink."""

    client: KubeClient
    settings: Settings
    audit: AuditSink
    gate: Gate | None
    """``None`` trusts every caller; only for tests in one process."""
    now: clock.Clock = clock.utcnow
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one running gateway, at ``app.state.gateway``."""

    intake: Intake
    load: Load
    metrics: Metrics
    settings: Settings
    now: clock.Clock

    @property
    def healthy(self) -> bool:
        return self.intake.occurrences.healthy and self.intake.locator.healthy

    @property
    def unready(self) -> str:
        """Why traffic should go elsewhere, empty when it should not."""
        if self.load.draining:
            return "shutting down"
        if not self.healthy:
            return "not started"
        return "the Kubernetes API does not answer" if self.intake.cluster.breaker.state is BreakerState.OPEN else ""


def create_app(deps: Deps, adapters: Sequence[Adapter] | None = None) -> FastAPI:
    """Build the app. Its lifespan starts the flushing of occurrences and, at the end, drains and writes what is left."""
    limits = deps.settings.gateway
    sources = tuple(adapters or adapters_of(deps.settings))
    metrics = Metrics()
    gateway = Gateway(
        Intake(deps.client, deps.settings, deps.audit, metrics, deps.now),
        Load(concurrent=limits.max_concurrent_requests, queued=limits.max_queued_requests),
        metrics,
        deps.settings,
        deps.now,
    )
    door = Door(
        intake=gateway.intake,
        adapters=sources,
        gate=deps.gate,
        load=gateway.load,
        metrics=metrics,
        settings=limits,
        now=deps.now,
    )
    metrics.watch(
        pending=lambda: gateway.intake.occurrences.pending,
        working=lambda: gateway.load.working,
        breaker=lambda: gateway.intake.cluster.breaker.state,
        storms=lambda: gateway.intake.storms.active(deps.now()),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await gateway.intake.cluster.kinds()
        except KubernautError as error:
            # Not fatal: the first signals read the discovery again, and are told 503 until it can be read.
            log.warning("gateway.discovery_failed", error=str(error))
        async with AsyncExitStack() as ends:
            if deps.close is not None:
                ends.push_async_callback(deps.close)
            ends.push_async_callback(gateway.intake.stop)
            await gateway.intake.start()
            if limits.port:
                # The same door as for Ray Serve's way in, without the framework's layers around it.
                own = listening(Before(app, door=door), deps.settings.server.host, limits.port)
                await ends.enter_async_context(own)
            yield
            await gateway.load.drained(DRAIN_SECONDS)

    app = FastAPI(title="Kubernaut gateway", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.gateway = gateway
    # The door takes every POST on these before the router sees it; they are here so that other methods are told 405.
    app.router.routes.extend(Route(PREFIX + one.route, _unreached, methods=["POST"]) for one in sources)
    _add_probes(app, gateway)
    api.add_routes(
        app, gateway.intake.locator.silences, deps.audit, now=deps.now, cluster_name=deps.settings.cluster_name
    )
    install(app, service=SERVICE, gate=deps.gate, rules=RULES, max_body_bytes=limits.max_body_bytes, basic=True)
    app.add_middleware(Before, door=door)
    return app


async def _unreached(request: Request) -> Response:
    raise Problem(405, detail=f"POST {request.url.path} is served at the door")


def _add_probes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health")
    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        if why := gateway.unready:
            raise problem.unavailable(why, after=1)
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(gateway.metrics.render(), media_type=CONTENT_TYPE)
