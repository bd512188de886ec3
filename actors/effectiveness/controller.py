"""The EffectivenessAssessment controller: wires the reader, the pure decision and the catalog into the engine's ``Controller``.

It changes nothing but its own status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from actors.effectiveness import phases
from actors.effectiveness.decide import RECORD, decide
from actors.effectiveness.observe import ActiveAlerts, Observed, Reader, Samples
from kubernaut_ray import names
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clients.prometheus import Alertmanager, Prometheus
from kubernaut_ray.contracts.statistics import EffectivenessRecord
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Call, Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment, EffectivenessAssessmentStatus
from kubernaut_ray.crds.enums import RemediationPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource


class Statistics(Protocol):
    """Data Storage, as far as this controller uses it."""

    async def record_effectiveness(self, record: EffectivenessRecord) -> None: ...

    async def close(self) -> None: ...


class EffectivenessController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "effectiveness"
    resource: Resource = resources.EFFECTIVENESS_ASSESSMENT
    model: type[CustomResource] = EffectivenessAssessment
    phases: PhaseTable = phases.TABLE

    def __init__(
        self,
        deps: Deps,
        statistics: Statistics,
        alertmanager: ActiveAlerts | None = None,
        prometheus: Samples | None = None,
    ) -> None:
        self._settings, self._statistics = deps.settings.effectiveness, statistics
        self._alertmanager, self._prometheus = alertmanager, prometheus
        self._reader = Reader(deps.client, self._settings, alertmanager, prometheus)
        self.performers: Mapping[str, Performer] = {RECORD: self._record}
        self.watches: tuple[Watch, ...] = (
            Watch(resources.REMEDIATION_REQUEST, being_verified, namespace=deps.settings.namespace),
        )

    def phase_of(self, status: EffectivenessAssessmentStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        return await self._reader.observe(key)

    def subject(self, observed: Observed) -> CustomResource:
        return observed.assessment

    def decide(self, observed: Observed, now: datetime) -> Decision[EffectivenessAssessmentStatus]:
        return decide(observed, now, self._settings)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        await self._statistics.close()
        for client in (self._alertmanager, self._prometheus):
            if client is not None:
                await client.close()

    async def _record(self, call: Call, /) -> None:
        """Tell what an assessment came to. Telling twice counts once."""
        await self._statistics.record_effectiveness(call.payload["record"])


def being_verified(obj: Object, /) -> Sequence[Key]:
    """Return the assessment of a request that is being verified: its signal may have been resolved, or seen again."""
    if (obj.get("status") or {}).get("overallPhase") != RemediationPhase.VERIFYING:
        return []
    meta = obj["metadata"]
    return [Key(meta["namespace"], names.effectiveness_assessment(meta["name"]))]


def build(deps: Deps) -> EffectivenessController:
    settings = deps.settings.effectiveness
    wait = settings.request_timeout
    return EffectivenessController(
        deps,
        DataStorage(deps.endpoints.data_storage, deps.token),
        Alertmanager(settings.alertmanager_url, timeout=wait) if settings.alertmanager_url else None,
        Prometheus(settings.prometheus_url, timeout=wait) if settings.prometheus_url else None,
    )
