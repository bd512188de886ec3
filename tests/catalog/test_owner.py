"""The owner through its typed end: registration, versions, audit, sessions, statistics, snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import client
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.errors import Conflict, NotFound
from catalog.events import AuditQuery
from catalog.owner import Owner
from catalog.records import semantic
from kubernaut_ray.contracts.catalog import RegisterWorkflow, SearchRequest, Workflow, WorkflowPatch
from kubernaut_ray.contracts.investigation import IncidentRequest, InvestigationSession, SessionState
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import InvalidInput, Retryable
from tests import build
from tests.catalog.test_workflow import FLAT


class Shelf:
    """Bundles by reference; what is not there is no bundle."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}

    def put(self, workflow: Workflow) -> RegisterWorkflow:
        self.workflows[workflow.container_image] = workflow
        return RegisterWorkflow(container_image=workflow.container_image)

    def workflow(self, ref: str) -> tuple[Workflow, Any]:
        if ref not in self.workflows:
            raise InvalidInput(f"{ref}: no such bundle", problems=(("container_image", "no such bundle"),))
        return self.workflows[ref], None


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def owner(tmp_path: Path, shelf: Shelf) -> AsyncIterator[Owner]:
    owner = Owner(tmp_path, embedder=Lexicon(), source=shelf, now=lambda: build.NOW)
    yield owner
    await asyncio.to_thread(owner.close)


@pytest.fixture
def catalog(owner: Owner) -> Catalog:
    return Catalog(InProcess(owner), Lexicon())


def session(attempt: int = 0, state: SessionState = SessionState.PENDING) -> InvestigationSession:
    request = IncidentRequest(
        incident_id="i", remediation_id="rr-a", signal_name="n", signal_type="t", severity="high",
        target=TargetResource(kind="Pod", name="p", namespace="n"),
    )  # fmt: skip
    return InvestigationSession(session_id="s", state=state, request=request, created_at=build.NOW, attempt=attempt)


async def test_registered_is_found_at_once(catalog, shelf):
    """A workflow is searchable by the time its registration is answered."""
    created = await catalog.register(shelf.put(build.workflow()))
    assert created[1]
    found = (await catalog.snapshot()).search(SearchRequest(query="OOMKilled"))
    assert [created[0].workflow_id] == [hit.workflow.workflow_id for hit in found.hits]


async def test_identical_again_is_the_same(catalog, shelf):
    """Registering the same content again writes nothing, and what an operator disabled stays disabled."""
    request = shelf.put(build.workflow())
    first, _ = await catalog.register(request)
    await catalog.patch(first.workflow_id, WorkflowPatch(status=WorkflowStatus.DISABLED, reason="bad"), "ann")
    version = catalog.version
    again, created = await catalog.register(request)
    assert (False, WorkflowStatus.DISABLED, version) == (created, again.status, catalog.version)


async def test_other_content_under_a_version_is_a_conflict(catalog, shelf):
    """Versions are immutable; the message says what to do."""
    await catalog.register(shelf.put(build.workflow()))
    with pytest.raises(Conflict, match="raise the version"):
        await catalog.register(shelf.put(build.workflow(content="changed")))


async def test_a_refused_version_says_what_is_registered_and_what_to_do(catalog, shelf):
    """Both digests and both hashes; the same schema in another bundle runs something else and is refused too."""
    first, _ = await catalog.register(shelf.put(build.workflow()))
    digest = f"sha256:{'e' * 64}"
    with pytest.raises(Conflict, match="the same schema in another bundle") as told:
        await catalog.register(shelf.put(build.workflow(container_digest=digest)))
    for said in (digest, first.container_digest, first.content_hash, "name the registered digest"):
        assert said in str(told.value)
    mirrored = shelf.put(build.workflow(container_image="mirror.example/w:1"))
    again, created = await catalog.register(mirrored)
    assert (created, again.container_image) == (False, first.container_image)


async def test_what_is_expected_must_be_so(catalog, shelf):
    """A registration that expects something else of the schema writes nothing."""
    request = shelf.put(build.workflow(content=FLAT, version="1.2.0"))
    with pytest.raises(InvalidInput, match=r"spec\.version") as told:
        await catalog.register(request.model_copy(update={"expected": {"version": "9.9.9"}}))
    assert told.value.reason == "SpecDiffers"
    assert orjson.loads(await catalog.workflows(status="", name="", limit=10, offset=0))["workflows"] == []
    asked = request.model_copy(update={"expected": {"version": "1.2.0"}, "source": "somebody"})
    assert (await catalog.register(asked))[0].source == "somebody"


async def test_a_version_follows_the_next_lower_one(catalog, shelf):
    """Also when it comes late; build metadata and spelling decide nothing but a tie, the same way every time."""
    for order in (("1.0.0", "1.2.0", "1.1.0", "1.2.0+b", "1.2.0+a"), ("1.2.0+b", "1.1.0", "1.2.0+a", "1.2.0", "1.0.0")):
        for version in order:
            await catalog.register(shelf.put(build.workflow(order[0], version)))
        page = orjson.loads(await catalog.workflows(status="", name=order[0], limit=10, offset=0))
        assert [w["version"] for w in page["workflows"] if w["is_latest_version"]] == ["1.2.0+b"]
    page = orjson.loads(await catalog.workflows(status="", name="1.0.0", limit=10, offset=0))
    follows = {w["version"]: w["previous_version"] for w in page["workflows"]}
    assert (follows["1.0.0"], follows["1.1.0"], follows["1.2.0"]) == ("", "1.0.0", "1.0.0")


async def test_an_older_version_is_not_offered_for_a_disabled_one(catalog, shelf):
    """Nobody decided that; explain says why, and what would help."""
    await catalog.register(shelf.put(build.workflow()))
    newer, _ = await catalog.register(shelf.put(build.workflow(version="2.0.0")))
    await catalog.patch(newer.workflow_id, WorkflowPatch(status=WorkflowStatus.DISABLED, reason="bad"), "ann")
    found = (await catalog.snapshot()).search(SearchRequest(query="OOMKilled", explain=True))
    reasons = {one.workflow_id: one.reason for one in found.excluded}
    assert not found.hits
    assert reasons[newer.workflow_id] == "it is disabled: bad"
    del reasons[newer.workflow_id]
    (why,) = reasons.values()
    assert why.startswith("version 2.0.0 of it is newer and is disabled: bad; no older version is offered in its place")


async def test_newest_version_is_latest_whatever_the_order(catalog, shelf):
    """Latest is by version number, not by time of registration."""
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        await catalog.register(shelf.put(build.workflow(version=version)))
    page = orjson.loads(await catalog.workflows(status="", name="", limit=10, offset=0))
    latest = {w["version"]: w["is_latest_version"] for w in page["workflows"]}
    assert latest == {"1.0.0": False, "1.9.0": False, "1.10.0": True}
    assert page["pagination"] == {"limit": 10, "offset": 0, "total": 3, "has_more": False}


async def test_concurrent_registrations_agree(catalog, shelf):
    """Many at once: one is new, the others find it."""
    request = shelf.put(build.workflow())
    outcomes = await asyncio.gather(*(catalog.register(request) for _ in range(16)))
    assert sum(created for _, created in outcomes) == 1


async def test_what_is_no_bundle_is_refused(catalog):
    """The refusal of the bundle's reader arrives with its problems."""
    with pytest.raises(InvalidInput, match="no such bundle") as told:
        await catalog.register(RegisterWorkflow(container_image="r/none:1"))
    assert told.value.problems == (("container_image", "no such bundle"),)


async def test_unknown_workflow(catalog):
    """Reading or changing what is not there says so."""
    with pytest.raises(NotFound):
        await catalog.workflow("nope")
    with pytest.raises(NotFound):
        await catalog.patch("nope", WorkflowPatch(status=WorkflowStatus.ACTIVE), "ann")


async def test_disabling_takes_effect_and_back(catalog, shelf):
    """Status changes reach the next search; who and why are kept until it is enabled again."""
    workflow, _ = await catalog.register(shelf.put(build.workflow()))
    off = await catalog.patch(workflow.workflow_id, WorkflowPatch(status=WorkflowStatus.DISABLED, reason="bad"), "ann")
    assert (off.disabled_by, off.disabled_reason, off.disabled_at) == ("ann", "bad", build.NOW)
    assert not (await catalog.snapshot()).search(SearchRequest(query="OOMKilled")).hits
    on = await catalog.patch(workflow.workflow_id, WorkflowPatch(status=WorkflowStatus.ACTIVE), "bob")
    assert (on.disabled_by, on.disabled_reason, on.disabled_at) == ("", "", None)
    assert (off.status_changed_by, off.status_changed_reason) == ("ann", "bad")
    assert (on.status_changed_by, on.status_changed_reason, on.status_changed_at) == ("bob", "", build.NOW)
    version = catalog.version
    assert on == await catalog.patch(workflow.workflow_id, WorkflowPatch(status=WorkflowStatus.ACTIVE), "bob")
    assert version == catalog.version
    assert (await catalog.snapshot()).search(SearchRequest(query="OOMKilled")).hits


async def test_other_replicas_learn_of_a_change(owner, shelf):
    """A replica that was told a version searches at least that one; one that was not notices within its poll."""
    clock = [0.0]
    writer = Catalog(InProcess(owner), Lexicon())
    reader = Catalog(InProcess(owner), Lexicon(), monotonic=lambda: clock[0])
    assert (await reader.snapshot()).version == 0
    await writer.register(shelf.put(build.workflow()))
    assert (await reader.snapshot()).version == 0
    assert (await reader.snapshot(at_least=writer.version)).version == 1
    await writer.register(shelf.put(build.workflow(version="2.0.0")))
    clock[0] += 2
    assert (await reader.snapshot()).version == 2


async def test_everything_is_there_after_a_restart(tmp_path, shelf):
    """Catalog version, records, vectors, audit and sessions outlive the owner."""
    for round_ in range(2):
        owner = Owner(tmp_path, embedder=Lexicon(), source=shelf, now=lambda: build.NOW)
        catalog = Catalog(InProcess(owner), Lexicon())
        if round_ == 0:
            await catalog.register(shelf.put(build.workflow()))
            await catalog.append_audit([build.audit_event(1)])
            await catalog.put_session(session(), None)
        snapshot = await catalog.snapshot()
        assert (snapshot.version, len(snapshot.index)) == (1, 1)
        assert b'"number":1' in await catalog.timeline("rr-a")
        assert b'"attempt":0' in await catalog.session("s")
        result = await catalog.append_audit([build.audit_event(1), build.audit_event(2 + round_)])
        assert (result.stored, result.duplicates) == (1, 1)
        await asyncio.to_thread(owner.close)


async def test_audit_query(catalog):
    """Filters combine; pages are stable; the newest come first on demand."""
    events = [
        build.audit_event(
            n, now=build.NOW + timedelta(seconds=n), correlation_id=f"rr-{n % 2}", severity="high" * (n == 3)
        )
        for n in range(10)
    ]
    await catalog.append_audit(events[5:])
    await catalog.append_audit(events[:5])

    async def numbers(**filters: Any) -> list[int]:
        page = orjson.loads(await catalog.find_audit(AuditQuery(**filters)))
        return [event["event_data"]["number"] for event in page["data"]]

    assert list(range(10)) == await numbers()
    assert await numbers(order="desc", limit=2) == [9, 8]
    assert await numbers(correlation_id="rr-1") == [1, 3, 5, 7, 9]
    assert await numbers(severity="high") == [3]
    assert await numbers(since=build.NOW + timedelta(seconds=4), until=build.NOW + timedelta(seconds=6)) == [4, 5]
    assert await numbers(event_type="other.thing.happened") == []
    assert await numbers(limit=2, offset=6) == [6, 7]
    timeline = orjson.loads(await catalog.timeline("rr-0"))
    assert (
        timeline["remediation_id"],
        [event["event_data"]["number"] for event in timeline["events"]],
    ) == ("rr-0", [0, 2, 4, 6, 8])


async def test_concurrent_batches_store_each_event_once(catalog):
    """The same events told by many writers at once are stored once."""
    batch = [build.audit_event(n) for n in range(200)]
    results = await asyncio.gather(*(catalog.append_audit(batch[n:] + batch[:n]) for n in range(0, 200, 20)))
    assert (sum(r.stored for r in results), sum(r.duplicates for r in results)) == (200, 1800)


async def test_one_replica_wins_a_session(catalog):
    """Of many that claim an attempt, one is let; the others are told to read again."""
    await catalog.put_session(session(), None)
    claims = await asyncio.gather(
        *(catalog.put_session(session(1, SessionState.RUNNING), 0) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(claim, Conflict) for claim in claims) == 7
    await catalog.put_session(session(1, SessionState.DONE), 1)
    with pytest.raises(Conflict):
        await catalog.put_session(session(), None)
    with pytest.raises(Conflict):
        await catalog.put_session(session(0), 1)
    with pytest.raises(NotFound):
        await catalog.session("other")


async def test_executions_count_once_and_feed_the_record(catalog, shelf):
    """An execution told twice counts once; the workflow's record shows its statistics."""
    workflow, _ = await catalog.register(shelf.put(build.workflow()))
    for uid, success, ago in (("a", True, 0), ("a", True, 0), ("b", False, 0), ("c", True, 7200)):
        ended = build.NOW - timedelta(seconds=ago)
        await catalog.record_execution(
            ExecutionRecord(
                execution_id=uid,
                workflow_id=workflow.workflow_id,
                success=success,
                finished_at=ended,
                duration_seconds={"a": 10, "b": 20}.get(uid),
            )
        )
    recent = orjson.loads(await catalog.execution_statistics(build.NOW - timedelta(hours=1)))
    assert (recent["total"], recent["successful"], len(recent["workflows"])) == (2, 1, 1)
    record = orjson.loads(await catalog.workflow(workflow.workflow_id))
    assert (record["total_executions"], record["successful_executions"]) == (3, 2)
    assert (record["actual_success_rate"], record["average_duration_seconds"]) == (0.6667, 15.0)
    assert record["last_execution_at"] == "2026-03-01T12:00:00.000000Z"
    again, created = await catalog.register(shelf.put(build.workflow()))
    assert (created, again.total_executions) == (False, 3)


@pytest.mark.parametrize(
    ("method", "payload", "kind"),
    [("nonsense", b"{}", "InvalidInput"), ("workflow", b"not json", "InvalidInput"), ("workflow", b"{}", "Retryable")],
)
async def test_bad_calls_are_answered(owner, method, payload, kind):
    """Whatever is sent, an answer comes back and the owner goes on."""
    answer = orjson.loads(await asyncio.wrap_future(owner.call(method, payload)))
    assert kind == answer["error"]["kind"]
    assert orjson.loads(await asyncio.wrap_future(owner.call("version", b"null")))["version"] == 0


async def test_snapshot_before_anything(catalog):
    """An empty catalog publishes a snapshot too."""
    assert ((await catalog.snapshot()).version, len((await catalog.snapshot()).index)) == (0, 0)


async def test_unreachable_owner():
    """An owner that cannot be reached is a passing fault."""

    class Away:
        async def call(self, method: str, payload: bytes) -> bytes:
            raise Retryable("away")

        async def snapshot(self, have: int) -> bytes:
            raise Retryable("away")

    with pytest.raises(Retryable):
        await Catalog(Away(), Lexicon()).snapshot()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9.0", "1.10.0"),
        ("1.0.0-rc.1", "1.0.0"),
        ("1.0.0-rc.2", "1.0.0-rc.10"),
        ("1.0.0-1", "1.0.0-alpha"),
        ("1.0.0+b", "1.0.1"),
    ],
)
def test_version_precedence(older, newer):
    """Semantic Versioning's precedence."""
    assert semantic(older) < semantic(newer)


@given(st.tuples(*[st.integers(0, 99)] * 3), st.tuples(*[st.integers(0, 99)] * 3))
def test_version_order_is_numeric(one, two):
    """Versions compare as their numbers do."""
    assert (one < two) == (semantic(".".join(map(str, one))) < semantic(".".join(map(str, two))))


class Counting(Lexicon):
    """Remembers how many texts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = 0

    def embed(self, texts: Any) -> Any:
        self.texts += len(texts)
        return super().embed(texts)


async def test_a_snapshot_reads_and_embeds_what_changed_only(tmp_path, shelf):
    """A record is embedded when it is new, and not for the next version, a new status, its statistics, or a restart."""
    for round_ in range(2):
        embedder = Counting()
        owner = Owner(tmp_path, embedder=embedder, source=shelf, now=lambda: build.NOW)
        catalog = Catalog(InProcess(owner), Lexicon())
        if round_ == 0:
            for version in ("1.0.0", "1.1.0", "1.2.0"):
                workflow, _ = await catalog.register(shelf.put(build.workflow(version=version)))
            await catalog.patch(workflow.workflow_id, WorkflowPatch(status=WorkflowStatus.DISABLED), "ann")
            await catalog.record_execution(
                ExecutionRecord(execution_id="a", workflow_id=workflow.workflow_id, success=True)
            )
            workflow = await catalog.patch(workflow.workflow_id, WorkflowPatch(status=WorkflowStatus.ACTIVE), "ann")
        snapshot = await catalog.snapshot(catalog.version)
        (hit,) = snapshot.search(SearchRequest(query="OOMKilled")).hits
        assert (hit.workflow.version, hit.workflow.total_executions, hit.workflow.status) == ("1.2.0", 1, "active")
        assert (3, 0)[round_] == embedder.texts
        await asyncio.to_thread(owner.close)


class Slow(InProcess):
    """Gives snapshots when it is let."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self.let = asyncio.Event()
        self.let.set()
        self.asked = 0

    async def snapshot(self, have: int) -> bytes:
        self.asked += 1
        await self.let.wait()
        return await super().snapshot(have)


async def test_searches_go_on_while_a_snapshot_is_made(owner, shelf, monkeypatch):
    """Who knows of no change is answered at once from what there is; who was told a version waits for it."""
    monkeypatch.setattr(client, "SETTLE_SECONDS", 0.01)
    transport = Slow(owner)
    catalog = Catalog(transport, Lexicon())
    old = await catalog.snapshot()
    transport.let.clear()
    await catalog.register(shelf.put(build.workflow()))
    assert [old] * 3 == [await catalog.snapshot() for _ in range(3)]
    knowing = asyncio.create_task(catalog.snapshot(catalog.version))
    await asyncio.sleep(0)
    assert not knowing.done()
    transport.let.set()
    assert ((await knowing).version, transport.asked) == (1, 2)
    assert (await catalog.snapshot()) is (await knowing)


async def test_an_old_snapshot_is_not_searched_for_ever(owner, shelf):
    """Searches wait when the snapshot has been known to be old for long, or when nobody asked for a while."""
    clock = [0.0]
    writer, transport = Catalog(InProcess(owner), Lexicon()), Slow(owner)
    reader = Catalog(transport, Lexicon(), monotonic=lambda: clock[0])
    await reader.snapshot()
    await writer.register(shelf.put(build.workflow()))
    transport.let.clear()
    for _ in range(12):
        clock[0] += 1.2
        answer = asyncio.create_task(reader.snapshot())
        await asyncio.sleep(0.05)
        if clock[0] < client.BEHIND_SECONDS:
            assert (await answer).version == 0
    assert not answer.done()
    transport.let.set()
    assert (await answer).version == 1
    await writer.register(shelf.put(build.workflow(version="2.0.0")))
    clock[0] += 3600
    assert (await reader.snapshot()).version == 2


async def test_an_owner_that_is_away_is_noticed(owner, shelf):
    """Polls that fail leave the snapshot in use for a moment only: what was disabled since must not be offered for long."""
    clock = [0.0]
    catalog = Catalog(transport := Slow(owner), Lexicon(), monotonic=lambda: clock[0])
    held = await catalog.snapshot()

    async def away(method: str, payload: bytes) -> bytes:
        raise Retryable("away")

    transport.call = away
    clock[0] += 1.2
    assert held is await catalog.snapshot()
    await asyncio.sleep(0.01)
    clock[0] += 1.2
    with pytest.raises(Retryable, match="away"):
        await catalog.snapshot()
