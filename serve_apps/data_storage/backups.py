"""The routes of backups: have one made, fetch it when it is done.

The owner makes it while the system runs and keeps the last one. What comes is the file piece by piece, through the owner, so
replicas need no disk in common with it. Putting the signing key in takes a right of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from catalog.client import Catalog
from kubernaut_ray.contracts.backup import Backup, BackupRequest, BackupState
from serve_apps import problem
from serve_apps.data_storage.answers import problems
from serve_apps.data_storage.deps import Given
from serve_apps.data_storage.strict import StrictRoute
from serve_apps.http import Problem, user_of

router = APIRouter(prefix="/api/v1", tags=["backups"], route_class=StrictRoute)

TAR = "application/x-tar"
KEYS = "signingkeys"

Name = Annotated[str, Path(pattern=r"^kubernaut-[0-9]{8}T[0-9]{6}Z$")]


@router.post("/backups", status_code=202, responses=problems(409))
async def begin(asked: BackupRequest, request: Request, deps: Given) -> Backup:
    """Have a backup made of the catalog, the audit trail and the local bundles. 409 while another is being made."""
    user = user_of(request)
    if asked.with_signing_key and deps.gate is not None and not await deps.gate.authorize(user, "get", KEYS):
        raise problem.forbidden(user.username, "get", KEYS)
    return await deps.catalog.start_backup(asked)


@router.get(
    "/backups/{name}",
    response_class=StreamingResponse,
    responses={
        200: {"content": {TAR: {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
        202: {"model": Backup, "description": "It is still being made."},
        **problems(404, 500),
    },
)
async def fetch(name: Name, deps: Given) -> Response:
    """Fetch a backup: a tar. 202 and how it stands while it is being made."""
    backup = await deps.catalog.backup(name)
    if backup.state is BackupState.FAILED:
        raise Problem(500, detail=f"the backup {name} failed: {backup.error}")
    if backup.state is BackupState.RUNNING:
        return JSONResponse(backup.to_json(), 202, headers={"Retry-After": "1"})
    headers = {
        "Content-Length": str(backup.bytes),
        "Content-Disposition": f'attachment; filename="{name}.tar"',
        "ETag": f'"{backup.sha256}"',
    }
    return StreamingResponse(_pieces(deps.catalog, name), media_type=TAR, headers=headers)


@router.delete("/backups/{name}", responses=problems(404, 409))
async def forget(name: Name, deps: Given) -> Backup:
    """Delete a backup that was fetched; says what it was."""
    return await deps.catalog.delete_backup(name)


async def _pieces(catalog: Catalog, name: str) -> AsyncIterator[bytes]:
    offset = 0
    while piece := await catalog.read_backup(name, offset):
        offset += len(piece)
        yield piece
