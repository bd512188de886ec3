"""Assessments told to Data Storage, and what it says of a workflow's record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.build import later
from tests.serve_apps.data_storage.world import World, problem, world


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def record(number: int, effective: bool, environment: str = "staging", **fields: Any) -> dict[str, Any]:
    return {
        "execution_id": f"run-{number}",
        "workflow_id": "wf",
        "environment": environment,
        "effective": effective,
        "score": 0.9 if effective else 0.1,
        "assessed_at": later(number).isoformat(),
        **fields,
    }


async def test_a_record_by_environment(shop: World) -> None:
    """Counted, judged, and the newest failures in a row, in whatever order they were told."""
    told = [record(2, False), record(0, True), record(1, False), record(3, True, "production")]
    for one in told:
        answer = await shop.client.post("/api/v1/effectiveness", json=one)
        assert (answer.status_code, answer.json()) == (201, {"recorded": True})
    assert (await shop.client.post("/api/v1/effectiveness", json=told[0])).json() == {"recorded": False}
    found = (await shop.client.get("/api/v1/effectiveness/wf")).json()
    production, staging = found["environments"]
    assert (staging["assessed"], staging["effective"], staging["failures_in_a_row"]) == (3, 1, 2)
    assert (staging["level"], staging["mean"]) == ("suggest", 0.4)
    assert (production["environment"], production["level"], production["mean_score"]) == ("production", "approve", 0.9)
    assert (await shop.client.get("/api/v1/effectiveness/other")).json()["environments"] == []


@pytest.mark.parametrize("wrong", [{"score": 1.5}, {"execution_id": ""}, {"workflow_id": ""}])
async def test_what_is_no_record_is_refused(shop: World, wrong: dict[str, Any]) -> None:
    """With the field that is wrong."""
    body = problem(await shop.client.post("/api/v1/effectiveness", json=record(1, True, **wrong)), 400)
    assert next(iter(wrong)) in str(body)
