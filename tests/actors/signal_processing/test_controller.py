"""The controller as the engine runs it: the whole walk, crashes at every point, and hand-made trouble."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from actors.signal_processing.controller import SignalProcessingController
from actors.signal_processing.controller import build as build_controller
from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import Environment, Priority
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.policy import engine
from kubernaut_ray.policy.rehearsal import rehearse
from kubernaut_ray.settings import Settings
from tests import build
from tests.actors.signal_processing.cluster import DEPLOYMENT, POD, RefusingKube, populate
from tests.crash import CrashReport, crash_everywhere
from tests.memory_kube import MemoryKube

REQUEST = build.remediation_request(
    spec={"target_resource": DEPLOYMENT, "signal_resource": POD, "severity": "critical"}
)
REHEARSE_ONCE = cache(rehearse)
KEY = Key(names.SYSTEM_NAMESPACE, names.signal_processing(REQUEST.name))


def controller(client: KubeClient, **settings: object) -> SignalProcessingController:
    deps = Deps(client, Settings(**settings), Endpoints(), token=lambda: "t", wake=lambda _ns, _name: None)
    return build_controller(deps)


@pytest.fixture(autouse=True)
def one_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policies never change here, so trying them out in a process of its own once is enough for all lives."""
    monkeypatch.setattr(engine, "rehearse", REHEARSE_ONCE)


async def world(kube: KubeClient) -> None:
    await populate(kube)
    await kube.create(resources.SIGNAL_PROCESSING, processing_object())


def processing_object(owner: bool = True) -> dict[str, object]:
    """The object as the orchestrator creates it; without ``owner`` where there is no RemediationRequest to own it."""
    made = build.signal_processing(REQUEST, phase=None)
    signal = made.spec.signal.replace(severity="critical", signal_resource=POD)
    body = made.replace(spec=made.spec.replace(signal=signal)).to_object()
    kept = ("name", "namespace", "ownerReferences") if owner else ("name", "namespace")
    return {**body, "metadata": {key: body["metadata"][key] for key in kept}, "status": {}}


def left(report: CrashReport) -> SignalProcessing:
    obj = report.world.objects[f"SignalProcessing {KEY}"]
    stamps = {"metadata": {**obj["metadata"], "creationTimestamp": "2026-03-01T12:00:00Z"}}
    return SignalProcessing.from_object({**obj, **stamps})


async def test_a_crash_at_any_point_ends_in_the_same_world() -> None:
    """Every write and every audit record is a point to die at; the result is always the same, told once."""
    report = await crash_everywhere(controller, world, KEY)
    status = left(report).status
    assert status.phase is Phase.COMPLETED
    assert status.environment_classification is not None
    assert status.environment_classification.environment is Environment.STAGING
    assert status.priority_assignment is not None
    assert status.priority_assignment.priority is Priority.P1
    assert status.kubernetes_context is not None
    assert status.kubernetes_context.pod is not None
    assert status.kubernetes_context.pod.facts["lastTermination"] == "OOMKilled"
    assert len(status.policy_hash) == 64


async def test_a_crash_while_the_api_is_failing_still_ends_in_failure_once() -> None:
    """Failures are counted in the status, so a crash neither forgets nor doubles them."""
    report = await crash_everywhere(lambda kube: controller(RefusingWrites(kube)), world, KEY)
    status = left(report).status
    assert status.phase is Phase.FAILED
    assert status.consecutive_failures == 5
    assert report.outcomes.count("K8sAPITimeout") == 4


async def test_missing_policies_still_end_in_a_classification(tmp_path: Path) -> None:
    """Unknown environment, severity fallback, and a condition that says so."""
    kube = MemoryKube(lambda: build.NOW)
    await world(kube)
    made = controller(kube, policies_directory=tmp_path / "none")
    status = SignalProcessing.from_object(await kube.get(resources.SIGNAL_PROCESSING, KEY.name, KEY.namespace)).status
    await made.start()
    for _ in range(5):
        observed = await made.observe(KEY)
        assert observed is not None
        decision = made.decide(observed, build.NOW)
        assert decision.status is not None
        status = decision.status
        body = {"status": status.to_object()}
        await kube.patch(resources.SIGNAL_PROCESSING, KEY.name, body, KEY.namespace, subresource="status")
    await made.stop()
    assert status.phase is Phase.COMPLETED
    assert status.environment_classification is not None
    assert status.environment_classification.environment is Environment.UNKNOWN
    assert next(c.reason for c in status.conditions if c.type == "ClassificationComplete") == "PolicyNotFound"


async def test_an_object_that_is_gone_is_nothing_to_decide() -> None:
    """Deleted between the event and the look."""
    made = controller(MemoryKube(lambda: build.NOW))
    assert await made.observe(KEY) is None


class RefusingWrites(RefusingKube):
    """Reads of Deployments fail; everything else, writes included, goes to the crashing world."""

    def __init__(self, inner: KubeClient) -> None:
        super().__init__(inner, unavailable=("deployments",))  # type: ignore[arg-type]
