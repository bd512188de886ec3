"""One TaskRun from its start to its end: claim, attempts, retries, and a status that survives the runner's death.

The claim is a conditional write of ``status.startTime`` before anything is started, so no step is ever run twice
silently. The outcome is written to disk before it is told to the API server: a runner that dies between the two tells it
after its restart. A TaskRun that was claimed and has neither ended nor left an outcome is lost (``TaskRunLost``): how far
its step came is unknown, and it is tried again only if it declares retries.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import structlog

from kubernaut_ray.clock import Clock, parse_duration, rfc3339
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import ApiError, Conflict, NotFound
from kubernaut_ray.kube.patience import patient
from kubernaut_ray.kube.pipelines.attempt import Attempt, Outcome, Scratch, interrupted
from kubernaut_ray.kube.pipelines.binding import LABEL_RUN, bind_params
from kubernaut_ray.kube.pipelines.conditions import Reason, condition, done, succeeded
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.process import CannotStart, kill_orphans
from kubernaut_ray.kube.pipelines.resolve import Resolver
from kubernaut_ray.kube.pipelines.spec import ParamValue, TaskSpec, read_task
from kubernaut_ray.kube.resources import CONFIG_MAP, SECRET, TASK_RUN

DEFAULT_TIMEOUT = 3600.0
LOST = "the pipeline runner stopped while this step was running; how far the step came is unknown"
_log = structlog.get_logger(__name__)


class TaskRunner:
    """Runs TaskRuns. One instance per runner process; ``run`` is called once for each TaskRun that is not done."""

    def __init__(
        self, client: KubeClient, resolver: Resolver, cluster: Cluster, data_dir: Path, clock: Clock, slots: int
    ) -> None:
        self._client = client
        self._resolver = resolver
        self._cluster = cluster
        self._scratch = data_dir / "pipelines"
        self._logs = data_dir / "logs"
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)

    async def run(self, task_run: Object, cancelled: asyncio.Event, draining: Callable[[], bool]) -> None:
        """Take a TaskRun to its end, or return when it vanished, or before an attempt when the runner is draining."""
        metadata = task_run["metadata"]
        log = _log.bind(task_run=metadata["name"], run=metadata.get("labels", {}).get(LABEL_RUN, ""))
        try:
            # What woke the caller may be older than the last write of a former attempt: the API server knows.
            task_run = await self._current(task_run)
            if done(task_run):
                return
            if started := (task_run.get("status") or {}).get("startTime"):
                log.warning("task.found_started", started=started)
                task_run = await self._after_death(task_run)
            while not done(task_run) and not draining():
                async with self._slots:
                    task_run = await self._attempt(task_run, cancelled)
        except NotFound:
            log.info("task.gone")
        else:
            log.info("task.ended", reason=(succeeded(task_run) or {}).get("reason", ""))
        if done(task_run):
            await asyncio.to_thread(shutil.rmtree, self._scratch / metadata["uid"], ignore_errors=True)

    async def _after_death(self, task_run: Object) -> Object:
        """Settle a TaskRun that a former runner had claimed."""
        uid = task_run["metadata"]["uid"]
        await asyncio.to_thread(kill_orphans, uid)
        with suppress(OSError, orjson.JSONDecodeError):
            told = orjson.loads((self._scratch / uid / "outcome.json").read_bytes())
            if told.pop("attempt") == len((task_run.get("status") or {}).get("retriesStatus") or ()):
                return await self._finish(task_run, Outcome(**told))
        status = task_run.get("status") or {}
        spec = None
        with suppress(InvalidInput):
            spec = read_task(status.get("taskSpec"))
        known = [s for s in status.get("steps") or () if "terminated" in s]
        steps = interrupted(known, spec, "Lost", LOST)
        return await self._finish(task_run, Outcome(False, Reason.TASK_LOST, LOST, steps))

    async def _attempt(self, task_run: Object, cancelled: asyncio.Event) -> Object:
        metadata = task_run["metadata"]
        if cancelled.is_set():
            return await self._finish(task_run, self._cancelled(task_run, None))
        try:
            resolved = await self._resolver.task(task_run["spec"], metadata["namespace"])
            spec = read_task(resolved.spec)
            variables = self._variables(task_run, spec, resolved.name)
        except InvalidInput as error:
            return await self._finish(task_run, Outcome(False, Reason.TASK_INVALID, str(error), []))
        try:
            task_run = await self._claim(task_run, resolved.spec)
        except Conflict:
            return await self._client.get(TASK_RUN, metadata["name"], metadata["namespace"])
        steps: list[dict[str, Any]] = []
        runner = asyncio.create_task(self._steps(task_run, spec, variables, steps))
        stopper = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.wait((runner, stopper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopper.cancel()
            if not runner.done():
                runner.cancel()
                await asyncio.wait((runner,))
        outcome = self._cancelled(task_run, spec, steps) if runner.cancelled() else runner.result()
        self._remember(task_run, outcome)
        return await self._finish(task_run, outcome)

    async def _steps(
        self, task_run: Object, spec: TaskSpec, variables: Mapping[str, ParamValue], steps: list[dict[str, Any]]
    ) -> Outcome:
        metadata = task_run["metadata"]
        attempt = len((task_run.get("status") or {}).get("retriesStatus") or ())
        scratch = Scratch(self._scratch / metadata["uid"] / str(attempt))
        scratch.root.mkdir(parents=True, exist_ok=True)
        timeout = _timeout(task_run)
        account = task_run["spec"].get("serviceAccountName") or "default"
        try:
            token = await self._client.service_account_token(
                metadata["namespace"], account, expiration_seconds=int(min(86_400, max(600, (timeout or 86_400) + 300)))
            )
        except ApiError as error:
            message = f'failed to create task run pod "{metadata["name"]}-pod": serviceaccount {account}: {error}'
            return Outcome(False, Reason.POD_CREATION_FAILED, message, [])
        self._cluster.write(scratch.kubeconfig, token=token, namespace=metadata["namespace"])

        async def report(states: list[dict[str, Any]]) -> None:
            steps[:] = states
            await self._write(task_run, {"steps": states})

        async def environment(source: Mapping[str, Any]) -> str:
            return await self._value_from(source, metadata["namespace"])

        owner = metadata.get("labels", {}).get(LABEL_RUN, metadata["name"])
        logs = self._logs / owner / metadata["name"]
        if attempt == 0 and logs.is_dir():
            # A PipelineRun's name is its target's lock and returns; the output of the run before is kept once.
            await asyncio.to_thread(_rotate, logs)
        return await Attempt(
            metadata["uid"], spec, variables, scratch, logs,
            environment=environment, report=report, timeout=timeout, suffix=f"-retry{attempt}" if attempt else "",
        ).run()  # fmt: skip

    async def _claim(self, task_run: Object, spec: Mapping[str, Any]) -> Object:
        """Write that this TaskRun has started, on the very version that was read. Raises ``Conflict`` when it moved on."""
        now = self._clock()
        status = {
            "startTime": rfc3339(now),
            "podName": "",
            "taskSpec": spec,
            "steps": None,
            "conditions": condition(
                succeeded(task_run), None, Reason.RUNNING, "Not all Steps in the Task have finished executing", now
            ),
        }
        metadata = task_run["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
        return await patient(
            lambda: self._client.patch(TASK_RUN, metadata["name"], patch, metadata["namespace"], subresource="status")
        )

    async def _finish(self, task_run: Object, outcome: Outcome) -> Object:
        """Write the outcome, or, where retries are left, the readiness for another attempt."""
        now = self._clock()
        old = task_run.get("status") or {}
        retries = old.get("retriesStatus") or []
        final = {
            "steps": outcome.steps,
            "results": outcome.results,
            "completionTime": rfc3339(now),
            "startTime": old.get("startTime") or rfc3339(now),
            "podName": "",
            "conditions": condition(succeeded(task_run), outcome.ok, outcome.reason, outcome.message, now),
        }
        again = not outcome.ok and outcome.reason not in (Reason.TASK_CANCELLED, Reason.TASK_INVALID)
        if again and len(retries) < int(task_run["spec"].get("retries") or 0):
            return await self._write(
                task_run,
                {
                    "startTime": None,
                    "completionTime": None,
                    "steps": None,
                    "results": None,
                    "retriesStatus": [*retries, final],
                    "conditions": condition(succeeded(task_run), None, Reason.TO_BE_RETRIED, outcome.message, now),
                },
            )
        return await self._write(task_run, final)

    async def _write(self, task_run: Object, status: Mapping[str, Any]) -> Object:
        """Patch the status, for as long as it takes. Raises ``NotFound`` when the TaskRun is gone or is another one now."""
        metadata = task_run["metadata"]

        async def attempt() -> Object:
            current = await self._read(task_run)
            if done(current):
                return current
            patch = {"metadata": {"resourceVersion": current["metadata"]["resourceVersion"]}, "status": status}
            return await self._client.patch(
                TASK_RUN, metadata["name"], patch, metadata["namespace"], subresource="status"
            )

        return await patient(attempt, conflicts=True)

    async def _current(self, task_run: Object) -> Object:
        return await patient(lambda: self._read(task_run))

    async def _read(self, task_run: Object) -> Object:
        """Read the TaskRun again. Raises ``NotFound`` when another one has its name now."""
        metadata = task_run["metadata"]
        current = await self._client.get(TASK_RUN, metadata["name"], metadata["namespace"])
        if current["metadata"]["uid"] != metadata["uid"]:
            raise NotFound(f"TaskRun {metadata['name']} is another one now", status=404, reason="NotFound")
        return current

    def _remember(self, task_run: Object, outcome: Outcome) -> None:
        """Keep the outcome on disk until it is told."""
        attempt = len((task_run.get("status") or {}).get("retriesStatus") or ())
        path = self._scratch / task_run["metadata"]["uid"] / "outcome.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(orjson.dumps({**_outcome_fields(outcome), "attempt": attempt}))
        temporary.replace(path)

    def _cancelled(self, task_run: Object, spec: TaskSpec | None, steps: list[dict[str, Any]] | None = None) -> Outcome:
        why = task_run["spec"].get("statusMessage") or ""
        message = f'TaskRun "{task_run["metadata"]["name"]}" was cancelled. {why}'.strip()
        return Outcome(False, Reason.TASK_CANCELLED, message, interrupted(steps or [], spec, "Cancelled", message))

    def _variables(self, task_run: Object, spec: TaskSpec, name: str) -> dict[str, ParamValue]:
        metadata = task_run["metadata"]
        retry = len((task_run.get("status") or {}).get("retriesStatus") or ())
        return {
            **bind_params(spec.params, task_run["spec"].get("params"), f"TaskRun {metadata['name']}"),
            "context.taskRun.name": metadata["name"],
            "context.taskRun.namespace": metadata["namespace"],
            "context.taskRun.uid": metadata["uid"],
            "context.task.name": name,
            "context.task.retry-count": str(retry),
        }

    async def _value_from(self, source: Mapping[str, Any], namespace: str) -> str:
        for key, resource in (("secretKeyRef", SECRET), ("configMapKeyRef", CONFIG_MAP)):
            ref = source.get(key)
            if isinstance(ref, Mapping):
                return await self._key_of(resource, str(ref.get("name")), str(ref.get("key")), namespace)
        raise CannotStart(f"env valueFrom {', '.join(source)}: only secretKeyRef and configMapKeyRef are done here")

    async def _key_of(self, resource: Any, name: str, key: str, namespace: str) -> str:
        try:
            data = (await self._client.get(resource, name, namespace)).get("data") or {}
            value = data[key]
        except (KeyError, ApiError) as error:
            raise CannotStart(f"env from {resource.kind} {name}, key {key}: {type(error).__name__}") from error
        return base64.b64decode(value).decode() if resource is SECRET else str(value)


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in ("ok", "reason", "message", "steps", "results")}


def _timeout(task_run: Object) -> float | None:
    """Return the seconds one attempt may take; ``None`` without a limit."""
    given = task_run["spec"].get("timeout")
    seconds = DEFAULT_TIMEOUT if given is None else 0.0 if given == "0" else parse_duration(given).total_seconds()
    return seconds or None


def _rotate(logs: Path) -> None:
    before = logs.with_name(f"{logs.name}.previous")
    shutil.rmtree(before, ignore_errors=True)
    logs.rename(before)
