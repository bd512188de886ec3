"""SignalProcessing: the signal enriched from the cluster and classified by Rego policy."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    DurationText,
    Labels,
    Meta,
    Model,
    Name,
    ObjectReference,
    PrinterColumn,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import (
    Criticality,
    Environment,
    EnvironmentSource,
    Priority,
    PrioritySource,
    Severity,
    SignalProcessingPhase,
    SlaTier,
    TargetType,
)
from kubernaut_ray.crds.remediation_request import Fingerprint
from kubernaut_ray.crds.shared import KubernetesContext, TargetResource


class SignalData(Model):
    fingerprint: Fingerprint
    name: Name
    severity: Annotated[str, Field(max_length=63)] = "unknown"
    type: Annotated[str, Field(max_length=63)]
    source: Annotated[str, Field(max_length=63)] = ""
    target_type: TargetType = TargetType.KUBERNETES
    target_resource: TargetResource
    signal_resource: TargetResource | None = None
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    description: Text = ""
    firing_time: Timestamp
    received_time: Timestamp
    provider_data: Annotated[str, Field(max_length=262144)] = ""


class EnrichmentConfig(Model):
    enable_cluster_state: bool = True
    enable_metrics: bool = False
    enable_historical: bool = False
    timeout: DurationText = "30s"


class SignalProcessingSpec(Model):
    remediation_request_ref: ObjectReference
    signal: SignalData
    enrichment_config: EnrichmentConfig = EnrichmentConfig()
    deadline: Timestamp | None = None
    """When the orchestrator gives up on this."""


class RecoveryContext(Model):
    previous_remediation_id: Name = ""
    attempt_count: Annotated[int, Field(ge=0)] = 0
    last_failure_reason: Text = ""
    time_since_first_failure: ShortText = ""


class EnvironmentClassification(Model):
    environment: Environment
    source: EnvironmentSource
    classified_at: Timestamp


class PriorityAssignment(Model):
    priority: Priority
    source: PrioritySource
    policy_name: ShortText = ""
    assigned_at: Timestamp


class BusinessClassification(Model):
    business_unit: ShortText = ""
    service_owner: ShortText = ""
    criticality: Criticality = Criticality.MEDIUM
    sla_requirement: SlaTier = SlaTier.BRONZE


class SignalProcessingStatus(Model):
    phase: SignalProcessingPhase | None = None
    observed_generation: int | None = None
    start_time: Timestamp | None = None
    completion_time: Timestamp | None = None
    kubernetes_context: KubernetesContext | None = None
    recovery_context: RecoveryContext | None = None
    severity: Severity | None = None
    """The raw severity mapped by policy to the one internal vocabulary."""
    environment_classification: EnvironmentClassification | None = None
    priority_assignment: PriorityAssignment | None = None
    business_classification: BusinessClassification | None = None
    policy_hash: ShortText = ""
    error: Text = ""
    consecutive_failures: Annotated[int, Field(ge=0)] = 0
    last_failure_time: Timestamp | None = None
    next_retry_at: Timestamp | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class SignalProcessing(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="signalprocessings",
        singular="signalprocessing",
        short_names=("sp",),
        columns=(
            PrinterColumn("Phase", ".status.phase"),
            PrinterColumn("Severity", ".status.severity"),
            PrinterColumn("Environment", ".status.environmentClassification.environment"),
            PrinterColumn("Priority", ".status.priorityAssignment.priority"),
            PrinterColumn("Degraded", ".status.kubernetesContext.degradedMode", "boolean", priority=1),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
    )

    spec: Annotated[SignalProcessingSpec, Field(json_schema_extra=IMMUTABLE)]
    status: SignalProcessingStatus = SignalProcessingStatus()
