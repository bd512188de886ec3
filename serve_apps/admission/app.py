"""The admission webhook's routes: ``POST /mutate`` and ``POST /validate``, asked by the API server and by nobody else.

The API server shows a bearer token that it was given for us (``admission.caller_token``). Answers are AdmissionReviews, also
when something we depend on is away: then the write is refused with a reason, never let through. Knows nothing of Ray.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import structlog
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp

from kubernaut_ray.crds import RemediationApprovalRequest, RemediationRequest, WorkflowExecution
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import UserInfo
from serve_apps.admission import approvals, clearances, fencing, requesters, review
from serve_apps.admission.approvals import Desk
from serve_apps.admission.fencing import Leases
from serve_apps.admission.review import Allowed, Denied, Verdict
from serve_apps.http import Rule, install

SERVICE = "admission"
API_SERVER = UserInfo("system:apiserver")
MAX_BODY_BYTES = 8 * 2**20
"""An AdmissionReview holds the object twice."""
RULES = (
    Rule("POST", "/mutate", "create", "admissionreviews"),
    Rule("POST", "/validate", "create", "admissionreviews"),
)
_JSON = "application/json"

log = structlog.get_logger(__name__)
Listening = Callable[[ASGIApp], AbstractAsyncContextManager[None]]


class CallerGate:
    """Knows the API server by its token and nobody else. Without a token file anybody is taken for it."""

    def __init__(self, token_file: Path | None) -> None:
        self._file = token_file

    async def authenticate(self, token: str) -> UserInfo | None:
        if self._file is None:
            return API_SERVER
        wanted = self._file.read_text().strip()
        return API_SERVER if wanted and hmac.compare_digest(wanted.encode(), token.encode()) else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return (user, verb, resource) == (API_SERVER, "create", "admissionreviews")


@dataclass(frozen=True, slots=True)
class Deps:
    """What the webhook works with. ``listening`` serves the app over TLS while it runs; ``close`` lets go of the clients."""

    desk: Desk
    leases: Leases
    caller_token: Path | None = None
    listening: Listening = lambda _: nullcontext()
    close: Callable[[], Awaitable[None]] | None = None


def create_app(deps: Deps) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with deps.listening(app):
                yield
        finally:
            if deps.close is not None:
                await deps.close()

    app = FastAPI(title="Kubernaut admission", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/health")
    @app.get("/healthz")
    @app.get("/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/mutate")
    async def mutate(request: Request) -> Response:
        return await _reviewed(request, deps, mutating=True)

    @app.post("/validate")
    async def validate(request: Request) -> Response:
        return await _reviewed(request, deps, mutating=False)

    open_paths = () if deps.caller_token is not None else ("/mutate", "/validate")
    install(
        app,
        service=SERVICE,
        gate=CallerGate(deps.caller_token),
        rules=RULES,
        max_body_bytes=MAX_BODY_BYTES,
        open_paths=open_paths,
    )
    return app


async def _reviewed(request: Request, deps: Deps, *, mutating: bool) -> Response:
    asked = review.read(await request.body())
    try:
        verdict = await _verdict(asked, deps, mutating=mutating)
    except KubernautError as error:
        log.warning("admission.unanswered", name=asked.name, by=asked.user_info.username, error=str(error))
        verdict = Denied(
            f"this cannot be checked now, so it is refused: {error}", reason="ServiceUnavailable", code=503
        )
    if isinstance(verdict, Denied):
        log.info("admission.denied", name=asked.name, by=asked.user_info.username, why=verdict.why)
    return Response(review.answer(asked, verdict), media_type=_JSON)


async def _verdict(asked: review.Request, deps: Deps, *, mutating: bool) -> Verdict:
    if (asked.resource.group, asked.resource.resource) in fencing.RUNS:
        creates = asked.operation == "CREATE" and not asked.sub_resource and not mutating
        return await fencing.judge(asked, deps.leases) if creates else Allowed()
    match (asked.resource.resource, asked.sub_resource, asked.operation):
        case (RemediationApprovalRequest.META.plural, "status", "UPDATE"):
            return await (approvals.stamp if mutating else approvals.judge)(asked, deps.desk)
        case (WorkflowExecution.META.plural, "status", "UPDATE"):
            return clearances.stamp(asked, deps.desk.now) if mutating else clearances.judge(asked)
        case (RemediationRequest.META.plural, "", "CREATE" | "UPDATE") if mutating:
            return requesters.stamp(asked)
        case _:
            return Allowed()
