"""The approval policy: what it is asked, what its answer means, and what the person who decides is shown.

Fails to the safe side: without a policy, or without a plain true or false from it, approval is required and the analysis is
marked degraded. The policy decides; the confidence threshold is one of its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.ai_analysis.answer import LONG, SHORT, clip, lines
from kubernaut_ray.contracts.statistics import Trust
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisStatus
from kubernaut_ray.crds.enums import ConfidenceLevel, Detection, PolicyDecision
from kubernaut_ray.crds.shared import (
    ApprovalContext,
    ConsideredAlternative,
    PolicyEvaluation,
    RecommendedAction,
    SelectedWorkflow,
)
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict
from kubernaut_ray.settings import AnalysisSettings

POLICY = "aianalysis.approval"
TIMEOUT = 2.0
"""Seconds of computing for each of the two questions."""
_DEGRADED = "the approval policy gave no verdict"
_DETECTIONS = {
    "git_ops_managed": Detection.GITOPS_MANAGED,
    "git_ops_tool": Detection.GITOPS_MANAGED,
    "pdb_protected": Detection.PDB_PROTECTED,
    "hpa_enabled": Detection.HPA_ENABLED,
    "stateful": Detection.STATEFUL,
    "helm_managed": Detection.HELM_MANAGED,
    "network_isolated": Detection.NETWORK_ISOLATED,
    "service_mesh": Detection.SERVICE_MESH,
}


@dataclass(frozen=True, slots=True)
class ApprovalVerdict:
    """Whether a person must approve, and why. ``degraded``: nobody knows, so a person must."""

    required: bool
    reason: str
    policy_hash: str = ""
    degraded: bool = False

    @property
    def evaluation(self) -> PolicyEvaluation:
        decision = PolicyDecision.MANUAL_REVIEW_REQUIRED if self.required else PolicyDecision.APPROVED
        return PolicyEvaluation(
            policy_name=POLICY,
            policy_hash=self.policy_hash,
            matched_rules=lines(self.reason.split("; "), 20),
            decision=PolicyDecision.DEGRADED_MODE if self.degraded else decision,
        )


async def ask(
    engine: PolicyEngine, analysis: AIAnalysis, settings: AnalysisSettings, trust: Trust | None = None
) -> ApprovalVerdict:
    """Ask one version of the policy whether it requires approval, and why."""
    version = await engine.current()
    if version is None:
        return judge(engine.no_policy(APPROVAL[0]), Undefined())
    question = approval_input(analysis, settings, trust)
    required = await version.evaluate(APPROVAL[0], question, timeout=TIMEOUT)
    reason = await version.evaluate(APPROVAL[1], question, timeout=TIMEOUT)
    return judge(required, reason, policy_hash=version.hash)


def judge(required: Evaluation, reason: Evaluation, *, policy_hash: str = "") -> ApprovalVerdict:
    """Make one verdict of the two answers."""
    said = reason.value.strip() if isinstance(reason, Verdict) and isinstance(reason.value, str) else ""
    match required:
        case Verdict(value=bool(value)):
            return ApprovalVerdict(value, clip(said or "the policy gives no reason", LONG), policy_hash)
        case Verdict():
            why = "require_approval is neither true nor false"
        case Undefined():
            why = "require_approval is undefined"
        case PolicyError():
            why = str(required)
    return ApprovalVerdict(True, clip(f"{_DEGRADED} ({why})", LONG), policy_hash, degraded=True)


def approval_input(analysis: AIAnalysis, settings: AnalysisSettings, trust: Trust | None = None) -> dict[str, Any]:
    """Return what the approval policy sees. A detection that failed is not among the labels: unknown is not false.

    Without ``trust`` the policy is told nothing of how the workflow fared; where that could not be read, its level is unknown.
    """
    spec, status = analysis.spec, analysis.status
    signal = spec.analysis_request.signal_context
    detected = signal.kubernetes_context.detected_labels
    failed = detected.failed_detections if detected else ()
    chosen = status.selected_workflow
    last = spec.previous_executions[-1] if spec.previous_executions else None
    return {
        "signal_name": signal.signal_name,
        "signal_type": signal.signal_type,
        "severity": signal.severity.value,
        "environment": signal.environment.value,
        "business_priority": signal.business_priority.value,
        "target_resource": {
            "kind": signal.target_resource.kind,
            "name": signal.target_resource.name,
            "namespace": signal.target_resource.namespace,
        },
        "detected_labels": {}
        if detected is None
        else {name: getattr(detected, name) for name, word in _DETECTIONS.items() if word not in failed},
        "failed_detections": [f.value for f in failed],
        "custom_labels": {k: list(v) for k, v in signal.kubernetes_context.custom_labels.items()},
        "confidence": chosen.confidence if chosen else status.confidence,
        "approval_threshold": settings.approval_threshold,
        "target_in_owner_chain": status.target_in_owner_chain is not False,
        "warnings": list(status.warnings),
        "is_recovery_attempt": spec.is_recovery_attempt,
        "recovery_attempt_number": spec.recovery_attempt_number or 0,
        "was_execution_failure": last.failure.was_execution_failure if last else False,
        "workflow": {"name": chosen.workflow_name, "parameters": chosen.parameters} if chosen else {},
        **({"trust": trust.to_json()} if trust is not None else {}),
    }


def approval_context(status: AIAnalysisStatus, chosen: SelectedWorkflow, verdict: ApprovalVerdict) -> ApprovalContext:
    """Return all that a person needs to decide."""
    cause = status.root_cause_analysis
    parameters = ", ".join(f"{k}={v}" for k, v in sorted(chosen.parameters.items()))
    factors = f" Contributing: {'; '.join(cause.contributing_factors)}." if cause and cause.contributing_factors else ""
    why = verdict.reason[:1].upper() + verdict.reason[1:]
    return ApprovalContext(
        reason=verdict.reason,
        confidence_score=chosen.confidence,
        confidence_level=ConfidenceLevel.of(chosen.confidence),
        investigation_summary=clip(f"{status.root_cause or 'No root cause was recorded.'}{factors}", LONG),
        evidence_collected=status.evidence[:20],
        recommended_actions=(
            RecommendedAction(
                action=clip(
                    f"Run {chosen.workflow_name or chosen.workflow_id} {chosen.version} with {parameters or 'no parameters'}",
                    SHORT,
                ),
                rationale=chosen.rationale,
            ),
        ),
        alternatives_considered=tuple(
            ConsideredAlternative(
                approach=clip(f"{a.workflow_name or a.workflow_id} (confidence {a.confidence:.2f})", SHORT),
                pros_cons=a.rationale,
            )
            for a in status.alternative_workflows
        ),
        why_approval_required=clip(f"{why}.", LONG),
        policy_evaluation=verdict.evaluation,
    )
