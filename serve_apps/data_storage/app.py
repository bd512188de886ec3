"""Data Storage's HTTP API (contracts 12.1), as a FastAPI app without Ray.

``create_app`` is called by ``serve.py`` in each replica and by tests. Searches run here on a snapshot held in memory;
everything else goes to the catalog owner. Nothing the database says reaches a caller.
"""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from catalog.errors import Conflict, NotFound, PreconditionFailed
from kubernaut_ray.errors import InvalidInput, Retryable
from serve_apps import problem
from serve_apps.data_storage import (
    audit,
    backups,
    effectiveness,
    executions,
    investigations,
    ledger,
    notifications,
    timeline,
    workflows,
)
from serve_apps.data_storage.answers import refusals, unavailable
from serve_apps.data_storage.conditional import Head
from serve_apps.data_storage.deps import Deps, Given, Lifespan
from serve_apps.data_storage.mcp_route import McpRoute
from serve_apps.data_storage.metrics import CONTENT_TYPE, problems_of
from serve_apps.data_storage.openapi import document, operation_id
from serve_apps.data_storage.searching import snapshot_of
from serve_apps.http import Problem, Rule, install

SERVICE = "data-storage"
MAX_BODY_BYTES = 8 << 20
"""A batch of audit events is the largest thing anybody sends."""

RULES = (
    Rule("POST", "/api/v1/backups", "create", "backups"),
    Rule("GET", "/api/v1/backups/", "get", "backups"),
    Rule("DELETE", "/api/v1/backups/", "delete", "backups"),
    Rule("POST", "/api/v1/audit/checkpoint", "update", "auditevents"),
    Rule("POST", "/api/v1/audit/archive", "delete", "auditevents"),
    Rule("PUT", "/api/v1/audit/holds/", "update", "auditevents"),
    Rule("DELETE", "/api/v1/audit/holds/", "update", "auditevents"),
    Rule("POST", "/api/v1/audit/", "create", "auditevents"),
    Rule("GET", "/api/v1/audit/", "list", "auditevents"),
    Rule("GET", "/api/v1/remediations/", "list", "auditevents"),
    Rule("POST", "/api/v1/workflows/search", "list", "workflows"),
    Rule("GET", "/api/v1/workflows/gaps", "list", "auditevents"),
    Rule("POST", "/api/v1/workflows", "create", "workflows"),
    Rule("GET", "/api/v1/workflows/", "get", "workflows"),
    Rule("GET", "/api/v1/workflows", "list", "workflows"),
    Rule("PATCH", "/api/v1/workflows/", "update", "workflows"),
    Rule("PUT", "/api/v1/investigations/", "create", "investigations"),
    Rule("GET", "/api/v1/investigations/", "get", "investigations"),
    Rule("POST", "/api/v1/executions", "update", "workflows"),
    Rule("GET", "/api/v1/executions/", "list", "workflows"),
    Rule("POST", "/api/v1/effectiveness", "update", "workflows"),
    Rule("GET", "/api/v1/effectiveness/", "get", "workflows"),
    Rule("GET", "/openapi.json", "list", "workflows"),
    Rule("POST", "/mcp", "list", "workflows"),
)


OPEN_PATHS = ("/health/live", "/health/ready")


def create_app(deps: Deps) -> FastAPI:
    """Build the app around its dependencies."""
    app = describe(lifespan=deps.lifespan)
    app.state.deps = deps
    install(
        app,
        service=SERVICE,
        gate=deps.gate,
        rules=RULES,
        max_body_bytes=MAX_BODY_BYTES,
        open_paths=OPEN_PATHS,
        cache_control="no-store",
    )
    app.add_middleware(Head)
    app.add_exception_handler(NotFound, _refuse)
    app.add_exception_handler(Conflict, _refuse)
    app.add_exception_handler(PreconditionFailed, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_input)
    app.add_exception_handler(InvalidInput, _refuse_input)
    return app


def describe(lifespan: Lifespan | None = None) -> FastAPI:
    """Return the routes without anything behind them: all that the OpenAPI document needs."""
    app = FastAPI(
        title="Kubernaut Data Storage",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
    )
    # Routes are tried in turn: those that are asked most come first.
    parts = (workflows, audit, ledger, timeline, notifications, investigations, executions, effectiveness, backups)
    for part in parts:
        app.include_router(part.router, responses=refusals())
    for path in ("/health", "/health/live"):
        app.add_api_route(path, _health, tags=["health"], name=path.strip("/").replace("/", "_"))
    for path in ("/ready", "/health/ready"):
        app.add_api_route(
            path, _ready, tags=["health"], name=path.strip("/").replace("/", "_"), responses=unavailable()
        )
    app.add_api_route("/metrics", _metrics, tags=["health"], name="metrics", response_class=PlainTextResponse)
    app.router.routes.append(Route("/mcp", McpRoute(), methods=["POST"], include_in_schema=False))
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # how FastAPI wants it replaced
    return app


async def _health() -> dict[str, str]:
    """Say that this process lives; nothing else is asked."""
    return {"status": "ok"}


async def _ready(deps: Given) -> dict[str, object]:
    """Say that the owner answers and a snapshot is loaded; 503 until then."""
    try:
        snapshot = await snapshot_of(deps)
    except Retryable as error:
        raise Problem(503, detail=f"not ready: {error}", headers={"Retry-After": "1"}) from error
    return {"status": "ready", "snapshot_version": snapshot.version, "workflows": len(snapshot.index)}


async def _metrics(deps: Given) -> Response:
    """Tell this replica's metrics in the Prometheus text format."""
    return Response(deps.metrics.render(), media_type=CONTENT_TYPE)


async def _refuse(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotFound) else 412 if isinstance(error, PreconditionFailed) else 409
    return _answer(request, Problem(status, detail=str(error)))


async def _refuse_input(request: Request, error: Exception) -> Response:
    deps: Deps = request.app.state.deps
    if isinstance(error, RequestValidationError):
        deps.metrics.refused(problems_of(error.errors()))
    elif isinstance(error.__cause__, ValidationError):
        found = error.__cause__.errors(include_url=False, include_context=False, include_input=False)
        deps.metrics.refused(problems_of(found))
    elif isinstance(error, InvalidInput):
        deps.metrics.refused((path, "refused") for path, _ in error.problems)
    answer = problem.of(error)
    assert answer is not None  # noqa: S101 - both kinds have one
    return _answer(request, answer)


def _answer(request: Request, answer: Problem) -> Response:
    return answer.response(instance=request.url.path, request_id=request.state.request_id)
