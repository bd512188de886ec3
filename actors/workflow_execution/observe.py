"""What an execution is judged by: itself, the PipelineRun that holds its target, that run's tasks, and the lock's holder.

Everything is read from the API server, nothing from a cache. TaskRuns are read only where progress or a failure is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import ValidationError

from actors.workflow_execution import leave, pipelinerun
from kubernaut_ray import names
from kubernaut_ray.clock import Clock, utcnow
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, ApiError, NotFound
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.kube.targets import target_uid
from kubernaut_ray.settings import Settings


@dataclass(frozen=True, slots=True)
class Observed:
    """``run`` is whatever PipelineRun has the target's name; ``holder`` the execution a foreign one was made for."""

    execution: WorkflowExecution
    run: Object | None = None
    mine: bool = False
    task_runs: tuple[Object, ...] = ()
    holder: WorkflowExecution | None = None
    leave: leave.Asked = leave.NOTHING
    """Read where the PipelineRun would be created next."""
    refusal: str = ""
    """Of a dry run: what the API server has against the PipelineRun."""


class Reader:
    def __init__(self, client: KubeClient, settings: Settings, now: Clock = utcnow) -> None:
        self._client, self._now = client, now
        self._execution = settings.execution
        self._namespace = settings.execution.namespace
        self._checks_leave = settings.admission.required

    async def observe(self, key: Key) -> Observed | None:
        """Read one execution and its surroundings; ``None`` when it is gone."""
        try:
            raw = await self._client.get(resources.WORKFLOW_EXECUTION, key.name, key.namespace)
        except NotFound:
            return None
        execution = WorkflowExecution.from_object(raw)
        if execution.spec.dry_run:
            return Observed(execution, refusal=await self._rehearse(execution))
        name = names.pipeline_run(execution.spec.target_resource)
        try:
            run = await self._client.get(resources.PIPELINE_RUN, name, self._namespace)
        except NotFound:
            return Observed(execution, leave=await self._leave(execution))
        if not pipelinerun.is_mine(execution, run):
            return Observed(execution, run, holder=await self._holder(run, key.namespace))
        watched = execution.status.phase in (None, Phase.PENDING, Phase.RUNNING)
        return Observed(execution, run, mine=True, task_runs=await self._task_runs(run) if watched else ())

    async def _rehearse(self, execution: WorkflowExecution) -> str:
        """Have the API server and its webhooks judge what would be created; it creates nothing."""
        if execution.status.phase is not Phase.PENDING or any(pipelinerun.problems(execution)):
            return ""
        body = pipelinerun.build(execution, self._execution, self._now())
        try:
            await self._client.create(resources.PIPELINE_RUN, body, self._namespace, dry_run=True)
        except AlreadyExists:
            return ""  # It would wait for the target, as others do.
        except ApiError as error:
            return str(error)
        return ""

    async def _leave(self, execution: WorkflowExecution) -> leave.Asked:
        """Read what is known of a person's leave: nothing where decisions are not signed, or it was judged already."""
        if not self._checks_leave or execution.status.phase is not Phase.PENDING:
            return leave.Asked()
        home = execution.namespace
        request, analysis = await asyncio.gather(
            self._ours(execution, resources.APPROVAL_REQUEST, leave.request_of(execution), home),
            self._ours(execution, resources.AI_ANALYSIS, names.analysis_of(execution.name), home),
        )
        needed = bool(((analysis or {}).get("status") or {}).get("approvalRequired"))
        if request is None:
            return leave.Asked(needed)
        found = RemediationApprovalRequest.from_object(request)
        return leave.Asked(needed, found, await target_uid(self._client, found.spec.target_resource))

    async def _ours(self, execution: WorkflowExecution, kind: Resource, name: str, namespace: str) -> Object | None:
        """Read another child of this execution's remediation."""
        try:
            found = await self._client.get(kind, name, namespace)
        except NotFound:
            return None
        owners = found["metadata"].get("ownerReferences") or ()
        return found if any(o["uid"] == execution.spec.remediation_request_ref.uid for o in owners) else None

    async def _task_runs(self, run: Object) -> tuple[Object, ...]:
        meta = run["metadata"]
        listed = await self._client.list(
            resources.TASK_RUN, meta["namespace"], labels=f"tekton.dev/pipelineRun={meta['name']}"
        )
        return tuple(
            t for t in listed.items if any(o["uid"] == meta["uid"] for o in t["metadata"].get("ownerReferences") or ())
        )

    async def _holder(self, run: Object, namespace: str) -> WorkflowExecution | None:
        owner = pipelinerun.Ownership.of(run)
        if not owner.execution:
            return None
        try:
            raw = await self._client.get(resources.WORKFLOW_EXECUTION, owner.execution, namespace)
            holder = WorkflowExecution.from_object(raw)
        except (NotFound, ValidationError):
            return None
        return holder if not owner.execution_uid or holder.uid == owner.execution_uid else None
