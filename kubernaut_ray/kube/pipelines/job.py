"""One Job from its start to its end, as the Job controller and a kubelet would: its pod is a child process of this host.

Only Jobs of workflow executions (``names.LABEL_WORKFLOW_EXECUTION``) of one container are run. The pod is an object like any
pod, with the container's state in its status, so whoever reads a Job's end reads it here as in a cluster. Creating the pod
is the claim: a pod that is there, has not ended and is not run by this process was lost with a runner before this one, and
is never started again. A Job that is suspended or deleted is killed. Images are not used; see ``process.py``.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from kubernaut_ray.clock import Clock, parse_rfc3339, rfc3339
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import ApiError, NotFound
from kubernaut_ray.kube.patience import patient
from kubernaut_ray.kube.pipelines import process
from kubernaut_ray.kube.pipelines.attempt import Scratch
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.process import CannotStart, Ended, kill_orphans
from kubernaut_ray.kube.pipelines.spec import TaskSpec
from kubernaut_ray.kube.resources import JOB, POD

LOST = "the pipeline runner stopped while this container was running; how far it came is unknown"
TERMINATION_LOG = "/dev/termination-log"
MAX_MESSAGE = 4096
START_ERROR = 128
"""What containerd answers for a program that cannot be started."""
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_][\w.-]*)\))")
_log = structlog.get_logger(__name__)


def over(job: Mapping[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def suspended(job: Mapping[str, Any]) -> bool:
    return bool(job["spec"].get("suspend"))


def settled(job: Mapping[str, Any]) -> bool:
    """Whether a suspended Job is known to have no pod any more."""
    status = job.get("status") or {}
    told = any(c.get("type") == "Suspended" and c.get("status") == "True" for c in status.get("conditions") or ())
    return suspended(job) and told and not status.get("active")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Expand ``$(NAME)`` as Kubernetes does: ``$$`` is one ``$``, and what names no variable stays as it is."""
    return _VARIABLE.sub(lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]), text)


class JobRunner:
    """Runs Jobs. One instance per runner process; ``run`` is called once for each Job that is not over."""

    def __init__(self, client: KubeClient, cluster: Cluster, data_dir: Path, clock: Clock, slots: int) -> None:
        self._client = client
        self._cluster = cluster
        self._scratch = data_dir / "pipelines"
        self._logs = data_dir / "logs"
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)

    async def run(self, job: Object, stopped: asyncio.Event, draining: Callable[[], bool]) -> None:
        """Take a Job to its end, or return when it is gone, or before its start when the runner is draining."""
        metadata = job["metadata"]
        log = _log.bind(job=metadata["name"])
        try:
            # What woke the caller may be older than the last write: the API server knows.
            job = await patient(lambda: self._read(job))
            pod = await self._pod_of(job)
            if over(job):
                return
            if suspended(job):
                await self._suspend(job, pod)
            elif pod is not None:
                await self._settle(job, pod)
            else:
                async with self._slots:
                    if not draining():
                        await self._start(job, stopped)
        except NotFound:
            log.info("job.gone")
        else:
            log.info("job.ended")
        await asyncio.to_thread(shutil.rmtree, self._scratch / metadata["uid"], ignore_errors=True)

    async def _start(self, job: Object, stopped: asyncio.Event) -> None:
        job = await patient(lambda: self._read(job))
        if suspended(job) or stopped.is_set():
            await self._suspend(job, None)
            return
        pod = await self._client.create(POD, _pod(job), job["metadata"]["namespace"])
        now = rfc3339(self._clock())
        status: dict[str, Any] = {"startTime": now, "active": 1, "ready": 1}
        if (job.get("status") or {}).get("conditions"):
            status["conditions"] = [self._condition("Suspended", "JobResumed", "Job resumed", status="False")]
        job = await self._write_job(job, status)
        await self._write_pod(pod, "Running", {"running": {"startedAt": now}})
        ending = asyncio.create_task(self._container(job, pod))
        stopper = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait((ending, stopper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopper.cancel()
            if not ending.done():
                ending.cancel()
                await asyncio.wait((ending,))
        if ending.cancelled():
            await self._suspend(job, pod)
            return
        state, timed_out = ending.result()
        await self._write_pod(pod, "Failed" if state["exitCode"] else "Succeeded", {"terminated": state})
        await self._finish(job, state["exitCode"], timed_out=timed_out)

    async def _container(self, job: Object, pod: Object) -> tuple[dict[str, Any], bool]:
        """Run the container's program; return its terminated state, and whether the Job's time was up."""
        began = rfc3339(self._clock())
        scratch = Scratch(self._scratch / job["metadata"]["uid"] / "job")
        message = scratch.root / "termination-log"
        try:
            ended = await self._program(job, pod, scratch, message)
        except CannotStart as error:
            state = {"exitCode": START_ERROR, "reason": "StartError", "message": str(error)}
            return {**state, "startedAt": began, "finishedAt": rfc3339(self._clock())}, False
        with suppress(OSError):
            told = message.read_bytes()[:MAX_MESSAGE].decode(errors="replace")
            if not told and ended.exit_code:
                told = ended.tail
        reason = "Completed" if ended.exit_code == 0 else "Error"
        state = {"exitCode": ended.exit_code, "reason": reason, "startedAt": began}
        return {**state, "finishedAt": rfc3339(self._clock()), **({"message": told} if told else {})}, ended.timed_out

    async def _program(self, job: Object, pod: Object, scratch: Scratch, message: Path) -> Ended:
        metadata, spec = job["metadata"], pod["spec"]
        if len(spec["containers"]) != 1 or spec.get("initContainers"):
            raise CannotStart("the embedded runner runs Jobs of exactly one container; run this on a cluster")
        container = spec["containers"][0]
        scratch.make(TaskSpec.model_validate({"steps": [{}]}))
        message.touch()
        await self._credentials(job, spec, scratch)
        variables: dict[str, str] = {}
        for variable in container.get("env") or ():
            if variable.get("valueFrom"):
                raise CannotStart(f"env {variable['name']}: valueFrom is not done by the embedded runner for Jobs")
            variables[variable["name"]] = expanded(variable.get("value") or "", variables).replace(
                TERMINATION_LOG, str(message)
            )
        words = [
            expanded(word, variables).replace(TERMINATION_LOG, str(message))
            for word in (*(container.get("command") or ()), *(container.get("args") or ()))
        ]
        if not container.get("command"):
            raise CannotStart(
                "it has no command, and the image's own entry point is not known here: set engine_config.command, "
                "or run it on a cluster"
            )
        env = {
            "PATH": process.host_path(),
            "HOME": str(scratch.home),
            "TMPDIR": str(scratch.tmp),
            "LANG": "C.UTF-8",
            "KUBECONFIG": str(scratch.kubeconfig),
            **variables,
            process.MARK: metadata["uid"],
        }
        logs = self._logs / metadata["name"]
        logs.mkdir(parents=True, exist_ok=True)
        limit = job["spec"].get("activeDeadlineSeconds")
        left: float | None = None
        if limit is not None:
            spent = self._clock() - parse_rfc3339(job["status"]["startTime"])
            left = max(0.05, float(limit) - spent.total_seconds())
        command = process.command_of(words, env["PATH"])
        log = logs / f"{pod['metadata']['name']}.log"
        return await process.run(command, env=env, cwd=scratch.work, log=log, timeout=left)

    async def _credentials(self, job: Object, spec: Mapping[str, Any], scratch: Scratch) -> None:
        namespace = job["metadata"]["namespace"]
        account = spec.get("serviceAccountName") or "default"
        limit = int(job["spec"].get("activeDeadlineSeconds") or 86_400)
        try:
            token = await self._client.service_account_token(
                namespace, account, expiration_seconds=min(86_400, max(600, limit + 300))
            )
        except ApiError as error:
            raise CannotStart(f"serviceaccount {account}: {error}") from error
        self._cluster.write(scratch.kubeconfig, token=token, namespace=namespace)

    async def _settle(self, job: Object, pod: Object) -> None:
        """Bring a Job to its end whose pod a former runner started."""
        await asyncio.to_thread(kill_orphans, job["metadata"]["uid"])
        state = _terminated(pod)
        if not state:
            state = {"exitCode": 255, "reason": "Lost", "message": LOST, "finishedAt": rfc3339(self._clock())}
            began = (pod.get("status") or {}).get("startTime") or pod["metadata"]["creationTimestamp"]
            await self._write_pod(pod, "Failed", {"terminated": {**state, "startedAt": began}})
        await self._finish(job, int(state["exitCode"]), timed_out=False)

    async def _suspend(self, job: Object, pod: Object | None) -> None:
        """A suspended Job has no pods."""
        if pod is not None:
            with suppress(NotFound):
                await self._client.delete(POD, pod["metadata"]["name"], pod["metadata"]["namespace"])
        condition = self._condition("Suspended", "JobSuspended", "Job suspended")
        await self._write_job(job, {"active": 0, "ready": 0, "conditions": [condition]})

    async def _finish(self, job: Object, exit_code: int, *, timed_out: bool) -> None:
        status: dict[str, Any] = {"active": 0, "ready": 0}
        if timed_out:
            condition = self._condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
            status |= {"failed": 1}
        elif exit_code:
            condition = self._condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            status |= {"failed": 1}
        else:
            condition = self._condition("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
            status |= {"succeeded": 1, "completionTime": rfc3339(self._clock())}
        await self._write_job(job, {**status, "conditions": [condition]})

    def _condition(self, type_: str, reason: str, message: str, *, status: str = "True") -> dict[str, Any]:
        now = rfc3339(self._clock())
        return {
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now,
        }  # fmt: skip

    async def _read(self, job: Object) -> Object:
        """Read the Job again. Raises ``NotFound`` when another one has its name now."""
        metadata = job["metadata"]
        current = await self._client.get(JOB, metadata["name"], metadata["namespace"])
        if current["metadata"]["uid"] != metadata["uid"]:
            raise NotFound(f"Job {metadata['name']} is another one now", status=404, reason="NotFound")
        return current

    async def _pod_of(self, job: Object) -> Object | None:
        metadata = job["metadata"]
        try:
            return await self._client.get(POD, _pod_name(job), metadata["namespace"])
        except NotFound:
            return None

    async def _write_job(self, job: Object, status: Mapping[str, Any]) -> Object:
        async def attempt() -> Object:
            await self._read(job)
            metadata = job["metadata"]
            return await self._client.patch(
                JOB, metadata["name"], {"status": status}, metadata["namespace"], subresource="status"
            )

        return await patient(attempt, conflicts=True)

    async def _write_pod(self, pod: Object, phase: str, state: Mapping[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        told = {
            "name": container["name"], "image": container.get("image", ""), "imageID": "", "restartCount": 0,
            "ready": phase == "Running", "state": {"running": None, **state},
        }  # fmt: skip
        status: dict[str, Any] = {"phase": phase, "containerStatuses": [told]}
        if phase == "Running":
            status["startTime"] = rfc3339(self._clock())
        metadata = pod["metadata"]
        await patient(
            lambda: self._client.patch(
                POD, metadata["name"], {"status": status}, metadata["namespace"], subresource="status"
            ),
            conflicts=True,
        )


def _pod_name(job: Mapping[str, Any]) -> str:
    return f"{job['metadata']['name']}-{job['metadata']['uid'][:8]}"


def _pod(job: Mapping[str, Any]) -> dict[str, Any]:
    metadata, template = job["metadata"], job["spec"]["template"]
    owner = {
        "apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    labels = (template.get("metadata") or {}).get("labels") or {}
    return {
        "metadata": {
            "name": _pod_name(job),
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": (template.get("metadata") or {}).get("annotations") or {},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def _terminated(pod: Mapping[str, Any]) -> dict[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((s["state"]["terminated"] for s in statuses if (s.get("state") or {}).get("terminated")), {})
