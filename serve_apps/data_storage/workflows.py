"""The catalog routes: search, register, list, read, change status.

Searches run on this replica's snapshot; those that take long, in threads of their own. A caller that has just changed the catalog sends the
``X-Catalog-Version`` it was answered with, and is answered from a snapshot that holds its change, on whichever replica.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import ConfigDict
from starlette.responses import Response

from catalog.etags import etag
from catalog.gaps import MIN_RELEVANCE, report
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import (
    RegisterWorkflow,
    SearchRequest,
    SearchResponse,
    StatusReason,
    Workflow,
    WorkflowPage,
    WorkflowPatch,
)
from kubernaut_ray.contracts.gaps import GapReport
from kubernaut_ray.crds.enums import AuditCategory, WorkflowStatus
from kubernaut_ray.errors import InvalidInput, Permanent
from serve_apps.data_storage import conditional, searching
from serve_apps.data_storage.answers import problems
from serve_apps.data_storage.deps import MAX_OFFSET, Deps, Given, instant
from serve_apps.data_storage.strict import StrictRoute
from serve_apps.http import Problem, user_of

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"], route_class=StrictRoute)

JSON = "application/json"
VERSION_HEADER = "X-Catalog-Version"
REGISTRY_REFUSALS = frozenset({"RegistryDenied", "RegistryRefused", "RegistryTls"})


class Change(WorkflowPatch):
    """A change as it comes in: fields that may not change are kept, so that they can be refused by name."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})


Id = Annotated[str, Path(min_length=1, max_length=253)]
Version = Annotated[int, Header(ge=0, le=2**53)]
IfMatch = Annotated[str, Header(description="ETags; the change is made only while the record is at one of them.")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is still as ``If-None-Match`` says."}}
MOVED_ON = problems(404, 412)
REGISTERED: dict[int | str, dict[str, Any]] = {
    200: {"model": Workflow, "description": "This content was registered before."},
    **problems(409),
}


@router.post("/search", response_model=SearchResponse, response_model_exclude_none=True)
async def search(asked: SearchRequest, deps: Given, x_catalog_version: Version = 0) -> Response:
    """Find workflows for an incident. ``score`` is a relevance, never a confidence.

    ``explain`` tells of every workflow left out why, ``explain_workflow`` of one exactly.
    """
    found, _ = await searching.search(deps, asked, at_least=x_catalog_version)
    return Response(found.to_json(), media_type=JSON)


@router.get("/gaps", response_model=GapReport)
async def gaps(
    deps: Given,
    since: Annotated[str, Query(description="RFC 3339, or a duration such as 7d.")] = "7d",
    limit: Annotated[int, Query(ge=1, le=100, description="How many gaps.")] = 20,
    min_relevance: Annotated[
        float,
        Query(ge=0, le=1, description="An answer less relevant than this counts as none; 0 asks for empty ones only."),
    ] = MIN_RELEVANCE,
) -> Response:
    """Report what incidents found no workflow for, how often, and which label ruled the nearest workflows out.

    Which workflow should be written next. It reads the audit trail, so it is open to those who may list audit events.
    """
    start = instant(since, "since", deps.now())
    found = await deps.catalog.search_gaps(start, min_relevance, limit)
    snapshot = await searching.snapshot_of(deps)
    told = await asyncio.get_running_loop().run_in_executor(deps.searchers, report, snapshot, found, start)
    return Response(told.model_dump_json(), media_type=JSON)


@router.post("", response_model=Workflow, status_code=201, responses=REGISTERED)
async def register(asked: RegisterWorkflow, request: Request, deps: Given) -> Response:
    """Register a bundle: 201 for a new version, 200 for one registered before, 409 for other content under its version.

    400 with ``reason`` and ``field_errors`` when the schema is wrong or is not what ``expected`` says; 503 when the registry
    is away, 502 when it refuses us.
    """
    # Who did it is who the token says; ``registered_by`` is only what the caller calls it.
    by = user_of(request).username
    try:
        workflow, created = await deps.catalog.register(asked)
    except Permanent as error:
        if error.reason in REGISTRY_REFUSALS:
            raise Problem(502, detail=str(error), reason=error.reason) from error
        raise
    if created:
        more = {"registered_by": asked.registered_by, "source": asked.source}
        fact = _changed(deps, "datastorage.workflow.created", workflow, by, **more)
        await deps.audit.record(fact)
    headers = {
        VERSION_HEADER: str(deps.catalog.version),
        "Location": f"{request.scope.get('root_path', '')}{router.prefix}/{workflow.workflow_id}",
    }
    body = workflow.model_dump_json(exclude_none=True)
    return Response(body, 201 if created else 200, headers=headers, media_type=JSON)


@router.get("", response_model=WorkflowPage, responses=NOT_MODIFIED)
async def listing(
    request: Request,
    deps: Given,
    status: WorkflowStatus | None = None,
    name: Annotated[str, Query(max_length=253, description="Exactly this workflow_name.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> Response:
    """List workflows by name and version, with an ETag: send it as ``If-None-Match`` and get 304 while nothing changed."""
    wanted = status.value if status else ""
    page = await deps.catalog.workflows(status=wanted, name=name, limit=limit, offset=offset)
    return conditional.answer(request, page)


@router.get("/{workflow_id}", response_model=Workflow, responses={**NOT_MODIFIED, **problems(404)})
async def read(workflow_id: Id, request: Request, deps: Given) -> Response:
    """Read one workflow version with its statistics and its ETag, which changes with its status and statistics."""
    return conditional.answer(request, await deps.catalog.workflow(workflow_id))


@router.patch("/{workflow_id}", response_model=Workflow, responses=MOVED_ON)
async def patch(workflow_id: Id, change: Change, request: Request, deps: Given, if_match: IfMatch = "") -> Response:
    """Change what may change: the status, with a reason; any other field is refused by name.

    With ``If-Match`` only if the record is still at that ETag.
    """
    _refuse_other_fields(change)
    return await _patch(workflow_id, change, request, deps, if_match)


@router.patch("/{workflow_id}/disable", response_model=Workflow, responses=MOVED_ON)
async def disable(
    workflow_id: Id,
    request: Request,
    deps: Given,
    why: StatusReason | None = None,
    reason: Annotated[str, Query(max_length=1024)] = "",
    if_match: IfMatch = "",
) -> Response:
    """Offer it no more. The reason comes in the body, or as a parameter where a body is inconvenient."""
    change = WorkflowPatch(status=WorkflowStatus.DISABLED, reason=(why.reason if why else "") or reason)
    return await _patch(workflow_id, change, request, deps, if_match)


@router.patch("/{workflow_id}/enable", response_model=Workflow, responses=MOVED_ON)
async def enable(
    workflow_id: Id,
    request: Request,
    deps: Given,
    why: StatusReason | None = None,
    reason: Annotated[str, Query(max_length=1024)] = "",
    if_match: IfMatch = "",
) -> Response:
    """Offer it again: the counterpart of disable, with a reason too."""
    change = WorkflowPatch(status=WorkflowStatus.ACTIVE, reason=(why.reason if why else "") or reason)
    return await _patch(workflow_id, change, request, deps, if_match)


def _refuse_other_fields(change: Change) -> None:
    """Raise ``InvalidInput`` that names every field that nobody may change, and every one that does not exist."""
    may = ", ".join(WorkflowPatch.model_fields)
    problems = [
        (f"body.{name}", "is immutable; register a new version of the workflow")
        if name in Workflow.model_fields
        else (f"body.{name}", f"no such field; what may change: {may}")
        for name in change.model_extra or {}
    ]
    if problems:
        told = "; ".join(f"{name}: {what}" for name, what in problems)
        raise InvalidInput(f"only the status of a registered workflow may change: {told}", problems=tuple(problems))


async def _patch(workflow_id: str, change: WorkflowPatch, request: Request, deps: Deps, if_match: str) -> Response:
    by = user_of(request).username
    told = WorkflowPatch(status=change.status, reason=change.reason)
    workflow = await deps.catalog.patch(workflow_id, told, change.source or by, conditional.expected(if_match))
    await deps.audit.record(_changed(deps, "datastorage.workflow.updated", workflow, by, source=change.source))
    body = workflow.model_dump_json(exclude_none=True).encode()
    headers = {VERSION_HEADER: str(deps.catalog.version), "etag": etag(body)}
    return Response(body, headers=headers, media_type=JSON)


def _changed(deps: Deps, event_type: str, workflow: Workflow, by: str, **more: str) -> AuditEvent:
    return AuditEvent.fact(
        event_type,
        correlation_id=workflow.workflow_id,
        category=AuditCategory.WORKFLOW,
        now=deps.now(),
        actor=by,
        key=(str(workflow.updated_at), workflow.status.value),
        actor_type="user",
        resource_type="Workflow",
        resource_id=workflow.workflow_id,
        event_data={
            "workflow_name": workflow.workflow_name,
            "version": workflow.version,
            "container_image": workflow.pinned_image,
            "status": workflow.status.value,
            "reason": workflow.status_changed_reason,
            **more,
        },
    )
