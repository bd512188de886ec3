"""The client of Data Storage: workflow search and records, durable investigation sessions, statistics, the audit trail.

Errors say what to do: 429, 5xx,
connection faults and timeouts are ``Retryable`` (honouring ``Retry-After``); 404 is ``NotFound`` or ``None`` where
absence is an answer; 409 and 412 are ``Conflict``; 400 and 422 are ``InvalidInput``; the problem's detail is the message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import orjson

from kubernaut_ray.clients.service import ServiceClient
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.audit import AuditBatch, AuditBatchResult, AuditPage
from kubernaut_ray.contracts.backup import Backup, BackupRequest
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.catalog import (
    RegisterWorkflow,
    SearchRequest,
    SearchResponse,
    Workflow,
    WorkflowPage,
    WorkflowPatch,
)
from kubernaut_ray.contracts.gaps import GapReport
from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.contracts.ledger import (
    ArchiveResult,
    Checkpoint,
    CheckpointPage,
    HoldRequest,
    Holds,
    LedgerState,
    LegalHold,
    SealResult,
)
from kubernaut_ray.contracts.statistics import (
    EffectivenessRecord,
    ExecutionRecord,
    ExecutionStatistics,
    WorkflowEffectiveness,
)
from kubernaut_ray.contracts.timeline import Timeline
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable

C = TypeVar("C", bound=Contract)

VERSION_HEADER = "X-Catalog-Version"
"""Answers to catalog changes carry it; requests send the newest they were told."""
STREAM_SECONDS = 60.0
"""How long a stream may be silent."""


class NotFound(Permanent):
    """404: Data Storage holds no such thing."""


class Conflict(Permanent):
    """409 or 412: the thing is there already with another content, or it moved on since it was read."""


class DataStorage(ServiceClient):
    """See ``ServiceClient`` for the arguments."""

    def __init__(self, base_url: str, token: Callable[[], str], *, timeout: float = 10.0) -> None:
        super().__init__(base_url, token, timeout=timeout)
        self._catalog_version = 0

    async def search(self, request: SearchRequest) -> SearchResponse:
        return await self._send("POST", "/api/v1/workflows/search", SearchResponse, body=request)

    async def workflow(self, workflow_id: str) -> Workflow | None:
        """Return one catalog record; ``None`` when there is none of this id."""
        try:
            return await self._send("GET", f"/api/v1/workflows/{quote(workflow_id, safe='')}", Workflow)
        except NotFound:
            return None

    async def workflows(self, *, limit: int = 100, offset: int = 0, status: str = "", name: str = "") -> WorkflowPage:
        """List records by name and version; all statuses unless one is named."""
        query = {"limit": limit, "offset": offset, "status": status, "name": name}
        return await self._send("GET", "/api/v1/workflows", WorkflowPage, query=query)

    async def gaps(self, *, since: datetime | timedelta, limit: int = 20) -> GapReport:
        """Report which incidents found no workflow, and why."""
        query = {"since": _since(since), "limit": limit}
        return await self._send("GET", "/api/v1/workflows/gaps", GapReport, query=query)

    async def register(self, request: RegisterWorkflow) -> Workflow:
        """Register a bundle. Registering the same content again is success; other content under a version is ``Conflict``."""
        return await self._send("POST", "/api/v1/workflows", Workflow, body=request, timeout=60.0)

    async def patch_workflow(self, workflow_id: str, patch: WorkflowPatch) -> Workflow:
        return await self._send("PATCH", f"/api/v1/workflows/{quote(workflow_id, safe='')}", Workflow, body=patch)

    async def execution_statistics(self, since: datetime | timedelta) -> ExecutionStatistics:
        """Count executions since an instant, or over the last so-and-so long, by workflow and in all."""
        query = {"since": _since(since)}
        return await self._send("GET", "/api/v1/executions/statistics", ExecutionStatistics, query=query)

    async def record_execution(
        self,
        workflow_id: str,
        success: bool,
        *,
        execution_id: str = "",
        target: str = "",
        remediation_id: str = "",
        finished_at: datetime | None = None,
        duration_seconds: float | None = None,
    ) -> None:
        """Record how an execution ended. With ``execution_id`` (the WorkflowExecution's UID) telling twice counts once."""
        await self.record(
            ExecutionRecord(
                execution_id=execution_id,
                workflow_id=workflow_id,
                success=success,
                target=target,
                remediation_id=remediation_id,
                finished_at=finished_at,
                duration_seconds=duration_seconds,
            )
        )

    async def record(self, execution: ExecutionRecord) -> None:
        """Record how an execution ended; see ``record_execution``."""
        await self._request("POST", "/api/v1/executions", body=execution)

    async def record_effectiveness(self, record: EffectivenessRecord) -> None:
        """Record whether an execution helped. Telling twice counts once."""
        await self._request("POST", "/api/v1/effectiveness", body=record)

    async def effectiveness(self, workflow_id: str) -> WorkflowEffectiveness:
        """Return how often a workflow helped, and how far it is trusted, by environment."""
        path = f"/api/v1/effectiveness/{quote(workflow_id, safe='')}"
        return await self._send("GET", path, WorkflowEffectiveness)

    async def put_session(
        self, session: InvestigationSession, *, expected_attempt: int | None = None
    ) -> InvestigationSession:
        """Store a session if the stored one is still at ``expected_attempt`` (``None``: if there is none yet).

        Raises ``Conflict`` otherwise: somebody else created, claimed or went on with it; read it again.
        """
        query = {} if expected_attempt is None else {"expected_attempt": expected_attempt}
        path = f"/api/v1/investigations/{quote(session.session_id, safe='')}"
        return await self._send("PUT", path, InvestigationSession, body=session, query=query)

    async def get_session(self, session_id: str) -> InvestigationSession | None:
        try:
            return await self._send("GET", f"/api/v1/investigations/{quote(session_id, safe='')}", InvestigationSession)
        except NotFound:
            return None

    async def store_audit_events(self, batch: AuditBatch) -> AuditBatchResult:
        """Store a batch at once (services use ``AuditWriter``, which survives what this does not)."""
        return await self._send("POST", "/api/v1/audit/events/batch", AuditBatchResult, body=batch)

    async def audit_events(
        self,
        *,
        event_id: str = "",
        correlation_id: str = "",
        event_type: str = "",
        event_category: str = "",
        event_outcome: str = "",
        severity: str = "",
        since: datetime | timedelta | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> AuditPage:
        """Query the trail, oldest first unless asked otherwise; empty filters filter nothing; ``limit`` is 1 to 1000."""
        query = {
            "event_id": event_id,
            "correlation_id": correlation_id,
            "event_type": event_type,
            "event_category": event_category,
            "event_outcome": event_outcome,
            "severity": severity,
            "since": "" if since is None else _since(since),
            "until": "" if until is None else rfc3339(until),
            "order": "desc" if newest_first else "",
            "limit": limit,
            "offset": offset,
        }
        return await self._send("GET", "/api/v1/audit/events", AuditPage, query=query)

    @asynccontextmanager
    async def export_audit(
        self,
        *,
        correlation_id: str = "",
        event_type: str = "",
        since: datetime | timedelta | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a bundle as it is streamed, in whatever pieces it comes: ``catalog.ledger.bundle`` reads it.

        A stream that breaks raises ``Retryable``; what came so far is no bundle.
        """
        query = {
            "correlation_id": correlation_id,
            "event_type": event_type,
            "since": "" if since is None else _since(since),
            "until": "" if until is None else rfc3339(until),
        }
        what = "GET /api/v1/audit/export"
        try:
            async with self._open().get(
                self._base_url + "/api/v1/audit/export",
                params={key: value for key, value in query.items() if value},
                headers=self._headers() | {"Accept": "application/x-ndjson"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=STREAM_SECONDS, sock_read=STREAM_SECONDS),
            ) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read(), answer.headers.get("Retry-After", ""), what)
                yield answer.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"Data Storage did not finish {what}: {type(error).__name__}") from error

    async def audit_state(self) -> LedgerState:
        """Return where the trail stands, with its archives, holds and public keys."""
        return await self._send("GET", "/api/v1/audit/state", LedgerState)

    async def audit_checkpoints(
        self, *, after: int = 0, limit: int = 100, leaves: bool = False
    ) -> tuple[Checkpoint, ...]:
        query = {"after": after, "limit": limit, "leaves": "true" if leaves else ""}
        return (await self._send("GET", "/api/v1/audit/checkpoints", CheckpointPage, query=query)).checkpoints

    async def seal_audit(self) -> Checkpoint | None:
        """Seal now what is not sealed yet; ``None`` when there is nothing."""
        return (await self._send("POST", "/api/v1/audit/checkpoint", SealResult, timeout=60.0)).checkpoint

    async def audit_holds(self) -> tuple[LegalHold, ...]:
        return (await self._send("GET", "/api/v1/audit/holds", Holds)).holds

    async def place_hold(self, correlation_id: str, reason: str) -> LegalHold:
        """Keep an incident's events beyond their retention. Who did it the token says."""
        path = f"/api/v1/audit/holds/{quote(correlation_id, safe='')}"
        return await self._send("PUT", path, LegalHold, body=HoldRequest(reason=reason))

    async def release_hold(self, correlation_id: str, reason: str = "") -> None:
        """Let them go when their retention ends. Raises ``NotFound`` when there is no hold."""
        path = f"/api/v1/audit/holds/{quote(correlation_id, safe='')}"
        await self._request("DELETE", path, query={"reason": reason})

    async def archive_audit(self, through: str = "") -> ArchiveResult:
        """Roll old months off (through a month such as ``2026-10``), and delete archives whose retention has ended."""
        return await self._send(
            "POST", "/api/v1/audit/archive", ArchiveResult, query={"through": through}, timeout=600.0
        )

    async def begin_backup(self, *, with_signing_key: bool = False) -> Backup:
        """Have a backup made. Raises ``Conflict`` while another is."""
        asked = BackupRequest(with_signing_key=with_signing_key)
        return await self._send("POST", "/api/v1/backups", Backup, body=asked)

    @asynccontextmanager
    async def fetch_backup(self, name: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]] | None]:
        """Stream a backup: its SHA-256, and its file piece by piece. ``None`` while it is being made.

        Raises ``NotFound`` when it is gone and ``Retryable`` when it failed; what ends early does not have that SHA-256.
        """
        path = f"/api/v1/backups/{quote(name, safe='')}"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=STREAM_SECONDS, sock_connect=self._timeout.total)
        try:
            async with self._open().get(self._base_url + path, headers=self._headers(), timeout=timeout) as answer:
                if answer.status >= 400:
                    raise _error(
                        answer.status, await answer.read(), answer.headers.get("Retry-After", ""), f"GET {path}"
                    )
                done = answer.status == 200
                yield (answer.headers["ETag"].strip('"'), answer.content.iter_chunked(1 << 20)) if done else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"Data Storage did not answer GET {path}: {type(error).__name__}") from error

    async def delete_backup(self, name: str) -> None:
        """Delete a backup that was fetched."""
        await self._request("DELETE", f"/api/v1/backups/{quote(name, safe='')}")

    async def timeline(self, remediation: str) -> Timeline:
        """Return one remediation (by its RemediationRequest's name) as its trail tells it; without events when nothing is known."""
        return await self._send("GET", f"/api/v1/remediations/{quote(remediation, safe='')}/timeline", Timeline)

    async def _send(self, method: str, path: str, answer: type[C], **rest: Any) -> C:
        return answer.model_validate(await self._request(method, path, **rest))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Contract | None = None,
        query: Mapping[str, str | int] | None = None,
        timeout: float | None = None,
    ) -> Any:
        session, headers = self._open(), self._headers()
        if self._catalog_version:
            # What this client has changed it must find, on whichever replica it lands.
            headers[VERSION_HEADER] = str(self._catalog_version)
        data: bytes | None = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body.model_dump_json(exclude_none=True).encode()
        try:
            async with session.request(
                method,
                self._base_url + path,
                params={key: str(value) for key, value in (query or {}).items() if value != ""},
                data=data,
                headers=headers,
                timeout=self._timeout if timeout is None else aiohttp.ClientTimeout(total=timeout),
            ) as answer:
                content = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, content, answer.headers.get("Retry-After", ""), f"{method} {path}")
                told = answer.headers.get(VERSION_HEADER, "")
                self._catalog_version = max(self._catalog_version, int(told) if told.isdecimal() else 0)
                return orjson.loads(content) if content else None
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Retryable(f"Data Storage did not answer {method} {path}: {type(error).__name__}") from error


def _since(since: datetime | timedelta) -> str:
    return f"{round(since.total_seconds())}s" if isinstance(since, timedelta) else rfc3339(since)


def _error(status: int, body: bytes, retry_after: str, what: str) -> KubernautError:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    reason = str(problem.get("reason") or "")
    message = f"Data Storage: {what}: {status} {problem.get('detail') or problem.get('title') or 'no detail'}"
    # A refused token passes too: it is renewed while we run, and rights may be applied after us.
    if status in {401, 403, 408, 425, 429} or status >= 500:
        return Retryable(message, after=float(retry_after) if retry_after.isdigit() else None, reason=reason)
    if status == 404:
        return NotFound(message, reason="NotFound")
    if status in {409, 412}:
        return Conflict(message, reason="Conflict")
    if status in {400, 413, 415, 422}:
        found = [item for item in problem.get("field_errors") or () if isinstance(item, dict)]
        problems = tuple((str(item.get("field", "")), str(item.get("message", ""))) for item in found)
        return InvalidInput(message, problems=problems, reason=reason or "InvalidInput")
    return Permanent(message, reason="Refused")
