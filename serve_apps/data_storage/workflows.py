"""The catalog routes: search, register, list, read, change status.

Searches run on this replica's snapshot; those that take long, in threads of their own. A caller that has just changed the catalog sends the
``X-Catalog-Version`` it was answered with, and is answered from a snapshot that holds its change, on whichever replica.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from catalog.search import Found
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import (
    RegisterWorkflow,
    SearchRequest,
    SearchResponse,
    Workflow,
    WorkflowPage,
    WorkflowPatch,
)
from kubernaut_ray.crds.enums import AuditCategory, WorkflowStatus
from kubernaut_ray.errors import InvalidInput
from serve_apps.data_storage.deps import Deps, Given
from serve_apps.http import user_of

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"])

JSON = "application/json"
VERSION_HEADER = "X-Catalog-Version"


@router.post("/search", response_model=SearchResponse)
async def search(asked: SearchRequest, deps: Given, x_catalog_version: Annotated[int, Header(ge=0)] = 0) -> Response:
    """Find workflows for an incident. ``score`` is a relevance, never a confidence."""
    if not asked.query.strip():
        raise InvalidInput("query is empty; say what was found, for example the signal and the root cause")
    snapshot = await deps.catalog.snapshot(x_catalog_version)
    if snapshot.embedder.remote or asked.explain:
        found = await asyncio.get_running_loop().run_in_executor(deps.searchers, snapshot.find, asked)
    else:
        # A millisecond of work: handing it to a thread and back costs more than it frees.
        found = snapshot.find(asked)
    await deps.audit.record(_searched(deps, asked, found))
    return Response(found.to_json(), media_type=JSON)


@router.post("", response_model=Workflow, status_code=201)
async def register(asked: RegisterWorkflow, request: Request, deps: Given) -> Response:
    """Register a bundle: 201 for a new version, 200 for one registered before, 409 for other content under its version."""
    # Who did it is who the token says; ``registered_by`` is only what the caller calls it.
    by = user_of(request).username
    workflow, created = await deps.catalog.register(asked)
    if created:
        fact = _changed(deps, "datastorage.workflow.created", workflow, by, registered_by=asked.registered_by)
        await deps.audit.record(fact)
    headers = {
        VERSION_HEADER: str(deps.catalog.version),
        "Location": f"{request.scope.get('root_path', '')}{router.prefix}/{workflow.workflow_id}",
    }
    body = workflow.model_dump_json(exclude_none=True)
    return Response(body, 201 if created else 200, headers=headers, media_type=JSON)


@router.get("", response_model=WorkflowPage)
async def listing(
    deps: Given,
    status: WorkflowStatus | None = None,
    name: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    wanted = status.value if status else ""
    page = await deps.catalog.workflows(status=wanted, name=name, limit=limit, offset=offset)
    return Response(page, media_type=JSON)


@router.get("/{workflow_id}", response_model=Workflow)
async def read(workflow_id: str, deps: Given) -> Response:
    return Response(await deps.catalog.workflow(workflow_id), media_type=JSON)


@router.patch("/{workflow_id}", response_model=Workflow)
async def patch(workflow_id: str, change: WorkflowPatch, request: Request, deps: Given) -> Response:
    """Change what may change: the status, with a reason."""
    return await _patch(workflow_id, change, request, deps)


@router.patch("/{workflow_id}/disable", response_model=Workflow)
async def disable(
    workflow_id: str, request: Request, deps: Given, reason: Annotated[str, Query(max_length=1024)] = ""
) -> Response:
    change = WorkflowPatch(status=WorkflowStatus.DISABLED, reason=reason)
    return await _patch(workflow_id, change, request, deps)


async def _patch(workflow_id: str, change: WorkflowPatch, request: Request, deps: Deps) -> Response:
    by = user_of(request).username
    workflow = await deps.catalog.patch(workflow_id, change, by)
    await deps.audit.record(_changed(deps, "datastorage.workflow.updated", workflow, by))
    headers = {VERSION_HEADER: str(deps.catalog.version)}
    return Response(workflow.model_dump_json(exclude_none=True), headers=headers, media_type=JSON)


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
            "reason": workflow.disabled_reason,
            **more,
        },
    )


def _searched(deps: Deps, asked: SearchRequest, found: Found) -> AuditEvent:
    named = [(found.index.records.name(hit.position), hit.score) for hit in found.hits]
    results: list[dict[str, Any]] = [
        {"workflow_id": name.workflow_id, "workflow_name": name.workflow_name, "score": score} for name, score in named
    ]
    return AuditEvent.fact(
        "workflow.catalog.search_completed",
        correlation_id=asked.remediation_id[:255] or "workflow-search",
        category=AuditCategory.WORKFLOW,
        now=deps.now(),
        actor="data-storage",
        key=(uuid.uuid4().hex,),
        duration_ms=round(found.took_ms),
        event_data={
            "query": asked.query,
            "filters": asked.filters.to_json(),
            "results": results,
            "total_matched": found.total_matched,
            "snapshot_version": found.snapshot_version,
        },
    )
