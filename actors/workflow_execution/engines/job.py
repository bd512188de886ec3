"""The engine ``job``: one ``batch/v1`` Job of one container, for clusters without Tekton and workflows that are one image.

Parameters (with the schema's defaults), ``TARGET_RESOURCE`` and ``EXECUTION_ID`` are environment variables. What the program
writes to the file that ``RESULT_SUMMARY`` names, which is the container's termination message, is its result: a JSON object
of texts, or one text. A Job is never retried by its controller: a pod that is lost is a failure, not a reason for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from actors.workflow_execution import marks, outcome
from actors.workflow_execution.engines.seam import State
from actors.workflow_execution.outcome import MAX_RESULT, MAX_RESULTS, Culprit
from catalog import job as schema
from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.control.decision import Key, Patch
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.workflow_execution import ExecutionFailureDetails, PipelineRunSummary, WorkflowExecution
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import ExecutionSettings

CONTAINER = "workflow"
TERMINATION_LOG = "/dev/termination-log"
HELD = f"{names.GROUP}/held"
"""On a Job that was never let go; a Job is suspended to be stopped too."""
JOB_NAME = "batch.kubernetes.io/job-name"
STUCK_AFTER = timedelta(minutes=2)
"""An image that cannot be had for so long is not waited for: the time is the target's."""
_STUCK = {
    "ImagePullBackOff": Reason.IMAGE_PULL_BACK_OFF,
    "ErrImagePull": Reason.IMAGE_PULL_BACK_OFF,
    "InvalidImageName": Reason.IMAGE_PULL_BACK_OFF,
    "ErrImageNeverPull": Reason.IMAGE_PULL_BACK_OFF,
    "CreateContainerConfigError": Reason.CONFIGURATION_ERROR,
    "CreateContainerError": Reason.CONFIGURATION_ERROR,
}
_AT_ONCE = ("InvalidImageName", "ErrImageNeverPull")
_CANNOT_RUN = ("ContainerCannotRun", "StartError")


class JobEngine:
    """See ``seam.Engine``."""

    resource: Resource = resources.JOB
    word: str = "Job"

    def problems(self, execution: WorkflowExecution, workflow: Workflow) -> Iterator[str]:
        try:
            schema.job_config(workflow)
        except InvalidInput as error:
            yield str(error)
        yield from (schema.taken(name) for name in execution.spec.parameters if schema.is_taken(name))

    def build(
        self, execution: WorkflowExecution, workflow: Workflow, settings: ExecutionSettings, now: datetime
    ) -> dict[str, Any]:
        spec, config = execution.spec, schema.job_config(workflow)
        given = schema.values(workflow, spec.parameters)
        environment = dict(sorted(given.items())) | {
            marks.TARGET_PARAMETER: spec.target_resource,
            "EXECUTION_ID": execution.uid,
            "RESULT_SUMMARY": TERMINATION_LOG,
        }
        container: dict[str, Any] = {
            "name": CONTAINER,
            "image": config.image or pinned(spec.workflow_ref),
            # A value is a value: the kubelet would expand $(NAME) in it, and make one of two dollars.
            "env": [{"name": name, "value": value.replace("$", "$$")} for name, value in environment.items()],
            "terminationMessagePath": TERMINATION_LOG,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        container |= {"command": list(config.command)} if config.command else {}
        container |= {"args": list(config.args)} if config.args else {}
        sized = {k: v for k, v in config.resources.model_dump().items() if v}
        container |= {"resources": sized} if sized else {}
        metadata = marks.metadata(execution, settings.namespace)
        kept = (names.LABEL_WORKFLOW_EXECUTION, names.LABEL_REMEDIATION, names.LABEL_MANAGED_BY)
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**metadata, "annotations": {**metadata["annotations"], HELD: "true"}},
            "spec": {
                "suspend": True,
                "backoffLimit": 0,
                "activeDeadlineSeconds": marks.seconds_allowed(execution, now),
                # Without it a pod that is being deleted would be replaced before it had failed: the work done twice.
                "podReplacementPolicy": "Failed",
                "template": {
                    "metadata": {"labels": {k: metadata["labels"][k] for k in kept if k in metadata["labels"]}},
                    "spec": {
                        "restartPolicy": "Never",
                        "serviceAccountName": spec.execution_config.service_account_name or settings.service_account,
                        "containers": [container],
                    },
                },
            },
        }

    def held(self, run: Mapping[str, Any]) -> bool:
        suspended = bool((run.get("spec") or {}).get("suspend"))
        return suspended and HELD in (run["metadata"].get("annotations") or {})

    def let_go(self, run: Mapping[str, Any]) -> Patch:
        return _patch(run, {"metadata": {"annotations": {HELD: None}}, "spec": {"suspend": False}})

    async def parts(self, client: KubeClient, run: Object) -> tuple[Object, ...]:
        meta = run["metadata"]
        listed = await client.list(resources.POD, meta["namespace"], labels=f"{JOB_NAME}={meta['name']}")
        return tuple(
            p for p in listed.items if any(o["uid"] == meta["uid"] for o in p["metadata"].get("ownerReferences") or ())
        )

    def state(self, run: Mapping[str, Any], parts: Sequence[Object], now: datetime) -> State:
        if _condition(run, "Complete"):
            return State.SUCCEEDED
        return State.FAILED if _condition(run, "Failed") or _stuck(parts, now) else State.RUNNING

    def is_over(self, run: Mapping[str, Any]) -> bool:
        suspended = (run.get("spec") or {}).get("suspend") and not (run.get("status") or {}).get("active")
        stopped = suspended and not self.held(run)
        return bool(_condition(run, "Complete") or _condition(run, "Failed") or stopped)

    def started(self, run: Mapping[str, Any]) -> datetime | None:
        return marks.instant(run, "startTime")

    def ended(self, run: Mapping[str, Any]) -> datetime | None:
        """A failed Job has no completion time: its condition says when."""
        last = _condition(run, "Complete") or _condition(run, "Failed") or _condition(run, "Suspended") or {}
        return marks.instant(run, "completionTime") or marks.parsed(last.get("lastTransitionTime"))

    def summary(self, run: Mapping[str, Any], parts: Sequence[Object]) -> PipelineRunSummary:
        complete, failed = _condition(run, "Complete"), _condition(run, "Failed")
        last = complete or failed or {}
        waiting = next((w for pod in parts if (w := _waiting(pod))), {})
        return PipelineRunSummary(
            status="True" if complete else "False" if failed else "Unknown",
            reason=str(last.get("reason") or waiting.get("reason") or ("Complete" if complete else "Running"))[:1024],
            message=redact(str(last.get("message") or waiting.get("message") or ""))[:32768],
            completed_tasks=1 if complete else 0,
            total_tasks=1,
        )

    def results(self, run: Mapping[str, Any], parts: Sequence[Object]) -> dict[str, str]:  # noqa: ARG002
        told = next((t["message"] for pod in parts if (t := _terminated(pod)).get("message")), "")
        if not told.strip():
            return {}
        try:
            found = orjson.loads(told)
        except orjson.JSONDecodeError:
            found = None
        values = found if isinstance(found, dict) else {"summary": told.strip()}
        texts = {str(k)[:253]: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in values.items()}
        return {name: redact(text)[:MAX_RESULT] for name, text in list(texts.items())[:MAX_RESULTS]}

    def failure(
        self, execution: WorkflowExecution, run: Mapping[str, Any], parts: Sequence[Object], now: datetime
    ) -> ExecutionFailureDetails:
        condition = _condition(run, "Failed") or {}
        pod = next((p for p in parts if _terminated(p).get("exitCode")), None)
        terminated = _terminated(pod) if pod else {}
        stuck = _stuck(parts, now) if not condition else None
        message = self.results(run, [pod] if pod else []).get("summary") or str(terminated.get("message") or "")
        culprit = Culprit(
            task="job" if pod or stuck else "",
            step=CONTAINER if pod or stuck else "",
            reason=str(condition.get("reason", "")),
            step_reason=str(terminated.get("reason", "")),
            exit_code=terminated.get("exitCode"),
            message=message,
        )
        reason = _reason(condition, terminated, stuck) or outcome.reason_of(condition, culprit)
        told = message or str(
            (stuck or {}).get("message") or (stuck or {}).get("reason") or condition.get("message", "")
        )
        ran = bool(terminated.get("startedAt")) or any(_running(p) for p in parts)
        executed = (ran or (bool(self.started(run)) and not stuck)) and reason not in outcome.NOT_EXECUTED
        return outcome.details(
            execution, culprit, reason, told,
            began=self.started(run), ended=self.ended(run) or now, executed=executed,
        )  # fmt: skip

    def stop(self, run: Mapping[str, Any]) -> Patch:
        """A suspended Job's pods are deleted, and the Job stays as the target's lock."""
        return _patch(run, {"spec": {"suspend": True}})


def _patch(run: Mapping[str, Any], patch: Mapping[str, Any]) -> Patch:
    meta = run["metadata"]
    return Patch(resources.JOB, Key(meta["namespace"], meta["name"]), patch, resource_version=meta["resourceVersion"])


def _condition(run: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    conditions = (run.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == type_ and c.get("status") == "True"), None)


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((s.get("state") or {} for s in statuses if s.get("name") == CONTAINER), {})


def _terminated(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return _state(pod).get("terminated") or {}


def _running(pod: Mapping[str, Any]) -> bool:
    return "running" in _state(pod)


def _waiting(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return _state(pod).get("waiting") or {}


def _stuck(parts: Sequence[Object], now: datetime) -> Mapping[str, Any] | None:
    """Return why a pod's container will never start, if so."""
    for pod in parts:
        waiting = _waiting(pod)
        since = marks.parsed(pod["metadata"].get("creationTimestamp")) or now
        if waiting.get("reason") in _STUCK and (waiting["reason"] in _AT_ONCE or now - since >= STUCK_AFTER):
            return waiting
    return None


def _reason(
    condition: Mapping[str, Any], terminated: Mapping[str, Any], stuck: Mapping[str, Any] | None
) -> Reason | None:
    """Return what structured facts say; ``None`` leaves it to exit code and words."""
    if stuck:
        return _STUCK[str(stuck["reason"])]
    if condition.get("reason") == "DeadlineExceeded":
        return Reason.DEADLINE_EXCEEDED
    if terminated.get("reason") in _CANNOT_RUN:
        return Reason.CONFIGURATION_ERROR
    # The pod went away with its node, or by somebody's hand: nobody knows how far it came.
    return None if terminated else Reason.UNKNOWN if condition else None
