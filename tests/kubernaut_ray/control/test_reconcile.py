"""The apply step: in order, the status last, and a crash at any point ends in the same world."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Create, Decision, Delete, Key, Patch
from kubernaut_ray.control.effects import NameTaken
from kubernaut_ray.control.reconcile import Reconciler, difference
from kubernaut_ray.crds.base import ObjectReference
from kubernaut_ray.crds.enums import NotificationPhase, RemediationPhase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus, SignalResolution
from kubernaut_ray.errors import IllegalTransition
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP, NOTIFICATION_REQUEST
from tests import courier
from tests.crash import crash_everywhere
from tests.memory_kube import MemoryKube

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = Key("kubernaut-system", "n1")


class Sink:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


def reconciler(kube: KubeClient, controller: Any = None) -> Reconciler:
    return Reconciler(controller or courier.Courier(kube), kube, Sink(), clock=lambda: NOW)


@pytest.fixture
async def kube() -> MemoryKube:
    kube = MemoryKube(lambda: NOW)
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    return kube


async def make_world(kube: KubeClient) -> None:
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    await kube.create(CONFIG_MAP, {"metadata": {"name": "n1-draft", "namespace": KEY.namespace}})


async def test_a_crash_at_any_point_ends_in_the_same_world() -> None:
    """Each write, audit record and call is interrupted before and after; the parcel exists once, sent and signed."""
    report = await crash_everywhere(courier.Courier, make_world, KEY)
    assert set(report.world.objects) == {
        "NotificationRequest kubernaut-system/n1",
        "ConfigMap kubernaut-system/n1",
    }
    assert report.world.objects["NotificationRequest kubernaut-system/n1"]["status"]["phase"] == "Sent"
    assert report.world.objects["ConfigMap kubernaut-system/n1"]["data"]["receipt"] == "signed"
    assert report.outcomes == ("Accepted", "Packed", "Arrived", "Waiting")
    assert len(report.points) == 16


async def test_the_harness_notices_a_controller_that_is_not_crash_safe() -> None:
    """A child under a random name is made twice when the status write is interrupted; the harness says where."""

    class Careless(courier.Courier):
        lives = 0

        def __init__(self, client: KubeClient) -> None:
            super().__init__(client)
            Careless.lives += 1

        def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
            decision = courier.decide(observed, now)
            effects = tuple(
                replace(e, obj={**e.obj, "metadata": {**e.obj["metadata"], "name": f"random-{Careless.lives}"}})
                if isinstance(e, Create)
                else e
                for e in decision.effects
            )
            return replace(decision, effects=effects)

    with pytest.raises(AssertionError, match="ends in another world"):
        await crash_everywhere(Careless, make_world, KEY)


async def test_only_the_difference_of_the_status_is_written(kube: MemoryKube) -> None:
    """The first step writes phase and queuedAt; a step that changes nothing writes nothing."""
    outcome = await reconciler(kube)(KEY)
    assert (outcome.old_phase, outcome.new_phase, outcome.reason) == ("", "Pending", "Accepted")
    assert outcome.wrote
    stored = await kube.get(NOTIFICATION_REQUEST, "n1", KEY.namespace)
    assert stored["metadata"]["resourceVersion"] == outcome.resource_version
    for _ in range(2):
        await reconciler(kube)(KEY)
    writes = kube.writes
    outcome = await reconciler(kube)(KEY)
    assert (outcome.reason, outcome.wrote, kube.writes) == ("Waiting", False, writes)


_INSTANTS = st.none() | st.sampled_from(
    [NOW, NOW + timedelta(microseconds=1), NOW.astimezone(timezone(timedelta(hours=2)))]
)
_REFERENCES = st.builds(ObjectReference, name=st.sampled_from(["", "a", "b"]), uid=st.sampled_from(["", "u-1"]))
_STATUSES = st.builds(
    RemediationRequestStatus,
    overall_phase=st.none() | st.sampled_from(RemediationPhase),
    message=st.sampled_from(["", "x", "y"]),
    observed_generation=st.none() | st.integers(0, 2),
    start_time=_INSTANTS,
    completed_at=_INSTANTS,
    resolved=st.sampled_from([None, *(SignalResolution(resolved_at=NOW, source=source) for source in ("", "x"))]),
    ai_analysis_ref=st.none() | _REFERENCES,
    notification_request_refs=st.lists(_REFERENCES, max_size=2).map(tuple),
    effectiveness_score=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    approval_notification_sent=st.booleans(),
    duplicate_count=st.integers(0, 1),
)


@given(_STATUSES, _STATUSES)
def test_only_what_differs_is_written_out_and_nothing_else_differs(
    old: RemediationRequestStatus, new: RemediationRequestStatus
) -> None:
    """The patch is that between the two written out whole, and leads from one to the other."""
    change = difference(old, new)
    assert change == patch.diff(old.to_object(), new.to_object())
    assert RemediationRequestStatus.model_validate(patch.apply(change, old.to_object())) == new
    assert difference(old, old.replace()) == {}


async def test_an_object_that_is_gone_is_said_to_be_gone(kube: MemoryKube) -> None:
    """A deleted object is no error."""
    outcome = await reconciler(kube)(Key("kubernaut-system", "nobody"))
    assert outcome.gone


async def test_a_change_since_the_observation_is_a_conflict(kube: MemoryKube) -> None:
    """The status write carries the resourceVersion that was observed."""

    class Meddled(courier.Courier):
        async def observe(self, key: Key) -> courier.Seen | None:
            seen = await super().observe(key)
            await kube.patch(NOTIFICATION_REQUEST, "n1", {"metadata": {"annotations": {"a": "b"}}}, key.namespace)
            return seen

    with pytest.raises(Conflict):
        await reconciler(kube, Meddled(kube))(KEY)


async def test_our_own_conditional_patch_is_no_conflict(kube: MemoryKube) -> None:
    """A patch of the own object under the observed version moves the base of the status write along."""

    class Finalizing(courier.Courier):
        def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
            own = observed.notification
            mine = Patch(
                NOTIFICATION_REQUEST,
                KEY,
                {"metadata": {"finalizers": ["kubernaut.ai/x"]}},
                resource_version=own.metadata.resource_version,
            )
            return Decision("Seen", own.status.replace(phase=NotificationPhase.PENDING), (mine,))

    outcome = await reconciler(kube, Finalizing(kube))(KEY)
    assert outcome.wrote
    stored = await kube.get(NOTIFICATION_REQUEST, "n1", KEY.namespace)
    assert stored["metadata"]["finalizers"] == ["kubernaut.ai/x"]


async def test_an_illegal_transition_performs_nothing(kube: MemoryKube) -> None:
    """The table is asked before the first effect."""

    class Jumping(courier.Courier):
        def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
            effect = Create(CONFIG_MAP, {"metadata": {"name": "x", "namespace": "default"}})
            return Decision("Jump", observed.notification.status.replace(phase=NotificationPhase.SENT), (effect,))

    with pytest.raises(IllegalTransition, match=r"\(none\) to Sent"):
        await reconciler(kube, Jumping(kube))(KEY)
    assert {kind for kind, _, _ in kube.objects} == {"NotificationRequest"}


@pytest.mark.parametrize(
    ("owner", "labels", "tolerate", "fine"),
    [
        pytest.param("u1", None, False, True, id="the owner matches"),
        pytest.param("u2", None, False, False, id="another owner"),
        pytest.param("u2", None, True, True, id="another owner, tolerated"),
        pytest.param("", {"app": "x"}, False, True, id="the labels match"),
        pytest.param("", {"app": "y"}, False, False, id="other labels"),
    ],
)
async def test_a_name_that_is_taken(owner: str, labels: dict[str, str] | None, tolerate: bool, fine: bool) -> None:
    """AlreadyExists is success for our own object, NameTaken for somebody else's."""
    kube = MemoryKube(lambda: NOW)
    existing = {
        "name": "n1",
        "namespace": KEY.namespace,
        "labels": {"app": "x"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u1", "controller": True}],
    }
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1"))
    await kube.create(CONFIG_MAP, {"metadata": existing})

    class Making(courier.Courier):
        def decide(self, observed: courier.Seen, now: datetime) -> Decision[Any]:
            obj = {"metadata": {"name": "n1", "namespace": KEY.namespace}}
            return Decision("Make", None, (Create(CONFIG_MAP, obj, owner, labels, tolerate),))

    if fine:
        await reconciler(kube, Making(kube))(KEY)
    else:
        with pytest.raises(NameTaken, match="is not ours"):
            await reconciler(kube, Making(kube))(KEY)


async def test_only_what_is_gone_counts_as_deleted(kube: MemoryKube) -> None:
    """Another object under the name is left alone; a conflict over ours is tried again, and is no deletion."""

    class Removing(courier.Courier):
        uid = "another"

        def decide(self, observed: Any, now: datetime) -> Decision[Any]:
            return Decision("Removed", effects=(Delete(NOTIFICATION_REQUEST, KEY, self.uid),))

    removing = Removing(kube)
    assert (await reconciler(kube, removing)(KEY)).reason == "Removed"
    there = await kube.get(NOTIFICATION_REQUEST, "n1", KEY.namespace)
    removing.uid = there["metadata"]["uid"]
    with mock.patch.object(kube, "delete", side_effect=Conflict("somebody writes")), pytest.raises(Conflict):
        await reconciler(kube, removing)(KEY)
    await reconciler(kube, removing)(KEY)
    with pytest.raises(NotFound):
        await kube.get(NOTIFICATION_REQUEST, "n1", KEY.namespace)


async def test_an_object_edited_into_nonsense_raises_its_problems(kube: MemoryKube) -> None:
    """What the model cannot read reaches the loop as pydantic's ValidationError."""
    kube.objects["NotificationRequest", "kubernaut-system", "n1"]["spec"]["type"] = "shout"
    with pytest.raises(ValidationError, match="shout"):
        await reconciler(kube)(KEY)
