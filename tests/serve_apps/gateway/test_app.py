"""The gateway's answers, over HTTP: what each kind of webhook gets, and what is in the API server afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from kubernaut_ray import names
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.kube.errors import Invalid, Unavailable
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.app import Deps, Gateway, create_app
from tests.serve_apps.gateway.world import Facts, World, settings

PROMETHEUS = "/api/v1/signals/prometheus"
EVENT = "/api/v1/signals/kubernetes-event"


class AnyToken:
    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token)

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return (user.username, verb, resource) == ("alertmanager", "create", "signals")


@asynccontextmanager
async def gateway(world: World, facts: Facts | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Deps(world, settings(**options), facts or Facts(), AnyToken(), now=world.now))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": "Bearer alertmanager"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as http:
            http.app = app  # type: ignore[attr-defined]
            yield http


def state(http: httpx.AsyncClient) -> Gateway:
    return http.app.state.gateway  # type: ignore[attr-defined,no-any-return]


def alert(name: str = "HighMemory", status: str = "firing", **labels: str) -> dict[str, Any]:
    labels = {"alertname": name, "namespace": "shop", **labels}
    return {"status": status, "labels": labels, "annotations": {}, "startsAt": "2026-03-01T11:59:00Z"}


def webhook(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "alerts": list(alerts)}


async def test_created_then_duplicate() -> None:
    """The first alert opens a request with all that contracts ask for; the second joins it."""
    world, facts = World(), Facts()
    (pod,) = await world.deployment()
    async with gateway(world, facts) as http:
        first = await http.post(PROMETHEUS, json=webhook(alert(pod=pod, severity="critical")))
        second = await http.post(PROMETHEUS, json=webhook(alert("CrashLoop", pod=pod)))

    assert (first.status_code, second.status_code) == (201, 202)
    assert first.json()["status"] == "created"
    assert first.json()["target"] == "shop/deployment/web"
    assert second.json()["duplicate"] is True
    assert second.json()["remediationRequestName"] == first.json()["remediationRequestName"]

    (request,) = await world.remediations()
    meta, spec, status = request["metadata"], request["spec"], request["status"]
    assert meta["name"] == first.json()["remediationRequestName"]
    assert meta["labels"] == {
        names.LABEL_MANAGED_BY: "gateway-service",
        names.LABEL_COMPONENT: "remediation",
        names.LABEL_FINGERPRINT: spec["signalFingerprint"][:63],
        names.LABEL_SIGNAL_NAME: "HighMemory",
        names.LABEL_SIGNAL_TYPE: "prometheus-alert",
        names.LABEL_SEVERITY: "critical",
        **names.shard_label(meta["name"]),
    }
    assert names.ANNOTATION_CREATED_AT in meta["annotations"]
    assert spec["targetResource"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "namespace": "shop",
    }
    assert spec["signalResource"]["name"] == pod
    assert json.loads(spec["originalPayload"])["labels"]["pod"] == pod
    assert status["deduplication"]["occurrenceCount"] == 2
    assert [s["signalName"] for s in status["deduplication"]["symptoms"]] == ["HighMemory", "CrashLoop"]
    assert sorted(facts.types()) == [
        "gateway.crd.created",
        "gateway.signal.deduplicated",
        "gateway.signal.received",
    ]
    assert {event.correlation_id for event in facts.events} == {meta["name"]}


async def test_every_alert_of_a_group_counts() -> None:
    """Two workloads, a malformed alert and a deleted pod in one group: each gets its own outcome."""
    world = World()
    web, other = await world.deployment(pods=2)
    (api,) = await world.deployment("api")
    malformed = {"status": "firing", "labels": {"namespace": "shop"}}
    async with gateway(world) as http:
        answer = await http.post(
            PROMETHEUS,
            json=webhook(alert(pod=web), malformed, alert(pod=api), alert(pod=other), alert(pod="gone-0", name_x="1")),
        )

    assert answer.status_code == 207
    body = answer.json()
    assert [r["status"] for r in body["results"]] == ["created", "failed", "created", "duplicate", "created"]
    assert body["summary"] == {
        "total": 5,
        "created": 3,
        "deduplicated": 1,
        "accepted": 0,
        "resolved": 0,
        "silenced": 0,
        "rejected": 0,
        "failed": 1,
    }
    assert "alertname" in body["results"][1]["message"]
    assert "not in the cluster" in body["results"][4]["note"]
    assert len(await world.remediations()) == 3


@pytest.mark.parametrize(
    ("path", "content", "media_type", "status", "slug"),
    [
        pytest.param(PROMETHEUS, b"{", "application/json", 400, "validation-error", id="not JSON"),
        pytest.param(PROMETHEUS, b'{"alerts":[]}', "application/json", 400, "validation-error", id="no alerts"),
        pytest.param(
            PROMETHEUS, b'{"alerts":[{},{}]}', "application/json", 400, "validation-error", id="all alerts malformed"
        ),
        pytest.param(PROMETHEUS, b"{}", "text/plain", 415, "unsupported-media-type", id="wrong content type"),
        pytest.param(PROMETHEUS, b"{}", "", 415, "unsupported-media-type", id="no content type"),
        pytest.param(
            PROMETHEUS, b"x" * 300_000, "application/json", 413, "payload-too-large", id="larger than the limit"
        ),
        pytest.param("/api/v1/signals/nagios", b"{}", "application/json", 404, "not-found", id="no such source"),
        pytest.param(EVENT, b'{"type":"Warning"}', "application/json", 400, "validation-error", id="half an event"),
    ],
)
async def test_bad_input(path: str, content: bytes, media_type: str, status: int, slug: str) -> None:
    """Each kind of bad input has its status and says what to do; nothing is created."""
    world = World()
    async with gateway(world) as http:
        answer = await http.post(path, content=content, headers={"content-type": media_type} if media_type else {})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith(slug)
    assert answer.json()["detail"]
    assert await world.remediations() == []


async def test_wrong_method_and_strangers() -> None:
    """GET on a webhook is 405; a caller without leave is 401 or 403."""
    async with gateway(World()) as http:
        assert (await http.get(PROMETHEUS)).status_code == 405
        assert (await http.post(PROMETHEUS, json={}, headers={"Authorization": ""})).status_code == 401
        assert (await http.post(PROMETHEUS, json={}, headers={"Authorization": "Bearer eve"})).status_code == 403


async def test_resolved_never_opens_and_is_recorded() -> None:
    """A resolved alert without a request is nothing; with one it is recorded, once all symptoms are over."""
    world, facts = World(), Facts()
    (pod,) = await world.deployment()
    async with gateway(world, facts) as http:
        nothing = await http.post(PROMETHEUS, json=webhook(alert(status="resolved", pod=pod)))
        assert (nothing.status_code, nothing.json()["reason"]) == (200, "NothingOpen")
        assert await world.remediations() == []

        await http.post(PROMETHEUS, json=webhook(alert(pod=pod), alert("CrashLoop", pod=pod)))
        await state(http).intake.occurrences.flush()
        for name, over in (("HighMemory", False), ("CrashLoop", True)):
            recorded = await http.post(PROMETHEUS, json=webhook(alert(name, "resolved", pod=pod)))
            assert (recorded.status_code, recorded.json()["reason"]) == (202, "ResolutionRecorded")
            (request,) = await world.remediations()
            assert ("resolved" in request["status"]) is over
    assert "gateway.signal.resolved" in facts.types()


async def test_firing_and_resolved_in_one_group() -> None:
    """The order inside the group does not matter: what fires opens, what is over never does."""
    world = World()
    (pod,) = await world.deployment()
    async with gateway(world) as http:
        answer = await http.post(PROMETHEUS, json=webhook(alert("Over", "resolved", pod=pod), alert("Fires", pod=pod)))
    assert [r["status"] for r in answer.json()["results"]] == ["resolved", "created"]
    (request,) = await world.remediations()
    assert request["spec"]["signalName"] == "Fires"
    assert "resolved" not in request["status"]


async def test_a_symptom_is_on_record_when_it_is_acknowledged() -> None:
    """A replica that dies after its answer takes no symptom along, and another one does not call the incident over."""
    world = World()
    (pod,) = await world.deployment()
    async with gateway(world, occurrence_flush_interval=60) as one, gateway(world, occurrence_flush_interval=60) as two:
        await one.post(PROMETHEUS, json=webhook(alert(pod=pod)))
        unrelated = await two.post(PROMETHEUS, json=webhook(alert("Other", "resolved", pod=pod)))
        assert unrelated.json()["reason"] == "ResolutionRecorded"
        (request,) = await world.remediations()
        assert "resolved" not in request.get("status", {})
        joined = await one.post(PROMETHEUS, json=webhook(alert("CrashLoop", pod=pod)))
        assert joined.json()["reason"] == "InProgress"
        await two.post(PROMETHEUS, json=webhook(alert(status="resolved", pod=pod)))
        (request,) = await world.remediations()
        symptoms = {s["signalName"]: "resolvedAt" in s for s in request["status"]["deduplication"]["symptoms"]}
        assert symptoms == {"HighMemory": True, "CrashLoop": False}
        assert "resolved" not in request["status"]
        await two.post(PROMETHEUS, json=webhook(alert("CrashLoop", "resolved", pod=pod)))
        (request,) = await world.remediations()
        assert "resolved" in request["status"]


async def test_a_symptom_that_cannot_be_written_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender is told to come again; what it sends then is one more occurrence."""

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("connection refused")

    world = World()
    (pod,) = await world.deployment()
    async with gateway(world, occurrence_flush_interval=60) as http:
        await http.post(PROMETHEUS, json=webhook(alert(pod=pod)))
        with monkeypatch.context() as broken:
            broken.setattr(world, "patch", away)
            assert (await http.post(PROMETHEUS, json=webhook(alert("CrashLoop", pod=pod)))).status_code == 503
        assert (await http.post(PROMETHEUS, json=webhook(alert("CrashLoop", pod=pod)))).status_code == 202


async def test_events() -> None:
    """A warning event opens a request for the owner of what it regards; a Normal one is a polite no."""
    world = World()
    (pod,) = await world.deployment()
    event = {
        "type": "Warning",
        "reason": "BackOff",
        "involvedObject": {"kind": "Pod", "name": pod, "namespace": "shop"},
    }
    async with gateway(world) as http:
        assert (await http.post(EVENT, json=event)).status_code == 201
        normal = await http.post(EVENT, json=event | {"type": "Normal"})
        assert (normal.status_code, normal.json()["status"]) == (200, "rejected")
    (request,) = await world.remediations()
    assert request["spec"]["targetResource"]["kind"] == "Deployment"


async def test_unrelated_nameless_signals_do_not_fold() -> None:
    """Alerts that name no resource are told apart by name and labels."""
    world = World()
    async with gateway(world) as http:
        answers = [
            await http.post(PROMETHEUS, json=webhook(alert(name, team=team)))
            for name, team in (("A", "x"), ("B", "x"), ("A", "y"), ("A", "x"))
        ]
    assert [a.status_code for a in answers] == [201, 201, 201, 202]
    assert {r["spec"]["targetResource"]["kind"] for r in await world.remediations()} == {"Namespace"}


async def test_the_api_away_means_503_and_nothing_lost() -> None:
    """While the API server is away every webhook is 503 with Retry-After; afterwards the same webhook is taken."""
    world = World()
    await world.deployment()
    async with gateway(world, kubernetes_retries=1) as http:
        world.fault = Unavailable("connection refused")
        for _ in range(8):
            answer = await http.post(PROMETHEUS, json=webhook(alert(deployment="web"), alert(deployment="api")))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["summary"]["failed"] == 2
        assert (await http.get("/ready")).status_code == 503
        assert "gateway_circuit_breaker_state 2.0" in (await http.get("/metrics")).text
        world.fault = None
        state(http).intake.cluster.breaker._opened_at = -100.0
        answer = await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
        assert answer.status_code == 201
        assert (await http.get("/ready")).status_code == 200


async def test_a_refused_object_is_the_signal_s_fault() -> None:
    """What the API server's schema refuses is told as failed, and is not retried."""

    class Strict(World):
        async def create(self, resource: Any, obj: Any, namespace: str | None = None, **_: Any) -> Any:
            raise Invalid("spec.signalName: too odd", status=422, reason="Invalid")

    facts = Facts()
    async with gateway(Strict(), facts) as http:
        answer = await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
    assert answer.status_code == 400
    assert "too odd" in answer.json()["detail"]
    assert facts.types() == ["gateway.crd.failed"]


@pytest.mark.parametrize(
    ("mode", "labels", "status"),
    [
        pytest.param("opt-in", {}, 200, id="opt-in, no label: not ours"),
        pytest.param("opt-in", {names.LABEL_MANAGED: "true"}, 201, id="opt-in, labelled"),
        pytest.param("opt-out", {}, 201, id="opt-out, no label"),
        pytest.param("opt-out", {names.LABEL_MANAGED: "false"}, 200, id="opt-out, labelled away"),
        pytest.param("all", {names.LABEL_MANAGED: "false"}, 201, id="all takes all"),
    ],
)
@pytest.mark.parametrize("on", ["object", "namespace"])
async def test_scope(mode: str, labels: dict[str, str], status: int, on: str) -> None:
    """The label on the object or on its namespace decides; what is not ours opens nothing."""
    world = World()
    await world.own(resources.DEPLOYMENT, "web", labels=labels if on == "object" else {})
    await world.own(resources.NAMESPACE, "shop", labels=labels if on == "namespace" else {})
    async with gateway(world, scope=mode) as http:
        answer = await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["reason"] == "UnmanagedResource"
        assert await world.remediations() == []


async def test_storms_mark_and_never_delay() -> None:
    """Every signal of a storm is taken at once; the request says that it is part of one."""
    world = World()
    await world.deployment()
    async with gateway(world) as http:
        first = await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
        assert first.status_code == 201
        for _ in range(14):
            await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
    (request,) = await world.remediations()
    storm = request["status"]["storm"]
    assert (storm["stormType"], storm["affectedResources"]) == ("rate", ["shop/deployment/web"])
    assert 11 <= storm["alertCount"] <= 15  # It is written when it begins, and then every few seconds.
    assert request["status"]["deduplication"]["occurrenceCount"] == 15


async def test_several_gateways_make_one_request_and_count_exactly() -> None:
    """Sixty-four posts of one alert through three gateways: one request, sixty-four occurrences at rest."""
    world = World()
    await world.deployment()
    async with gateway(world) as one, gateway(world) as two, gateway(world) as three:
        posts = [g.post(PROMETHEUS, json=webhook(alert(deployment="web"))) for g in (one, two, three, one) * 16]
        codes = [answer.status_code for answer in await asyncio.gather(*posts)]
    assert (codes.count(201), codes.count(202)) == (1, 63)
    (request,) = await world.remediations()
    assert request["status"]["deduplication"]["occurrenceCount"] == 64
    assert request["status"]["deduplication"]["symptoms"][0]["occurrenceCount"] == 64


async def test_other_writers_of_the_status_are_not_disturbed() -> None:
    """The orchestrator writes its part while occurrences are counted: neither is lost."""
    world = World()
    await world.deployment()
    async with gateway(world, occurrence_flush_interval=0.001) as http:
        answer = await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
        name = answer.json()["remediationRequestName"]
        for n in range(20):
            await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
            patch = {"status": {"message": f"step {n}", "overallPhase": "Processing"}}
            await world.patch(REMEDIATION_REQUEST, name, patch, "kubernaut-system", subresource="status")
            await asyncio.sleep(0.002)
    (request,) = await world.remediations()
    assert request["status"]["message"] == "step 19"
    assert request["status"]["deduplication"]["occurrenceCount"] == 21


async def test_overload_is_503_and_never_429() -> None:
    """Beyond work and queue, webhooks are told to come back; all of them can come back."""
    world = World()
    await world.deployment()
    async with gateway(world, max_concurrent_requests=1, max_queued_requests=1) as http:
        posts = [http.post(PROMETHEUS, json=webhook(alert(deployment="web"))) for _ in range(20)]
        answers = await asyncio.gather(*posts)
        assert {a.status_code for a in answers} <= {201, 202, 503}
        shed = [a for a in answers if a.status_code == 503]
        assert shed
        assert all(int(a.headers["retry-after"]) >= 1 for a in shed)
        assert (await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))).status_code == 202


async def test_probes_are_open_and_metrics_bounded() -> None:
    """Health, readiness and metrics need no token; label values are bounded whatever signals are called."""
    world = World()
    await world.deployment()
    async with gateway(world) as http:
        for n in range(130):
            alerts = [alert(f"Name{n}", severity=f"s{n}", deployment="web")]
            assert (await http.post(PROMETHEUS, json=webhook(*alerts))).status_code in {201, 202}
        http.headers.pop("Authorization")
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/ready")).json() == {"status": "ready"}
        text = (await http.get("/metrics")).text
    assert text.count("gateway_signals_deduplicated_total{") == 101
    assert text.count("gateway_signals_received_total{") == 1
    assert 'gateway_crds_created_total{source_type="prometheus-alert"} 1.0' in text


async def test_the_app_closes_what_it_was_given() -> None:
    """At the end of the lifespan pending counts are written first, and then ``close`` is called."""
    world = World()
    await world.deployment()
    closed: list[int] = []

    async def close() -> None:
        (request,) = await world.remediations()
        closed.append(request["status"]["deduplication"]["occurrenceCount"])

    deps = Deps(world, settings(occurrence_flush_interval=60), Facts(), None, now=world.now, close=close)
    app = create_app(deps)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
    async with app.router.lifespan_context(app), http:
        for _ in range(3):
            await http.post(PROMETHEUS, json=webhook(alert(deployment="web")))
    assert closed == [3]
