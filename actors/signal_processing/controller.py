"""The SignalProcessing controller: wires enrichment, policies and the pure decision into the engine's ``Controller``.

It changes nothing but its own status. While policies are missing or broken it goes on with safe words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from actors.signal_processing import phases
from actors.signal_processing.classify import ENTRYPOINTS, Classifier
from actors.signal_processing.decide import decide
from actors.signal_processing.enrich import Enricher
from actors.signal_processing.observe import Observed, Reader
from kubernaut_ray import shipped
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.signal_processing import SignalProcessing, SignalProcessingStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.policy.engine import PolicyEngine


class SignalProcessingController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "signal_processing"
    resource: Resource = resources.SIGNAL_PROCESSING
    model: type[CustomResource] = SignalProcessing
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()
    performers: Mapping[str, Performer] = {}

    def __init__(self, deps: Deps) -> None:
        self._settings = deps.settings.signal_processing
        directory = deps.settings.policies_directory or shipped.directory() / "policies"
        self._policies = PolicyEngine(directory, ENTRYPOINTS)
        classifier = Classifier(self._policies, self._settings)
        self._reader = Reader(deps.client, Enricher(deps.client), classifier, self._settings)

    def phase_of(self, status: SignalProcessingStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        return await self._reader.observe(key)

    def subject(self, observed: Observed) -> CustomResource:
        return observed.processing

    def decide(self, observed: Observed, now: datetime) -> Decision[SignalProcessingStatus]:
        return decide(observed, now, self._settings)

    async def start(self) -> None:
        """Load the policies, so that the first signal does not wait for them."""
        await self._policies.start()

    async def stop(self) -> None:
        await self._policies.close()


def build(deps: Deps) -> SignalProcessingController:
    return SignalProcessingController(deps)
