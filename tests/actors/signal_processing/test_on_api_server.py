"""The walk of one SignalProcessing on a real API server: what is written is accepted, and it is quick."""

from __future__ import annotations

import time

import pytest

from actors.signal_processing.controller import build as build_controller
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.enums import Priority
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from tests import build
from tests.actors.signal_processing.cluster import event, populate
from tests.trail import fits

pytestmark = pytest.mark.integration


class Facts:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def record(self, event: AuditEvent) -> None:
        self.told.append(fits(event).event_type)


async def test_a_signal_about_a_pod_is_enriched_and_classified_at_once(kube: KubeClient, namespace: str) -> None:
    """Five steps, each one write that the API server accepts, and no waiting between: 0.3 s at rest, bounded here for busy machines."""
    node = f"node-{namespace}"
    await populate(kube, namespace, node)
    target = TargetResource(api_version="apps/v1", kind="Deployment", name="web", namespace=namespace)
    pod = TargetResource(api_version="v1", kind="Pod", name="web-2-a", namespace=namespace)
    await event(kube, "e1", "Pod", pod.name, minute=1, message="Back-off restarting", count=5, home=namespace)
    made = build.signal_processing(build.remediation_request(spec={"target_resource": target}), phase=None)
    signal = made.spec.signal.replace(severity="critical", signal_resource=pod)
    body = made.replace(spec=made.spec.replace(signal=signal)).to_object()
    body["metadata"] = {"name": made.name, "namespace": namespace}
    await kube.create(resources.SIGNAL_PROCESSING, body)

    facts = Facts()
    deps = Deps(kube, Settings(), Endpoints(), token=lambda: "t", wake=lambda _ns, _name: None)
    controller = build_controller(deps)
    await controller.start()
    reconcile = Reconciler(controller, kube, facts, clock=utcnow)
    key = Key(namespace, made.name)
    began = time.monotonic()
    phases = [(await reconcile(key)).new_phase for _ in range(5)]
    took = time.monotonic() - began
    await controller.stop()
    await kube.delete(resources.NODE, node)

    assert phases == [Phase.PENDING, Phase.ENRICHING, Phase.CLASSIFYING, Phase.CATEGORIZING, Phase.COMPLETED]
    assert took < 5.0
    status = SignalProcessing.from_object(await kube.get(resources.SIGNAL_PROCESSING, made.name, namespace)).status
    assert status.priority_assignment is not None
    assert status.priority_assignment.priority is Priority.P1
    context = status.kubernetes_context
    assert context is not None
    assert context.pod is not None
    assert context.pod.facts["lastTermination"] == "OOMKilled"
    assert context.deployment is not None
    assert (context.deployment.facts["memoryLimit"], context.deployment.facts["previousImage"]) == ("128Mi", "web:1")
    assert context.node is not None
    assert context.recent_events == ("2026-03-01T12:01:00Z Warning BackOff Pod/web-2-a ×5: Back-off restarting",)
    assert context.detected_labels is not None
    assert context.detected_labels.failed_detections == ()
    assert "signalprocessing.signal.processed" in facts.told
