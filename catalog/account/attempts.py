"""The ways from investigation to execution that an incident took: the first, and one for each recovery.

Facts belong to an attempt by the names of the objects that they are about, which follow from the incident's name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from catalog.account.facts import Data, Fact, between, first, last, of
from kubernaut_ray import names
from kubernaut_ray.contracts.timeline import (
    Alternative,
    Attempt,
    Cause,
    Choice,
    ExecutionStory,
    Failure,
    Investigation,
    Leave,
    Recovery,
    ToolUse,
)

CALL = "aianalysis.holmesgpt.call"
ANALYSED = "aianalysis.analysis.completed"
LEAVE = "aianalysis.approval.decision"
SEARCHED = "workflow.catalog.search_completed"
BEGUN, INVESTIGATED, BROKE = (
    "aiagent.investigation.started",
    "aiagent.investigation.completed",
    "aiagent.investigation.failed",
)
ASKED, REFUSED = "orchestrator.approval.requested", "orchestrator.approval.refused"
DECIDED = ("orchestrator.approval.approved", "orchestrator.approval.rejected", "orchestrator.approval.expired")
STARTED, ENDED = "workflow.started", ("workflow.completed", "workflow.failed", "workflow.cancelled")
RECOVERED = ("orchestrator.recovery.started", "orchestrator.recovery.refused")


def attempts(remediation: str, facts: Sequence[Fact]) -> tuple[Attempt, ...]:
    """Return the attempts that anything is on record of, in their order."""
    by_number: defaultdict[int, list[Fact]] = defaultdict(list)
    current = 0
    for fact in facts:
        number = number_of(remediation, fact)
        if fact.type == CALL and number is not None:
            current = number
        if fact.type == SEARCHED:
            number = current
        if number is not None:
            by_number[number].append(fact)
    return tuple(_attempt(number, by_number[number]) for number in sorted(by_number))


def number_of(remediation: str, fact: Fact) -> int | None:
    """Return the attempt that a fact is about, ``None`` where it is about none."""
    about, data = fact.event.resource_id, fact.data
    match fact.type.split("."):
        case ["aianalysis" | "aiagent", *_]:
            return names.attempt_of(about, names.ai_analysis(remediation))
        case ["orchestrator", "approval", _]:
            return names.attempt_of(data.text("approval_request") or about, names.approval_request(remediation))
        case ["workflow", "started" | "completed" | "failed" | "cancelled"]:
            return names.attempt_of(about, names.workflow_execution(remediation))
        case ["orchestrator", "recovery", _]:
            return names.attempt_of(data.text("execution"), names.workflow_execution(remediation))
        case _:
            return None


def _attempt(number: int, facts: Sequence[Fact]) -> Attempt:
    done, call = last(facts, ANALYSED), first(facts, CALL)
    data = done.data if done else Data({})
    recovery = last(facts, *RECOVERED)
    return Attempt(
        number=number,
        analysis=next((f.event.resource_id for f in facts if f.type.startswith("aianalysis.")), ""),
        model=data.text("model"),
        conclusion=" / ".join(word for word in (data.text("reason"), data.text("sub_reason")) if word),
        message=data.text("message"),
        started=call.at if call else None,
        ended=done.at if done else None,
        seconds=done.seconds if done else None,
        cause=_cause(data.part("root_cause")),
        evidence=data.texts("evidence"),
        warnings=data.texts("warnings"),
        investigations=_investigations(facts),
        searches=len(of(facts, SEARCHED)),
        chosen=_choice(data.part("selected_workflow")),
        alternatives=tuple(
            Alternative(
                workflow_id=one.text("workflow_id"),
                workflow_name=one.text("workflow_name"),
                confidence=one.number("confidence"),
                rationale=one.text("rationale"),
            )
            for one in data.parts("alternative_workflows")
        ),
        approval=_leave(facts),
        execution=_execution(facts),
        recovery=Recovery(
            started=recovery.type == RECOVERED[0],
            at=recovery.at,
            reason=recovery.data.text("reason"),
            message=recovery.data.text("message") or recovery.data.text("failure"),
        )
        if recovery
        else None,
    )


def _cause(data: Data | None) -> Cause | None:
    if data is None:
        return None
    return Cause(
        summary=data.text("summary"),
        severity=data.text("severity"),
        signal_type=data.text("signal_type"),
        contributing_factors=data.texts("contributing_factors"),
    )


def _choice(data: Data | None) -> Choice | None:
    if data is None:
        return None
    return Choice(
        workflow_id=data.text("workflow_id"),
        workflow_name=data.text("workflow_name"),
        version=data.text("version"),
        container_image=data.text("container_image"),
        container_digest=data.text("container_digest"),
        confidence=data.number("confidence"),
        parameters=data.pairs("parameters"),
        rationale=data.text("rationale"),
    )


def _investigations(facts: Sequence[Fact]) -> tuple[Investigation, ...]:
    by_run: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.type.startswith("aiagent."):
            by_run.setdefault(fact.data.text("run"), []).append(fact)
    return tuple(_investigation(run, some) for run, some in by_run.items())


def _investigation(run: str, facts: Sequence[Fact]) -> Investigation:
    begun, end = first(facts, BEGUN), last(facts, INVESTIGATED, BROKE)
    answers = of(facts, "aiagent.llm.response")
    calls, failed = Counter[str](), Counter[str]()
    for fact in of(facts, "aiagent.llm.tool_call"):
        calls[fact.data.text("tool")] += 1
        failed[fact.data.text("tool")] += fact.event.event_outcome == "failure"
    ended = end.at if end else None
    return Investigation(
        run=run,
        model=next((model for fact in facts if (model := fact.data.text("model"))), ""),
        started=begun.at if begun else None,
        ended=ended,
        seconds=(end.seconds if end and end.seconds is not None else between(begun.at if begun else None, ended)),
        outcome=end.type.rpartition(".")[2] if end else "",
        error=end.data.text("error") if end else "",
        tools=tuple(ToolUse(tool=tool, calls=n, failed=failed[tool]) for tool, n in sorted(calls.items())),
        llm_requests=sum(fact.data.count("requests") for fact in answers),
        input_tokens=sum(fact.data.count("input_tokens") for fact in answers),
        output_tokens=sum(fact.data.count("output_tokens") for fact in answers),
        answers_refused=sum(
            fact.data.flag("is_valid") is False for fact in of(facts, "aiagent.workflow.validation_attempt")
        ),
    )


def _leave(facts: Sequence[Fact]) -> Leave:
    policy, asked, decided = last(facts, LEAVE), first(facts, ASKED), first(facts, *DECIDED)
    said = decided.data if decided else Data({})
    return Leave(
        required=policy.data.flag("approval_required") if policy else None,
        why=policy.data.text("reason") if policy else "",
        policy_hash=policy.data.text("policy_hash") if policy else "",
        request=asked.data.text("approval_request") if asked else said.text("approval_request"),
        asked=asked.at if asked else None,
        required_by=asked.data.instant("required_by") if asked else said.instant("required_by"),
        decision=said.text("decision"),
        decided=decided.at if decided else None,
        by=said.text("decided_by"),
        via=said.text("decided_via"),
        said=said.text("message"),
        waited=between(asked.at if asked else None, decided.at if decided else None),
        refused=tuple(f"{f.data.text('attempted')}: {f.data.text('reason')}" for f in of(facts, REFUSED)),
    )


def _execution(facts: Sequence[Fact]) -> ExecutionStory | None:
    started, end = first(facts, STARTED), first(facts, *ENDED)
    told = end or started
    if told is None:
        return None
    data, begun = told.data, started.at if started else None
    outcome = end.type.rpartition(".")[2] if end else ""
    return ExecutionStory(
        name=told.event.resource_id,
        workflow_id=data.text("workflow_id"),
        workflow_name=data.text("workflow_name"),
        version=data.text("version"),
        container_image=data.text("container_image"),
        target=data.text("target_resource"),
        parameters=data.pairs("parameters"),
        engine=started.data.text("engine") if started else "",
        pipeline_run=data.text("pipeline_run") or (started.data.text("pipeline_run") if started else ""),
        started=begun,
        ended=end.at if end else None,
        seconds=between(begun, end.at if end else None),
        outcome=outcome,
        results=data.pairs("results"),
        failure=_failure(data) if outcome == "failed" else None,
    )


def _failure(data: Data) -> Failure:
    code = data.number("exit_code")
    return Failure(
        reason=data.text("reason"),
        message=data.text("summary") or data.text("message"),
        task=data.text("failed_task"),
        step=data.text("failed_step"),
        exit_code=None if code is None else int(code),
        executed=data.flag("was_execution_failure") is True,
    )
