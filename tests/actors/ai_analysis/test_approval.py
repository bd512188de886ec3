"""The approval policy's verdict: the shipped policy on real input, the safe side on every fault, and what a person is shown."""

from __future__ import annotations

import pytest

from actors.ai_analysis.approval import approval_context, approval_input, ask, judge
from kubernaut_ray import shipped
from kubernaut_ray.contracts.statistics import Trust
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    ConfidenceLevel,
    Detection,
    Environment,
    PolicyDecision,
    PolicyFault,
    TrustLevel,
)
from kubernaut_ray.crds.shared import AlternativeWorkflow, DetectedLabels, KubernetesContext
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.policy.verdict import PolicyError, Undefined, Verdict
from kubernaut_ray.settings import AnalysisSettings
from tests import build

SETTINGS = AnalysisSettings()


def analysis(*, environment=Environment.STAGING, confidence=0.9, context=None, **status):
    found = build.ai_analysis(
        build.remediation_request(), AIAnalysisPhase.ANALYZING,
        **{"selected_workflow": build.selected_workflow(confidence=confidence), "root_cause": "out of memory", **status},
    )  # fmt: skip
    signal = found.spec.analysis_request.signal_context.replace(
        environment=environment, business_priority="P2", kubernetes_context=context or KubernetesContext()
    )
    return found.replace(
        spec=found.spec.replace(analysis_request=found.spec.analysis_request.replace(signal_context=signal))
    )


@pytest.fixture
async def policies():
    engine = PolicyEngine(shipped.directory() / "policies", APPROVAL)
    yield engine
    await engine.close()


@pytest.mark.parametrize(
    ("case", "required", "word"),
    [
        ({}, False, "no rule asks"),
        ({"confidence": 0.79}, True, "0.79"),
        ({"environment": Environment.PRODUCTION}, True, "production"),
        ({"environment": Environment.UNKNOWN}, True, "not known"),
    ],
    ids=["confident in staging", "below the threshold", "production", "unknown environment"],
)
async def test_the_shipped_policy(policies, case, required, word):
    """Confidence and environment decide, and the reason says which."""
    verdict = await ask(policies, analysis(**case), SETTINGS)

    assert (verdict.required, verdict.degraded) == (required, False)
    assert word in verdict.reason
    assert verdict.policy_hash


async def test_the_threshold_is_a_setting(policies):
    """The policy judges by the threshold that it is given."""
    assert (await ask(policies, analysis(confidence=0.85), AnalysisSettings(approval_threshold=0.9))).required


async def test_without_policies_a_person_is_asked(tmp_path):
    """No policy at all is no leave."""
    engine = PolicyEngine(tmp_path, APPROVAL)
    try:
        verdict = await ask(engine, analysis(), SETTINGS)
    finally:
        await engine.close()

    assert verdict.required
    assert verdict.degraded
    assert verdict.evaluation.decision is PolicyDecision.DEGRADED_MODE


@pytest.mark.parametrize(
    "answer",
    [Undefined(), PolicyError(PolicyFault.TIMEOUT, "too slow"), Verdict("no"), Verdict(None), Verdict(0), Verdict({})],
    ids=["undefined", "fault", "text", "null", "number", "object"],
)
def test_anything_but_true_or_false_is_degraded(answer):
    """Only a plain false lets a workflow run by itself."""
    verdict = judge(answer, Verdict("because"))

    assert verdict.required
    assert verdict.degraded


def test_failed_detections_are_not_told_as_false():
    """A label whose detection failed is left out of the labels and named as failed."""
    detected = DetectedLabels(failed_detections=(Detection.PDB_PROTECTED,), stateful=True)

    asked = approval_input(analysis(context=KubernetesContext(detected_labels=detected)), SETTINGS)

    assert "pdb_protected" not in asked["detected_labels"]
    assert asked["detected_labels"]["stateful"] is True
    assert asked["failed_detections"] == ["pdbProtected"]


def test_a_person_is_shown_everything():
    """Reason, confidence, cause, evidence, the action with its parameters, alternatives and the policy's evaluation."""
    found = analysis(
        confidence=0.75,
        evidence=("Pod web-1: OOMKilled",),
        alternative_workflows=(
            AlternativeWorkflow(workflow_id="w2", workflow_name="restart", confidence=0.4, rationale="slower"),
        ),
    )
    verdict = judge(Verdict(True), Verdict("confidence is low; production"), policy_hash="abc")

    context = approval_context(found.status, found.status.selected_workflow, verdict)

    assert context.confidence_level is ConfidenceLevel.MEDIUM
    assert context.investigation_summary.startswith("out of memory")
    assert context.evidence_collected == ("Pod web-1: OOMKilled",)
    assert context.recommended_actions[0].action == "Run increase-memory 1.0.0 with MEMORY_LIMIT=512Mi"
    assert context.alternatives_considered[0].approach == "restart (confidence 0.40)"
    assert context.why_approval_required == "Confidence is low; production."
    assert context.policy_evaluation is not None
    assert context.policy_evaluation.matched_rules == ("confidence is low", "production")
    assert context.policy_evaluation.policy_hash == "abc"


@pytest.mark.parametrize(
    ("level", "environment", "required"),
    [
        (TrustLevel.APPROVE, Environment.STAGING, False),
        (TrustLevel.AUTO, Environment.STAGING, False),
        (TrustLevel.AUTO, Environment.PRODUCTION, True),
        (TrustLevel.SUGGEST, Environment.STAGING, True),
        (TrustLevel.UNKNOWN, Environment.STAGING, True),
    ],
)
async def test_a_record_can_ask_for_a_person_and_never_do_without_one(policies, level, environment, required):
    """The ladder only adds to what the other rules ask for."""
    trust = Trust(environment=environment.value, level=level, assessed=9, effective=3, failures_in_a_row=2)

    verdict = await ask(policies, analysis(environment=environment), SETTINGS, trust)

    assert (verdict.required, verdict.degraded) == (required, False)
    if level is TrustLevel.SUGGEST:
        assert "helped in 3 of 9 executions here, and in none of the last 2" in verdict.reason
