"""WorkflowExecution: one run of one workflow on one target, mapped to one PipelineRun, or one Job.

The fields named after the PipelineRun tell of the Job where the engine is ``job``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray import names
from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.approval import Grant
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    DurationText,
    LocalReference,
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
from kubernaut_ray.crds.enums import ClearMethod, ExecutionFailureReason, WorkflowExecutionPhase
from kubernaut_ray.crds.shared import FailureDetails, Parameters, WorkflowRef


class ExecutionConfig(Model):
    timeout: DurationText = "30m"
    service_account_name: Name = names.WORKFLOW_SERVICE_ACCOUNT


class WorkflowExecutionSpec(Model):
    remediation_request_ref: ObjectReference
    workflow_ref: WorkflowRef
    target_resource: ShortText
    """``namespace/kind/name`` or ``kind/name``, the kind in lower case."""
    parameters: Parameters = Field(default_factory=dict)
    confidence: Score | None = None
    rationale: Text = ""
    execution_config: ExecutionConfig = ExecutionConfig()
    deadline: Timestamp | None = None
    approval: Grant | None = None
    """The leave under which it runs, where leave was needed."""
    dry_run: bool = False
    """Render what would be created, have the API server judge it, and create nothing."""


class PipelineRunSummary(Model):
    status: ShortText = ""
    reason: ShortText = ""
    message: Text = ""
    completed_tasks: Annotated[int, Field(ge=0)] = 0
    total_tasks: Annotated[int, Field(ge=0)] = 0


class ExecutionFailureDetails(FailureDetails):
    reason: ExecutionFailureReason


class BlockClearance(Model):
    cleared_at: Timestamp
    cleared_by: ShortText
    clear_reason: Text
    clear_method: ClearMethod


class WorkflowExecutionStatus(Model):
    phase: WorkflowExecutionPhase | None = None
    observed_generation: int | None = None
    message: Text = ""
    queued_at: Timestamp | None = None
    """Since when it waits for its turn; empty when it does not."""
    admitted_at: Timestamp | None = None
    """When it got its place among those that may run at a time."""
    start_time: Timestamp | None = None
    completion_time: Timestamp | None = None
    duration: ShortText = ""
    pipeline_run_ref: LocalReference | None = None
    pipeline_run_uid: ShortText = ""
    pipeline_run_status: PipelineRunSummary | None = None
    results: Parameters = Field(default_factory=dict)
    """What the pipeline reported as results."""
    lock_released: bool = False
    failure_details: ExecutionFailureDetails | None = None
    rendered: Text = ""
    """The manifest that a dry run did not create, as YAML."""
    block_clearance: BlockClearance | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class WorkflowExecution(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="workflowexecutions",
        singular="workflowexecution",
        short_names=("wfe",),
        columns=(
            PrinterColumn("Phase", ".status.phase"),
            PrinterColumn("Workflow", ".spec.workflowRef.workflowName"),
            PrinterColumn("Target", ".spec.targetResource"),
            PrinterColumn("Failure", ".status.failureDetails.reason"),
            PrinterColumn("Duration", ".status.duration"),
            PrinterColumn("PipelineRun", ".status.pipelineRunRef.name", priority=1),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable_fields=(".spec.targetResource", ".status.lockReleased"),
    )

    spec: Annotated[WorkflowExecutionSpec, Field(json_schema_extra=IMMUTABLE)]
    status: WorkflowExecutionStatus = WorkflowExecutionStatus()
