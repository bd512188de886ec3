"""Whether executions helped: the effectiveness controller tells it, and whoever decides about the next execution asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from kubernaut_ray.contracts import trust
from kubernaut_ray.contracts.statistics import EffectivenessRecord, EffectivenessRecorded, WorkflowEffectiveness
from serve_apps.data_storage.deps import Given
from serve_apps.data_storage.strict import StrictRoute

router = APIRouter(prefix="/api/v1/effectiveness", tags=["effectiveness"], route_class=StrictRoute)


@router.post("", status_code=201, response_model=EffectivenessRecorded)
async def record(assessed: EffectivenessRecord, deps: Given) -> Response:
    """Record one assessment. ``recorded`` is false when the assessment of this execution was told before."""
    return Response(await deps.catalog.record_effectiveness(assessed), 201, media_type="application/json")


@router.get("/{workflow_id}")
async def effectiveness(workflow_id: Annotated[str, Path(max_length=253)], deps: Given) -> WorkflowEffectiveness:
    """Say how often a workflow helped, and how far it is trusted, by environment; nothing for one never assessed."""
    counted = WorkflowEffectiveness.model_validate_json(await deps.catalog.effectiveness(workflow_id))
    judged = tuple(trust.judged(one, deps.trust) for one in counted.environments)
    return counted.model_copy(update={"environments": judged})
