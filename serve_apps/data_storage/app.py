"""Data Storage's HTTP API (contracts 12.1), as a FastAPI app without Ray.

``create_app`` is called by ``serve.py`` in each replica and by tests. Searches run here on a snapshot held in memory;
everything else goes to the catalog owner. Nothing the database says reaches a caller.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from catalog.errors import Conflict, NotFound
from kubernaut_ray.errors import Retryable
from serve_apps.data_storage import audit, executions, investigations, ledger, timeline, workflows
from serve_apps.data_storage.deps import Deps, Given
from serve_apps.http import Problem, Rule, install

SERVICE = "data-storage"
MAX_BODY_BYTES = 8 << 20
"""A batch of audit events is the largest thing anybody sends."""

RULES = (
    Rule("POST", "/api/v1/audit/checkpoint", "update", "auditevents"),
    Rule("POST", "/api/v1/audit/archive", "delete", "auditevents"),
    Rule("PUT", "/api/v1/audit/holds/", "update", "auditevents"),
    Rule("DELETE", "/api/v1/audit/holds/", "update", "auditevents"),
    Rule("POST", "/api/v1/audit/", "create", "auditevents"),
    Rule("GET", "/api/v1/audit/", "list", "auditevents"),
    Rule("GET", "/api/v1/remediations/", "list", "auditevents"),
    Rule("POST", "/api/v1/workflows/search", "list", "workflows"),
    Rule("POST", "/api/v1/workflows", "create", "workflows"),
    Rule("GET", "/api/v1/workflows/", "get", "workflows"),
    Rule("GET", "/api/v1/workflows", "list", "workflows"),
    Rule("PATCH", "/api/v1/workflows/", "update", "workflows"),
    Rule("PUT", "/api/v1/investigations/", "create", "investigations"),
    Rule("GET", "/api/v1/investigations/", "get", "investigations"),
    Rule("POST", "/api/v1/executions", "update", "workflows"),
    Rule("GET", "/api/v1/executions/", "list", "workflows"),
    Rule("GET", "/openapi.json", "list", "workflows"),
)


def create_app(deps: Deps) -> FastAPI:
    """Build the app around its dependencies."""
    app = FastAPI(title="Kubernaut Data Storage", version="1", docs_url=None, redoc_url=None, lifespan=deps.lifespan)
    app.state.deps = deps
    app.include_router(audit.router)
    app.include_router(ledger.router)
    app.include_router(timeline.router)
    app.include_router(workflows.router)
    app.include_router(investigations.router)
    app.include_router(executions.router)
    app.add_api_route("/health", _health, tags=["health"])
    app.add_api_route("/ready", _ready, tags=["health"])
    install(app, service=SERVICE, gate=deps.gate, rules=RULES, max_body_bytes=MAX_BODY_BYTES)
    app.add_exception_handler(NotFound, _refuse)
    app.add_exception_handler(Conflict, _refuse)
    return app


async def _health() -> dict[str, str]:
    """Say that this process lives; nothing else is asked."""
    return {"status": "ok"}


async def _ready(deps: Given) -> dict[str, object]:
    """Say that the owner answers and a snapshot is loaded; 503 until then."""
    try:
        snapshot = await deps.catalog.snapshot()
    except Retryable as error:
        raise Problem(503, detail=f"not ready: {error}", headers={"Retry-After": "1"}) from error
    return {"status": "ready", "snapshot_version": snapshot.version, "workflows": len(snapshot.index)}


async def _refuse(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotFound) else 409
    problem = Problem(status, detail=str(error))
    return problem.response(instance=request.url.path, request_id=request.state.request_id)
