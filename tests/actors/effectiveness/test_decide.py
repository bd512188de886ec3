"""What an assessment does next, phase by phase."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.effectiveness.alerts import Heard, Signal
from actors.effectiveness.decide import RECORD, _fact, decide
from actors.effectiveness.observe import Metrics, Observed, Target
from actors.effectiveness.phases import TABLE
from actors.effectiveness.score import Measured, Pods
from kubernaut_ray.control.decision import Audit, Call, Decision
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessmentStatus
from kubernaut_ray.crds.enums import AssessmentPhase as Phase
from kubernaut_ray.crds.enums import AssessmentReason as Reason
from kubernaut_ray.crds.enums import AuditOutcome
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.settings import EffectivenessSettings
from tests import build
from tests.trail import fits

SETTINGS = EffectivenessSettings()
REQUEST = build.remediation_request()
DONE = build.workflow_execution(REQUEST, Run.COMPLETED)
LEFT, OTHER = "sha256:left", "sha256:other"
WELL, FIRING, RESOLVED = Pods(2, 2), Heard(Signal.FIRING, "it fires"), Heard(Signal.RESOLVED, "it is over")
AT_ONCE, LAST = build.later(300), build.later(1800)
"""The end of the stabilization window, and of the validity."""


def step(seen: Observed, now: datetime = build.NOW, settings: EffectivenessSettings = SETTINGS) -> Decision[Any]:
    """Decide, and hold the result against the table of phases and the vocabulary."""
    decision = decide(seen, now, settings)
    for effect in decision.effects:
        if isinstance(effect, Audit):
            fits(effect.event)
    if decision.status is not None:
        TABLE.check(str(seen.assessment.status.phase or ""), str(decision.status.phase or ""))
    return decision


def status_of(decision: Decision[Any]) -> EffectivenessAssessmentStatus:
    assert isinstance(decision.status, EffectivenessAssessmentStatus), decision.reason
    return decision.status


def at(phase: Phase | None, *, spec: dict[str, Any] | None = None, **status: Any) -> Observed:
    return Observed(build.effectiveness_assessment(REQUEST, phase, spec=spec, **status), DONE)


def target(pods: Pods | None = WELL, spec_hash: str = LEFT) -> Target:
    return Target(True, problem="" if pods else "a Node has no pods to be judged by", spec_hash=spec_hash, pods=pods)


def assessing(
    pods: Pods | None = WELL, heard: Heard = RESOLVED, metrics: Metrics | None = None, **status: Any
) -> Observed:
    seen = at(Phase.ASSESSING, **{"post_remediation_spec_hash": LEFT, **status})
    return replace(seen, target=target(pods), heard=heard, metrics=metrics or Metrics())


def test_it_is_taken_up_with_the_end_of_its_validity() -> None:
    """Its clock starts here."""
    decision = step(at(None))
    status = status_of(decision)
    assert (status.phase, status.started_at, status.valid_until) == (Phase.PENDING, build.NOW, LAST)
    assert [e.event.event_type for e in decision.effects if isinstance(e, Audit)] == [
        "effectiveness.assessment.started"
    ]


def test_a_gitops_target_waits_for_its_tool() -> None:
    """The sync delay comes before all other windows."""
    spec = {"config": {"gitOpsSyncDelay": "180s"}}
    decision = step(at(Phase.PENDING, spec=spec))
    assert (status_of(decision).phase, decision.wake_at) == (Phase.WAITING_FOR_PROPAGATION, build.later(180))
    stabilizing = step(at(Phase.WAITING_FOR_PROPAGATION, spec=spec), build.later(180))
    assert (status_of(stabilizing).phase, stabilizing.wake_at) == (Phase.STABILIZING, build.later(240))


def test_others_stabilize_at_once() -> None:
    """Nothing carries a change there but the workflow itself."""
    assert status_of(step(at(Phase.PENDING))).phase is Phase.STABILIZING


def test_windows_that_can_lead_to_nothing_are_refused() -> None:
    """An assessment that ends before it can judge would only ever expire."""
    status = status_of(step(at(Phase.PENDING, spec={"config": {"stabilizationWindow": "30m", "validity": "10m"}})))
    assert (status.phase, status.reason, status.effective) == (Phase.FAILED, Reason.UNRECOVERABLE, None)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.WAITING_FOR_PROPAGATION, Phase.STABILIZING, Phase.ASSESSING])
@pytest.mark.parametrize("execution", [None, build.workflow_execution(REQUEST, Run.FAILED)])
def test_without_an_execution_that_completed_there_is_nothing_to_judge(phase: Phase, execution: Any) -> None:
    """Deleted, or something else than it was."""
    status = status_of(step(replace(at(phase), execution=execution)))
    assert (status.phase, status.reason, status.score, status.effective) == (
        Phase.COMPLETED, Reason.NO_EXECUTION, None, None,
    )  # fmt: skip


def test_what_the_workflow_left_is_recorded_after_the_delay() -> None:
    """And whether that is another spec than before."""
    seen = replace(at(Phase.STABILIZING, spec={"pre_remediation_spec_hash": OTHER}), target=target())
    assert step(seen, build.later(59)).status is None
    status = status_of(step(seen, build.later(60)))
    assert (status.post_remediation_spec_hash, status.spec_changed, status.phase) == (LEFT, True, Phase.STABILIZING)
    assert status_of(step(seen, AT_ONCE)).phase is Phase.ASSESSING


@pytest.mark.parametrize("phase", [Phase.STABILIZING, Phase.ASSESSING])
@pytest.mark.parametrize(("before", "words"), [(OTHER, "put back"), ("sha256:third", "changed by somebody else")])
def test_a_changed_spec_ends_it_with_nothing(phase: Phase, before: str, words: str) -> None:
    """What is seen from then on is somebody else's work."""
    seen = replace(
        at(phase, spec={"pre_remediation_spec_hash": before}, post_remediation_spec_hash=LEFT),
        target=target(spec_hash=OTHER),
        heard=RESOLVED,
    )
    status = status_of(step(seen, AT_ONCE))
    assert (status.reason, status.score, status.effective) == (Reason.SPEC_DRIFT, 0.0, False)
    assert words in status.message


def test_well_and_resolved_is_full() -> None:
    """Everything that is looked at says that it helped."""
    decision = step(assessing(), AT_ONCE)
    status = status_of(decision)
    assert (status.phase, status.reason, status.score, status.effective) == (Phase.COMPLETED, Reason.FULL, 1.0, True)
    (told,) = [e.event for e in decision.effects if isinstance(e, Audit)]
    assert (told.event_type, told.event_data["effective"]) == ("effectiveness.assessment.completed", True)


def test_a_silent_source_is_waited_for_and_then_left_out() -> None:
    """A resolved notification may be under way; after the delay the rest must do."""
    seen = assessing(heard=Heard())
    assert step(seen, build.later(299)).reason == "Assessing"
    status = status_of(step(seen, AT_ONCE))
    assert (status.reason, status.score, status.effective) == (Reason.PARTIAL, 1.0, True)
    assert status.components.alert.score is None


def test_a_target_that_is_coming_up_is_given_time() -> None:
    """A roll-out may take longer than the stabilization window; when the validity is over what is seen must do."""
    seen = assessing(Pods(2, 1))
    waiting = step(seen, AT_ONCE)
    assert (waiting.reason, waiting.wake_at) == ("Assessing", build.later(310))
    status = status_of(step(seen, LAST))
    assert (status.components.health.score, status.score, status.effective) == (0.5, 0.7333, True)


def test_a_crash_loop_is_judged_at_once() -> None:
    """No later look makes it well, and no silence of the signal makes up for it."""
    status = status_of(step(assessing(Pods(2, 1, crash_looping=("web-1",))), AT_ONCE))
    assert (status.reason, status.effective, status.components.health.score) == (Reason.FULL, False, 0.0)


def test_an_alert_that_still_fires_may_decay() -> None:
    """The target is well: the source is given until the end of the validity, and then it counts."""
    seen = assessing(heard=FIRING)
    assert step(seen, AT_ONCE).reason == "Assessing"
    status = status_of(step(seen, LAST))
    assert (status.reason, status.score, status.effective) == (Reason.ALERT_DECAY_TIMEOUT, 0.5333, True)
    strict = EffectivenessSettings(threshold=0.6)
    assert status_of(step(seen, LAST, strict)).effective is False


def test_an_alert_of_a_broken_target_is_not_waited_for() -> None:
    """Both say the same."""
    status = status_of(step(assessing(Pods(2, 0, oom_killed=("web-1",)), FIRING), AT_ONCE))
    assert (status.score, status.effective) == (0.0, False)


def test_prometheus_away_is_waited_for() -> None:
    """Its share is left out when the validity is over, and the reason says so."""
    seen = assessing(metrics=Metrics(wanted=True, problem="Prometheus gives no usable answer", unreachable=True))
    assert step(seen, AT_ONCE).reason == "Assessing"
    status = status_of(step(seen, LAST))
    assert (status.reason, status.score) == (Reason.METRICS_TIMED_OUT, 1.0)


def test_looking_again_does_not_lead_to_looking_again() -> None:
    """Values that differ at every look are no news: written, their own watch event would start the next look at once."""
    measured = Metrics(wanted=True, measured=(Measured("errors", 10, 5),), problem="")
    seen = assessing(heard=FIRING, metrics=measured)
    first = status_of(step(seen, AT_ONCE))
    later = Metrics(wanted=True, measured=(Measured("errors", 10, 4.9),), problem="")
    again = step(replace(seen, assessment=seen.assessment.replace(status=first), metrics=later), build.later(310))
    assert (again.status, again.wake_at) == (None, build.later(320))


def test_metrics_count() -> None:
    """A quarter of the whole."""
    better = Metrics(wanted=True, measured=(Measured("errors", 10, 5),), problem="")
    status = status_of(step(assessing(metrics=better), AT_ONCE))
    assert (status.reason, status.score) == (Reason.FULL, 0.875)


@pytest.mark.parametrize(("kind", "score"), [("Pod", None), ("Deployment", 0.0)])
def test_a_target_that_is_gone(kind: str, score: float | None) -> None:
    """A pod may have had to go; a workload that is gone was not helped."""
    gone = build.TARGET.replace(kind=kind)
    seen = replace(
        at(Phase.ASSESSING, spec={"remediation_target": gone}),
        target=Target(gone=True, problem="it is gone"),
        heard=RESOLVED,
    )
    assert status_of(step(seen, AT_ONCE)).components.health.score == score


def test_nothing_to_judge_by_is_no_verdict() -> None:
    """No pods, a silent source, no metrics: neither success nor failure."""
    decision = step(assessing(None, Heard()), AT_ONCE)
    status = status_of(decision)
    assert (status.phase, status.reason, status.score, status.effective) == (
        Phase.COMPLETED, Reason.PARTIAL, None, None,
    )  # fmt: skip


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.WAITING_FOR_PROPAGATION, Phase.STABILIZING])
def test_time_is_up_before_it_can_be_judged(phase: Phase) -> None:
    """The incident's own deadline may come first."""
    status = status_of(step(at(phase, spec={"deadline": build.later(30)}), build.later(30)))
    assert (status.reason, status.effective) == (Reason.EXPIRED, None)


def test_the_catalog_is_told_once() -> None:
    """Who decides about the next execution asks it."""
    ended = at(Phase.COMPLETED, reason=Reason.FULL, effective=True, score=0.9, completed_at=AT_ONCE)
    decision = step(ended)
    (call,) = [e for e in decision.effects if isinstance(e, Call)]
    record = call.payload["record"]
    assert (call.performer, record.effective, record.environment) == (RECORD, True, "production")
    again = replace(ended, assessment=ended.assessment.replace(status=status_of(decision)))
    assert step(again) == Decision("Over")


def test_what_nobody_could_judge_says_nothing_about_the_workflow() -> None:
    """No record, no posterior."""
    assert step(at(Phase.COMPLETED, reason=Reason.PARTIAL)) == Decision("Over")


def test_one_that_is_being_deleted_is_left_alone() -> None:
    """Its owner goes, and it with it."""
    seen = at(Phase.ASSESSING)
    going = seen.assessment.replace(metadata=build.meta("ea-rr-1", deletion_timestamp=build.NOW))
    assert step(replace(seen, assessment=going)) == Decision("BeingDeleted")


@given(
    phase=st.sampled_from([None, *Phase]),
    execution=st.sampled_from([None, DONE]),
    pods=st.none() | st.builds(Pods, st.integers(0, 3), st.integers(0, 3), settled=st.booleans()),
    found=st.booleans(),
    spec_hash=st.sampled_from(["", LEFT, OTHER]),
    heard=st.builds(Heard, st.sampled_from(Signal), st.just("words"), st.booleans()),
    unreachable=st.booleans(),
    seconds=st.integers(0, 4000),
)
def test_it_always_ends(
    phase: Phase | None,
    execution: Any,
    pods: Pods | None,
    found: bool,
    spec_hash: str,
    heard: Heard,
    unreachable: bool,
    seconds: int,
) -> None:
    """Whatever is seen: legal moves only, the same answer to the same question, and an end when its validity is over."""
    seen = Observed(
        build.effectiveness_assessment(REQUEST, phase, post_remediation_spec_hash=LEFT),
        execution,
        Target(found, not found, "why", spec_hash, pods if found else None),
        heard,
        Metrics(wanted=unreachable, unreachable=unreachable),
    )
    now = build.later(seconds)
    decision = step(seen, now)
    assert decision == step(seen, now)
    if phase is not None and not phase.terminal:
        reached = status_of(decision).phase if decision.status else phase
        assert decision.wake_at is not None
        if seconds >= 1800 and phase is not Phase.PENDING:
            assert reached is not None
            assert reached.terminal


def test_a_verdict_that_another_overtakes_is_another_fact() -> None:
    """What a process told that then died must not stand for what its successor found."""
    made = build.effectiveness_assessment(build.remediation_request())
    yes, again, no = (
        _fact(made, "completed", outcome, build.NOW).event.event_id
        for outcome in (AuditOutcome.SUCCESS, AuditOutcome.SUCCESS, AuditOutcome.FAILURE)
    )
    assert yes == again != no
