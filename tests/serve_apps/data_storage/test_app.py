"""Data Storage's HTTP API over an in-process owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog.account.story import reconstruct
from catalog.bundles import Bundles, reference_for
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.errors import Conflict
from catalog.owner import Owner
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import Timeline
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.client import UserInfo
from serve_apps.data_storage.app import MAX_BODY_BYTES, RULES, create_app
from serve_apps.data_storage.deps import Deps
from serve_apps.http import Gate
from tests import build
from tests.catalog.account import told as stories
from tests.trail import fits

SCHEMA = """
apiVersion: kubernaut.io/v1alpha1
kind: WorkflowSchema
metadata:
  workflow_id: increase-memory-limits
  version: {version}
  description:
    what: Raises the memory limit of a Deployment's containers
    when_to_use: Containers are OOMKilled since their memory limit is too low
labels:
  signal_type: OOMKilled
  severity: [critical, high]
  component: deployment
  environment: "*"
  priority: "*"
execution:
  engine: tekton
parameters:
  - name: TARGET_RESOURCE_NAME
    type: string
    required: true
    description: {note}
"""
PIPELINE = """
apiVersion: tekton.dev/v1
kind: Pipeline
metadata: {name: workflow}
spec:
  params:
    - {name: TARGET_RESOURCE, type: string}
    - {name: TARGET_RESOURCE_NAME, type: string}
  tasks:
    - name: fix
      taskSpec:
        steps:
          - {name: fix, image: "registry.invalid/python:3", script: "true"}
"""


class Said:
    """An audit sink that remembers."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(fits(event))


class Shop:
    """A running app, its HTTP client, and a bundle store to register from."""

    def __init__(self, client: httpx.AsyncClient, bundles: Bundles, said: Said, folder: Path) -> None:
        self.client, self.bundles, self.said, self._folder = client, bundles, said, folder

    async def bundle(self, version: str = "1.0.0", note: str = "Deployment to change") -> dict[str, str]:
        self._folder.mkdir(exist_ok=True)
        (self._folder / "workflow-schema.yaml").write_text(SCHEMA.format(version=version, note=note))
        (self._folder / "pipeline.yaml").write_text(PIPELINE)
        reference = f"bundles.kubernaut.local/workflows/increase-memory-limits:{version}"
        pinned = await asyncio.to_thread(self.bundles.push, self._folder, reference)
        return {"container_image": pinned.image, "container_digest": pinned.digest}


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    owner = Owner(tmp_path, embedder=Lexicon(), source=Bundles(tmp_path / "bundles"), now=lambda: build.NOW)
    yield owner
    await asyncio.to_thread(owner.close)


def app_of(owner: Owner, said: Said, gate: Gate | None = None) -> httpx.AsyncClient:
    deps = Deps(Catalog(InProcess(owner), Lexicon()), gate, said, now=lambda: build.NOW)
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(deps)), base_url="http://storage")


@pytest.fixture
async def shop(owner: Owner, tmp_path: Path) -> AsyncIterator[Shop]:
    said = Said()
    async with app_of(owner, said) as client:
        yield Shop(client, Bundles(tmp_path / "bundles"), said, tmp_path / "workflow")


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is an RFC 7807 problem that tells nothing of the database."""
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    body: dict[str, Any] = answer.json()
    assert body["type"].startswith("https://kubernaut.ai/problems/")
    assert not {"select", "insert", "duckdb"} & set(answer.text.lower().split())
    return body


async def test_register_search_read(shop):
    """A workflow registered from its bundle is found, read and listed with its digest pinned."""
    request = await shop.bundle()
    created = await shop.client.post("/api/v1/workflows", json=request)
    assert created.status_code == 201
    workflow = created.json()
    assert request["container_digest"] == workflow["container_digest"]
    assert created.headers["location"].endswith(workflow["workflow_id"])

    search = {
        "query": "KubePodCrashLooping: the container is killed with exit code 137",
        "filters": {"severity": "critical", "component": "Deployment", "environment": "Production"},
        "remediation_id": "rr-a",
    }
    found = (await shop.client.post("/api/v1/workflows/search", json=search)).json()
    assert [workflow["workflow_id"]] == [hit["workflow"]["workflow_id"] for hit in found["hits"]]
    assert found["hits"][0]["score_breakdown"]["labels"] > 0

    read = (await shop.client.get(f"/api/v1/workflows/{workflow['workflow_id']}")).json()
    assert "WorkflowSchema" in read["content"]
    listed = (await shop.client.get("/api/v1/workflows")).json()
    assert (listed["pagination"]["total"], listed["pagination"]["has_more"]) == (1, False)
    assert [e.event_type for e in shop.said.events] == [
        "datastorage.workflow.created",
        "workflow.catalog.search_completed",
    ]
    assert shop.said.events[1].correlation_id == "rr-a"


async def test_registering_again(shop):
    """The same content is 200 and says nothing new; other content under the version is 409."""
    request = await shop.bundle()
    first = await shop.client.post("/api/v1/workflows", json=request)
    again = await shop.client.post("/api/v1/workflows", json=request)
    assert (201, 200, first.json()) == (first.status_code, again.status_code, again.json())
    other = await shop.client.post("/api/v1/workflows", json=await shop.bundle(note="changed"))
    assert "raise the version" in problem(other, 409)["detail"]
    assert len(shop.said.events) == 1


async def test_what_is_no_bundle(shop, tmp_path):
    """A missing bundle, a broken reference and an empty request are each a clear 400."""
    for image in ("bundles.kubernaut.local/workflows/none:1.0.0", "not a reference", ""):
        answer = await shop.client.post("/api/v1/workflows", json={"container_image": image})
        assert problem(answer, 400)["detail"]
    assert problem(await shop.client.post("/api/v1/workflows", json={}), 400)["field_errors"]
    assert (await shop.client.get("/api/v1/workflows")).json()["pagination"]["total"] == 0


async def test_disable_and_enable(shop):
    """A disabled workflow is not offered; explain says who is to blame; PATCH brings it back."""
    workflow = (await shop.client.post("/api/v1/workflows", json=await shop.bundle())).json()
    path = f"/api/v1/workflows/{workflow['workflow_id']}"
    off = await shop.client.patch(f"{path}/disable", params={"reason": "it broke prod"})
    assert (off.json()["status"], off.json()["disabled_reason"]) == ("disabled", "it broke prod")
    found = (await shop.client.post("/api/v1/workflows/search", json={"query": "OOMKilled", "explain": True})).json()
    assert (found["hits"], found["excluded"][0]["reason"]) == ([], "it is disabled: it broke prod")
    on = await shop.client.patch(path, json={"status": "active"})
    assert on.json()["status"] == "active"
    assert len((await shop.client.post("/api/v1/workflows/search", json={"query": "OOMKilled"})).json()["hits"]) == 1
    problem(await shop.client.patch(path, json={"status": "superseded"}), 400)
    problem(await shop.client.patch(path, json={"status": "sleeping"}), 400)
    problem(await shop.client.patch("/api/v1/workflows/nope", json={"status": "active"}), 404)
    problem(await shop.client.get("/api/v1/workflows/nope"), 404)


async def test_only_what_may_change_is_changed(shop):
    """Every immutable and every unknown field is named, and nothing is changed."""
    workflow = (await shop.client.post("/api/v1/workflows", json=await shop.bundle())).json()
    path = f"/api/v1/workflows/{workflow['workflow_id']}"
    change = {"status": "disabled", "description": "x", "version": "2.0.0", "colour": "red"}
    answer = problem(await shop.client.patch(path, json=change), 400)
    told = {one["field"]: one["message"] for one in answer["field_errors"]}
    assert set(told) == {"body.description", "body.version", "body.colour"}
    assert "immutable; register a new version" in told["body.version"]
    assert "what may change: status, reason, source" in told["body.colour"]
    assert (await shop.client.get(path)).json()["status"] == "active"
    assert problem(await shop.client.patch(path, json={"reason": "no status"}), 400)["field_errors"]


async def test_who_changed_a_status_on_whose_behalf(shop):
    """The record says the source, the trail says the user and the source; enabling is on record too."""
    workflow = (await shop.client.post("/api/v1/workflows", json=await shop.bundle() | {"source": "a test"})).json()
    path = f"/api/v1/workflows/{workflow['workflow_id']}"
    change = {"status": "disabled", "reason": "gone", "source": "remediationworkflow a/b"}
    off = (await shop.client.patch(path, json=change)).json()
    assert (off["disabled_by"], off["status_changed_by"]) == ("remediationworkflow a/b", "remediationworkflow a/b")
    on = (await shop.client.patch(f"{path}/enable", params={"reason": "back"})).json()
    assert (on["status"], on["status_changed_reason"], on["disabled_reason"]) == ("active", "back", "")
    created, changed, back = shop.said.events
    assert created.event_data["source"] == "a test"
    assert (changed.actor_id, changed.event_data["source"]) == ("system:unauthenticated", "remediationworkflow a/b")
    assert back.event_data["reason"] == "back"


async def test_refusals_of_a_registration_are_told_apart(shop):
    """By ``reason``: no bundle, a bundle that differs from what is expected, a registry that is away."""
    pinned = await shop.bundle()
    differs = await shop.client.post("/api/v1/workflows", json=pinned | {"expected": {"version": "9.9.9"}})
    answer = problem(differs, 400)
    assert (answer["reason"], answer["field_errors"][0]["field"]) == ("SpecDiffers", "spec.version")
    none = {"container_image": "bundles.kubernaut.local/workflows/none:1.0.0"}
    assert problem(await shop.client.post("/api/v1/workflows", json=none), 400)["reason"] == "NotFound"
    dead = {"container_image": "127.0.0.1:1/workflows/none:1.0.0"}
    assert problem(await shop.client.post("/api/v1/workflows", json=dead), 503)["reason"] == "RegistryUnavailable"


async def test_a_registry_that_refuses_us_is_not_our_failure(tmp_path):
    """502 with the reason: credentials are wrong, which nobody needs the log for."""

    class Closed:
        def workflow(self, ref: str) -> tuple[Any, Any]:
            raise Permanent(f"bundle {ref}: the registry wants other credentials", reason="RegistryDenied")

    owner = Owner(tmp_path, embedder=Lexicon(), source=Closed(), now=lambda: build.NOW)
    async with app_of(owner, Said()) as client:
        answer = problem(await client.post("/api/v1/workflows", json={"container_image": "r.example/w:1"}), 502)
    assert (answer["reason"], "other credentials" in answer["detail"]) == ("RegistryDenied", True)
    await asyncio.to_thread(owner.close)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": " "},
        {"query": "x", "top_k": 0},
        {"query": "x" * 9000},
        {"query": "x", "min_score": 2},
    ],
    ids=["no query", "empty query", "blank query", "nothing wanted", "too long", "impossible score"],
)
async def test_bad_search(shop, body):
    """Each bad search is a 400 that names the problem."""
    assert problem(await shop.client.post("/api/v1/workflows/search", json=body), 400)["detail"]


async def test_audit_batch_is_idempotent(shop):
    """A batch is stored once; telling it again counts duplicates."""
    batch = {"events": [build.audit_event(n).to_json() for n in range(20)]}
    first = await shop.client.post("/api/v1/audit/events/batch", json=batch)
    again = await shop.client.post("/api/v1/audit/events/batch", json=batch)
    assert (first.status_code, first.json()) == (201, {"stored": 20, "duplicates": 0})
    assert (again.status_code, again.json()) == (201, {"stored": 0, "duplicates": 20})
    one = await shop.client.post("/api/v1/audit/events", json=build.audit_event(99).to_json())
    assert (one.status_code, one.json()["stored"]) == (201, 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"event_timestamp": (build.NOW + timedelta(minutes=6)).isoformat()}, "future"),
        ({"event_timestamp": (build.NOW - timedelta(days=8)).isoformat()}, "7 days"),
        ({"event_timestamp": "yesterday"}, "event_timestamp"),
        ({"event_category": "gossip"}, "event_category"),
        ({"event_id": "not a uuid"}, "event_id"),
        ({"correlation_id": ""}, "correlation_id"),
    ],
)
async def test_one_bad_event_refuses_the_batch(shop, change, named):
    """All or nothing: the answer names the event and the field, and nothing is stored."""
    events = [build.audit_event(n).to_json() for n in range(3)]
    events[1] |= change
    answer = problem(await shop.client.post("/api/v1/audit/events/batch", json={"events": events}), 400)
    assert named in str(answer["field_errors"])
    assert "1" in answer["field_errors"][0]["field"]
    assert (await shop.client.get("/api/v1/audit/events")).json()["pagination"]["total"] == 0


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"events": []}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"x" * (MAX_BODY_BYTES + 1), "application/json", 413),
    ],
    ids=["cut off", "no events", "no object", "not text", "not JSON", "too large"],
)
async def test_bad_bodies(shop, content, media_type, status):
    """Whatever is sent instead of a batch is refused in words."""
    answer = await shop.client.post("/api/v1/audit/events/batch", content=content, headers={"content-type": media_type})
    problem(answer, status)


async def test_audit_query_and_timeline(shop):
    """The trail is filtered, paged and told by remediation; ages are understood."""
    events = [build.audit_event(n, now=build.NOW - timedelta(hours=n), correlation_id=f"rr-{n % 2}") for n in range(6)]
    await shop.client.post("/api/v1/audit/events/batch", json={"events": [e.to_json() for e in events]})

    async def found(**params: Any) -> list[int]:
        answer = await shop.client.get("/api/v1/audit/events", params=params)
        return [e["event_data"]["number"] for e in answer.json()["data"]]

    assert await found() == [5, 4, 3, 2, 1, 0]
    assert await found(since="150m") == [2, 1, 0]
    assert await found(order="desc", limit=2) == [0, 1]
    assert await found(correlation_id="rr-1") == [5, 3, 1]
    assert await found(correlation_id="rr-1", since="2h") == [1]
    timeline = (await shop.client.get("/api/v1/remediations/rr-0/timeline")).json()
    assert [e["event_data"]["number"] for e in timeline["events"]] == [4, 2, 0]
    nobody = (await shop.client.get("/api/v1/remediations/nobody/timeline")).json()
    assert (nobody["events"], nobody["incident"]["state"]) == ([], "unknown")
    assert [gap["kind"] for gap in nobody["incident"]["gaps"]] == ["nothing-on-record"]
    for bad in (
        {"since": "soon"},
        {"limit": 1001},
        {"limit": 0},
        {"offset": -1},
        {"event_category": "x"},
        {"order": "up"},
    ):
        problem(await shop.client.get("/api/v1/audit/events", params=bad), 400)


async def test_the_timeline_tells_the_incident(shop):
    """The account beside the events as they were stored, with what other correlations know of it."""
    told = stories.approved()
    before = stories.Told(f"signal-{build.FINGERPRINT[:12]}").fact("gateway.crd.failed", error="quota exceeded")
    changed = stories.Told("wf-memory").fact("datastorage.workflow.updated", who="eve", status="disabled")
    searched = stories.Told("wf-memory").fact("workflow.catalog.search_completed")
    events = [*told.events, *before.events, *changed.events, *searched.events]
    await shop.client.post("/api/v1/audit/events/batch", json={"events": [e.to_json() for e in events]})

    timeline = Timeline.model_validate((await shop.client.get("/api/v1/remediations/rr-1/timeline")).json())
    assert timeline.incident == reconstruct("rr-1", told.events, related=timeline.related)
    assert timeline.incident.complete
    assert {e.event_id for e in timeline.events} == {e.event_id for e in told.events}
    assert [e.event_type for e in timeline.related] == ["gateway.crd.failed", "datastorage.workflow.updated"]
    described = (await shop.client.get("/openapi.json")).json()
    assert "no error" in described["paths"]["/api/v1/remediations/{remediation_id}/timeline"]["get"]["description"]


async def test_sessions_compare_and_set(shop):
    """A session is created once and goes on from the attempt that was read."""
    body = {
        "session_id": "ai-rr-a", "state": "pending", "created_at": "2026-03-01T12:00:00Z",
        "request": {
            "incident_id": "i", "remediation_id": "rr-a", "signal_name": "n", "signal_type": "t", "severity": "high",
            "target": {"kind": "Pod", "name": "p"},
        },
    }  # fmt: skip
    path = "/api/v1/investigations/ai-rr-a"
    problem(await shop.client.get(path), 404)
    assert (await shop.client.put(path, json=body)).status_code == 200
    problem(await shop.client.put(path, json=body), 409)
    claimed = body | {"state": "running", "attempt": 1}
    assert (await shop.client.put(path, json=claimed, params={"expected_attempt": 0})).status_code == 200
    problem(await shop.client.put(path, json=claimed, params={"expected_attempt": 0}), 409)
    assert (await shop.client.get(path)).json()["attempt"] == 1
    problem(await shop.client.put("/api/v1/investigations/other", json=body), 400)


async def test_execution_statistics(shop):
    """Ends are counted once over the asked window."""
    for uid, success in (("a", True), ("a", True), ("b", False)):
        record = {"execution_id": uid, "workflow_id": "w", "success": success}
        assert (await shop.client.post("/api/v1/executions", json=record)).status_code == 201
    answer = (await shop.client.get("/api/v1/executions/statistics", params={"since": "1h"})).json()
    assert (answer["total"], answer["successful"]) == (2, 1)
    problem(await shop.client.get("/api/v1/executions/statistics", params={"since": "1 fortnight"}), 400)


async def test_ready_tells_and_owner_away(owner):
    """Ready needs the owner; without it routes say 503 and when to come back."""

    class Away:
        async def call(self, method: str, payload: bytes) -> bytes:
            raise Retryable("the catalog owner does not answer", after=3)

        async def snapshot(self, have: int) -> bytes:
            raise Retryable("the catalog owner does not answer", after=3)

    async with app_of(owner, Said()) as client:
        assert (await client.get("/ready")).json() == {"status": "ready", "snapshot_version": 0, "workflows": 0}
    app = create_app(Deps(Catalog(Away(), Lexicon()), None, Said()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage") as client:
        for path in ("/health", "/health/live", "/metrics"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/ready", "/health/ready"):
            problem(await client.get(path), 503)
        answer = await client.post("/api/v1/workflows/search", json={"query": "x"})
        assert problem(answer, 503)
        assert answer.headers["retry-after"] == "3"


class Doorman:
    """Knows two tokens: one may everything, the other nothing."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"ann", "bob"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return user.username == "ann"


async def test_every_route_asks_who(owner):
    """No route answers without a token, or to somebody who may not; each has a rule."""
    deps = Deps(Catalog(InProcess(owner), Lexicon()), Doorman(), Said())
    app = create_app(deps)
    operations = [
        (
            method.upper(),
            path.replace("{workflow_id}", "w").replace("{session_id}", "s").replace("{remediation_id}", "r"),
        )
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] != ["health"]
    ] + [("POST", "/mcp"), ("GET", "/openapi.json")]
    assert len(operations) >= 18
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage") as client:
        for method, path in operations:
            assert (await client.request(method, path)).status_code == 401, (method, path)
            bob = await client.request(method, path, headers={"authorization": "Bearer bob"})
            assert bob.status_code == 403, (method, path)
            assert "may not" in bob.json()["detail"]
            assert any(rule.matches(method, path) for rule in RULES)
        for path in ("/health", "/health/live", "/health/ready", "/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200, path


async def test_conflict_survives_the_wire(shop):
    """A conflict raised in the owner is a conflict for a caller in this process."""
    request = await shop.bundle()
    await shop.client.post("/api/v1/workflows", json=request)
    answer = await shop.client.post("/api/v1/workflows", json=await shop.bundle(note="x"))
    assert Conflict("").reason == problem(answer, 409)["title"]


def test_reference_for_is_what_we_register():
    """The shipped workflows' references are those that the embedded bundle store serves."""
    assert reference_for(build.workflow()).startswith("bundles.kubernaut.local/")
