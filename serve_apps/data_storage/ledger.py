"""The routes of the tamper-evident trail: bundles that verify offline, where the trail stands, seals, holds, archives.

Everybody who may list events may export them: a bundle carries what the trail does. Holds and seals change what may be
deleted and when, archiving deletes: those are for operators, and who did it is who the token says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from catalog.errors import NotFound
from catalog.ledger.bundle import Header, line
from catalog.ledger.export import Wanted, export
from catalog.ledger.record import Item
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.ledger import (
    ArchiveResult,
    CheckpointPage,
    HoldRequest,
    Holds,
    LedgerState,
    LegalHold,
    SealResult,
)
from kubernaut_ray.crds.enums import AuditCategory
from serve_apps.data_storage.deps import Deps, Given, instant
from serve_apps.http import user_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

LINES = "application/x-ndjson"
CHUNK_BYTES = 1 << 16
MAX_LEAVES_PAGE = 20

Correlation = Annotated[str, Query(max_length=255)]


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {LINES: {}}}})
async def export_bundle(
    deps: Given,
    correlation_id: Correlation = "",
    event_type: Annotated[str, Query(max_length=100)] = "",
    since: Annotated[str, Query(description="RFC 3339, or a duration such as 24h.")] = "",
    until: str = "",
) -> StreamingResponse:
    """Stream a bundle of JSON lines: the whole store, one correlation, or a selection by time and type.

    It ends with a signed statement; a bundle without one was cut off, for example because the owner failed meanwhile.
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
    count = min(limit, MAX_LEAVES_PAGE) if leaves else limit
    return CheckpointPage(checkpoints=await deps.catalog.audit_checkpoints(after=after, limit=count, leaves=leaves))


@router.post("/checkpoint")
async def seal(deps: Given) -> SealResult:
    """Seal now what is not sealed yet."""
    return await deps.catalog.seal_audit()


@router.get("/holds")
async def holds(deps: Given) -> Holds:
    return Holds(holds=(await deps.catalog.audit_state()).holds)


@router.get("/holds/{correlation_id:path}")
async def hold(correlation_id: str, deps: Given) -> LegalHold:
    for one in (await deps.catalog.audit_state()).holds:
        if one.correlation_id == correlation_id:
            return one
    raise NotFound(f"there is no hold on {correlation_id!r}")


@router.put("/holds/{correlation_id:path}")
async def place(correlation_id: str, asked: HoldRequest, request: Request, deps: Given) -> LegalHold:
    """Keep an incident's events beyond their retention. Placing a hold again changes its reason."""
    by, now = user_of(request).username, deps.now()
    placed = await deps.catalog.hold_audit(
        LegalHold(correlation_id=correlation_id, reason=asked.reason, placed_by=by, placed_at=now)
    )
    await deps.audit.record(_held(deps, "placed", correlation_id, by, asked.reason))
    return placed


@router.delete("/holds/{correlation_id:path}", status_code=204)
async def release(
    correlation_id: str, request: Request, deps: Given, reason: Annotated[str, Query(max_length=1024)] = ""
) -> Response:
    """Let an incident's events go when their retention ends. 404 when there is no hold."""
    by = user_of(request).username
    if not await deps.catalog.release_audit(correlation_id, by, reason):
        raise NotFound(f"there is no hold on {correlation_id!r}")
    await deps.audit.record(_held(deps, "released", correlation_id, by, reason))
    return Response(status_code=204)


@router.post("/archive")
async def archive(
    request: Request,
    deps: Given,
    through: Annotated[
        str, Query(pattern=r"^(\d{4}-(0[1-9]|1[0-2]))?$", description="A month, 2026-10; left out: what is old enough.")
    ] = "",
) -> ArchiveResult:
    """Roll old months off into archives now, and delete the archives whose retention has ended."""
    done = await deps.catalog.archive_audit(through)
    by = user_of(request).username
    for name, what in (
        *((one.name, "archived") for one in done.archived),
        *((one.archive, "retired") for one in done.retired),
    ):
        fact = AuditEvent.fact(
            f"datastorage.audit.{what}",
            correlation_id=name,
            category=AuditCategory.WORKFLOW,
            now=deps.now(),
            actor=by,
            actor_type="user",
            resource_type="AuditArchive",
            resource_id=name,
        )
        await deps.audit.record(fact)
    return done


async def _chunks(header: Header, items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    """Lines in pieces of a reasonable size: a line at a time would cost more than writing it."""
    held, size = [line(header)], 0
    async for item in items:
        held.append(line(item))
        size += len(held[-1])
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _held(deps: Deps, what: str, correlation_id: str, by: str, reason: str) -> AuditEvent:
    now = deps.now()
    return AuditEvent.fact(
        f"datastorage.hold.{what}",
        correlation_id=correlation_id,
        category=AuditCategory.WORKFLOW,
        now=now,
        actor=by,
        key=(now.isoformat(), by),
        actor_type="user",
        resource_type="LegalHold",
        resource_id=correlation_id,
        event_data={"reason": reason},
    )
