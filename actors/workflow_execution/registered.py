"""What the catalog holds of the workflow that is about to run, and whether exactly that may run with these parameters.

A model chose the parameters and a person may have replaced them, minutes ago and elsewhere; the last look is here, right
before anything is created, against the schema that the bundle's digest pins. What cannot be looked up is waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from actors.workflow_execution.marks import TARGET_PARAMETER
from catalog.parameters import validate_parameters
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.errors import KubernautError

KEPT = 256
"""Records remembered, by id and digest: under a digest nothing that is checked here ever changes."""


@dataclass(frozen=True, slots=True)
class Away:
    """The catalog did not answer."""

    why: str


Registered = Workflow | Away | None
"""``None``: there is no such workflow."""


class Records(Protocol):
    """The catalog, as far as it is asked here."""

    async def workflow(self, workflow_id: str) -> Workflow | None: ...


class Lookup:
    """Asks the catalog once for each pinned workflow."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: OrderedDict[tuple[str, str], Workflow] = OrderedDict()

    async def of(self, execution: WorkflowExecution) -> Registered:
        ref = execution.spec.workflow_ref
        key = (ref.workflow_id, digest_of(execution))
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        try:
            found = await self._records.workflow(ref.workflow_id)
        except KubernautError as error:
            # Also what is no passing fault, such as credentials that are refused: unchecked it does not run either way.
            return Away(str(error))
        if found is not None and found.container_digest == key[1]:
            self._known[key] = found
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found


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
    if str(workflow.execution_engine) != ref.engine:
        yield f"the execution asks for engine {ref.engine!r}, and the workflow's schema for {workflow.execution_engine}"
    given = {name: value for name, value in execution.spec.parameters.items() if name != TARGET_PARAMETER}
    yield from (f"parameters.{told}" for told in validate_parameters(workflow.parameters, given))
