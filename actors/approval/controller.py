"""The RemediationApprovalRequest controller: reads the object and its target's UID, seals or expires the decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from actors.approval import phases
from actors.approval.decide import WITHOUT_WEBHOOK, Observed, Rules, decide
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
from kubernaut_ray.kube.targets import target_uid
from kubernaut_ray.signing import SigningKey


class ApprovalController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "approval"
    resource: Resource = resources.APPROVAL_REQUEST
    model: type[CustomResource] = RemediationApprovalRequest
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()
    performers: Mapping[str, Performer] = {}

    def __init__(self, client: KubeClient, rules: Rules = WITHOUT_WEBHOOK) -> None:
        self._client, self._rules = client, rules

    def phase_of(self, status: RemediationApprovalRequestStatus) -> str:
        return phases.phase_of(status)

    async def observe(self, key: Key) -> Observed | None:
        try:
            found = await self._client.get(self.resource, key.name, key.namespace)
        except NotFound:
            return None
        request = RemediationApprovalRequest.from_object(found)
        if phases.phase_of(request.status):
            return Observed(request)
        return Observed(request, await target_uid(self._client, request.spec.target_resource))

    def subject(self, observed: Observed) -> CustomResource:
        return observed.request

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationApprovalRequestStatus]:
        return decide(observed, now, self._rules)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


def build(deps: Deps) -> ApprovalController:
    settings = deps.settings
    key = SigningKey.load(settings.approval_key) if settings.admission.required else None
    return ApprovalController(deps.client, Rules(key, timedelta(seconds=settings.approval.grant_lifetime)))
