"""Nothing is lost on the way from one child to the next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from actors.remediation import children, recovery
from kubernaut_ray import names
from kubernaut_ray.crds.ai_analysis import SignalContext
from kubernaut_ray.crds.base import Model
from kubernaut_ray.crds.enums import Detection, PolicyDecision, StormType
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.remediation_request import Deduplication, Member, Storm
from kubernaut_ray.crds.shared import (
    AlternativeWorkflow,
    ApprovalContext,
    ConsideredAlternative,
    DetectedLabels,
    KubernetesContext,
    OwnerEntry,
    PolicyEvaluation,
    RecommendedAction,
    RelatedObject,
    SelectedWorkflow,
    TargetResource,
    WorkflowRef,
)
from kubernaut_ray.crds.signal_processing import SignalData
from kubernaut_ray.settings import ApprovalSettings, Settings
from tests import build

SETTINGS = Settings()
CONTEXT = KubernetesContext(
    namespace=RelatedObject(kind="Namespace", name="shop", labels={"tier": "gold"}),
    pod=RelatedObject(kind="Pod", name="web-1-x", namespace="shop", facts={"restarts": "7", "memoryLimit": "64Mi"}),
    owner_chain=(
        OwnerEntry(kind="ReplicaSet", name="web-1", namespace="shop", api_version="apps/v1"),
        OwnerEntry(kind="Deployment", name="web", namespace="shop", api_version="apps/v1"),
    ),
    detected_labels=DetectedLabels(
        failed_detections=(Detection.HPA_ENABLED,), git_ops_managed=True, git_ops_tool="argocd", service_mesh="istio"
    ),
    custom_labels={"team": ("shop", "core"), "cost": ("42",)},
    recent_events=("Back-off restarting failed container",),
)
REQUEST = build.remediation_request(
    spec={
        "signal_resource": TargetResource(kind="Pod", name="web-1-x", namespace="shop"),
        "signal_labels": {"alertname": "KubePodOOMKilled", "pod": "web-1-x"},
        "signal_annotations": {"summary": "killed"},
        "description": "web is killed for want of memory",
        "provider_data": '{"generatorURL": "http://prometheus/graph"}',
        "severity": "page",
    },
    deduplication=Deduplication(first_seen_at=build.NOW, last_seen_at=build.later(60), occurrence_count=7),
    storm=Storm(
        storm_type=StormType.RATE,
        window="1m",
        alert_count=12,
        affected_resources=("shop/pod/a",),
        detected_at=build.NOW,
    ),
    members=(
        Member(target="shop/deployment/api", resource="shop/pod/api-1", signals=("NotReady",), first_seen_at=build.NOW),
        Member(target="shop/deployment/api", resource="shop/pod/api-2", over=("NotReady",), first_seen_at=build.NOW),
        Member(target="shop/deployment/db", resource="shop/pod/db-1", signals=("Down",), first_seen_at=build.NOW),
    ),
)
PROCESSED = build.signal_processing(REQUEST, kubernetes_context=CONTEXT)


def unset(model: Model) -> set[str]:
    """Fields that hold what they would hold if nobody had set them."""
    return {
        name
        for name, info in type(model).model_fields.items()
        if not info.is_required() and getattr(model, name) == info.get_default(call_default_factory=True)
    }


def test_the_signal_reaches_processing_whole() -> None:
    """Every field of the signal is filled from the request."""
    signal = children.signal_processing(REQUEST, build.NOW, SETTINGS).spec.signal
    assert unset(signal) <= {"target_type"}, "a field of SignalData is not mapped"
    for name in ("labels", "annotations"):
        assert getattr(signal, name) == getattr(REQUEST.spec, f"signal_{name}")
    for name in set(SignalData.model_fields) & set(type(REQUEST.spec).model_fields):
        assert getattr(signal, name) == getattr(REQUEST.spec, name), name


def test_everything_found_out_reaches_the_analysis() -> None:
    """Field by field: classification, counts, storm, and the enriched context as it is."""
    context = children.signal_context(REQUEST, PROCESSED.status)
    assert unset(context) == set(), "a field of SignalContext is not mapped"
    assert context.kubernetes_context == CONTEXT
    assert context.kubernetes_context.owner_chain[0].namespace == "shop"
    assert context.kubernetes_context.detected_labels == CONTEXT.detected_labels
    assert context.kubernetes_context.custom_labels == {"team": ("shop", "core"), "cost": ("42",)}
    assert context.storm == REQUEST.status.storm
    assert str(context.affected) == "3 resources of 2 workloads (1 over)"
    assert (context.first_seen_at, context.last_seen_at, context.occurrence_count) == (build.NOW, build.later(60), 7)
    assert context.business == PROCESSED.status.business_classification
    assert (context.severity, context.environment, context.business_priority) == ("critical", "production", "P0")
    for name in set(SignalContext.model_fields) & set(type(REQUEST.spec).model_fields) - {"severity"}:
        assert getattr(context, name) == getattr(REQUEST.spec, name), name


def test_a_request_that_was_barely_processed_still_makes_an_analysis() -> None:
    """Missing classification becomes unknown, and the missing context says that it is degraded."""
    context = children.signal_context(REQUEST, type(PROCESSED.status)())
    assert (context.severity, context.environment, context.business_priority) == ("unknown", "unknown", "P2")
    assert context.kubernetes_context.degraded_mode


APPROVAL = ApprovalContext(
    reason="production",
    confidence_score=0.9,
    confidence_level="high",
    investigation_summary="the limit is too low",
    evidence_collected=("restarts: 7",),
    recommended_actions=(RecommendedAction(action="raise the limit", rationale="it is too low"),),
    alternatives_considered=(ConsideredAlternative(approach="restart", pros_cons="does not last"),),
    why_approval_required="production changes need leave",
    policy_evaluation=PolicyEvaluation(
        policy_name="approval",
        policy_hash="abc",
        matched_rules=("production",),
        decision=PolicyDecision.MANUAL_REVIEW_REQUIRED,
    ),
)


def test_the_person_who_decides_sees_all_of_it() -> None:
    """The approval context, and the workflow pinned as it will run."""
    analysis = build.ai_analysis(REQUEST, approval_context=APPROVAL)
    workflow = build.selected_workflow(engine="job")
    asked_by = REQUEST.replace(
        metadata=REQUEST.metadata.replace(annotations={names.ANNOTATION_REQUESTED_BY: "ann@example.com"})
    )
    spec = children.approval_request(
        asked_by,
        analysis,
        workflow,
        attempt=0,
        required_by=build.later(900),
        rules=ApprovalSettings(required_approvals=2, four_eyes=True),
    ).spec
    assert (spec.requested_by, spec.required_approvals, spec.four_eyes) == ("ann@example.com", 2, True)
    assert unset(spec) == set(), "a field of the approval request is not mapped"
    assert unset(spec.recommended_workflow) == set()
    for name in set(type(spec).model_fields) & set(ApprovalContext.model_fields):
        assert getattr(spec, name) == getattr(APPROVAL, name), name
    assert spec.recommended_workflow.container_digest == workflow.container_digest
    assert spec.recommended_workflow.parameters == workflow.parameters


def test_without_an_approval_context_what_was_found_stands_in() -> None:
    """A request for leave is never empty."""
    analysis = build.ai_analysis(
        REQUEST,
        approval_reason="the policy did not answer",
        evidence=("restarts: 7",),
        alternative_workflows=(AlternativeWorkflow(workflow_id="wf-2", workflow_name="restart", rationale="quick"),),
    )
    workflow = build.selected_workflow()
    spec = children.approval_request(REQUEST, analysis, workflow, attempt=1, required_by=build.later(900)).spec
    assert spec.reason == spec.why_approval_required == "the policy did not answer"
    assert spec.investigation_summary == "The memory limit is too low for the load"
    assert spec.recommended_actions[0].action == "run workflow increase-memory 1.0.0"
    assert spec.alternatives_considered[0].approach == "restart"


def test_the_workflow_runs_as_it_was_selected() -> None:
    """Image, digest, version, engine and parameters are passed through, never looked up again."""
    workflow = build.selected_workflow(engine="job")
    spec = children.workflow_execution(REQUEST, workflow, attempt=2, now=build.NOW, settings=SETTINGS).spec
    assert spec.workflow_ref == WorkflowRef(**{name: getattr(workflow, name) for name in WorkflowRef.model_fields})
    assert unset(spec.workflow_ref) == set()
    assert (spec.parameters, spec.confidence, spec.rationale) == (
        workflow.parameters,
        workflow.confidence,
        workflow.rationale,
    )
    assert spec.deadline == build.later(1800)
    assert spec.execution_config.timeout == "30m0s"


def test_a_failed_attempt_is_told_whole() -> None:
    """Where and how it failed, and what had been selected."""
    failed = build.workflow_execution(REQUEST, Run.FAILED)
    told = recovery.record(failed, build.ai_analysis(REQUEST), build.NOW)
    assert told.failure.model_dump() == {**failed.status.failure_details.model_dump()}  # type: ignore[union-attr]
    assert told.selected_workflow.parameters == failed.spec.parameters
    assert told.original_rca.contributing_factors == ("limit 64Mi",)


@pytest.mark.parametrize(
    ("child", "name"),
    [
        (children.signal_processing(REQUEST, build.NOW, SETTINGS), "sp-rr-1"),
        (
            children.ai_analysis(
                REQUEST, children.signal_context(REQUEST, PROCESSED.status), attempt=2, now=build.NOW, settings=SETTINGS
            ),
            "ai-rr-1-recovery-2",
        ),
        (
            children.workflow_execution(
                REQUEST, build.selected_workflow(), attempt=0, now=build.NOW, settings=SETTINGS
            ),
            "we-rr-1",
        ),
    ],
)
def test_every_child_can_be_found_and_goes_with_its_request(child: Any, name: str) -> None:
    """Deterministic name, the request as controlling owner, and the labels by which shards and people find it."""
    body = children.create(REQUEST, child).obj
    assert body["metadata"]["name"] == name
    assert body["metadata"]["labels"] == {
        names.LABEL_REMEDIATION: "rr-1",
        names.LABEL_MANAGED_BY: "kubernaut-ray",
        names.LABEL_COMPONENT: "remediation",
        **names.shard_label("rr-1"),
    }
    assert body["metadata"]["ownerReferences"] == [REQUEST.owner_reference]
    assert type(child).from_object(body).spec == child.spec


def test_a_child_never_outlives_the_whole() -> None:
    """Late in the remediation, the overall deadline is the nearer one."""
    late = build.NOW + timedelta(minutes=59)
    execution = children.workflow_execution(REQUEST, build.selected_workflow(), attempt=0, now=late, settings=SETTINGS)
    assert execution.spec.deadline == build.later(minutes=60)
    assert execution.spec.execution_config.timeout == "1m0s"


def test_a_long_hand_made_name_makes_valid_labels() -> None:
    """Label values end at 63 characters."""
    request = build.remediation_request("r" * 200)
    labels = children.signal_processing(request, build.NOW, SETTINGS).metadata.labels
    assert all(len(value) <= 63 for value in labels.values())


def test_selected_workflow_has_no_field_that_execution_would_drop() -> None:
    """A new field of the selection must be mapped to the execution, or consciously not."""
    assert set(SelectedWorkflow.model_fields) - set(WorkflowRef.model_fields) == {
        "confidence",
        "parameters",
        "rationale",
    }
