"""What ``/metrics`` tells, and that nobody can make it tell more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_apps.data_storage.metrics import FIELDS, OTHER, REASONS, Metrics
from tests import build
from tests.serve_apps.data_storage.world import World, problem, world

BOUNDED = {"table", "status", "operation", "service", "field", "reason", "le"}


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def told(stored: World) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, which are in the order of their names."""
    answer = await stored.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    samples = [s for family in families for s in family.samples]
    assert {label for s in samples for label in s.labels} <= BOUNDED
    return {(s.name.removeprefix("datastorage_"), *s.labels.values()): s.value for s in samples}


async def test_a_day_of_work(stored):
    """Writes by table, reads by operation, audit by service with its lag, searches with what they found, the snapshot."""
    events = [build.audit_event(n, now=build.NOW - timedelta(seconds=n)).to_json() for n in range(3)]
    await stored.client.post("/api/v1/audit/events/batch", json={"events": events})
    await stored.client.post("/api/v1/workflows/search", json={"query": "OOMKilled"})
    await stored.client.post("/api/v1/workflows/search", json={"query": "x", "filters": {"component": "volume"}})
    await stored.client.get("/api/v1/workflows")
    problem(await stored.client.get("/api/v1/workflows/none"), 404)
    stored.transport.away = True
    await stored.client.post("/api/v1/audit/events/batch", json={"events": events})
    metrics = await told(stored)
    expected = {
        ("write_total", "success", "workflows"): 3,
        ("write_total", "success", "audit_events"): 3,
        ("write_total", "unavailable", "audit_events"): 1,
        ("write_duration_seconds_count", "audit_events"): 4,
        ("audit_traces_total", "gateway", "success"): 3,
        ("audit_traces_total", "gateway", "failure"): 3,
        ("audit_lag_seconds_sum", "gateway"): 2,
        ("query_total", "workflows", "success"): 1,
        ("query_total", "workflow", "refused"): 1,
        ("query_duration_seconds_count", "workflow"): 1,
        ("embedding_generation_duration_seconds_count",): 2,
        ("search_duration_seconds_count",): 2,
        ("search_hits_sum",): 3,
        ("search_empty_total",): 1,
        ("snapshot_version",): 3,
        ("snapshot_age_seconds",): 0,
        ("catalog_workflows",): 3,
    }
    assert expected == {key: metrics.get(key) for key in expected}
    assert metrics["snapshot_bytes",] > 1000


async def test_refused_input(stored):
    """Input that is refused is told by field and reason, whatever route it came to."""
    bad = build.audit_event().to_json() | {"event_category": "gossip"}
    await stored.client.post("/api/v1/audit/events/batch", json={"events": [build.audit_event().to_json(), bad]})
    await stored.client.post("/api/v1/workflows/search", json={"query": "x", "filters": {"severty": "high"}})
    await stored.client.get("/api/v1/audit/events", params={"limit": 0})
    await stored.client.get("/api/v1/audit/events", params={"since": "soon"})
    await stored.client.patch("/api/v1/workflows/w", json={"status": "active", "description": "new"})
    metrics = {key[1:]: value for key, value in (await told(stored)).items() if key[0] == "validation_failures_total"}
    assert metrics == {
        ("event_category", "enum"): 1,
        ("filters", "extra_forbidden"): 1,
        ("limit", "greater_than_equal"): 1,
        ("since", "refused"): 1,
        ("body", "refused"): 1,
    }


def test_labels_are_bounded():
    """However many names somebody makes up, the samples stay few."""
    metrics = Metrics()
    metrics.refused((f"made_up_{n}.field_{n}", f"reason_{n}") for n in range(1000))
    for n in range(1000):
        metrics.called(f"operation_{n}", "success", 0.1)
    samples = [s for f in text_string_to_metric_families(metrics.render().decode()) for s in f.samples]
    assert len(samples) < 120
    assert OTHER not in FIELDS | REASONS
