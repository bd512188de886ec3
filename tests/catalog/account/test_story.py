"""What a trail tells: whole stories, stories with a page torn out, and anything at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.account.story import reconstruct
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import GapKind, IncidentStory, State
from kubernaut_ray.contracts.vocabulary import EVENT_TYPES
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from tests import build
from tests.build import later
from tests.catalog.account import told as stories
from tests.catalog.account.told import REMEDIATION, SPEC, STORIES, Told


def account(told: Told, **more: Any) -> IncidentStory:
    return reconstruct(REMEDIATION, told.events, **more)


def gaps(told: Told) -> list[tuple[str, str]]:
    return [(str(gap.kind), gap.event_type) for gap in account(told).gaps]


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_whole_trail_has_no_gaps(story):
    """Each of the ways in which an incident goes is told in full, with the spec of the request as it was."""
    found = account(story())
    assert [(gap.kind, gap.message) for gap in found.gaps] == []
    assert found.complete
    assert found.request is not None
    assert (found.request.spec, found.request.withheld) == (SPEC, ())


def test_an_approved_fix_is_told_in_full():
    """Signal, classification, cause, choice, leave, execution, messages, and the time that each took."""
    found = account(stories.approved())
    (attempt,) = found.attempts
    assert found.target == "shop/deployment/web"
    assert (found.signal.name, found.signal.source, found.signal.labels["namespace"]) == (
        "KubePodOOMKilled",
        "alertmanager",
        "shop",
    )
    assert found.classification is not None
    assert (found.classification.priority, found.classification.policy_hash) == ("P0", "f" * 64)
    assert found.classification.business == {"business_unit": "retail", "criticality": "high"}
    assert [span.phase for span in found.phases] == [
        "Pending", "Processing", "Analyzing", "AwaitingApproval", "Executing", "Completed",
    ]  # fmt: skip
    assert [span.seconds for span in found.phases] == [1, 1, 3, 43, 11, None]
    assert attempt.cause is not None
    assert (attempt.cause.summary, attempt.evidence) == ("The memory limit is too low", ("terminated 7 times",))
    assert attempt.chosen is not None
    assert (attempt.chosen.workflow_name, attempt.chosen.confidence, attempt.chosen.parameters) == (
        "increase-memory",
        0.9,
        {"MEMORY_LIMIT": "512Mi"},
    )
    assert [one.workflow_id for one in attempt.alternatives] == ["wf-restart"]
    leave = attempt.approval
    assert (leave.required, leave.decision, leave.by, leave.via, leave.said, leave.waited) == (
        True, "Approved", "ann", "console", "go", 43,
    )  # fmt: skip
    assert attempt.execution is not None
    assert (attempt.execution.outcome, attempt.execution.run, attempt.execution.seconds) == (
        "completed",
        "PipelineRun wfe-1",
        9,
    )
    assert [(n.type, n.deliveries[0].sent) for n in found.notifications] == [("approval", True), ("completion", True)]
    assert found.ending is not None
    assert (found.ending.outcome, found.state) == ("Remediated", State.ENDED)


def test_a_judged_effect_is_told():
    """How long it was looked at and what was found; a success whose verdict is not on record has a gap."""
    found = account(stories.in_vain())
    assert found.verification is not None
    assert found.verification.seconds == pytest.approx(303, abs=5)
    said = [step.what for step in found.steps if step.event_type == "effectiveness.assessment.completed"]
    assert said == ["Effect of increase-memory 1.0.0 judged (Full): It did not help (score 0.00)"]
    assert found.ending is not None
    assert (found.ending.outcome, found.ending.manual_review) == (
        "Inconclusive",
        "increase-memory succeeded and did not help",
    )
    torn = stories.verified().without("effectiveness.assessment.completed")
    assert gaps(torn) == [("missing", "effectiveness.assessment.completed")]


def test_a_job_is_called_a_job():
    """The account names the kind of object that the engine made."""
    (attempt,) = account(Told().opened().processed().analysed().executed(engine="job").ended()).attempts
    assert attempt.execution is not None
    assert attempt.execution.run == "Job wfe-1"


def test_recovery_is_a_second_attempt():
    """The failed execution, what was decided then, and another analysis with its own cost and leave."""
    first, second = account(stories.recovered()).attempts
    assert first.execution is not None
    assert first.execution.failure is not None
    assert (first.execution.failure.step, first.execution.failure.exit_code, first.execution.failure.executed) == (
        "apply",
        1,
        True,
    )
    assert first.recovery is not None
    assert first.recovery.started
    assert (second.number, second.approval.by) == (1, "ann")
    (run,) = second.investigations
    assert (run.llm_requests, run.input_tokens, run.output_tokens) == (3, 1200, 80)
    assert second.execution is not None
    assert second.execution.outcome == "completed"


def test_a_person_must_take_over():
    """Two failures of one kind: no third attempt, and why."""
    found = account(stories.given_up())
    assert found.attempts[-1].recovery is not None
    assert (found.attempts[-1].recovery.started, found.attempts[-1].recovery.reason) == (
        False,
        "repeated_failure_pattern",
    )
    assert found.ending is not None
    assert found.ending.manual_review == "the workflow failed twice"


def test_waiting_is_told():
    """A block has its reason, who stood in the way, and its end."""
    (pause,) = account(stories.busy()).pauses
    assert (pause.reason, pause.execution) == ("ResourceBusy", "we-rr-0")
    assert pause.until is not None
    assert (pause.until - pause.since).total_seconds() == 32
    (copied,) = account(stories.duplicate()).pauses
    assert copied.duplicate_of == "rr-0"


def test_what_comes_again_is_counted():
    """Repetitions, what was taken in, a storm, and what is over."""
    told = Told().opened()
    seen = {"first_seen": "2026-03-01T12:00:05+00:00", "last_seen": "2026-03-01T12:00:09+00:00"}
    told.fact("gateway.signal.deduplicated", "1", occurrences=12, signal_names=["Slow"], **seen)
    told.fact("gateway.signal.deduplicated", "2", occurrences=3, signal_names=["Slow"], **seen)
    told.fact("gateway.signal.folded", members=[{"target": "shop/deployment/db"}] * 4, count=4)
    told.fact("gateway.storm.detected", storm_type="pattern", alert_count=20, window="2m")
    found = account(told).occurrences
    assert (found.count, found.signals, found.folded, found.storm) == (16, ("KubePodOOMKilled", "Slow"), 4, "pattern")
    assert found.folded_targets == ("shop/deployment/db",)
    assert found.last_seen == later(9)


def test_an_open_incident_is_called_open():
    """Nothing that may yet come is missed, and nothing is pretended."""
    told = Told().opened().processed().analysed(approval=True).asked()
    found = account(told)
    assert (found.state, found.ending) == (State.OPEN, None)
    assert [(gap.kind, gap.message) for gap in found.gaps] == [
        (GapKind.STILL_OPEN, "it has not ended; it is in AwaitingApproval")
    ]


def test_nothing_on_record():
    """An unknown name is no incident."""
    found = reconstruct("rr-none", stories.fixed().events)
    assert (found.state, [gap.kind for gap in found.gaps]) == (State.UNKNOWN, [GapKind.NOTHING])


MISSING = {
    "gateway.signal.received",
    "gateway.crd.created",
    "orchestrator.lifecycle.started",
    "signalprocessing.classification.decision",
    "aiagent.investigation.started",
    "aiagent.investigation.completed",
    "aianalysis.approval.decision",
    "aianalysis.analysis.completed",
    "orchestrator.approval.requested",
    "orchestrator.approval.approved",
    "workflow.started",
    "workflow.completed",
    "orchestrator.notification.requested",
    "notification.message.sent",
}


@pytest.mark.parametrize("torn", sorted(MISSING))
def test_a_torn_out_page_is_a_gap(torn):
    """Whatever an approved fix cannot have been without is missed by its name."""
    assert ("missing", torn) in gaps(stories.approved().without(torn))


@pytest.mark.parametrize(
    ("story", "torn", "missed"),
    [
        (stories.rejected, "orchestrator.approval.rejected", "orchestrator.approval.rejected"),
        (stories.expired, "orchestrator.approval.expired", "orchestrator.approval.expired"),
        (stories.recovered, "orchestrator.recovery.started", "orchestrator.recovery.started"),
        (stories.recovered, "workflow.failed", "workflow.failed"),
        (stories.recovered, "aiagent.llm.response", "aiagent.llm.response"),
        (stories.given_up, "orchestrator.recovery.refused", "orchestrator.recovery.started"),
        (stories.self_resolved, "aianalysis.analysis.completed", "aianalysis.analysis.completed"),
        (stories.unprocessable, "signalprocessing.error.occurred", "signalprocessing.error.occurred"),
        (stories.duplicate, "orchestrator.routing.blocked", "orchestrator.routing.blocked"),
        (stories.called_off, "workflow.cancelled", "workflow.completed"),
    ],
)
def test_each_story_needs_its_pages(story, torn, missed):
    """A decision, a recovery, a failure, a block that is not on record."""
    assert ("missing", missed) in gaps(story().without(torn))


def test_a_missing_transition_is_seen():
    """The walk is broken where a move is not on record."""
    told = stories.approved()
    told.events = [e for e in told.events if e.event_data.get("to_phase") != "AwaitingApproval"]
    found = [gap for gap in account(told).gaps if gap.kind is GapKind.MISSING]
    assert found[0].message == "it went from AwaitingApproval to Executing and was last seen in Analyzing"


def test_a_step_that_was_told_and_not_taken():
    """The orchestrator died between telling and writing; what it did instead is the walk, and the record says both."""
    told = Told().opened().processed().analysed()
    told.to("Executing", "WorkflowExecutionCreated")
    told.phase = "Analyzing"
    told.ended("Cancelled", "", "Cancelled")
    found = account(told)
    assert [span.phase for span in found.phases] == ["Pending", "Processing", "Analyzing", "Cancelled"]
    assert [(gap.kind, gap.event_type) for gap in found.gaps] == [
        (GapKind.SUPERSEDED, "orchestrator.phase.transitioned")
    ]


def altered(told: Told, event_type: str, **data: Any) -> Told:
    told.events = [
        event.model_copy(update={"event_data": {**event.event_data, **data}})
        if event.event_type == event_type
        else event
        for event in told.events
    ]
    return told


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            altered(stories.fixed(), "workflow.completed", workflow_id="wf-x"),
            "what was executed is not what was chosen: workflow",
        ),
        (
            altered(stories.fixed(), "workflow.completed", container_image="x@sha256:2"),
            "what was executed is not what was chosen: image",
        ),
        (
            altered(stories.fixed(), "workflow.completed", parameters={}),
            "what was executed is not what was chosen: parameters",
        ),
        (
            altered(stories.approved(), "orchestrator.approval.approved", decision="Rejected"),
            "it was executed, and the decision was Rejected",
        ),
        (
            altered(stories.fixed(), "orchestrator.lifecycle.started", spec={**SPEC, "severity": "info"}),
            "the spec was changed after the gateway had created it: severity",
        ),
    ],
    ids=["workflow", "image", "parameters", "executed against a no", "spec"],
)
def test_a_falsified_field_contradicts(told, message):
    """What was chosen, approved, created and executed must agree."""
    found = [gap.message for gap in account(told).gaps if gap.kind is GapKind.CONTRADICTION]
    assert found == [message]


def test_executed_before_it_was_approved():
    """An order that no difference of clocks explains."""
    told = Told().opened().processed().analysed(approval=True).asked().executed().decided().ended()
    assert "it was executed before it was approved" in [gap.message for gap in account(told).gaps]


@pytest.mark.parametrize("overtaken", [1, 2, 3])
def test_a_transition_told_by_two_owners_may_bear_the_later_time(overtaken):
    """It is stored once, as the one whose fact came first told it; the walk is what it was, and no phase ends before it began."""
    told = stories.approved()
    moves = [i for i, one in enumerate(told.events) if "to_phase" in one.event_data]
    for place in moves[:overtaken]:
        late = told.events[moves[overtaken]].event_timestamp + timedelta(milliseconds=400 + place)
        told.events[place] = told.events[place].model_copy(update={"event_timestamp": late})
    story = account(told)
    assert [gap.message for gap in story.gaps] == []
    assert [span.phase for span in story.phases] == [span.phase for span in account(stories.approved()).phases]
    assert all(span.left is None or span.entered <= span.left for span in story.phases)


def test_an_execution_that_somebody_deleted_is_not_decided_about():
    """That its run had failed by then was told, and is nobody's business any more."""
    told = stories.Told().opened().processed().analysed().executed("failed")
    told.fact("orchestrator.remediation.manual_review", reason="the execution was deleted")
    assert account(told.ended("Failed", "ManualReviewRequired", "ExecutionDeleted")).gaps == ()


def test_one_id_two_stories():
    """The id of a fact is its identity: other words under it are a contradiction."""
    told = stories.fixed()
    odd = told.events[0].model_copy(update={"event_data": {**told.events[0].event_data, "severity": "info"}})
    told.events.append(odd)
    assert (GapKind.CONTRADICTION, odd.event_type) in [(gap.kind, gap.event_type) for gap in account(told).gaps]


def test_what_is_no_event_is_said():
    """Unreadable events, unknown types and events that lack what they must hold."""
    told = stories.fixed()
    told.events.append(
        told.events[0].model_copy(
            update={"event_type": "nobody.knows.this", "event_id": str(build.workflow().workflow_id)}
        )
    )
    told.events[1] = told.events[1].model_copy(update={"event_data": {}})
    messages = [gap.message for gap in account(told, unreadable=2).gaps if gap.kind is GapKind.UNREADABLE]
    assert messages[0] == "2 events cannot be read"
    assert any("nobody.knows.this is no event type" in message for message in messages)
    assert any("its event_data lacks" in message for message in messages)


def test_facts_under_other_correlations():
    """Refusals of the same fingerprint count; changes of a workflow are steps of the account."""
    before = Told(f"signal-{build.FINGERPRINT[:12]}").fact("gateway.crd.failed", error="quota exceeded")
    changed = Told("wf-memory").fact("datastorage.workflow.updated", who="eve", status="disabled", workflow_name="m")
    found = account(stories.fixed(), related=[*before.events, *changed.events])
    assert found.signal.refused_before == 1
    assert {"gateway.crd.failed", "datastorage.workflow.updated"} <= {step.event_type for step in found.steps}


@given(st.sampled_from(sorted(STORIES)), st.randoms(use_true_random=False))
def test_the_order_of_telling_does_not_matter(name, random):
    """Any permutation, with any of it told again, gives the same account."""
    told = STORIES[name]()
    expected = account(told)
    told.events += random.choices(told.events, k=random.randrange(6))
    random.shuffle(told.events)
    assert account(told) == expected


@given(st.sampled_from(sorted(STORIES)), st.data())
def test_any_part_of_a_trail_gives_an_account(name, data):
    """Nothing raises, steps are in order, and what is left out is either of no consequence or told as a gap."""
    told = STORIES[name]()
    kept = data.draw(st.lists(st.booleans(), min_size=len(told.events), max_size=len(told.events)))
    told.events = [event for event, keep in zip(told.events, kept, strict=True) if keep]
    found = account(told)
    assert [step.offset for step in found.steps] == sorted(step.offset for step in found.steps)
    assert len(found.steps) == len({event.event_id for event in told.events})
    ended = any(event.event_type == "orchestrator.lifecycle.completed" for event in told.events)
    assert (found.state is State.ENDED) == ended
    types = {event.event_type for event in told.events}
    assert found.gaps or {"orchestrator.lifecycle.started", "gateway.crd.created", "gateway.signal.received"} <= types
    IncidentStory.model_validate(found.to_json())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({key for known in EVENT_TYPES.values() for key in known.holds | known.may})


@st.composite
def anything(draw: st.DrawFn) -> AuditEvent:
    event_type = draw(st.sampled_from(sorted(EVENT_TYPES)))
    words = st.sampled_from(
        ["Pending", "Processing", "Analyzing", "Executing", "Blocked", "Completed", "RecoveryStarted", ""]
    )
    about = st.sampled_from(
        ["rr-1", "ai-rr-1", "we-rr-1", "we-rr-1-recovery-2", "rar-rr-1", "ai-rr-1-recovery-999999999"]
    )
    return AuditEvent.fact(
        event_type,
        correlation_id=draw(st.sampled_from([REMEDIATION, "rr-2"])),
        category=draw(st.sampled_from(AuditCategory)),
        now=later(draw(st.integers(0, 5))),
        outcome=draw(st.sampled_from(AuditOutcome)),
        actor=draw(TEXT),
        key=(str(draw(st.integers(0, 20))),),
        resource_id=draw(about),
        duration_ms=draw(st.none() | st.integers(0, 10**9)),
        event_data=draw(st.dictionaries(st.sampled_from(KEYS), JSON | words | about, max_size=8)),
    )


@given(st.lists(anything(), max_size=25))
def test_any_events_at_all_give_an_account(events):
    """Fields of other forms, foreign events, endless attempts: total, and it can be written down and read back."""
    found = reconstruct(REMEDIATION, events, related=events)
    assert IncidentStory.model_validate_json(found.model_dump_json()) == found
    assert not found.complete
