"""The short way for repeats: it answers and counts as the long way does, and takes nothing that is not a plain repeat."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, SILENCE
from serve_apps.gateway import repeats
from serve_apps.gateway.adapters.alertmanager import Alertmanager
from serve_apps.gateway.intake import Intake
from tests.build import silence
from tests.serve_apps.gateway.plant import Plant
from tests.serve_apps.gateway.several import (
    PROMETHEUS,
    Alert,
    One,
    alert,
    counted,
    end,
    over,
    requests,
    running,
    webhook,
)
from tests.serve_apps.gateway.world import World, settings

NAMESPACE = "kubernaut-system"


class Plain(Alertmanager):
    """The same source, all of whose groups go the long way."""

    repeats = False


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that went the long way."""
    sizes: list[int] = []
    take = Intake.take

    async def counting(self: Intake, parsed: Sequence[Any], *rest: Any) -> Any:
        sizes.append(len(parsed))
        return await take(self, parsed, *rest)

    monkeypatch.setattr(Intake, "take", counting)
    return sizes


def web(name: str = "A", deployment: str = "web", **fields: Any) -> Alert:
    return alert(name, namespace="shop", deployment=deployment, **fields)


async def post(one: One, body: dict[str, Any]) -> tuple[int, Any]:
    answer = await one.http.post(PROMETHEUS, json=body)
    told = answer.json()
    told.pop("request_id", None)
    return answer.status_code, told


async def silenced(one: One, world: World, name: str, **fields: Any) -> None:
    """Create a silence, and wait until the gateway knows it."""
    body = {**silence(name, **fields).to_object(), "metadata": {"name": name}}
    made = Silence.from_object(await world.create(SILENCE, body, NAMESPACE))
    await one.parts.intake.locator.silences.seen(made)


async def test_a_repeat_is_not_walked(walks: list[int]) -> None:
    """The second delivery of a group, and all after it, are answered by one look; the counts are those of every alert."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        group = webhook(*(web(f"A{n}", f"w{n}") for n in range(4)))
        first = await post(one, group)
        answers = [await post(one, group) for _ in range(5)]
        assert walks == [4]
        assert first[1]["summary"]["created"] == 4
        assert {status for status, _ in answers} == {207}
        assert all(told == answers[0][1] for _, told in answers)
        assert answers[0][1]["summary"] == first[1]["summary"] | {"created": 0, "deduplicated": 4}
        single = await post(one, webhook(web("A1", "w1")))
        assert walks == [4]
        assert (single[0], single[1]["reason"]) == (202, "InProgress")
        assert await one.metric("gateway_signals_received_total") == 25
        assert await one.metric("gateway_signals_deduplicated_total") == 21
    found = await requests(world)
    assert counted(found) == 25
    assert sum(s.occurrence_count for r in found for s in r.status.deduplication.symptoms) == 25  # type: ignore[union-attr]


def unlike(change: Any) -> Any:
    """Return the group with a change made to a copy of it."""

    def changed(group: dict[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(group)
        change(body)
        return body

    return changed


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda b: b["alerts"][1].update(status="resolved"), id="one of them is resolved"),
        pytest.param(lambda b: [a.pop("status") for a in b["alerts"]] and b.update(status="resolved"), id="all are"),
        pytest.param(lambda b: b["alerts"][1].update(startsAt="2026-03-01T11:59:30Z"), id="one began anew"),
        pytest.param(lambda b: b["alerts"][1].update(startsAt="yesterday"), id="one began at no time"),
        pytest.param(lambda b: b["alerts"][1].pop("startsAt"), id="one does not say since when"),
        pytest.param(lambda b: b["alerts"].append(web("New")), id="an alert more"),
        pytest.param(lambda b: b["alerts"][1]["labels"].update(team="x"), id="a label more"),
        pytest.param(lambda b: b["alerts"].append({"labels": {}}), id="a malformed alert"),
        pytest.param(lambda b: b["alerts"].append(5), id="something that is no alert"),
        pytest.param(lambda b: b.update(commonLabels={"team": "x"}), id="a common label that the alerts lack"),
        pytest.param(lambda b: b.update(commonLabels={"alertname": "Z"}), id="a common label with another value"),
        pytest.param(lambda b: b.update(commonLabels=["x"]), id="common labels that are none"),
        pytest.param(lambda b: b.update(alerts=[]), id="no alerts"),
    ],
)
async def test_what_goes_the_long_way(walks: list[int], change: Any) -> None:
    """A group that is not wholly a repeat is walked, or refused, as if there were no short way."""
    group = webhook(web("A", "w1"), web("B", "w2"))
    body = unlike(change)(group)
    answers = []
    for adapter in (Alertmanager(), Plain()):
        world = World()
        config = settings(occurrence_flush_interval=3600)
        async with running(world, config, adapters=[adapter], now=world.now) as one:
            await post(one, group)
            walks.clear()
            answer = await post(one, body)
        answers.append((answer, len(walks), [r.status for r in await requests(world)]))
    assert answers[0] == answers[1]


async def test_labels_that_only_the_group_has_are_not_learned(walks: list[int]) -> None:
    """The same alert in a group with other common labels is another alert."""
    world = World()
    bare = {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-03-01T11:59:00Z"}
    async with running(world, settings(), now=world.now) as one:
        for name in ("web", "api", "web"):
            await post(one, webhook(bare) | {"commonLabels": {"namespace": "shop", "deployment": name}})
        assert len(walks) == 3
    assert {r.spec.target_resource.name for r in await requests(world)} == {"web", "api"}


async def test_no_stale_answer_after_the_end(walks: list[int]) -> None:
    """A request that ended, or was deleted, between two deliveries opens another one with the next."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        group = webhook(web("A", "w1"), web("B", "w2"))
        first = (await post(one, group))[1]["results"]
        await end(world, first[0]["remediationRequestName"])
        second = (await post(one, group))[1]["results"]
        assert [r["status"] for r in second] == ["created", "duplicate"]
        assert second[0]["remediationRequestName"] != first[0]["remediationRequestName"]
        await world.delete(REMEDIATION_REQUEST, second[0]["remediationRequestName"], NAMESPACE)
        await world.delete(REMEDIATION_REQUEST, first[0]["remediationRequestName"], NAMESPACE)
        third = (await post(one, group))[1]["results"]
        assert [r["status"] for r in third] == ["created", "duplicate"]
        assert len(walks) == 3


async def test_held_is_told_in_the_words_of_now() -> None:
    """A finished request that holds its signal back answers repeats too, and a new date is told at once."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        (status, told) = await post(one, webhook(web()))
        name = told["remediationRequestName"]
        for minute in (10, 20):
            ended = {"overallPhase": "Failed", "nextAllowedExecution": f"2026-03-01T12:{minute}:00Z"}
            await world.patch(REMEDIATION_REQUEST, name, {"status": ended}, NAMESPACE, subresource="status")
            for _ in range(2):
                status, told = await post(one, webhook(web()))
                assert (status, told["reason"]) == (202, "Held")
                assert f"12:{minute}:00" in told["message"]
    assert counted(await requests(world)) == 5


async def test_a_silence_takes_effect_at_once(walks: list[int]) -> None:
    """A repeat that has been silenced is not counted as a duplicate; once the silence is over, it is one again."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        await post(one, webhook(web()))
        await post(one, webhook(web()))
        await silenced(one, world, "quiet", matchers=[{"name": "alertname", "value": "A"}])
        for _ in range(2):
            status, told = await post(one, webhook(web()))
            assert (status, told["status"]) == (200, "silenced")
    assert len(walks) == 3
    assert counted(await requests(world)) == 2


async def test_a_silence_made_during_the_walk_is_not_overlooked_afterwards(
    walks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before the silence is not remembered as found after it."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        intake = one.parts.intake
        look = intake.look

        async def meanwhile(*arguments: Any) -> Any:
            monkeypatch.setattr(intake, "look", look)
            await silenced(one, world, "quiet", matchers=[{"name": "alertname", "value": "A"}])
            return await look(*arguments)

        monkeypatch.setattr(intake, "look", meanwhile)
        assert (await post(one, webhook(web())))[1]["status"] == "created"
        assert (await post(one, webhook(web())))[1]["status"] == "silenced"


async def test_an_api_that_does_not_answer_is_told_by_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way gives up without a word and without a count."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        await post(one, webhook(web()))

        async def away(*_: Any) -> Any:
            raise Retryable("away")

        with monkeypatch.context() as broken:
            broken.setattr(one.parts.intake.ledger, "look", away)
            status, told = await post(one, webhook(web()))
            assert (status, told["results"][0]["reason"]) == (503, "Unavailable")
        assert (await post(one, webhook(web())))[0] == 202
    assert counted(await requests(world)) == 2


async def test_what_is_known_gets_old_and_is_bounded(walks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds a repeat is walked again, and beyond the capacity all is learned anew."""
    world = World()
    monkeypatch.setattr(repeats, "FRESH_SECONDS", -1.0)
    async with running(world, settings(), now=world.now) as one:
        for _ in range(3):
            await post(one, webhook(web()))
        assert len(walks) == 3
        monkeypatch.setattr(repeats, "FRESH_SECONDS", 10.0)
        monkeypatch.setattr(repeats, "CAPACITY", 2)
        for n in (0, 0, 1, 0, 1, 2, 0):
            await post(one, webhook(web("A", f"w{n}")))
        assert len(walks) == 3 + 5


async def test_members_of_a_lost_node_are_repeats_too(walks: list[int]) -> None:
    """What is listed on a node's incident is counted there, as one of it; a pod that is not listed yet is walked."""
    world = World()
    plant = Plant(world, "shop")
    await plant.node("n1", ready="Unknown", since=world.time)
    _, replica_set = await plant.deployment("web")
    for n in range(3):
        await plant.pod(f"web-{n}", replica_set, node="n1", since=world.time)
    answers = {}
    for adapter in (Alertmanager(), Plain()):
        twin = copy.deepcopy(world.objects)
        other = World()
        other.objects = twin
        async with running(other, settings(), adapters=[adapter], now=other.now) as one:
            await one.sees_the_cluster()
            fired = "2026-03-01T12:00:30Z"
            pods = [alert("Down", namespace="shop", pod=f"web-{n}", starts_at=fired) for n in range(3)]
            seen = [await post(one, webhook(*pods[:2])) for _ in range(3)]
            seen.append(await post(one, webhook(*pods)))
            seen.append(await post(one, webhook(pods[2])))
            metric = 'gateway_signal_outcomes_total{reason="PartOfNodeLoss",status="duplicate"}'
            seen.append((0, await one.metric(metric)))
        (request,) = await requests(other)
        assert request.spec.target_resource.kind == "Node"
        assert counted([request]) == 10
        assert len(request.status.members) == 3
        answers[adapter.repeats] = seen, request.status
    assert answers[True] == answers[False]
    assert len(walks) == 5 + 2


POOL = [web(name, deployment) for name in ("A", "B") for deployment in ("w0", "w1", "w2", "w3", "w4", "w5", "w6")]
POOL += [alert("A", namespace="shop"), alert("A", team="x"), web("A", "w0", starts_at="2026-03-01T11:59:30Z")]
FIRING = st.lists(st.sampled_from(POOL), min_size=1, max_size=9)
STEPS = st.one_of(
    st.tuples(st.just("fire"), FIRING),
    st.tuples(st.just("fire"), FIRING),
    st.tuples(st.just("again"), st.integers(0, 3)),
    st.tuples(st.just("again"), st.integers(0, 3)),
    st.tuples(st.just("over"), FIRING),
    st.tuples(st.just("mixed"), FIRING),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("hold"), st.integers(0, 20)),
    st.tuples(st.just("time"), st.integers(1, 100)),
    st.tuples(st.just("silence"), st.sampled_from("AB")),
)


async def play(steps: Sequence[tuple[str, Any]], adapter: Alertmanager) -> tuple[list[Any], list[Object]]:
    """Return all answers, and the requests at the end."""
    world = World()
    told: list[Any] = []
    sent: list[dict[str, Any]] = []
    # How large a storm was when it was written depends on the moment, which must not differ.
    config = settings(occurrence_flush_interval=3600)
    async with running(world, config, adapters=[adapter], now=world.now) as one:
        for number, (what, value) in enumerate(steps):
            match what:
                case "fire":
                    sent.append(webhook(*value))
                case "over":
                    sent.append(webhook(*over(value)))
                case "mixed":
                    sent.append(webhook(*value, *over(value[:2])))
                case "again" if len(sent) > value:
                    sent.append(sent[-1 - value])
                case "time":
                    world.time += timedelta(seconds=value)
                case "silence":
                    matchers = [{"name": "alertname", "value": value}, {"name": "deployment", "value": "w1"}]
                    await silenced(one, world, f"s{number}", matchers=matchers)
                case "end" | "hold" if found := await world.remediations():
                    status: dict[str, Any] = {"overallPhase": "Completed"}
                    if what == "hold":
                        status = {"overallPhase": "Failed", "nextAllowedExecution": "2026-03-01T12:01:00Z"}
                    name = found[value % len(found)]["metadata"]["name"]
                    await world.patch(REMEDIATION_REQUEST, name, {"status": status}, NAMESPACE, subresource="status")
            if what in {"fire", "over", "mixed", "again"} and sent:
                told.append(await post(one, sent[-1]))
                world.time += timedelta(microseconds=1)
    return told, await world.remediations()


@budget(max_examples=30)
@given(st.lists(STEPS, min_size=2, max_size=12))
def test_the_short_way_is_the_long_way(steps: list[tuple[str, Any]]) -> None:
    """Whatever is sent and happens in between: the same answers, and the same counts, symptoms and members on the objects."""
    ways = [asyncio.run(play(steps, adapter)) for adapter in (Alertmanager(), Plain())]
    for one, other in zip(*(way[0] for way in ways), strict=True):
        assert one == other
    status = [{r["metadata"]["name"]: _without_versions(r) for r in way[1]} for way in ways]
    assert status[0] == status[1]


def _without_versions(obj: Object) -> Any:
    body = copy.deepcopy(obj)
    body["metadata"].pop("resourceVersion")
    if storm := body.get("status", {}).get("storm"):
        storm["affectedResources"].sort()  # Those of one instant are in no order.
    return orjson.loads(orjson.dumps(body))
