"""The PipelineRun of an execution, exactly as Tekton's v1 webhook admits it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from actors.workflow_execution import marks
from kubernaut_ray.clock import format_duration
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import ExecutionSettings

PIPELINE = "workflow"
"""Every bundle holds one pipeline of this name."""
PENDING = "PipelineRunPending"
"""``spec.status`` of a run that Tekton does not start before it is taken away."""


def build(execution: WorkflowExecution, settings: ExecutionSettings, now: datetime) -> dict[str, Any]:
    """Build the PipelineRun, pending. Its timeout is the execution's own, cut to the deadline when that comes earlier."""
    spec = execution.spec
    parameters = {**spec.parameters, marks.TARGET_PARAMETER: spec.target_resource}
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": marks.metadata(execution, settings.namespace),
        "spec": {
            "status": PENDING,
            "pipelineRef": {
                "resolver": "bundles",
                "params": [
                    {"name": "bundle", "value": pinned(spec.workflow_ref)},
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
    """Return the pipeline timeout as a Go duration, whole seconds: not a moment longer than it may take."""
    return format_duration(timedelta(seconds=marks.seconds_allowed(execution, now)))


def succeeded(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the run's ``Succeeded`` condition; an empty mapping before there is one."""
    conditions = (run.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == "Succeeded"), {})


def is_over(run: Mapping[str, Any]) -> bool:
    return succeeded(run).get("status") in ("True", "False")
