"""Execution statistics: the orchestrator tells how executions ended and asks how many failed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from kubernaut_ray.contracts.statistics import ExecutionRecord, ExecutionRecorded, ExecutionStatistics
from serve_apps.data_storage.deps import Given, instant
from serve_apps.data_storage.strict import StrictRoute

router = APIRouter(prefix="/api/v1/executions", tags=["executions"], route_class=StrictRoute)


@router.post("", status_code=201, response_model=ExecutionRecorded)
async def record(execution: ExecutionRecord, deps: Given) -> Response:
    """Record one end. ``recorded`` is false when this execution's end was told before."""
    return Response(await deps.catalog.record_execution(execution), 201, media_type="application/json")


@router.get("/statistics", response_model=ExecutionStatistics)
async def statistics(
    deps: Given, since: Annotated[str, Query(description="RFC 3339, or a duration such as 1h.")] = "24h"
) -> Response:
    """Count how executions ended, by workflow and in all."""
    answer = await deps.catalog.execution_statistics(instant(since, "since", deps.now()))
    return Response(answer, media_type="application/json")
