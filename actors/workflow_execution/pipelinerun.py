"""The PipelineRun of an execution, exactly as Tekton's v1 webhook admits it, and who owns one.

Its name is derived from the target alone, so the API server's name uniqueness is the per-target lock. It lies in the
workflow namespace, where no owner reference can reach; labels and annotations say whose it is instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from kubernaut_ray import names
from kubernaut_ray.clock import format_duration, parse_duration, parse_rfc3339
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.enums import ExecutionEngine
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import ExecutionSettings

PIPELINE = "workflow"
"""Every bundle holds one pipeline of this name."""
TARGET_PARAMETER = "TARGET_RESOURCE"
ANNOTATION_EXECUTION = names.LABEL_WORKFLOW_EXECUTION
ANNOTATION_EXECUTION_UID = f"{names.GROUP}/workflow-execution-uid"
ANNOTATION_REMEDIATION = names.LABEL_REMEDIATION
_PARAMETER = re.compile(r"[A-Z][A-Z0-9_]*")
_TARGET = re.compile(r"(?:[^/\s]+/)?[^/\s]+/[^/\s]+")
_MINIMUM_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose PipelineRun this is, as it says itself."""

    execution: str
    execution_uid: str
    remediation: str

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Self:
        notes = run["metadata"].get("annotations") or {}
        labels = run["metadata"].get("labels") or {}
        return cls(
            notes.get(ANNOTATION_EXECUTION) or labels.get(names.LABEL_WORKFLOW_EXECUTION, ""),
            notes.get(ANNOTATION_EXECUTION_UID, ""),
            notes.get(ANNOTATION_REMEDIATION) or labels.get(names.LABEL_REMEDIATION, ""),
        )


def is_mine(execution: WorkflowExecution, run: Mapping[str, Any]) -> bool:
    """Whether this PipelineRun was made for exactly this execution: name and UID, never the name alone."""
    owner = Ownership.of(run)
    return owner.execution == execution.name and owner.execution_uid == execution.uid


def problems(execution: WorkflowExecution) -> Iterator[str]:
    """Yield everything that makes this execution impossible."""
    spec = execution.spec
    if not spec.workflow_ref.container_image:
        yield "workflowRef.containerImage is empty; the analysis must resolve the workflow to its bundle"
    if spec.workflow_ref.engine != ExecutionEngine.TEKTON:
        yield f"workflowRef.engine {spec.workflow_ref.engine!r} is not supported here; only {ExecutionEngine.TEKTON} is"
    if not _TARGET.fullmatch(spec.target_resource):
        yield f"targetResource {spec.target_resource!r} must be namespace/kind/name, or kind/name for cluster-scoped kinds"
    for name in spec.parameters:
        if not _PARAMETER.fullmatch(name):
            yield f"parameters.{name} must be UPPER_SNAKE_CASE"


def pinned_image(execution: WorkflowExecution) -> str:
    """Return the bundle reference with its digest when there is one: what is approved is what runs."""
    return pinned(execution.spec.workflow_ref)


def build(execution: WorkflowExecution, settings: ExecutionSettings, now: datetime) -> dict[str, Any]:
    """Build the PipelineRun. Its timeout is the execution's own, cut to the deadline when that comes earlier."""
    spec = execution.spec
    remediation = spec.remediation_request_ref.name
    parts = spec.target_resource.split("/")
    labels = {
        names.LABEL_WORKFLOW_EXECUTION: names.label_value(execution.name),
        names.LABEL_WORKFLOW_ID: names.label_value(spec.workflow_ref.workflow_id),
        names.LABEL_TARGET_RESOURCE: names.label_value(spec.target_resource),
        names.LABEL_SOURCE_NAMESPACE: names.label_value(parts[0] if len(parts) == 3 else ""),
        names.LABEL_REMEDIATION: names.label_value(remediation),
        names.LABEL_MANAGED_BY: "kubernaut-ray",
        **names.shard_label(remediation),
    }
    parameters = {**spec.parameters, TARGET_PARAMETER: spec.target_resource}
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": {
            "name": names.pipeline_run(spec.target_resource),
            "namespace": settings.namespace,
            "labels": {key: value for key, value in labels.items() if value},
            "annotations": {
                names.ANNOTATION_TARGET_RESOURCE: spec.target_resource,
                ANNOTATION_EXECUTION: execution.name,
                ANNOTATION_EXECUTION_UID: execution.uid,
                ANNOTATION_REMEDIATION: remediation,
            },
        },
        "spec": {
            "pipelineRef": {
                "resolver": "bundles",
                "params": [
                    {"name": "bundle", "value": pinned_image(execution)},
                    {"name": "name", "value": PIPELINE},
                    {"name": "kind", "value": "pipeline"},
                ],
            },
            "params": [{"name": name, "value": value} for name, value in sorted(parameters.items())],
            "taskRunTemplate": {
                "serviceAccountName": spec.execution_config.service_account_name or settings.service_account
            },
            "timeouts": {"pipeline": timeout(execution, now)},
        },
    }


def timeout(execution: WorkflowExecution, now: datetime) -> str:
    """Return the pipeline timeout as a Go duration."""
    wanted = parse_duration(execution.spec.execution_config.timeout)
    if execution.spec.deadline is not None:
        wanted = min(wanted, execution.spec.deadline - now)
    seconds = max(_MINIMUM_TIMEOUT, wanted.total_seconds())
    return format_duration(parse_duration(f"{seconds:f}s"))


def succeeded(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the run's ``Succeeded`` condition; an empty mapping before there is one."""
    conditions = (run.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == "Succeeded"), {})


def is_over(run: Mapping[str, Any]) -> bool:
    return succeeded(run).get("status") in ("True", "False")


def instant(run: Mapping[str, Any], field: str) -> datetime | None:
    """Return ``status.startTime`` or ``status.completionTime``; ``None`` when unset or unreadable."""
    text = (run.get("status") or {}).get(field)
    try:
        return parse_rfc3339(text) if text else None
    except ValueError:
        return None
