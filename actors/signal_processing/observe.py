"""Reads one SignalProcessing and does the looking of its phase: the cluster while enriching, the policies afterwards.

What a phase found is in ``Observed`` and nowhere else; a crash before the status is written means looking again.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.signal_processing.classify import Categorization, Classification, Classifier
from actors.signal_processing.enrich import Enriched, Enricher, NotEnriched
from kubernaut_ray import clock
from kubernaut_ray.clock import Clock
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import Environment, Severity
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase
from kubernaut_ray.crds.shared import KubernetesContext
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.settings import SignalProcessingSettings

Finding = Enriched | NotEnriched | Classification | Categorization


@dataclass(frozen=True, slots=True)
class Observed:
    """``finding`` is what the current phase needs; ``None`` in phases that need nothing, and while a retry is not due."""

    processing: SignalProcessing
    finding: Finding | None = None


class Reader:
    def __init__(
        self,
        client: KubeClient,
        enricher: Enricher,
        classifier: Classifier,
        settings: SignalProcessingSettings,
        now: Clock = clock.utcnow,
    ) -> None:
        self._client = client
        self._enricher = enricher
        self._classifier = classifier
        self._settings = settings
        self._now = now

    async def observe(self, key: Key) -> Observed | None:
        try:
            obj = await self._client.get(resources.SIGNAL_PROCESSING, key.name, key.namespace)
        except NotFound:
            return None
        processing = SignalProcessing.from_object(obj)
        return Observed(processing, await self._look(processing))

    async def _look(self, processing: SignalProcessing) -> Finding | None:
        spec, status = processing.spec, processing.status
        if status.next_retry_at is not None and self._now() < status.next_retry_at:
            return None
        context = status.kubernetes_context or KubernetesContext(degraded_mode=True)
        match status.phase:
            case Phase.ENRICHING:
                asked = clock.parse_duration(spec.enrichment_config.timeout).total_seconds()
                return await self._enricher.enrich(spec, min(asked, self._settings.enrichment_timeout))
            case Phase.CLASSIFYING:
                return await self._classifier.classify(spec, context)
            case Phase.CATEGORIZING:
                environment = status.environment_classification
                return await self._classifier.categorize(
                    spec,
                    context,
                    environment.environment if environment else Environment.UNKNOWN,
                    status.severity or Severity.UNKNOWN,
                )
            case _:
                return None
