"""A catalog for the controller's tests: the real owner on a real file, reached without HTTP, that can be away."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from actors.remediation_workflow.controller import RemediationWorkflowController
from catalog import errors
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray import names
from kubernaut_ray.clients import data_storage
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow, WorkflowPage, WorkflowPatch
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import REMEDIATION_WORKFLOW
from kubernaut_ray.settings import Settings
from tests import build
from tests.memory_kube import MemoryKube
from tests.trail import fits

NAMESPACE = names.SYSTEM_NAMESPACE
SETTINGS = Settings()


class Shelf:
    """Bundles by reference; what is not there is no bundle."""

    def __init__(self, *workflows: Workflow) -> None:
        self.workflows = {w.container_image: w for w in workflows}

    def put(self, workflow: Workflow, ref: str = "") -> str:
        self.workflows[ref or workflow.container_image] = workflow
        return ref or workflow.container_image

    def workflow(self, ref: str) -> tuple[Workflow, Any]:
        if ref not in self.workflows:
            raise InvalidInput(f"bundle {ref}: the registry has no such image", reason="NotFound")
        return self.workflows[ref], None


class Shop:
    """Data Storage as the controller's client shows it. ``fault`` is raised instead of an answer while it is set."""

    def __init__(self, directory: Path, shelf: Shelf) -> None:
        self._directory, self.shelf = directory, shelf
        self._round = 0
        self.fault: KubernautError | None = None
        self.open()

    def open(self) -> None:
        """Start with an empty catalog."""
        if self._round:
            self._owner.close()
        self._round += 1
        self._owner = Owner(
            self._directory / str(self._round), embedder=Lexicon(), source=self.shelf, now=lambda: build.NOW
        )
        self.catalog = Catalog(InProcess(self._owner), Lexicon())

    def shut(self) -> None:
        self._owner.close()

    async def register(self, request: RegisterWorkflow) -> Workflow:
        self._check()
        try:
            return (await self.catalog.register(request))[0]
        except errors.Conflict as error:
            raise data_storage.Conflict(str(error)) from error

    async def workflow(self, workflow_id: str) -> Workflow | None:
        self._check()
        try:
            return Workflow.model_validate_json(await self.catalog.workflow(workflow_id))
        except errors.NotFound:
            return None

    async def workflows(self, *, limit: int = 100, offset: int = 0, status: str = "", name: str = "") -> WorkflowPage:
        self._check()
        page = await self.catalog.workflows(status=status, name=name, limit=limit, offset=offset)
        return WorkflowPage.model_validate_json(page)

    async def patch_workflow(self, workflow_id: str, patch: WorkflowPatch) -> Workflow:
        self._check()
        return await self.catalog.patch(workflow_id, patch, patch.source or "kubernaut")

    async def close(self) -> None:
        """The catalog outlives its clients."""

    async def by_hand(self, workflow_id: str, status: str, reason: str = "by hand") -> None:
        patch = WorkflowPatch.model_validate({"status": status, "reason": reason})
        await self.catalog.patch(workflow_id, patch, "ann")

    async def stands(self) -> dict[str, str]:
        """Status, who and why, by name and version."""
        page = WorkflowPage.model_validate_json(await self.catalog.workflows(status="", name="", limit=100, offset=0))
        return {
            f"{w.workflow_name} {w.version}": f"{w.status} | {w.status_changed_by} | {w.status_changed_reason}".rstrip(
                " |"
            )
            for w in page.workflows
        }

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


class Sink:
    """An audit trail that keeps one event an id."""

    def __init__(self) -> None:
        self.events: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        self.events.setdefault(event.event_id, fits(event))

    @property
    def told(self) -> list[str]:
        return [event.event_type.rpartition(".")[2] for event in self.events.values()]


class Life:
    """The controller carried by the real engine, on an API in memory and a catalog on disk, with a clock that is turned."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.now = shop, build.NOW
        self.kube = MemoryKube(lambda: self.now)
        self.sink = Sink()
        self.restart()

    def restart(self) -> None:
        """A process died and another took over."""
        deps = Deps(self.kube, SETTINGS, Endpoints(), lambda: "token", lambda *_: None)
        self.controller = RemediationWorkflowController(deps, self.shop)
        self._reconcile = Reconciler(self.controller, self.kube, self.sink, clock=lambda: self.now)

    async def apply(self, name: str = "restart", **spec: Any) -> RemediationWorkflow | None:
        """What ``kubectl apply`` does, and then what the controller does."""
        wanted = build.remediation_workflow(name, **spec).to_object()
        try:
            found = await self.kube.get(REMEDIATION_WORKFLOW, name, NAMESPACE)
        except NotFound:
            await self.kube.create(
                REMEDIATION_WORKFLOW, {"metadata": {"name": name}, "spec": wanted["spec"]}, NAMESPACE
            )
        else:
            await self.kube.replace(REMEDIATION_WORKFLOW, {**found, "spec": wanted["spec"]}, NAMESPACE)
        return await self.settle(name)

    async def delete(self, name: str = "restart") -> RemediationWorkflow | None:
        await self.kube.delete(REMEDIATION_WORKFLOW, name, NAMESPACE)
        return await self.settle(name)

    async def look_again(self, name: str = "restart") -> RemediationWorkflow | None:
        self.now += timedelta(seconds=SETTINGS.catalog.registration_interval + 1)
        return await self.settle(name)

    async def settle(self, name: str = "restart") -> RemediationWorkflow | None:
        """Reconcile until there is nothing to do but wait; the object as it is then."""
        for _ in range(20):
            outcome = await self._reconcile(Key(NAMESPACE, name))
            await self.controller.desk.settled()
            if outcome.gone:
                return None
            if outcome.reason in {"Settled", "BackingOff"}:
                return RemediationWorkflow.from_object(await self.kube.get(REMEDIATION_WORKFLOW, name, NAMESPACE))
        raise AssertionError(f"{name} does not settle")
