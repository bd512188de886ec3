"""The workflow that an approver puts in place of the recommended one: found in the catalog, and its parameters checked.

Fails closed: what the catalog does not hold, or cannot be asked about now, is not approved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from catalog.workflow import validate_parameters
from kubernaut_ray.contracts.catalog import Workflow, WorkflowPage
from kubernaut_ray.crds.approval import WorkflowOverride
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.shared import WorkflowRef


class Catalog(Protocol):
    """The part of Data Storage that is asked. Raises ``KubernautError`` when it does not answer."""

    async def workflow(self, workflow_id: str) -> Workflow | None: ...

    async def workflows(
        self, *, limit: int = 100, offset: int = 0, status: str = "", name: str = ""
    ) -> WorkflowPage: ...


@dataclass(frozen=True, slots=True)
class Found:
    workflow: WorkflowRef


@dataclass(frozen=True, slots=True)
class Unusable:
    why: str


async def resolve(
    catalog: Catalog, request: RemediationApprovalRequest, override: WorkflowOverride
) -> Found | Unusable:
    """Find what an override names, pinned as the catalog has it."""
    workflow = await _find(catalog, request, override)
    if isinstance(workflow, Unusable):
        return workflow
    if errors := validate_parameters(workflow.parameters, override.parameters):
        return Unusable(f"workflowOverride.parameters do not fit {workflow.workflow_name}: {'; '.join(errors)}")
    return Found(
        WorkflowRef(
            workflow_id=workflow.workflow_id,
            workflow_name=workflow.workflow_name,
            version=workflow.version,
            container_image=workflow.container_image,
            container_digest=workflow.container_digest,
            engine=str(workflow.execution_engine),
        )
    )


async def _find(
    catalog: Catalog, request: RemediationApprovalRequest, override: WorkflowOverride
) -> Workflow | Unusable:
    name, version = override.workflow_name, override.version
    if not name:
        recommended = request.spec.recommended_workflow
        found = await catalog.workflow(recommended.workflow_id)
        if found is None or found.status is not WorkflowStatus.ACTIVE:
            return Unusable(f"the recommended workflow {recommended.workflow_name} is no longer active in the catalog")
        if found.container_digest != recommended.container_digest:
            return Unusable(f"the catalog's {recommended.workflow_name} is no longer the one that was recommended")
        return found
    page = await catalog.workflows(name=name, status=WorkflowStatus.ACTIVE)
    matching = [w for w in page.workflows if w.workflow_name == name and version in ("", w.version)]
    latest = [w for w in matching if version or w.is_latest_version]
    if not latest:
        what = f"{name} {version}".strip()
        return Unusable(f"workflowOverride.workflowName: the catalog has no active workflow {what}")
    return latest[0]
