"""Who clears the block that a failed WorkflowExecution puts on its target: stamped from the authenticated user, once.

An execution that failed half-way leaves its target in an unknown state, and only a person who has looked may say that
another one may run there. Nothing else in an execution's status is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernaut_ray import clock
from kubernaut_ray.clock import Clock
from kubernaut_ray.crds.enums import ClearMethod, WorkflowExecutionPhase
from serve_apps.admission.review import Allowed, Denied, Request, Verdict

FIELD = "blockClearance"


def stamp(request: Request, now: Clock) -> Allowed:
    """Say who clears and when, whatever the writer says."""
    given = _status(request.object).get(FIELD)
    if not isinstance(given, dict) or given == _status(request.old_object).get(FIELD):
        return Allowed()
    stamped = {
        "clearMethod": ClearMethod.STATUS_FIELD.value,
        **given,
        "clearedBy": request.user_info.username,
        "clearedAt": clock.rfc3339(now()),
    }
    return Allowed(({"op": "add", "path": f"/status/{FIELD}", "value": stamped},))


def judge(request: Request) -> Verdict:
    """Let a person clear a failed execution once, with a reason, and change nothing else."""
    old, new = _status(request.old_object), _status(request.object)
    if _without(old) != _without(new):
        return Denied(f"of an execution's status only {FIELD} is for people; the rest is its controller's")
    before, after = old.get(FIELD), new.get(FIELD)
    if before == after:
        return Allowed()
    if before is not None:
        return Denied(
            f"{request.name} was cleared already, by {before.get('clearedBy')}; that stays", reason="Conflict"
        )
    if old.get("phase") != WorkflowExecutionPhase.FAILED:
        return Denied(f"{request.name} did not fail (phase {old.get('phase') or 'Pending'}); there is nothing to clear")
    if not str((after or {}).get("clearReason") or "").strip():
        return Denied(f"status.{FIELD}.clearReason must say what was found on the target", reason="Invalid", code=422)
    return Allowed()


def _status(obj: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict((obj or {}).get("status") or {})


def _without(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != FIELD}
