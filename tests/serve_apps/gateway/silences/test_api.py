"""Silences over HTTP: Alertmanager's rules of making, changing and ending; who may; how refusals look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from kubernaut_ray import names
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.kube.errors import Conflict, Unavailable
from kubernaut_ray.kube.resources import SILENCE
from serve_apps.gateway.silences import api
from serve_apps.gateway.silences.store import Silences
from serve_apps.http import install
from tests.build import NOW, later, silence
from tests.serve_apps.gateway.world import Facts, World

NAMESPACE = "kubernaut-system"
FOO = {"name": "alertname", "value": "Foo"}
PROBLEM = "application/problem+json"


class Watchdog:
    """Everybody may look; the operator may also make and end."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"viewer", "operator"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        assert resource == "silences"
        return verb in {"get", "list"} or user.username == "operator"


@dataclass
class Desk:
    world: World
    silences: Silences
    facts: Facts
    http: httpx.AsyncClient

    async def post(self, **fields: Any) -> httpx.Response:
        body = {
            "matchers": [FOO], "startsAt": rfc3339(NOW), "endsAt": rfc3339(later(3600)), "createdBy": "ada", "comment": "why",
        }  # fmt: skip
        return await self.http.post("/api/v2/silences", json={k: v for k, v in (body | fields).items() if v != "-"})

    async def made(self, **fields: Any) -> str:
        answer = await self.post(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["silenceID"])

    async def stored(self, name: str) -> Silence:
        return Silence.from_object(await self.world.get(SILENCE, name, NAMESPACE))

    async def views(self, *filters: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/v2/silences", params=[("filter", text) for text in filters])
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    world, facts, app = World(), Facts(), FastAPI()
    silences = Silences(world, NAMESPACE, now=world.now, interval=0.01)
    api.add_routes(app, silences, facts, now=world.now, cluster_name="blue")
    install(app, service="gateway", gate=Watchdog(), rules=api.RULES, max_body_bytes=10_000)
    await silences.start()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer operator"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as http:
        yield Desk(world, silences, facts, http)
    await silences.stop()


async def test_making_one(desk: Desk) -> None:
    """It is in force when the answer comes; author and user are both kept; the past is cut off."""
    name = await desk.made(startsAt=rfc3339(NOW - timedelta(days=1)), comment="rollout")
    assert desk.silences.match({"alertname": "Foo"}, NOW) == (name,)
    (view,) = await desk.views()
    assert view == {
        "id": name,
        "status": {"state": "active"},
        "updatedAt": rfc3339(NOW),
        "comment": "rollout",
        "createdBy": "ada",
        "endsAt": rfc3339(later(3600)),
        "matchers": [{"name": "alertname", "value": "Foo", "isRegex": False, "isEqual": True}],
        "startsAt": rfc3339(NOW),
        "timeIntervals": [],
        "silencedCount": 0,
        "authenticatedUser": "operator",
    }
    assert (await desk.http.get(f"/api/v2/silence/{name}")).json() == view
    (event,) = desk.facts.events
    assert (event.event_type, event.actor_id, event.actor_type) == ("gateway.silence.created", "operator", "user")
    assert (event.correlation_id, event.resource_id, event.cluster_name) == (name, name, "blue")
    assert event.event_data["matchers"] == ['alertname="Foo"']
    assert event.event_data["created_by"] == "ada"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        pytest.param({"matchers": []}, "matchers", "at least 1", id="no matcher"),
        pytest.param({"matchers": [{"name": "a", "value": ""}]}, "matchers", "must not match the empty", id="everything"),
        pytest.param(
            {"matchers": [{"name": "a", "value": ".*", "isRegex": True}]}, "matchers", "must not match the empty",
            id="everything by an expression",
        ),
        pytest.param({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "matchers[0]", "missing )", id="no expression"),
        pytest.param({"matchers": [{"name": "a", "value": r"(x)\1", "isRegex": True}]}, "matchers[0]", "compile", id="not RE2's"),
        pytest.param({"matchers": [{"name": "", "value": "x"}]}, "matchers.0.name", "at least 1", id="no label"),
        pytest.param({"endsAt": rfc3339(NOW)}, "endsAt", "start time must be before end time", id="no time"),
        pytest.param(
            {"startsAt": rfc3339(later(-9)), "endsAt": rfc3339(later(-1))}, "endsAt", "in the past", id="over already"
        ),
        pytest.param({"startsAt": "tomorrow"}, "startsAt", "datetime", id="no instant"),
        pytest.param({"startsAt": "2026-03-01T12:00:00"}, "startsAt", "timezone", id="nowhere"),
        pytest.param({"comment": "-"}, "comment", "required", id="no comment"),
        pytest.param({"createdBy": "-"}, "createdBy", "required", id="no author"),
        pytest.param({"timeIntervals": [{"weekdays": ["someday"]}]}, "weekdays", "pattern", id="no weekday"),
        pytest.param(
            {"timeIntervals": [{}, {"weekdays": ["friday:monday"]}]}, "timeIntervals[1].weekdays[0]", "wrap", id="no window"
        ),
    ],
)  # fmt: skip
async def test_what_is_refused(desk: Desk, fields: dict[str, Any], field: str, words: str) -> None:
    """400 as a problem that names the field; nothing is stored."""
    answer = await desk.post(**fields)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    wrong = answer.json()["field_errors"][0]
    assert field in wrong["field"]
    assert words in wrong["message"]
    assert await desk.views() == []


@pytest.mark.parametrize(
    ("fields", "same", "ends"),
    [
        pytest.param({"endsAt": rfc3339(later(9000))}, True, 9000, id="an active one, longer"),
        pytest.param({"endsAt": rfc3339(later(700))}, True, 700, id="an active one, shorter"),
        pytest.param({"comment": "another", "createdBy": "bob"}, True, 3600, id="other words"),
        pytest.param(
            {"startsAt": rfc3339(NOW + timedelta(milliseconds=7))}, True, 3600, id="clients that cut fractions"
        ),
        pytest.param({"startsAt": rfc3339(later(650))}, False, 3600, id="an active one cannot begin later"),
        pytest.param({"matchers": [{"name": "alertname", "value": "Bar"}]}, False, 3600, id="other matchers"),
        pytest.param({"matchers": [{**FOO, "isEqual": False}]}, False, 3600, id="the contrary"),
    ],
)
async def test_changing_an_active_one(desk: Desk, fields: dict[str, Any], same: bool, ends: float) -> None:
    """Dates and words change; what would be another silence is another, and the old one ends."""
    name = await desk.made()
    desk.world.time = later(600)
    again = await desk.made(id=name, **fields)
    assert (again == name) is same
    assert (await desk.stored(again)).spec.ends_at == later(ends)
    if not same:
        assert (await desk.stored(name)).spec.ends_at == later(600)
        assert (await desk.stored(again)).spec.starts_at >= later(600)
    last = ["gateway.silence.updated"] if same else ["gateway.silence.created", "gateway.silence.expired"]
    assert desk.facts.types()[1:] == last
    assert len({event.event_id for event in desk.facts.events}) == len(desk.facts.events)


async def test_changing_a_pending_or_an_expired_one(desk: Desk) -> None:
    """A pending one may begin at another time to come; an expired one never lives again, another takes its place."""
    name = await desk.made(startsAt=rfc3339(later(600)))
    assert await desk.made(id=name, startsAt=rfc3339(later(900))) == name
    assert await desk.made(id=name, startsAt=rfc3339(later(-5))) != name
    assert (await desk.stored(name)).spec.ends_at == NOW
    another = await desk.made(id=name)
    assert another != name
    assert [view["status"]["state"] for view in await desk.views()] == ["active", "active", "expired"]


async def test_windows_survive_clients_that_know_nothing_of_them(desk: Desk) -> None:
    """A silence for Sundays does not become one for the whole year because somebody prolongs it with amtool."""
    sundays = [
        {"weekdays": ["sunday"], "times": [{"startTime": "02:00", "endTime": "04:00"}], "location": "Europe/Berlin"}
    ]
    name = await desk.made(timeIntervals=sundays)
    (view,) = await desk.views()
    assert view["status"]["state"] == "pending"
    assert desk.silences.match({"alertname": "Foo"}, NOW) == ()
    assert await desk.made(id=name, endsAt=rfc3339(later(9000))) == name
    other = await desk.made(id=name, matchers=[{"name": "alertname", "value": "Bar"}])
    assert (await desk.stored(other)).spec.time_intervals == (await desk.stored(name)).spec.time_intervals != ()
    assert await desk.made(id=other, matchers=[{"name": "alertname", "value": "Bar"}], timeIntervals=[]) == other
    assert (await desk.stored(other)).spec.time_intervals == ()


async def test_ending(desk: Desk) -> None:
    """At once, for good, as often as one likes, and it stays on record."""
    active, pending = await desk.made(), await desk.made(startsAt=rfc3339(later(60)))
    desk.world.time = later(30)
    for name in (active, pending, active):
        assert (await desk.http.delete(f"/api/v2/silence/{name}")).status_code == 200
    assert desk.silences.match({"alertname": "Foo"}, later(30)) == ()
    assert {view["status"]["state"] for view in await desk.views()} == {"expired"}
    assert (await desk.stored(pending)).spec.starts_at == later(30)
    assert desk.facts.types().count("gateway.silence.expired") == 2
    for method in ("GET", "DELETE"):
        answer = await desk.http.request(method, "/api/v2/silence/nobody")
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert (await desk.post(id="nobody")).status_code == 404


async def test_listing(desk: Desk) -> None:
    """Active by their end, pending by their start, expired the latest first; filters name matchers that a silence has."""
    ended = [await desk.made(endsAt=rfc3339(later(seconds))) for seconds in (10, 20)]
    desk.world.time = later(30)
    second = await desk.made(
        matchers=[FOO, {"name": "env", "value": "a|b", "isRegex": True}], endsAt=rfc3339(later(90))
    )
    first = await desk.made(endsAt=rfc3339(later(60)))
    coming = [await desk.made(startsAt=rfc3339(later(seconds))) for seconds in (50, 40)]
    assert [view["id"] for view in await desk.views()] == [first, second, *reversed(coming), *reversed(ended)]
    assert [view["id"] for view in await desk.views('env=~"a|b"', "alertname=Foo")] == [second]
    assert await desk.views("alertname=~Foo") == await desk.views("alertname!=Foo") == []
    answer = await desk.http.get("/api/v2/silences", params={"filter": "nonsense"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/api/v2/silences", "viewer", 200),
        ("GET", "/api/v2/status", "viewer", 200),
        ("GET", "/api/v2/silence/nobody", "viewer", 404),
        ("POST", "/api/v2/silences", "viewer", 403),
        ("DELETE", "/api/v2/silence/nobody", "viewer", 403),
        ("GET", "/api/v2/silences", "stranger", 401),
        ("GET", "/api/v2/alerts", "operator", 404),
    ],
)
async def test_who_may(desk: Desk, method: str, path: str, token: str, status: int) -> None:
    """Each verb of its own."""
    answer = await desk.http.request(method, path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


async def test_clients_of_alertmanager_are_told_in_a_string(desk: Desk) -> None:
    """amtool accepts application/json alone and shows a JSON string, and nothing else."""
    desk.http.headers["accept"] = "application/json"
    answer = await desk.post(matchers=[{"name": "a", "value": ""}])
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert "must not match the empty string" in answer.json()
    assert (await desk.http.get("/api/v2/status")).json()["versionInfo"]["version"] == "0.25.0"


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Unavailable("away", after=3), 503), (Conflict("changed"), 409), (Retryable("later"), 503)],
    ids=["away", "ever changing", "not now"],
)
async def test_when_the_api_server_cannot(desk: Desk, fault: Retryable, status: int) -> None:
    """Nothing is promised."""
    desk.world.fault = fault
    answer = await desk.post()
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert ("retry-after" in answer.headers) is (status == 503)


async def test_a_silence_made_by_hand_is_shown_too(desk: Desk) -> None:
    """Its name is its id; nobody was authenticated by us; a window that makes no sense is never in force."""
    one = silence("by-hand", time_intervals=[{"weekdays": ["friday:monday"]}])
    await desk.world.create(SILENCE, one.to_object(), NAMESPACE)
    (view,) = await desk.views()
    assert (view["id"], view["authenticatedUser"], view["status"]["state"]) == ("by-hand", "", "pending")
    assert (await desk.http.delete("/api/v2/silence/by-hand")).status_code == 200
    notes = (await desk.stored("by-hand")).metadata.annotations
    assert notes[names.ANNOTATION_AUTHENTICATED_USER] == "operator"
