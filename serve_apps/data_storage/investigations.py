"""Durable investigation sessions: stored and read by HolmesGPT-API's replicas, compared and set on their attempt."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.errors import InvalidInput
from serve_apps.data_storage.answers import problems
from serve_apps.data_storage.deps import Given
from serve_apps.data_storage.strict import StrictRoute

router = APIRouter(prefix="/api/v1/investigations", tags=["investigations"], route_class=StrictRoute)


@router.put("/{session_id}", response_model=InvestigationSession, responses=problems(409))
async def put(
    session_id: str,
    session: InvestigationSession,
    deps: Given,
    expected_attempt: Annotated[
        int | None, Query(ge=0, le=2**31 - 1, description="The stored session's attempt; left out: there must be none.")
    ] = None,
) -> Response:
    """Store a session; 409 when the stored one is not at ``expected_attempt``."""
    if session.session_id != session_id:
        raise InvalidInput(f"session_id {session.session_id!r} in the body is not {session_id!r} of the path")
    return Response(await deps.catalog.put_session(session, expected_attempt), media_type="application/json")


@router.get("/{session_id}", response_model=InvestigationSession, responses=problems(404))
async def get(session_id: str, deps: Given) -> Response:
    """Read a session as it was stored last."""
    return Response(await deps.catalog.session(session_id), media_type="application/json")
