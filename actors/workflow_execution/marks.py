"""What every run of an execution carries, whatever the engine: its name is the target's lock, its marks say whose it is.

A run lies in the workflow namespace, where no owner reference can reach. Labels serve selectors; annotations hold the whole
truth, because labels are cut and rewritten. ``is_mine`` is asked before anything is adopted or deleted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from kubernaut_ray import names
from kubernaut_ray.clock import parse_duration, parse_rfc3339
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

TARGET_PARAMETER = "TARGET_RESOURCE"
ANNOTATION_EXECUTION = names.LABEL_WORKFLOW_EXECUTION
ANNOTATION_EXECUTION_UID = f"{names.GROUP}/workflow-execution-uid"
ANNOTATION_REMEDIATION = names.LABEL_REMEDIATION
_PARAMETER = re.compile(r"[A-Z][A-Z0-9_]*")
_TARGET = re.compile(r"(?:[^/\s]+/)?[^/\s]+/[^/\s]+")
_MINIMUM_TIMEOUT = 1


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose run this is, as it says itself."""

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
    """Whether this run was made for exactly this execution: name and UID, never the name alone."""
    owner = Ownership.of(run)
    return owner.execution == execution.name and owner.execution_uid == execution.uid


def problems(execution: WorkflowExecution) -> Iterator[str]:
    """Yield what makes this execution impossible on any engine."""
    spec = execution.spec
    if not spec.workflow_ref.container_image:
        yield "workflowRef.containerImage is empty; the analysis must resolve the workflow to its bundle"
    if not _TARGET.fullmatch(spec.target_resource):
        yield f"targetResource {spec.target_resource!r} must be namespace/kind/name, or kind/name for cluster-scoped kinds"
    for name in spec.parameters:
        if not _PARAMETER.fullmatch(name):
            yield f"parameters.{name} must be UPPER_SNAKE_CASE"


def target_namespace(target_resource: str) -> str:
    """Return the namespace of ``namespace/kind/name``; empty for ``kind/name``."""
    parts = target_resource.split("/")
    return parts[0] if len(parts) == 3 else ""


def metadata(execution: WorkflowExecution, namespace: str) -> dict[str, Any]:
    """Return name, namespace, labels and annotations of the run of an execution."""
    spec = execution.spec
    remediation = spec.remediation_request_ref.name
    labels = {
        names.LABEL_WORKFLOW_EXECUTION: names.label_value(execution.name),
        names.LABEL_WORKFLOW_ID: names.label_value(spec.workflow_ref.workflow_id),
        names.LABEL_TARGET_RESOURCE: names.label_value(spec.target_resource),
        names.LABEL_SOURCE_NAMESPACE: names.label_value(target_namespace(spec.target_resource)),
        names.LABEL_REMEDIATION: names.label_value(remediation),
        names.LABEL_MANAGED_BY: "kubernaut-ray",
        **names.shard_label(remediation),
    }
    return {
        "name": names.pipeline_run(spec.target_resource),
        "namespace": namespace,
        "labels": {key: value for key, value in labels.items() if value},
        "annotations": {
            names.ANNOTATION_TARGET_RESOURCE: spec.target_resource,
            ANNOTATION_EXECUTION: execution.name,
            ANNOTATION_EXECUTION_UID: execution.uid,
            ANNOTATION_REMEDIATION: remediation,
        },
    }


def seconds_allowed(execution: WorkflowExecution, now: datetime) -> int:
    """Return how long the run may take: the execution's own timeout, cut to the deadline when that comes earlier.

    Whole seconds, rounded down, and at least one.
    """
    wanted = parse_duration(execution.spec.execution_config.timeout)
    if execution.spec.deadline is not None:
        wanted = min(wanted, execution.spec.deadline - now)
    return max(_MINIMUM_TIMEOUT, math.floor(wanted.total_seconds()))


def instant(run: Mapping[str, Any], field: str) -> datetime | None:
    """Return ``status.startTime`` or ``status.completionTime``; ``None`` when unset or unreadable."""
    return parsed((run.get("status") or {}).get(field))


def parsed(text: str | None) -> datetime | None:
    try:
        return parse_rfc3339(text) if text else None
    except ValueError:
        return None
