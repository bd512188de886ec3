"""Folding: a storm of one name opens a handful of requests, the rest is listed on one of them, and nobody is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubernaut_ray import clock, names
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway import tally, verdict
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.folding import Folding, Rules, choose
from serve_apps.gateway.verdict import Known
from tests.build import NOW, later
from tests.serve_apps.gateway.several import (
    Alert,
    One,
    alert,
    counted,
    end,
    gateways,
    listed,
    over,
    parts,
    requests,
    running,
)
from tests.serve_apps.gateway.world import World, settings

RULES = Rules(enabled=True, threshold=3, longest=timedelta(seconds=300))
THRESHOLD = 5
SYMPTOM = ("A", "shop/deployment/web")


def known(name: str, age: int = 10, **fields: Any) -> Known:
    created = clock.rfc3339(NOW - timedelta(seconds=age))[:19] + "Z"
    return Known(name=name, uid=name, created=created, fingerprint=name, signal_name="A", **fields)


FOLDING = {"members": frozenset({("A", "shop/deployment/other")}), "storm": "pattern"}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([], None, id="nothing open"),
        pytest.param([known("a"), known("b")], None, id="fewer than make a storm"),
        pytest.param([known("b", 10), known("a", 20), known("c", 5)], "a", id="enough: the oldest"),
        pytest.param([known("c"), known("a"), known("b")], "a", id="of the same second: the first by name"),
        pytest.param([known("a", 121), known("b"), known("c")], None, id="enough, but not within two minutes"),
        pytest.param([known("a", phase="Completed"), known("b"), known("c")], None, id="what has ended makes no storm"),
        pytest.param([known("a", deleting=True), known("b"), known("c")], None, id="nor does what is being deleted"),
        pytest.param([known("a", 200, **FOLDING)], "a", id="one that folds already goes on"),
        pytest.param([known("a", 301, **FOLDING)], None, id="but not longer than the longest storm"),
        pytest.param([known("a", 200, **FOLDING | {"storm": "rate"})], None, id="members of a lost node are no storm"),
        pytest.param([known("a", 200, storm="pattern")], None, id="a mark alone takes nobody in"),
        pytest.param(
            [known("a", 30, **FOLDING, crowded=True), known("b", 20), known("c")], "b", id="a crowded one is passed by"
        ),
        pytest.param([known(name, crowded=True) for name in "abc"], None, id="all crowded"),
        pytest.param(
            [known("a", 50), known("b", 40), known("c", 900, members=frozenset({SYMPTOM}), crowded=True)],
            "c",
            id="where it is listed already, however old and crowded",
        ),
        pytest.param(
            [known("a", 50, members=frozenset({SYMPTOM}), phase="Completed")], None, id="but not on one that ended"
        ),
        pytest.param(
            [known("a", 50, **FOLDING), known("b", 90), known("c", 80)], "a", id="who folds before who is older"
        ),
    ],
)
def test_choose(requests: list[Known], expected: str | None) -> None:
    """The anchor of a new signal, by what is open under its name."""
    chosen = choose(requests, SYMPTOM, NOW, RULES)
    assert (chosen.name if chosen else None) == expected


def test_a_time_that_makes_no_sense_is_taken_for_now() -> None:
    """Somebody's hand in ``creationTimestamp`` breaks nothing."""
    odd = [Known(name=n, uid=n, created="once", fingerprint=n) for n in "abc"]
    assert choose(odd, SYMPTOM, NOW, RULES) == odd[0]


def workloads(count: int, name: str = "A", start: int = 0) -> list[Alert]:
    return [alert(name, namespace="shop", deployment=f"w{n:03}") for n in range(start, start + count)]


def resource(one: Alert) -> tuple[str, str]:
    return one["labels"]["alertname"], f"shop/deployment/{one['labels']['deployment']}"


def targets(found: list[RemediationRequest]) -> set[tuple[str, str]]:
    return {(r.spec.signal_name, str(r.spec.target_resource)) for r in found}


async def test_turns_are_taken_one_after_the_other() -> None:
    """Two of one name never decide at the same time, also when a third comes just between them."""
    folding = Folding(Cluster(World()), "kubernaut-system", RULES, lambda: NOW)
    inside = 0

    async def one() -> None:
        nonlocal inside
        async with folding.turn("A"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    tasks = []
    for _ in range(30):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)


@pytest.mark.integration
async def test_two_hundred_workloads_over_three_gateways(api_server: Path, kube: KubeClient, namespace: str) -> None:
    """At most threshold + gateways - 1 requests: each gateway creates one at a time, and none after it has read the threshold.

    Everybody else is listed on an open request, repeats open nothing whichever gateway gets them, and each occurrence counts.
    """
    alerts = workloads(200)
    async with gateways(api_server, namespace, 3) as some:
        sends = [some[n % 3].send(group) for n, group in enumerate(parts(alerts, 20))]
        first = [o for outcomes in await asyncio.gather(*sends) for o in outcomes]
        found = await requests(kube, namespace)
        assert THRESHOLD <= len(found) <= THRESHOLD + 3 - 1
        assert {o["status"] for o in first} == {"created", "accepted"}
        assert [o["status"] for o in first].count("created") == len(found)
        assert targets(found) | listed(found) == {resource(a) for a in alerts}
        assert not targets(found) & listed(found)
        assert sum(len(r.status.members) for r in found) == 200 - len(found)

        for turn in (1, 2, 3):
            sends = [some[(n + turn) % 3].send(group) for n, group in enumerate(parts(alerts, 20))]
            again = [o for outcomes in await asyncio.gather(*sends) for o in outcomes]
            assert {o["status"] for o in again} == {"duplicate"}
        assert sum([await one.metric("gateway_signals_folded_total") for one in some]) == 200 - len(found)
        assert sum([await one.metric("gateway_signals_received_total") for one in some]) == 800
        duplicates = 'gateway_signal_outcomes_total{reason="PartOfStorm",status="duplicate"}'
        assert sum([await one.metric(duplicates) for one in some]) == 3 * (200 - len(found))
        folded = [e for one in some for e in one.facts.events if e.event_type == "gateway.signal.folded"]
        assert sum(e.event_data["count"] for e in folded) == 200 - len(found)

    after = await requests(kube, namespace)
    assert len(after) == len(found)
    assert counted(after) == 800
    assert {r.status.storm.storm_type for r in after if r.status.members and r.status.storm} == {"pattern"}


async def storm(one: One, count: int = 12) -> tuple[list[Alert], str]:
    """Let a storm begin; returns its alerts and the name of its anchor."""
    alerts = workloads(count)
    outcomes = await one.send(alerts)
    assert [o["status"] for o in outcomes] == ["created"] * THRESHOLD + ["accepted"] * (count - THRESHOLD)
    (anchor,) = {o["remediationRequestName"] for o in outcomes[THRESHOLD:]}
    return alerts, anchor


async def test_a_storm_is_seen_on_the_object_in_the_answer_and_in_metrics() -> None:
    """Who reads the anchor sees the storm and everybody in it; a repeat is told which request it is part of."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        alerts, anchor = await storm(one)
        assert await one.metric("gateway_storms_active") == 1
        assert await one.metric('gateway_signals_folded_total{reason="PartOfStorm"}') == 7
        (again,) = await one.send(alerts[-1:])
        assert (again["status"], again["reason"]) == ("duplicate", "PartOfStorm")
        assert again["remediationRequestName"] == anchor
    found = {r.name: r for r in await requests(world)}
    assert found[anchor].status.storm is not None
    assert found[anchor].status.storm.storm_type == "pattern"
    assert found[anchor].status.storm.alert_count >= 8
    members = found[anchor].status.members
    assert {(m.target, m.resource) for m in members} == {(resource(a)[1],) * 2 for a in alerts[THRESHOLD:]}
    assert counted(list(found.values())) == 13


async def test_an_anchor_that_ended_takes_nobody_in() -> None:
    """Its members open or join what is open; nobody is told to be part of what is over."""
    world = World()
    async with running(world, settings(), now=world.now) as one, running(world, settings(), now=world.now) as two:
        alerts, anchor = await storm(one)
        await two.send(alerts)
        await end(world, anchor)
        for gateway in (one, two):
            outcomes = await gateway.send(alerts)
            assert anchor not in {o["remediationRequestName"] for o in outcomes}
        found = await requests(world)
        assert len(found) <= THRESHOLD + 2
        still = [r for r in found if r.name != anchor]
        assert targets(still) | listed(still) == {resource(a) for a in alerts}


async def test_a_storm_that_asks_for_a_person_holds_its_members_back() -> None:
    """Its members open nothing until somebody has reviewed it, whichever gateway they reach; then the storm may begin anew."""
    world = World()
    async with running(world, settings(), now=world.now) as one, running(world, settings(), now=world.now) as two:
        alerts, anchor = await storm(one)
        status = {"overallPhase": "Completed", "outcome": "ManualReviewRequired", "requiresManualReview": True}
        await world.patch(REMEDIATION_REQUEST, anchor, {"status": status}, "kubernaut-system", subresource="status")
        for gateway in (one, two, one):
            outcomes = await gateway.send(alerts[THRESHOLD:])
            assert {(o["status"], o["reason"]) for o in outcomes} == {("duplicate", "AwaitingReview")}
            assert {o["remediationRequestName"] for o in outcomes} == {anchor}
        assert len(await requests(world)) == THRESHOLD

        reviewed = {"metadata": {"annotations": {names.ANNOTATION_REVIEWED: "true"}}}
        await world.patch(REMEDIATION_REQUEST, anchor, reviewed, "kubernaut-system")
        for gateway in (one, two):
            outcomes = await gateway.send(alerts[THRESHOLD:])
            assert anchor not in {o["remediationRequestName"] for o in outcomes}


async def test_a_storm_that_never_listed_a_signal_does_not_hold_it_back() -> None:
    """A fold that could not be written, and then the storm's end: the signal opens an incident of its own."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        _, anchor = await storm(one)
        (late,) = workloads(1, start=60)
        probe = World()
        async with running(probe, settings(), now=probe.now) as other:
            await other.send([late])
        (made,) = await probe.remediations()
        known = next(Known.of(obj) for obj in await world.remediations() if obj["metadata"]["name"] == anchor)
        one.parts.intake.folding.moved(made["spec"]["signalFingerprint"], known)
        status = {"overallPhase": "Completed", "outcome": "ManualReviewRequired", "requiresManualReview": True}
        await world.patch(REMEDIATION_REQUEST, anchor, {"status": status}, "kubernaut-system", subresource="status")
        (outcome,) = await one.send([late])
        assert outcome["status"] in {"created", "accepted"}
        assert outcome["remediationRequestName"] != anchor


async def test_a_target_with_an_incident_of_its_own_is_not_folded() -> None:
    """A request that another gateway opened after the first look is joined, though a storm goes on."""

    class Racing(World):
        opens: Any = None

        async def versions(self, *args: Any, **options: Any) -> Any:
            found = await super().versions(*args, **options)
            if self.opens is not None and "signal-name" in options.get("labels", ""):
                build, self.opens = self.opens, None
                await World.create(self, REMEDIATION_REQUEST, build, "kubernaut-system")
            return found

    world = Racing()
    async with running(world, settings(), now=world.now) as one:
        await storm(one)
        one_more = workloads(1, start=50)
        probe = World()
        async with running(probe, settings(), now=probe.now) as other:
            await other.send(one_more)
        (made,) = await probe.remediations()
        made["metadata"] = {k: v for k, v in made["metadata"].items() if k in {"name", "labels"}}
        made.pop("status", None)
        world.time = later(2)
        world.opens = made
        one.parts.intake.folding.forget("A")
        (outcome,) = await one.send(one_more)
        assert (outcome["status"], outcome["remediationRequestName"]) == ("duplicate", made["metadata"]["name"])
    assert resource(one_more[0]) not in listed(await requests(world))


async def test_an_anchor_that_ends_between_look_and_write() -> None:
    """What was about to be listed on it is taken elsewhere, is folded there, and is counted once."""

    class Ending(World):
        ends = ""

        async def patch(self, resource: Any, name: str, patch: Any, *rest: Any, **options: Any) -> Any:
            if name == self.ends:
                self.ends = ""
                await end(self, name)
            return await super().patch(resource, name, patch, *rest, **options)

    world = Ending()
    async with running(world, settings(occurrence_flush_interval=60), now=world.now) as one:
        alerts, anchor = await storm(one)
        await one.flush()
        world.ends = anchor
        late = workloads(20, start=100)
        outcomes = await one.send(late)
        await one.flush()
        assert not world.ends
        assert anchor not in {o["remediationRequestName"] for o in outcomes}
        found = await requests(world)
        assert len(found) <= THRESHOLD + 2
        assert {resource(a) for a in late} <= targets(found) | listed([r for r in found if r.name != anchor])
        assert counted(found) == len(alerts) + len(late)


async def test_a_crowded_anchor_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its room another one folds, and in the end incidents open on their own; everybody is on record and counted once."""
    for module in (tally, verdict):
        monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    world = World()
    async with running(world, settings(), now=world.now) as one:
        alerts = workloads(60)
        for group in parts(alerts, 7):
            assert {o["status"] for o in await one.send(group)} <= {"created", "accepted"}
        found = await requests(world)
        assert targets(found) | listed(found) == {resource(a) for a in alerts}
        assert max(len(r.status.members) for r in found) == 3
        for group in parts(alerts, 7):
            assert {o["status"] for o in await one.send(group)} == {"duplicate"}
        await one.flush()
        assert counted(await requests(world)) == 120
        assert len(await requests(world)) == len(found)


async def test_a_member_with_too_many_signals_opens_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that the anchor cannot list any more is not told to be part of it."""
    monkeypatch.setattr(tally, "MAX_MEMBER_SIGNALS", 2)
    world = World()
    async with running(world, settings(), now=world.now) as one:
        alerts, anchor = await storm(one)
        last = alerts[-1]["labels"]
        for name in ("B", "C", "D"):
            (outcome,) = await one.send([alert(name, namespace="shop", deployment=last["deployment"])])
            assert outcome["status"] == {"B": "accepted", "C": "created", "D": "duplicate"}[name]
            assert (outcome["remediationRequestName"] == anchor) is (name == "B")


async def test_an_anchor_with_many_symptoms_still_lists_its_members() -> None:
    """At the limit of symptoms an incident stops telling them apart, but who is folded into it is listed all the same."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        _, anchor = await storm(one)
        (target,) = (r.spec.target_resource.name for r in await requests(world) if r.name == anchor)
        many = [alert(f"S{n}", namespace="shop", deployment=target) for n in range(60)]
        await one.send(many)
        (outcome,) = await one.send(workloads(1, start=500))
        assert (outcome["status"], outcome["remediationRequestName"]) == ("accepted", anchor)
        found = await requests(world)
        assert ("A", "shop/deployment/w500") in listed(found)


async def test_members_end_one_by_one() -> None:
    """A resolution is recorded on the anchor, through whichever gateway it comes; after the last one all of it is over."""
    world = World()
    async with running(world, settings(), now=world.now) as one, running(world, settings(), now=world.now) as two:
        alerts, anchor = await storm(one)
        world.time = later(5)
        outcomes = await two.send(over(alerts[THRESHOLD:-1]))
        assert {o["remediationRequestName"] for o in outcomes} == {anchor}
        found = {r.name: r for r in await requests(world)}
        assert listed(list(found.values())) == {resource(alerts[-1])}
        assert {s for m in found[anchor].status.members for s in m.over} == {"A"}
        assert found[anchor].status.resolved is None

        for gateway, group in ((one, alerts[:THRESHOLD]), (two, alerts[-1:])):
            await gateway.send(over(group))
        found = {r.name: r for r in await requests(world)}
        assert all(r.status.resolved is not None for r in found.values())

        world.time = later(10)
        (outcome,) = await two.send(alerts[-1:])
        assert outcome["status"] in {"accepted", "created"}
        still = [r for r in await requests(world) if r.status.resolved is None]
        assert resource(alerts[-1]) in targets(still) | listed(still)


async def test_a_resolution_finds_the_anchor_though_its_target_has_its_own_incident() -> None:
    """A workload that was folded, and of which another request was opened later: what is over ends where it is listed."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        alerts, anchor = await storm(one)
        own = one.parts.intake.folding
        for fingerprint in list(own._homes):
            own.left(fingerprint)  # As after a restart.
        name = alerts[-1]["labels"]["deployment"]
        (other,) = await one.send([alert("B", namespace="shop", deployment=name)])
        assert other["remediationRequestName"] != anchor
        world.time = later(5)
        (outcome,) = await one.send(over(alerts[-1:]))
        assert outcome["remediationRequestName"] == anchor
        found = await requests(world)
        assert resource(alerts[-1]) not in listed(found)


async def test_switched_off_each_opens_its_own() -> None:
    """Without storm detection every workload has its request."""
    world = World()
    async with running(world, settings(storm_enabled=False), now=world.now) as one:
        outcomes = await one.send(workloads(30))
        assert {o["status"] for o in outcomes} == {"created"}
        (resolved,) = await one.send(over(workloads(1, start=99)))
        assert resolved["reason"] == "NothingOpen"
    assert len(await requests(world)) == 30


async def test_names_do_not_fold_into_each_other() -> None:
    """Many different alerts at once are no storm of one."""
    world = World()
    async with running(world, settings(), now=world.now) as one:
        alerts = [alert(f"N{n}", namespace="shop", deployment=f"w{n}") for n in range(30)]
        assert {o["status"] for o in await one.send(alerts)} == {"created"}


async def test_a_name_is_read_once_a_second_and_forgotten() -> None:
    """While an anchor takes members in, others of its name are not listed for each; what it cannot hold is looked up again."""
    world = World()
    clock_ = [0.0]
    folding = Folding(Cluster(world), "kubernaut-system", RULES, world.now, lambda: clock_[0])
    async with running(world, settings(), now=world.now) as one:
        await storm(one)
    lists = world.reads["list RemediationRequest"]
    found = [await folding.anchor(("A", f"r{n}")) for n in range(3)]
    assert len({k.request.uid for k in found if k}) == 1
    assert world.reads["list RemediationRequest"] == lists + 1
    listed_already = await folding.anchor(("A", "shop/deployment/w011"))
    assert listed_already is not None
    assert world.reads["list RemediationRequest"] == lists + 2
    folding.forget("A")
    await folding.anchor(("A", "r"))
    clock_[0] += 1
    await folding.anchor(("A", "r"))
    assert world.reads["list RemediationRequest"] == lists + 4


async def test_a_refused_status_leaves_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the API server takes no members, folded signals open requests of their own, and it ends."""
    from kubernaut_ray.kube.errors import Invalid

    class Strict(World):
        async def patch(self, resource: Any, name: str, patch: Any, *rest: Any, **options: Any) -> Any:
            if resource is REMEDIATION_REQUEST and "members" in patch.get("status", {}):
                raise Invalid("status.members: no such field", status=422, reason="Invalid")
            return await super().patch(resource, name, patch, *rest, **options)

    world = Strict()
    async with running(world, settings(), now=world.now) as one:
        outcomes = await one.send(workloads(12))
        assert {o["status"] for o in outcomes} == {"created"}
    assert len(await requests(world)) == 12
