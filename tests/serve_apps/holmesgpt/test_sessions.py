"""Durable investigations: replicas die, race and are released, and each session still ends once. Store: the real Data Storage."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.investigation import IncidentRequest, IncidentResponse, RootCause, SessionState
from kubernaut_ray.errors import Permanent, Retryable
from serve_apps.holmesgpt.sessions import MAX_WORKERS, Sessions
from tests.build import NOW
from tests.serve_apps.holmesgpt.world import incident


class Work:
    """Investigations that last until they are let go. ``runs`` tells which sessions and attempts of them began."""

    def __init__(self, *, error: Exception | None = None, held: bool = False) -> None:
        self.runs: list[str] = []
        self.gate = asyncio.Event()
        self.error = error
        if not held:
            self.gate.set()

    async def __call__(self, request: IncidentRequest, run: str) -> IncidentResponse:
        self.runs.append(run)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return IncidentResponse(
            incident_id=request.incident_id, analysis="x", root_cause_analysis=RootCause(summary=f"by run {run}"),
            confidence=0.9, timestamp=NOW, model="evidence",
        )  # fmt: skip


class Clock:
    """The wall clock, moved on by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> Any:
        return utcnow() + self.ahead


@pytest.fixture
async def replicas(storage: DataStorage):
    """Make replicas that are closed in the end."""
    made: list[Sessions] = []

    def make(work: Work, *, clock: Any = utcnow, **options: Any) -> Sessions:
        sessions = Sessions(storage, work, clock, **{"concurrency": 4, "heartbeat": 0.05, **options})
        made.append(sessions)
        return sessions

    yield make
    for sessions in made:
        await sessions.close()


async def until(sessions: Sessions, session_id: str, *states: SessionState) -> Any:
    async with asyncio.timeout(10):
        while True:
            session = await sessions.look(session_id)
            if session is not None and session.state in states:
                return session
            await asyncio.sleep(0.02)


ENDED = (SessionState.DONE, SessionState.FAILED)


async def test_a_session_runs_to_its_end(replicas):
    """Started at once, answered later, and the answer stays."""
    sessions = replicas(Work())

    started = await sessions.start("s-1", incident())
    ended = await until(sessions, "s-1", *ENDED)

    assert started.state is SessionState.PENDING
    assert ended.state is SessionState.DONE
    assert ended.response is not None
    assert ended.finished_at is not None
    assert ended.attempt == 1


async def test_starting_twice_is_starting_once(replicas):
    """On one replica or on several, at the same time or later: one investigation."""
    work = Work()
    one, other = replicas(work), replicas(work)

    await asyncio.gather(*(s.start("s-1", incident()) for s in (one, other, one, other, other)))
    await until(other, "s-1", *ENDED)
    again = await one.start("s-1", incident())

    assert work.runs == ["s-1/1"]
    assert again.state is SessionState.DONE


async def test_starting_again_with_more_to_tell_is_the_same_investigation(replicas):
    """An incident that grew meanwhile (a storm, members) does not cost a second investigation."""
    work = Work()
    sessions = replicas(work)

    await sessions.start("s-1", incident())
    grown = await sessions.start("s-1", incident(is_storm=True, storm_signal_count=900, occurrence_count=7))
    await until(sessions, "s-1", *ENDED)

    assert work.runs == ["s-1/1"]
    assert not grown.request.is_storm


async def test_an_unknown_session_is_none(replicas):
    """There is nothing to look at."""
    assert await replicas(Work()).look("nobody") is None


async def test_a_dead_replica_is_replaced(replicas):
    """The heart stopped: whoever looks takes over, and the answer is the survivor's."""
    clock, held = Clock(), Work(held=True)
    dying = replicas(held, heartbeat=3600)
    await dying.start("s-1", incident())
    survivor = replicas(Work(), clock=clock)

    early = await survivor.look("s-1")
    clock.ahead = timedelta(seconds=16)
    ended = await until(survivor, "s-1", *ENDED)

    assert early is not None
    assert early.attempt == 1
    assert ended.attempt == 2
    assert ended.response is not None
    assert ended.response.root_cause_analysis.summary == "by run s-1/2"
    held.gate.set()
    async with asyncio.timeout(10):
        while dying.active:
            await asyncio.sleep(0.02)
    assert (await survivor.look("s-1")).response.root_cause_analysis.summary == "by run s-1/2"


async def test_a_living_replica_is_left_alone(replicas):
    """Heartbeats keep others away, however long it takes."""
    clock, held = Clock(), Work(held=True)
    busy = replicas(held, clock=clock)
    await busy.start("s-1", incident())
    await until(busy, "s-1", SessionState.RUNNING)
    clock.ahead = timedelta(hours=1)
    await asyncio.sleep(0.2)

    seen = await replicas(Work(), clock=clock).look("s-1")

    assert seen is not None
    assert seen.attempt == 1


async def test_only_one_takes_over(replicas):
    """Several replicas find the same dead one; one wins."""
    clock, work = Clock(), Work()
    await replicas(Work(held=True), heartbeat=3600).start("s-1", incident())
    clock.ahead = timedelta(seconds=20)
    heirs = [replicas(work, clock=clock) for _ in range(4)]

    await asyncio.gather(*(h.look("s-1") for h in heirs))
    await until(heirs[0], "s-1", *ENDED)

    assert work.runs == ["s-1/2"]


async def test_a_drained_replica_hands_over_at_once(replicas):
    """A replica that is stopped releases its sessions; nobody waits for the heartbeat to grow old."""
    leaving = replicas(Work(held=True))
    await leaving.start("s-1", incident())
    await until(leaving, "s-1", SessionState.RUNNING)
    await leaving.close()

    ended = await until(replicas(Work()), "s-1", *ENDED)

    assert (ended.state, ended.attempt) == (SessionState.DONE, 2)


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (Retryable("model away"), 503, True),
        (Permanent("wrong key", reason="Unauthorized"), 422, False),
        (ValueError("a bug"), 500, True),
    ],
    ids=["passing", "permanent", "a bug"],
)
async def test_a_failure_is_an_end(replicas, error, status, retryable):
    """It is stored with what to do about it; a bug of one investigation does not leak its text."""
    sessions = replicas(Work(error=error))
    await sessions.start("s-1", incident())

    ended = await until(sessions, "s-1", *ENDED)

    assert ended.state is SessionState.FAILED
    assert (ended.error.status, ended.error.retryable) == (status, retryable)
    assert "a bug" not in ended.error.message


async def test_what_kills_its_workers_is_given_up(replicas, storage):
    """A session that brought down several replicas does not bring down another."""
    clock = Clock()
    await replicas(Work(held=True), heartbeat=3600).start("s-1", incident())
    session = await storage.get_session("s-1")
    await storage.put_session(session.model_copy(update={"attempt": MAX_WORKERS}), expected_attempt=1)
    clock.ahead = timedelta(seconds=60)
    work = Work()

    ended = await replicas(work, clock=clock).look("s-1")

    assert ended is not None
    assert ended.state is SessionState.FAILED
    assert not ended.error.retryable
    assert work.runs == []


async def test_no_more_at_a_time_than_allowed(replicas):
    """The others wait for their turn, and stay pending."""
    work = Work(held=True)
    sessions = replicas(work, concurrency=2)

    for number in range(4):
        await sessions.start(f"s-{number}", incident())
    await until(sessions, "s-1", SessionState.RUNNING)

    assert len(work.runs) == 2
    assert (await sessions.look("s-3")).state is SessionState.PENDING
    work.gate.set()
    for number in range(4):
        assert (await until(sessions, f"s-{number}", *ENDED)).state is SessionState.DONE


async def test_the_answer_waits_for_the_store(storage, replicas, monkeypatch):
    """A store that is away for a moment costs no answer."""
    work = Work(held=True)
    sessions = replicas(work, heartbeat=3600)
    await sessions.start("s-1", incident())
    await until(sessions, "s-1", SessionState.RUNNING)
    real, faults = storage.put_session, [Retryable("away", after=0.01)] * 3

    async def sometimes(*args: Any, **kw: Any) -> Any:
        if faults:
            raise faults.pop()
        return await real(*args, **kw)

    monkeypatch.setattr(storage, "put_session", sometimes)
    work.gate.set()

    assert (await until(sessions, "s-1", *ENDED)).state is SessionState.DONE
    assert not faults
