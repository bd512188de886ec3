"""The question for the HolmesGPT-API holds everything that signal processing found out, and nothing that it must not."""

from __future__ import annotations

from typing import Any

import pytest

from actors.ai_analysis.request import build_request, risk_tolerance, session_id
from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.crds.affected import Affected, AffectedWorkload
from kubernaut_ray.crds.ai_analysis import AIAnalysis, SignalContext
from kubernaut_ray.crds.enums import Criticality, Environment, Priority, RcaSeverity, Severity, SlaTier, StormType
from kubernaut_ray.crds.remediation_request import Storm
from kubernaut_ray.crds.shared import (
    DetectedLabels,
    FailureDetails,
    KubernetesContext,
    OwnerEntry,
    PastRemediation,
    PreviousExecution,
    RelatedObject,
    RootCauseAnalysis,
    TargetResource,
)
from kubernaut_ray.crds.signal_processing import BusinessClassification
from tests import build

LEFT_BEHIND = {"fingerprint"}
"""Identity, and no observation."""


def full_signal() -> SignalContext:
    """Every field away from its default, each with a value of its own."""
    return SignalContext(
        fingerprint="cd" * 32,
        signal_name="the-name",
        signal_type="the-type",
        signal_source="the-source",
        severity=Severity.WARNING,
        environment=Environment.STAGING,
        business_priority=Priority.P3,
        business=BusinessClassification(
            business_unit="the-unit",
            service_owner="the-owner",
            criticality=Criticality.LOW,
            sla_requirement=SlaTier.GOLD,
        ),
        target_resource=TargetResource(
            api_version="apps/v1", kind="StatefulSet", name="the-target", namespace="the-ns"
        ),
        signal_resource=TargetResource(kind="Pod", name="the-pod", namespace="the-ns"),
        description="the-description",
        labels={"label-key": "the-label"},
        annotations={"summary": "the-annotation"},
        firing_time=build.later(1),
        received_time=build.later(2),
        first_seen_at=build.later(3),
        last_seen_at=build.later(4),
        occurrence_count=7,
        storm=Storm(
            storm_type=StormType.PATTERN,
            window="2m",
            alert_count=12,
            affected_resources=("the-affected",),
            detected_at=build.later(5),
        ),
        affected=Affected(
            resources=31,
            workload_count=21,
            over=3,
            workloads=(AffectedWorkload(target="the-hit", resources=23, over=2, signals=("the-symptom",)),),
        ),
        kubernetes_context=KubernetesContext(
            pod=RelatedObject(kind="Pod", name="the-pod", facts={"restarts": "the-restarts"}),
            owner_chain=(OwnerEntry(kind="StatefulSet", name="the-chain"),),
            detected_labels=DetectedLabels(stateful=True),
            custom_labels={"team": ("the-team",)},
            recent_events=("the-event",),
            degraded_mode=True,
        ),
    )


def analysis(signal: SignalContext, **spec: Any) -> AIAnalysis:
    base = build.ai_analysis(build.remediation_request(), phase=None)
    request = base.spec.analysis_request.replace(signal_context=signal)
    return base.replace(spec=base.spec.replace(analysis_request=request, **spec))


def leaves(value: Any) -> list[str]:
    """Every scalar of a JSON value as text; enum words and timestamps included."""
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in leaves(v)]
    return [str(value)]


def test_nothing_is_dropped():
    """Every field of the signal's context is found in the request, but what stays behind on purpose."""
    signal = full_signal()
    sent = build_request(analysis(signal), cluster_name="the-cluster").model_dump_json()

    for name in SignalContext.model_fields.keys() - LEFT_BEHIND - {"storm"}:
        for leaf in leaves(signal.model_dump(mode="json")[name]):
            assert leaf in sent or leaf in {"False", "True", "None", ""}, f"{name}: {leaf} was dropped"
    for leaf in ("pattern", "2m", "12", "the-affected", "the-cluster"):
        assert leaf in sent
    assert "cdcdcd" not in sent


def test_every_field_of_the_request_is_filled():
    """A field added to the contract must be thought of here."""
    past = PastRemediation(remediation="rr-0", workflow_id="wf-0", ended_at=build.NOW, succeeded=True, effective=False)
    request = build_request(analysis(full_signal(), remediation_history=(past,)), cluster_name="the-cluster")
    defaults = {n: f.default for n, f in IncidentRequest.model_fields.items()}

    unfilled = {n for n in IncidentRequest.model_fields if getattr(request, n) == defaults[n]}

    assert unfilled == {"previous_executions", "risk_tolerance"}


def execution() -> PreviousExecution:
    return PreviousExecution(
        workflow_execution_ref="we-1",
        original_rca=RootCauseAnalysis(summary="s", severity=RcaSeverity.HIGH, signal_type="OOMKilled", contributing_factors=("f",)),
        selected_workflow=build.selected_workflow(),
        failure=FailureDetails(
            failed_task_index=2, failed_task_name="fix", failed_step_name="apply", reason="TaskFailed", message="m", exit_code=3,
            failed_at=build.NOW, execution_time_before_failure="9s", natural_language_summary="in words", was_execution_failure=True,
        ),
    )  # fmt: skip


def test_failed_attempts_are_told_in_full():
    """A recovery tells each failed attempt with its cause, workflow, parameters and failure."""
    request = build_request(
        analysis(
            full_signal(), is_recovery_attempt=True, recovery_attempt_number=1, previous_executions=(execution(),)
        ),
        cluster_name="",
    )

    (attempt,) = request.previous_executions
    assert request.is_recovery
    assert attempt.original_rca.model_dump() == {
        "summary": "s",
        "severity": RcaSeverity.HIGH,
        "signal_type": "OOMKilled",
        "contributing_factors": ("f",),
    }
    assert attempt.selected_workflow.parameters == {"MEMORY_LIMIT": "512Mi"}
    assert attempt.selected_workflow.workflow_id == "wf-memory"
    assert attempt.failure.model_dump() == {
        "failed_step_index": 2, "failed_step_name": "fix/apply", "reason": "TaskFailed", "message": "m", "exit_code": 3,
        "failed_at": build.NOW, "execution_time": "9s", "was_execution_failure": True,
    }  # fmt: skip
    assert attempt.natural_language_summary == "in words"


def test_a_first_analysis_tells_no_history():
    """Without a recovery there is nothing to tell."""
    assert not build_request(analysis(full_signal()), cluster_name="").is_recovery


def test_the_session_id_is_stable_and_new_after_a_failure():
    """Deriving it twice gives one id; a failure gives another; another object of the same name another."""
    first = analysis(full_signal())
    failed = build.with_status(first, consecutive_failures=1)
    reborn = first.replace(metadata=first.metadata.replace(uid="other-uid"))

    assert session_id(first) == session_id(first)
    assert len({session_id(first), session_id(failed), session_id(reborn)}) == 3
    assert len(session_id(first.replace(metadata=first.metadata.replace(name="n" * 253)))) <= 253


@pytest.mark.parametrize(
    ("changes", "risk"),
    [
        ({"environment": Environment.PRODUCTION}, "low"),
        ({"business": BusinessClassification(criticality=Criticality.CRITICAL)}, "low"),
        ({"business_priority": Priority.P0}, "low"),
        ({"environment": Environment.DEVELOPMENT}, "high"),
        ({"environment": Environment.STAGING}, "medium"),
        ({"environment": Environment.PRODUCTION, "kubernetes_context": KubernetesContext(custom_labels={"risk_tolerance": ("high",)})}, "high"),
        ({"environment": Environment.STAGING, "kubernetes_context": KubernetesContext(custom_labels={"risk_tolerance": ("odd",)})}, "medium"),
    ],
)  # fmt: skip
def test_risk_tolerance(changes, risk):
    """A label decides, else environment, priority and criticality."""
    assert risk_tolerance(full_signal().replace(**changes)) == risk
