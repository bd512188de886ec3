"""ETags: who has it already gets 304, who changes what moved on gets 412."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from kubernaut_ray.contracts.statistics import ExecutionRecord
from tests import build
from tests.serve_apps.data_storage.world import MEMORY, Doorman, World, problem, world
from tests.serving import serving

PATH = f"/api/v1/workflows/{MEMORY.workflow_id}"


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.mark.parametrize("path", [PATH, "/api/v1/workflows", "/api/v1/workflows?limit=1"])
async def test_tag_follows_the_answer(stored, path):
    """The same answer has the same tag and is 304; a status and a statistic each give another."""
    tags = []

    async def read() -> None:
        first = await stored.client.get(path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for sent in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            again = await stored.client.get(path, headers={"if-none-match": sent})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        tags.append(tag)

    await read()
    await stored.client.patch(f"{PATH}/disable")
    await read()
    for workflow_id in (MEMORY.workflow_id, (await stored.client.get(path)).json().get("workflow_id", "")):
        await stored.catalog.record_execution(ExecutionRecord(workflow_id=workflow_id or "w", success=True))
    if "limit=1" not in path:
        await read()
    stale = await stored.client.get(path, headers={"if-none-match": f"{tags[0]}, W/{tags[-2]}"})
    assert stale.status_code == (200 if tags[-2] != tags[-1] else 304)
    assert len(tags) - ("limit=1" in path) <= len(set(tags))


async def test_change_only_what_was_read(stored):
    """If-Match with the tag that was read goes through once; then it is 412 and nothing is changed."""
    tag = (await stored.client.get(PATH)).headers["etag"]
    off = await stored.client.patch(PATH, json={"status": "disabled", "reason": "a"}, headers={"if-match": tag})
    assert (off.status_code, off.json()["disabled_reason"]) == (200, "a")
    late = await stored.client.patch(f"{PATH}/disable", json={"reason": "b"}, headers={"if-match": tag})
    told = problem(late, 412)
    assert told["type"].endswith("/precondition-failed")
    assert off.headers["etag"] in told["detail"]
    read = await stored.client.get(PATH)
    assert (read.json()["disabled_reason"], read.headers["etag"]) == ("a", off.headers["etag"])
    on = await stored.client.patch(f"{PATH}/enable", headers={"if-match": off.headers["etag"]})
    assert (on.status_code, on.json()["status"]) == (200, "active")


@pytest.mark.parametrize(
    ("header", "status"),
    [("*", 200), ('"other"', 412), ("W/{tag}", 412), ("nonsense", 412), ('"other", {tag}', 200)],
    ids=["any", "another", "weak", "no tag at all", "one of several"],
)
async def test_forms_of_if_match(stored, header, status):
    """Tags are compared strongly, as RFC 9110 has it for changes."""
    tag = (await stored.client.get(PATH)).headers["etag"]
    headers = {"if-match": header.replace("{tag}", tag)}
    assert (await stored.client.patch(f"{PATH}/disable", headers=headers)).status_code == status
    gone = await stored.client.patch("/api/v1/workflows/none/disable", headers={"if-match": "*"})
    problem(gone, 404)


async def test_of_many_who_read_the_same_one_wins(stored):
    """The tag is compared inside the write: of sixteen at once, one goes through."""
    tag = (await stored.client.get(PATH)).headers["etag"]
    answers = await asyncio.gather(
        *(
            stored.client.patch(f"{PATH}/disable", params={"reason": str(n)}, headers={"if-match": tag})
            for n in range(16)
        )
    )
    assert sorted(a.status_code for a in answers) == [200] + [412] * 15


async def test_an_execution_is_a_change(stored):
    """Statistics are part of what was read: an execution that ended in between is told."""
    tag = (await stored.client.get(PATH)).headers["etag"]
    await stored.catalog.record_execution(ExecutionRecord(workflow_id=MEMORY.workflow_id, success=False))
    problem(await stored.client.patch(f"{PATH}/disable", headers={"if-match": tag}), 412)


async def test_everything_else_is_not_kept(stored):
    """What has no tag is not to be stored anywhere, errors included."""
    for path in ("/api/v1/audit/events", "/api/v1/workflows/none", "/health", "/metrics"):
        assert (await stored.client.get(path)).headers["cache-control"] == "no-store"
    await stored.register(build.workflow(version="2.0.0"))
    assert (await stored.client.get("/api/v1/workflows")).json()["pagination"]["total"] == 4


async def test_head_is_get_without_its_body(tmp_path):
    """Over real HTTP: the same headers, length and tag, and the same door."""
    ann = {"authorization": "Bearer ann"}
    async with (
        world(tmp_path, Doorman()) as stored,
        serving(stored.app) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for path in (PATH, "/api/v1/workflows", "/health"):
            get, head = await http.get(path, headers=ann), await http.head(path, headers=ann)
            assert (head.status_code, head.content) == (200, b"")
            for name in ("content-length", "content-type", "etag", "cache-control"):
                assert get.headers.get(name) == head.headers.get(name)
        assert (await http.head(PATH)).status_code == 401
        assert (await http.head(PATH, headers={"authorization": "Bearer bob"})).status_code == 403
        assert (await http.head("/mcp", headers=ann)).status_code == 405
        tag = (await http.head(PATH, headers=ann)).headers["etag"]
        assert (await http.head(PATH, headers={**ann, "if-none-match": tag})).status_code == 304
