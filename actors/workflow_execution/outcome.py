"""How an execution ended, read from its PipelineRun and TaskRuns, and how any failure is told: facts first, words last.

A step's termination reason and exit code are facts; a message is searched only where they say nothing. The summary is one
paragraph that a person and the recovery analysis can work with. A step may have printed anything: secrets are taken out here,
before its words reach the status, the audit trail and people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from actors.workflow_execution.marks import instant
from actors.workflow_execution.pipelinerun import succeeded
from kubernaut_ray.clock import format_duration
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.workflow_execution import ExecutionFailureDetails, PipelineRunSummary, WorkflowExecution
from kubernaut_ray.redact import redact

Object = Mapping[str, Any]
MAX_RESULT = 4096
MAX_RESULTS = 64

_BY_REASON = {
    "PipelineRunTimeout": Reason.DEADLINE_EXCEEDED,
    "TaskRunTimeout": Reason.DEADLINE_EXCEEDED,
    "CouldntGetPipeline": Reason.CONFIGURATION_ERROR,
    "CouldntGetTask": Reason.CONFIGURATION_ERROR,
    "CouldntGetPipelineResult": Reason.TASK_FAILED,
    "ParameterMissing": Reason.CONFIGURATION_ERROR,
    "ParameterTypeMismatch": Reason.CONFIGURATION_ERROR,
    "InvalidParamValue": Reason.CONFIGURATION_ERROR,
    "InvalidWorkspaceBindings": Reason.CONFIGURATION_ERROR,
    "InvalidTaskResultReference": Reason.CONFIGURATION_ERROR,
    "PipelineValidationFailed": Reason.CONFIGURATION_ERROR,
    "PipelineInvalidGraph": Reason.CONFIGURATION_ERROR,
    "TaskRunValidationFailed": Reason.CONFIGURATION_ERROR,
    "TaskValidationFailed": Reason.CONFIGURATION_ERROR,
    "TaskRunResolutionFailed": Reason.CONFIGURATION_ERROR,
    "PodCreationFailed": Reason.CONFIGURATION_ERROR,
    "CreateContainerConfigError": Reason.CONFIGURATION_ERROR,
    "TaskRunImagePullFailed": Reason.IMAGE_PULL_BACK_OFF,
    "ExceededResourceQuota": Reason.RESOURCE_EXHAUSTED,
    "ExceededNodeResources": Reason.RESOURCE_EXHAUSTED,
    "TaskRunLost": Reason.UNKNOWN,
    "TaskRunCancelled": Reason.UNKNOWN,
    "Cancelled": Reason.UNKNOWN,
}
_BY_WORDS = (
    (Reason.OOM_KILLED, ("oom",)),
    (Reason.DEADLINE_EXCEEDED, ("timeout", "deadline")),
    (Reason.FORBIDDEN, ("forbidden", "rbac", "permission denied")),
    (Reason.RESOURCE_EXHAUSTED, ("quota", "resource exhausted")),
    (Reason.IMAGE_PULL_BACK_OFF, ("imagepullbackoff", "image pull")),
    (Reason.CONFIGURATION_ERROR, ("invalid", "configuration")),
    (Reason.TASK_FAILED, ("taskfailed",)),
)
NOT_EXECUTED = (Reason.IMAGE_PULL_BACK_OFF, Reason.CONFIGURATION_ERROR, Reason.RESOURCE_EXHAUSTED)
_EXECUTED = (Reason.OOM_KILLED, Reason.DEADLINE_EXCEEDED, Reason.FORBIDDEN, Reason.TASK_FAILED)
_NEXT = {
    Reason.OOM_KILLED: "Give the workflow's step more memory, or look for what made it grow.",
    Reason.DEADLINE_EXCEEDED: "Check whether the target was still moving when the time was up; a longer timeout may do.",
    Reason.FORBIDDEN: "Grant the workflow's service account what it was refused, or choose a workflow that needs less.",
    Reason.RESOURCE_EXHAUSTED: "Free quota or capacity before trying again.",
    Reason.CONFIGURATION_ERROR: "Correct the workflow or its parameters; trying the same again fails the same way.",
    Reason.IMAGE_PULL_BACK_OFF: "Check that the workflow's image exists and that the nodes may pull it.",
    Reason.TASK_FAILED: "Read the step's output and the state of the target before choosing another remedy.",
    Reason.APPROVAL_INVALID: "Ask for approval of what is to run; nothing else may run in its place.",
    Reason.UNKNOWN: "Look at the target first: how far the workflow came is not known.",
}


@dataclass(frozen=True, slots=True)
class Culprit:
    """The task and step that failed; empty where there is none."""

    index: int = 0
    task: str = ""
    step: str = ""
    reason: str = ""
    step_reason: str = ""
    exit_code: int | None = None
    message: str = ""


def summary(run: Object, task_runs: Sequence[Object]) -> PipelineRunSummary:
    """Return what the execution's status says of its PipelineRun."""
    condition = succeeded(run)
    spec = (run.get("status") or {}).get("pipelineSpec") or {}
    total = len(spec.get("tasks") or ()) + len(spec.get("finally") or ())
    return PipelineRunSummary(
        status=condition.get("status", "Unknown"),
        reason=condition.get("reason", "")[:1024],
        message=redact(condition.get("message", ""))[:32768],
        completed_tasks=sum(1 for t in task_runs if succeeded(t).get("status") == "True"),
        total_tasks=max(total, len(task_runs), len((run.get("status") or {}).get("childReferences") or ())),
    )


def results(run: Object) -> dict[str, str]:
    """Return the pipeline's results as text; arrays and objects as JSON."""
    given = (run.get("status") or {}).get("results") or ()
    return {
        str(r["name"]): redact(r["value"] if isinstance(r["value"], str) else orjson.dumps(r["value"]).decode())[
            :MAX_RESULT
        ]
        for r in given[:MAX_RESULTS]
    }


def failure(
    execution: WorkflowExecution, run: Object, task_runs: Sequence[Object], now: datetime
) -> ExecutionFailureDetails:
    """Return the details of a failed PipelineRun."""
    condition = succeeded(run)
    culprit = _culprit(run, task_runs)
    reason = reason_of(condition, culprit)
    return details(
        execution,
        culprit,
        reason,
        culprit.message or str(condition.get("message", "")),
        began=instant(run, "startTime"),
        ended=instant(run, "completionTime") or now,
        executed=_was_executed(run, reason),
    )


def details(
    execution: WorkflowExecution,
    culprit: Culprit,
    reason: Reason,
    message: str,
    *,
    began: datetime | None,
    ended: datetime,
    executed: bool,
) -> ExecutionFailureDetails:
    """Tell a failure that was seen, with its secrets taken out."""
    took = format_duration(ended - began) if began else ""
    told = redact(message)
    return ExecutionFailureDetails(
        failed_task_index=culprit.index,
        failed_task_name=culprit.task[:253],
        failed_step_name=culprit.step[:253],
        reason=reason,
        message=told[:32768],
        exit_code=culprit.exit_code,
        failed_at=ended,
        execution_time_before_failure=took,
        natural_language_summary=_sentence(execution, culprit, reason, told, took, executed=executed),
        was_execution_failure=executed,
    )


def failure_without_run(
    execution: WorkflowExecution, reason: Reason, message: str, now: datetime, *, executed: bool
) -> ExecutionFailureDetails:
    """Return the details of an execution that has no run to read: it was never made, or it is gone."""
    started = execution.status.start_time
    took = format_duration(now - started) if started else ""
    return ExecutionFailureDetails(
        reason=reason,
        message=message[:32768],
        failed_at=now,
        execution_time_before_failure=took,
        natural_language_summary=_sentence(execution, Culprit(), reason, message, took, executed=executed),
        was_execution_failure=executed,
    )


def _culprit(run: Object, task_runs: Sequence[Object]) -> Culprit:
    """Return the first failed TaskRun in the pipeline's order; a failed one before a cancelled one."""
    order = [c.get("name") for c in (run.get("status") or {}).get("childReferences") or ()]
    ranked = sorted(
        (t for t in task_runs if succeeded(t).get("status") == "False"),
        key=lambda t: (
            succeeded(t).get("reason") == "TaskRunCancelled",
            order.index(t["metadata"]["name"]) if t["metadata"]["name"] in order else len(order),
        ),
    )
    if not ranked:
        return Culprit()
    task_run = ranked[0]
    name = task_run["metadata"]["name"]
    condition, step = succeeded(task_run), _failed_step(task_run)
    terminated = step.get("terminated") or {}
    labels = task_run["metadata"].get("labels") or {}
    told = next((r["value"] for r in (task_run.get("status") or {}).get("results") or () if r["name"] == "summary"), "")
    return Culprit(
        index=order.index(name) if name in order else 0,
        task=labels.get("tekton.dev/pipelineTask", name),
        step=str(step.get("name", "")),
        reason=str(condition.get("reason", "")),
        step_reason=str(terminated.get("reason", "")),
        exit_code=terminated.get("exitCode"),
        message=told if isinstance(told, str) and told else str(condition.get("message", "")),
    )


def _failed_step(task_run: Object) -> Object:
    for step in (task_run.get("status") or {}).get("steps") or ():
        ended = step.get("terminated") or {}
        if ended.get("exitCode", 0) != 0 and step.get("terminationReason") not in ("Skipped", "Continued"):
            return step  # type: ignore[no-any-return]
    return {}


def reason_of(condition: Object, culprit: Culprit) -> Reason:
    if condition.get("reason") == "PipelineRunTimeout" or culprit.reason == "TaskRunTimeout":
        return Reason.DEADLINE_EXCEEDED
    if culprit.step_reason == "OOMKilled":
        return Reason.OOM_KILLED
    for told in (culprit.reason, str(condition.get("reason", ""))):
        if told in _BY_REASON:
            return _BY_REASON[told]
    match culprit.exit_code:
        case 137:
            return Reason.OOM_KILLED
        case 126 | 127:
            return Reason.CONFIGURATION_ERROR
        case int():
            words = culprit.message.lower()
            return Reason.FORBIDDEN if any(w in words for w in _BY_WORDS[2][1]) else Reason.TASK_FAILED
    words = f"{condition.get('reason', '')} {condition.get('message', '')} {culprit.message}".lower()
    for reason, needles in _BY_WORDS:
        if any(needle in words for needle in needles):
            return reason
    return Reason.TASK_FAILED if "task" in words and "failed" in words else Reason.UNKNOWN


def _was_executed(run: Object, reason: Reason) -> bool:
    status = run.get("status") or {}
    if status.get("startTime"):
        return reason not in NOT_EXECUTED
    return bool(status.get("childReferences")) or reason in _EXECUTED


def _sentence(
    execution: WorkflowExecution, culprit: Culprit, reason: Reason, message: str, took: str, *, executed: bool
) -> str:
    ref = execution.spec.workflow_ref
    workflow = f"{ref.workflow_name or ref.workflow_id} {ref.version}".strip()
    where = f" in task {culprit.task}" if culprit.task else ""
    where += f", step {culprit.step}" if culprit.step else ""
    code = f" with exit code {culprit.exit_code}" if culprit.exit_code is not None else ""
    after = f" after {took}" if took else ""
    began = "it had begun to act" if executed else "nothing was executed"
    told = message.strip().rstrip(".")[:1000]
    return (
        f"Workflow {workflow} on {execution.spec.target_resource} failed{where}{code}{after}: {reason}; {began}. "
        f"{told}. {_NEXT[reason]}"
    )
