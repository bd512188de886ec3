"""EffectivenessAssessment: did a workflow that succeeded also help? One a RemediationRequest, made when it enters Verifying.

The spec is fixed: whose effect is judged, on what, under which windows. The status holds what each component came to (health
of the target, the signal, metrics), each a score or nothing with the reason why, and the sum of what was scored.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    DurationText,
    Meta,
    Model,
    Name,
    ObjectReference,
    PrinterColumn,
    Score,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import AssessmentPhase, AssessmentReason, Environment, RemediationPhase
from kubernaut_ray.crds.remediation_request import Fingerprint
from kubernaut_ray.crds.shared import TargetResource, WorkflowRef


class AssessmentConfig(Model):
    """Windows, all from the beginning of the assessment but for what GitOps needs first."""

    stabilization_window: DurationText = "300s"
    """Nothing is judged before: what was repaired needs time to come up."""
    hash_compute_delay: DurationText = "60s"
    """After this the target's spec counts as what the workflow left; a later change is somebody else's."""
    alert_check_delay: DurationText = "300s"
    """Until then a signal that says nothing may yet be resolved at its source."""
    git_ops_sync_delay: DurationText = "0s"
    """Where GitOps manages the target: how long its tool may take to carry a change there."""
    validity: DurationText = "1800s"
    """When this is over, what is known by then must do."""


class EffectivenessAssessmentSpec(Model):
    correlation_id: Name
    """The RemediationRequest's name, as in the audit trail."""
    remediation_request_ref: ObjectReference
    remediation_request_phase: RemediationPhase = RemediationPhase.VERIFYING
    workflow_execution_ref: ObjectReference
    workflow: WorkflowRef
    signal_name: Name
    fingerprint: Fingerprint
    signal_target: TargetResource
    """What the signal named."""
    remediation_target: TargetResource
    """What was repaired."""
    target: ShortText
    """``remediationTarget`` as ``namespace/kind/name`` or ``kind/name``, the kind in lower case, to be selected by."""
    environment: Environment = Environment.UNKNOWN
    config: AssessmentConfig = AssessmentConfig()
    remediation_created_at: Timestamp
    execution_started_at: Timestamp | None = None
    execution_ended_at: Timestamp
    pre_remediation_spec_hash: ShortText = ""
    """Empty where the target could not be read before."""
    deadline: Timestamp | None = None


class Component(Model):
    """One thing that was looked at: its score, or ``None``, and why."""

    score: Score | None = None
    details: Text = ""


class Components(Model):
    health: Component = Component()
    alert: Component = Component()
    metrics: Component = Component()


class EffectivenessAssessmentStatus(Model):
    phase: AssessmentPhase | None = None
    reason: AssessmentReason | None = None
    observed_generation: int | None = None
    message: Text = ""
    started_at: Timestamp | None = None
    valid_until: Timestamp | None = None
    completed_at: Timestamp | None = None
    post_remediation_spec_hash: ShortText = ""
    spec_changed: bool | None = None
    """Whether the workflow left another spec than it found; unset where that is not known."""
    components: Components = Components()
    score: Score | None = None
    """Unset where nothing was scored."""
    effective: bool | None = None
    """The verdict; unset where nothing was scored."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class EffectivenessAssessment(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="effectivenessassessments",
        singular="effectivenessassessment",
        short_names=("ea",),
        columns=(
            PrinterColumn("Phase", ".status.phase"),
            PrinterColumn("Reason", ".status.reason"),
            PrinterColumn("Effective", ".status.effective", "boolean"),
            PrinterColumn("Score", ".status.score", "number"),
            PrinterColumn("Workflow", ".spec.workflow.workflowName"),
            PrinterColumn("Target", ".spec.target"),
            PrinterColumn("Health", ".status.components.health.score", "number", priority=1),
            PrinterColumn("Alert", ".status.components.alert.score", "number", priority=1),
            PrinterColumn("Metrics", ".status.components.metrics.score", "number", priority=1),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable_fields=(".spec.target",),
    )

    spec: Annotated[EffectivenessAssessmentSpec, Field(json_schema_extra=IMMUTABLE)]
    status: EffectivenessAssessmentStatus = EffectivenessAssessmentStatus()
