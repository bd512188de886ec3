"""What the orchestrator reads, and what it takes for its own."""

from __future__ import annotations

from typing import Any

import pytest

from actors.remediation.observe import DELIVERED_CONDITION, Reader
from kubernaut_ray import conditions, names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.contracts.timeline import Gap, GapKind, IncidentStory, State, Timeline
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import Settings
from tests import build
from tests.memory_kube import MemoryKube

KEY = Key(names.SYSTEM_NAMESPACE, "rr-1")
DELIVERED = conditions.with_condition(
    (), DELIVERED_CONDITION, status=True, reason="Delivered", message="", now=build.NOW
)


async def put(kube: MemoryKube, obj: CustomResource, *, owner: Any = None) -> dict[str, Any]:
    """Store an object with its status; ``owner`` (stored) controls it."""
    body = obj.to_object()
    body["metadata"].pop("ownerReferences", None)
    if owner is not None:
        stored = type(build.remediation_request()).from_object(owner)
        body["metadata"]["ownerReferences"] = [stored.owner_reference]
    resource = resources.of(type(obj))
    created = await kube.create(resource, body)
    status = {"status": obj.status.to_object()}  # type: ignore[attr-defined]
    patched: dict[str, Any] = await kube.patch(resource, obj.name, status, KEY.namespace, subresource="status")
    return patched or created


@pytest.fixture
def kube() -> MemoryKube:
    return MemoryKube(lambda: build.NOW)


async def test_a_child_of_somebody_else_is_not_ours(kube: MemoryKube) -> None:
    """Same name, another owner: absent, as far as this request is concerned."""
    mine = await put(kube, build.remediation_request(phase=Phase.PROCESSING))
    other = await put(kube, build.remediation_request("rr-2"))
    await put(kube, build.signal_processing(build.remediation_request()), owner=other)
    seen = await Reader(kube, Settings()).observe(KEY)
    assert seen is not None
    assert (seen.request.uid, seen.processing) == (mine["metadata"]["uid"], None)


async def test_a_request_that_is_gone_is_none(kube: MemoryKube) -> None:
    """Deleted between the event and the look."""
    assert await Reader(kube, Settings()).observe(KEY) is None


async def test_a_sibling_that_cannot_be_read_does_not_stop_this_one(kube: MemoryKube) -> None:
    """Somebody edited another object into nonsense."""
    await put(kube, build.remediation_request(phase=Phase.PENDING))
    await put(kube, build.remediation_request("rr-2", phase=Phase.FAILED))
    broken = await put(kube, build.remediation_request("rr-3"))
    kube.objects["RemediationRequest", KEY.namespace, "rr-3"] = {**broken, "status": {"overallPhase": "Bananas"}}
    seen = await Reader(kube, Settings()).observe(KEY)
    assert seen is not None
    assert seen.routing is not None
    assert [sibling.name for sibling in seen.routing.siblings] == ["rr-2"]


class _Trail:
    """Tells one timeline."""

    def __init__(self, *gaps: Gap, state: State = State.ENDED) -> None:
        self._told = Timeline.model_construct(incident=IncidentStory.model_construct(state=state, gaps=gaps))

    async def timeline(self, remediation: str) -> Timeline:
        assert remediation == "rr-1"
        return self._told

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("trail", "late", "untold"),
    [
        (_Trail(), 0, ()),
        (_Trail(), -1, None),
        (_Trail(state=State.OPEN), 0, ("that it has ended",)),
        (_Trail(Gap(kind=GapKind.MISSING, message="m", event_type="workflow.started")), 0, ("workflow.started",)),
        (_Trail(Gap(kind=GapKind.SUPERSEDED, message="m", event_type="workflow.started")), 0, ()),
    ],
    ids=["complete", "not due yet", "open", "missing", "superseded"],
)
async def test_the_trail_is_asked_before_a_removal(
    kube: MemoryKube, trail: _Trail, late: float, untold: tuple[str, ...] | None
) -> None:
    """Only once it is due, and only what is missing holds it up."""
    await put(
        kube,
        build.remediation_request(phase=Phase.COMPLETED, retention_expiry_time=build.NOW, conditions=DELIVERED),
    )
    seen = await Reader(kube, Settings(), trail, now=lambda: build.later(late)).observe(KEY)
    assert seen is not None
    assert seen.untold == untold


async def test_where_a_removed_request_is_remembered_is_read_when_it_is_due(kube: MemoryKube) -> None:
    """Without a trail there is nothing to ask it, and nothing that would hold the removal up."""
    request = build.remediation_request(phase=Phase.COMPLETED, retention_expiry_time=build.NOW, conditions=DELIVERED)
    await put(kube, request)
    due = Reader(kube, Settings(), now=lambda: build.NOW)
    seen = await due.observe(KEY)
    assert seen is not None
    assert (seen.untold, seen.lineage) == ((), None)
    place = {"metadata": {"name": lineage.named(request.spec.signal_fingerprint), "namespace": request.namespace}}
    await kube.create(resources.CONFIG_MAP, place)
    seen = await due.observe(KEY)
    assert seen is not None
    assert seen.lineage is not None
    seen = await Reader(kube, Settings(), now=lambda: build.later(-1)).observe(KEY)
    assert seen is not None
    assert (seen.untold, seen.lineage) == (None, None)
