"""The audit routes: append one or many, and query.

A batch is stored whole or not at all. Telling an event again is success and changes nothing: events are known by their
id. Bodies are parsed from bytes in one go, because a batch of thousands is the common case.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from catalog import intake
from catalog.events import EVENT_ID, AuditQuery, Columns, check_age, columns
from kubernaut_ray.contracts.audit import AuditBatch, AuditBatchResult, AuditEvent, AuditPage
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import InvalidInput
from serve_apps.data_storage.answers import taken
from serve_apps.data_storage.deps import MAX_OFFSET, Deps, Given, instant
from serve_apps.data_storage.strict import StrictRoute
from serve_apps.http import Problem

router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=StrictRoute)

JSON = "application/json"
MAX_PROBLEMS = 50

C = TypeVar("C", bound=Contract)


@router.post("/audit/events", status_code=201, openapi_extra=taken(AuditEvent))
async def store_event(request: Request, deps: Given) -> AuditBatchResult:
    """Store one event. 201 means that it is on disk, now or since it was told before."""
    return await append(deps, columns([_parsed(AuditEvent, await _body(request))]))


@router.post("/audit/events/batch", status_code=201, openapi_extra=taken(AuditBatch))
async def store_batch(request: Request, deps: Given) -> AuditBatchResult:
    """All or nothing; ``duplicates`` were stored before."""
    body = await _body(request)
    return await append(deps, intake.read(body) or columns(_parsed(AuditBatch, body).events))


@router.get("/audit/events", response_model=AuditPage)
async def find_events(
    deps: Given,
    event_id: Annotated[str, Query(pattern=EVENT_ID)] = "",
    correlation_id: str = "",
    event_type: str = "",
    event_category: AuditCategory | None = None,
    event_outcome: AuditOutcome | None = None,
    severity: str = "",
    since: Annotated[str, Query(description="RFC 3339, or a duration such as 24h.")] = "",
    until: str = "",
    order: Annotated[str, Query(pattern="^(asc|desc)$", description="By instant; asc is oldest first.")] = "asc",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> Response:
    """Query the trail, a page at a time; filters that are left out filter nothing."""
    now = deps.now()
    query = AuditQuery(
        event_id=event_id,
        correlation_id=correlation_id,
        event_type=event_type,
        event_category=event_category,
        event_outcome=event_outcome,
        severity=severity,
        since=instant(since, "since", now) if since else None,
        until=instant(until, "until", now) if until else None,
        order="desc" if order == "desc" else "asc",
        limit=limit,
        offset=offset,
    )
    return Response(await deps.catalog.find_audit(query), media_type=JSON)


async def append(deps: Deps, events: Columns) -> AuditBatchResult:
    """Store events, or say 503: acknowledged is durable, so there is no 202. Senders keep what they have until then."""
    now = deps.now()
    check_age(events, now)
    stored = False
    try:
        result = await deps.catalog.append_columns(events)
        stored = True
        return result
    finally:
        deps.metrics.audited(events, now, stored=stored)


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != JSON:
        raise Problem(415, detail=f"send {JSON}, not {media_type or 'nothing'}")
    return await request.body()


def _parsed(model: type[C], body: bytes) -> C:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [(".".join(map(str, e["loc"])) or "body", str(e["msg"])) for e in found[:MAX_PROBLEMS]]
        raise InvalidInput(
            f"{len(found)} problem(s) in the audit events; nothing was stored", problems=tuple(problems)
        ) from error
