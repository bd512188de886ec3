"""The typed end of the catalog owner, wherever the owner runs: in this process, or in an actor.

Data Storage's routes speak to this. A ``Transport`` carries bytes; errors come back as the owner raised them. Each answer
tells the catalog version, and ``Catalog.snapshot`` gives a search snapshot at least as new as the caller was told, so that what
it has just registered it finds. Everybody else is answered from the snapshot in memory, also while the next one is made.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import orjson
import structlog
from pydantic import ValidationError

from catalog import snapshot as snapshots
from catalog.embed import Embedder, Remembering
from catalog.errors import Conflict, NotFound, PreconditionFailed
from catalog.events import AuditQuery, Columns, columns, microseconds, pack
from catalog.ledger.record import Page, read_page
from catalog.snapshot import Snapshot
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.audit import AuditBatchResult, AuditEvent
from kubernaut_ray.contracts.backup import Backup, BackupRequest
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow, WorkflowPatch
from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.contracts.ledger import (
    ArchiveResult,
    Checkpoint,
    CheckpointPage,
    LedgerState,
    LegalHold,
    SealResult,
    Statement,
)
from kubernaut_ray.contracts.statistics import EffectivenessRecord, ExecutionRecord
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable

C = TypeVar("C", bound=Contract)

POLL_SECONDS = 1.0
"""How old the knowledge of the catalog version may be when a search comes in, about."""
BEHIND_SECONDS = 10.0
"""How long searches go on on a snapshot that is known to be old."""
SETTLE_SECONDS = 0.5
"""How long a change waits for this replica's snapshot. A small catalog's is there at once, a large one's a little later."""

log = structlog.get_logger(__name__)


class Transport(Protocol):
    """Reaches the owner. Raises ``Retryable`` when it cannot, or when it cannot know the outcome."""

    async def call(self, method: str, payload: bytes) -> bytes: ...

    async def snapshot(self, have: int) -> bytes: ...


class LocalOwner(Protocol):
    """``catalog.owner.Owner`` as a transport needs it; replicas that reach an actor never import DuckDB."""

    def call(self, method: str, payload: bytes) -> Any: ...

    def snapshot(self, have: int) -> bytes: ...


class InProcess:
    """The owner in this very process: tests, and anything small."""

    def __init__(self, owner: LocalOwner) -> None:
        self._owner = owner

    async def call(self, method: str, payload: bytes) -> bytes:
        answer: bytes = await asyncio.wrap_future(self._owner.call(method, payload))
        return answer

    async def snapshot(self, have: int) -> bytes:
        return await asyncio.to_thread(self._owner.snapshot, have)


class Catalog:
    """All operations of the owner. JSON results that only pass through stay bytes."""

    def __init__(
        self, transport: Transport, embedder: Embedder, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport, self._embedder, self._monotonic = transport, Remembering(embedder), monotonic
        self._snapshot: Snapshot | None = None
        self._refreshing = asyncio.Lock()
        self.version = -1
        """The newest catalog version heard of."""
        self._heard_at = self._rested_at = float("-inf")
        self._behind_since = float("inf")
        """Since when a version is known that the snapshot is not, if any is."""
        self._polling: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()

    async def snapshot(self, at_least: int = 0) -> Snapshot:
        """Return a snapshot that is at least that new: ``at_least`` is a version that the caller has been told.

        Who has been told none is answered from the snapshot in memory while a newer one is built, fetched and loaded; but
        not when it has been old for ``BEHIND_SECONDS``, or when nobody asked for a while, so that it may be older.
        """
        quiet = self._monotonic() - self._heard_at
        must = at_least > self.version or quiet > 1.5 * POLL_SECONDS
        if must:
            await self._call("version", {})
        elif quiet > POLL_SECONDS:
            self._polling = _beside(self._polling, lambda: self._call("version", {}))
        held = self._snapshot
        if held is not None and held.version >= self.version:
            return held
        now = self._monotonic()
        if held is None or must or held.version < at_least or now - self._behind_since > BEHIND_SECONDS:
            return await self._refreshed()
        if now >= self._rested_at:
            self._renewing = _beside(self._renewing, self._refreshed)
        return held

    async def _refreshed(self) -> Snapshot:
        async with self._refreshing:
            held = self._snapshot
            if held is None or held.version < self.version:
                began = self._monotonic()
                data = await self._transport.snapshot(-1 if held is None else held.version)
                if data:
                    held = self._snapshot = await asyncio.to_thread(snapshots.load, data, self._embedder)
                # Half of the time is the owner's own, however fast the catalog changes.
                self._behind_since = self._monotonic()
                self._rested_at = 2 * self._behind_since - began
            if held is None:
                raise Retryable("the catalog owner has not published a snapshot yet", after=0.5)
            return held

    async def _settle(self) -> None:
        """Give this replica's snapshot a moment to take in a change made here, so that who made it finds it."""
        renewing = asyncio.get_running_loop().create_task(_quietly(self._refreshed()))
        self._settling.add(renewing)
        renewing.add_done_callback(self._settling.discard)
        await asyncio.wait({renewing}, timeout=SETTLE_SECONDS)

    async def register(self, request: RegisterWorkflow) -> tuple[Workflow, bool]:
        """Register a bundle; the flag says whether it is new. Raises ``InvalidInput``, ``Conflict``, ``Retryable``."""
        result = orjson.loads(await self._call("register", request.to_json()))
        await self._settle()
        return Workflow.model_validate(result["workflow"]), bool(result["created"])

    async def patch(self, workflow_id: str, change: WorkflowPatch, by: str, if_match: Sequence[str] = ()) -> Workflow:
        """Change a status; with ``if_match`` only a record that is still at one of these ETags."""
        asked = {"workflow_id": workflow_id, "patch": change.to_json(), "by": by, "if_match": if_match}
        answer = await self._call("patch", asked)
        await self._settle()
        return Workflow.model_validate_json(answer)

    async def workflow(self, workflow_id: str) -> bytes:
        return await self._call("workflow", {"workflow_id": workflow_id})

    async def workflows(self, *, status: str, name: str, limit: int, offset: int) -> bytes:
        return await self._call("workflows", {"status": status, "name": name, "limit": limit, "offset": offset})

    async def append_audit(self, events: Sequence[AuditEvent]) -> AuditBatchResult:
        return await self.append_columns(columns(events))

    async def append_columns(self, events: Columns) -> AuditBatchResult:
        """Store a batch; all of it is new or was stored before, or nothing is."""
        return AuditBatchResult.model_validate_json(await self._send("audit_append", pack(events)))

    async def find_audit(self, query: AuditQuery) -> bytes:
        return await self._call("audit_find", query.to_json())

    async def audit_records(
        self,
        *,
        after: int,
        limit: int,
        correlation_id: str = "",
        event_type: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page:
        asked = {"after": after, "limit": limit, "correlation_id": correlation_id, "event_type": event_type}
        span = {"since": rfc3339(since) if since else "", "until": rfc3339(until) if until else ""}
        return read_page(await self._call("audit_records", asked | span))

    async def audit_checkpoints(self, *, after: int, limit: int, leaves: bool) -> tuple[Checkpoint, ...]:
        answer = await self._call("audit_checkpoints", {"after": after, "limit": limit, "leaves": leaves})
        return _read(CheckpointPage, answer).checkpoints

    async def audit_state(self) -> LedgerState:
        return _read(LedgerState, await self._call("audit_state", {}))

    async def audit_statement(self, scope: str, correlation_id: str) -> Statement:
        asked = {"scope": scope, "correlation_id": correlation_id}
        return _read(Statement, await self._call("audit_statement", asked))

    async def seal_audit(self) -> SealResult:
        """Seal what is not sealed yet."""
        return _read(SealResult, await self._call("audit_seal", {}))

    async def hold_audit(self, hold: LegalHold) -> LegalHold:
        return _read(LegalHold, await self._call("audit_hold", hold.to_json()))

    async def release_audit(self, correlation_id: str, by: str, reason: str) -> bool:
        """Release a hold; false when there was none."""
        asked = {"correlation_id": correlation_id, "by": by, "reason": reason}
        return bool(orjson.loads(await self._call("audit_release", asked))["released"])

    async def archive_audit(self, through: str) -> ArchiveResult:
        """Roll off what is old enough, or through a month such as ``2026-10``."""
        return _read(ArchiveResult, await self._call("audit_archive", {"through": through}))

    async def audit_event(self, event_id: str) -> AuditEvent:
        """Return one event. Raises ``NotFound``."""
        return AuditEvent.model_validate_json(await self._call("audit_get", {"event_id": event_id}))

    async def search_gaps(self, since: datetime, min_relevance: float, limit: int) -> Any:
        """Return the questions in vain, as ``catalog.gaps.report`` takes them."""
        asked = {"since_us": microseconds(since), "min_relevance": min_relevance, "limit": limit}
        return orjson.loads(await self._call("search_gaps", asked))

    async def start_backup(self, request: BackupRequest) -> Backup:
        """Begin a backup; the one before is gone then. Raises ``Conflict`` while one is being made."""
        return Backup.model_validate_json(await self._call("backup_start", request.to_json()))

    async def backup(self, name: str) -> Backup:
        """Say how a backup stands. Raises ``NotFound``."""
        return Backup.model_validate_json(await self._call("backup_state", {"name": name}))

    async def read_backup(self, name: str, offset: int) -> bytes:
        """Return a piece of a finished backup; empty at its end. Raises ``NotFound``, ``Conflict`` when it is not done."""
        answer = orjson.loads(await self._call("backup_read", {"name": name, "offset": offset}))
        return base64.b64decode(answer["data"])

    async def delete_backup(self, name: str) -> Backup:
        """Delete a backup. Raises ``NotFound``, ``Conflict`` while it is being made."""
        return Backup.model_validate_json(await self._call("backup_delete", {"name": name}))

    async def timeline(self, remediation_id: str) -> bytes:
        return await self._call("timeline", {"remediation_id": remediation_id})

    async def put_session(self, session: InvestigationSession, expected_attempt: int | None) -> bytes:
        return await self._call("session_put", {"session": session.to_json(), "expected_attempt": expected_attempt})

    async def session(self, session_id: str) -> bytes:
        return await self._call("session_get", {"session_id": session_id})

    async def record_execution(self, execution: ExecutionRecord) -> bytes:
        return await self._call("execution_record", execution.to_json())

    async def execution_statistics(self, since: datetime) -> bytes:
        return await self._call("execution_statistics", {"since": rfc3339(since)})

    async def record_effectiveness(self, record: EffectivenessRecord) -> bytes:
        return await self._call("effectiveness_record", record.to_json())

    async def effectiveness(self, workflow_id: str) -> bytes:
        """The counts, as a ``WorkflowEffectiveness`` that leaves the judgement open."""
        return await self._call("effectiveness_of", {"workflow_id": workflow_id})

    async def _call(self, method: str, payload: Any) -> bytes:
        return await self._send(method, orjson.dumps(payload))

    async def _send(self, method: str, payload: bytes) -> bytes:
        data = await self._transport.call(method, payload)
        head, _, rest = data.partition(b",")
        told = int(head.removeprefix(b'{"version":'))
        self._heard_at = self._monotonic()
        if told > self.version:
            if self._snapshot is not None and self._snapshot.version >= self.version:
                self._behind_since = self._heard_at
            self.version = told
        if rest.startswith(b'"result":'):
            return rest[len(b'"result":') : -1]
        raise _error(orjson.loads(data)["error"])


def _beside(running: asyncio.Task[None] | None, work: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[None]:
    """Do this beside the searches, unless it is being done already."""
    if running is not None and not running.done():
        return running
    # Not in the context of the request that happened to notice.
    return asyncio.get_running_loop().create_task(_quietly(work()), context=contextvars.Context())


async def _quietly(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except KubernautError as error:
        # What is in memory goes on answering for a while; the next search tries again.
        log.warning("catalog_refresh_failed", error=str(error))


def _read(model: type[C], answer: bytes) -> C:
    """Read what the trail holds. Raises ``Permanent`` when it is damaged beyond being read."""
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Permanent(f"the audit trail cannot be read: {where}: {first['msg']}", reason="TrailUnreadable") from error


def _error(body: dict[str, Any]) -> KubernautError:
    message = str(body["message"])
    match body["kind"]:
        case "InvalidInput":
            problems = tuple((str(p), str(w)) for p, w in body.get("problems", ()))
            return InvalidInput(message, problems=problems, reason=str(body.get("reason", "InvalidInput")))
        case "NotFound":
            return NotFound(message)
        case "Conflict":
            return Conflict(message)
        case "PreconditionFailed":
            return PreconditionFailed(message)
        case "Permanent":
            return Permanent(message, reason=str(body.get("reason", "Failed")))
        case _:
            return Retryable(message, after=body.get("after"), reason=str(body.get("reason", "")))
