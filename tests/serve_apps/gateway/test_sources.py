"""Every other source over HTTP, as its sender sends: from the socket to the request in the API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.settings import CloudWatchSettings
from serve_apps.gateway.adapters import PREFIX, adapters
from serve_apps.gateway.adapters.cloudevents import BATCH, STRUCTURED
from serve_apps.gateway.adapters.cloudwatch import CloudWatch
from serve_apps.gateway.app import Deps, create_app
from tests.serve_apps.gateway.adapters import test_cloudevents, test_cloudwatch, test_grafana
from tests.serve_apps.gateway.adapters.signing import SUBSCRIBE_URL, Web, confirmation, notification
from tests.serve_apps.gateway.world import Facts, World, settings

CLOUDWATCH, CLOUDEVENTS, GRAFANA = (PREFIX + route for route in ("/cloudwatch", "/cloudevents", "/grafana"))
SNS = ("sns", "token")
"""What the userinfo of the endpoint's URL makes of itself."""
SNS_HEADERS = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}


class Tokens:
    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo("sender") if token == "token" else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return (verb, resource) == ("create", "signals")


@asynccontextmanager
async def gateway(world: World, web: Web, **cloudwatch: Any) -> AsyncIterator[httpx.AsyncClient]:
    made = settings(cloudwatch=CloudWatchSettings(**cloudwatch))
    sources = [a for a in adapters(made) if a.route != "/cloudwatch"]
    sources.append(CloudWatch(made.gateway.cloudwatch, web))
    app = create_app(Deps(world, made, Facts(), Tokens(), now=world.now), sources)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", auth=SNS) as http:
            yield http


async def test_sns_is_asked_for_its_password() -> None:
    """SNS sends without credentials first, and with them once it has been challenged."""
    async with gateway(World(), Web()) as http:
        answer = await http.post(CLOUDWATCH, json={}, auth=httpx.Auth())

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="')


async def test_an_alarm_opens_and_ends_an_incident() -> None:
    """A signed notification about a workload finds the Deployment; OK is recorded on its request."""
    world = World()
    await world.deployment()
    async with gateway(world, Web()) as http:

        async def notify(**fields: Any) -> httpx.Response:
            body = json.dumps(notification(test_cloudwatch.alarm(**fields)))
            return await http.post(CLOUDWATCH, content=body, headers=SNS_HEADERS)

        fired, again, ended = await notify(), await notify(), await notify(NewStateValue="OK")
        quiet = await notify(NewStateValue="INSUFFICIENT_DATA")

    assert [a.status_code for a in (fired, again, ended, quiet)] == [201, 202, 202, 200]
    assert fired.json()["target"] == "shop/deployment/web"
    assert ended.json()["status"] == "resolved"
    (request,) = await world.remediations()
    assert request["spec"]["signalType"] == "cloudwatch-alarm"
    assert request["spec"]["severity"] == "critical"


async def test_event_bridge_tells_of_the_same_incident() -> None:
    """Both ways may be set up at once."""
    world = World()
    await world.deployment()
    async with gateway(world, Web()) as http:
        first = await http.post(CLOUDWATCH, json=test_cloudwatch.change())
        second = await http.post(CLOUDWATCH, json=notification(test_cloudwatch.alarm()))

    assert (first.status_code, second.status_code) == (201, 202)
    assert first.json()["fingerprint"] == second.json()["fingerprint"]


@pytest.mark.parametrize(
    ("allowed", "body", "status", "fetched"),
    [
        pytest.param(False, confirmation(), 403, False, id="refused"),
        pytest.param(True, confirmation(), 200, True, id="allowed"),
        pytest.param(True, confirmation() | {"Message": "forged"}, 403, False, id="allowed, but forged"),
    ],
)
async def test_subscriptions(allowed: bool, body: dict[str, Any], status: int, fetched: bool) -> None:
    """Confirmed only where a setting allows it and SNS has signed; the refusal says what to do."""
    web = Web()
    async with gateway(World(), web, confirm_subscriptions=allowed) as http:
        answer = await http.post(CLOUDWATCH, content=json.dumps(body), headers=SNS_HEADERS)

    assert answer.status_code == status
    assert (SUBSCRIBE_URL in web.fetched) is fetched
    if not allowed:
        assert answer.headers["content-type"] == "application/problem+json"
        assert "confirm_subscriptions" in answer.json()["detail"]


async def test_sns_is_to_come_again_when_its_certificate_cannot_be_had() -> None:
    """503 with Retry-After: nothing was taken."""
    world, web = World(), Web()
    web.pages.clear()
    async with gateway(world, web) as http:
        answer = await http.post(CLOUDWATCH, json=notification(test_cloudwatch.alarm()))

    assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (503, True)
    assert await world.remediations() == []


async def test_grafana_s_groups_are_taken_alert_by_alert() -> None:
    """One about a pod, one malformed, one test: each its own outcome."""
    world = World()
    (pod,) = await world.deployment()
    labels = {"alertname": "High memory usage", "namespace": "shop", "pod": pod}
    test = {"alertname": "TestAlert", "instance": "Grafana"}
    alerts = [test_grafana.alert(labels=labels), test_grafana.alert(labels={}), test_grafana.alert(labels=test)]
    async with gateway(world, Web()) as http:
        body = test_grafana.webhook(*alerts)
        answer = await http.post(GRAFANA, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 207
    assert [one["status"] for one in answer.json()["results"]] == ["created", "failed", "rejected"]
    assert answer.json()["results"][0]["target"] == "shop/deployment/web"


async def test_cloudevents_in_every_mode() -> None:
    """Structured, binary and batch tell of one incident; a bad event of a batch fails alone."""
    world = World()
    (pod,) = await world.deployment()
    event = test_cloudevents.event(subject=f"namespaces/shop/pods/{pod}")
    attributes = {f"ce-{k}": v for k, v in event.items() if k not in {"data", "datacontenttype"}}
    async with gateway(world, Web()) as http:

        async def send(body: Any, **headers: str) -> httpx.Response:
            return await http.post(CLOUDEVENTS, content=json.dumps(body), headers=headers)

        structured = await send(event, **{"content-type": STRUCTURED})
        binary = await send(event["data"], **attributes, **{"content-type": "application/json; charset=utf-8"})
        batch = await send([event, {"id": "1"}], **{"content-type": BATCH})
        other = await send(event, **{"content-type": "application/cloudevents+xml"})
        plain = await send(event, **{"content-type": "application/json"})

    assert [a.status_code for a in (structured, binary, batch, other, plain)] == [201, 202, 207, 415, 400]
    assert structured.json()["target"] == "shop/deployment/web"
    assert [one["status"] for one in batch.json()["results"]] == ["duplicate", "failed"]
    assert len(await world.remediations()) == 1
