"""RemediationRequest: one incident, from its first signal to its outcome. Created by the gateway, driven by the orchestrator.

``status.deduplication``, ``status.storm``, ``status.members`` and ``status.resolved`` have the gateway as their only writer;
the rest of the status has the orchestrator.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.base import (
    CustomResource,
    DurationText,
    Labels,
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
from kubernaut_ray.crds.enums import (
    BlockReason,
    DeliveryState,
    FailurePhase,
    Outcome,
    RemediationPhase,
    SkipReason,
    StormType,
    TargetType,
)
from kubernaut_ray.crds.shared import PreviousExecution, TargetResource

Fingerprint = Annotated[str, Field(pattern="^[a-f0-9]{64}$", max_length=64)]


class TimeoutConfig(Model):
    """Per-object overrides of the deadlines in the settings."""

    global_: Annotated[DurationText | None, Field(alias="global")] = None
    processing: DurationText | None = None
    analyzing: DurationText | None = None
    awaiting_approval: DurationText | None = None
    executing: DurationText | None = None
    verifying: DurationText | None = None


class RemediationRequestSpec(Model):
    signal_fingerprint: Fingerprint = Field(
        json_schema_extra={
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "signalFingerprint is immutable"}]
        }
    )
    signal_name: Name
    severity: Annotated[str, Field(max_length=63)] = "unknown"
    """As the source said it; signal processing maps it by policy."""
    signal_type: Annotated[str, Field(max_length=63)]
    signal_source: Annotated[str, Field(max_length=63)]
    target_type: TargetType = TargetType.KUBERNETES
    target_resource: TargetResource
    """The top of the owner chain when it could be resolved."""
    signal_resource: TargetResource | None = None
    """The resource that the signal itself named, when it is another than the target (a pod of the Deployment)."""
    firing_time: Timestamp
    received_time: Timestamp
    signal_labels: Labels = Field(default_factory=dict)
    signal_annotations: Labels = Field(default_factory=dict)
    description: Text = ""
    """What the source said in words (summary, description or message)."""
    provider_data: Annotated[str, Field(max_length=262144)] = ""
    original_payload: Annotated[str, Field(max_length=262144)] = ""
    timeout_config: TimeoutConfig | None = None
    dry_run: bool = False


class Symptom(Model):
    """One signal name seen on this incident."""

    signal_name: Name
    resource: ShortText = ""
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    occurrence_count: Annotated[int, Field(ge=1)] = 1
    resolved_at: Timestamp | None = None
    """When the source said that this symptom is over; unset again when it fires anew."""


class Deduplication(Model):
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    occurrence_count: Annotated[int, Field(ge=1)] = 1
    symptoms: Annotated[tuple[Symptom, ...], Field(max_length=50)] = ()


class Storm(Model):
    storm_type: StormType
    window: DurationText
    alert_count: Annotated[int, Field(ge=1)]
    affected_resources: Annotated[tuple[ShortText, ...], Field(max_length=1000)] = ()
    detected_at: Timestamp


class Member(Model):
    """One resource whose signals were folded into this incident instead of opening one of their own: what a lost node or a
    storm took with it.
    """

    target: ShortText
    """The top of its owners, which would have been the target of an incident of its own."""
    resource: ShortText
    """What the signals named."""
    signals: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """Names of the signals that fire on it."""
    over: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """Names of those that fired on it and are over."""
    first_seen_at: Timestamp


class SignalResolution(Model):
    """The source said that the signal is over."""

    resolved_at: Timestamp
    source: ShortText = ""


class RemediationRequestStatus(Model):
    deduplication: Deduplication | None = None
    storm: Storm | None = None
    members: Annotated[tuple[Member, ...], Field(max_length=2000)] = ()
    """Every resource folded into this incident; complete, because an incident that is full takes no further one in."""
    resolved: SignalResolution | None = None

    overall_phase: RemediationPhase | None = None
    message: Text = ""
    observed_generation: int | None = None
    start_time: Timestamp | None = None
    processing_start_time: Timestamp | None = None
    analyzing_start_time: Timestamp | None = None
    awaiting_approval_start_time: Timestamp | None = None
    executing_start_time: Timestamp | None = None
    verifying_start_time: Timestamp | None = None
    completed_at: Timestamp | None = None
    retention_expiry_time: Timestamp | None = None

    signal_processing_ref: ObjectReference | None = None
    ai_analysis_ref: ObjectReference | None = None
    approval_request_ref: ObjectReference | None = None
    workflow_execution_ref: ObjectReference | None = None
    effectiveness_assessment_ref: ObjectReference | None = None
    notification_request_refs: Annotated[tuple[ObjectReference, ...], Field(max_length=50)] = ()
    approval_notification_sent: bool = False

    skip_reason: SkipReason | None = None
    skip_message: Text = ""
    blocking_workflow_execution: Name = ""
    duplicate_of: Name = ""
    duplicate_count: Annotated[int, Field(ge=0)] = 0
    duplicate_refs: Annotated[tuple[Name, ...], Field(max_length=100)] = ()

    block_reason: BlockReason | None = None
    block_message: Text = ""
    blocked_until: Timestamp | None = None
    blocked_from: RemediationPhase | None = None
    """The phase to resume when an event-based block is over."""
    next_allowed_execution: Timestamp | None = None
    consecutive_failure_count: Annotated[int, Field(ge=0)] = 0

    failure_phase: FailurePhase | None = None
    failure_reason: Text = ""
    requires_manual_review: bool = False
    timeout_phase: RemediationPhase | None = None
    timeout_time: Timestamp | None = None
    outcome: Outcome | None = None
    effectiveness_score: Score | None = None
    """What the assessment of the effect came to; unset where nothing could be judged, or nothing was."""
    notification_status: DeliveryState | None = None

    recovery_attempts: Annotated[int, Field(ge=0)] = 0
    previous_executions: Annotated[tuple[PreviousExecution, ...], Field(max_length=10)] = ()
    """Every failed attempt so far, first one first."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class RemediationRequest(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="remediationrequests",
        singular="remediationrequest",
        short_names=("rr", "rrs"),
        columns=(
            PrinterColumn("Phase", ".status.overallPhase"),
            PrinterColumn("Outcome", ".status.outcome"),
            PrinterColumn("Signal", ".spec.signalName"),
            PrinterColumn("Severity", ".spec.severity"),
            PrinterColumn("Kind", ".spec.targetResource.kind", priority=1),
            PrinterColumn("Target", ".spec.targetResource.name"),
            PrinterColumn("Target-NS", ".spec.targetResource.namespace"),
            PrinterColumn("Seen", ".status.deduplication.occurrenceCount", "integer"),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
            PrinterColumn("Message", ".status.message", priority=1),
        ),
        selectable_fields=(".spec.signalFingerprint", ".status.overallPhase"),
    )

    spec: RemediationRequestSpec
    status: RemediationRequestStatus = RemediationRequestStatus()
