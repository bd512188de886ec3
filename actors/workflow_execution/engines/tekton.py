"""The engine ``tekton``: one PipelineRun of the bundle's pipeline, read through its TaskRuns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from actors.workflow_execution import marks, outcome, pipelinerun
from actors.workflow_execution.engines.seam import State
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control.decision import Key, Patch
from kubernaut_ray.crds.workflow_execution import ExecutionFailureDetails, PipelineRunSummary, WorkflowExecution
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.settings import ExecutionSettings

_RESULT = re.compile(r"\$\((?:tasks|finally)\.")


class TektonEngine:
    """See ``seam.Engine``."""

    resource: Resource = resources.PIPELINE_RUN
    word: str = "Pipeline"

    def problems(self, execution: WorkflowExecution, workflow: Workflow) -> Iterator[str]:  # noqa: ARG002
        """Yield what Tekton's webhook would refuse; the pipeline was checked against its schema at registration."""
        for name, value in execution.spec.parameters.items():
            if _RESULT.search(value):
                yield f"parameters.{name}: Tekton takes no value that refers to a task's result, got {value!r}"

    def build(
        self,
        execution: WorkflowExecution,
        workflow: Workflow,  # noqa: ARG002 - Tekton resolves the bundle itself
        settings: ExecutionSettings,
        now: datetime,
    ) -> dict[str, Any]:
        return pipelinerun.build(execution, settings, now)

    def held(self, run: Mapping[str, Any]) -> bool:
        return bool((run.get("spec") or {}).get("status") == pipelinerun.PENDING)

    def let_go(self, run: Mapping[str, Any]) -> Patch:
        return self._say(run, None)

    async def parts(self, client: KubeClient, run: Object) -> tuple[Object, ...]:
        meta = run["metadata"]
        listed = await client.list(
            resources.TASK_RUN, meta["namespace"], labels=f"tekton.dev/pipelineRun={meta['name']}"
        )
        return tuple(
            t for t in listed.items if any(o["uid"] == meta["uid"] for o in t["metadata"].get("ownerReferences") or ())
        )

    def state(self, run: Mapping[str, Any], parts: Sequence[Object], now: datetime) -> State:  # noqa: ARG002
        match pipelinerun.succeeded(run).get("status"):
            case "True":
                return State.SUCCEEDED
            case "False":
                return State.FAILED
        return State.RUNNING

    def is_over(self, run: Mapping[str, Any]) -> bool:
        return pipelinerun.is_over(run)

    def started(self, run: Mapping[str, Any]) -> datetime | None:
        return marks.instant(run, "startTime")

    def ended(self, run: Mapping[str, Any]) -> datetime | None:
        return marks.instant(run, "completionTime")

    def summary(self, run: Mapping[str, Any], parts: Sequence[Object]) -> PipelineRunSummary:
        return outcome.summary(run, parts)

    def results(self, run: Mapping[str, Any], parts: Sequence[Object]) -> dict[str, str]:  # noqa: ARG002
        return outcome.results(run)

    def failure(
        self, execution: WorkflowExecution, run: Mapping[str, Any], parts: Sequence[Object], now: datetime
    ) -> ExecutionFailureDetails:
        return outcome.failure(execution, run, parts, now)

    def stop(self, run: Mapping[str, Any]) -> Patch:
        return self._say(run, "Cancelled")

    def _say(self, run: Mapping[str, Any], word: str | None) -> Patch:
        meta = run["metadata"]
        return Patch(
            self.resource,
            Key(meta["namespace"], meta["name"]),
            {"spec": {"status": word}},
            resource_version=meta["resourceVersion"],
        )
