"""The silences of a replica over a real API server: seen, asked, counted, removed; and what happens without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound, Unavailable
from kubernaut_ray.kube.resources import SILENCE
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.silences.labels import labels_of
from serve_apps.gateway.silences.store import Silences
from tests.build import NOW, TARGET, later, silence
from tests.serve_apps.gateway.world import World

pytestmark = pytest.mark.integration
FOO = {"alertname": "Foo"}


async def until(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def silences(kube: KubeClient, namespace: str) -> AsyncIterator[Silences]:
    one = Silences(kube, namespace, now=lambda: NOW, interval=0.02)
    await one.start()
    assert await one.synced(10)
    yield one
    await one.stop()


async def create(kube: KubeClient, namespace: str, one: Silence) -> Silence:
    body = {**one.to_object(), "metadata": {"name": one.name}}
    return Silence.from_object(await kube.create(SILENCE, body, namespace))


async def read(silences: Silences, name: str = "silence-1") -> Silence:
    return Silence.from_object(await silences.client.get(SILENCE, name, silences.namespace))


async def test_a_silence_is_in_force_counted_and_shown(kube: KubeClient, namespace: str, silences: Silences) -> None:
    """From kubectl apply to the figure in kubectl get; a change and its end are followed."""
    assert silences.match(FOO, NOW) == ()
    made = await create(kube, namespace, silence())
    await silences.seen(made)
    assert silences.match(FOO, NOW) == ("silence-1",)
    assert silences.match({"alertname": "Bar"}, NOW) == ()
    generation = silences.tick(NOW)

    silences.count("silence-1", 3, later(5))
    silences.count("silence-1", 1, later(2))
    silences.count("nobody", 1, NOW)

    async def counted() -> bool:
        status = (await read(silences)).status
        return (status.silenced_count, status.summary) == (4, 'alertname="Foo"')

    await until(counted)
    assert (await read(silences)).status.last_silenced_at == later(5)
    assert silences.tick(NOW) == generation

    assert silences.tick(later(minutes=60)) == generation + 1
    assert silences.match(FOO, later(minutes=60)) == ()
    await kube.delete(SILENCE, "silence-1", namespace)
    await until(lambda: silences.match(FOO, NOW) == () and not list(silences._table))


async def test_what_was_counted_is_written_on_stop(kube: KubeClient, namespace: str) -> None:
    """The last second is not lost by an orderly end."""
    silences = Silences(kube, namespace, now=lambda: NOW, interval=3600)
    await silences.start()
    await silences.synced(10)
    await silences.seen(await create(kube, namespace, silence()))
    silences.count("silence-1", 2, NOW)
    assert silences.healthy
    await silences.stop()
    assert not silences.healthy
    assert (await read(silences)).status.silenced_count == 2


@pytest.mark.parametrize(
    ("now", "gone"),
    [
        pytest.param(later(minutes=60) + timedelta(hours=120, seconds=-1), False, id="not yet"),
        pytest.param(later(minutes=60) + timedelta(hours=120), True, id="after 120 hours"),
    ],
)
async def test_expired_silences_are_removed_in_the_end(
    kube: KubeClient, namespace: str, now: datetime, gone: bool
) -> None:
    """By whichever of two replicas comes first."""
    replicas = [Silences(kube, namespace, now=lambda: now, interval=3600) for _ in range(2)]
    made = await create(kube, namespace, silence())
    for one in replicas:
        await one.start()
        await one.seen(made)
    await asyncio.gather(*(one.sweep() for one in replicas))
    if gone:
        with pytest.raises(NotFound):
            await read(replicas[0])
    else:
        assert await read(replicas[0])
    for one in replicas:
        await one.stop()


async def test_one_that_lives_again_is_not_removed(kube: KubeClient, namespace: str) -> None:
    """The removal is of what was seen, not of what is."""
    silences = Silences(kube, namespace, now=lambda: later(minutes=60 * 24 * 30), interval=3600)
    made = await create(kube, namespace, silence())
    await silences.start()
    await silences.seen(made)
    silences._tasks[0].cancel()
    await kube.patch(SILENCE, made.name, {"spec": {"endsAt": "2030-01-01T00:00:00Z"}}, namespace)
    await silences.sweep()
    assert await read(silences)
    await silences.stop()


async def test_what_makes_no_sense_silences_nothing_and_is_told() -> None:
    """A window that the API server cannot judge: the gateway goes on, and the log names the silence."""
    world = World()
    await world.create(
        SILENCE, silence(time_intervals=[{"weekdays": ["friday:monday"]}]).to_object(), "kubernaut-system"
    )
    silences = Silences(world, "kubernaut-system", now=world.now, interval=0.01)
    with capture_logs() as logs:
        await silences.start()
        assert await silences.synced(10)
        assert silences.match(FOO, NOW) == ()
    assert [(line["event"], line.get("silence")) for line in logs] == [("gateway.silence_unusable", "silence-1")]
    assert silences.healthy
    await silences.stop()


async def test_without_the_api_server_it_waits_once_and_then_lets_signals_through() -> None:
    """The waiting is counted from the start, so that a storm does not queue up behind it; it is told once."""
    world = World()
    world.fault = Unavailable("away")
    silences = Silences(world, "kubernaut-system", interval=0.01)
    with capture_logs() as logs:
        await silences.start()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await asyncio.gather(*(silences.synced(0.2) for _ in range(3))) == [False] * 3
        assert 0.15 <= loop.time() - began < 5
        began = loop.time()
        assert not await silences.synced(0.2)
        assert loop.time() - began < 0.1
    assert [line["event"] for line in logs].count("gateway.silences_unknown") == 1
    world.fault = None
    await until(silences._cache.synced.is_set)
    assert await silences.synced(0.2)
    await silences.stop()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({}, {"alertname": "A", "severity": "high", "namespace": "shop"}, id="a source without labels"),
        pytest.param({"alertname": "B", "severity": "P1", "namespace": "web"}, {}, id="the source's own words win"),
        pytest.param({"target_kind": "Node", "signal_type": "x"}, {"target_kind": "Deployment"}, id="but not about the target"),
    ],
)  # fmt: skip
def test_what_matchers_see(labels: dict[str, str], expected: dict[str, str]) -> None:
    """The labels, and the facts that the gateway knows."""
    signal = Signal("A", "prometheus-alert", "alertmanager", "high", NOW, NOW, labels=labels)
    seen: dict[str, Any] = labels_of(signal, Resolution(TARGET))
    ours = {
        "signal_type": "prometheus-alert",
        "target_kind": "Deployment",
        "target_name": "web",
        "target_namespace": "shop",
    }
    assert seen == {"alertname": "A", "severity": "high", "namespace": "shop"} | labels | ours | expected
    nameless = labels_of(signal, Resolution(TargetResource(kind="Unknown", name="unknown"), identified=False))
    assert nameless["target_namespace"] == ""
