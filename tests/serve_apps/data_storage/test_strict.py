"""What a fuzzer sends: nothing of it is answered with a 5xx, and no refusal tells what is behind the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import build
from tests.serve_apps.data_storage.world import World, problem, world

JSON = {"content-type": "application/json"}
SEARCH = "/api/v1/workflows/search"
EVENT = orjson.dumps(build.audit_event().to_json())


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, workflows=()) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SEARCH, b'{"query": "a", "filters": {"custom_labels": {"\\ud800": ["x"]}}}'),
        (SEARCH, b'{"query": "a", "filters": {"severity": "\\ud800"}}'),
        (SEARCH, b'{"query": "a", "filters": {"detected_labels": {"x": NaN}}}'),
        (SEARCH, b'{"query": "a", "filters": {"detected_labels": {"x": 123456789012345678901234567890}}}'),
        (SEARCH, b'{"query": "a", "filters": {"detected_labels": {"x": ' + b"[" * 300 + b"]" * 300 + b"}}}"),
        (SEARCH, b'{"query": "a", "filters": {"detected_labels": {"x": ' + b"[" * 9000 + b"]" * 9000 + b"}}}"),
        (SEARCH, b'{"query": "a", "filters": {"severty": "high"}}'),
        (SEARCH, b'{"query": "a"'),
        (SEARCH, b"\xff"),
        ("/api/v1/executions", b'{"workflow_id": "w", "success": true, "finished_at": "0001-01-01T00:00:00+01:00"}'),
        ("/api/v1/executions", b'{"workflow_id": "w", "success": true, "finished_at": "9999-12-31T23:59:59-01:00"}'),
        ("/api/v1/workflows", b'{"container_image": "x", "labels": {}}'),
        ("/api/v1/audit/events", EVENT.replace(b"2026-03-01T12", b"0001-01-01T00")),
        ("/api/v1/audit/events", EVENT.replace(b'"number":0', b'"number":' + b"[" * 9000 + b"]" * 9000)),
    ],
    ids=["half a surrogate as key", "half a surrogate", "NaN", "huge number", "deep", "bottomless", "misspelt filter",
         "cut off", "not UTF-8", "before the calendar", "after the calendar", "labels by hand", "very old", "deep event"],
)  # fmt: skip
async def test_bodies(stored, path, body):
    """Each is a 400 in words."""
    assert problem(await stored.client.post(path, content=body, headers=JSON), 400)["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/audit/events?since=0001-01-01T00:00:00%2B01:00", 400),
        ("/api/v1/audit/events?until=9999-12-31T23:59:59-01:00", 400),
        ("/api/v1/audit/events?since=99999999999999999999d", 400),
        ("/api/v1/audit/events?since=0353-01-01T00:00:00Z", 200),
        ("/api/v1/audit/events?severity=%00", 200),
        ("/api/v1/audit/events?offset=9007199254740993", 400),
        ("/api/v1/workflows?offset=9007199254740992", 200),
        ("/api/v1/workflows?name=%00", 200),
        ("/api/v1/workflows/%00", 404),
        ("/api/v1/workflows/" + "x" * 254, 400),
        ("/api/v1/executions/statistics?since=0001-01-01T00:00:00%2B05:00", 400),
        ("/api/v1/workflows/gaps?since=0001-01-01T00:00:00Z", 200),
        ("/api/v1/workflows/gaps?limit=101", 400),
    ],
)
async def test_parameters(stored, path, status):
    """What can be answered is; what cannot is a problem of its caller."""
    answer = await stored.client.get(path)
    assert answer.status_code == status
    if status >= 400:
        problem(answer, status)


@given(
    query=st.text(max_size=40), facts=st.dictionaries(st.sampled_from(("severity", "component")), st.text(max_size=10))
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_asked_is_reported(stored, query, facts):
    """Any text that can be searched for can be read back from the trail by the gap report."""
    answer = await stored.client.post(SEARCH, json={"query": query, "filters": facts})
    assert answer.status_code == (200 if query.strip() else 400)
    assert (await stored.client.get("/api/v1/workflows/gaps")).status_code == 200


async def test_every_method_of_a_path_is_allowed(stored):
    """405 names all methods of the path, not those of the first route that has it."""
    for path, methods in (
        ("/api/v1/workflows", "GET, POST"),
        ("/api/v1/workflows/w", "GET, PATCH"),
        ("/api/v1/audit/events", "GET, POST"),
        ("/mcp", "POST"),
    ):
        answer = await stored.client.delete(path)
        problem(answer, 405)
        assert answer.headers["allow"] == methods
