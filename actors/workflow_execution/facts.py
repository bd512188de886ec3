"""The audit events and conditions of a WorkflowExecution. The id of an event depends only on what makes the fact this fact."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.workflow_execution.observe import Observed
from actors.workflow_execution.signatures import Unasked, Unknown
from kubernaut_ray.conditions import with_condition
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube.pipelines.cosign import Unverified, Verified
from kubernaut_ray.redact import redact_values

CREATED, RUNNING, COMPLETE, AUDITED, COUNTED, CLEARED, SIGNED = (
    "TektonPipelineCreated",
    "TektonPipelineRunning",
    "TektonPipelineComplete",
    "AuditRecorded",
    "StatisticsRecorded",
    "BlockCleared",
    "SignatureVerified",
)
STARTED, COMPLETED, FAILED, CANCELLED, REHEARSED, BLOCK_CLEARED = (
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
    "workflow.cancelled",
    "workflow.rehearsed",
    "workflowexecution.block.cleared",
)


def event(seen: Observed, event_type: str, result: AuditOutcome, now: datetime, **data: Any) -> AuditEvent:
    """Build an event about this execution; ``data`` without what is empty."""
    execution = seen.execution
    ref = execution.spec.workflow_ref
    started = execution.status.start_time
    return AuditEvent.fact(
        event_type,
        correlation_id=execution.spec.remediation_request_ref.name or execution.name,
        category=AuditCategory.EXECUTION,
        now=now,
        outcome=result,
        actor="workflow-execution-controller",
        key=(execution.name, execution.uid),
        resource_type=WorkflowExecution.kind(),
        resource_id=execution.name,
        namespace=execution.namespace,
        duration_ms=max(0, int((now - started).total_seconds() * 1000)) if started else None,
        event_data={
            "workflow_id": ref.workflow_id,
            "workflow_name": ref.workflow_name,
            "version": ref.version,
            "container_image": pinned(ref),
            "target_resource": execution.spec.target_resource,
            "parameters": redact_values(execution.spec.parameters),
            "pipeline_run": execution.status.pipeline_run_ref.name if execution.status.pipeline_run_ref else "",
            **{key: value for key, value in data.items() if value not in (None, "")},
        },
    )


def audited(conditions: Any, now: datetime) -> Any:
    """Say that the fact is recorded: the status is written only after the audit took it."""
    return with_condition(conditions, AUDITED, status=True, reason="AuditSucceeded", now=now)


def signature(seen: Observed, now: datetime) -> Any:
    """Say in a condition what is known of the bundle's signature, where anybody wants to know."""
    match seen.signature:
        case Verified(key_id):
            status, reason, message = True, "Signed", f"signed with the key {key_id}"
        case Unverified(why):
            status, reason, message = False, "Unsigned", why
        case Unknown(why):
            status, reason, message = False, "NotChecked", why
        case Unasked():
            return seen.execution.status.conditions
    conditions = seen.execution.status.conditions
    return with_condition(conditions, SIGNED, status=status, reason=reason, message=message[:1000], now=now)
