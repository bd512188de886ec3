"""Our control loop with a controller that does what the kopf handlers do, and no more; see ``reconcile.py``.

It is level-triggered as all of ours: it reads the request and the child that is waited for anew, and decides. It judges no routing,
records no audit and reads no other child.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.remediation import phases
from actors.remediation.controller import owning_request
from benchmarks import _incidents as incidents
from benchmarks._controller_ours import main
from kubernaut_ray import conditions, names
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Create, Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import Outcome
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource


@dataclass(frozen=True, slots=True)
class Step:
    """What a phase waits for, and what follows: the next phase, and the child that it begins with."""

    awaited: Resource | None
    done: str
    phase: Phase
    started: str
    child: Resource | None = None


STEPS: Mapping[Phase | None, Step] = {
    None: Step(None, "", Phase.PENDING, "start_time"),
    Phase.PENDING: Step(None, "", Phase.PROCESSING, "processing_start_time", resources.SIGNAL_PROCESSING),
    Phase.PROCESSING: Step(
        resources.SIGNAL_PROCESSING, "Completed", Phase.ANALYZING, "analyzing_start_time", resources.AI_ANALYSIS
    ),
    Phase.ANALYZING: Step(
        resources.AI_ANALYSIS, "Completed", Phase.EXECUTING, "executing_start_time", resources.WORKFLOW_EXECUTION
    ),
    Phase.EXECUTING: Step(
        resources.WORKFLOW_EXECUTION, "Completed", Phase.COMPLETED, "completed_at", resources.NOTIFICATION_REQUEST
    ),
    Phase.COMPLETED: Step(resources.NOTIFICATION_REQUEST, "Sent", Phase.COMPLETED, ""),
}
_NAMES = {
    resources.SIGNAL_PROCESSING: names.signal_processing,
    resources.AI_ANALYSIS: names.ai_analysis,
    resources.WORKFLOW_EXECUTION: names.workflow_execution,
    resources.NOTIFICATION_REQUEST: lambda name: names.notification("completion", name),
}


@dataclass(frozen=True, slots=True)
class Seen:
    request: RemediationRequest
    body: Object
    awaited: Object | None


class PlainController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "plain"
    resource: Resource = resources.REMEDIATION_REQUEST
    model: type[CustomResource] = RemediationRequest
    phases: PhaseTable = phases.TABLE
    performers: Mapping[str, Performer] = {}
    watches: tuple[Watch, ...] = tuple(Watch(kind, owning_request, namespace=incidents.NAMESPACE) for kind in _NAMES)

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def phase_of(self, status: RemediationRequestStatus) -> str:
        return str(status.overall_phase or "")

    async def observe(self, key: Key) -> Seen | None:
        try:
            body = await self._client.get(self.resource, key.name, key.namespace)
        except NotFound:
            return None
        request = RemediationRequest.from_object(body)
        awaited = STEPS[request.status.overall_phase].awaited
        return Seen(request, body, await self._child(awaited, key) if awaited is not None else None)

    async def _child(self, resource: Resource, key: Key) -> Object | None:
        try:
            return await self._client.get(resource, _NAMES[resource](key.name), key.namespace)
        except NotFound:
            return None

    def subject(self, observed: Seen) -> CustomResource:
        return observed.request

    def decide(self, observed: Seen, now: datetime) -> Decision[RemediationRequestStatus]:
        request, status = observed.request, observed.request.status
        step = STEPS[status.overall_phase]
        if step.awaited is not None and ((observed.awaited or {}).get("status") or {}).get("phase") != step.done:
            return Decision("Waiting")
        if status.overall_phase is Phase.COMPLETED:
            if conditions.find(status.conditions, incidents.SETTLED) is not None:
                return Decision("Over", settled=True)
            marked = conditions.with_condition(
                status.conditions, incidents.SETTLED, status=True, reason="Delivered", message="", now=now, generation=1
            )
            return Decision("Delivered", status.replace(conditions=marked), rests=True, settled=True)
        changes: dict[str, Any] = {"overall_phase": step.phase, step.started: now}
        if step.phase is Phase.COMPLETED:
            changes["outcome"] = Outcome.REMEDIATED
        new = status.replace(**changes, message=f"The remediation is {step.phase}")
        if step.child is None:
            return Decision("Accepted", new)
        child = incidents.child(step.child, _NAMES[step.child](request.name), observed.body)
        return Decision("Moved", new, (Create(step.child, child, owner_uid=request.uid),), rests=True)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


def build(deps: Deps) -> PlainController:
    return PlainController(deps.client)


if __name__ == "__main__":
    main(build)
