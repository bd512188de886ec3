"""Durable investigations: a session outlives the replica that works on it.

A session lies in Data Storage and is claimed by raising its ``attempt`` (compare-and-set), so that one replica at a time
works on it. The worker beats every few seconds; who finds the heart stopped (on a GET) takes over. A session that brought
down several workers is given up instead of taking down another. An answer, once stored, is never replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from kubernaut_ray.clients.data_storage import Conflict
from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts.investigation import (
    IncidentRequest,
    IncidentResponse,
    InvestigationSession,
    SessionError,
    SessionState,
)
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable
from kubernaut_ray.redact import redact

HEARTBEAT = 5.0
STALE = 15.0
"""Seconds without a heartbeat after which a session is taken over."""
MAX_WORKERS = 5
"""How many replicas may work on one session before it is given up."""

log = structlog.get_logger(__name__)

Investigate = Callable[[IncidentRequest, str], Awaitable[IncidentResponse]]
"""Takes the request and the run (the session and its attempt), for the audit trail."""


class Store(Protocol):
    """Data Storage, as far as sessions use it. ``put_session`` raises ``Conflict`` when the stored attempt is another."""

    async def get_session(self, session_id: str) -> InvestigationSession | None: ...

    async def put_session(
        self, session: InvestigationSession, *, expected_attempt: int | None = None
    ) -> InvestigationSession: ...


@dataclass(slots=True)
class Sessions:
    """The sessions that this replica serves, and those it works on. Seconds everywhere."""

    store: Store
    investigate: Investigate
    clock: Clock
    concurrency: int
    heartbeat: float = HEARTBEAT
    stale: float = STALE
    _working: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.concurrency)

    @property
    def active(self) -> int:
        return len(self._working)

    async def start(self, session_id: str, request: IncidentRequest) -> InvestigationSession:
        """Start a session; one that exists already is returned as it is (and taken over if nobody works on it)."""
        now = self.clock()
        session = InvestigationSession(
            session_id=session_id,
            state=SessionState.PENDING,
            request=request,
            created_at=now,
            heartbeat_at=now,
            attempt=1,
        )
        try:
            stored = await self.store.put_session(session)
        except Conflict:
            found = await self.look(session_id)
            if found is None:
                raise Retryable(f"session {session_id} was there and is gone; start it again") from None
            return found
        self._work(stored)
        return stored

    async def look(self, session_id: str) -> InvestigationSession | None:
        """Return a session, after taking it over when its worker is gone; ``None`` when there is none."""
        session = await self.store.get_session(session_id)
        if session is None or session_id in self._working or not self._abandoned(session):
            return session
        return await self._take_over(session)

    async def run(self, request: IncidentRequest, run: str) -> IncidentResponse:
        """Investigate at once, without a session, within the same limit of concurrency."""
        async with self._slots:
            return await self.investigate(request, run)

    async def close(self) -> None:
        """Stop working. What was being worked on is released, so that another replica goes on at once."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _abandoned(self, session: InvestigationSession) -> bool:
        if session.state in (SessionState.DONE, SessionState.FAILED):
            return False
        beat = session.heartbeat_at
        return beat is None or (self.clock() - beat).total_seconds() > self.stale

    async def _take_over(self, session: InvestigationSession) -> InvestigationSession:
        changes: dict[str, Any] = {"attempt": session.attempt + 1, "heartbeat_at": self.clock()}
        if session.attempt >= MAX_WORKERS:
            message = f"given up: {session.attempt} workers died or were lost while investigating"
            error = SessionError(message=message, status=500, retryable=False)
            changes |= {"state": SessionState.FAILED, "error": error, "finished_at": self.clock()}
        taken = session.model_copy(update={"state": SessionState.PENDING, **changes})
        try:
            stored = await self.store.put_session(taken, expected_attempt=session.attempt)
        except Conflict:
            return await self.store.get_session(session.session_id) or session
        log.warning("session_taken_over", session_id=session.session_id, attempt=stored.attempt, state=stored.state)
        if stored.state is SessionState.PENDING:
            self._work(stored)
        return stored

    def _work(self, session: InvestigationSession) -> None:
        worker = _Worker(self, session)
        task = asyncio.create_task(worker.run(), name=f"investigation {session.session_id}")
        self._working[session.session_id] = task
        task.add_done_callback(lambda _: self._working.pop(session.session_id, None))


class _Worker:
    """Works on one claimed session; it alone writes it until it ends or loses it."""

    def __init__(self, sessions: Sessions, session: InvestigationSession) -> None:
        self._sessions, self._session = sessions, session
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        session = self._session
        with structlog.contextvars.bound_contextvars(
            session_id=session.session_id, correlation_id=session.request.remediation_id, attempt=session.attempt
        ):
            investigation = asyncio.create_task(self._investigate())
            beating = asyncio.create_task(self._beat())
            try:
                await asyncio.wait({investigation, beating}, return_when=asyncio.FIRST_COMPLETED)
                if investigation.done():
                    beating.cancel()
                    await self._finish(investigation.result())
                else:
                    log.warning("session_lost")
            except asyncio.CancelledError:
                await self._release()
                raise
            except Conflict:
                log.warning("session_lost")
            except KubernautError as error:
                log.warning("session_not_stored", error=str(error))
            finally:
                for task in (investigation, beating):
                    task.cancel()
                await asyncio.gather(investigation, beating, return_exceptions=True)

    async def _investigate(self) -> dict[str, Any]:
        """Return what the session becomes."""
        try:
            async with self._sessions._slots:  # noqa: SLF001 - the worker is a part of Sessions
                await self._write(state=SessionState.RUNNING, started_at=self._sessions.clock())
                # A try under another id is another run: its facts are not those of the one that failed.
                run = f"{self._session.session_id}/{self._session.attempt}"
                response = await self._sessions.investigate(self._session.request, run)
        except Exception as error:
            # One investigation's bug must not take down the others, nor leave its session without an end.
            failure = failure_of(error)
            log.exception("investigation_failed", status=failure.status, retryable=failure.retryable)
            return {"state": SessionState.FAILED, "error": failure}
        log.info(
            "investigation_done",
            model=response.model,
            workflow=response.selected_workflow.workflow_name if response.selected_workflow else None,
            confidence=response.confidence,
            human_review_reason=response.human_review_reason,
        )
        return {"state": SessionState.DONE, "response": response}

    async def _beat(self) -> None:
        """Beat until the session is somebody else's."""
        while True:
            await asyncio.sleep(self._sessions.heartbeat)
            try:
                await self._write(heartbeat_at=self._sessions.clock())
            except Conflict:
                return
            except KubernautError as error:
                log.warning("heartbeat_failed", error=str(error))

    async def _finish(self, outcome: dict[str, Any]) -> None:
        """Store the end; an answer that cost money is worth some patience."""
        for turn in range(8):
            now = self._sessions.clock()
            try:
                await self._write(**outcome, finished_at=now, heartbeat_at=now)
            except Retryable as error:
                log.warning("session_not_stored_yet", error=str(error))
                await asyncio.sleep(error.after if error.after is not None else min(0.5 * 2**turn, 15.0))
            else:
                return
        raise Retryable("Data Storage stayed away; the session will be investigated again")

    async def _release(self) -> None:
        if self._session.state in (SessionState.DONE, SessionState.FAILED):
            return
        try:
            async with asyncio.timeout(5):
                await self._write(state=SessionState.PENDING, heartbeat_at=None)
        except (KubernautError, TimeoutError) as error:
            log.warning("session_not_released", error=str(error))

    async def _write(self, **changes: Any) -> None:
        async with self._writing:
            session = self._session.model_copy(update=changes)
            await self._sessions.store.put_session(session, expected_attempt=session.attempt)
            self._session = session


def failure_of(error: BaseException) -> SessionError:
    """Say what an error means to who asked."""
    match error:
        case Retryable():
            return SessionError(message=redact(str(error)), status=503, retryable=True)
        case InvalidInput():
            return SessionError(message=redact(str(error)), status=400, retryable=False)
        case Permanent():
            return SessionError(message=redact(f"{error.reason}: {error}"), status=422, retryable=False)
        case _:
            return SessionError(
                message=f"internal error ({type(error).__name__}); see the log", status=500, retryable=True
            )
