"""Routing: what stands in the way of an analysis or an execution."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.remediation.blocking import Block, Facts, Handover, Stage, backoff, failures_in_a_row, judge
from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import AssessmentPhase, BlockReason, FailurePhase, Outcome, SkipReason
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.workflow_execution import BlockClearance
from kubernaut_ray.settings import OrchestratorSettings
from tests import build

SETTINGS = OrchestratorSettings()
ME = build.remediation_request("rr-9", phase=Phase.PENDING, created=build.NOW)


def past(turn: int, phase: Phase, **status: object) -> RemediationRequest:
    """The sibling of ``turn`` hours ago."""
    return build.remediation_request(f"rr-{turn}", phase=phase, created=build.NOW - timedelta(hours=turn), **status)


FAILED, TIMED_OUT, DONE = Phase.FAILED, Phase.TIMED_OUT, Phase.COMPLETED
FIXED = {"outcome": Outcome.REMEDIATED}
PAUSED = {"block_reason": BlockReason.CONSECUTIVE_FAILURES}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([], 0, id="nothing happened before"),
        pytest.param([(FAILED, {}), (FAILED, {})], 2, id="two failures"),
        pytest.param([(FAILED, {}), (TIMED_OUT, {}), (FAILED, {})], 3, id="a time-out is a failure"),
        pytest.param([(DONE, FIXED), (FAILED, {}), (FAILED, {}), (FAILED, {})], 0, id="a success last resets"),
        pytest.param([(FAILED, {}), (DONE, FIXED), (FAILED, {}), (FAILED, {})], 1, id="in a row, not ever"),
        pytest.param([(FAILED, {}), (DONE, {"outcome": Outcome.INCONCLUSIVE})], 2, id="inconclusive is a failure"),
        pytest.param([(FAILED, {}), (Phase.CANCELLED, {}), (FAILED, {})], 2, id="a cancelled one says nothing"),
        pytest.param(
            [(FAILED, {"failure_phase": FailurePhase.DEDUPLICATED}), (FAILED, {})], 1, id="a duplicate counts once"
        ),
        pytest.param(
            [(Phase.BLOCKED, {"block_reason": BlockReason.RESOURCE_BUSY}), (FAILED, {})], 1, id="waiting is no failure"
        ),
        pytest.param([(Phase.BLOCKED, PAUSED), (FAILED, {})], 2, id="a pause in progress counts"),
        pytest.param(
            [(FAILED, {**PAUSED, "failure_phase": FailurePhase.BLOCKED}), (FAILED, {}), (FAILED, {}), (FAILED, {})],
            0,
            id="a pause that was sat out starts anew",
        ),
    ],
)
def test_failures_in_a_row(history: list[tuple[Phase, dict[str, object]]], expected: int) -> None:
    """Failures are counted newest first, up to the last success."""
    siblings = [past(turn + 1, phase, **status) for turn, (phase, status) in enumerate(history)]
    assert expected == failures_in_a_row(siblings)


@pytest.mark.parametrize(("failures", "blocked"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_three_run_and_fail_the_fourth_is_blocked(failures: int, blocked: bool) -> None:
    """Requests one to three run; the fourth pauses for an hour."""
    facts = Facts(siblings=tuple(past(turn + 1, Phase.FAILED) for turn in range(failures)))
    verdict = judge(ME, facts, Stage.ANALYSIS, now=build.NOW, settings=SETTINGS)
    assert blocked == (isinstance(verdict, Block) and verdict.reason is BlockReason.CONSECUTIVE_FAILURES)
    if isinstance(verdict, Block):
        assert verdict.until == build.later(3600)


def test_the_oldest_active_request_is_the_original() -> None:
    """Of several active requests with one fingerprint the oldest goes on; ties are broken by name."""
    twin = build.remediation_request("rr-8", phase=Phase.ANALYZING)
    elder = build.remediation_request("rr-7", phase=Phase.BLOCKED)
    facts = Facts(siblings=(twin, elder))
    verdict = judge(ME, facts, Stage.ANALYSIS, now=build.NOW, settings=SETTINGS)
    assert isinstance(verdict, Block)
    assert (verdict.reason, verdict.duplicate_of) == (BlockReason.DUPLICATE_IN_PROGRESS, "rr-7")
    assert judge(elder, Facts(siblings=(twin, ME)), Stage.ANALYSIS, now=build.NOW, settings=SETTINGS) is None


OTHER = build.remediation_request("rr-2", created=build.NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("execution", "workflow", "expected"),
    [
        pytest.param(build.workflow_execution(OTHER, Run.RUNNING), "wf-x", BlockReason.RESOURCE_BUSY, id="running"),
        pytest.param(build.workflow_execution(OTHER, None), "wf-x", BlockReason.RESOURCE_BUSY, id="not yet started"),
        pytest.param(
            build.workflow_execution(OTHER, Run.COMPLETED, ended=build.later(minutes=-4)),
            "wf-memory",
            BlockReason.RECENTLY_REMEDIATED,
            id="the same workflow four minutes ago",
        ),
        pytest.param(
            build.workflow_execution(OTHER, Run.COMPLETED, ended=build.later(minutes=-6)),
            "wf-memory",
            None,
            id="the same workflow six minutes ago",
        ),
        pytest.param(
            build.workflow_execution(OTHER, Run.COMPLETED, ended=build.later(minutes=-1)),
            "wf-other",
            None,
            id="another workflow a minute ago",
        ),
        pytest.param(
            build.workflow_execution(OTHER, Run.FAILED), "wf-x", SkipReason.PREVIOUS_EXECUTION_FAILED, id="half-way"
        ),
        pytest.param(
            build.workflow_execution(OTHER, Run.FAILED, half_way=False), "wf-x", None, id="failed before it began"
        ),
        pytest.param(
            build.workflow_execution(
                OTHER,
                Run.FAILED,
                block_clearance=BlockClearance(
                    cleared_at=build.NOW, cleared_by="ann", clear_reason="looked", clear_method="StatusField"
                ),
            ),
            "wf-x",
            None,
            id="half-way, and cleared by a person",
        ),
        pytest.param(build.workflow_execution(ME, Run.RUNNING), "wf-x", None, id="its own"),
    ],
)
def test_executions_on_the_target(execution: object, workflow: str, expected: object) -> None:
    """Before an execution, the other executions on the target decide."""
    facts = Facts(executions=(execution,))  # type: ignore[arg-type]
    verdict = judge(ME, facts, Stage.EXECUTION, workflow_id=workflow, now=build.NOW, settings=SETTINGS)
    assert expected == (verdict.reason if verdict is not None else None)


def test_backoff_after_a_failure_ends_by_its_time() -> None:
    """The next try waits for the time that the failed request left behind."""
    facts = Facts(siblings=(past(1, Phase.FAILED, next_allowed_execution=build.later(60)),))
    verdict = judge(ME, facts, Stage.ANALYSIS, now=build.NOW, settings=SETTINGS)
    assert isinstance(verdict, Block)
    assert (verdict.reason, verdict.until) == (BlockReason.EXPONENTIAL_BACKOFF, build.later(60))
    assert judge(ME, facts, Stage.ANALYSIS, now=build.later(61), settings=SETTINGS) is None


def test_five_failures_before_execution_ask_for_a_person() -> None:
    """Pauses between them do not hide that nothing ever got as far as executing."""
    sat_out = {**PAUSED, "failure_phase": FailurePhase.BLOCKED}
    siblings = [past(1, Phase.FAILED), past(2, Phase.FAILED), past(3, Phase.FAILED, **sat_out)]
    siblings += [past(turn, Phase.FAILED) for turn in (4, 5, 6)]
    verdict = judge(ME, Facts(siblings=tuple(siblings)), Stage.ANALYSIS, now=build.NOW, settings=SETTINGS)
    assert isinstance(verdict, Handover)
    assert verdict.reason is SkipReason.EXHAUSTED_RETRIES


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(Facts(managed=False), "label it or its namespace kubernaut.ai/managed=true", id="not labelled"),
        pytest.param(
            Facts(managed=False, scope_problem="deployments is forbidden"),
            "nobody can tell whether shop/deployment/web is managed, so it is not touched: deployments is forbidden",
            id="nobody can tell",
        ),
        pytest.param(
            Facts(managed=False, siblings=(build.remediation_request("rr-1", phase=Phase.ANALYZING),)),
            "is not managed",
            id="before any other check",
        ),
    ],
)
def test_an_unmanaged_target_is_left_alone(stage: Stage, facts: Facts, said: str) -> None:
    """What is out of scope is blocked before anything else is asked, ahead of the analysis and of the execution."""
    verdict = judge(ME, facts, stage, now=build.NOW, settings=SETTINGS)
    assert isinstance(verdict, Block)
    assert verdict.reason is BlockReason.UNMANAGED_RESOURCE
    assert said in verdict.message


def test_the_scope_is_looked_up_again_with_growing_pauses() -> None:
    """Five seconds, doubling to five minutes, ten per cent either way; events in between shorten nothing."""
    request, now, pauses = ME, build.NOW, []
    for _ in range(9):
        verdict = judge(request, Facts(managed=False), Stage.ANALYSIS, now=now, settings=SETTINGS)
        assert isinstance(verdict, Block)
        assert verdict.until is not None
        assert verdict == judge(request, Facts(managed=False), Stage.ANALYSIS, now=now, settings=SETTINGS)
        pauses.append((verdict.until - now).total_seconds())
        blocked = Condition(
            type="Blocked", status="True", reason=verdict.reason, message="", last_transition_time=build.NOW
        )
        request = build.with_status(ME, overall_phase=Phase.BLOCKED, block_reason=verdict.reason, conditions=(blocked,))
        now = verdict.until
    assert 4.5 <= pauses[0] <= 5.5
    assert all(1.6 <= later / sooner <= 2.5 for sooner, later in itertools.pairwise(pauses[:6]))
    assert all(270 <= pause <= 330 for pause in pauses[7:])


@given(failures=st.integers(1, 50), key=st.text(max_size=20))
def test_backoff_stays_within_its_bounds(failures: int, key: str) -> None:
    """One minute doubling to ten, ten per cent either way, and the same answer to the same question."""
    delay = backoff(failures, key, SETTINGS)
    assert timedelta(seconds=54) <= delay <= timedelta(seconds=660)
    assert delay == backoff(failures, key, SETTINGS)


def judged(turn: int, effective: bool | None, *, minutes: float | None = None) -> EffectivenessAssessment:
    """What a remediation came to that was assessed ``turn`` × 20 minutes ago."""
    ago = build.NOW - timedelta(minutes=20 * turn if minutes is None else minutes)
    one = build.effectiveness_assessment(
        past(turn, DONE), AssessmentPhase.COMPLETED, effective=effective, completed_at=ago
    )
    return one.replace(metadata=one.metadata.replace(creation_timestamp=ago))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([False, False], False, id="two that did not help"),
        pytest.param([False, False, False], True, id="three"),
        pytest.param([False, False, False, True], True, id="three since the last that helped"),
        pytest.param([False, True, False, False], False, id="in a row, not ever"),
        pytest.param([False, None, False, None, False], True, id="what nobody could judge is passed over"),
        pytest.param([], False, id="nothing was judged"),
    ],
)
def test_a_chain_of_remediations_that_did_not_help_is_for_a_person(history: list[bool | None], expected: bool) -> None:
    """Newest first; asked before an execution only."""
    facts = Facts(assessments=tuple(judged(turn + 1, effective) for turn, effective in enumerate(history)))
    verdict = judge(ME, facts, Stage.EXECUTION, now=build.NOW, settings=SETTINGS)
    assert expected == (isinstance(verdict, Handover) and verdict.reason is SkipReason.INEFFECTIVE_CHAIN)
    assert judge(ME, facts, Stage.ANALYSIS, now=build.NOW, settings=SETTINGS) is None


def test_an_old_chain_is_forgotten() -> None:
    """After the window the next remediation may try again."""
    facts = Facts(assessments=tuple(judged(turn, False, minutes=241 + turn) for turn in range(1, 5)))
    assert judge(ME, facts, Stage.EXECUTION, now=build.NOW, settings=SETTINGS) is None


@pytest.mark.parametrize(("runs", "expected"), [(4, False), (5, True)])
def test_a_target_that_is_remediated_again_and_again_is_for_a_person(runs: int, expected: bool) -> None:
    """Each may have helped; none lasted."""
    executions = tuple(
        build.workflow_execution(
            past(turn, DONE),
            Run.COMPLETED,
            workflow_id=f"wf-{turn}",
            start_time=build.NOW - timedelta(minutes=10 * turn + 1),
            ended=build.NOW - timedelta(minutes=10 * turn),
        )
        for turn in range(1, runs + 1)
    )
    verdict = judge(
        ME, Facts(executions=executions), Stage.EXECUTION, workflow_id="wf-0", now=build.NOW, settings=SETTINGS
    )
    assert expected == (isinstance(verdict, Handover) and "5 times within 4h" in verdict.message)


def test_a_person_is_told_how_to_clear_a_failed_execution() -> None:
    """The command with the name in it."""
    failed = build.workflow_execution(past(1, Phase.FAILED), Run.FAILED)
    verdict = judge(ME, Facts(executions=(failed,)), Stage.ANALYSIS, now=build.NOW, settings=SETTINGS)
    assert isinstance(verdict, Handover)
    assert "kubernaut-ray unblock we-rr-1 --reason" in verdict.message
