"""Tekton's status words: the ``Succeeded`` condition of PipelineRuns and TaskRuns, its reasons, and skip reasons.

Source of the words: tektoncd/pipeline ``pkg/apis/pipeline/v1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from kubernaut_ray.clock import rfc3339


class Reason(StrEnum):
    """Reasons of the ``Succeeded`` condition."""

    STARTED = "Started"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    PENDING = "PipelineRunPending"
    PIPELINE_TIMEOUT = "PipelineRunTimeout"
    STOPPING = "PipelineRunStopping"
    CANCELLED_RUNNING_FINALLY = "CancelledRunningFinally"
    STOPPED_RUNNING_FINALLY = "StoppedRunningFinally"
    COULDNT_GET_PIPELINE = "CouldntGetPipeline"
    COULDNT_GET_TASK = "CouldntGetTask"
    COULDNT_GET_RESULT = "CouldntGetPipelineResult"
    INVALID_PIPELINE = "PipelineValidationFailed"
    INVALID_GRAPH = "PipelineInvalidGraph"
    PARAMETER_MISSING = "ParameterMissing"
    PARAMETER_TYPE = "ParameterTypeMismatch"
    INVALID_PARAM_VALUE = "InvalidParamValue"
    INVALID_WORKSPACES = "InvalidWorkspaceBindings"
    INVALID_RESULT_REFERENCE = "InvalidTaskResultReference"
    TASK_CANCELLED = "TaskRunCancelled"
    TASK_TIMEOUT = "TaskRunTimeout"
    TASK_LOST = "TaskRunLost"
    """Ours: the runner died while the task ran, so its effect is unknown."""
    TO_BE_RETRIED = "ToBeRetried"
    TASK_INVALID = "TaskRunValidationFailed"
    RESULT_TOO_LARGE = "TaskRunResultLargerThanAllowedLimit"
    POD_CREATION_FAILED = "PodCreationFailed"


class Skip(StrEnum):
    """Reasons in ``status.skippedTasks``."""

    WHEN = "When Expressions evaluated to false"
    PARENT = "Parent Tasks were skipped"
    STOPPING = "PipelineRun was stopping"
    CANCELLED = "PipelineRun was gracefully cancelled"
    STOPPED = "PipelineRun was gracefully stopped"
    MISSING_RESULTS = "Results were missing"
    PIPELINE_TIMEOUT = "PipelineRun timeout has been reached"
    TASKS_TIMEOUT = "PipelineRun Tasks timeout has been reached"
    FINALLY_TIMEOUT = "PipelineRun Finally timeout has been reached"


def succeeded(obj: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ``Succeeded`` condition of a run, or ``None`` when it has none yet."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if isinstance(c, dict) and c.get("type") == "Succeeded"), None)


def done(obj: Mapping[str, Any]) -> bool:
    found = succeeded(obj)
    return found is not None and found.get("status") in ("True", "False")


def condition(
    old: Mapping[str, Any] | None, status: bool | None, reason: str, message: str, now: datetime
) -> list[dict[str, Any]]:
    """Return ``status.conditions`` with this ``Succeeded``; the transition time moves with status, reason or message."""
    new = {
        "type": "Succeeded",
        "status": {True: "True", False: "False", None: "Unknown"}[status],
        "reason": str(reason),
        "message": message,
    }
    same = old is not None and all(old.get(key) == value for key, value in new.items())
    return [{**new, "lastTransitionTime": old["lastTransitionTime"] if same and old else rfc3339(now)}]
