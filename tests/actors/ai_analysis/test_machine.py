"""A random life of an AIAnalysis: a HolmesGPT-API that is away, fails, forgets or thinks too long, and a process that dies.

Each investigation is begun under an id of its own, not more than the settings allow; the deadline ends it in any case; what it
selects it never takes back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from actors.ai_analysis.controller import AIAnalysisController
from kubernaut_ray.clock import parse_rfc3339
from kubernaut_ray.contracts.investigation import IncidentRequest, InvestigationSession, SessionError, SessionState
from kubernaut_ray.crds.enums import Environment
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import Settings
from tests import build
from tests.actors.ai_analysis.test_decide import chosen, response
from tests.machines import Machine, Trouble, examples, places, troubles
from tests.policies import Policies

SETTINGS = Settings()
DEADLINE = build.later(minutes=10)
ENDS = ("selected", "selected", "unsure", "resolved", "review", "nothing", "failed", "failed", "refused")


class Life(Machine):
    resource, name = resources.AI_ANALYSIS, "ai-rr-1"
    patience = timedelta(minutes=1)

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, InvestigationSession] = {}
        self.begun: list[str] = []
        self.state = "well"

    def build(self) -> AIAnalysisController:
        policies: Any = Policies()
        return AIAnalysisController(self.client, SETTINGS, self, policies)

    async def start(self, session_id: str, request: IncidentRequest) -> InvestigationSession:
        self.answers()
        if session_id not in self.sessions:
            self.begun.append(session_id)
            self.sessions[session_id] = InvestigationSession(
                session_id=session_id, state=SessionState.RUNNING, request=request, created_at=self.now, attempt=1
            )
        return self.sessions[session_id]

    async def get(self, session_id: str) -> InvestigationSession | None:
        self.answers()
        return self.sessions.get(session_id)

    async def close(self) -> None:
        """Nothing is open."""

    def answers(self) -> None:
        if self.state == "away":
            raise Retryable("connection refused", after=3.0)
        if self.state == "hostile":
            raise Permanent("403")

    @initialize(environment=st.sampled_from([Environment.STAGING, Environment.PRODUCTION, Environment.UNKNOWN]))
    def begin(self, environment: Environment) -> None:
        made = build.ai_analysis(build.remediation_request(), phase=None)
        asked = made.spec.analysis_request
        signal = asked.signal_context.replace(environment=environment)
        spec = made.spec.replace(analysis_request=asked.replace(signal_context=signal), deadline=DEADLINE)
        self.run(self.kube.create(self.resource, made.replace(spec=spec).to_object()))

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule(seconds=st.sampled_from([0.3, 1, 3, 10, 45, 200, 700]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(state=st.sampled_from(["well", "well", "away"]))
    def the_service_comes_and_goes(self, state: str) -> None:
        self.state = state

    @rule(end=st.sampled_from(ENDS), confidence=st.sampled_from([0.95, 0.75, 0.6]), trouble=troubles, at=places)
    def an_investigation_ends(self, end: str, confidence: float, trouble: Trouble, at: int) -> None:
        for name, session in self.sessions.items():
            if session.state is SessionState.RUNNING:
                self.sessions[name] = session.model_copy(update=self.answer(end, confidence))
        self.turn(trouble, at)

    @rule()
    def the_service_forgets(self) -> None:
        """Its store was emptied: what was begun is unknown there, and may be begun again."""
        self.sessions.clear()

    def answer(self, end: str, confidence: float) -> dict[str, Any]:
        match end:
            case "failed" | "refused":
                error = SessionError(message="no", status=503, retryable=end == "failed")
                return {"state": SessionState.FAILED, "error": error}
            case "selected" | "unsure":
                given: dict[str, Any] = {"selected_workflow": chosen(confidence=confidence), "confidence": confidence}
            case "resolved":
                given = {"selected_workflow": None, "resolved": True}
            case "review":
                given = {"selected_workflow": None, "needs_human_review": True, "human_review_reason": "low_confidence"}
            case _:
                given = {"selected_workflow": None, "confidence": confidence}
        return {"state": SessionState.DONE, "response": response(**given)}

    @invariant()
    def it_stays_ended(self) -> None:
        self.an_end_is_an_end()
        assert len(set(self.begun)) <= SETTINGS.analysis.max_attempts

    def at_rest(self) -> None:
        """Ended in time; a workflow of low confidence is never the result, and nobody is spared without a verdict."""
        obj = self.found()
        assert obj is not None
        status = obj["status"]
        assert parse_rfc3339(status["completedAt"]) <= max(self.now, DEADLINE)
        assert self.trail.told("aianalysis.analysis.completed") == 1
        if status["phase"] == "Completed" and (workflow := status.get("selectedWorkflow")):
            assert workflow["confidence"] >= SETTINGS.analysis.review_threshold
            needed = workflow["confidence"] < SETTINGS.analysis.approval_threshold or self.environment(obj) != "staging"
            assert status["approvalRequired"] or not needed

    @staticmethod
    def environment(obj: Any) -> str:
        return str(obj["spec"]["analysisRequest"]["signalContext"]["environment"])


TestLife = Life.TestCase
TestLife.settings = examples(15)
