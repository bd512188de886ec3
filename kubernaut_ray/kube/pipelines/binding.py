"""Binding a run's params, context and workspaces to its spec, and building the TaskRuns of a PipelineRun.

Everything here is pure; what does not fit raises ``InvalidInput`` with Tekton's reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.conditions import Reason
from kubernaut_ray.kube.pipelines.spec import Param, ParamSpec, ParamValue, PipelineSpec, PipelineTask, kind_of
from kubernaut_ray.kube.pipelines.variables import result_references, substitute
from kubernaut_ray.names import LABEL_MANAGED_BY

LABEL_RUN = "tekton.dev/pipelineRun"
LABEL_RUN_UID = "tekton.dev/pipelineRunUID"
LABEL_TASK = "tekton.dev/pipelineTask"
LABEL_MEMBER_OF = "tekton.dev/memberOf"
LABEL_PIPELINE = "tekton.dev/pipeline"
MAX_NAME = 63


def bind_params(specs: Iterable[ParamSpec], given: Any, what: str) -> dict[str, ParamValue]:
    """Return ``params.X`` for every declared param. Params that nobody declared are passed through, as Tekton does.

    Raises ``InvalidInput`` with reason ParameterMissing, ParameterTypeMismatch or InvalidParamValue.
    """
    values = {p.name: p.value for p in map(Param.model_validate, given or ())}
    declared = {s.name: s for s in specs}
    missing = [s.name for s in declared.values() if s.name not in values and s.default is None]
    if missing:
        raise InvalidInput(
            f"{what} is missing some parameters: {', '.join(missing)}; they have no default values",
            reason=Reason.PARAMETER_MISSING,
        )
    bound = {**{s.name: s.default for s in declared.values() if s.default is not None}, **values}
    for name, value in bound.items():
        spec = declared.get(name)
        if spec and spec.kind != kind_of(value):
            raise InvalidInput(
                f"{what}: parameter {name} is of type {spec.kind}, but the value given is of type {kind_of(value)}",
                reason=Reason.PARAMETER_TYPE,
            )
        if spec and spec.enum and value not in spec.enum:
            raise InvalidInput(
                f"{what}: parameter {name} must be one of {', '.join(spec.enum)}, got {value!r}",
                reason=Reason.INVALID_PARAM_VALUE,
            )
    return {f"params.{name}": value for name, value in bound.items()}


def run_variables(run: Mapping[str, Any], pipeline_name: str, params: dict[str, ParamValue]) -> dict[str, ParamValue]:
    """Return the params and the context of a PipelineRun."""
    metadata = run["metadata"]
    return {
        **params,
        "context.pipelineRun.name": metadata["name"],
        "context.pipelineRun.namespace": metadata["namespace"],
        "context.pipelineRun.uid": metadata["uid"],
        "context.pipeline.name": pipeline_name,
    }


def check_workspaces(spec: PipelineSpec, run: Mapping[str, Any]) -> None:
    """Raise ``InvalidInput`` when a workspace is missing or is bound to more than an ``emptyDir``."""
    bound = {w.get("name"): w for w in run["spec"].get("workspaces") or ()}
    for workspace in spec.workspaces:
        if workspace.name not in bound and not workspace.optional:
            raise InvalidInput(
                f"pipeline requires workspace with name {workspace.name!r} be provided by pipelinerun",
                reason=Reason.INVALID_WORKSPACES,
            )
    for name, workspace in bound.items():
        if "emptyDir" not in workspace:
            raise InvalidInput(
                f"workspace {name!r}: the embedded runner binds emptyDir only; run this on a cluster with Tekton",
                reason=Reason.INVALID_WORKSPACES,
            )


def child_name(run_name: str, task_name: str) -> str:
    """Name a TaskRun; over-long names end in a hash of the whole."""
    name = f"{run_name}-{task_name}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: MAX_NAME - 11].rstrip('-.')}-{digest}"


def task_run(
    run: Mapping[str, Any], spec: PipelineSpec, task: PipelineTask, variables: Mapping[str, ParamValue], pipeline: str
) -> dict[str, Any]:
    """Build the TaskRun of one pipeline task, owned by its PipelineRun."""
    metadata = run["metadata"]
    known = {**variables, "context.pipelineTask.retries": str(task.retries)}
    body: dict[str, Any] = {
        "params": [{"name": p.name, "value": substitute(p.value, known)} for p in task.params],
        "serviceAccountName": service_account(run, task.name),
    }
    if task.task_spec is not None:
        shadowed = {f"params.{p.name}" for p in task.params}
        shadowed |= {f"params.{p.get('name')}" for p in task.task_spec.get("params") or ()}
        propagated = {k: v for k, v in known.items() if k not in shadowed}
        body["taskSpec"] = substitute(task.task_spec, propagated)
    elif task.task_ref is not None:
        body["taskRef"] = substitute(task.task_ref.model_dump(by_alias=True, exclude_defaults=True), known)
    if task.retries:
        body["retries"] = task.retries
    if task.timeout is not None:
        body["timeout"] = f"{task.timeout:g}s"
    bound = {w["name"]: w for w in run["spec"].get("workspaces") or ()}
    if uses := [(w.name, bound.get(w.workspace or w.name)) for w in task.workspaces]:
        body["workspaces"] = [{**binding, "name": name} for name, binding in uses if binding]
    member = "finally" if task in spec.finally_ else "tasks"
    labels = {
        **(metadata.get("labels") or {}),
        LABEL_RUN: metadata["name"],
        LABEL_RUN_UID: metadata["uid"],
        LABEL_TASK: task.name,
        LABEL_MEMBER_OF: member,
        LABEL_PIPELINE: pipeline or metadata["name"],
        LABEL_MANAGED_BY: "kubernaut-ray",
    }
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "TaskRun",
        "metadata": {
            "name": child_name(metadata["name"], task.name),
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [
                {
                    "apiVersion": "tekton.dev/v1",
                    "kind": "PipelineRun",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": body,
    }


def service_account(run: Mapping[str, Any], task_name: str) -> str:
    """Return the service account of a task: its own in ``taskRunSpecs``, or the run's, or ``default``."""
    for entry in run["spec"].get("taskRunSpecs") or ():
        if entry.get("pipelineTaskName") == task_name and entry.get("serviceAccountName"):
            return str(entry["serviceAccountName"])
    template = run["spec"].get("taskRunTemplate") or {}
    return str(template.get("serviceAccountName") or "default")


def pipeline_results(
    spec: PipelineSpec, variables: Mapping[str, ParamValue], unfinished: frozenset[str]
) -> list[dict[str, Any]]:
    """Return ``status.results``. Results of tasks in ``unfinished`` (skipped or failed) are left out.

    Raises ``InvalidInput`` (reason CouldntGetPipelineResult) when a task that succeeded did not write what is asked for.
    """
    results, missing = [], []
    for result in spec.results:
        references = list(result_references(result.value))
        if any(task in unfinished for task, _ in references):
            continue
        if any(f"tasks.{task}.results.{name.partition('.')[0]}" not in variables for task, name in references):
            missing.append(result.name)
        else:
            results.append({"name": result.name, "value": substitute(result.value, variables)})
    if missing:
        raise InvalidInput(
            f"invalid pipelineresults {missing}, the referenced results don't exist", reason=Reason.COULDNT_GET_RESULT
        )
    return results
