"""The gateway's HTTP face: a webhook route for each adapter, health, readiness and metrics. Knows nothing of Ray.

A webhook is answered once the RemediationRequests of all its signals are durable in the Kubernetes API. The routes are plain
ASGI endpoints rather than FastAPI's, which cost more than the rest of the hot path together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from starlette.routing import Route

from kubernaut_ray import clock
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import SignalOutcome
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from serve_apps import problem
from serve_apps.gateway.adapters import ADAPTERS, PREFIX, Adapter
from serve_apps.gateway.cluster import BreakerState
from serve_apps.gateway.intake import Intake
from serve_apps.gateway.load import Load
from serve_apps.gateway.metrics import CONTENT_TYPE, Metrics
from serve_apps.gateway.outcome import Outcome, http_status, summary
from serve_apps.gateway.signal import Delivery
from serve_apps.http import Gate, Problem, Rule, install

SERVICE = "gateway"
READ_SECONDS = 30.0
DRAIN_SECONDS = 20.0
RULES = (Rule("POST", PREFIX, "create", "signals"),)

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
        return self.intake.occurrences.healthy

    @property
    def unready(self) -> str:
        """Why traffic should go elsewhere, empty when it should not."""
        if self.load.draining:
            return "shutting down"
        if not self.healthy:
            return "not started"
        return "the Kubernetes API does not answer" if self.intake.cluster.breaker.state is BreakerState.OPEN else ""


def create_app(deps: Deps, adapters: Sequence[Adapter] = ADAPTERS) -> FastAPI:
    """Build the app. Its lifespan starts the flushing of occurrences and, at the end, drains and writes what is left."""
    limits = deps.settings.gateway
    metrics = Metrics()
    gateway = Gateway(
        Intake(deps.client, deps.settings, deps.audit, metrics, deps.now),
        Load(concurrent=limits.max_concurrent_requests, queued=limits.max_queued_requests),
        metrics,
        deps.settings,
        deps.now,
    )
    metrics.watch(
        pending=lambda: gateway.intake.occurrences.pending,
        working=lambda: gateway.load.working,
        breaker=lambda: gateway.intake.cluster.breaker.state,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await gateway.intake.cluster.kinds()
        except KubernautError as error:
            # Not fatal: the first signals read the discovery again, and are told 503 until it can be read.
            log.warning("gateway.discovery_failed", error=str(error))
        gateway.intake.start()
        yield
        await gateway.load.drained(DRAIN_SECONDS)
        await gateway.intake.stop()
        if deps.close is not None:
            await deps.close()

    app = FastAPI(title="Kubernaut gateway", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.gateway = gateway
    app.router.routes.extend(
        Route(PREFIX + adapter.route, _webhook(gateway, adapter), methods=["POST"]) for adapter in adapters
    )
    _add_probes(app, gateway)
    install(app, service=SERVICE, gate=deps.gate, rules=RULES, max_body_bytes=limits.max_body_bytes)
    return app


def _webhook(gateway: Gateway, adapter: Adapter) -> Callable[[Request], Awaitable[Response]]:
    async def take(request: Request) -> Response:
        started, status = time.perf_counter(), 500
        try:
            async with gateway.load.slot():
                response = await _take(gateway, adapter, request)
                status = response.status_code
                return response
        except Problem as error:
            status = error.status
            if status == 503:
                gateway.metrics.shed()
            raise
        finally:
            gateway.metrics.answered(adapter.route, status, time.perf_counter() - started)

    return take


async def _take(gateway: Gateway, adapter: Adapter, request: Request) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in adapter.media_types:
        raise Problem(415, detail=f"send {' or '.join(adapter.media_types)}, not {media_type or 'nothing'}")
    try:
        async with asyncio.timeout(READ_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise Problem(408, "request-timeout", detail=f"the body did not arrive within {READ_SECONDS:g}s") from None
    parsed = adapter.parse(Delivery(body, request.headers, gateway.now()))
    # The sender may give up, but what it sent is worked through: it would come again otherwise.
    try:
        async with asyncio.timeout(2 * gateway.settings.gateway.kubernetes_timeout):
            outcomes = await gateway.intake.take(parsed)
    except TimeoutError:
        raise problem.unavailable("the Kubernetes API is too slow", after=5) from None
    return _answer(outcomes, request)


def _answer(outcomes: Sequence[Outcome], request: Request) -> Response:
    status = http_status(outcomes)
    results = [outcome.to_json() for outcome in outcomes]
    if status in {400, 503}:
        return _refusal(status, outcomes, results, request)
    body = results[0] if len(results) == 1 else {"results": results, "summary": summary(outcomes)}
    return Response(orjson.dumps(body), status, media_type="application/json")


def _refusal(status: int, outcomes: Sequence[Outcome], results: list[dict[str, object]], request: Request) -> Response:
    """A problem that still lists every outcome: some may have been taken."""
    failed = [o for o in outcomes if o.status is SignalOutcome.FAILED]
    detail = f"{len(failed)} of {len(outcomes)} signals were not taken; the first: {failed[0].message}"
    if status == 503:
        answer = problem.unavailable(detail, after=5)
    else:
        answer = Problem(400, detail=detail, field_errors=[(o.signal or "signal", o.message) for o in failed[:20]])
    response = answer.response(instance=request.url.path, request_id=request.state.request_id)
    body = orjson.loads(response.body) | {"results": results, "summary": summary(outcomes)}
    response.body = orjson.dumps(body)
    response.headers["content-length"] = str(len(response.body))
    return response


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
