"""The registry: every source has its door, set up by the settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubernaut_ray.cli.send import route_of
from kubernaut_ray.settings import CloudWatchSettings, GatewaySettings, Settings
from serve_apps.gateway import target
from serve_apps.gateway.adapters import PREFIX, adapters, check_media_type
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.signal import Delivery, Signal
from serve_apps.problem import Problem
from tests.build import NOW

SAMPLES = Path(__file__).parents[4] / "manifests" / "samples"
ADAPTERS = adapters(Settings())
ROUTES = ["/prometheus", "/kubernetes-event", "/grafana", "/cloudwatch", "/cloudevents"]


def test_every_source_has_one_route() -> None:
    """No two share one."""
    assert [adapter.route for adapter in ADAPTERS] == ROUTES


async def test_settings_reach_the_adapters() -> None:
    """What one gateway allows is its own."""
    strict = Settings(gateway=GatewaySettings(cloudwatch=CloudWatchSettings(allow_unsigned=False)))
    alarm = Delivery(b'{"AlarmName": "a", "NewStateValue": "OK"}', {}, NOW)
    for made, allowed in ((adapters(strict), False), (ADAPTERS, True)):
        cloudwatch = next(a for a in made if a.route == "/cloudwatch")
        if allowed:
            await cloudwatch.authenticate(alarm)
        else:
            with pytest.raises(Problem):
                await cloudwatch.authenticate(alarm)


@pytest.mark.parametrize("route", ["/prometheus", "/kubernetes-event", "/grafana", "/cloudevents"])
async def test_most_sources_prove_nothing_more(route: str) -> None:
    """The caller's token was checked before."""
    adapter = next(a for a in ADAPTERS if a.route == route)
    await adapter.authenticate(Delivery(b"not read", {}, NOW))


@pytest.mark.parametrize(
    ("route", "content_type", "read"),
    [
        pytest.param("/prometheus", "application/json", True, id="JSON"),
        pytest.param("/prometheus", "Application/JSON; charset=utf-8", True, id="any case, with parameters"),
        pytest.param("/prometheus", "text/plain", False, id="something else"),
        pytest.param("/prometheus", "", False, id="nothing"),
        pytest.param("/cloudwatch", "text/plain; charset=UTF-8", True, id="as SNS says it"),
        pytest.param("/cloudwatch", "application/json", True, id="as EventBridge says it"),
        pytest.param("/cloudevents", "image/png", True, id="a CloudEvent may carry anything"),
    ],
)
def test_media_types(route: str, content_type: str, read: bool) -> None:
    """415 for what an adapter does not read."""
    adapter = next(a for a in ADAPTERS if a.route == route)
    if read:
        check_media_type(adapter, content_type)
        return
    with pytest.raises(Problem) as refused:
        check_media_type(adapter, content_type)
    assert refused.value.status == 415


@pytest.mark.parametrize(
    ("sample", "route", "name"),
    [
        ("alertmanager-webhook", "/prometheus", "KubeContainerOOMKilled"),
        ("grafana-webhook", "/grafana", "Container is OOMKilled"),
        ("cloudwatch-alarm", "/cloudwatch", "shop-web-memory"),
        ("cloudevent", "/cloudevents", "org.example.probe.failed"),
    ],
)
def test_the_shipped_samples_are_signals(sample: str, route: str, name: str) -> None:
    """Each is sent to its door by its shape, and names the sample Deployment."""
    body = (SAMPLES / f"{sample}.json").read_bytes()
    where, content_type = route_of(json.loads(body))
    adapter = next(a for a in ADAPTERS if a.route == route)
    (signal,) = adapter.parse(Delivery(body, {"content-type": content_type}, NOW))

    assert where == PREFIX + route
    assert isinstance(signal, Signal)
    assert signal.name == name
    assert str(target.candidates(signal, Kinds())[0]) == "shop/deployment/web"
