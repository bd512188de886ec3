"""An execution that was created when its remediation was over: whoever made it had slept, and nothing may come of it."""

from __future__ import annotations

from typing import Any

import pytest

from actors.workflow_execution.decide import decide
from actors.workflow_execution.observe import Observed, Reader
from kubernaut_ray import names
from kubernaut_ray.control.decision import Create, Key
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.build import NOW
from tests.shelf import Shelf

pytestmark = pytest.mark.integration
SETTINGS = Settings()


async def observed(kube: KubeClient, namespace: str, phase: str, *, other_uid: str = "", stopped: str = "") -> Observed:
    """What is seen of a pending execution whose request is in this phase."""
    request = build.remediation_request()
    notes = {names.ANNOTATION_STOPPED_EXECUTION: stopped} if stopped else {}
    metadata = {"name": request.name, "annotations": notes}
    body: dict[str, Any] = {"metadata": metadata, "spec": request.spec.to_object()}
    made = await kube.create(REMEDIATION_REQUEST, body, namespace)
    told = {"status": {"overallPhase": phase}}
    await kube.patch(REMEDIATION_REQUEST, request.name, told, namespace, subresource="status")
    execution = build.workflow_execution(request, None)
    ref = execution.spec.remediation_request_ref.replace(namespace=namespace, uid=other_uid or made["metadata"]["uid"])
    spec = execution.spec.replace(remediation_request_ref=ref).to_object()
    await kube.create(WORKFLOW_EXECUTION, {"metadata": {"name": execution.name}, "spec": spec}, namespace)
    pending = {"status": {"phase": "Pending"}}
    await kube.patch(WORKFLOW_EXECUTION, execution.name, pending, namespace, subresource="status")
    seen = await Reader(kube, SETTINGS, Shelf()).observe(Key(namespace, execution.name))
    assert seen is not None
    return seen


@pytest.mark.parametrize("phase", ["Cancelled", "TimedOut", "Failed", "Completed"])
async def test_nothing_runs_for_a_remediation_that_has_ended(kube: KubeClient, namespace: str, phase: str) -> None:
    """The execution fails before anything was executed, and says why; no run is created."""
    decision = decide(await observed(kube, namespace, phase), NOW, SETTINGS)
    assert decision.status is not None
    assert Phase.FAILED is decision.status.phase
    assert decision.status.failure_details is not None
    assert not decision.status.failure_details.was_execution_failure
    assert f"its remediation had ended as {phase}" in decision.status.failure_details.message
    assert not [effect for effect in decision.effects if isinstance(effect, Create)]


async def test_one_that_goes_on_is_no_reason_to_wait(kube: KubeClient, namespace: str) -> None:
    """While its request executes, its other questions decide."""
    assert (await observed(kube, namespace, "Executing")).ended == ""


async def test_what_somebody_deleted_while_it_ran_does_not_run_again(kube: KubeClient, namespace: str) -> None:
    """Its namesake was made by an orchestrator that did not know: it had died before it noted the first one down."""
    decision = decide(await observed(kube, namespace, "Analyzing", stopped="we-rr-1"), NOW, SETTINGS)
    assert decision.status is not None
    assert decision.status.failure_details is not None
    assert "was deleted while it was under way" in decision.status.failure_details.message
    assert not [effect for effect in decision.effects if isinstance(effect, Create)]


async def test_the_next_attempt_is_another_execution(kube: KubeClient, namespace: str) -> None:
    """What is said of one is not said of the other."""
    assert (await observed(kube, namespace, "Executing", stopped="we-rr-1-recovery-1")).ended == ""


async def test_a_namesake_says_nothing(kube: KubeClient, namespace: str) -> None:
    """Another request under the name of one that is gone speaks for itself only."""
    assert (await observed(kube, namespace, "Cancelled", other_uid="of-another")).ended == ""
