"""The controller with the real policies: crashes at every point converge, and each way an investigation may go ends right."""

from __future__ import annotations

from typing import Any

import pytest

from actors.ai_analysis.controller import AIAnalysisController
from kubernaut_ray import names, shipped
from kubernaut_ray.contracts.investigation import (
    IncidentRequest,
    InvestigationSession,
    SessionError,
    SessionState,
)
from kubernaut_ray.contracts.statistics import Trust, WorkflowEffectiveness
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import AIAnalysisPhase, AIAnalysisReason, Environment, TrustLevel
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.settings import Settings
from tests import build
from tests.actors.ai_analysis.test_decide import response
from tests.crash import START, crash_everywhere


class OnePolicy(PolicyEngine):
    """Compiled once for all the lives of a controller; ``end`` closes it."""

    async def close(self) -> None:
        """A controller that stops leaves it."""

    async def end(self) -> None:
        await super().close()


@pytest.fixture
async def policies():
    engine = OnePolicy(shipped.directory() / "policies", APPROVAL)
    yield engine
    await engine.end()


KEY = Key(names.SYSTEM_NAMESPACE, "ai-rr-1")


class Investigations:
    """A HolmesGPT-API whose sessions outlive the controller: each look brings one further, the first ``faults`` fail."""

    def __init__(self, *, faults: int = 0, away: int = 0, **answer: Any) -> None:
        self.sessions: dict[str, InvestigationSession] = {}
        self.faults, self.away, self.answer = faults, away, answer

    async def start(self, session_id: str, request: IncidentRequest) -> InvestigationSession:
        fresh = InvestigationSession(
            session_id=session_id, state=SessionState.RUNNING, request=request, created_at=START, attempt=1
        )
        return self.sessions.setdefault(session_id, fresh)

    async def get(self, session_id: str) -> InvestigationSession | None:
        if self.away:
            self.away -= 1
            raise Retryable("connection refused")
        session = self.sessions.get(session_id)
        if session is None or session.state is not SessionState.RUNNING:
            return session
        ended = sum(s.state is SessionState.FAILED for s in self.sessions.values())
        if ended < self.faults:
            change: dict[str, Any] = {
                "state": SessionState.FAILED,
                "error": SessionError(message="model away", status=503, retryable=True),
            }
        else:
            change = {"state": SessionState.DONE, "response": response(**self.answer)}
        self.sessions[session_id] = session.model_copy(update=change)
        return session

    async def close(self) -> None:
        """Nothing is open."""


def analysis(environment: Environment = Environment.STAGING) -> AIAnalysis:
    found = build.ai_analysis(build.remediation_request(), phase=None)
    signal = found.spec.analysis_request.signal_context.replace(environment=environment, business_priority="P2")
    return found.replace(
        spec=found.spec.replace(analysis_request=found.spec.analysis_request.replace(signal_context=signal))
    )


async def put(kube: Any, found: AIAnalysis) -> None:
    body = found.to_object()
    await kube.create(resources.AI_ANALYSIS, {k: v for k, v in body.items() if k != "status"})


@pytest.mark.parametrize(
    ("world", "phase", "reason"),
    [
        ({}, AIAnalysisPhase.COMPLETED, AIAnalysisReason.WORKFLOW_SELECTED),
        ({"faults": 2}, AIAnalysisPhase.COMPLETED, AIAnalysisReason.WORKFLOW_SELECTED),
        ({"away": 3}, AIAnalysisPhase.COMPLETED, AIAnalysisReason.WORKFLOW_SELECTED),
        ({"faults": 9}, AIAnalysisPhase.FAILED, AIAnalysisReason.API_ERROR),
        ({"resolved": True, "selected_workflow": None}, AIAnalysisPhase.COMPLETED, AIAnalysisReason.WORKFLOW_NOT_NEEDED),
        ({"needs_human_review": True, "selected_workflow": None, "human_review_reason": "low_confidence"},
         AIAnalysisPhase.FAILED, AIAnalysisReason.WORKFLOW_RESOLUTION_FAILED),
    ],
    ids=["straight", "two failed investigations", "a service away for a while", "never an answer", "resolved", "a person"],
)  # fmt: skip
async def test_crashes_anywhere_converge(policies, world, phase, reason):
    """However often and wherever the controller dies, the analysis ends the same, and each investigation was one."""
    lives: dict[int, Investigations] = {}

    async def make_world(kube: Any) -> None:
        lives.clear()
        lives[0] = Investigations(**world)
        await put(kube, analysis())

    def make_controller(kube: Any) -> AIAnalysisController:
        return AIAnalysisController(kube, Settings(), lives[0], policies)

    report = await crash_everywhere(make_controller, make_world, KEY, ignore=("totalAnalysisTime",))

    (body,) = report.world.objects.values()
    assert (body["status"]["phase"], body["status"]["reason"]) == (phase, reason)
    assert len(report.world.calls) == min(world.get("faults", 0) + 1, 5)
    assert len(report.points) >= 8


async def test_the_walk_is_on_record(policies):
    """Each step of the walk is told, and a person is shown what to decide where production asks for one."""
    investigations = Investigations()

    async def make_world(kube: Any) -> None:
        investigations.sessions.clear()
        await put(kube, analysis(Environment.PRODUCTION))

    def make_controller(kube: Any) -> AIAnalysisController:
        return AIAnalysisController(kube, Settings(), investigations, policies)

    report = await crash_everywhere(make_controller, make_world, KEY, ignore=("totalAnalysisTime",))

    told = [p.removeprefix("after audit aianalysis.") for p in report.points if p.startswith("after audit")]
    assert told.count("phase.transition") == 4
    assert {"holmesgpt.call", "rego.evaluation", "approval.decision", "analysis.completed"} <= set(told)
    (body,) = report.world.objects.values()
    assert body["status"]["approvalRequired"] is True
    assert body["status"]["approvalContext"]["recommendedActions"]
    assert report.outcomes[:3] == ("Accepted", "InvestigationStarts", "Investigating")


class Ledger:
    """A Data Storage that knows how one workflow fared, or does not answer."""

    def __init__(self, level: TrustLevel | None) -> None:
        self.level = level

    async def effectiveness(self, workflow_id: str) -> WorkflowEffectiveness:
        if self.level is None:
            raise Retryable("Data Storage does not answer")
        trust = Trust(environment="staging", level=self.level, assessed=3, effective=1, failures_in_a_row=2)
        return WorkflowEffectiveness(workflow_id=workflow_id, environments=(trust,))

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("level", "environment", "required"),
    [
        pytest.param(TrustLevel.AUTO, Environment.STAGING, False, id="it helped so far"),
        pytest.param(TrustLevel.SUGGEST, Environment.STAGING, True, id="it did not"),
        pytest.param(TrustLevel.SUGGEST, Environment.DEVELOPMENT, False, id="it did not, elsewhere"),
        pytest.param(None, Environment.STAGING, True, id="nobody can tell"),
    ],
)
async def test_the_workflow_s_record_where_it_would_run_is_judged(policies, level, environment, required):
    """Read before the policy is asked, for this environment only."""
    investigations = Investigations()

    async def make_world(kube):
        investigations.sessions.clear()
        await put(kube, analysis(environment))

    def make_controller(kube):
        return AIAnalysisController(kube, Settings(), investigations, policies, Ledger(level))

    report = await crash_everywhere(make_controller, make_world, KEY, ignore=("totalAnalysisTime",))
    status = report.world.objects["AIAnalysis kubernaut-system/ai-rr-1"]["status"]

    assert (status["phase"], status["approvalRequired"]) == ("Completed", required)
