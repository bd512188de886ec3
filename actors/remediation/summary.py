"""What people are told, written to be understood at three in the morning: what broke, why, what was done, where to look.

Text in a small subset of Markdown (``##`` headings, ``**bold**``, ``- `` lists, backticks, fenced blocks), which every channel
renders in its own way. Pure; secrets are taken out where a message is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from actors.remediation.observe import Observed
from kubernaut_ray import clock
from kubernaut_ray.crds.affected import AffectedWorkload, affected
from kubernaut_ray.crds.enums import NotificationPriority, Priority, WorkflowExecutionPhase
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.shared import FailureDetails, SelectedWorkflow
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

SUBJECT_LIMIT = 200
BODY_LIMIT = 32_000
MAX_WORKLOADS = 10
"""Of what an incident took with it, how many workloads are named."""


@dataclass(frozen=True, slots=True)
class Message:
    subject: str
    body: str


def routing(seen: Observed, **extra: str) -> dict[str, str]:
    """Return the attributes that notification routes may match on; empty ones are left out."""
    spec = seen.request.spec
    target = spec.target_resource
    facts = {
        "remediation-request": seen.request.name,
        "signal": spec.signal_name,
        "signal-type": spec.signal_type,
        "severity": spec.severity,
        "namespace": target.namespace,
        "target-kind": target.kind,
        "target-name": target.name,
        "notification-target": str(target),
    }
    if seen.processing is not None:
        status = seen.processing.status
        business = status.business_classification
        custom = status.kubernetes_context.custom_labels if status.kubernetes_context else {}
        facts |= {
            "severity": str(status.severity or spec.severity),
            "environment": str(status.environment_classification.environment)
            if status.environment_classification
            else "",
            "priority": str(status.priority_assignment.priority) if status.priority_assignment else "",
            "owner": business.service_owner if business else "",
            "business-unit": business.business_unit if business else "",
            "team": ",".join(custom.get("team", ())),
        }
    return {key: value for key, value in {**facts, **extra}.items() if value}


def urgency(seen: Observed) -> NotificationPriority:
    """P0 → critical, P1 → high, P2 → medium, else low; medium while nothing is classified."""
    assigned = seen.processing.status.priority_assignment if seen.processing is not None else None
    if assigned is None:
        return NotificationPriority.MEDIUM
    return {
        Priority.P0: NotificationPriority.CRITICAL,
        Priority.P1: NotificationPriority.HIGH,
        Priority.P2: NotificationPriority.MEDIUM,
    }.get(assigned.priority, NotificationPriority.LOW)


def approval(seen: Observed, workflow: SelectedWorkflow, name: str, why: str, required_by: datetime) -> Message:
    request = seen.request
    certainty = f"{workflow.confidence:.0%}"
    proposal = [
        f"Run workflow **{_workflow(workflow)}** on **{request.spec.target_resource}** (confidence {certainty}).",
        *_parameters(workflow.parameters),
    ]
    if workflow.rationale:
        proposal += ["", workflow.rationale]
    earlier = _earlier(seen)
    standing = (
        "**A person must decide about another attempt. Nothing more is changed until then.**"
        if earlier
        else "**A person must decide. Nothing has been changed yet.**"
    )
    patch = '{"status":{"decision":"Approved"}}'
    decide = [
        "```",
        f"kubernaut-ray approve {name}",
        f'kubernaut-ray reject {name} --reason "..."',
        f"kubectl -n {request.namespace} patch rar {name} --subresource=status --type=merge -p '{patch}'",
        "```",
        f"Without a decision by **{_time(required_by)}** nothing is executed.",
    ]
    return _message(
        f"Approval needed: {_what(request)} - run {_workflow(workflow)}?",
        ("", [standing]),
        ("Decide", decide),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("What was tried", earlier),
        ("What would be done", proposal),
        ("Why you are asked", [why or "The approval policy asks for it."]),
        ("Where to look", _look(seen)),
    )


def remediated(
    seen: Observed, execution: WorkflowExecution, now: datetime, verified: str = "", *, sure: bool = True
) -> Message:
    request = seen.request
    results = [f"- {key}: `{value}`" for key, value in execution.status.results.items()]
    return _message(
        f"{'Fixed' if sure else 'Done, not verified'}: {_what(request)} ({_since(request, now)})",
        (
            "",
            [
                "**kubernaut fixed this incident. Nothing is left to do.**"
                if sure
                else "**The workflow succeeded. Whether it helped is not known: have a look.**"
            ],
        ),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("What was done", _done(seen, execution)),
        (
            "Result",
            [f"The workflow succeeded. From the first signal to the end it took {_since(request, now)}.", *results],
        ),
        ("Verified", [verified] if verified else []),
        ("Where to look", _look(seen)),
    )


def rehearsed(seen: Observed, execution: WorkflowExecution, message: str) -> Message:
    """A dry run: what would have been created, as it would have been."""
    manifest = ["```", *execution.status.rendered.splitlines(), "```"] if execution.status.rendered else []
    return _message(
        f"Dry run: {_what(seen.request)}",
        ("", [f"**{message}** Nothing was changed."]),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("What would have been done", _parameters(execution.spec.parameters)),
        ("What would have been created", manifest),
        ("Where to look", _look(seen)),
    )


def self_resolved(seen: Observed, message: str, now: datetime) -> Message:
    return _message(
        f"Resolved without action: {_what(seen.request)} ({_since(seen.request, now)})",
        ("", [f"**{message}** Nothing was executed."]),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("Where to look", _look(seen)),
    )


def manual_review(seen: Observed, why: str, failure: FailureDetails | None, now: datetime) -> Message:
    """A person takes over: everything that was found and tried."""
    request = seen.request
    tried = _earlier(seen)
    if failure is not None and seen.execution is not None:
        tried += _execution_failure(seen.execution, failure)
    elif seen.execution is not None and seen.execution.status.phase is WorkflowExecutionPhase.COMPLETED:
        tried += _done(seen, seen.execution)
    analysis = seen.analysis.status if seen.analysis is not None else None
    found = [f"- {entry}" for entry in (analysis.evidence if analysis else ())[:10]]
    warned = [f"- {entry}" for entry in (analysis.warnings if analysis else ())[:10]]
    others = [
        f"- {other.workflow_name or other.workflow_id} ({other.confidence:.0%}): {other.rationale}"
        for other in (analysis.alternative_workflows if analysis else ())
    ]
    changed = failure is not None and failure.was_execution_failure
    state = (
        "**Look at the target first: a workflow stopped half-way, so its state is unknown.**"
        if changed
        else "**kubernaut has stopped and will not change anything further.**"
    )
    return _message(
        f"Your turn: {_what(request)}",
        ("", [state, "", f"Why it stopped: {why}"]),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("What was tried", tried),
        ("What it came to", _effect(seen)),
        ("Evidence", found),
        ("Warnings", warned),
        ("Workflows considered", others),
        ("Time so far", [f"{_since(request, now)} since the remediation was opened."]),
        ("Where to look", _look(seen)),
    )


def failed(seen: Observed, why: str, now: datetime) -> Message:
    return _message(
        f"Not fixed: {_what(seen.request)}",
        ("", ["**kubernaut could not fix this incident; the problem is still there.**", "", why]),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("Time so far", [f"{_since(seen.request, now)} since the remediation was opened."]),
        ("Where to look", _look(seen)),
    )


def timed_out(seen: Observed, why: str, was_running: bool, now: datetime) -> Message:
    state = (
        "**A workflow was running and has been told to stop: look at the target, its state is unknown.**"
        if was_running
        else "**The problem is still there.** Nothing is running."
    )
    return _message(
        f"Timed out: {_what(seen.request)} ({_since(seen.request, now)})",
        ("", [state, "", why]),
        ("What broke", _broke(seen)),
        ("Why", _why(seen)),
        ("Where to look", _look(seen)),
    )


def paused(seen: Observed, why: str, until: datetime) -> Message:
    return _message(
        f"Paused after failures in a row: {_what(seen.request)}",
        ("", [f"**{why}.** The problem is still there; a person should look before the next try."]),
        ("What broke", _broke(seen)),
        (
            "Next",
            [f"Signals are collected on this request until {_time(until)}; the next signal after that may try again."],
        ),
        ("Where to look", _look(seen)),
    )


def cancelled(seen: Observed, why: str) -> Message:
    return _message(
        f"Cancelled while running: {_what(seen.request)}",
        (
            "",
            [f"**{why}** A workflow was running and has been told to stop: look at the target, its state is unknown."],
        ),
        ("What broke", _broke(seen)),
        ("Where to look", _look(seen)),
    )


def duplicates(seen: Observed, waited: Sequence[str]) -> Message:
    request = seen.request
    shown = [f"- `{name}`" for name in waited[:50]]
    more = [f"- and {len(waited) - 50} more"] if len(waited) > 50 else []
    return _message(
        f"{len(waited)} duplicate remediation(s) of {_what(request)} took over its outcome",
        ("", [f"{request.name} ended as **{request.status.overall_phase}**: {request.status.message}"]),
        ("Duplicates", [*shown, *more]),
        ("Where to look", _look(seen)),
    )


Section = tuple[str, Sequence[str]]


def _message(subject: str, *sections: Section) -> Message:
    blocks = []
    for title, lines in sections:
        if lines:
            heading = f"## {title}\n" if title else ""
            blocks.append(heading + "\n".join(lines))
    body = "\n\n".join(blocks)
    if len(body) > BODY_LIMIT:
        body = body[:BODY_LIMIT] + "\n… (cut)"
    return Message(" ".join(subject.split())[:SUBJECT_LIMIT], body)


def _what(request: RemediationRequest) -> str:
    return f"{request.spec.signal_name} on {request.spec.target_resource}"


def _broke(seen: Observed) -> list[str]:
    spec, counted = seen.request.spec, seen.request.status.deduplication
    facts = routing(seen)
    about = ", ".join(facts[key] for key in ("severity", "environment", "priority") if key in facts)
    lines = [f"**{spec.signal_name}** ({about}) on **{spec.target_resource}**, firing since {_time(spec.firing_time)}."]
    if spec.signal_resource is not None and spec.signal_resource != spec.target_resource:
        lines.append(f"The signal named {spec.signal_resource}.")
    if counted is not None and counted.occurrence_count > 1:
        lines.append(f"Seen {counted.occurrence_count} times, last at {_time(counted.last_seen_at)}.")
    if seen.request.status.storm is not None:
        storm = seen.request.status.storm
        lines.append(f"Part of a {storm.storm_type} storm: {storm.alert_count} signals within {storm.window}.")
    if (took := affected(seen.request.status.members)) is not None:
        lines.append(f"It took **{took}** with it:")
        lines += [f"- {_hit(workload)}" for workload in took.workloads[:MAX_WORKLOADS]]
        if (more := took.workload_count - MAX_WORKLOADS) > 0:
            lines.append(f"- and {more} more workloads")
    return [*lines, spec.description] if spec.description else lines


def _hit(workload: AffectedWorkload) -> str:
    signals = f": {', '.join(workload.signals)}" if workload.signals else ""
    return f"{workload.target}, {workload.resources} resource{'' if workload.resources == 1 else 's'}{signals}"


def _why(seen: Observed) -> list[str]:
    if seen.analysis is None:
        return []
    status = seen.analysis.status
    cause = status.root_cause_analysis
    lines = [cause.summary if cause else status.root_cause]
    lines += [f"- {factor}" for factor in (cause.contributing_factors if cause else ())]
    if status.investigated_by:
        built_in = " (built in, no LLM)" if status.investigated_by == "evidence" else ""
        lines.append(f"Investigated by {status.investigated_by}{built_in}.")
    return lines if lines[0] else []


def _done(seen: Observed, execution: WorkflowExecution) -> list[str]:
    spec, status = execution.spec, execution.status
    name = spec.workflow_ref.workflow_name or spec.workflow_ref.workflow_id
    lines = [
        f"Workflow **{name} {spec.workflow_ref.version}** ran on **{spec.target_resource}**.",
        *_parameters(spec.parameters),
    ]
    if status.duration:
        lines.append(f"It ran for {status.duration} (`{execution.name}`).")
    if seen.approval is not None and seen.approval.status.decided_at is not None:
        approved = seen.approval.status
        lines.append(f"Approved by {approved.decided_by} at {_time(seen.approval.status.decided_at)}.")
    if seen.request.status.previous_executions:
        lines += ["Before that, this had failed:", *_earlier(seen)]
    return lines


def _effect(seen: Observed) -> list[str]:
    """What was found of the execution's effect, part by part."""
    if seen.assessment is None:
        return []
    status = seen.assessment.status
    parts = status.components
    lines = [status.message] if status.message else []
    for name, part in (("Target", parts.health), ("Signal", parts.alert), ("Metrics", parts.metrics)):
        worth = "not judged" if part.score is None else f"{part.score:.2f}"
        lines.append(f"- {name}: {worth}{f' ({part.details})' if part.details else ''}")
    return lines


def _earlier(seen: Observed) -> list[str]:
    return [
        line
        for past in seen.request.status.previous_executions
        for line in _attempt(past.workflow_execution_ref, past.selected_workflow, past.failure)
    ]


def _execution_failure(execution: WorkflowExecution, failure: FailureDetails) -> list[str]:
    reference = execution.spec.workflow_ref
    chosen = SelectedWorkflow(**reference.model_dump(), confidence=execution.spec.confidence or 0.0)
    return _attempt(execution.name, chosen, failure)


def _attempt(name: str, workflow: SelectedWorkflow, failure: FailureDetails) -> list[str]:
    where = failure.failed_step_name or failure.failed_task_name
    exit_code = f", exit code {failure.exit_code}" if failure.exit_code is not None else ""
    line = f"- {_workflow(workflow)} (`{name}`): {failure.reason}{f' at {where}' if where else ''}{exit_code}"
    told = failure.natural_language_summary or failure.message
    return [line, f"  {told}"] if told else [line]


def _look(seen: Observed) -> list[str]:
    request, target = seen.request, seen.request.spec.target_resource
    scope = f"-n {target.namespace} " if target.namespace else ""
    lines = [
        "```",
        f"kubernaut-ray status {request.name}",
        f"kubectl -n {request.namespace} get rr,sp,aa,rar,wfe,ea,nr -l kubernaut.ai/remediation-request={request.name}",
        f"kubectl {scope}describe {target.kind.lower()} {target.name}",
    ]
    if target.namespace:
        lines.append(f"kubectl -n {target.namespace} get events --sort-by=.lastTimestamp")
    return [*lines, "```"]


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [f"- {key} = `{value}`" for key, value in sorted(values.items())]


def _workflow(workflow: SelectedWorkflow) -> str:
    return f"{workflow.workflow_name or workflow.workflow_id} {workflow.version}"


def _since(request: RemediationRequest, now: datetime) -> str:
    return clock.format_duration(now - request.created)


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
