"""What an execution is judged by: itself, the run that holds its target, that run's parts, the lock's holder, the catalog.

The objects are read from the API server, nothing from a cache. A target is one for all engines: the runs of every engine
under its name are looked at. A run's parts are read only where progress or a failure is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import ValidationError

from actors.workflow_execution import engines, leave, marks
from actors.workflow_execution.queue import Entry
from actors.workflow_execution.registered import Away, Records, Registered, look_up
from actors.workflow_execution.signatures import UNASKED, Signature, Signatures
from kubernaut_ray import names
from kubernaut_ray.clock import Clock, utcnow
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import RemediationPhase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, ApiError, NotFound
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.kube.targets import target_uid
from kubernaut_ray.settings import Settings

_ENDED = frozenset(str(phase) for phase in RemediationPhase if phase.terminal)
NOT_ASKED = Away("it was not asked")


@dataclass(frozen=True, slots=True)
class Observed:
    """``run`` is what has the target's name: ours if it is there, else a foreign one, one at work first."""

    execution: WorkflowExecution
    run: Object | None = None
    mine: bool = False
    parts: tuple[Object, ...] = ()
    holder: WorkflowExecution | None = None
    """The execution that a foreign run was made for."""
    ended: str = ""
    """Why its remediation does not want it any more; empty while it does, or is not there to be asked."""
    leave: leave.Asked = leave.NOTHING
    """This and the following are read where a run would be created next."""
    workflow: Registered = NOT_ASKED
    signature: Signature = UNASKED
    others: tuple[Entry, ...] = ()
    """Every execution that runs, waits or was over lately, and those of the target's namespace within the budget's window."""
    refusal: str = ""
    """Of a dry run: what the API server has against its run."""

    @property
    def vanished(self) -> bool:
        """Whether a run was requested, and the name that it had among the runs of its engine is free."""
        if self.execution.status.pipeline_run_ref is None or self.mine:
            return False
        engine = engines.chosen(self.execution, engines.ALL)
        return self.run is None or engine is None or self.run["kind"] != engine.resource.kind


class Reader:
    def __init__(self, client: KubeClient, settings: Settings, records: Records, now: Clock = utcnow) -> None:
        self._client, self._now = client, now
        self._execution = settings.execution
        self._namespace = settings.execution.namespace
        self._engines = tuple(engines.ALL[name] for name in settings.execution.engines)
        self._checks_leave = settings.admission.required
        self._records, self._signatures = records, Signatures(client, settings)

    async def observe(self, key: Key) -> Observed | None:
        """Read one execution and its surroundings; ``None`` when it is gone."""
        try:
            raw = await self._client.get(resources.WORKFLOW_EXECUTION, key.name, key.namespace)
        except NotFound:
            return None
        execution = WorkflowExecution.from_object(raw)
        if execution.spec.dry_run:
            return await self._rehearsal(execution)
        run = await self._run(execution)
        if run is None:
            if execution.status.phase is not Phase.PENDING or execution.status.pipeline_run_ref is not None:
                return Observed(execution)
            ended, asked, workflow, signature, others = await asyncio.gather(
                self._ended(execution),
                self._leave(execution),
                look_up(self._records, execution),
                self._signatures.of(execution),
                self._others(execution),
            )
            return Observed(execution, ended=ended, leave=asked, workflow=workflow, signature=signature, others=others)
        if not marks.is_mine(execution, run):
            return Observed(execution, run, holder=await self._holder(run, key.namespace))
        watched = execution.status.phase in (None, Phase.PENDING, Phase.RUNNING)
        parts = await engines.of(run).parts(self._client, run) if watched else ()
        return Observed(execution, run, mine=True, parts=parts)

    async def _run(self, execution: WorkflowExecution) -> Object | None:
        """Return the run under the target's name that matters most."""
        name = names.pipeline_run(execution.spec.target_resource)
        looked = await asyncio.gather(*(self._named(engine.resource, name) for engine in self._engines))
        found = [run for run in looked if run is not None]
        return min(
            found, key=lambda run: (not marks.is_mine(execution, run), engines.of(run).is_over(run)), default=None
        )

    async def _named(self, kind: Resource, name: str) -> Object | None:
        try:
            return await self._client.get(kind, name, self._namespace)
        except NotFound:
            return None

    async def _others(self, execution: WorkflowExecution) -> tuple[Entry, ...]:
        """List what the queue is judged by, always anew: an admission counts only against a listing that is younger."""
        settings, target = self._execution, execution.spec.target_resource
        home = names.label_value(marks.target_namespace(target))
        wanted = [("", "status.lockReleased!=true")] if settings.max_running else []
        if settings.budget_per_namespace or (settings.max_running_per_namespace and not wanted):
            wanted.append((f"{names.LABEL_SOURCE_NAMESPACE}={home}", ""))
        # Without limits only those on the same target matter, however many run.
        wanted = wanted or [("", f"spec.targetResource={target}")]
        listed = await asyncio.gather(
            *(
                self._client.list(resources.WORKFLOW_EXECUTION, execution.namespace, labels=labels, fields=fields)
                for labels, fields in wanted
            )
        )
        entries = (Entry.of(obj) for page in listed for obj in page.items)
        return tuple({entry.uid: entry for entry in entries if entry is not None}.values())

    async def _rehearsal(self, execution: WorkflowExecution) -> Observed:
        """Have the API server and its webhooks judge what would be created; it creates nothing."""
        if execution.status.phase is not Phase.PENDING:
            return Observed(execution)
        workflow, signature = await asyncio.gather(look_up(self._records, execution), self._signatures.of(execution))
        engine = engines.chosen(execution, self._execution.engines)
        if engine is None or not isinstance(workflow, Workflow) or any(engine.problems(execution, workflow)):
            return Observed(execution, workflow=workflow, signature=signature)
        body = engine.build(execution, workflow, self._execution, self._now())
        refusal = ""
        try:
            await self._client.create(engine.resource, body, self._namespace, dry_run=True)
        except AlreadyExists:
            pass  # It would wait for the target, as others do.
        except ApiError as error:
            refusal = str(error)
        return Observed(execution, workflow=workflow, signature=signature, refusal=refusal)

    async def _ended(self, execution: WorkflowExecution) -> str:
        """Ask whether anybody still wants it: whoever created it may have slept for an hour between deciding and creating."""
        ref = execution.spec.remediation_request_ref
        try:
            request = await self._client.get(resources.REMEDIATION_REQUEST, ref.name, execution.namespace)
        except NotFound:
            return ""  # It goes with its owner.
        metadata, phase = request["metadata"], str((request.get("status") or {}).get("overallPhase") or "")
        if metadata["uid"] != ref.uid:
            return ""
        if (metadata.get("annotations") or {}).get(names.ANNOTATION_STOPPED_EXECUTION) == execution.name:
            return "an execution of this name was deleted while it was under way, and it is not made again"
        return f"its remediation had ended as {phase}" if phase in _ENDED else ""

    async def _leave(self, execution: WorkflowExecution) -> leave.Asked:
        """Read what is known of a person's leave: nothing where decisions are not signed."""
        if not self._checks_leave:
            return leave.NOTHING
        home = execution.namespace
        request, analysis = await asyncio.gather(
            self._ours(execution, resources.APPROVAL_REQUEST, leave.request_of(execution), home),
            self._ours(execution, resources.AI_ANALYSIS, names.analysis_of(execution.name), home),
        )
        # An analysis that is gone, or is being made anew, does not say that none is needed.
        needed = ((analysis or {}).get("status") or {}).get("approvalRequired") is not False
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

    async def _holder(self, run: Object, namespace: str) -> WorkflowExecution | None:
        owner = marks.Ownership.of(run)
        if not owner.execution:
            return None
        try:
            raw = await self._client.get(resources.WORKFLOW_EXECUTION, owner.execution, namespace)
            holder = WorkflowExecution.from_object(raw)
        except (NotFound, ValidationError):
            return None
        return holder if not owner.execution_uid or holder.uid == owner.execution_uid else None
