"""One look at a PipelineRun: read it and its TaskRuns, decide by ``progress.advance``, create, cancel, write the status.

Level-triggered: called whenever something about the run changed, and at the time it asked for. The spec is resolved once
and kept in ``status.pipelineSpec``, so a run goes on after a restart as it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from kubernaut_ray.clock import Clock, parse_rfc3339, rfc3339
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, NotFound
from kubernaut_ray.kube.patch import diff
from kubernaut_ray.kube.pipelines import binding, graph
from kubernaut_ray.kube.pipelines.conditions import Reason, condition, done, succeeded
from kubernaut_ray.kube.pipelines.progress import Advance, Run, State, advance, result_variables, state_of
from kubernaut_ray.kube.pipelines.resolve import Resolver
from kubernaut_ray.kube.pipelines.spec import PipelineSpec, read_pipeline, read_timeouts
from kubernaut_ray.kube.resources import PIPELINE_RUN, TASK_RUN

RESOLUTION_TIMEOUT = timedelta(minutes=1)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Looked:
    """What to do after a look: these TaskRuns are new or live, and when to look again at the latest."""

    task_runs: tuple[Object, ...] = ()
    wake_at: datetime | None = None


class PipelineReconciler:
    def __init__(self, client: KubeClient, resolver: Resolver, clock: Clock) -> None:
        self._client = client
        self._resolver = resolver
        self._clock = clock

    async def look(self, namespace: str, name: str) -> Looked:
        """Bring one PipelineRun a step further. Raises ``Retryable`` when it must be looked at again soon."""
        try:
            run = await self._client.get(PIPELINE_RUN, name, namespace)
        except NotFound:
            return Looked()
        now = self._clock()
        if done(run) or run["metadata"].get("deletionTimestamp"):
            return Looked()
        if run["spec"].get("status") == "PipelineRunPending":
            await self._write(run, {"conditions": condition(succeeded(run), None, Reason.PENDING, "", now)})
            return Looked()
        try:
            spec, status = await self._resolved(run, now)
            params = binding.bind_params(spec.params, run["spec"].get("params"), "the run")
            binding.check_workspaces(spec, run)
            graph.validate(spec)
            timeouts = read_timeouts(run["spec"].get("timeouts"))
        except InvalidInput as error:
            reason = error.reason if error.reason in set(Reason) else Reason.COULDNT_GET_PIPELINE
            what = (
                "Error retrieving pipeline for pipelinerun" if reason == Reason.COULDNT_GET_PIPELINE else "PipelineRun"
            )
            await self._fail(run, reason, f"{what} {namespace}/{name}: {error}", now)
            return Looked()
        pipeline_name = str((run["spec"].get("pipelineRef") or {}).get("name") or status.get("pipelineName") or "")
        task_runs = await self._task_runs(run)
        live = Run(
            name=name,
            spec=spec,
            variables=binding.run_variables(run, pipeline_name, params),
            timeouts=timeouts,
            requested=run["spec"].get("status") or "",
            started=parse_rfc3339(status["startTime"]),
            finally_started=_instant((run.get("status") or {}).get("finallyStartTime")),
            task_runs=task_runs,
        )
        move = advance(live, now)
        return await self._perform(run, live, move, status, task_runs, pipeline_name, now)

    async def _perform(
        self,
        run: Object,
        live: Run,
        move: Advance,
        status: dict[str, Any],
        task_runs: dict[str, Object],
        pipeline: str,
        now: datetime,
    ) -> Looked:
        for task in move.start:
            body = binding.task_run(run, live.spec, task, move.variables, pipeline)
            task_runs[task.name] = await self._create(run, body)
        for name in move.cancel:
            await self._cancel(task_runs[name], move.cancel_message)
        if move.start and not move.status:
            # The tally counts what has just been started.
            live = Run(**{f: getattr(live, f) for f in Run.__dataclass_fields__} | {"task_runs": task_runs})
            counted = advance(live, now)
            move.status, move.reason, move.message = counted.status, counted.reason, counted.message
        status |= self._status(run, live, move, task_runs, now)
        if move.status is not None:
            status["completionTime"] = rfc3339(now)
            try:
                results = self._results(live, move)
                status["results"] = results or None
            except InvalidInput as error:
                message = f"Failed to get PipelineResult from TaskRun Results for PipelineRun {live.name}: {error}"
                status["conditions"] = condition(succeeded(run), False, Reason.COULDNT_GET_RESULT, message, now)
        await self._write(run, status)
        if move.status is not None:
            _log.info("pipeline.ended", run=live.name, reason=status["conditions"][0]["reason"])
        return Looked(tuple(task_runs.values()), move.wake_at)

    async def _resolved(self, run: Object, now: datetime) -> tuple[PipelineSpec, dict[str, Any]]:
        """Return the spec, and the status fields that say where it came from. Resolves on the first look only."""
        old = run.get("status") or {}
        if isinstance(old.get("pipelineSpec"), dict) and old.get("startTime"):
            return read_pipeline(old["pipelineSpec"]), {"startTime": old["startTime"]}
        try:
            resolved = await self._resolver.pipeline(run["spec"], run["metadata"]["namespace"])
        except Retryable as error:
            if now - parse_rfc3339(run["metadata"]["creationTimestamp"]) > RESOLUTION_TIMEOUT:
                raise InvalidInput(f"resolution took longer than {RESOLUTION_TIMEOUT}: {error}") from error
            raise
        except Permanent as error:
            raise InvalidInput(str(error), reason=error.reason) from error
        status: dict[str, Any] = {"startTime": rfc3339(now), "pipelineSpec": resolved.spec}
        if resolved.provenance:
            status["provenance"] = resolved.provenance
        if resolved.name:
            status["pipelineName"] = resolved.name
        return read_pipeline(resolved.spec), status

    async def _task_runs(self, run: Object) -> dict[str, Object]:
        """Return this run's TaskRuns by pipeline task; those of an earlier run of the same name are not ours."""
        uid = run["metadata"]["uid"]
        found = await self._client.list(TASK_RUN, run["metadata"]["namespace"], labels=f"{binding.LABEL_RUN_UID}={uid}")
        return {t["metadata"]["labels"][binding.LABEL_TASK]: t for t in found.items if _owner(t) == uid}

    async def _create(self, run: Object, body: dict[str, Any]) -> Object:
        name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
        try:
            return await self._client.create(TASK_RUN, body, namespace)
        except AlreadyExists:
            existing = await self._client.get(TASK_RUN, name, namespace)
        if _owner(existing) == run["metadata"]["uid"]:
            return existing
        raise Retryable(f"TaskRun {name} of an earlier run is still being deleted", after=0.5)

    async def _cancel(self, task_run: Object, message: str) -> None:
        if task_run["spec"].get("status") == "TaskRunCancelled":
            return
        metadata = task_run["metadata"]
        patch = {"spec": {"status": "TaskRunCancelled", "statusMessage": message}}
        await self._client.patch(TASK_RUN, metadata["name"], patch, metadata["namespace"])

    def _status(
        self, run: Object, live: Run, move: Advance, task_runs: Mapping[str, Object], now: datetime
    ) -> dict[str, Any]:
        order = [t.name for t in (*live.spec.tasks, *live.spec.finally_)]
        children = [
            {
                "apiVersion": "tekton.dev/v1",
                "kind": "TaskRun",
                "name": task_runs[n]["metadata"]["name"],
                "pipelineTaskName": n,
            }
            for n in order
            if n in task_runs
        ]
        return {
            "conditions": condition(succeeded(run), move.status, move.reason, move.message, now),
            "childReferences": children or None,
            "skippedTasks": [{"name": n, "reason": str(r)} for n, r in move.skipped.items()] or None,
            "finallyStartTime": rfc3339(move.finally_started) if move.finally_started else None,
        }

    def _results(self, live: Run, move: Advance) -> list[dict[str, Any]]:
        unfinished = {n for n, t in live.task_runs.items() if state_of(t) is not State.SUCCEEDED} | set(move.skipped)
        return binding.pipeline_results(
            live.spec, {**live.variables, **result_variables(live.task_runs)}, frozenset(unfinished)
        )

    async def _fail(self, run: Object, reason: str, message: str, now: datetime) -> None:
        started = (run.get("status") or {}).get("startTime") or rfc3339(now)
        status = {
            "startTime": started,
            "completionTime": rfc3339(now),
            "conditions": condition(succeeded(run), False, reason, message, now),
        }
        _log.warning("pipeline.refused", run=run["metadata"]["name"], reason=reason, message=message)
        await self._write(run, status)

    async def _write(self, run: Object, status: Mapping[str, Any]) -> None:
        """Patch what differs, conditionally. Raises ``Conflict`` (look again) when the run moved on."""
        old = run.get("status") or {}
        wanted = {k: v for k, v in {**old, **status}.items() if v is not None}
        patch = diff(old, wanted)
        if patch:
            metadata = run["metadata"]
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": patch}
            await self._client.patch(PIPELINE_RUN, metadata["name"], body, metadata["namespace"], subresource="status")


def _owner(obj: Mapping[str, Any]) -> str:
    return next((o["uid"] for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), "")


def _instant(text: str | None) -> datetime | None:
    return parse_rfc3339(text) if text else None
