"""The HolmesGPT-API's HTTP face: sessions, the two synchronous routes, health, readiness, configuration, metrics. No Ray here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Response

from kubernaut_ray.clock import Clock, rfc3339
from kubernaut_ray.contracts.investigation import (
    IncidentRequest,
    IncidentResponse,
    InvestigationSession,
    StartInvestigation,
)
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import Settings
from serve_apps import problem
from serve_apps.holmesgpt.investigate import Investigator
from serve_apps.holmesgpt.metrics import CONTENT_TYPE, Metrics
from serve_apps.holmesgpt.sessions import Sessions
from serve_apps.http import Gate, Problem, Rule, install

SERVICE = "holmesgpt"
MAX_BODY_BYTES = 1 << 20
READY_SECONDS = 5.0
"""How long an answer about readiness is kept."""
RULES = (
    Rule("POST", "/api/v1/investigations", "create", "investigations"),
    Rule("POST", "/api/v1/incident/analyze", "create", "investigations"),
    Rule("POST", "/api/v1/recovery/analyze", "create", "investigations"),
    Rule("GET", "/api/v1/investigations", "get", "investigations"),
    Rule("GET", "/config", "get", "investigations"),
)


@dataclass(frozen=True, slots=True)
class Deps:
    """What the service works with. ``reach`` asks what it cannot do without, and raises when it is away."""

    investigator: Investigator
    sessions: Sessions
    settings: Settings
    gate: Gate | None
    """``None`` trusts every caller; only for tests in one process."""
    clock: Clock
    metrics: Metrics
    reach: Callable[[], Awaitable[Any]]
    close: Callable[[], Awaitable[None]]
    """Called when the sessions are released, to let go of clients and the audit sink."""


def create_app(deps: Deps) -> FastAPI:
    """Build the app. At the end of its lifespan sessions in work are released for other replicas."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await deps.sessions.close()
        await deps.close()

    app = FastAPI(title="HolmesGPT API", docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_investigations(app, deps)
    _add_probes(app, deps)
    install(app, service=SERVICE, gate=deps.gate, rules=RULES, max_body_bytes=MAX_BODY_BYTES)
    return app


def _add_investigations(app: FastAPI, deps: Deps) -> None:
    @app.post("/api/v1/investigations", status_code=202, response_model_exclude_none=True)
    async def start(asked: StartInvestigation) -> InvestigationSession:
        """Start an investigation, or return the one that this id already has."""
        return await deps.sessions.start(asked.session_id, asked.request)

    @app.get("/api/v1/investigations/{session_id}", response_model_exclude_none=True)
    async def look(session_id: str) -> InvestigationSession:
        session = await deps.sessions.look(session_id)
        if session is None:
            raise Problem(
                404, detail=f"there is no investigation {session_id}; start it with POST /api/v1/investigations"
            )
        return session

    @app.post("/api/v1/incident/analyze", response_model_exclude_none=True)
    async def analyze_incident(request: IncidentRequest) -> IncidentResponse:
        """Investigate and answer in one request; it lasts as long as the investigation."""
        return await _analyze(deps, request)

    @app.post("/api/v1/recovery/analyze", response_model_exclude_none=True)
    async def analyze_recovery(request: IncidentRequest) -> IncidentResponse:
        """The same after failed attempts, which ``previous_executions`` tells of, the first one first."""
        if not request.previous_executions:
            raise InvalidInput(
                "a recovery needs previous_executions; without one, POST /api/v1/incident/analyze",
                problems=(("previous_executions", "empty"),),
            )
        return await _analyze(deps, request)


async def _analyze(deps: Deps, request: IncidentRequest) -> IncidentResponse:
    try:
        return await deps.sessions.run(request, f"sync-{rfc3339(deps.clock())}")
    except KubernautError as error:
        if problem.of(error) is not None:
            raise
        raise Problem(422, detail=redact(str(error))) from error


def _add_probes(app: FastAPI, deps: Deps) -> None:
    checked = float("-inf")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": deps.investigator.model.name}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        nonlocal checked
        if time.monotonic() - checked > READY_SECONDS:
            try:
                await deps.reach()
            except KubernautError as error:
                raise problem.unavailable(f"not ready: {error}", after=2) from error
            checked = time.monotonic()
        return {"status": "ready"}

    @app.get("/config")
    async def config() -> dict[str, Any]:
        """What this replica works with; never a key."""
        llm = deps.settings.llm
        return {
            "model": deps.investigator.model.name,
            "is_llm": deps.investigator.model.is_llm,
            "llm": {
                **llm.model_dump(mode="json", exclude={"api_key", "base_url"}),
                "base_url": redact(llm.base_url),
                "api_key_set": llm.api_key is not None,
            },
            "review_threshold": deps.settings.analysis.review_threshold,
            "approval_threshold": deps.settings.analysis.approval_threshold,
            "sessions_active": deps.sessions.active,
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(deps.metrics.render(active=deps.sessions.active), media_type=CONTENT_TYPE)
