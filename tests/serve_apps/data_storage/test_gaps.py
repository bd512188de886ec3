"""The gap report, from searches as they are made to what a platform team reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts.catalog import WorkflowLabels, WorkflowPatch
from kubernaut_ray.contracts.gaps import GapReport
from kubernaut_ray.crds.enums import WorkflowStatus
from tests import build
from tests.serve_apps.data_storage.world import MEMORY, SHELF, Doorman, World, problem, world
from tests.serving import serving

OOM = "OOMKilled critical increase memory limit"


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def search(stored: World, query: str = OOM, remediation_id: str = "", **filters: str) -> int:
    body = {"query": query, "filters": filters, "remediation_id": remediation_id}
    return len((await stored.client.post("/api/v1/workflows/search", json=body)).json()["hits"])


async def report(stored: World, **params: Any) -> GapReport:
    answer = await stored.client.get("/api/v1/workflows/gaps", params=params)
    assert answer.status_code == 200
    return GapReport.model_validate_json(answer.content)


async def test_what_is_missing_and_why(stored):
    """How often, since when, for which remediations, and which label rules how many of the nearest out."""
    for n in range(3):
        stored.clock[0] = build.later(minutes=n)
        assert not await search(
            stored, remediation_id=f"rr-{n}", signal_type="OOMKilled", severity="low", component="Deployment"
        )
    assert not await search(stored, "volume is full", severity="high", component="PersistentVolumeClaim")
    assert await search(stored, remediation_id="rr-9", component="deployment")
    told = await report(stored)
    assert (told.questions, told.unanswered, told.truncated, told.snapshot_version) == (5, 4, False, 3)
    gap, other = told.gaps
    assert (gap.signal_type, gap.severity, gap.component, gap.environment) == ("OOMKilled", "low", "Deployment", "")
    assert (gap.questions, gap.weak, gap.answered_now, gap.example_query) == (3, 0, 0, OOM)
    assert gap.remediation_ids == ("rr-2", "rr-1", "rr-0")
    assert (gap.first_seen, gap.last_seen) == (build.NOW, build.later(minutes=2))
    assert gap.ruled_out == {"signal_type": 1, "component": 1, "severity": 1}
    nearest = gap.nearest[0]
    assert (nearest.workflow_name, nearest.ruled_out_by) == (
        MEMORY.workflow_name,
        {"severity": "severity is info; the workflow is for critical, high"},
    )
    assert [n.relevance for n in gap.nearest] == sorted((n.relevance for n in gap.nearest), reverse=True)
    assert (other.component, other.questions, other.remediation_ids) == ("PersistentVolumeClaim", 1, ())
    assert other.ruled_out["component"] == 3


async def test_asking_again_with_fewer_facts_is_one_question(stored):
    """An investigation that drops its unusual signal type and then finds something has no gap; one that does not has one."""
    for remediation, component in (("rr-a", "deployment"), ("rr-b", "volume")):
        for signal_type in ("Odd", "odd-thing", ""):
            stored.clock[0] += timedelta(seconds=1)
            if await search(stored, remediation_id=remediation, signal_type=signal_type, component=component):
                break
    told = await report(stored)
    assert (told.questions, told.unanswered) == (2, 1)
    assert [(g.signal_type, g.component, g.questions, g.remediation_ids) for g in told.gaps] == [
        ("Odd", "volume", 1, ("rr-b",))
    ]


async def test_spellings_of_one_thing_are_one_gap(stored):
    """Prod and production, Low and info are the same to the catalog, so they are to its report."""
    for environment, severity in (("prod", "low"), ("Production", "info"), ("production", "Low")):
        await search(stored, environment=environment, severity=severity, component="Node")
    (gap,) = (await report(stored)).gaps
    assert gap.questions == 3


async def test_weak_answers(stored):
    """An answer that has nothing to do with the question is no answer; how much is enough may be chosen."""
    assert await search(stored, "certificate of the ingress expired", component="deployment", environment="production")
    (gap,) = (await report(stored)).gaps
    assert (gap.questions, gap.weak) == (1, 1)
    assert 0 <= gap.best_relevance < 0.18
    assert gap.answered_now > 0
    assert (await report(stored, min_relevance=0)).gaps == ()
    await search(stored, component="deployment")
    assert (await report(stored)).unanswered == 1
    assert (await report(stored, min_relevance=1)).unanswered == 2


async def test_closed_since(stored):
    """Judged against today's catalog: a workflow that was written, or switched on again, closes the gap."""
    await stored.catalog.patch(MEMORY.workflow_id, WorkflowPatch(status=WorkflowStatus.DISABLED, reason="broke"), "ann")
    assert not await search(stored, signal_type="OOMKilled", component="deployment")
    (gap,) = (await report(stored)).gaps
    assert (gap.answered_now, gap.nearest[0].ruled_out_by) == (0, {"status": "it is disabled: broke"})
    await stored.catalog.patch(MEMORY.workflow_id, WorkflowPatch(status=WorkflowStatus.ACTIVE), "ann")
    (gap,) = (await report(stored)).gaps
    assert (gap.answered_now, gap.nearest[0].ruled_out_by) == (1, {})
    labels = WorkflowLabels(signal_type="OOMKilled", component="statefulset")
    await stored.register(build.workflow("raise-memory", labels=labels))
    await search(stored, signal_type="OOMKilled", component="daemonset")
    assert len((await report(stored)).gaps) == 2


async def test_since_and_limit(stored):
    """Old questions are left out, and the most frequent gaps come first."""
    for n, component in enumerate(("a", "b", "b", "c", "c", "c")):
        stored.clock[0] = build.later(minutes=n)
        await search(stored, component=component)
    stored.clock[0] = build.later(minutes=10)
    assert [g.component for g in (await report(stored)).gaps] == ["c", "b", "a"]
    assert [g.component for g in (await report(stored, limit=1)).gaps] == ["c"]
    late = await report(stored, since="8m")
    assert (late.unanswered, [g.component for g in late.gaps]) == (4, ["c", "b"])
    assert (await report(stored, since="1s")).gaps == ()
    problem(await stored.client.get("/api/v1/workflows/gaps", params={"since": "soon"}), 400)


async def test_an_empty_catalog(tmp_path):
    """Nothing is nearest where there is nothing."""
    async with world(tmp_path, workflows=()) as stored:
        await search(stored, component="pod")
        (gap,) = (await report(stored)).gaps
        assert (gap.nearest, gap.ruled_out, gap.questions) == ((), {}, 1)


async def test_over_the_client(tmp_path):
    """The typed client reads it; who may not list audit events is refused."""
    async with world(tmp_path, Doorman(), SHELF) as stored, serving(stored.app) as url:
        async with DataStorage(url, lambda: "ann") as storage:
            assert (await storage.gaps(since=timedelta(days=7), limit=5)).gaps == ()
        assert (
            await stored.client.get("/api/v1/workflows/gaps", headers={"authorization": "Bearer bob"})
        ).status_code == 403
