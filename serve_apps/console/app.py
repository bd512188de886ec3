"""The console's routes: the list, one remediation, a decision, and logging in. Pages for people; Knows nothing of Ray.

Every page needs a token with ``get console`` (by header, or by the session cookie that the login form sets), and a decision
one with ``update approvals``. What it shows comes from the Kubernetes API and, for the audit trail, from Data Storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from kubernaut_ray import clock
from kubernaut_ray.contracts.timeline import Timeline
from kubernaut_ray.crds.affected import affected, by_workload
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.errors import KubernautError, Retryable
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.settings import Settings
from serve_apps.console import incidents, session, views
from serve_apps.console.decide import Result, decide
from serve_apps.console.pages import STATIC, Pages
from serve_apps.http import Gate, Problem, Rule, install, user_of

SERVICE = "console"
MAX_FORM_BYTES = 16_384
TIMELINE_SECONDS = 3.0
RULES = (
    Rule("POST", "/approvals/", "update", "approvals"),
    Rule("POST", "/logout", "get", "console"),
    Rule("GET", "/", "get", "console"),
    Rule("HEAD", "/", "get", "console"),
)
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LIST_REGIONS = ("list",)
DETAIL_REGIONS = ("head", "approval", "steps", "analysis", "execution", "members", "notifications", "signal", "trail")

log = structlog.get_logger(__name__)


class Timelines(Protocol):
    """Where the audit trail of one remediation comes from."""

    async def timeline(self, remediation: str) -> Timeline: ...


@dataclass(frozen=True, slots=True)
class Deps:
    """What the console works with. ``close`` is called at the end, to let go of the clients."""

    client: KubeClient
    settings: Settings
    timelines: Timelines
    gate: Gate
    now: clock.Clock = clock.utcnow
    close: Callable[[], Awaitable[None]] | None = None


def create_app(deps: Deps) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if deps.close is not None:
            await deps.close()

    app = FastAPI(title="Kubernaut console", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    pages = Pages(deps.settings.cluster_name)
    _add_probes(app)
    _add_list(app, deps, pages)
    _add_detail(app, deps, pages)
    _add_decision(app, deps)
    _add_session(app, deps, pages)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    install(
        app,
        service=SERVICE,
        gate=deps.gate,
        rules=RULES,
        max_body_bytes=MAX_FORM_BYTES,
        cookie=session.COOKIE,
        open_paths=("/login", "/static/"),
        login_path="/login",
        content_security_policy=CONTENT_SECURITY_POLICY,
    )
    return app


def _add_probes(app: FastAPI) -> None:
    @app.get("/health")
    @app.get("/healthz")
    @app.get("/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}


def _add_list(app: FastAPI, deps: Deps, pages: Pages) -> None:
    async def context(show: views.Filter, q: str) -> dict[str, object]:
        found, unreadable = await incidents.everything(deps.client, deps.settings.namespace)
        # A hand-made link may hold any text; the listing only compares with it.
        return {
            "listing": views.listing(found, show, q[:200]),
            "unreadable": unreadable,
            "show": show,
            "query": q[:200],
        }

    @app.get("/", response_class=HTMLResponse)
    async def remediations(request: Request, show: views.Filter = views.Filter.ALL, q: str = "") -> HTMLResponse:
        return HTMLResponse(pages.page(request, "list.html", LIST_REGIONS, **await context(show, q)))

    @app.get("/live", response_class=HTMLResponse)
    async def live(request: Request, show: views.Filter = views.Filter.ALL, q: str = "") -> Response:
        return _changes(pages.changed(request, LIST_REGIONS, **await context(show, q)))


def _add_detail(app: FastAPI, deps: Deps, pages: Pages) -> None:
    async def context(name: str) -> dict[str, object]:
        found, trail = await asyncio.gather(
            incidents.incident(deps.client, deps.settings.namespace, name), _trail(deps.timelines, name)
        )
        now = deps.now()
        return {
            "incident": found,
            "rr": found.remediation,
            "analysis": found.analyses[-1] if found.analyses else None,
            "approval": views.approval(found, now),
            "steps": views.steps(found.remediation, now),
            "affected": affected(found.remediation.status.members),
            "workloads": by_workload(found.remediation.status.members),
            "bar_width": views.BAR_WIDTH,
            "trail": trail,
        }

    @app.get("/remediations/{name}", response_class=HTMLResponse)
    async def remediation(request: Request, name: str, result: Result | None = None) -> HTMLResponse:
        try:
            shown = await context(name)
        except (NotFound, ValidationError) as error:
            missing = isinstance(error, NotFound)
            html = pages.page(request, "missing.html", name=name, why="" if missing else str(error))
            return HTMLResponse(html, 404 if missing else 500)
        return HTMLResponse(pages.page(request, "detail.html", DETAIL_REGIONS, result=result, **shown))

    @app.get("/remediations/{name}/live", response_class=HTMLResponse)
    async def live(request: Request, name: str) -> Response:
        try:
            return _changes(pages.changed(request, DETAIL_REGIONS, **await context(name)))
        except (NotFound, ValidationError):
            return Response(status_code=204)  # It was deleted while the page is open; what is shown stays.


def _changes(html: str) -> Response:
    return HTMLResponse(html) if html else Response(status_code=204)


async def _trail(timelines: Timelines, name: str) -> Timeline | None:
    """Return the audit trail, or ``None`` when Data Storage is away: the page is worth showing without it."""
    try:
        async with asyncio.timeout(TIMELINE_SECONDS):
            return await timelines.timeline(name)
    except (KubernautError, TimeoutError) as error:
        log.warning("console.timeline_unavailable", remediation=name, error=str(error))
        return None


def _add_decision(app: FastAPI, deps: Deps) -> None:
    @app.post("/approvals/{name}")
    async def decision(request: Request, name: str) -> Response:
        form = await session.read_form(request)
        session.check_form_token(request, form)
        try:
            wanted = ApprovalDecision(form.get("decision", ""))
        except ValueError:
            wanted = ApprovalDecision.NONE
        if wanted not in {ApprovalDecision.APPROVED, ApprovalDecision.REJECTED}:
            raise Problem(400, detail="decision must be Approved or Rejected")
        result = await decide(
            deps.client,
            deps.settings.namespace,
            name,
            wanted,
            form.get("message", ""),
            user_of(request),
            deps.now(),
            as_person=deps.client.bearing(session.token_of(request)) if deps.settings.admission.required else None,
        )
        log.info("console.decision", approval=name, decision=wanted, result=result, by=user_of(request).username)
        back = f"/remediations/{form['remediation']}" if _is_name(form.get("remediation", "")) else "/"
        query = urlencode({"result": result.value}) if back != "/" else ""
        return _redirect(request, f"{back}?{query}" if query else back)


def _add_session(app: FastAPI, deps: Deps, pages: Pages) -> None:
    @app.get("/login", response_class=HTMLResponse)
    async def form(request: Request) -> HTMLResponse:
        return HTMLResponse(pages.page(request, "login.html", failed=""))

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        token = (await session.read_form(request)).get("token", "").strip()
        try:
            user = await deps.gate.authenticate(token) if token else None
            welcome = user is not None and await deps.gate.authorize(user, "get", "console")
        except Retryable as error:
            return HTMLResponse(pages.page(request, "login.html", failed=f"Try again: {error}"), 503)
        if not welcome:
            why = "This token may not use the console." if user else "This token is not accepted."
            return HTMLResponse(pages.page(request, "login.html", failed=why), 403)
        response = _redirect(request, "/")
        session.log_in(request, response, token)
        return response

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        session.check_form_token(request, await session.read_form(request))
        response = _redirect(request, "/login")
        session.log_out(request, response)
        return response


def _redirect(request: Request, path: str) -> RedirectResponse:
    return RedirectResponse(request.scope.get("root_path", "") + path, status_code=303)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 253 and all(c.isascii() and (c.isalnum() or c in "-.") for c in text)
