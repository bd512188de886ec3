"""The analysis's steps as a pure function: every answer, every failure, every deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ai_analysis.answer import SUB_REASONS, told
from actors.ai_analysis.approval import ApprovalVerdict
from actors.ai_analysis.decide import decide
from actors.ai_analysis.observe import NotStarted, Observed, Refused, Unreachable
from actors.ai_analysis.phases import TABLE
from actors.ai_analysis.request import build_request, session_id
from kubernaut_ray.contracts.investigation import (
    AlternativeAnswer,
    IncidentResponse,
    InvestigationSession,
    RecoveryAnalysis,
    RootCause,
    SelectedWorkflowAnswer,
    SessionError,
    SessionState,
    ValidationAttemptAnswer,
)
from kubernaut_ray.control.decision import Audit, Call
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisStatus
from kubernaut_ray.crds.enums import AIAnalysisPhase as Phase
from kubernaut_ray.crds.enums import AIAnalysisReason as Reason
from kubernaut_ray.crds.enums import AIAnalysisSubReason as Sub
from kubernaut_ray.crds.enums import HumanReviewReason
from kubernaut_ray.settings import Settings
from tests import build

SETTINGS = Settings()


def analysis(
    phase: Phase | None = Phase.INVESTIGATING, spec: dict[str, Any] | None = None, **status: Any
) -> AIAnalysis:
    found = build.ai_analysis(build.remediation_request(), phase)
    found = found.replace(spec=found.spec.replace(**(spec or {})))
    if phase is not None:
        status = {"started_at": build.NOW, "investigation_id": session_id(found), **status}
    return build.with_status(found, phase=phase, **status)


def chosen(**fields: Any) -> SelectedWorkflowAnswer:
    return SelectedWorkflowAnswer(
        **{
            "workflow_id": "w",
            "workflow_name": "fix-it",
            "version": "1.0.0",
            "container_image": "img",
            "confidence": 0.9,
            **fields,
        }
    )


def response(**fields: Any) -> IncidentResponse:
    return IncidentResponse(
        **{
            "incident_id": "ai-rr-1",
            "analysis": "text",
            "root_cause_analysis": RootCause(summary="out of memory", signal_type="OOMKilled"),
            "confidence": 0.9,
            "timestamp": build.NOW,
            "selected_workflow": chosen(),
            "model": "evidence",
            **fields,
        }
    )


def session(state: SessionState = SessionState.DONE, **fields: Any) -> InvestigationSession:
    if state is SessionState.DONE:
        fields.setdefault("response", response())
    request = build_request(analysis(), cluster_name="")
    return InvestigationSession(session_id="s", state=state, request=request, created_at=build.NOW, attempt=1, **fields)


def failed(*, retryable: bool = True, status: int = 503) -> InvestigationSession:
    return session(SessionState.FAILED, error=SessionError(message="no", status=status, retryable=retryable))


def run(seen: Observed, after: float = 1.0) -> Any:
    """Decide, and check what must hold for every decision."""
    now = build.later(after)
    decision = decide(seen, now, SETTINGS)
    old = seen.analysis.status
    if decision.status is not None:
        TABLE.check(str(old.phase or ""), str(decision.status.phase or ""))
        AIAnalysisStatus.model_validate(decision.status.to_object())
    assert decision.wake_at is None or decision.wake_at > now
    return decision


def test_a_new_analysis_is_accepted():
    """The first look writes Pending."""
    decision = run(Observed(analysis(None)))

    assert decision.status.phase is Phase.PENDING
    assert decision.status.started_at == build.later(1)


def test_pending_starts_the_investigation():
    """The investigation's id goes into the status, and the call that starts it has the same id."""
    seen = Observed(analysis(Phase.PENDING, investigation_id=""))

    decision = run(seen)

    (call,) = [e for e in decision.effects if isinstance(e, Call)]
    assert decision.status.phase is Phase.INVESTIGATING
    assert decision.status.investigation_id == call.id
    assert call.payload["signal_name"] == "KubePodOOMKilled"


@pytest.mark.parametrize(
    "spec",
    [{"is_recovery_attempt": True}, {"previous_executions": "one"}],
    ids=["recovery without history", "history without recovery"],
)
def test_a_spec_that_contradicts_itself_fails(spec):
    """It cannot be investigated, and says why."""
    from tests.actors.ai_analysis.test_request import execution

    spec = {k: (execution(),) if v == "one" else v for k, v in spec.items()}
    decision = run(Observed(analysis(Phase.PENDING, spec=spec)))

    assert (decision.status.phase, decision.status.reason, decision.status.sub_reason) == (
        Phase.FAILED,
        Reason.INVALID_SPEC,
        Sub.VALIDATION_ERROR,
    )


def test_a_session_that_is_not_there_is_started_again():
    """Its id was recorded; what started it may have died before it did."""
    decision = run(Observed(analysis(), NotStarted()))

    told, call = decision.effects
    assert isinstance(told, Audit)
    assert isinstance(call, Call)
    assert (told.event.event_type, told.event.event_data["session_id"]) == ("aianalysis.holmesgpt.call", call.id)
    assert decision.status is None


@pytest.mark.parametrize(("waited", "wait"), [(0, 0.25), (0.5, 0.5), (4, 2.25), (60, 5.0)])
def test_a_running_investigation_is_looked_at_ever_more_rarely(waited, wait):
    """From a quarter of a second up to five."""
    decision = run(Observed(analysis(), session(SessionState.RUNNING)), after=waited)

    assert decision.wake_at == build.later(waited + wait)
    assert decision.status is None


def test_a_selected_workflow_goes_to_the_policy():
    """Everything that was found out is kept."""
    decision = run(Observed(analysis(), session()))

    assert decision.status.phase is Phase.ANALYZING
    assert decision.status.selected_workflow.workflow_name == "fix-it"
    assert decision.status.root_cause == "out of memory"


@pytest.mark.parametrize("why", list(HumanReviewReason))
def test_a_person_takes_over(why):
    """Each reason has its own sub-reason, and the root cause is kept for the person."""
    answered = session(response=response(needs_human_review=True, human_review_reason=why, selected_workflow=None))

    decision = run(Observed(analysis(), answered))

    assert (decision.status.phase, decision.status.reason) == (Phase.FAILED, Reason.WORKFLOW_RESOLUTION_FAILED)
    assert decision.status.sub_reason is SUB_REASONS[why]
    assert decision.status.root_cause_analysis.summary == "out of memory"
    assert decision.status.selected_workflow is None


ANSWERS = [
    ("resolved", {"resolved": True, "selected_workflow": None}, Phase.COMPLETED, Reason.WORKFLOW_NOT_NEEDED, Sub.PROBLEM_RESOLVED),
    ("nothing to do, with confidence", {"selected_workflow": None, "confidence": 0.7}, Phase.COMPLETED, Reason.WORKFLOW_NOT_NEEDED, Sub.PROBLEM_RESOLVED),
    ("nothing selected", {"selected_workflow": None, "confidence": 0.6}, Phase.FAILED, Reason.NO_WORKFLOW_SELECTED, Sub.NO_MATCHING_WORKFLOWS),
    ("too little confidence", {"selected_workflow": chosen(confidence=0.69)}, Phase.FAILED, Reason.WORKFLOW_RESOLUTION_FAILED, Sub.LOW_CONFIDENCE),
    ("a workflow that does not fit the CRD", {"selected_workflow": chosen(version="v" * 300)}, Phase.FAILED, Reason.WORKFLOW_RESOLUTION_FAILED, Sub.VALIDATION_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "phase", "reason", "sub"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
def test_other_answers(fields, phase, reason, sub):
    """Nothing but a sound selection with enough confidence goes on."""
    decision = run(Observed(analysis(), session(response=response(**fields))))

    assert (decision.status.phase, decision.status.reason, decision.status.sub_reason) == (phase, reason, sub)


def test_a_failed_investigation_is_tried_again_under_a_new_id():
    """The backoff lies in the status, so a restart does not shorten it."""
    first = run(Observed(analysis(), failed()))

    assert first.status.phase is Phase.INVESTIGATING
    assert first.status.consecutive_failures == 1
    assert first.status.investigation_id != analysis().status.investigation_id
    wait = (first.status.next_retry_at - build.later(1)).total_seconds()
    assert 0.9 <= wait <= 1.1
    waiting = run(Observed(build.with_status(analysis(), **dict(first.status)), NotStarted()), after=1.1)
    assert waiting.reason == "BackingOff"
    assert waiting.wake_at == first.status.next_retry_at
    assert not waiting.effects


@pytest.mark.parametrize(
    ("failures", "status", "low", "high"), [(1, 503, 1.8, 2.2), (2, 503, 3.6, 4.4), (1, 429, 3.6, 4.4)]
)
def test_backoff_doubles(failures, status, low, high):
    """Each failure doubles the wait; too many requests double the base."""
    decision = run(Observed(analysis(consecutive_failures=failures), failed(status=status)))

    assert low <= (decision.status.next_retry_at - build.later(1)).total_seconds() <= high


@pytest.mark.parametrize(
    ("found", "failures", "sub"),
    [
        (failed(), 4, Sub.MAX_RETRIES_EXCEEDED),
        (failed(retryable=False, status=422), 0, Sub.PERMANENT_ERROR),
        (Refused("403 no"), 0, Sub.PERMANENT_ERROR),
        (session(SessionState.DONE, response=None), 4, Sub.MAX_RETRIES_EXCEEDED),
    ],
    ids=["the fifth failure", "a permanent failure", "refused", "done without an answer"],
)
def test_giving_up(found, failures, sub):
    """After five failures, or at once where no retry helps."""
    decision = run(Observed(analysis(consecutive_failures=failures), found))

    assert (decision.status.phase, decision.status.reason, decision.status.sub_reason) == (
        Phase.FAILED,
        Reason.API_ERROR,
        sub,
    )


def test_a_service_that_is_away_is_waited_for():
    """Its restart is no failure of the investigation."""
    decision = run(Observed(analysis(), Unreachable("refused")))

    assert decision.status is None
    assert decision.wake_at == build.later(3)


@pytest.mark.parametrize("found", [Unreachable("refused"), session(SessionState.RUNNING), NotStarted()])
@pytest.mark.parametrize("spec", [{}, {"deadline": build.later(30)}], ids=["its own limit", "the orchestrator's"])
def test_every_wait_has_an_end(found, spec):
    """Whatever is waited for, the deadline passes."""
    decision = run(Observed(analysis(spec=spec), found), after=31 if spec else 601)

    assert (decision.status.phase, decision.status.reason) == (Phase.FAILED, Reason.TIMED_OUT)


def test_an_answer_that_is_there_counts_after_the_deadline():
    """What was found out is not thrown away."""
    assert run(Observed(analysis(), session()), after=700).status.phase is Phase.ANALYZING


@pytest.mark.parametrize(
    ("verdict", "required", "degraded"),
    [
        (ApprovalVerdict(False, "fine", "h"), False, False),
        (ApprovalVerdict(True, "production", "h"), True, False),
        (ApprovalVerdict(True, "no verdict", degraded=True), True, True),
        (None, True, True),
    ],
    ids=["not required", "required", "degraded", "never asked"],
)
def test_the_policy_speaks(verdict, required, degraded):
    """The verdict completes the analysis; a person is asked whenever nobody knows."""
    seen = Observed(
        analysis(Phase.ANALYZING, selected_workflow=build.selected_workflow(), root_cause="x"), verdict=verdict
    )

    decision = run(seen)

    status = decision.status
    assert (status.phase, status.reason) == (Phase.COMPLETED, Reason.WORKFLOW_SELECTED)
    assert (status.approval_required, status.degraded_mode) == (required, degraded)
    assert (status.approval_context is not None) == required
    types = {e.event.event_type for e in decision.effects if isinstance(e, Audit)}
    assert {"aianalysis.rego.evaluation", "aianalysis.approval.decision", "aianalysis.analysis.completed"} <= types


def test_nothing_to_judge_fails():
    """An Analyzing object without a workflow was made by hand."""
    assert run(Observed(analysis(Phase.ANALYZING))).status.reason is Reason.NO_WORKFLOW_SELECTED


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.FAILED])
def test_the_end_is_the_end(phase):
    """Nothing follows."""
    decision = run(Observed(analysis(phase)))

    assert (decision.status, decision.effects, decision.wake_at) == (None, (), None)


LONG = st.text(min_size=0, max_size=3000)


@given(
    texts=st.lists(LONG, max_size=40),
    attempt=st.integers(-5, 99),
    confidence=st.floats(0, 1),
)
def test_any_answer_fits_the_status(texts, attempt, confidence):
    """Whatever an investigation says, the status takes it: no answer makes an object that cannot be written."""
    text = max(texts, key=len, default="") * 20
    answered = response(
        analysis=text,
        confidence=confidence,
        root_cause_analysis=RootCause(summary=text, signal_type=text, contributing_factors=tuple(texts)),
        warnings=tuple(texts),
        evidence=tuple(texts),
        model=text,
        alternative_workflows=tuple(
            AlternativeAnswer(workflow_id=t, workflow_name=t, container_image=t, rationale=t) for t in texts
        ),
        validation_attempts_history=tuple(
            ValidationAttemptAnswer(
                attempt=attempt, workflow_id=t, is_valid=False, errors=tuple(texts), timestamp=build.NOW
            )
            for t in texts
        ),
        recovery_analysis=RecoveryAnalysis(failure_reason_analysis=text, current_signal_type=text),
    )

    AIAnalysisStatus(**told(answered))


def test_wakes_before_the_deadline():
    """The deadline itself is a reason to wake."""
    seen = Observed(analysis(spec={"deadline": build.NOW + timedelta(seconds=2)}), session(SessionState.RUNNING))

    assert run(seen, after=1.9).wake_at == build.later(2)
