"""What a RemediationRequest does next, phase by phase."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from actors.approval import decide as approvals
from actors.remediation import moves
from actors.remediation.blocking import Facts
from actors.remediation.decide import decide
from actors.remediation.observe import DELIVERED_CONDITION, Observed
from actors.remediation.phases import TABLE
from actors.remediation.recovery import Finished
from catalog.account.story import reconstruct
from kubernaut_ray import clock, conditions, names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.contracts.timeline import GapKind
from kubernaut_ray.control.decision import Audit, Create, Decision, Delete, Patch
from kubernaut_ray.crds.enums import AIAnalysisPhase as Analysis
from kubernaut_ray.crds.enums import (
    AIAnalysisReason,
    AIAnalysisSubReason,
    ApprovalDecision,
    BlockReason,
    DeliveryState,
    FailurePhase,
    NotificationPhase,
    Outcome,
    SkipReason,
    StormType,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.enums import SignalProcessingPhase as Processing
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.remediation_request import (
    Member,
    RemediationRequestStatus,
    SignalResolution,
    Storm,
    TimeoutConfig,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import OrchestratorSettings, Settings
from tests import build
from tests.trail import fits

SETTINGS = Settings()
DELIVERED = conditions.with_condition(
    (), DELIVERED_CONDITION, status=True, reason="Delivered", message="", now=build.NOW
)


def step(
    seen: Observed, now: datetime = build.NOW, settings: Settings = SETTINGS
) -> Decision[RemediationRequestStatus]:
    """Decide, and hold the result against the table of phases."""
    decision = decide(seen, now, settings)
    if decision.status is not None:
        TABLE.check(str(seen.request.status.overall_phase or ""), str(decision.status.overall_phase or ""))
    return decision


def status_of(decision: Decision[RemediationRequestStatus]) -> RemediationRequestStatus:
    assert decision.status is not None, decision.reason
    return decision.status


def created(decision: Decision[Any]) -> dict[str, dict[str, Any]]:
    """Name → object of everything that the decision creates."""
    return {e.obj["metadata"]["name"]: dict(e.obj) for e in decision.effects if isinstance(e, Create)}


def deleted(decision: Decision[Any]) -> set[str]:
    return {effect.key.name for effect in decision.effects if isinstance(effect, Delete)}


def told(decision: Decision[Any]) -> list[str]:
    return [fits(effect.event).event_type for effect in decision.effects if isinstance(effect, Audit)]


def at(phase: Phase, **fields: Any) -> Observed:
    """A request in this phase since ``NOW`` with the children that it has by then."""
    started = {
        Phase.PENDING: "start_time",
        Phase.PROCESSING: "processing_start_time",
        Phase.ANALYZING: "analyzing_start_time",
        Phase.AWAITING_APPROVAL: "awaiting_approval_start_time",
        Phase.EXECUTING: "executing_start_time",
    }
    since = {started[phase]: build.NOW} if phase in started else {}
    request = build.remediation_request(phase=phase, **{"start_time": build.NOW, **since, **fields})
    seen = Observed(request, routing=Facts())
    if phase in {Phase.ANALYZING, Phase.AWAITING_APPROVAL, Phase.EXECUTING}:
        seen = replace(seen, processing=build.signal_processing(request), analysis=build.ai_analysis(request))
    if phase is Phase.AWAITING_APPROVAL:
        seen = replace(seen, approval=build.approval_request(request))
    if phase is Phase.EXECUTING:
        seen = replace(seen, execution=build.workflow_execution(request))
    return seen


def test_a_new_request_is_taken_up() -> None:
    """The first decision only says that somebody is on it."""
    decision = step(Observed(build.remediation_request()))
    assert status_of(decision).overall_phase is Phase.PENDING
    assert told(decision) == ["orchestrator.lifecycle.started", "orchestrator.phase.transitioned"]


def test_pending_creates_the_signal_processing() -> None:
    """Nothing stands in the way: the first child, with owner, shard and deadline."""
    decision = step(at(Phase.PENDING))
    child = created(decision)["sp-rr-1"]
    assert status_of(decision).overall_phase is Phase.PROCESSING
    assert child["metadata"]["labels"][names.LABEL_SHARD] == names.shard_label("rr-1")[names.LABEL_SHARD]
    assert child["metadata"]["labels"][names.LABEL_REMEDIATION] == "rr-1"
    assert child["metadata"]["ownerReferences"][0]["uid"] == "uid-rr-1"
    assert child["metadata"]["ownerReferences"][0]["controller"] is True
    assert child["spec"]["deadline"] == "2026-03-01T12:05:00.000000Z"
    assert "status" not in child


def test_a_step_rests_only_on_a_child_that_it_makes() -> None:
    """What is found may have ended already, so it is looked at again at once; so is a phase that needs no child to go on."""
    assert step(at(Phase.PENDING)).rests
    assert not step(Observed(build.remediation_request())).rests
    seen = at(Phase.ANALYZING)
    assert step(seen).rests
    assert not step(replace(seen, execution=build.workflow_execution(seen.request, Run.COMPLETED))).rests


def test_only_a_request_with_nothing_left_to_do_is_settled() -> None:
    """A resync passes it over; one whose message is under way is looked at."""
    done = at(Phase.COMPLETED)
    assert step(done).settled
    settled = replace(done, request=done.request.replace(status=status_of(step(done))))
    assert (step(settled).reason, step(settled).settled) == ("Finished", True)
    notice = build.notification_request(owner=done.request, phase=NotificationPhase.SENDING)
    waiting = at(Phase.COMPLETED, notification_request_refs=(notice.reference,))
    assert not step(replace(waiting, notifications=(notice,))).settled


def test_processing_hands_over_to_the_analysis() -> None:
    """A completed signal processing becomes an analysis."""
    seen = at(Phase.PROCESSING)
    decision = step(replace(seen, processing=build.signal_processing(seen.request)))
    assert status_of(decision).overall_phase is Phase.ANALYZING
    assert list(created(decision)) == ["ai-rr-1"]


def test_failed_processing_fails_and_tells_somebody() -> None:
    """No incident ends silently."""
    seen = at(Phase.PROCESSING)
    broken = build.signal_processing(seen.request, Processing.FAILED, error="namespace shop: forbidden")
    status = status_of(decision := step(replace(seen, processing=broken)))
    assert (status.overall_phase, status.failure_phase) == (Phase.FAILED, FailurePhase.SIGNAL_PROCESSING)
    assert "forbidden" in status.failure_reason
    assert status.next_allowed_execution is not None
    assert list(created(decision)) == ["nr-failed-rr-1"]


def test_no_approval_needed_goes_straight_to_execution() -> None:
    """The selected workflow is passed through as it is."""
    decision = step(at(Phase.ANALYZING))
    child = created(decision)["we-rr-1"]
    chosen = build.selected_workflow()
    assert status_of(decision).overall_phase is Phase.EXECUTING
    assert child["spec"]["workflowRef"]["containerImage"] == chosen.container_image
    assert child["spec"]["workflowRef"]["containerDigest"] == chosen.container_digest
    assert child["spec"]["workflowRef"]["engine"] == "tekton"
    assert child["spec"]["parameters"] == {"MEMORY_LIMIT": "512Mi"}
    assert child["spec"]["targetResource"] == "shop/deployment/web"


@pytest.mark.parametrize("required", [True, None])
def test_approval_is_asked_for_unless_policy_said_no(required: bool | None) -> None:
    """An unknown verdict counts as approval required; the request is created before the message about it."""
    seen = at(Phase.ANALYZING)
    asked = build.with_status(build.ai_analysis(seen.request), approval_required=required)
    status = status_of(decision := step(replace(seen, analysis=asked)))
    assert status.overall_phase is Phase.AWAITING_APPROVAL
    assert list(created(decision)) == ["rar-rr-1", "nr-approval-rr-1"]
    assert "kubernaut-ray approve rar-rr-1" in created(decision)["nr-approval-rr-1"]["spec"]["body"]
    assert status.approval_notification_sent
    assert status.awaiting_approval_start_time == build.NOW
    assert [ref.name for ref in status.notification_request_refs] == ["nr-approval-rr-1"]
    assert "orchestrator.approval.requested" in told(decision)


def test_only_a_sealed_decision_counts() -> None:
    """What a person wrote is not yet what the approval controller accepted."""
    seen = at(Phase.AWAITING_APPROVAL)
    unsealed = build.approval_request(seen.request, decision=ApprovalDecision.APPROVED, decided_by="mallory")
    decision = step(replace(seen, approval=unsealed))
    assert (decision.status, decision.effects, decision.reason) == (None, (), "WaitingForApproval")


def test_a_sealed_approval_executes_if_nothing_stands_in_the_way() -> None:
    """Approved and still sensible."""
    seen = at(Phase.AWAITING_APPROVAL)
    sealed = build.approval_request(seen.request, sealed_decision=ApprovalDecision.APPROVED, decided_by="ann")
    assert list(created(step(replace(seen, approval=sealed)))) == ["we-rr-1"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"workflow_id": "wf-other"}, id="another workflow"),
        pytest.param({"container_digest": f"sha256:{'f' * 64}"}, id="another image under the same name"),
        pytest.param({"parameters": {"MEMORY": "64Gi"}}, id="other parameters"),
    ],
)
def test_only_what_was_approved_runs(change: dict[str, Any]) -> None:
    """An analysis that was made anew or edited after the approval goes to a person; the approval does not cover it."""
    seen = at(Phase.AWAITING_APPROVAL)
    assert seen.analysis is not None
    sealed = build.approval_request(seen.request, sealed_decision=ApprovalDecision.APPROVED, decided_by="ann")
    other = build.with_status(seen.analysis, selected_workflow=build.selected_workflow().replace(**change))
    decision = step(replace(seen, approval=sealed, analysis=other))
    assert list(created(decision)) == ["nr-manual-review-rr-1"]
    assert status_of(decision).outcome is Outcome.MANUAL_REVIEW_REQUIRED
    assert "ann approved" in status_of(decision).message


def test_a_long_story_of_others_is_cut() -> None:
    """What the investigation says may fill its own field already; with our words before it, it still must fit ours."""
    seen = at(Phase.ANALYZING)
    failed = build.with_status(
        build.ai_analysis(seen.request),
        phase="Failed",
        reason=AIAnalysisReason.API_ERROR,
        message="x" * 32_768,
    )
    status = status_of(step(replace(seen, analysis=failed)))
    assert (status.overall_phase, len(status.message), len(status.failure_reason)) == (Phase.FAILED, 32_768, 32_768)


def test_routing_is_asked_again_after_approval() -> None:
    """An approved workflow waits for another one on the same target, and then goes on by itself."""
    seen = at(Phase.AWAITING_APPROVAL)
    sealed = build.approval_request(seen.request, sealed_decision=ApprovalDecision.APPROVED)
    other = build.remediation_request("rr-2")
    busy = Facts(executions=(build.workflow_execution(other, Run.RUNNING),))
    status = status_of(decision := step(replace(seen, approval=sealed, routing=busy)))
    assert (status.overall_phase, status.block_reason) == (Phase.BLOCKED, BlockReason.RESOURCE_BUSY)
    assert status.blocked_from is Phase.AWAITING_APPROVAL
    assert "orchestrator.routing.blocked" in told(decision)
    assert not created(decision)
    waiting = replace(seen, request=seen.request.replace(status=status), approval=sealed)
    assert step(replace(waiting, routing=busy), build.later(30)).status is None
    resumed = status_of(step(replace(waiting, routing=Facts()), build.later(60)))
    assert (resumed.overall_phase, resumed.block_reason) == (Phase.AWAITING_APPROVAL, None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(
            {"sealed_decision": ApprovalDecision.REJECTED, "decided_by": "ann", "decision_message": "not on a Friday"},
            "Rejected by ann: not on a Friday",
            id="rejected",
        ),
        pytest.param({"sealed_decision": ApprovalDecision.EXPIRED, "expired": True}, "Nobody decided", id="expired"),
    ],
)
def test_without_leave_nothing_runs(status: dict[str, Any], reason: str) -> None:
    """Rejected and expired both end in Failed at the approval, and somebody hears of it."""
    seen = at(Phase.AWAITING_APPROVAL)
    decision = step(replace(seen, approval=build.approval_request(seen.request, **status)))
    assert status_of(decision).overall_phase is Phase.FAILED
    assert status_of(decision).failure_phase is FailurePhase.APPROVAL
    assert reason in status_of(decision).failure_reason
    assert list(created(decision)) == ["nr-declined-rr-1"]


def test_an_approval_controller_that_is_down_does_not_keep_the_door_open() -> None:
    """Past the deadline and a moment's grace, an unsealed request counts as expired."""
    seen = at(Phase.AWAITING_APPROVAL)
    assert step(seen, build.later(minutes=15)).reason == "WaitingForApproval"
    closed = step(seen, build.later(15 * 60 + 31))
    assert status_of(closed).failure_phase is FailurePhase.APPROVAL
    [told_here] = [e.event for e in closed.effects if isinstance(e, Audit) and e.event.event_type.endswith(".expired")]
    assert seen.approval is not None
    asked = build.with_status(seen.approval, created_at=build.NOW)
    [told_there] = approvals.decide(approvals.Observed(asked), build.later(minutes=15)).effects
    assert isinstance(told_there, Audit)
    assert told_here.event_id == told_there.event.event_id, "one fact, whoever tells it"
    assert deleted(closed) == set(), "a crash before the status is written must not find it gone, and ask again"


def test_nothing_needed_is_a_good_end() -> None:
    """No workflow, no message (by default), outcome NoActionRequired."""
    seen = at(Phase.ANALYZING)
    gone = build.ai_analysis(
        seen.request, reason=AIAnalysisReason.WORKFLOW_NOT_NEEDED, selected_workflow=None, message="all pods are well"
    )
    status = status_of(decision := step(replace(seen, analysis=gone)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.NO_ACTION_REQUIRED)
    assert status.message == "all pods are well"
    assert not created(decision)
    loud = Settings(orchestrator=OrchestratorSettings(notify_self_resolved=True))
    assert list(created(step(replace(seen, analysis=gone), settings=loud))) == ["nr-completion-rr-1"]


@pytest.mark.parametrize(
    ("sub_reason", "priority"),
    [(AIAnalysisSubReason.LOW_CONFIDENCE, "medium"), (AIAnalysisSubReason.WORKFLOW_NOT_FOUND, "high")],
)
def test_no_workflow_found_hands_over_to_a_person(sub_reason: AIAnalysisSubReason, priority: str) -> None:
    """Nothing was executed and nothing failed, so it completes, asking for a person."""
    seen = at(Phase.ANALYZING)
    unsure = build.ai_analysis(
        seen.request, Analysis.FAILED, reason=AIAnalysisReason.WORKFLOW_RESOLUTION_FAILED, sub_reason=sub_reason
    )
    status = status_of(decision := step(replace(seen, analysis=unsure)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.MANUAL_REVIEW_REQUIRED)
    assert status.requires_manual_review
    notice = created(decision)["nr-manual-review-rr-1"]["spec"]
    assert (notice["type"], notice["priority"]) == ("manual-review", priority)
    assert "orchestrator.remediation.manual_review" in told(decision)


def test_a_success_is_told_with_everything_about_it() -> None:
    """Completed, Remediated, and a message that a person can read at night."""
    seen = at(Phase.EXECUTING)
    ended = build.workflow_execution(seen.request, Run.COMPLETED, results={"NEW_LIMIT": "512Mi"})
    status = status_of(decision := step(replace(seen, execution=ended), build.later(94)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.REMEDIATED)
    assert status.message == "increase-memory fixed shop/deployment/web in 1m34s"
    assert status.retention_expiry_time == build.later(94 + 86400)
    notice = created(decision)["nr-completion-rr-1"]["spec"]
    assert notice["subject"] == "Fixed: KubePodOOMKilled on shop/deployment/web (1m34s)"
    for expected in (
        "memory limit is too low",
        "MEMORY_LIMIT = `512Mi`",
        "NEW_LIMIT",
        "kubectl -n shop describe deployment web",
    ):
        assert expected in notice["body"]
    assert notice["metadata"]["environment"] == "production"
    assert told(decision)[-1] == "orchestrator.lifecycle.completed"


def test_a_late_success_is_still_a_success() -> None:
    """The deadline passed while nobody looked, but the workflow had succeeded."""
    seen = at(Phase.EXECUTING)
    ended = build.workflow_execution(seen.request, Run.COMPLETED)
    assert status_of(step(replace(seen, execution=ended), build.later(minutes=300))).outcome is Outcome.REMEDIATED


def test_a_failed_execution_is_investigated_again_with_its_history() -> None:
    """A new analysis, attempt one, told what failed; the context of the first signal processing is kept."""
    seen = at(Phase.EXECUTING)
    failed = build.workflow_execution(seen.request, Run.FAILED)
    status = status_of(decision := step(replace(seen, execution=failed)))
    child = created(decision)["ai-rr-1-recovery-1"]["spec"]
    assert (status.overall_phase, status.recovery_attempts) == (Phase.ANALYZING, 1)
    assert (child["isRecoveryAttempt"], child["recoveryAttemptNumber"]) == (True, 1)
    assert child["previousExecutions"][0]["failure"]["wasExecutionFailure"] is True
    assert child["previousExecutions"][0]["selectedWorkflow"]["workflowId"] == "wf-memory"
    assert child["previousExecutions"][0]["originalRca"]["summary"] == "The memory limit is too low for the load"
    assert child["analysisRequest"]["signalContext"]["environment"] == "production"
    assert status.workflow_execution_ref is None
    assert status.previous_executions[0].workflow_execution_ref == "we-rr-1"


def test_the_same_failure_twice_goes_to_a_person() -> None:
    """The second failure at the same step with the same reason ends the attempts."""
    first = at(Phase.EXECUTING)
    first = replace(first, execution=build.workflow_execution(first.request, Run.FAILED))
    once = status_of(step(first))
    seen = at(Phase.EXECUTING, recovery_attempts=1, previous_executions=once.previous_executions)
    again = build.workflow_execution(seen.request, Run.FAILED, attempt=1)
    status = status_of(decision := step(replace(seen, execution=again)))
    assert (status.overall_phase, status.outcome) == (Phase.FAILED, Outcome.MANUAL_REVIEW_REQUIRED)
    assert "as an earlier attempt did" in status.failure_reason
    assert len(status.previous_executions) == 2
    assert created(decision)["nr-manual-review-rr-1"]["spec"]["priority"] == "critical"


def test_attempts_are_limited() -> None:
    """Three recoveries, and then a person."""
    first = at(Phase.EXECUTING)
    record = status_of(
        step(replace(first, execution=build.workflow_execution(first.request, Run.FAILED)))
    ).previous_executions
    seen = at(Phase.EXECUTING, recovery_attempts=3, previous_executions=record)
    failed = build.workflow_execution(seen.request, Run.FAILED, attempt=3, step="verify")
    assert status_of(step(replace(seen, execution=failed))).overall_phase is Phase.FAILED


@pytest.mark.parametrize(
    ("ended", "recovers"),
    [
        pytest.param([True] * 5, True, id="few executions say nothing"),
        pytest.param([True] + [False] * 19, True, id="one in twenty failed"),
        pytest.param([True] * 2 + [False] * 18, False, id="two in twenty failed"),
    ],
)
def test_a_failing_system_stops_recoveries(ended: list[bool], recovers: bool) -> None:
    """Where executions fail all over, trying harder is not the answer."""
    seen = at(Phase.EXECUTING)
    failed = build.workflow_execution(seen.request, Run.FAILED)
    finished = tuple(Finished(build.NOW, failure) for failure in ended)
    decision = step(replace(seen, execution=failed, finished=finished))
    assert recovers == (status_of(decision).overall_phase is Phase.ANALYZING)


def test_a_deleted_execution_is_not_made_again() -> None:
    """Nobody knows how far it came."""
    status = status_of(decision := step(replace(at(Phase.EXECUTING), execution=None)))
    assert (status.overall_phase, status.requires_manual_review) == (Phase.FAILED, True)
    assert "we-" not in "".join(created(decision))


@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.EXECUTING])
def test_one_that_was_deleted_before_it_was_noted_down_is_not_either(phase: Phase) -> None:
    """The process died between creating it and saying so; the execution's controller left word. The next attempt is another one."""
    stopped = {names.ANNOTATION_STOPPED_EXECUTION: "we-rr-1"}
    status = status_of(decision := step(at(phase, annotations=stopped)))
    assert (status.overall_phase, status.requires_manual_review) == (Phase.FAILED, True)
    assert "we-" not in "".join(created(decision))
    again = at(Phase.ANALYZING, annotations=stopped, recovery_attempts=1)
    assert "we-rr-1-recovery-1" in created(step(again))


@pytest.mark.parametrize("phase", [Phase.PROCESSING, Phase.ANALYZING, Phase.AWAITING_APPROVAL, Phase.EXECUTING])
def test_what_is_folded_into_a_running_incident_starts_nothing(phase: Phase) -> None:
    """A storm and hundreds of members are written while it runs: no second analysis, no transition, nothing undone."""
    storm = Storm(storm_type=StormType.RATE, window="1m", alert_count=900, detected_at=build.NOW)
    members = tuple(
        Member(target=f"shop/deployment/w{n}", resource=f"shop/pod/w{n}-1", signals=("Down",), first_seen_at=build.NOW)
        for n in range(400)
    )
    seen = at(phase)
    seen = replace(
        seen,
        processing=build.signal_processing(seen.request, Processing.ENRICHING),
        analysis=build.ai_analysis(seen.request, Analysis.INVESTIGATING) if phase is Phase.ANALYZING else seen.analysis,
    )
    grown = replace(seen, request=build.with_status(seen.request, storm=storm, members=members))
    before, after = step(seen), step(grown)
    assert not created(after)
    assert (before.reason, before.wake_at) == (after.reason, after.wake_at)
    assert after.status is None or (after.status.members, after.status.storm) == (members, storm)


def test_an_execution_that_exists_is_watched_whatever_stands_in_the_way() -> None:
    """A crash between creating it and recording it must not lead to a second one, nor to a block."""
    for phase in (Phase.ANALYZING, Phase.AWAITING_APPROVAL, Phase.BLOCKED):
        seen = at(phase, blocked_from=Phase.ANALYZING)
        seen = replace(seen, execution=build.workflow_execution(seen.request), routing=Facts(managed=False))
        decision = step(seen)
        assert status_of(decision).overall_phase is Phase.EXECUTING
        assert not created(decision)


@pytest.mark.parametrize(
    ("phase", "seconds", "limit"),
    [
        (Phase.PROCESSING, 300, Phase.PROCESSING),
        (Phase.ANALYZING, 600, Phase.ANALYZING),
        (Phase.EXECUTING, 1800, Phase.EXECUTING),
    ],
)
def test_each_phase_has_its_deadline(phase: Phase, seconds: float, limit: Phase) -> None:
    """A second before it nothing happens; at it the request times out and what runs is stopped."""
    seen = at(phase)
    if phase is Phase.ANALYZING:
        seen = replace(seen, analysis=build.ai_analysis(seen.request, Analysis.INVESTIGATING))
    before, after = step(seen, build.later(seconds - 1)), step(seen, build.later(seconds))
    assert before.wake_at == build.later(seconds)
    assert status_of(after).overall_phase is Phase.TIMED_OUT
    assert status_of(after).timeout_phase is limit
    assert list(created(after)) == ["nr-timeout-rr-1"]
    assert deleted(after) == ({"we-rr-1"} if phase is Phase.EXECUTING else set())


def test_the_overall_deadline_counts_from_creation() -> None:
    """An hour after the object was created it is over, whenever the phase began."""
    seen = at(Phase.EXECUTING, executing_start_time=build.later(minutes=50))
    status = status_of(decision := step(seen, build.later(minutes=60)))
    assert (status.overall_phase, status.timeout_phase) == (Phase.TIMED_OUT, Phase.EXECUTING)
    assert created(decision)["nr-timeout-rr-1"]["spec"]["priority"] == "critical"


def test_an_object_may_set_its_own_deadlines() -> None:
    """Overrides win over the settings."""
    seen = at(Phase.PROCESSING, spec={"timeout_config": TimeoutConfig(processing="20s")})
    assert status_of(step(seen, build.later(20))).overall_phase is Phase.TIMED_OUT


RESOLVED = SignalResolution(resolved_at=build.NOW, source="alertmanager")


@pytest.mark.parametrize(
    "phase", [Phase.PENDING, Phase.PROCESSING, Phase.ANALYZING, Phase.AWAITING_APPROVAL, Phase.BLOCKED]
)
def test_a_resolved_signal_ends_what_has_not_executed(phase: Phase) -> None:
    """Nothing needs to be done any more, and an open question to a person is withdrawn."""
    decision = step(at(phase, resolved=RESOLVED))
    status = status_of(decision)
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.NO_ACTION_REQUIRED)
    assert status.resolved == RESOLVED
    assert deleted(decision) == ({"rar-rr-1"} if phase is Phase.AWAITING_APPROVAL else set())


def test_a_resolved_signal_does_not_stop_an_execution() -> None:
    """Once something runs it is seen through."""
    assert step(at(Phase.EXECUTING, resolved=RESOLVED)).reason == "WaitingForExecution"


@pytest.mark.parametrize(
    "phase", [Phase.PENDING, Phase.PROCESSING, Phase.ANALYZING, Phase.AWAITING_APPROVAL, Phase.EXECUTING, Phase.BLOCKED]
)
def test_a_person_calls_it_off(phase: Phase) -> None:
    """In any phase, with everything that still runs."""
    decision = step(at(phase, annotations={names.ANNOTATION_CANCEL: "we roll back by hand"}))
    status = status_of(decision)
    assert status.overall_phase is Phase.CANCELLED
    assert "we roll back by hand" in status.message
    expected = {Phase.AWAITING_APPROVAL: {"rar-rr-1"}, Phase.EXECUTING: {"we-rr-1"}}.get(phase, set())
    assert deleted(decision) == expected
    assert list(created(decision)) == (["nr-cancelled-rr-1"] if phase is Phase.EXECUTING else [])


def test_failures_in_a_row_pause_then_fail() -> None:
    """Blocked for an hour, then Failed, so that the next signal may try; the overall deadline does not cut in."""
    past = tuple(build.remediation_request(f"rr-0{n}", phase=Phase.FAILED, created=build.later(-n)) for n in (1, 2, 3))
    seen = replace(at(Phase.PENDING), routing=Facts(siblings=past))
    status = status_of(decision := step(seen, build.later(5)))
    assert (status.overall_phase, status.block_reason) == (Phase.BLOCKED, BlockReason.CONSECUTIVE_FAILURES)
    assert list(created(decision)) == ["nr-consecutive-failure-rr-1"]
    assert decision.wake_at == build.later(3605)
    waiting = replace(seen, request=seen.request.replace(status=status))
    assert step(waiting, build.later(3604)).reason == "StillBlocked"
    after = status_of(step(waiting, build.later(3605)))
    assert (after.overall_phase, after.failure_phase) == (Phase.FAILED, FailurePhase.BLOCKED)


def test_an_uncleared_half_way_failure_needs_a_person() -> None:
    """Another request's execution failed half-way on this target: nothing more runs there until a person has looked."""
    other = build.remediation_request("rr-2")
    facts = Facts(executions=(build.workflow_execution(other, Run.FAILED),))
    status = status_of(decision := step(replace(at(Phase.PENDING), routing=facts)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.MANUAL_REVIEW_REQUIRED)
    assert status.skip_reason is SkipReason.PREVIOUS_EXECUTION_FAILED
    assert status.blocking_workflow_execution == "we-rr-2"
    assert created(decision)["nr-manual-review-rr-1"]["spec"]["metadata"]["skip-reason"] == "PreviousExecutionFailed"


@pytest.mark.parametrize(
    ("original", "phase", "failure"),
    [
        (build.remediation_request("rr-0", phase=Phase.COMPLETED, outcome=Outcome.REMEDIATED), Phase.COMPLETED, None),
        (build.remediation_request("rr-0", phase=Phase.FAILED), Phase.FAILED, FailurePhase.DEDUPLICATED),
        (build.remediation_request("rr-0", phase=Phase.TIMED_OUT), Phase.FAILED, FailurePhase.DEDUPLICATED),
        (build.remediation_request("rr-0", phase=Phase.CANCELLED), Phase.CANCELLED, None),
        (build.remediation_request("rr-0", phase=Phase.EXECUTING), None, None),
        (None, Phase.PENDING, None),
    ],
)
def test_a_duplicate_takes_over_the_outcome(original: Any, phase: Phase | None, failure: FailurePhase | None) -> None:
    """It waits for the original, ends as it ended, and goes on by itself where the original vanished."""
    seen = at(
        Phase.BLOCKED,
        block_reason=BlockReason.DUPLICATE_IN_PROGRESS,
        blocked_from=Phase.PENDING,
        duplicate_of="rr-0",
    )
    decision = step(replace(seen, original=original))
    if phase is None:
        assert (decision.status, decision.wake_at) == (None, build.later(30))
    else:
        assert status_of(decision).overall_phase is phase
        assert status_of(decision).failure_phase is failure


@pytest.mark.parametrize("by_request", [True, False])
def test_a_dry_run_rehearses_and_asks_nobody(by_request: bool) -> None:
    """The execution is told to render only, though policy asks for leave, and the request waits for that."""
    orchestrator = SETTINGS.orchestrator.model_copy(update={"dry_run": not by_request})
    seen = at(Phase.ANALYZING, spec={"dry_run": by_request})
    decision = step(
        replace(seen, analysis=build.ai_analysis(seen.request, approval_required=True)),
        settings=SETTINGS.model_copy(update={"orchestrator": orchestrator}),
    )
    assert status_of(decision).overall_phase is Phase.ANALYZING
    assert {name: obj["spec"].get("dryRun") for name, obj in created(decision).items()} == {"we-rr-1": True}


@pytest.mark.parametrize(
    ("phase", "said"), [(Run.COMPLETED, "would have run on"), (Run.FAILED, "could not have run on")]
)
def test_a_dry_run_ends_with_what_it_rendered(phase: Run, said: str) -> None:
    """Shown to people, whatever the API server thought of it; the next one waits, and nothing counts as executed."""
    seen = at(Phase.ANALYZING)
    execution = build.workflow_execution(seen.request, phase, rendered="kind: PipelineRun")
    execution = execution.replace(spec=execution.spec.replace(dry_run=True))
    status = status_of(decision := step(replace(seen, execution=execution)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.DRY_RUN)
    assert said in status.message
    assert status.next_allowed_execution == build.later(3600)
    (notice,) = created(decision).values()
    assert "kind: PipelineRun" in notice["spec"]["body"]


@pytest.mark.parametrize(
    ("phase", "state", "condition"),
    [
        (NotificationPhase.SENDING, DeliveryState.IN_PROGRESS, None),
        (NotificationPhase.SENT, DeliveryState.SENT, "Delivered"),
        (NotificationPhase.FAILED, DeliveryState.FAILED, "DeliveryFailed"),
        ("deleted", DeliveryState.CANCELLED, "UserCancelled"),
    ],
)
def test_deliveries_are_followed_and_change_no_outcome(phase: Any, state: DeliveryState, condition: str | None) -> None:
    """However a message ends, the remediation's outcome stays."""
    done = status_of(
        step(
            replace(at(Phase.EXECUTING), execution=build.workflow_execution(at(Phase.EXECUTING).request, Run.COMPLETED))
        )
    )
    request = build.remediation_request().replace(status=done)
    notices = () if phase == "deleted" else (build.notification_request(owner=request, phase=phase),)
    status = status_of(step(Observed(request, notifications=notices)))
    assert (status.overall_phase, status.outcome) == (Phase.COMPLETED, Outcome.REMEDIATED)
    assert status.notification_status is state
    found = conditions.find(status.conditions, DELIVERED_CONDITION)
    assert condition == (found.reason if found else None)


def test_duplicates_are_told_of_once() -> None:
    """One message for all that waited, and then quiet."""
    request = build.remediation_request(phase=Phase.COMPLETED, outcome=Outcome.REMEDIATED, completed_at=build.NOW)
    seen = Observed(request, duplicates=("rr-2", "rr-3"))
    status = status_of(decision := step(seen))
    assert (status.duplicate_count, status.duplicate_refs) == (2, ("rr-2", "rr-3"))
    assert list(created(decision)) == ["nr-bulk-rr-1"]
    told_once = replace(
        seen, request=request.replace(status=status), notifications=(build.notification_request("nr-bulk-rr-1"),)
    )
    assert not created(step(told_once))


def test_retention_removes_the_request() -> None:
    """Once all is delivered and the time is over; not a moment earlier."""
    settled = status_of(
        step(Observed(build.remediation_request(phase=Phase.COMPLETED, retention_expiry_time=build.later(60))))
    )
    seen = Observed(build.remediation_request().replace(status=settled))
    assert (step(seen, build.later(60)).effects, step(seen).wake_at) == ((), build.later(60)), "nobody has looked yet"
    due = replace(seen, untold=())
    place = lineage.named(seen.request.spec.signal_fingerprint)
    begun = step(due, build.later(60))
    assert (list(created(begun)), deleted(begun), begun.wake_at) == ([place], set(), build.later(60))
    there = {**created(begun)[place], "metadata": {"name": place, "resourceVersion": "7"}}
    assert not created(step(replace(due, lineage=there), build.later(60)))
    assert deleted(step(replace(due, lineage=there), build.later(60))) == {"rr-1"}


def test_whose_name_must_not_come_back_is_written_down_before_it_goes() -> None:
    """On condition of what was read, since others write there; a later one of the same fingerprint is left alone."""
    request = build.remediation_request(phase=Phase.COMPLETED, retention_expiry_time=build.NOW, conditions=DELIVERED)
    empty = {"metadata": {"name": "kubernaut-lineage", "resourceVersion": "7"}, "data": {"other": "x"}}
    noted, gone = step(Observed(request, untold=(), lineage=empty)).effects
    assert isinstance(noted, Patch)
    assert isinstance(gone, Delete)
    assert (noted.resource, noted.resource_version) == (resources.CONFIG_MAP, "7")
    last = lineage.last_of(noted.patch, request.spec.signal_fingerprint)
    assert last == lineage.Last(clock.rfc3339(request.created), request.uid)
    later = lineage.entry(None, request.spec.signal_fingerprint, replace(last, created="2027"))
    [gone] = step(Observed(request, untold=(), lineage={**empty, "data": later})).effects
    assert isinstance(gone, Delete)


def test_deciding_twice_is_deciding_once() -> None:
    """The same observation leads to the same decision, facts and all."""
    for phase in (Phase.PENDING, Phase.ANALYZING, Phase.EXECUTING):
        assert step(at(phase)) == step(at(phase))


def test_an_end_that_is_overtaken() -> None:
    """The process dies anywhere in a time-out, and a person calls it off: the trail tells one end, and no message unwanted."""
    pending = at(Phase.PROCESSING)
    late = step(pending, build.later(minutes=6))
    assert late.reason == "TimedOut"
    noted = {**pending.request.metadata.annotations, names.ANNOTATION_CANCEL: "enough"}
    called_off = replace(
        pending,
        request=pending.request.replace(metadata=pending.request.metadata.model_copy(update={"annotations": noted})),
    )
    cancelled = step(called_off, build.later(minutes=7))
    begun = step(Observed(build.remediation_request())), step(at(Phase.PENDING, routing=Facts()))
    for died in range(len(late.effects) + 1):
        done = late.effects[:died]
        effects = (*(e for decision in begun for e in decision.effects), *done, *cancelled.effects)
        story = reconstruct("rr-1", [e.event for e in effects if isinstance(e, Audit)])
        assert {g.kind for g in story.gaps if g.event_type.startswith("orchestrator.")} <= {GapKind.SUPERSEDED}
        assert story.ending is not None
        assert story.ending.phase == Phase.CANCELLED
        wanted = {notice.name for notice in story.notifications}
        assert {e.obj["metadata"]["name"] for e in done if isinstance(e, Create)} <= wanted


def test_what_the_trail_does_not_tell_is_kept() -> None:
    """A finished request stays until its trail is complete, says why, and is looked at again."""
    there = {"metadata": {"name": "kubernaut-lineage", "resourceVersion": "7"}}
    seen = replace(at(Phase.COMPLETED, retention_expiry_time=build.NOW, conditions=DELIVERED), lineage=there)
    kept = step(replace(seen, untold=("workflow.started",)))
    (_, told) = status_of(kept).conditions
    assert (told.status, kept.wake_at, deleted(kept)) == ("False", build.later(3600), set())
    assert "workflow.started" in told.message
    assert deleted(step(replace(seen, untold=()))) == {"rr-1"}


def test_an_end_that_another_decision_overtakes_is_another_fact() -> None:
    """What a process told that then died must not stand for what its successor decided."""

    def told_end(outcome: Outcome) -> str:
        seen, settings = at(Phase.EXECUTING), SETTINGS.orchestrator
        ended = moves.finish(seen, Phase.COMPLETED, str(outcome), "Over.", build.NOW, settings, outcome=outcome)
        (fact,) = [e.event for e in ended.effects if isinstance(e, Audit) and e.event.event_type.endswith(".completed")]
        return fact.event_id

    assert told_end(Outcome.REMEDIATED) == told_end(Outcome.REMEDIATED)
    assert told_end(Outcome.REMEDIATED) != told_end(Outcome.INCONCLUSIVE)
