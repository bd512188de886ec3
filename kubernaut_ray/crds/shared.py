"""Values that several kinds carry: the target, detected labels, the enriched context, workflow and RCA summaries."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kubernaut_ray import names
from kubernaut_ray.crds.base import Labels, Model, Name, Score, ShortText, Text, Timestamp
from kubernaut_ray.crds.enums import ConfidenceLevel, Detection, PolicyDecision, RcaSeverity


class TargetResource(Model):
    """The thing that is broken. ``namespace`` is empty for cluster-scoped kinds."""

    api_version: ShortText = ""
    kind: Name
    name: Name
    namespace: Name = ""

    def __str__(self) -> str:
        return names.target_resource(self.namespace or None, self.kind, self.name)


class OwnerEntry(Model):
    """One link of an owner chain, nearest owner first."""

    kind: Name
    name: Name
    namespace: Name = ""
    api_version: ShortText = ""


CustomLabels = Annotated[dict[str, Annotated[tuple[ShortText, ...], Field(max_length=5)]], Field(max_length=10)]
"""Subdomain → values, at most 10 keys of at most 5 values."""


class DetectedLabels(Model):
    """What the cluster says about the target. A field named in ``failed_detections`` is unknown; consumers must skip it."""

    failed_detections: Annotated[tuple[Detection, ...], Field(max_length=7)] = ()
    git_ops_managed: bool = False
    git_ops_tool: Annotated[str, Field(pattern="^(argocd|flux)?$", max_length=16)] = ""
    pdb_protected: bool = False
    hpa_enabled: bool = False
    stateful: bool = False
    helm_managed: bool = False
    network_isolated: bool = False
    service_mesh: Annotated[str, Field(pattern="^(istio|linkerd)?$", max_length=16)] = ""


class RelatedObject(Model):
    """A related cluster object in brief: identity, labels, and the facts an investigation needs, rendered as text."""

    kind: Name
    name: Name
    namespace: Name = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    facts: Labels = Field(default_factory=dict)
    """Named observations, for example ``restarts: "7"``, ``memoryLimit: 128Mi``, ``lastTermination: OOMKilled``."""


class KubernetesContext(Model):
    """The enriched context of a signal. ``degraded_mode`` says that the target itself could not be read."""

    namespace: RelatedObject | None = None
    pod: RelatedObject | None = None
    deployment: RelatedObject | None = None
    stateful_set: RelatedObject | None = None
    daemon_set: RelatedObject | None = None
    replica_set: RelatedObject | None = None
    service: RelatedObject | None = None
    node: RelatedObject | None = None
    other: RelatedObject | None = None
    owner_chain: Annotated[tuple[OwnerEntry, ...], Field(max_length=5)] = ()
    detected_labels: DetectedLabels | None = None
    custom_labels: CustomLabels = Field(default_factory=dict)
    recent_events: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()
    degraded_mode: bool = False


class RootCauseAnalysis(Model):
    summary: Text
    severity: RcaSeverity = RcaSeverity.UNKNOWN
    signal_type: ShortText = ""
    contributing_factors: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()


Parameters = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
"""UPPER_SNAKE_CASE name → value, always as text."""


class WorkflowRef(Model):
    """A catalog workflow, pinned: the digest makes it immutable."""

    workflow_id: Name
    workflow_name: Name = ""
    version: Name
    container_image: ShortText
    container_digest: ShortText = ""
    engine: ShortText = "tekton"


class SelectedWorkflow(WorkflowRef):
    confidence: Score
    parameters: Parameters = Field(default_factory=dict)
    rationale: Text = ""


class AlternativeWorkflow(Model):
    """Informational only; never executed."""

    workflow_id: Name
    workflow_name: Name = ""
    container_image: ShortText = ""
    confidence: Score = 0.0
    rationale: Text = ""


class RecommendedAction(Model):
    action: ShortText
    rationale: Text = ""


class ConsideredAlternative(Model):
    approach: ShortText
    pros_cons: Text = ""


class PolicyEvaluation(Model):
    policy_name: ShortText = ""
    policy_hash: ShortText = ""
    matched_rules: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()
    decision: PolicyDecision


class ApprovalContext(Model):
    """All that a person needs to decide."""

    reason: Text
    confidence_score: Score
    confidence_level: ConfidenceLevel
    investigation_summary: Text
    evidence_collected: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()
    recommended_actions: Annotated[tuple[RecommendedAction, ...], Field(max_length=20)] = ()
    alternatives_considered: Annotated[tuple[ConsideredAlternative, ...], Field(max_length=20)] = ()
    why_approval_required: Text
    policy_evaluation: PolicyEvaluation | None = None


class FailureDetails(Model):
    """How a workflow execution failed, in structured form."""

    failed_task_index: Annotated[int, Field(ge=0)] = 0
    failed_task_name: Name = ""
    failed_step_name: Name = ""
    reason: ShortText
    message: Text = ""
    exit_code: int | None = None
    failed_at: Timestamp
    execution_time_before_failure: ShortText = ""
    natural_language_summary: Text = ""
    was_execution_failure: bool = False


class PastRemediation(Model):
    """An earlier remediation of the same target, told to an analysis as fact: what ran, how that ended, whether it helped."""

    remediation: Name
    workflow_id: Name
    workflow_name: Name = ""
    version: Name = ""
    parameters: Parameters = Field(default_factory=dict)
    ended_at: Timestamp
    succeeded: bool
    """Whether the workflow itself did."""
    effective: bool | None = None
    """Whether it helped; unset where nobody could tell."""
    score: Score | None = None
    summary: Text = ""


class PreviousExecution(Model):
    """One failed attempt, told to the recovery analysis as fact."""

    workflow_execution_ref: Name
    original_rca: RootCauseAnalysis
    selected_workflow: SelectedWorkflow
    failure: FailureDetails
    natural_language_summary: Text = ""
