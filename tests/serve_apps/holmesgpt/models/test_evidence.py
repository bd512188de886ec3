"""The built-in investigator on broken clusters, with the real catalog: what it finds, what it proposes, when it holds back."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray.contracts.investigation import EarlierRemediation
from kubernaut_ray.crds.enums import HumanReviewReason
from kubernaut_ray.crds.shared import DetectedLabels, KubernetesContext, RelatedObject, TargetResource
from serve_apps.holmesgpt.models.evidence import WHO
from tests.build import NOW
from tests.serve_apps.holmesgpt.world import (
    HEALTHY,
    NAMESPACE,
    World,
    ago,
    crashed,
    failed_before,
    incident,
    oom_killed,
    waiting,
)

LATER = {"image": "registry.local/web:2.0"}


def out_of_memory(w: World) -> None:
    w.deployment(oom_killed(), HEALTHY)


def bad_image(w: World) -> None:
    w.deployment(waiting("ImagePullBackOff", "not found"), revisions=({}, LATER))


def bad_release(w: World) -> None:
    w.deployment(crashed(), revisions=({}, LATER))
    w.kube.log_texts["web-2-0"] = "starting\nfatal: cannot parse config\n"


def bad_config(w: World) -> None:
    missing = {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "a"}}}]}
    w.deployment(waiting("CreateContainerConfigError", 'configmap "gone" not found'), revisions=({}, missing))


def stuck_rollout(w: World) -> None:
    stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    w.deployment(HEALTHY, replicas=2, available=1, revisions=({}, LATER), conditions=(stuck,))


def blocked_drain(w: World) -> None:
    w.deployment(HEALTHY, HEALTHY)
    w.budget()


def scaled_to_zero(w: World) -> None:
    w.deployment(replicas=0)


def throttled(w: World) -> None:
    w.deployment(HEALTHY, HEALTHY)


def hanging(w: World) -> None:
    w.deployment({**HEALTHY, "ready": False}, HEALTHY)
    w.event("Unhealthy", "Liveness probe failed: timeout")


def cordoned(w: World) -> None:
    unplaced = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 node(s) were unschedulable.",
    }
    w.deployment({"ready": False}, pod={"phase": "Pending", "node": "", "conditions": (unplaced,)})
    w.node("node-7", unschedulable=True)


CASES: list[tuple[str, Any, dict[str, Any], str, str, dict[str, str]]] = [
    ("memory limit too small", out_of_memory, {}, "OOMKilled", "increase-memory-limits", {"MEMORY_LIMIT": "256Mi", "CONTAINER_NAME": "app"}),
    ("an image that does not exist", bad_image, {}, "ImagePullBackOff", "rollback-deployment", {"TARGET_REVISION": "1"}),
    ("a release that crashes", bad_release, {}, "CrashLoopBackOff", "rollback-deployment", {"TARGET_REVISION": "1"}),
    ("a release that needs a missing ConfigMap", bad_config, {}, "CreateContainerConfigError", "rollback-deployment", {"TARGET_REVISION": "1"}),
    ("a rollout that does not progress", stuck_rollout, {"signal_name": "KubeDeploymentRolloutStuck"}, "ProgressDeadlineExceeded", "rollback-deployment", {"TARGET_REVISION": "1"}),
    ("a drain blocked by a budget", blocked_drain, {"signal_name": "PodDisruptionBudgetAtLimit"}, "PodDisruptionBudgetAtLimit", "relax-pdb", {"MAX_UNAVAILABLE": "1"}),
    ("scaled to zero", scaled_to_zero, {"signal_name": "KubeDeploymentReplicasMismatch"}, "KubeDeploymentReplicasMismatch", "scale-replicas", {"REPLICAS": "1"}),
    ("CPU throttling", throttled, {"signal_name": "CPUThrottlingHigh"}, "CPUThrottling", "scale-replicas", {"REPLICAS": "3"}),
    ("pods that hang", hanging, {"signal_name": "KubePodNotReady"}, "Unhealthy", "restart-rollout", {}),
    ("an errors spike after a release", lambda w: w.deployment(HEALTHY, revisions=({}, LATER)), {"signal_name": "HighErrorRate"}, "HighErrorRate", "rollback-deployment", {"TARGET_REVISION": "1"}),
    ("a healthy node left cordoned", cordoned, {"signal_name": "KubePodNotScheduled"}, "NodeUnschedulable", "uncordon-node", {"TARGET_RESOURCE_KIND": "Node", "TARGET_RESOURCE_NAME": "node-7"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cluster", "fields", "signal", "workflow", "parameters"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
async def test_finds_the_cause_and_the_workflow(
    investigator, world, facts, cluster, fields, signal, workflow, parameters
):
    """Each fault has its cause named, its workflow chosen from the real catalog, and its parameters from the evidence."""
    cluster(world)

    response = await investigator().investigate(incident(**fields))

    assert response.selected_workflow is not None, (response.warnings, response.analysis)
    assert response.selected_workflow.workflow_name == workflow
    assert response.root_cause_analysis.signal_type == signal
    chosen = response.selected_workflow.parameters
    expected = {
        "TARGET_RESOURCE_KIND": "Deployment",
        "TARGET_RESOURCE_NAME": "web",
        "TARGET_RESOURCE_NAMESPACE": NAMESPACE,
    }
    if parameters.get("TARGET_RESOURCE_KIND") == "Node":
        expected = {}
    assert {**expected, **parameters}.items() <= chosen.items()
    assert 0.7 <= response.confidence <= 0.97
    assert response.selected_workflow.container_digest.startswith("sha256:")
    assert response.model == "evidence"
    assert WHO in response.analysis
    assert response.evidence
    assert "aiagent.llm.tool_call" in facts.types()
    assert "aiagent.llm.request" not in facts.types()


async def test_memory_with_certainty_needs_no_approval(investigator, world):
    """The clearest case is confident enough to run by itself where policy allows."""
    out_of_memory(world)

    response = await investigator().investigate(incident())

    assert response.confidence >= 0.9
    assert not response.warnings


async def test_a_stuck_pod_is_named_by_the_cluster(investigator, world):
    """A workflow made for pods acts on the pod that the evidence shows, since it belongs to the target."""
    world.deployment(HEALTHY, HEALTHY)
    world.pod(
        "web-1-9",
        HEALTHY,
        labels={"app": "web"},
        metadata={"deletionTimestamp": ago(minutes=30), "finalizers": ["x/y"]},
    )

    response = await investigator().investigate(incident(signal_name="PodStuckTerminating"))

    assert response.selected_workflow is not None, (response.warnings, response.analysis)
    assert response.selected_workflow.workflow_name == "delete-stuck-pod"
    assert response.selected_workflow.parameters["TARGET_RESOURCE_KIND"] == "Pod"
    assert response.selected_workflow.parameters["TARGET_RESOURCE_NAME"] == "web-1-9"
    assert response.target_in_owner_chain


async def test_a_misleading_alert_is_not_believed(investigator, world):
    """The alert says memory, the cluster says a bad release: the cluster decides."""
    bad_release(world)

    response = await investigator().investigate(incident(signal_name="KubePodOOMKilled", description="OOMKilled!"))

    assert response.root_cause_analysis.signal_type == "CrashLoopBackOff"
    assert response.selected_workflow is not None
    assert response.selected_workflow.workflow_name == "rollback-deployment"
    assert any("cannot parse config" in e for e in response.evidence)


@pytest.mark.parametrize("signal", ["KubePodOOMKilled", "KubePodCrashLooping", "KubeDeploymentReplicasMismatch"])
async def test_a_healthy_target_is_resolved(investigator, world, signal):
    """What is over needs no workflow and no person."""
    world.deployment(HEALTHY, HEALTHY)

    response = await investigator().investigate(incident(signal_name=signal))

    assert response.resolved
    assert response.selected_workflow is None
    assert not response.needs_human_review
    assert response.confidence >= 0.7


@pytest.mark.parametrize("signal", ["HighErrorRate", "SomethingOdd"])
async def test_what_the_cluster_cannot_show_is_inconclusive(investigator, world, signal):
    """Healthy pods do not disprove a signal that they cannot show; nothing is executed."""
    world.deployment(HEALTHY)

    response = await investigator().investigate(incident(signal_name=signal))

    assert response.needs_human_review
    assert response.human_review_reason is HumanReviewReason.INVESTIGATION_INCONCLUSIVE
    assert response.selected_workflow is None


async def test_a_crash_without_a_cause_goes_to_a_person(investigator, world):
    """A crash loop that no change explains is not worth a guess: the guess is told, not executed."""
    world.deployment(crashed())

    response = await investigator().investigate(incident())

    assert response.needs_human_review
    assert response.selected_workflow is None
    assert response.confidence < 0.7


async def test_a_target_that_is_gone_is_inconclusive(investigator):
    """Nothing is known of a Deployment that does not exist."""
    response = await investigator().investigate(incident())

    assert response.human_review_reason is HumanReviewReason.INVESTIGATION_INCONCLUSIVE


async def test_enrichment_stands_in_for_pods_that_are_gone(investigator, world):
    """The pod died since; what signal processing saw of it still counts."""
    seen = RelatedObject(
        kind="Pod", name="web-1-0", namespace=NAMESPACE,
        facts={"lastTermination": "OOMKilled", "lastExitCode": "137", "restarts": "4", "memoryLimit": "64Mi", "ready": "false"},
    )  # fmt: skip
    world.deployment(replicas=1, available=0)

    response = await investigator().investigate(incident(enrichment=KubernetesContext(pod=seen)))

    assert response.selected_workflow is not None
    assert response.selected_workflow.parameters["MEMORY_LIMIT"] == "128Mi"


async def test_gitops_lowers_confidence(investigator, world):
    """A direct change would be undone: it takes a person's leave."""
    out_of_memory(world)
    context = KubernetesContext(detected_labels=DetectedLabels(git_ops_managed=True, git_ops_tool="argocd"))

    response = await investigator().investigate(incident(enrichment=context))

    assert response.confidence < 0.8


async def test_recovery_goes_further(investigator, world, workflows):
    """The same workflow comes again only with other parameters, and with less confidence."""
    out_of_memory(world)
    first = await investigator().investigate(incident())
    assert first.selected_workflow is not None
    before = failed_before(workflows["increase-memory-limits"], first.selected_workflow.parameters)

    second = await investigator().investigate(incident(previous_executions=(before,)))

    assert second.selected_workflow is not None
    assert second.selected_workflow.parameters["MEMORY_LIMIT"] == "384Mi"
    assert second.confidence < first.confidence
    assert second.recovery_analysis is not None
    assert not second.recovery_analysis.state_changed
    assert second.recovery_analysis.current_signal_type == "OOMKilled"


async def test_recovery_does_not_retry_the_hopeless(investigator, world, workflows):
    """A workflow that lacks rights is not tried again."""
    out_of_memory(world)
    before = failed_before(workflows["increase-memory-limits"], {}, reason="Forbidden")

    response = await investigator().investigate(incident(previous_executions=(before,)))

    assert response.human_review_reason is HumanReviewReason.NO_MATCHING_WORKFLOWS
    assert any("Forbidden" in w for w in response.warnings)


async def test_what_did_not_help_this_target_before_is_proposed_with_less_confidence(investigator, world, workflows):
    """Once may be chance; twice brings it below what runs without a person. What helped is only mentioned."""
    out_of_memory(world)
    before = EarlierRemediation(
        workflow_id=workflows["increase-memory-limits"].workflow_id, ended_at=NOW, succeeded=True, effective=False
    )
    helped = before.model_copy(update={"effective": True})

    fresh, again, vain = [
        await investigator().investigate(incident(remediation_history=history))
        for history in ((), (helped,), (before, before))
    ]

    assert fresh.confidence == again.confidence > vain.confidence
    assert again.selected_workflow is not None
    assert "it helped this target 1 times before" in again.selected_workflow.rationale
    assert "2 of 2 times before" in str([vain.selected_workflow, vain.alternative_workflows])


async def test_answers_are_deterministic(investigator, world):
    """The same cluster gives the same answer."""
    out_of_memory(world)

    first, second = [await investigator().investigate(incident()) for _ in range(2)]

    assert first.model_copy(update={"duration_seconds": 0.0}) == second.model_copy(update={"duration_seconds": 0.0})


async def test_a_bare_node_is_investigated(investigator, world):
    """A node that is not ready has no workflow in the shipped catalog: a person is told."""
    world.node("node-3", ready=False)
    target = TargetResource(api_version="v1", kind="Node", name="node-3")

    response = await investigator().investigate(incident(target, signal_name="KubeNodeNotReady"))

    assert response.root_cause_analysis.signal_type == "NodeNotReady"
    assert response.human_review_reason is HumanReviewReason.NO_MATCHING_WORKFLOWS
