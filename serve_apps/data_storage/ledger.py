"""The routes of the tamper-evident trail: bundles that verify offline, where the trail stands, seals, holds, archives.

Everybody who may list events may export them: a bundle carries what the trail does. Holds and seals change what may be
deleted and when, archiving deletes: those are for operators, and who did it is who the token says. The owner states each in
the trail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import StreamingResponse

from catalog.errors import NotFound
from catalog.ledger.bundle import Header, broken, line
from catalog.ledger.export import Wanted, export
from catalog.ledger.record import Item
from kubernaut_ray.contracts.ledger import (
    ArchiveResult,
    CheckpointPage,
    HoldRequest,
    Holds,
    LedgerState,
    LegalHold,
    Released,
    SealResult,
)
from kubernaut_ray.errors import InvalidInput, KubernautError
from serve_apps.data_storage.deps import Given, instant
from serve_apps.data_storage.strict import StrictRoute
from serve_apps.http import user_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], route_class=StrictRoute)

LINES = "application/x-ndjson"
CHUNK_BYTES = 1 << 16
MAX_LEAVES_PAGE = 20

log = structlog.get_logger(__name__)

Correlation = Annotated[str, Query(max_length=255)]


@router.get(
    "/export", response_class=StreamingResponse, responses={200: {"content": {LINES: {"schema": {"type": "string"}}}}}
)
async def export_bundle(
    deps: Given,
    correlation_id: Correlation = "",
    event_type: Annotated[str, Query(max_length=100)] = "",
    since: Annotated[str, Query(description="RFC 3339, or a duration such as 24h.")] = "",
    until: str = "",
) -> StreamingResponse:
    """Stream a bundle of JSON lines: the whole store, one correlation, or a selection by time and type.

    It ends with a signed statement, or with an ``error`` when it could not be finished; without either it was cut off.
    """
    now = deps.now()
    wanted = Wanted(
        correlation_id=correlation_id,
        event_type=event_type,
        since=instant(since, "since", now) if since else None,
        until=instant(until, "until", now) if until else None,
    )
    header, items = await export(deps.catalog, wanted)
    name = {"Content-Disposition": f'attachment; filename="audit-{wanted.scope}.jsonl"'}
    return StreamingResponse(_chunks(header, items), media_type=LINES, headers=name)


@router.get("/state")
async def state(deps: Given) -> LedgerState:
    """Say where the trail stands, what is archived and held, and which public keys have signed."""
    return await deps.catalog.audit_state()


@router.get("/checkpoints")
async def checkpoints(
    deps: Given,
    after: Annotated[int, Query(ge=0, description="The number after which to begin.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    leaves: Annotated[bool, Query(description=f"With their leaves, at most {MAX_LEAVES_PAGE}.")] = False,
) -> CheckpointPage:
    """List checkpoints by their number."""
    count = min(limit, MAX_LEAVES_PAGE) if leaves else limit
    return CheckpointPage(checkpoints=await deps.catalog.audit_checkpoints(after=after, limit=count, leaves=leaves))


@router.post("/checkpoint")
async def seal(deps: Given) -> SealResult:
    """Seal now what is not sealed yet."""
    return await deps.catalog.seal_audit()


@router.get("/holds")
async def holds(deps: Given) -> Holds:
    """List the legal holds."""
    return Holds(holds=(await deps.catalog.audit_state()).holds)


@router.get("/holds/{correlation_id:path}")
async def hold(correlation_id: str, deps: Given) -> LegalHold:
    """Read one legal hold."""
    for one in (await deps.catalog.audit_state()).holds:
        if one.correlation_id == correlation_id:
            return one
    raise NotFound(f"there is no hold on {correlation_id!r}")


@router.put("/holds/{correlation_id:path}")
async def place(correlation_id: str, asked: HoldRequest, request: Request, deps: Given) -> LegalHold:
    """Keep an incident's events beyond their retention. Placing a hold again changes its reason."""
    by = user_of(request).username
    try:
        asked_for = LegalHold(correlation_id=correlation_id, reason=asked.reason, placed_by=by, placed_at=deps.now())
    except ValidationError as error:
        raise InvalidInput("a correlation id has 1 to 255 characters") from error
    return await deps.catalog.hold_audit(asked_for)


@router.delete("/holds/{correlation_id:path}")
async def release(
    correlation_id: str, request: Request, deps: Given, reason: Annotated[str, Query(max_length=1024)] = ""
) -> Released:
    """Let an incident's events go when their retention ends. 404 when there is no hold."""
    by = user_of(request).username
    if not await deps.catalog.release_audit(correlation_id, by, reason):
        raise NotFound(f"there is no hold on {correlation_id!r}")
    return Released(released=True)


@router.post("/archive")
async def archive(
    deps: Given,
    through: Annotated[
        str, Query(pattern=r"^(\d{4}-(0[1-9]|1[0-2]))?$", description="A month, 2026-10; left out: what is old enough.")
    ] = "",
) -> ArchiveResult:
    """Roll old months off into archives now, and delete the archives whose retention has ended."""
    return await deps.catalog.archive_audit(through)


async def _chunks(header: Header, items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    """Lines in pieces of a reasonable size: a line at a time would cost more than writing it."""
    held, size = [line(header)], 0
    try:
        async for item in items:
            held.append(line(item))
            size += len(held[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except KubernautError as error:
        # The status was sent long ago; without its statement this is no bundle, and the last line says why.
        log.warning("audit_export_broken", error=str(error))
        held.append(broken(str(error)))
    yield b"".join(held)
