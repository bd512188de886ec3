"""The AIAnalysis controller: wires the HolmesGPT-API's client, the approval policy and the pure decision into the engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import structlog

from actors.ai_analysis import phases
from actors.ai_analysis.approval import ask
from actors.ai_analysis.decide import PERFORMER, decide
from actors.ai_analysis.observe import Investigation, NotStarted, Observed, Refused, Unreachable
from actors.ai_analysis.request import session_id
from kubernaut_ray import shipped
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clients.holmesgpt import HolmesGpt
from kubernaut_ray.contracts.investigation import IncidentRequest, InvestigationSession
from kubernaut_ray.contracts.statistics import Trust, WorkflowEffectiveness
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Call, Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisStatus
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import AIAnalysisPhase, TrustLevel
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.settings import Settings

_log = structlog.get_logger(__name__)


class Investigations(Protocol):
    """The HolmesGPT-API, as far as this controller uses it."""

    async def start(self, session_id: str, request: IncidentRequest) -> InvestigationSession: ...

    async def get(self, session_id: str) -> InvestigationSession | None: ...

    async def close(self) -> None: ...


class Records(Protocol):
    """Data Storage, as far as this controller asks it how workflows fared."""

    async def effectiveness(self, workflow_id: str) -> WorkflowEffectiveness: ...

    async def close(self) -> None: ...


class AIAnalysisController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "ai_analysis"
    resource: Resource = resources.AI_ANALYSIS
    model: type[CustomResource] = AIAnalysis
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        investigations: Investigations,
        policies: PolicyEngine,
        records: Records | None = None,
    ) -> None:
        """Without ``records`` the policy is told nothing of how workflows fared."""
        self._client, self._settings = client, settings
        self._investigations, self._policies, self._records = investigations, policies, records
        self.performers: Mapping[str, Performer] = {PERFORMER: self._start_investigation}

    def phase_of(self, status: AIAnalysisStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        try:
            found = await self._client.get(self.resource, key.name, key.namespace)
        except NotFound:
            return None
        analysis = AIAnalysis.from_object(found)
        status = analysis.status
        if status.phase is AIAnalysisPhase.INVESTIGATING:
            return Observed(analysis, await self._look(status.investigation_id or session_id(analysis)))
        if status.phase is AIAnalysisPhase.ANALYZING and status.selected_workflow is not None:
            trust = await self._trust(analysis, status.selected_workflow.workflow_id)
            return Observed(analysis, verdict=await ask(self._policies, analysis, self._settings.analysis, trust))
        return Observed(analysis)

    def subject(self, observed: Observed) -> CustomResource:
        return observed.analysis

    def decide(self, observed: Observed, now: datetime) -> Decision[AIAnalysisStatus]:
        return decide(observed, now, self._settings)

    async def start(self) -> None:
        """Load the policies, so that the first analysis does not wait for them."""
        await self._policies.start()

    async def stop(self) -> None:
        await self._investigations.close()
        await self._policies.close()
        if self._records is not None:
            await self._records.close()

    async def _trust(self, analysis: AIAnalysis, workflow_id: str) -> Trust | None:
        """How far the workflow is trusted where this is. A record that cannot be read is no good one: the policy is told so."""
        if self._records is None:
            return None
        environment = analysis.spec.analysis_request.signal_context.environment.value
        try:
            found = await self._records.effectiveness(workflow_id)
        except (Retryable, Permanent) as error:
            _log.warning("trust.unknown", analysis=analysis.name, workflow=workflow_id, error=str(error))
            return Trust(environment=environment, level=TrustLevel.UNKNOWN)
        fresh = Trust(environment=environment, level=TrustLevel.APPROVE)
        return next((one for one in found.environments if one.environment == environment), fresh)

    async def _look(self, investigation_id: str) -> Investigation:
        try:
            return await self._investigations.get(investigation_id) or NotStarted()
        except Retryable as error:
            return Unreachable(str(error), error.after)
        except Permanent as error:
            return Refused(str(error))

    async def _start_investigation(self, call: Call, /) -> None:
        """Start it and go: what comes of it is looked at later. Starting twice is starting once."""
        await self._investigations.start(call.id, IncidentRequest.model_validate(call.payload))


def build(deps: Deps) -> AIAnalysisController:
    """Build the controller of a running system."""
    directory = deps.settings.policies_directory or shipped.directory() / "policies"
    client = HolmesGpt(deps.endpoints.holmesgpt, deps.token)
    records = DataStorage(deps.endpoints.data_storage, deps.token)
    return AIAnalysisController(deps.client, deps.settings, client, PolicyEngine(directory, APPROVAL), records)
