"""The RemediationApprovalRequest controller: reads the one object, seals or expires the decision. It needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from actors.approval import phases
from actors.approval.decide import Observed, decide
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.remediation_approval_request import (
    RemediationApprovalRequest,
    RemediationApprovalRequestStatus,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource


class ApprovalController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "approval"
    resource: Resource = resources.APPROVAL_REQUEST
    model: type[CustomResource] = RemediationApprovalRequest
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()
    performers: Mapping[str, Performer] = {}

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def phase_of(self, status: RemediationApprovalRequestStatus) -> str:
        return phases.phase_of(status)

    async def observe(self, key: Key) -> Observed | None:
        try:
            found = await self._client.get(self.resource, key.name, key.namespace)
        except NotFound:
            return None
        return Observed(RemediationApprovalRequest.from_object(found))

    def subject(self, observed: Observed) -> CustomResource:
        return observed.request

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationApprovalRequestStatus]:
        return decide(observed, now)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


def build(deps: Deps) -> ApprovalController:
    return ApprovalController(deps.client)
