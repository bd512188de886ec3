"""What is to be done in the catalog for one object, as values, and the rules for a record's status. Pure.

A record has one status and may have several declarers. Whoever disables it leaves its name and a reason; a declarer takes
back only what it did itself, what a declarer that is gone left behind, and, when its own ``suspend`` is taken away, whatever
keeps the workflow disabled. Everything else is a person's decision and stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernaut_ray.contracts.catalog import Workflow, WorkflowPatch
from kubernaut_ray.crds.enums import WorkflowStatus

DECLARER = "remediationworkflow "
"""How the name of every declarer begins (``RemediationWorkflow.source``)."""
SUSPENDED = "spec.suspend is set"
DELETED = "the RemediationWorkflow was deleted"
LEFT = "the RemediationWorkflow names another workflow now"
DECLARED = "declared by a RemediationWorkflow"
_LEFT_BEHIND = frozenset({DELETED, LEFT})


@dataclass(frozen=True, slots=True)
class Register:
    """Register the bundle and bring the record's status in line with ``suspend``."""

    source: str
    image: str
    digest: str = ""
    expected: Mapping[str, Any] = field(default_factory=dict)
    suspend: bool = False
    overrule: bool = False
    """``suspend`` was just taken away: enable the workflow that it held, whoever disabled it."""
    known_id: str = ""
    """The workflow version that this object declared until now."""
    claimed: frozenset[str] = frozenset()
    """Workflow ids that other objects declare."""
    held: frozenset[str] = frozenset()
    """Workflow ids that other objects suspend."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The object is being deleted: disable what it declared and nobody else does."""

    source: str
    workflow_id: str = ""
    claimed: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    """Workflow ids that other objects suspend."""


Errand = Register | Withdraw


def declared(record: Workflow, errand: Register) -> WorkflowPatch | None:
    """Return the change that a declared record needs, if any."""
    if errand.suspend:
        return _disable(errand.source, SUSPENDED) if record.status is WorkflowStatus.ACTIVE else None
    if record.status is not WorkflowStatus.DISABLED:
        return None
    by, why = record.status_changed_by, record.status_changed_reason
    left_behind = by.startswith(DECLARER) and why in _LEFT_BEHIND
    overruled = errand.overrule and record.workflow_id == errand.known_id
    if overruled or by == errand.source or left_behind:
        return WorkflowPatch(status=WorkflowStatus.ACTIVE, reason=DECLARED, source=errand.source)
    return None


def left(record: Workflow, errand: Register, declared_name: str) -> WorkflowPatch | None:
    """Return the change that the record needs that this object declared before, now that it declares another.

    A lower version of the same workflow stays as it is; a suspension of it does not, for nobody could take it back.
    """
    change = _released(record, errand.source, errand.claimed, errand.held, LEFT)
    stays = record.status is WorkflowStatus.ACTIVE and record.workflow_name == declared_name
    return None if stays else change


def withdrawn(record: Workflow, errand: Withdraw) -> WorkflowPatch | None:
    """Return the change that a record needs whose declarer is going."""
    return _released(record, errand.source, errand.claimed, errand.held, DELETED)


def _released(
    record: Workflow, source: str, claimed: frozenset[str], held: frozenset[str], reason: str
) -> WorkflowPatch | None:
    ours = record.status is WorkflowStatus.DISABLED and record.status_changed_by == source
    if record.workflow_id not in claimed:
        # What this object suspended becomes what it left behind, so that whoever declares it again enables it.
        change = record.status is WorkflowStatus.ACTIVE or (ours and record.status_changed_reason not in _LEFT_BEHIND)
        return _disable(source, reason) if change else None
    if ours and record.workflow_id not in held:
        return WorkflowPatch(status=WorkflowStatus.ACTIVE, reason=DECLARED, source=source)
    return None


def _disable(source: str, reason: str) -> WorkflowPatch:
    return WorkflowPatch(status=WorkflowStatus.DISABLED, reason=reason, source=source)
