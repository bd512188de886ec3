"""What Tekton's v1 admission webhook and the Kubernetes API have against an object, as far as we make such objects.

The rules are those of tektoncd/pipeline ``pkg/apis/pipeline/v1/pipelinerun_validation.go`` and ``pipelineref_validation.go``,
and of Kubernetes' object metadata.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from kubernaut_ray.clock import parse_duration

_SPEC = {"pipelineRef", "pipelineSpec", "params", "status", "timeouts", "taskRunTemplate", "workspaces", "taskRunSpecs"}
_TIMEOUTS = {"pipeline", "tasks", "finally"}
_STATUS = {"", "Cancelled", "CancelledRunFinally", "StoppedRunFinally", "PipelineRunPending"}
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_NAME_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESULT = re.compile(r"\$\((tasks|finally)\.[^)]*\.(results|outputs)\.")


def metadata_problems(obj: Mapping[str, Any]) -> Iterator[str]:
    meta = obj["metadata"]
    if len(meta["name"]) > 63 or not _DNS_LABEL.fullmatch(meta["name"]):
        yield f"metadata.name {meta['name']!r}"
    for key, value in (meta.get("labels") or {}).items():
        yield from _key_problems(key)
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield f"label {key}: {value!r}"
    notes = meta.get("annotations") or {}
    for key in notes:
        yield from _key_problems(key)
    if sum(len(k.encode()) + len(v.encode()) for k, v in notes.items()) > 256 * 1024:
        yield "annotations are larger than 256 KiB"


def pipeline_run_problems(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield why Tekton would refuse a PipelineRun that is created."""
    yield from metadata_problems(run)
    spec = run["spec"]
    if (run["apiVersion"], run["kind"]) != ("tekton.dev/v1", "PipelineRun"):
        yield "not a v1 PipelineRun"
    if unknown := set(spec) - _SPEC:
        yield f"no such field in v1: {unknown}"
    if ("pipelineRef" in spec) == ("pipelineSpec" in spec):
        yield "exactly one of pipelineRef and pipelineSpec"
    ref = spec.get("pipelineRef") or {}
    if ref.get("resolver") and (ref.get("name") or ref.get("bundle")):
        yield "a resolver goes without a name and without a bundle"
    if ref.get("params") and not ref.get("resolver"):
        yield "params go with a resolver"
    for where, params in (("pipelineRef", ref.get("params") or ()), ("spec", spec.get("params") or ())):
        yield from _param_problems(where, params)
    if spec.get("status", "") not in _STATUS:
        yield f"status {spec['status']!r}"
    yield from _timeout_problems(spec.get("timeouts") or {})


def job_problems(job: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes a Job run more than once, or for ever, or under names that no pod can have."""
    yield from metadata_problems(job)
    spec = job["spec"]
    if (job["apiVersion"], job["kind"]) != ("batch/v1", "Job"):
        yield "not a v1 Job"
    if spec["backoffLimit"] != 0 or spec["template"]["spec"]["restartPolicy"] != "Never":
        yield "it would be tried again"
    if not isinstance(spec["activeDeadlineSeconds"], int) or spec["activeDeadlineSeconds"] < 1:
        yield "activeDeadlineSeconds must be a whole number of at least 1"
    yield from metadata_problems({"metadata": {**spec["template"]["metadata"], "name": "pod"}})
    for container in spec["template"]["spec"]["containers"]:
        variables = Counter(v["name"] for v in container["env"])
        yield from (f"env {name} is there {n} times" for name, n in variables.items() if n > 1)
        yield from (f"env {name}" for name in variables if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name))


def _key_problems(key: str) -> Iterator[str]:
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not _NAME_PART.fullmatch(name) or (slash and (not prefix or len(prefix) > 253)):
        yield f"key {key!r}"


def _param_problems(where: str, params: Any) -> Iterator[str]:
    names = Counter(p["name"] for p in params)
    yield from (f"{where}: param {name} is there {n} times" for name, n in names.items() if n > 1)
    for param in params:
        if (
            not _PARAM.fullmatch(param["name"])
            or set(param) != {"name", "value"}
            or not isinstance(param["value"], str)
        ):
            yield f"{where}: param {param}"
        elif where == "spec" and _RESULT.search(param["value"]):
            yield f"{where}: param {param['name']} refers to a task's result"


def _timeout_problems(timeouts: Mapping[str, str]) -> Iterator[str]:
    if unknown := set(timeouts) - _TIMEOUTS:
        yield f"timeouts: {unknown}"
    times = {key: parse_duration(text) for key, text in timeouts.items()}
    yield from (f"timeouts.{key} is negative" for key, time in times.items() if time < timedelta(0))
    whole = times.get("pipeline", timedelta(hours=1))
    parts = [times[key] for key in ("tasks", "finally") if key in times]
    if whole and (sum(parts, timedelta(0)) > whole or timedelta(0) in parts):
        yield "timeouts: tasks and finally together take longer than the pipeline may"
