"""Called off in the very moment in which a child is created: whatever is told of it when, the child is called off too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from actors.remediation.controller import RemediationController
from kubernaut_ray import names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Conflict
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.settings import Settings
from tests import build
from tests.actors.remediation.test_crash import Play, cast
from tests.lifecycles import ended, phase_of
from tests.memory_kube import MemoryKube

KEY = Key(names.SYSTEM_NAMESPACE, "rr-1")
_CALLED_OFF = {"SignalProcessing", "AIAnalysis", "RemediationApprovalRequest", "WorkflowExecution"}


class _Sink:
    async def record(self, event: AuditEvent) -> None:
        """Nobody asks here."""


class _World(MemoryKube):
    """A person calls the remediation off right before, or right after, the child of this name is created."""

    def __init__(self, child: str, *, after: bool) -> None:
        super().__init__(lambda: build.NOW)
        self.child, self.after, self.cancelled = child, after, False

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        now = obj["metadata"]["name"] == self.child and not self.cancelled
        if now and not self.after:
            await self.cancel()
        created = await super().create(resource, obj, namespace, dry_run=dry_run)
        if now and self.after:
            await self.cancel()
        return created

    async def cancel(self) -> None:
        note = {"metadata": {"annotations": {names.ANNOTATION_CANCEL: "enough"}}}
        await self.patch(resources.REMEDIATION_REQUEST, KEY.name, note, KEY.namespace)
        self.cancelled = True

    @property
    def phase(self) -> str:
        return phase_of(self.objects["RemediationRequest", KEY.namespace, KEY.name])

    def unfinished(self) -> list[str]:
        return [o["metadata"]["name"] for o in self.objects.values() if o["kind"] in _CALLED_OFF and not ended(o)]


class _Loop:
    """What the loop does, step by step, but that nobody tells it of the cancellation."""

    def __init__(self, world: _World) -> None:
        self._world, self.recall = world, Recall()
        controller = RemediationController(
            Deps(world, Settings(), Endpoints(), lambda: "token", lambda _ns, _name: None, self.recall)
        )
        self._reconcile = Reconciler(controller, world, _Sink(), clock=lambda: build.NOW, recall=self.recall)

    async def look(self) -> None:
        for obj in self._world.objects.values():
            if obj["kind"] != "RemediationRequest":
                self.recall.note(KEY, resources.BY_KIND[obj["kind"]].plural, obj)
        try:
            await self._reconcile(KEY)
        except Conflict:
            self.recall.forget(KEY)

    async def end(self, play: Play) -> None:
        """Look until it has ended; once it was called off nobody works on its children any more."""
        for _ in range(40):
            if not self._world.cancelled:
                await play(self._world)
            if self._world.phase == Phase.CANCELLED:
                return
            await self.look()


@pytest.mark.parametrize("after", [False, True], ids=["before the child", "after the child"])
@pytest.mark.parametrize(
    ("child", "play"),
    [
        pytest.param("sp-rr-1", cast(), id="as the signal is to be processed"),
        pytest.param("ai-rr-1", cast(), id="as the analysis begins"),
        pytest.param("rar-rr-1", cast(approval=ApprovalDecision.APPROVED), id="as leave is asked for"),
        pytest.param("we-rr-1", cast(approval=ApprovalDecision.APPROVED), id="as what was approved begins"),
        pytest.param("we-rr-1", cast(), id="as the execution begins"),
        pytest.param("ai-rr-1-recovery-1", cast(runs=(Run.FAILED,)), id="as another attempt begins"),
    ],
)
async def test_a_child_created_in_the_moment_of_the_cancellation_is_called_off(
    child: str, play: Play, after: bool
) -> None:
    """The status write fails on the version that was judged, and the next look knows what may have been created by then."""
    world = _World(child, after=after)
    await world.create(resources.REMEDIATION_REQUEST, build.remediation_request().to_object())
    await _Loop(world).end(play)
    assert (world.cancelled, world.phase, world.unfinished()) == (True, "Cancelled", [])


@pytest.mark.parametrize(
    "child",
    [
        build.signal_processing(build.remediation_request()),
        build.ai_analysis(build.remediation_request()),
        build.ai_analysis(build.remediation_request(), attempt=1),
        build.approval_request(build.remediation_request()),
        build.workflow_execution(build.remediation_request(), None),
    ],
    ids=lambda child: child.name,
)
async def test_a_child_that_arrives_after_the_end_is_called_off(child: CustomResource) -> None:
    """Whoever created it had slept over the cancellation; its event leads to the next look."""
    world = _World("sp-rr-1", after=False)
    request = await world.create(resources.REMEDIATION_REQUEST, build.remediation_request().to_object())
    loop = _Loop(world)
    await loop.end(cast())
    body = child.to_object()
    body["metadata"]["ownerReferences"] = [RemediationRequest.from_object(request).owner_reference]
    await world.create(resources.of(type(child)), body)
    assert world.unfinished() == [child.name]
    for _ in range(3):
        await loop.look()
    assert (world.phase, world.unfinished()) == ("Cancelled", [])


async def test_news_of_its_earlier_life_that_come_late_create_nothing() -> None:
    """The watch of requests lags behind that of their children: the deletion of one is known before the cancellation is."""
    world = _World("ai-rr-1", after=False)
    await world.create(resources.REMEDIATION_REQUEST, build.remediation_request().to_object())
    loop = _Loop(world)
    for _ in range(2):
        await loop.look()
    earlier = world.objects["RemediationRequest", KEY.namespace, KEY.name]
    await loop.end(cast())
    assert (phase_of(earlier), world.phase) == ("Processing", "Cancelled")
    await world.delete(resources.SIGNAL_PROCESSING, "sp-rr-1", KEY.namespace)
    loop.recall.forget(KEY)  # As an event of the deletion does.
    loop.recall.note(KEY, "remediationrequests", earlier)
    await loop.look()
    assert (world.phase, world.unfinished()) == ("Cancelled", [])
