"""What a trail lacks, and where it contradicts itself.

Every rule says what cannot have happened without a fact: a phase that was left, an execution, a message. An incident that is
still open is told to be so, and is not asked for what may yet come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from catalog.account import attempts as ways
from catalog.account import walk as walks
from catalog.account.facts import Fact, first, of
from catalog.account.walk import Move, Walk
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import Attempt, ExecutionStory, Gap, GapKind, IncidentStory, State
from kubernaut_ray.contracts.vocabulary import check
from kubernaut_ray.crds.enums import ApprovalDecision, Outcome
from kubernaut_ray.crds.enums import RemediationPhase as Phase

MOST_UNREADABLE = 20
CLOCKS = timedelta(seconds=5)
"""How far the clocks of two services may differ before an order of facts counts as a contradiction."""
GATEWAY = "gateway-service"
"""``opened_by`` of requests that the gateway created."""
BUILT_IN = "evidence"
"""The model that is no language model, and costs no tokens."""
UNPROCESSED, FAULT = "SignalProcessingFailed", "signalprocessing.error.occurred"
_JUDGED = frozenset({"WorkflowNotNeeded", "ManualReviewRequired", "AIAnalysisFailed", "DryRun"})
"""Reasons to end that only an analysis gives."""
JUDGED = "effectiveness.assessment.completed"
_JUDGED_BY_EFFECT = frozenset({"Remediated"})
"""Reasons to end Verifying that only a judged effect gives; a person may take over without one."""
EXECUTION_DELETED = "ExecutionDeleted"
"""The reason to end of a person having deleted the execution: how its run ended was not looked at any more."""


def gaps(
    story: IncidentStory, facts: Sequence[Fact], path: Walk, odd: Sequence[AuditEvent], unreadable: int
) -> tuple[Gap, ...]:
    """Return what is missing or contradictory, in the order of the incident."""
    found = [*_events(facts, odd, unreadable)]
    if story.state is State.UNKNOWN:
        return (*found, Gap(kind=GapKind.NOTHING, message=f"nothing is on record about {story.remediation_id}"))
    found += _beginning(story, facts)
    found += _walked(story, path)
    for move in path.moves:
        found += _moved(story, facts, move)
    for attempt in story.attempts:
        found += _attempted(story, attempt, path)
    found += _told(story)
    found += _ended(story, facts, path)
    return tuple(found)


def _missing(message: str, at: datetime | None, event_type: str) -> Gap:
    return Gap(kind=GapKind.MISSING, message=message, at=at, event_type=event_type)


def _contradiction(message: str, at: datetime | None = None, event_type: str = "") -> Gap:
    return Gap(kind=GapKind.CONTRADICTION, message=message, at=at, event_type=event_type)


def _events(facts: Sequence[Fact], odd: Sequence[AuditEvent], unreadable: int) -> Iterator[Gap]:
    if unreadable:
        yield Gap(kind=GapKind.UNREADABLE, message=f"{unreadable} events cannot be read")
    wrong = [(fact, problem) for fact in facts for problem in check(fact.event)]
    for fact, problem in wrong[:MOST_UNREADABLE]:
        yield Gap(kind=GapKind.UNREADABLE, message=problem, at=fact.at, event_type=fact.type)
    if len(wrong) > MOST_UNREADABLE:
        yield Gap(kind=GapKind.UNREADABLE, message=f"and {len(wrong) - MOST_UNREADABLE} more such events")
    for event in odd:
        message = f"event {event.event_id} is told twice, in different words"
        yield _contradiction(message, event.event_timestamp, event.event_type)


def _beginning(story: IncidentStory, facts: Sequence[Fact]) -> Iterator[Gap]:
    started = of(facts, "orchestrator.lifecycle.started")
    if not started:
        yield _missing("nothing says that the orchestrator took it up", story.opened, "orchestrator.lifecycle.started")
    if len(started) > 1:
        yield _contradiction("two requests have borne this name", started[1].at, started[1].type)
    made = first(facts, "gateway.crd.created")
    by_gateway = made is not None or any(fact.data.text("opened_by") == GATEWAY for fact in started)
    for event_type in ("gateway.signal.received", "gateway.crd.created"):
        if by_gateway and not of(facts, event_type):
            yield _missing("the gateway opened it, and its record of that is missing", story.opened, event_type)
    if story.request is None:
        yield _missing("the spec of the request is not on record", story.opened, "orchestrator.lifecycle.started")
    told = started[0].data.part("spec") if started else None
    created = made.data.part("spec") if made else None
    if told is not None and created is not None and told.values != created.values:
        odd = sorted(k for k in {*told.values, *created.values} if told.values.get(k) != created.values.get(k))
        yield _contradiction(
            f"the spec was changed after the gateway had created it: {', '.join(odd)}", started[0].at, started[0].type
        )


def _walked(story: IncidentStory, path: Walk) -> Iterator[Gap]:
    for move, was in path.broken:
        if was in walks.TERMINAL:
            yield _contradiction(f"it went to {move.new} after it had ended as {was}", move.at, walks.TRANSITION)
        else:
            message = f"it went from {move.old or '(new)'} to {move.new} and was last seen in {was or '(new)'}"
            yield _missing(message, move.at, walks.TRANSITION)
    for move in path.superseded:
        message = (
            f"{move.new} ({move.reason}) was told and then not entered: whoever told it ended before writing it down"
        )
        yield Gap(kind=GapKind.SUPERSEDED, message=message, at=move.at, event_type=walks.TRANSITION)
    waits = sum(move.new == Phase.BLOCKED for move in path.moves)
    if waits > len(story.pauses):
        yield _missing("it was blocked, and nothing says by what", None, walks.BLOCKED)
    if story.attempts and not path.moves:
        yield _missing("nothing says which phases it went through", story.opened, walks.TRANSITION)


def _moved(story: IncidentStory, facts: Sequence[Fact], move: Move) -> Iterator[Gap]:
    """What must have been there for this transition to happen."""
    before = next((a for a in story.attempts if a.number == move.attempt), Attempt(number=move.attempt))
    if move.reason == walks.RECOVERY:
        last = next((a for a in story.attempts if a.number == move.attempt - 1), None)
        if last is None or last.execution is None or last.execution.outcome != "failed":
            yield _missing("it recovered, and no failed execution is on record", move.at, "workflow.failed")
        if last is None or last.recovery is None:
            yield _missing("it recovered, and nothing says why", move.at, "orchestrator.recovery.started")
        return
    match move.old, move.new:
        case Phase.PROCESSING, Phase.ANALYZING if story.classification is None:
            yield _missing("it was analysed unclassified", move.at, "signalprocessing.classification.decision")
        case Phase.PROCESSING, Phase.FAILED if move.reason == UNPROCESSED and not of(facts, FAULT):
            yield _missing("the signal could not be processed, and nothing says why", move.at, FAULT)
        case Phase.ANALYZING, Phase.AWAITING_APPROVAL | Phase.EXECUTING if before.chosen is None:
            yield _missing("nothing says which workflow was chosen, and why", move.at, ways.ANALYSED)
        case Phase.ANALYZING, _ if move.reason in _JUDGED and before.ended is None:
            yield _missing("nothing says what the analysis came to", move.at, ways.ANALYSED)
        case Phase.AWAITING_APPROVAL, Phase.FAILED if move.reason == "ApprovalRejected":
            yield from _decision(before, ApprovalDecision.REJECTED, move)
        case Phase.AWAITING_APPROVAL, Phase.FAILED if move.reason == "ApprovalExpired":
            yield from _decision(before, ApprovalDecision.EXPIRED, move)
        case Phase.VERIFYING, Phase.COMPLETED if move.reason in _JUDGED_BY_EFFECT and not of(facts, JUDGED):
            yield _missing("its effect was judged, and nothing says what was found", move.at, JUDGED)
        case Phase.EXECUTING, Phase.COMPLETED | Phase.VERIFYING if (
            before.execution is None or before.execution.outcome != "completed"
        ):
            yield _missing(
                "it is called remediated, and no execution is on record that succeeded", move.at, ways.ENDED[0]
            )
        case Phase.EXECUTING, Phase.FAILED if move.reason == "ManualReviewRequired" and (
            before.execution is None or before.execution.outcome != "failed"
        ):
            yield _missing("an execution failed, and nothing says how", move.at, "workflow.failed")
    if move.new == Phase.AWAITING_APPROVAL and before.approval.asked is None:
        yield _missing("it waited for leave, and nothing says that anybody was asked", move.at, ways.ASKED)
    if move.new == Phase.EXECUTING:
        yield from _executing(before, move)


def _decision(attempt: Attempt, expected: ApprovalDecision, move: Move) -> Iterator[Gap]:
    event_type = f"orchestrator.approval.{expected.lower()}"
    if not attempt.approval.decision:
        yield _missing(f"it ended as {move.reason}, and no decision is on record", move.at, event_type)
    elif attempt.approval.decision != expected:
        message = f"it ended as {move.reason}, and the decision on record is {attempt.approval.decision}"
        yield _contradiction(message, move.at, event_type)


def _executing(attempt: Attempt, move: Move) -> Iterator[Gap]:
    leave = attempt.approval
    if attempt.execution is None:
        yield _missing("it was executing, and nothing says that an execution began", move.at, ways.STARTED)
    if leave.required is None:
        yield _missing("nothing says whether a person had to approve", move.at, ways.LEAVE)
    if (leave.required or leave.asked is not None) and not leave.decision:
        yield _missing("it was executed, and nobody's approval is on record", move.at, ways.DECIDED[0])
    elif leave.decision and leave.decision != ApprovalDecision.APPROVED:
        yield _contradiction(f"it was executed, and the decision was {leave.decision}", move.at, ways.STARTED)


def _attempted(story: IncidentStory, attempt: Attempt, path: Walk) -> Iterator[Gap]:
    run = attempt.execution
    if attempt.ended is not None and attempt.model:
        answered = [one for one in attempt.investigations if one.outcome == "completed"]
        if not answered:
            yield _missing(
                f"{attempt.model} answered, and its investigation is not on record", attempt.ended, ways.INVESTIGATED
            )
        for one in answered:
            if one.started is None:
                yield _missing("nothing says when the investigation began", one.ended, ways.BEGUN)
            if one.model != BUILT_IN and not one.llm_requests:
                yield _missing(
                    f"what {one.model} was asked, and cost, is not on record", one.ended, "aiagent.llm.response"
                )
    if run is None:
        return
    given_up = run.outcome == "cancelled" or (story.ending is not None and story.ending.reason == EXECUTION_DELETED)
    if not given_up and not any(move.new == Phase.EXECUTING and move.attempt == attempt.number for move in path.moves):
        yield _missing("an execution is on record, and not that it was entered upon", run.started, walks.TRANSITION)
    if run.started is None and (run.outcome == "completed" or (run.failure is not None and run.failure.executed)):
        yield _missing("an execution ended, and nothing says when it began", run.ended, ways.STARTED)
    if not run.outcome and story.state is State.ENDED:
        yield _missing(f"what became of {run.name} is not on record", run.started, ways.ENDED[0])
    yield from _same(attempt, run)


def _same(attempt: Attempt, run: ExecutionStory) -> Iterator[Gap]:
    """Was that executed which was chosen, and approved, and only then?"""
    chosen, leave = attempt.chosen, attempt.approval
    if chosen is not None:
        odd = [
            word
            for word, differs in (
                ("workflow", chosen.workflow_id != run.workflow_id),
                ("image", bool(chosen.container_digest) and chosen.container_digest not in run.container_image),
                ("parameters", chosen.parameters != run.parameters),
            )
            if differs
        ]
        if odd:
            yield _contradiction(f"what was executed is not what was chosen: {', '.join(odd)}", run.started)
    if leave.decided is not None and run.started is not None and run.started < leave.decided - CLOCKS:
        yield _contradiction("it was executed before it was approved", run.started, ways.STARTED)


def _told(story: IncidentStory) -> Iterator[Gap]:
    if story.state is not State.ENDED:
        return
    for one in story.notifications:
        if one.requested is None:
            yield _missing(
                f"{one.name} was sent, and nothing says that it was wanted", None, "orchestrator.notification.requested"
            )
        if not one.deliveries:
            yield _missing(
                f"what became of the message {one.name} is not on record (yet)",
                one.requested,
                "notification.message.sent",
            )


def _ended(story: IncidentStory, facts: Sequence[Fact], path: Walk) -> Iterator[Gap]:
    ending = story.ending
    if ending is None:
        now = path.phases[-1].phase if path.phases else "no phase"
        since = path.phases[-1].entered if path.phases else story.opened
        yield Gap(
            kind=GapKind.STILL_OPEN, message=f"it has not ended; it is in {now}", at=since, event_type=walks.ENDED
        )
        return
    told = {fact.data.text("phase") for fact in of(facts, walks.ENDED)} - {move.new for move in path.superseded}
    if len(told | {ending.phase}) > 1:
        yield _contradiction("it ended more than once", ending.at, walks.ENDED)
    if path.phases and path.phases[-1].phase != ending.phase:
        message = f"it ended as {ending.phase}, and was last seen in {path.phases[-1].phase}"
        yield _missing(message, ending.at, walks.TRANSITION)
    failed = [a for a in story.attempts if a.execution is not None and a.execution.outcome == "failed"]
    for attempt in failed:
        given_up = ending.phase in {Phase.TIMED_OUT, Phase.CANCELLED} or ending.reason == EXECUTION_DELETED
        if attempt.recovery is None and not given_up:
            message = (
                f"{attempt.execution.name if attempt.execution else ''} failed, and nothing says what was decided then"
            )
            yield _missing(message, attempt.execution.ended if attempt.execution else None, ways.RECOVERED[0])
    remediated = ending.outcome == Outcome.REMEDIATED and ending.reason != "Inherited"
    if remediated and not any(_succeeded(a) for a in story.attempts):
        yield _missing(
            "it is called remediated, and no execution is on record that succeeded", ending.at, ways.ENDED[0]
        )


def _succeeded(attempt: Attempt) -> bool:
    return attempt.execution is not None and attempt.execution.outcome == "completed"
