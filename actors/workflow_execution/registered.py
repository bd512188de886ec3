"""What the catalog holds of the workflow that is about to run, and whether exactly that may run with these parameters.

A model chose the parameters and a person may have replaced them, minutes ago and elsewhere, and the workflow may have been
disabled since; the last look is here, right before anything is created, against the schema that the bundle's digest pins.
What cannot be looked up is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from actors.workflow_execution.marks import TARGET_PARAMETER
from catalog.parameters import validate_parameters
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.errors import KubernautError

WITHDRAWN = frozenset({WorkflowStatus.DISABLED, WorkflowStatus.ARCHIVED})
"""What somebody has taken back runs no more, chosen and approved or not. A newer version takes nothing back."""


@dataclass(frozen=True, slots=True)
class Away:
    """The catalog did not answer."""

    why: str


Registered = Workflow | Away | None
"""``None``: there is no such workflow."""


class Records(Protocol):
    """The catalog, as far as it is asked here."""

    async def workflow(self, workflow_id: str) -> Workflow | None: ...


async def look_up(records: Records, execution: WorkflowExecution) -> Registered:
    """Ask the catalog, each time: what is remembered may have been withdrawn."""
    try:
        return await records.workflow(execution.spec.workflow_ref.workflow_id)
    except KubernautError as error:
        # Also what is no passing fault, such as credentials that are refused: unchecked it does not run either way.
        return Away(str(error))


def digest_of(execution: WorkflowExecution) -> str:
    """Return the digest that the execution is pinned to; empty where it is to nothing."""
    return pinned(execution.spec.workflow_ref).partition("@")[2]


def missing(execution: WorkflowExecution) -> str:
    ref = execution.spec.workflow_ref
    return f"the catalog has no workflow {ref.workflow_id}; register its bundle {ref.container_image}"


def problems(execution: WorkflowExecution, workflow: Workflow) -> Iterator[str]:
    """Yield why an execution does not fit what is registered."""
    ref = execution.spec.workflow_ref
    wanted, there = digest_of(execution), workflow.container_digest
    if wanted != there:
        what = f"is pinned to {wanted}" if wanted else "is pinned to no digest"
        yield f"the execution {what}, and the catalog holds {workflow.workflow_name} {workflow.version} as {there or 'none'}"
        return
    if workflow.status in WITHDRAWN:
        by = f" by {workflow.status_changed_by}" if workflow.status_changed_by else ""
        why = workflow.status_changed_reason or "no reason given"
        yield f"workflow {workflow.workflow_name} {workflow.version} was {workflow.status}{by}: {why}"
    if str(workflow.execution_engine) != ref.engine:
        yield f"the execution asks for engine {ref.engine!r}, and the workflow's schema for {workflow.execution_engine}"
    given = {name: value for name, value in execution.spec.parameters.items() if name != TARGET_PARAMETER}
    yield from (f"parameters.{told}" for told in validate_parameters(workflow.parameters, given))
