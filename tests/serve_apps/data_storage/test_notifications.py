"""Notifications told from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray.clock import rfc3339
from tests import build
from tests.serve_apps.data_storage.world import World, problem, world

PATH = "/api/v1/audit/notifications"


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, workflows=()) as made:
        yield made


def notice(**fields: Any) -> dict[str, Any]:
    return {
        "remediation_id": "rr-a",
        "notification_id": "n-1",
        "recipient": "#oncall",
        "channel": "slack",
        "message_summary": "web was restarted",
        "status": "sent",
        "sent_at": rfc3339(build.NOW),
        "escalation_level": 2,
        **fields,
    }


async def test_becomes_an_audit_event(stored):
    """It is in the trail of its remediation with all that was told; the same again is 200, anything else 409."""
    first = await stored.client.post(PATH, json=notice())
    assert (first.status_code, first.json()["stored"]) == (201, True)
    again = await stored.client.post(PATH, json=notice())
    assert (again.status_code, again.json()) == (200, {**first.json(), "stored": False})
    for other in ({"status": "failed"}, {"remediation_id": "rr-b"}, {"message_summary": "x"}):
        told = problem(await stored.client.post(PATH, json=notice(**other)), 409)
        assert "n-1" in told["detail"]
    (event,) = (await stored.client.get("/api/v1/remediations/rr-a/timeline")).json()["events"]
    assert (event["event_type"], event["event_outcome"], event["event_category"]) == (
        "notification.message.sent",
        "success",
        "notification",
    )
    assert event["event_id"] == first.json()["event_id"]
    assert event["event_data"]["recipient"] == "#oncall"
    assert event["event_timestamp"] == notice()["sent_at"]


@pytest.mark.parametrize(("status", "outcome"), [("failed", "failure"), ("pending", "pending")])
async def test_outcomes(stored, status, outcome):
    """How it ended is found by the trail's own filter."""
    assert (await stored.client.post(PATH, json=notice(status=status))).status_code == 201
    found = (await stored.client.get("/api/v1/audit/events", params={"event_outcome": outcome})).json()
    assert [e["event_action"] for e in found["data"]] == [status]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipient": "x" * 501}, "recipient"),
        ({"message_summary": "x" * 1001}, "message_summary"),
        ({"channel": "pigeon"}, "channel"),
        ({"status": "lost"}, "status"),
        ({"escalation_level": 6}, "escalation_level"),
        ({"sent_at": "today"}, "sent_at"),
        ({"sent_at": rfc3339(build.NOW + timedelta(hours=1))}, "event_timestamp"),
        ({"notification_id": ""}, "notification_id"),
        ({"recipent": "x"}, "recipent"),
    ],
)
async def test_bad_notices(stored, change, field):
    """Each is a 400 that names the field, and nothing is stored."""
    told = problem(await stored.client.post(PATH, json=notice(**change)), 400)
    assert field in str(told["field_errors"])
    assert (await stored.client.get("/api/v1/audit/events")).json()["pagination"]["total"] == 0


@pytest.mark.parametrize(
    "field", ["remediation_id", "notification_id", "recipient", "channel", "message_summary", "status", "sent_at"]
)
async def test_required_fields(stored, field):
    """Every field that the contract requires is missed by name."""
    body = notice()
    del body[field]
    assert field in str(problem(await stored.client.post(PATH, json=body), 400)["field_errors"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, notice()),
        ("/api/v1/audit/events", build.audit_event().to_json()),
        ("/api/v1/audit/events/batch", {"events": [build.audit_event().to_json()]}),
        ("/api/v1/executions", {"workflow_id": "w", "success": True}),
    ],
)
async def test_no_write_is_acknowledged_without_the_owner(stored, path, body):
    """While the owner is away a write is 503 with Retry-After, never 202; told again later, it is stored."""
    stored.transport.away = True
    refused = await stored.client.post(path, json=body)
    problem(refused, 503)
    assert refused.headers["retry-after"] == "2"
    stored.transport.away = False
    assert (await stored.client.post(path, json=body)).status_code == 201
