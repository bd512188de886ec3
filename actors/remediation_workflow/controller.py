"""The RemediationWorkflow controller: wires the reader, the desk that goes to the catalog, and the pure decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from actors.remediation_workflow import phases
from actors.remediation_workflow.decide import decide
from actors.remediation_workflow.desk import PERFORMER, Catalog, Desk
from actors.remediation_workflow.observe import Observed, Reader
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow, RemediationWorkflowStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.resources import Resource


class RemediationWorkflowController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "remediation-workflow"
    resource: Resource = resources.REMEDIATION_WORKFLOW
    model: type[CustomResource] = RemediationWorkflow
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()

    def __init__(self, deps: Deps, catalog: Catalog) -> None:
        self._settings = deps.settings.catalog
        self.desk = Desk(catalog, deps.wake)
        self._reader = Reader(deps.client, self.desk)
        self.performers: Mapping[str, Performer] = {PERFORMER: self.desk.ask}

    def phase_of(self, status: RemediationWorkflowStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        return await self._reader.observe(key)

    def subject(self, observed: Observed) -> CustomResource:
        return observed.workflow

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationWorkflowStatus]:
        return decide(observed, now, self._settings)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        await self.desk.close()


def build(deps: Deps) -> RemediationWorkflowController:
    """Build the controller of a running system."""
    return RemediationWorkflowController(deps, DataStorage(deps.endpoints.data_storage, deps.token))
