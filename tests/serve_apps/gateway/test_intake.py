"""The walk as a whole: silences, signals that end while they are taken, and storms of senders that nothing may be lost in."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Forbidden, Invalid
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, SILENCE
from tests.build import later, silence
from tests.serve_apps.gateway.several import (
    Alert,
    One,
    alert,
    counted,
    end,
    gateways,
    over,
    requests,
    running,
    webhook,
)
from tests.serve_apps.gateway.world import World, settings

NAMESPACE = "kubernaut-system"


def web(name: str = "A", deployment: str = "web", **fields: Any) -> Alert:
    return alert(name, namespace="shop", deployment=deployment, **fields)


async def silenced(one: One, world: World, name: str, *matchers: str, **fields: Any) -> None:
    body = {**silence(name, *matchers, **fields).to_object(), "metadata": {"name": name}}
    made = Silence.from_object(await world.create(SILENCE, body, NAMESPACE))
    await one.parts.intake.locator.silences.seen(made)


async def test_silences() -> None:
    """What is silenced opens nothing, is told, counted and audited, and ends as ever; what is not is taken beside it."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        await silenced(one, world, "quiet", 'alertname="A"', 'namespace="shop"')
        outcomes = await one.send([web("A"), web("B", "api"), web("A", "db")])
        assert [(o["status"], o["reason"]) for o in outcomes] == [
            ("silenced", "Silenced"),
            ("created", "NewIncident"),
            ("silenced", "Silenced"),
        ]
        assert "quiet" in outcomes[0]["message"]
        answer = await one.http.post("/api/v1/signals/prometheus", json=webhook(web("A")))
        assert (answer.status_code, answer.json()["status"]) == (200, "silenced")
        (resolved,) = await one.send(over([web("A")]))
        assert resolved["reason"] == "NothingOpen"
        assert await one.metric('gateway_signal_outcomes_total{reason="Silenced",status="silenced"}') == 3
        assert [r.spec.signal_name for r in await requests(world)] == ["B"]
        await one.flush()
        quiet = [e for e in one.facts.events if e.event_type == "gateway.signal.silenced"]
        heard = {(s["signal_name"], s["resource"]): s["count"] for e in quiet for s in e.event_data["signals"]}
        assert sum(heard.values()) == 3
        assert set(heard) == {("A", "shop/deployment/web"), ("A", "shop/deployment/db")}
        assert {e.correlation_id for e in quiet} == {"quiet"}

        world.time = later(minutes=60)
        (taken,) = await one.send([web("A")])
        assert taken["status"] == "created"
    status = Silence.from_object(await world.get(SILENCE, "quiet", NAMESPACE)).status
    assert status.silenced_count == 3


async def test_a_silence_begun_during_an_incident() -> None:
    """Occurrences are kept quiet, and its end is still recorded on the request that was open before."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        await one.send([web()])
        await silenced(one, world, "quiet", 'alertname="A"')
        world.time = later(5)
        assert [o["status"] for o in await one.send([web()])] == ["silenced"]
        world.time = later(9)
        assert [o["reason"] for o in await one.send(over([web()]))] == ["ResolutionRecorded"]
    (request,) = await requests(world)
    assert counted([request]) == 1
    assert request.status.resolved is not None


async def test_one_that_fires_and_is_over_in_one_group() -> None:
    """An alert told twice, firing and resolved, is taken once and ends; the sender is not asked to come again."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        await one.send([web("First")])
        world.time = later(1)
        new = web("New")
        outcomes = await one.send([new, *over([new])])
        assert [o["status"] for o in outcomes] == ["duplicate", "resolved"]
    (request,) = await requests(world)
    assert counted([request]) == 2
    assert request.status.deduplication is not None
    assert {s.signal_name: bool(s.resolved_at) for s in request.status.deduplication.symptoms} == {
        "First": False,
        "New": True,
    }


async def test_a_late_firing_of_what_is_over() -> None:
    """A gateway whose clock is behind hears of a new symptom after another one recorded its end: it is answered, once."""
    world = World()
    behind = lambda: later(-30)  # noqa: E731
    async with running(world, settings(), now=world.now) as one, running(world, settings(), now=behind) as two:
        await one.send([web("First"), web("New")])
        await one.flush()
        world.time = later(1)
        await one.send(over([web("New")]))
        for _ in range(2):
            (outcome,) = await two.send([web("New")])
            assert outcome["status"] == "duplicate"
    assert counted(await requests(world)) == 4


@pytest.mark.parametrize(
    ("refusal", "status", "occurrences"),
    [
        pytest.param(
            Invalid("no such field", status=422, reason="Invalid"), 202, 1, id="for good: its incident goes on"
        ),
        pytest.param(Forbidden("not allowed", status=403, reason="Forbidden"), 503, 1, id="until somebody allows it"),
    ],
)
async def test_a_status_that_may_not_be_written(refusal: Exception, status: int, occurrences: int) -> None:
    """A new symptom whose record is refused ends in one answer, and never in a circle."""

    class Strict(World):
        refuse = False

        async def patch(self, *arguments: Any, **options: Any) -> Any:
            if self.refuse:
                raise refusal
            return await super().patch(*arguments, **options)

    world = Strict()
    async with running(world, settings(), now=world.now) as one:
        await one.send([web()])
        await one.flush()
        world.refuse = True
        answer = await one.http.post("/api/v1/signals/prometheus", json=webhook(web("New")))
        assert answer.status_code == status
        over_ = await one.http.post("/api/v1/signals/prometheus", json=webhook(*over([web()])))
        assert over_.status_code == status
        world.refuse = False
    found = await requests(world)
    assert len(found) == 1
    assert counted(found) == occurrences


async def test_an_incident_that_ends_while_a_signal_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the wait is read again after it: nobody joins what is over."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        walk = one.parts.intake
        (first,) = await one.send([web()])
        monkeypatch.setattr(walk, "_groups", room := asyncio.Semaphore(1))
        await room.acquire()
        sending = asyncio.create_task(one.send([web(starts_at="2026-03-01T11:59:01Z")]))
        async with asyncio.timeout(5):
            while not room._waiters:
                await asyncio.sleep(0)
        await end(world, first["remediationRequestName"])
        room.release()
        (outcome,) = await sending
        assert outcome["status"] == "created"


async def test_it_gives_up_on_what_changes_all_the_time() -> None:
    """An anchor that ends each time a signal is written to it does not keep that signal going round for ever."""

    class Restless(World):
        async def patch(self, resource: Any, name: str, patch: Any, *rest: Any, **options: Any) -> Any:
            if resource is REMEDIATION_REQUEST and "members" in patch.get("status", {}):
                await end(self, name)
            return await super().patch(resource, name, patch, *rest, **options)

    world = Restless()
    async with running(world, settings(kubernetes_timeout=60), now=world.now) as one, asyncio.timeout(30):
        alerts = [web("A", f"w{n}") for n in range(20)]
        sent = [await one.http.post("/api/v1/signals/prometheus", json=webhook(a)) for a in alerts]
        assert {a.status_code for a in sent} <= {201, 202, 503}
    still = [r for r in await requests(world) if r.status.overall_phase is None]
    for one_alert, answer in zip(alerts, sent, strict=True):
        if answer.status_code == 202:
            name = answer.json()["remediationRequestName"]
            assert name in {r.name for r in still}, one_alert


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


SIGNALS, FINGERPRINTS, GROUP = 100_000, 1_000, 100


@pytest.mark.integration
async def test_a_hundred_thousand_signals_of_a_thousand_targets(
    api_server: Path, kube: KubeClient, namespace: str
) -> None:
    """Exactly one request a target, every signal counted, and what the gateway holds does not grow with them."""
    alerts = [alert(f"Name{n}", namespace="shop", deployment=f"w{n}", severity="warning") for n in range(FINGERPRINTS)]
    # Each delivery has other neighbours, as Alertmanager's groups do over time.
    groups = [
        [alerts[(start + step * n) % FINGERPRINTS] for n in range(GROUP)]
        for step in (1, 3, 7, 9, 11, 13, 17, 19, 21, 23)
        for start in range(0, FINGERPRINTS, GROUP)
    ]
    room = asyncio.Semaphore(8)
    sizes = []
    async with gateways(api_server, namespace, 1, storm_rate_threshold=10**9) as (one,):

        async def send(group: list[Alert]) -> None:
            async with room:
                await one.send(group)

        sent = 0
        began = time.monotonic()
        while sent < SIGNALS:
            await asyncio.gather(*(send(group) for group in groups))
            sent += len(groups) * GROUP
            gc.collect()
            sizes.append(resident_mib())
        print(f"{sent / (time.monotonic() - began):.0f} signals a second; {[round(size) for size in sizes]} MiB")
        assert await one.metric("gateway_signals_received_total") == SIGNALS
        occurrences = one.parts.intake.occurrences
    assert (occurrences.pending, len(occurrences._turns), len(occurrences._telling)) == (0, 0, 0)
    found = await requests(kube, namespace)
    assert len(found) == FINGERPRINTS
    assert counted(found) == SIGNALS
    assert {r.status.deduplication.occurrence_count for r in found if r.status.deduplication} == {
        SIGNALS // FINGERPRINTS
    }
    # After the first fifth everything is known.
    assert sizes[-1] - sizes[1] < 16
