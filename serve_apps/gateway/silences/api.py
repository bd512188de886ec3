"""Silences over HTTP as Alertmanager's API v2 has them, for ``amtool``, Grafana, Karma and our own command line.

Errors are problems (RFC 7807), but for a client that asks for ``application/json`` and nothing else, as ``amtool`` does: it is
told in the one JSON string that Alertmanager would send, because it can show nothing else. ``DELETE`` ends a silence and
erases nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from kubernaut_ray import __version__, names
from kubernaut_ray.clock import Clock, parse_rfc3339, rfc3339, utcnow
from kubernaut_ray.contracts.silences import PATH, PostedSilence, SilenceView, State
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import SilenceState
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.matchers import Matcher, parse
from serve_apps import problem
from serve_apps.gateway.silences.changes import Changes, state
from serve_apps.gateway.silences.store import Silences
from serve_apps.gateway.silences.table import Entry
from serve_apps.http import Rule, user_of

RULES = (
    Rule("GET", f"{PATH}/silences", "list", "silences"),
    Rule("POST", f"{PATH}/silences", "create", "silences"),
    Rule("GET", f"{PATH}/silence/", "get", "silences"),
    Rule("DELETE", f"{PATH}/silence/", "delete", "silences"),
    Rule("GET", f"{PATH}/status", "list", "silences"),
)
"""Making a silence includes changing one, as in Alertmanager: a change that is none of dates makes a new one."""
SPOKEN_VERSION = "0.25.0"
"""The Alertmanager whose API this is; ``amtool`` warns when it is not its own."""

_STATES = tuple(SilenceState)
_ORDER = (SilenceState.ACTIVE, SilenceState.PENDING, SilenceState.EXPIRED)


def add_routes(
    app: FastAPI, silences: Silences, audit: AuditSink, *, now: Clock = utcnow, cluster_name: str = ""
) -> None:
    """Add the routes; ``RULES`` go to ``install``."""
    changes, started = Changes(silences, audit, now, cluster_name), now()
    router = APIRouter(prefix=PATH, route_class=_Route)

    @router.get("/silences")
    async def listed(filters: Annotated[list[str] | None, Query(alias="filter")] = None) -> Response:
        wanted = [matcher for text in filters or () for matcher in _filter(text)]
        instant = now()
        found = [view(one, instant) for one in await changes.list() if _asked(one, wanted)]
        return _json([one.to_object() for one in sorted(found, key=_rank)])

    @router.post("/silences")
    async def posted(body: PostedSilence, request: Request) -> Response:
        made = await changes.put(body, user_of(request).username)
        return _json({"silenceID": made.name})

    @router.get("/silence/{name}")
    async def one(name: str) -> Response:
        return _json(view(await changes.get(name), now()).to_object())

    @router.delete("/silence/{name}")
    async def expired(name: str, request: Request) -> Response:
        await changes.expire(name, user_of(request).username)
        return Response(status_code=200)

    @router.get("/status")
    async def status() -> Response:
        return _json(_status(started))

    app.include_router(router)


def view(silence: Silence, now: datetime) -> SilenceView:
    """Return a silence as the API shows it."""
    spec, notes = silence.spec, silence.metadata.annotations
    return SilenceView(
        id=silence.name,
        status=State(state=_state(silence, now)),
        updated_at=_updated(silence),
        comment=spec.comment,
        created_by=spec.created_by,
        ends_at=spec.ends_at,
        matchers=spec.matchers,
        starts_at=spec.starts_at,
        time_intervals=spec.time_intervals,
        silenced_count=silence.status.silenced_count,
        first_silenced_at=silence.status.first_silenced_at,
        last_silenced_at=silence.status.last_silenced_at,
        authenticated_user=notes.get(names.ANNOTATION_AUTHENTICATED_USER, ""),
    )


def _state(silence: Silence, now: datetime) -> SilenceState:
    try:
        return Entry.of(silence).state(now)
    except InvalidInput:  # It is never in force; the log says why.
        by_dates = state(silence.spec, now)
        return SilenceState.PENDING if by_dates is SilenceState.ACTIVE else by_dates


def _updated(silence: Silence) -> datetime:
    try:
        return parse_rfc3339(silence.metadata.annotations[names.ANNOTATION_UPDATED_AT])
    except (KeyError, ValueError):
        return silence.created


def _rank(one: SilenceView) -> tuple[int, float, str]:
    """Order as Alertmanager does: active by their end, pending by their start, expired the latest first."""
    match one.status.state:
        case SilenceState.ACTIVE:
            instant = one.ends_at.timestamp()
        case SilenceState.PENDING:
            instant = one.starts_at.timestamp()
        case SilenceState.EXPIRED:
            instant = -one.ends_at.timestamp()
    return _ORDER.index(one.status.state), instant, one.id


def _filter(text: str) -> tuple[Matcher, ...]:
    try:
        return parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"filter: {error}", problems=(("filter", str(error)),)) from error


def _asked(silence: Silence, wanted: list[Matcher]) -> bool:
    """Whether the silence has each of these matchers: they are compared, not applied to it, as in Alertmanager."""
    held = {(m.name, m.operator, m.value) for m in silence.spec.matchers}
    return all((m.name, m.operator, m.value) in held for m in wanted)


def _status(started: datetime) -> dict[str, Any]:
    return {
        "cluster": {"name": "", "peers": [], "status": "disabled"},
        "config": {"original": ""},
        "uptime": rfc3339(started),
        "versionInfo": {
            "branch": "kubernaut-ray",
            "buildDate": "",
            "buildUser": "",
            "goVersion": "",
            "revision": __version__,
            "version": SPOKEN_VERSION,
        },
    }


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


class _Route(APIRoute):
    """Tells clients of Alertmanager what is wrong in the only form that they show."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def told(request: Request) -> Response:
            if request.headers.get("accept", "") != "application/json":
                return await handle(request)
            try:
                return await handle(request)
            except (HTTPException, RequestValidationError, KubernautError) as error:
                answer = problem.of(error)
                if answer is None:
                    raise
                text = "; ".join([answer.detail, *(f"{path}: {what}" for path, what in answer.field_errors)])
                return Response(orjson.dumps(text), answer.status, dict(answer.headers or {}), "application/json")

        return told
