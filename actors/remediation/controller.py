"""The RemediationRequest controller: wires the reader, the pure decision and the watches into the engine's ``Controller``.

It creates every child of an incident and watches them; siblings never create siblings. It holds no state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from actors.remediation import phases
from actors.remediation.decide import decide
from actors.remediation.observe import Observed, Reader, Trail
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource

_CHILDREN = (
    resources.SIGNAL_PROCESSING,
    resources.AI_ANALYSIS,
    resources.APPROVAL_REQUEST,
    resources.WORKFLOW_EXECUTION,
    resources.EFFECTIVENESS_ASSESSMENT,
    resources.NOTIFICATION_REQUEST,
)


RECALLED = 512
"""Requests of which is remembered what was told last: more than are ever on the move at once, and some 30 MiB."""


class RemediationController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "remediation"
    resource: Resource = resources.REMEDIATION_REQUEST
    model: type[CustomResource] = RemediationRequest
    phases: PhaseTable = phases.TABLE
    performers: Mapping[str, Performer] = {}

    def __init__(self, deps: Deps, trail: Trail | None = None) -> None:
        self._settings, self._trail = deps.settings, trail
        deps.recall.hold(RECALLED)
        self._reader = Reader(deps.client, deps.settings, trail, recall=deps.recall)
        self.watches: tuple[Watch, ...] = tuple(
            Watch(child, owning_request, namespace=deps.settings.namespace) for child in _CHILDREN
        )

    def phase_of(self, status: RemediationRequestStatus) -> str:
        return str(status.overall_phase or "")

    async def observe(self, key: Key) -> Observed | None:
        return await self._reader.observe(key)

    def subject(self, observed: Observed) -> CustomResource:
        return observed.request

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationRequestStatus]:
        return decide(observed, now, self._settings)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        if self._trail is not None:
            await self._trail.close()


def owning_request(obj: Object, /) -> Sequence[Key]:
    """Return the RemediationRequest that controls this object, if one does."""
    meta = obj["metadata"]
    return [
        Key(meta["namespace"], owner["name"])
        for owner in meta.get("ownerReferences", ())
        if owner.get("controller") and owner["kind"] == RemediationRequest.kind()
    ]


def build(deps: Deps) -> RemediationController:
    return RemediationController(deps, DataStorage(deps.endpoints.data_storage, deps.token))
