"""The loop as a whole, in a small world: work is found, carried on, retried with reason, given up and taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from kubernaut_ray import clock, names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.fencing import Stamp
from kubernaut_ray.control import loop as loops
from kubernaut_ray.control import shards
from kubernaut_ray.control.decision import Decision, Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.control.stats import Result
from kubernaut_ray.crds.enums import NotificationPhase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Conflict, Forbidden
from kubernaut_ray.kube.resources import CONFIG_MAP, EVENT, LEASE, NOTIFICATION_REQUEST, Resource
from kubernaut_ray.settings import FleetSettings
from tests import courier
from tests.memory_kube import MemoryKube

NS = names.SYSTEM_NAMESPACE


class Sink:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


@pytest.fixture
def kube() -> MemoryKube:
    return MemoryKube(clock.utcnow)


@asynccontextmanager
async def running(kube: MemoryKube, controller: Any = None, **options: Any) -> AsyncIterator[ControlLoop]:
    settings = FleetSettings(backoff_base=0.01, backoff_max=0.05, concurrency=4)
    queue = WorkQueue(backoff_base=settings.backoff_base, backoff_max=settings.backoff_max)
    loop = ControlLoop(
        controller or courier.Courier(kube),
        kube,
        Sink(),
        queue,
        **{"settings": settings, "namespace": NS, **options},
    )
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.drain()
        await asyncio.wait_for(task, 20)
    assert loop.state == "stopped"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def phase(kube: MemoryKube, name: str) -> str:
    obj = kube.objects.get(("NotificationRequest", NS, name)) or {}
    return str((obj.get("status") or {}).get("phase", ""))


def events(kube: MemoryKube) -> list[Object]:
    return [obj for (kind, _, _), obj in kube.objects.items() if kind == "Event"]


async def test_objects_there_before_and_made_after_are_carried_to_the_end(kube: MemoryKube) -> None:
    """What was there at the start is found by listing, what comes later by watching; every parcel is made once."""
    for index in range(10):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"old-{index}"))
    async with running(kube) as loop:
        for index in range(10):
            await kube.create(NOTIFICATION_REQUEST, courier.request(f"new-{index}"))
        await until(lambda: all(phase(kube, f"{age}-{i}") == "Sent" for age in ("old", "new") for i in range(10)))
        await until(lambda: loop.queue.working == 0 and len(loop.queue) == 0)
        assert loop.state == "running"
        assert loop.objects == 20
    assert loop.stats.transitions == {
        ("", "Pending"): 20,
        ("Pending", "Sending"): 20,
        ("Sending", "Sent"): 20,
    }
    assert loop.stats.effects["Create"] == 20
    assert sum(1 for kind, _, _ in kube.objects if kind == "ConfigMap") == 20


async def test_a_change_of_a_child_wakes_its_owner(kube: MemoryKube) -> None:
    """Events of watched kinds are mapped to keys of our own."""
    woken: list[str] = []

    class Listening(courier.Courier):
        async def observe(self, key: Key) -> courier.Seen | None:
            woken.append(key.name)
            return await super().observe(key)

    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, Listening(kube)) as loop:
        await until(lambda: phase(kube, "n1") == "Sent" and not loop.queue.working and not len(loop.queue))
        woken.clear()
        await kube.patch(CONFIG_MAP, "n1", {"data": {"touched": "yes"}}, NS)
        await kube.create(CONFIG_MAP, {"metadata": {"name": "nobodys", "namespace": NS}})
        await until(lambda: woken == ["n1"])


async def test_an_object_that_is_deleted_is_forgotten(kube: MemoryKube) -> None:
    """Neither timers nor counters are left of it."""
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube) as loop:
        await until(lambda: phase(kube, "n1") == "Sent")
        await kube.delete(NOTIFICATION_REQUEST, "n1", NS)
        await until(lambda: loop.stats.results[Result.GONE] > 0)
        assert (loop.objects, loop.queue.waiting) == (0, 0)


class Failing(courier.Courier):
    """Fails by plan, then works."""

    def __init__(self, kube: MemoryKube, *faults: Exception) -> None:
        super().__init__(kube)
        self.faults = list(faults)
        self.looks = 0

    async def observe(self, key: Key) -> courier.Seen | None:
        self.looks += 1
        if self.faults:
            raise self.faults.pop(0)
        return await super().observe(key)


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        pytest.param(Conflict("moved on"), Result.CONFLICT, id="a conflict"),
        pytest.param(Retryable("away"), Result.RETRY, id="a passing fault"),
        pytest.param(ZeroDivisionError("a bug"), Result.ERROR, id="a bug"),
    ],
)
async def test_faults_are_retried(kube: MemoryKube, fault: Exception, result: Result) -> None:
    """Whatever passes, passes; the object reaches its end all the same and no Event is written."""
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, Failing(kube, *[fault] * 8)) as loop:
        await until(lambda: phase(kube, "n1") == "Sent")
    assert loop.stats.results[result] == 8
    assert events(kube) == []


async def test_what_cannot_succeed_gets_a_warning_and_a_long_pause(kube: MemoryKube) -> None:
    """A permanent error is shown on the object and not tried again within the minute."""
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    controller = Failing(kube, *[Permanent("the target is a teapot", reason="Teapot")] * 9)
    async with running(kube, controller) as loop:
        await until(lambda: len(events(kube)) == 1)
        await asyncio.sleep(0.1)
        assert controller.looks == 1
        assert loop.queue.waiting == 1
    warning = events(kube)[0]
    assert (warning["type"], warning["reason"], warning["count"]) == ("Warning", "Teapot", 1)
    assert warning["message"] == "the target is a teapot"
    own = kube.objects["NotificationRequest", NS, "n1"]
    assert warning["involvedObject"]["uid"] == own["metadata"]["uid"]


async def test_an_object_edited_into_nonsense_gets_a_warning_and_is_no_hot_loop(
    kube: MemoryKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Event names the field and never the value; once corrected, the object goes on."""
    monkeypatch.setattr("kubernaut_ray.control.queue.EVENT_FLOOR", 0.05)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    kube.objects["NotificationRequest", NS, "n1"]["spec"]["type"] = "hunter2"
    async with running(kube) as loop:
        await until(lambda: len(events(kube)) == 1)
        await asyncio.sleep(0.1)
        assert loop.stats.results[Result.INVALID] == 1
        await kube.patch(NOTIFICATION_REQUEST, "n1", {"spec": {"type": "simple"}}, NS)
        await until(lambda: phase(kube, "n1") == "Sent")
    message = events(kube)[0]["message"]
    assert message.startswith("NotificationRequest cannot be read: spec.type: ")
    assert "hunter2" not in message


async def test_wake_at_brings_an_object_back(kube: MemoryKube) -> None:
    """A decision's wake_at is a timer; one in the past without progress is no hot loop."""
    looks: list[datetime] = []

    class Waiting(courier.Courier):
        def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
            looks.append(now)
            return Decision("Waiting", None, (), wake_at=now - timedelta(seconds=5))

    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, Waiting(kube)):
        await until(lambda: len(looks) == 3)
    assert looks[2] - looks[0] >= timedelta(seconds=2 * loops.IDLE_FLOOR * 0.9)


async def test_everything_is_looked_at_again_now_and_then(kube: MemoryKube) -> None:
    """The resync finds what no event told."""
    settings = FleetSettings(resync_interval=0.05, concurrency=2)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, settings=settings) as loop:
        await until(lambda: phase(kube, "n1") == "Sent" and loop.stats.results[Result.UNCHANGED] >= 4)


class Resting(courier.Courier):
    """Waits for the parcel's receipt, which somebody else writes; ``looks`` are the phases that it was asked about."""

    def __init__(self, client: KubeClient) -> None:
        super().__init__(client)
        self.looks: list[str] = []

    def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
        status = observed.notification.status
        self.looks.append(str(status.phase or ""))
        decision = super().decide(observed, now)
        match status.phase:
            case NotificationPhase.PENDING:
                return replace(decision, rests=True)
            case NotificationPhase.SENDING if not (observed.parcel or {}).get("status"):
                return Decision("Waiting")
            case NotificationPhase.SENT:
                return replace(decision, settled=True)
            case _:
                return decision


async def test_a_step_that_rests_is_left_to_the_events_of_others(kube: MemoryKube) -> None:
    """The echoes of what we made and wrote ourselves wake nobody; a change of the child does."""
    controller = Resting(kube)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, controller) as loop:
        await until(lambda: phase(kube, "n1") == "Sending" and not loop.queue.working)
        await asyncio.sleep(0.05)
        assert controller.looks == ["", "Pending"]
        await kube.patch(CONFIG_MAP, "n1", {"status": {"read": "yes"}}, NS)
        await until(lambda: phase(kube, "n1") == "Sent")
    assert controller.looks[:3] == ["", "Pending", "Sending"]


async def test_a_child_that_was_there_before_is_looked_at_although_the_step_rests(kube: MemoryKube) -> None:
    """What became of it happened before anybody could have heard of it."""
    made = await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    parcel = {"metadata": {"name": "n1", "namespace": NS, "ownerReferences": [_owner(made)]}, "status": {"read": "yes"}}
    await kube.create(CONFIG_MAP, parcel)
    async with running(kube, Resting(kube)):
        await until(lambda: phase(kube, "n1") == "Sent")


async def test_what_is_settled_is_passed_over_by_the_resync_until_it_changes(kube: MemoryKube) -> None:
    """Finished objects cost nothing more, however many there are."""
    controller = Resting(kube)
    settings = FleetSettings(resync_interval=0.02, concurrency=2)
    made = await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    parcel = {"metadata": {"name": "n1", "namespace": NS, "ownerReferences": [_owner(made)]}, "status": {"read": "yes"}}
    await kube.create(CONFIG_MAP, parcel)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n2"))
    async with running(kube, controller, settings=settings):
        await until(lambda: phase(kube, "n1") == "Sent" and controller.looks.count("Sending") > 4)
        before = controller.looks.count("Sent")
        waiting = controller.looks.count("Sending")
        await until(lambda: controller.looks.count("Sending") > waiting + 4)
        assert controller.looks.count("Sent") == before
        await kube.patch(NOTIFICATION_REQUEST, "n1", {"metadata": {"labels": {"touched": "yes"}}}, NS)
        await until(lambda: controller.looks.count("Sent") == before + 1)


def _owner(obj: Object) -> Object:
    kind = {"apiVersion": names.API_VERSION, "kind": "NotificationRequest", "controller": True}
    return {**kind, "name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


async def test_draining_ends_what_is_in_hand_and_starts_nothing_new(kube: MemoryKube) -> None:
    """A reconcile in progress is finished; the rest is left for the next owner."""
    gate, begun = asyncio.Event(), asyncio.Event()

    class Slow(courier.Courier):
        async def observe(self, key: Key) -> courier.Seen | None:
            begun.set()
            await gate.wait()
            return await super().observe(key)

    for name in ("n1", "n2"):
        await kube.create(NOTIFICATION_REQUEST, courier.request(name))
    settings = FleetSettings(concurrency=1)
    async with running(kube, Slow(kube), settings=settings) as loop:
        await asyncio.wait_for(begun.wait(), 5)
        loop.drain()
        await until(lambda: loop.state == "draining")
        gate.set()
    assert sorted([phase(kube, "n1"), phase(kube, "n2")]) == ["", "Pending"]


async def test_objects_made_by_hand_get_their_shard_label(kube: MemoryKube) -> None:
    """The owner of the first range labels what nobody labelled, whoever's shard it then is."""
    obj = courier.request("by-hand")
    del obj["metadata"]["labels"]
    await kube.create(NOTIFICATION_REQUEST, obj)
    parts = shards.ranges(2)
    async with running(kube, shard_range=parts[0]), running(kube, shard_range=parts[1]):
        await until(lambda: phase(kube, "by-hand") == "Sent")
    stored = kube.objects["NotificationRequest", NS, "by-hand"]
    assert stored["metadata"]["labels"] == names.shard_label("by-hand")


async def test_shards_divide_the_work(kube: MemoryKube) -> None:
    """Each object is worked on by one of the two, and all are."""
    parts = shards.ranges(2)
    for index in range(12):
        await kube.create(NOTIFICATION_REQUEST, courier.request(f"n{index}"))
    async with running(kube, shard_range=parts[0]) as low, running(kube, shard_range=parts[1]) as high:
        await until(lambda: all(phase(kube, f"n{i}") == "Sent" for i in range(12)))
    mine = sum(names.shard_of(f"n{i}") in parts[0] for i in range(12))
    assert (low.stats.transitions["", "Pending"], high.stats.transitions["", "Pending"]) == (mine, 12 - mine)


def lease(kube: MemoryKube, place: str) -> ShardLease:
    return ShardLease(kube, NS, "couriers", ShardRange(), place, duration=2.0, renew=0.02)


async def test_without_the_lease_nothing_is_touched(kube: MemoryKube) -> None:
    """A second owner stands by, and takes over at once when the first drains."""
    first, second = lease(kube, "one"), lease(kube, "two")
    async with running(kube, lease=first, shard_range=ShardRange()) as one:
        await until(lambda: one.state == "running")
        async with running(kube, lease=second) as two:
            await until(lambda: two.state == "standby")
            await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
            await until(lambda: phase(kube, "n1") == "Sent")
            assert two.stats.reconciles == 0
            one.drain()
            await until(lambda: two.state == "running")
            await kube.create(NOTIFICATION_REQUEST, courier.request("n2"))
            await until(lambda: phase(kube, "n2") == "Sent")
            assert set(second.tokens.values()) == {2}
            parcel = kube.objects["ConfigMap", NS, "n2"]
            block = fencing.block_lease("couriers", names.shard_of("n2"))
            stamped = Stamp.of(parcel)
            assert stamped is not None
            assert (stamped.lease, stamped.token) == (block, 2)
            held = kube.objects["Lease", NS, block]
            assert fencing.stale(stamped, held, kube.objects["Lease", NS, second.name]) == ""


async def test_a_lost_lease_stops_the_work_until_it_is_won_back(kube: MemoryKube) -> None:
    """When the Lease is taken away, the loop stands by; when it is free again, it goes on."""
    mine = lease(kube, "one")
    async with running(kube, lease=mine) as loop:
        await until(lambda: loop.state == "running")
        thief = {
            "spec": {"holderIdentity": "thief#9", "leaseTransitions": 9, "renewTime": clock.rfc3339(clock.utcnow())}
        }
        await kube.patch(LEASE, mine.name, thief, NS)
        await until(lambda: loop.state == "standby")
        await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
        await asyncio.sleep(0.05)
        assert phase(kube, "n1") == ""
        await until(lambda: phase(kube, "n1") == "Sent")
        assert set(mine.tokens.values()) == {2}


async def test_a_write_refused_as_a_stale_owners_stops_the_work_at_once(kube: MemoryKube) -> None:
    """Nothing is left behind, it is told once, and the Lease is looked at without waiting for its renewal."""
    mine = ShardLease(kube, NS, "couriers", ShardRange(), "one", duration=60.0, renew=30.0)
    create = kube.create

    async def refuse(resource: Resource, obj: Any, *args: Any, **rest: Any) -> Object:
        if resource == CONFIG_MAP:
            emptied = {"spec": {"holderIdentity": ""}}
            await kube.patch(LEASE, mine.name, emptied, NS)
            raise Forbidden("Lease x has changed hands", status=403, reason=fencing.REFUSED)
        return await create(resource, obj, *args, **rest)

    kube.create = refuse  # type: ignore[method-assign]
    async with running(kube, lease=mine) as loop:
        await until(lambda: loop.state == "running")
        await create(NOTIFICATION_REQUEST, courier.request("n1"))
        await until(lambda: loop.stats.results[Result.FENCED] > 0 and loop.state != "running")
        assert "has changed hands" in loop.stats.last_error
        kube.create = create  # type: ignore[method-assign]
        await until(lambda: phase(kube, "n1") == "Sent")


async def test_what_breaks_on_the_way_out_swallows_no_cancellation(
    kube: MemoryKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends the task ends it, whatever becomes of the Lease meanwhile."""
    mine = lease(kube, "one")
    monkeypatch.setattr(mine, "release", mock.AsyncMock(side_effect=RuntimeError("the session is closed")))
    settings = FleetSettings()
    loop = ControlLoop(courier.Courier(kube), kube, Sink(), WorkQueue(), settings=settings, namespace=NS, lease=mine)
    task = asyncio.create_task(loop.run())
    await until(lambda: loop.state == "running")
    task.cancel()
    ended, _ = await asyncio.wait({task}, timeout=5)
    loop.drain()
    await asyncio.wait({task}, timeout=20)
    assert (ended, task.cancelled()) == ({task}, True)


async def test_a_controller_that_cannot_start_is_tried_again(kube: MemoryKube) -> None:
    """A failing start (a policy that does not compile) is logged and repeated, not fatal."""

    class Late(courier.Courier):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            if self.starts == 1:
                raise Permanent("policy x.rego does not compile", reason="BadPolicy")

    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    controller = Late(kube)
    async with running(kube, controller) as loop:
        await until(lambda: phase(kube, "n1") == "Sent")
    assert controller.starts == 2
    assert "x.rego" in loop.stats.last_error


async def test_events_are_counted_up_not_multiplied(kube: MemoryKube) -> None:
    """The same warning said again is one Event with a count; a very long message is cut."""
    from kubernaut_ray.control.events import warn

    now = datetime(2026, 3, 1, tzinfo=UTC)
    for _ in range(3):
        await warn(
            kube,
            NOTIFICATION_REQUEST,
            Key(NS, "n1"),
            uid="u",
            reason="Teapot",
            message="x" * 5000,
            component="kubernaut-courier",
            now=now,
        )
    stored = (await kube.list(EVENT, NS)).items
    assert [(e["count"], len(e["message"])) for e in stored] == [(3, 1000)]


class Recalling(Failing):
    """Notes, at each look, whether the object is known as it stands, outdated, or not at all."""

    def __init__(self, kube: MemoryKube, *faults: Exception) -> None:
        super().__init__(kube, *faults)
        self.kube, self.recall = kube, Recall()
        self.recall.hold(8)
        self.known: list[str] = []

    async def observe(self, key: Key) -> courier.Seen | None:
        told = self.recall.get(key, NotificationRequest, key.name)
        stored = self.kube.objects.get(("NotificationRequest", NS, key.name)) or {"metadata": {"resourceVersion": ""}}
        now = stored["metadata"]["resourceVersion"]
        self.known.append("nothing" if told is None else "now" if told.metadata.resource_version == now else "old")
        return await super().observe(key)


async def test_what_is_recalled_is_what_was_told(kube: MemoryKube) -> None:
    """After an event and after a write of ours the object is known; after a failure, and for whoever asks, it is not."""
    controller = Recalling(kube)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, controller, recall=controller.recall) as loop:
        await until(lambda: phase(kube, "n1") == "Sent" and not loop.queue.working and not len(loop.queue))
        assert "now" in controller.known
        assert "old" not in controller.known
        controller.known.clear()
        loop.queue.add(Key(NS, "n1"))
        await until(lambda: controller.known == ["nothing"])
        controller.faults = [Retryable("not now")]
        controller.known.clear()
        await kube.patch(NOTIFICATION_REQUEST, "n1", {"metadata": {"annotations": {"a": "b"}}}, NS)
        await until(lambda: len(controller.known) >= 2)
        assert controller.known[:2] == ["now", "nothing"]


async def test_a_new_tenure_recalls_nothing(kube: MemoryKube) -> None:
    """Another owner may have written while the shards were not ours."""
    controller = Recalling(kube)
    controller.recall.note(Key(NS, "n1"), "notificationrequests", courier.request("n1"))
    async with running(kube, controller, recall=controller.recall) as loop:
        await until(lambda: loop.state == "running")
        assert len(controller.recall) == 0


async def test_an_answer_that_comes_after_the_deletion_is_not_recalled(kube: MemoryKube) -> None:
    """Answers and events come by different connections: the answer to our own write may be older than the last event."""
    controller, patch, late = Recalling(kube), kube.patch, asyncio.Event()

    async def overtaken(resource: Resource, name: str, *args: Any, **rest: Any) -> Object:
        answer = await patch(resource, name, *args, **rest)
        if not late.is_set():
            late.set()
            await kube.delete(NOTIFICATION_REQUEST, name, NS)
            await until(lambda: loop.objects == 0)
        return answer

    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    async with running(kube, controller, recall=controller.recall) as loop:
        kube.patch = overtaken  # type: ignore[method-assign]
        await until(lambda: late.is_set() and not loop.queue.working and not len(loop.queue))
        assert controller.known[-1] == "nothing"
