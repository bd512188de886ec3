"""The orchestrator's own look at the scope label: fresh, before an analysis and before every execution."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from actors.remediation.controller import RemediationController
from actors.remediation.controller import build as build_controller
from actors.remediation.scope import look_up
from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import ApprovalDecision, BlockReason
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.scope import Mode
from kubernaut_ray.settings import GatewaySettings, Settings
from tests import build
from tests.actors.signal_processing.cluster import RefusingKube
from tests.memory_kube import MemoryKube

YES, NO = {names.LABEL_MANAGED: "true"}, {names.LABEL_MANAGED: "false"}
WEB = build.TARGET
NODE = TargetResource(api_version="v1", kind="Node", name="n1")
WIDGET = TargetResource(api_version="example.org/v1", kind="Widget", name="w", namespace="shop")


@pytest.fixture
async def kube() -> MemoryKube:
    """A namespace that is ours, with a Deployment that has no label."""
    world = MemoryKube(lambda: build.NOW)
    await world.create(resources.NAMESPACE, {"metadata": {"name": "shop", "labels": YES}})
    await world.create(resources.DEPLOYMENT, {"metadata": {"name": "web", "namespace": "shop"}})
    return world


@pytest.mark.parametrize(
    ("mode", "target", "expected"),
    [
        pytest.param("opt-in", WEB, True, id="by the namespace"),
        pytest.param("opt-in", WEB.replace(name="gone"), True, id="a target that is gone, by the namespace"),
        pytest.param("opt-in", WEB.replace(namespace="gone"), False, id="no such namespace"),
        pytest.param("opt-out", WEB.replace(namespace="gone"), True, id="no such namespace, and nobody opted out"),
        pytest.param("opt-in", WIDGET, True, id="a kind that discovery knows, which is not there"),
        pytest.param("opt-in", WIDGET.replace(kind="Gadget"), True, id="a kind that nobody knows"),
        pytest.param(
            "opt-in",
            TargetResource(api_version="serving.knative.dev/v1", kind="Service", name="web", namespace="shop"),
            True,
            id="a well-known kind's name in another group",
        ),
        pytest.param("opt-in", NODE, False, id="cluster-scoped, without a label"),
        pytest.param("opt-in", NODE.replace(namespace="shop"), False, id="cluster-scoped, whatever namespace it names"),
        pytest.param("opt-out", NODE, True, id="cluster-scoped, and nobody opted out"),
    ],
)
async def test_by_namespace(kube: MemoryKube, mode: Mode, target: TargetResource, expected: bool) -> None:
    """What has no label of its own goes by its namespace, if it has one."""
    found = await look_up(RefusingKube(kube), mode, target)
    assert (found.managed, found.problem) == (expected, "")


@pytest.mark.parametrize(
    ("resource", "target", "labels", "expected"),
    [
        pytest.param(resources.DEPLOYMENT, WEB.replace(name="own"), NO, False, id="its own no"),
        pytest.param(resources.DEPLOYMENT, WEB.replace(name="own"), YES, True, id="its own yes"),
        pytest.param(Resource("example.org", "v1", "widgets", "Widget"), WIDGET, NO, False, id="a custom resource"),
        pytest.param(resources.NODE, NODE, YES, True, id="a node"),
        pytest.param(
            resources.NAMESPACE, TargetResource(api_version="v1", kind="Namespace", name="own"), YES, True, id="a namespace"
        ),
    ],
)  # fmt: skip
async def test_by_its_own_label(
    kube: MemoryKube, resource: Resource, target: TargetResource, labels: Mapping[str, str], expected: bool
) -> None:
    """The target's own label wins over its namespace's."""
    place = {"namespace": target.namespace} if target.namespace else {}
    await kube.create(resource, {"metadata": {"name": target.name, "labels": dict(labels), **place}})
    assert (await look_up(RefusingKube(kube), "opt-in", target)).managed is expected


@pytest.mark.parametrize(
    ("refusing", "said"),
    [
        pytest.param({"forbidden": ("deployments",)}, "deployments is forbidden", id="the target is forbidden"),
        pytest.param({"forbidden": ("namespaces",)}, "namespaces is forbidden", id="the namespace is forbidden"),
        pytest.param({"unavailable": ("deployments",)}, "connection refused", id="the API server does not answer"),
    ],
)
@pytest.mark.parametrize("mode", ["opt-in", "opt-out"])
async def test_a_look_up_that_fails_is_a_no(kube: MemoryKube, mode: Mode, refusing: dict[str, Any], said: str) -> None:
    """Fail closed: nobody knows whether acting was forbidden."""
    found = await look_up(RefusingKube(kube, **refusing), mode, WEB)
    assert not found.managed
    assert said in found.problem


async def test_with_everything_managed_nothing_is_read(kube: MemoryKube) -> None:
    """The setting that asks no label costs no request."""
    refusing = RefusingKube(kube)
    assert (await look_up(refusing, "all", WEB)).managed
    assert refusing.read == []


class _Nobody:
    async def record(self, _: object) -> None:
        """Facts are not looked at here."""


class Orchestrated:
    """One request on the embedded API server, reconciled by hand at instants of our choosing."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self.now = build.later(60)
        settings = Settings(namespace=namespace, gateway=GatewaySettings(scope="opt-in"))
        deps = Deps(kube, settings, Endpoints(), token=lambda: "t", wake=lambda _ns, _name: None)
        self.controller: RemediationController = build_controller(deps)
        self._reconcile = Reconciler(self.controller, kube, _Nobody(), clock=self._now)

    def _now(self) -> datetime:
        return self.now

    async def put(self, obj: CustomResource, owner: RemediationRequest | None = None) -> CustomResource:
        body = obj.to_object()
        body["metadata"] = {"name": obj.name, "namespace": self._namespace}
        if owner is not None:
            body["metadata"]["ownerReferences"] = [owner.owner_reference]
        await self._kube.create(resources.of(type(obj)), body)
        status = {"status": body["status"]}
        made = await self._kube.patch(resources.of(type(obj)), obj.name, status, self._namespace, subresource="status")
        return type(obj).from_object(made)

    async def label(self, value: str | None) -> None:
        body = {"metadata": {"labels": {names.LABEL_MANAGED: value}}}
        await self._kube.patch(resources.DEPLOYMENT, "web", body, self._namespace)

    async def step(self) -> RemediationRequest:
        await self._reconcile(Key(self._namespace, "rr-1"))
        return RemediationRequest.from_object(
            await self._kube.get(resources.REMEDIATION_REQUEST, "rr-1", self._namespace)
        )


@pytest.mark.integration
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.ANALYZING, Phase.AWAITING_APPROVAL])
async def test_on_an_api_server_it_blocks_and_goes_on(kube: KubeClient, namespace: str, phase: Phase) -> None:
    """Before the analysis, before a direct and before an approved execution: the label decides as it is now."""
    scene = Orchestrated(kube, namespace)
    target = WEB.replace(namespace=namespace)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await kube.create(resources.DEPLOYMENT, {"metadata": {"name": "web", "namespace": namespace, "labels": NO}, "spec": spec})  # fmt: skip
    made = build.remediation_request(phase=phase, spec={"target_resource": target})
    request = await scene.put(made)
    assert isinstance(request, RemediationRequest)
    if phase is not Phase.PENDING:
        await scene.put(build.signal_processing(request), request)
        await scene.put(build.ai_analysis(request, approval_required=phase is Phase.AWAITING_APPROVAL), request)
    if phase is Phase.AWAITING_APPROVAL:
        sealed = build.approval_request(request, decision=ApprovalDecision.APPROVED, sealed_decision="Approved")
        await scene.put(sealed, request)

    blocked = (await scene.step()).status
    assert (blocked.overall_phase, blocked.block_reason) == (Phase.BLOCKED, BlockReason.UNMANAGED_RESOURCE)
    assert blocked.blocked_from is phase
    assert blocked.blocked_until is not None
    assert 4 <= (blocked.blocked_until - scene.now).total_seconds() <= 6
    listed = await kube.list(resources.WORKFLOW_EXECUTION, namespace)
    assert listed.items == ()

    await scene.label("true")
    assert (
        await scene.step()
    ).status.overall_phase is Phase.BLOCKED  # Not before its time: no event shortens the pause.
    scene.now = blocked.blocked_until
    assert (await scene.step()).status.overall_phase is phase
    after = (await scene.step()).status.overall_phase
    assert after is (Phase.PROCESSING if phase is Phase.PENDING else Phase.EXECUTING)
