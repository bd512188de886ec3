"""The WorkflowExecution controller: wires the reader, the pure decision and the watches into the engine's ``Controller``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from actors.workflow_execution import engines, phases
from actors.workflow_execution.aftermath import COUNT
from actors.workflow_execution.decide import decide
from actors.workflow_execution.marks import Ownership
from actors.workflow_execution.observe import Observed, Reader
from actors.workflow_execution.registered import Records
from actors.workflow_execution.start import QUEUED, entry
from actors.workflow_execution.waiting import WaitingRoom
from kubernaut_ray import names
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Call, Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.workflow_execution import WorkflowExecution, WorkflowExecutionStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.signing import SigningKey


class Catalog(Records, Protocol):
    """Data Storage, as far as this controller uses it."""

    async def record(self, execution: ExecutionRecord) -> None: ...

    async def close(self) -> None: ...


class WorkflowExecutionController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "workflow-execution"
    resource: Resource = resources.WORKFLOW_EXECUTION
    model: type[CustomResource] = WorkflowExecution
    phases: PhaseTable = phases.TABLE

    def __init__(self, deps: Deps, catalog: Catalog) -> None:
        self._settings, self._catalog = deps.settings, catalog
        self.performers: Mapping[str, Performer] = {COUNT: self._count}
        self._reader = Reader(deps.client, deps.settings, catalog)
        self._key = SigningKey.load(deps.settings.approval_key) if deps.settings.admission.required else None
        namespace = deps.settings.namespace

        def executing(obj: Object, /) -> Sequence[Key]:
            owner = Ownership.of(obj).execution
            return [Key(namespace, owner)] if owner else []

        self._waiting = WaitingRoom()
        runs = (
            Watch(
                engines.ALL[name].resource,
                executing,
                namespace=deps.settings.execution.namespace,
                labels=names.LABEL_WORKFLOW_EXECUTION,
            )
            for name in deps.settings.execution.engines
        )
        # Turns are one queue for all shards: whoever ends may be another process's.
        others = Watch(resources.WORKFLOW_EXECUTION, self._waiting.called, namespace=namespace, sharded=False)
        self.watches: tuple[Watch, ...] = (*runs, others)

    def phase_of(self, status: WorkflowExecutionStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        seen = await self._reader.observe(key)
        if seen is None:
            self._waiting.leave(key)
        return seen

    def subject(self, observed: Observed) -> CustomResource:
        return observed.execution

    def decide(self, observed: Observed, now: datetime) -> Decision[WorkflowExecutionStatus]:
        decision = decide(observed, now, self._settings, self._key)
        key = Key(observed.execution.namespace, observed.execution.name)
        if decision.reason == QUEUED and decision.wake_at is not None:
            self._waiting.enter(key, entry(observed), decision.wake_at, now)
        else:
            self._waiting.leave(key)
        return decision

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        await self._catalog.close()

    async def _count(self, call: Call, /) -> None:
        """Tell how an execution ended. Telling twice counts once."""
        await self._catalog.record(call.payload["record"])


def build(deps: Deps) -> WorkflowExecutionController:
    return WorkflowExecutionController(deps, DataStorage(deps.endpoints.data_storage, deps.token))
