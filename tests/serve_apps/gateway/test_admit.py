"""Is it new? Every state in which the requests of one fingerprint can be, and the races between replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray import names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.crds.enums import AdmissionReason, RemediationPhase
from kubernaut_ray.errors import Permanent
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import CONFIG_MAP, REMEDIATION_REQUEST
from serve_apps.gateway import request
from serve_apps.gateway.admit import Admission
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.verdict import Absent, Held, Known, Open, judge
from tests.build import FINGERPRINT, NOW, TARGET, later
from tests.serve_apps.gateway.world import World


def known(
    name: str = "", uid: str = "u1", phase: str = "", created: str = "2026-03-01T11:00:00Z", **more: Any
) -> Known:
    name = name or names.remediation_request(FINGERPRINT)
    return Known(name, uid, created, FINGERPRINT, phase=phase, **more)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([], Absent(), id="never seen"),
        pytest.param([known(phase="Analyzing")], Open, id="in progress"),
        pytest.param([known(phase="")], Open, id="just created"),
        pytest.param([known(phase="Blocked")], Open, id="blocked is in progress, or every repeat would open another"),
        pytest.param([known(phase="SomethingNew")], Open, id="an unknown phase is in progress"),
        pytest.param([known(phase="Completed")], Absent("u1"), id="finished"),
        pytest.param([known(phase="Failed"), known("rr-2", "u2", "Executing")], Open, id="an older one finished"),
        pytest.param(
            [known(phase="Failed", asks_for_person=True)], AdmissionReason.AWAITING_REVIEW, id="a person's turn"
        ),
        pytest.param([known(phase="Completed", held_until=later(60))], AdmissionReason.HELD, id="not again yet"),
        pytest.param([known(phase="Completed", held_until=later(-1))], Absent("u1"), id="may be repeated again"),
        pytest.param([known(phase="", deleting=True)], Absent("u1"), id="being deleted is not in progress"),
        pytest.param(
            [known(phase="Failed", asks_for_person=True, deleting=True)], Absent("u1"), id="deleting lets the signal in"
        ),
        pytest.param(
            [
                known(phase="Failed", asks_for_person=True),
                known("rr-2", "u2", "Completed", created="2026-03-01T11:30:00Z"),
            ],
            Absent("u2"),
            id="only the newest finished one counts",
        ),
    ],
)
def test_judge(requests: list[Known], expected: Any) -> None:
    """Each state of the world has one verdict."""
    verdict = judge(FINGERPRINT, requests, NOW)
    match expected:
        case Absent():
            assert verdict == expected
        case AdmissionReason():
            assert isinstance(verdict, Held)
            assert verdict.reason is expected
        case _:
            assert isinstance(verdict, expected)


def test_two_of_one_second_are_ordered_by_their_chain() -> None:
    """Creation times have whole seconds; the successor's name tells which one was first."""
    first = known(uid="zz", phase="Completed")
    second = known(names.remediation_request(FINGERPRINT, "zz"), "aa", "Completed")
    assert judge(FINGERPRINT, [first, second], NOW) == judge(FINGERPRINT, [second, first], NOW) == Absent("aa")


phases = st.sampled_from(["", *RemediationPhase, "odd"])
requests = st.lists(
    st.builds(
        known,
        name=st.uuids().map(str),
        uid=st.uuids().map(str),
        phase=phases,
        created=st.sampled_from(["2026-03-01T11:00:00Z", "2026-03-01T11:00:01Z"]),
        asks_for_person=st.booleans(),
        deleting=st.booleans(),
    ),
    max_size=5,
)


@given(requests)
def test_judge_is_total_and_does_not_depend_on_order(state: list[Known]) -> None:
    """Replicas that list in any order decide alike; anything in progress makes a duplicate."""
    verdict = judge(FINGERPRINT, state, NOW)
    assert verdict == judge(FINGERPRINT, state[::-1], NOW)
    assert isinstance(verdict, Open) == any(not k.finished and not k.deleting for k in state)


def build(name: str) -> dict[str, Any]:
    signal = Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW, labels={"alertname": "A"})
    return request.build(signal, Resolution(TARGET), FINGERPRINT, name, "kubernaut-system")


def admission(world: World) -> Admission:
    cluster = Cluster(world, attempts=1)
    return Admission(cluster, Ledger(cluster, "kubernaut-system"), "kubernaut-system", world.now)


async def admit(one: Admission) -> tuple[str, bool]:
    match await one.verdict(FINGERPRINT):
        case Absent() as absent:
            result = await one.create(FINGERPRINT, absent, build)
            return (result.request.name, False) if isinstance(result, Held) else (result[0].name, result[1])
        case Open(request) | Held(request):
            return request.name, False


async def test_one_of_many_replicas_wins() -> None:
    """Twenty admissions through five replicas create one object; the others find it."""
    world = World()
    replicas = [admission(world) for _ in range(5)]

    results = await asyncio.gather(*(admit(replica) for replica in replicas * 4))

    assert len({name for name, _ in results}) == 1
    assert sum(created for _, created in results) == 1
    assert len(await world.remediations()) == 1


async def finish(world: World, name: str, **status: Any) -> None:
    patch = {"status": {"overallPhase": "Completed", **status}}
    await world.patch(REMEDIATION_REQUEST, name, patch, "kubernaut-system", subresource="status")


async def test_a_finished_one_is_followed_by_the_next() -> None:
    """Each finished request gives the next its name, also when all are created within one second."""
    world = World()
    seen = []
    for _ in range(4):
        name, created = await admit(admission(world))
        assert created
        seen.append(name)
        await finish(world, name)
    assert len(set(seen)) == 4


async def test_the_name_of_a_removed_request_does_not_come_back() -> None:
    """When the newest is gone after its time, what is written down of it gives the next one its name, on every replica."""
    world = World()
    first, _ = await admit(admission(world))
    last = await remove(world, first)
    second, created = await admit(admission(world))
    assert (second, created) == (names.remediation_request(FINGERPRINT, last.uid), True)
    assert await admit(admission(world)) == (second, False)


async def remove(world: World, name: str) -> lineage.Last:
    """What the orchestrator does when its time is over."""
    gone = (await world.get(REMEDIATION_REQUEST, name, "kubernaut-system"))["metadata"]
    last = lineage.Last(lineage.written(gone["creationTimestamp"]), gone["uid"])
    place = {"metadata": {"name": lineage.named(FINGERPRINT)}, "data": lineage.entry(None, FINGERPRINT, last)}
    await world.create(CONFIG_MAP, place, "kubernaut-system")
    await world.delete(REMEDIATION_REQUEST, name, "kubernaut-system")
    return last


@pytest.mark.parametrize("pause", [0, 60])
@pytest.mark.parametrize("older_first", [True, False])
async def test_requests_are_removed_in_any_order(pause: int, older_first: bool) -> None:
    """Each waits for its own trail: the newest may be removed while an older one is kept, within a second of it or not."""
    world = World()
    taken = []
    for _ in range(2):
        name, _ = await admit(admission(world))
        await finish(world, name)
        taken.append(name)
        world.time += timedelta(seconds=pause)
    await remove(world, taken[0 if older_first else 1])
    third, created = await admit(admission(world))
    assert created
    assert third not in taken


async def test_review_lets_the_signal_in_again() -> None:
    """A finished request that asks for a person holds its signal until it is annotated as reviewed."""
    world = World()
    name, _ = await admit(admission(world))
    await finish(world, name, outcome="ManualReviewRequired", requiresManualReview=True)
    assert await admit(admission(world)) == (name, False)

    reviewed = {"metadata": {"annotations": {names.ANNOTATION_REVIEWED: "true"}}}
    await world.patch(REMEDIATION_REQUEST, name, reviewed, "kubernaut-system")
    second, created = await admit(admission(world))
    assert (created, second != name) == (True, True)


async def test_labels_edited_by_hand_do_not_break_the_lock() -> None:
    """Without its fingerprint label a request is still found by the field."""
    world = World()
    name, _ = await admit(admission(world))
    await world.patch(
        REMEDIATION_REQUEST, name, {"metadata": {"labels": {names.LABEL_FINGERPRINT: None}}}, "kubernaut-system"
    )
    assert await admit(admission(world)) == (name, False)


async def test_a_request_made_by_hand_is_found_without_its_label() -> None:
    """A request under a name of its own, and without labels, makes its signal a duplicate all the same."""
    world = World()
    by_hand = build("made-by-hand")
    del by_hand["metadata"]["labels"]
    await world.create(REMEDIATION_REQUEST, by_hand, "kubernaut-system")
    assert await admit(admission(world)) == ("made-by-hand", False)


async def test_a_name_taken_by_another_fingerprint_is_an_error() -> None:
    """Nothing is ever folded into a request that is about something else."""
    world = World()
    name = names.remediation_request(FINGERPRINT)
    other: Mapping[str, Any] = build(name) | {"spec": build(name)["spec"] | {"signalFingerprint": "cd" * 32}}
    await world.create(REMEDIATION_REQUEST, other, "kubernaut-system")

    with pytest.raises(Permanent, match="another fingerprint"):
        await admit(admission(world))


def test_a_hand_edited_object_is_read_tolerantly() -> None:
    """Nonsense in a status counts as absent."""
    obj: Object = {
        "metadata": {"name": "n", "uid": "u"},
        "spec": {"signalFingerprint": FINGERPRINT},
        "status": {"overallPhase": "Completed", "nextAllowedExecution": "soon"},
    }
    assert Known.of(obj).held_until is None
