"""Each fact as one line that a person reads at three in the morning: what happened, who did it, how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from catalog.account.facts import Data, Fact
from catalog.account.walk import TERMINAL, TRANSITION
from kubernaut_ray.contracts.timeline import PhaseSpan, Step, run_kind
from kubernaut_ray.contracts.vocabulary import EVENT_TYPES

LONGEST = 600

_DETAILS = frozenset(
    {
        "gateway.crd.created",
        "orchestrator.lifecycle.started",
        "signalprocessing.phase.transition",
        "signalprocessing.enrichment.completed",
        "signalprocessing.business.classified",
        "signalprocessing.signal.processed",
        "aianalysis.phase.transition",
        "aianalysis.holmesgpt.call",
        "aianalysis.rego.evaluation",
        "orchestrator.approval.requested",
        "datastorage.workflow.created",
        "aiagent.investigation.completed",
        "aiagent.llm.request",
        "aiagent.llm.response",
        "aiagent.llm.tool_call",
        "aiagent.workflow.validation_attempt",
        "workflow.catalog.search_completed",
        "orchestrator.notification.requested",
        "effectiveness.assessment.started",
        "orchestrator.remediation.manual_review",
    }
)
"""What only says again, or in parts, what another fact says."""


def steps(facts: Sequence[Fact], around: Sequence[Fact], phases: Sequence[PhaseSpan]) -> tuple[Step, ...]:
    """Return all facts in words, by their instants; ``around`` are facts of other correlations."""
    ordered = sorted((*facts, *around), key=lambda fact: fact.at)
    begin = (facts or ordered)[0].at if ordered else None
    took: dict[tuple[str, datetime | None], float | None] = {
        (span.phase, span.left): span.seconds for span in phases if span.left is not None
    }
    return tuple(_step(fact, begin, took) for fact in ordered)


def _step(fact: Fact, begin: datetime | None, took: Mapping[tuple[str, datetime | None], float | None]) -> Step:
    event, data = fact.event, fact.data
    seconds = fact.seconds
    if fact.type == TRANSITION:
        seconds = took.get((data.text("from_phase"), fact.at))
    elif fact.type == "orchestrator.lifecycle.completed":
        seconds = data.number("duration_seconds")
    return Step(
        at=fact.at,
        offset=(fact.at - begin).total_seconds() if begin else 0.0,
        event_id=event.event_id,
        event_type=event.event_type,
        what=" ".join(_what(fact.type, data).split())[:LONGEST],
        who=_who(fact),
        outcome=event.event_outcome.value,
        seconds=None if seconds is None else max(0.0, seconds),
        detail=fact.type in _DETAILS or (fact.type == TRANSITION and _says_little(data)),
    )


def _says_little(transition: Data) -> bool:
    """The beginning and the end are facts of their own."""
    return not transition.text("from_phase") or transition.text("to_phase") in TERMINAL


def _who(fact: Fact) -> str:
    event = fact.event
    known = EVENT_TYPES.get(event.event_type)
    who = event.actor_id or (known.service if known else "")
    if event.actor_type != "user":
        return who.removeprefix("remediation-").removesuffix("-controller")
    via = fact.data.text("decided_via")
    return f"{who} via {via}" if via else who


def _what(event_type: str, data: Data) -> str:
    text = data.text
    match event_type:
        case "gateway.signal.received":
            assumed = f" ({text('assumed')})" if text("assumed") else ""
            return f"{text('severity')} {text('signal_name')} from {text('signal_source')} on {text('target_resource')}{assumed}"
        case "gateway.crd.created":
            return f"RemediationRequest created for {text('target_resource')}"
        case "gateway.crd.failed":
            return f"{text('signal_name')} opened nothing: {text('error')}"
        case "gateway.signal.deduplicated":
            return f"Seen {data.count('occurrences')} more times: {', '.join(data.texts('signal_names'))}"
        case "gateway.signal.folded":
            return f"{data.count('count')} signals of other resources taken in"
        case "gateway.signal.resolved":
            over = [f"{one.text('signal_name')} on {one.text('resource')}" for one in data.parts("symptoms")]
            return f"The source says it is over: {', '.join(over)}"
        case "gateway.storm.detected":
            return f"Part of a {text('storm_type')} storm: {data.count('alert_count')} signals within {text('window')}"
        case "orchestrator.phase.transitioned":
            return f"{text('from_phase') or '(new)'} → {text('to_phase')}: {text('message') or text('reason')}"
        case "orchestrator.routing.blocked":
            by = data.instant("blocked_until")
            until = f" until {by:%H:%M:%S} UTC" if by else ""
            return f"Blocked ({text('reason')}){until}: {text('message')}"
        case "orchestrator.recovery.started":
            return f"Recovery attempt {data.count('attempt')}: {text('failure') or text('failure_reason')}"
        case "orchestrator.recovery.refused":
            return f"No further attempt ({text('reason')}): {text('message')}"
        case "orchestrator.remediation.manual_review":
            return f"A person must take over: {text('reason')}"
        case "orchestrator.lifecycle.completed":
            outcome = text("outcome_of_remediation")
            return f"Ended {text('phase')}{f' ({outcome})' if outcome else ''}: {text('message') or text('reason')}"
        case "orchestrator.notification.requested":
            return f"People are to be told ({text('type')}, {text('priority')}): {text('subject')}"
        case _:
            return _what_a_child_did(event_type, data)


def _what_a_child_did(event_type: str, data: Data) -> str:
    text = data.text
    match event_type.split("."):
        case ["signalprocessing", "classification", _]:
            parts = (text("severity"), text("environment"), text("priority"))
            return (
                f"Classified: {', '.join(part for part in parts if part)} (policy {text('policy_hash')[:12] or 'none'})"
            )
        case ["signalprocessing" | "aianalysis" | "aiagent", _, "failed" | "occurred"]:
            return f"Failed: {text('error')}"
        case ["aiagent", "investigation", "started"]:
            return f"Investigation by {text('model')} began"
        case ["aiagent", "llm", "tool_call"]:
            return f"Used {text('tool')} {text('arguments')}"
        case ["aiagent", "llm", "response"]:
            return (
                f"{text('model')} answered ({data.count('input_tokens')} tokens in, {data.count('output_tokens')} out)"
            )
        case ["aiagent", "workflow", "validation_attempt"]:
            return (
                "The answer is valid" if data.flag("is_valid") else f"Answer refused: {'; '.join(data.texts('errors'))}"
            )
        case ["aianalysis", "approval", "decision"]:
            word = "required" if data.flag("approval_required") else "not required"
            return _joined(f"Approval is {word}", text("reason"))
        case ["aianalysis", "analysis", "completed"]:
            return _analysed(data)
        case ["orchestrator", "approval", "requested"]:
            name = text("workflow_name") or text("workflow_id")
            by = data.instant("required_by")
            until = f" until {by:%H:%M:%S} UTC" if by else ""
            return _joined(f"Approval asked for {name}{until}", text("reason"))
        case ["orchestrator", "approval", "refused"]:
            return f"{text('attempted') or 'A change'} does not count: {text('reason')}"
        case ["orchestrator", "approval", _]:
            return _joined(text("decision"), text("message"))
        case ["workflow", "started"]:
            return f"{_workflow(data)} began as {run_kind(text('engine'))} {text('pipeline_run')}"
        case ["workflow", "completed"]:
            results = ", ".join(f"{name}: {value}" for name, value in data.pairs("results").items())
            return f"{_workflow(data)} succeeded{f' ({results})' if results else ''}"
        case ["workflow", "failed"]:
            return f"{_workflow(data)} failed ({text('reason')}): {text('summary') or text('message')}"
        case ["workflow", "cancelled"]:
            return f"{_workflow(data)} was called off"
        case ["effectiveness", "assessment", "completed"]:
            return f"Effect of {_workflow(data)} judged ({text('reason')}): {text('message')}"
        case ["workflow", "catalog", _]:
            return f"Catalog searched for {text('query')!r}: {data.count('total_matched')} found"
        case ["notification", "message", "sent"]:
            return f"Told by {text('delivery')} ({text('type')})"
        case ["notification", "message", "failed"]:
            return f"Not told by {text('delivery')} ({text('type')}): {text('error')}"
        case ["datastorage", "workflow", what]:
            return f"Workflow {text('workflow_name')} {text('version')} {what}: {text('status')} {text('reason')}"
        case _:
            known = EVENT_TYPES.get(event_type)
            return f"{known.tells[:1].upper()}{known.tells[1:]}" if known else event_type


def _analysed(data: Data) -> str:
    cause, chosen = data.part("root_cause"), data.part("selected_workflow")
    if chosen is None:
        return f"Analysis ended: {data.text('message') or data.text('reason')}"
    sure = chosen.number("confidence")
    choice = f"Chosen: {_workflow(chosen)}{f' (confidence {sure:.2f})' if sure is not None else ''}"
    return _joined(choice, f"Cause: {cause.text('summary')}" if cause else "", ". ")


def _workflow(data: Data) -> str:
    return f"{data.text('workflow_name') or data.text('workflow_id')} {data.text('version')}".strip()


def _joined(head: str, tail: str, by: str = ": ") -> str:
    return f"{head}{by}{tail}" if tail else head
