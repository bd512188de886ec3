"""How objects look on a terminal: the list of incidents, one incident in full, and an incident as it moves.

Pure functions from models to rich renderables; the commands fetch, this draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kubernaut_ray import clock
from kubernaut_ray.cli import columns
from kubernaut_ray.crds import (
    AIAnalysis,
    EffectivenessAssessment,
    NotificationRequest,
    RemediationApprovalRequest,
    RemediationRequest,
    SignalProcessing,
    WorkflowExecution,
)
from kubernaut_ray.crds.affected import affected
from kubernaut_ray.crds.enums import Outcome, RemediationPhase

PHASE_COLOUR = {
    RemediationPhase.COMPLETED: "green",
    RemediationPhase.FAILED: "red",
    RemediationPhase.TIMED_OUT: "red",
    RemediationPhase.BLOCKED: "magenta",
    RemediationPhase.AWAITING_APPROVAL: "yellow",
    RemediationPhase.CANCELLED: "dim",
    RemediationPhase.SKIPPED: "dim",
}
OUTCOME_COLOUR = {
    Outcome.REMEDIATED: "green",
    Outcome.NO_ACTION_REQUIRED: "cyan",
    Outcome.MANUAL_REVIEW_REQUIRED: "yellow",
}


MAX_WORKLOADS = 15
"""Of what an incident took with it, how many workloads are shown."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A RemediationRequest with its children."""

    remediation: RemediationRequest
    processing: SignalProcessing | None = None
    analyses: tuple[AIAnalysis, ...] = ()
    approvals: tuple[RemediationApprovalRequest, ...] = ()
    executions: tuple[WorkflowExecution, ...] = ()
    notifications: tuple[NotificationRequest, ...] = ()
    assessment: EffectivenessAssessment | None = None


def phase_text(phase: RemediationPhase | None) -> Text:
    shown = phase or RemediationPhase.PENDING
    return Text(shown.value, style=PHASE_COLOUR.get(shown, "blue"))


def outcome_text(outcome: Outcome | None) -> Text:
    return Text(outcome.value, style=OUTCOME_COLOUR.get(outcome, "yellow")) if outcome else Text("")


def age(since: datetime, now: datetime) -> str:
    """``5s``, ``3m``, ``2h``, ``4d``: one unit, as kubectl shows an age."""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def listing(remediations: Sequence[RemediationRequest], now: datetime) -> RenderableType:
    """A table of incidents, newest first."""
    if not remediations:
        return Text("No remediations. Send a signal with: kubernaut-ray send FILE", style="dim")
    ends = ("Phase", "Outcome", "Seen", "Age")
    wide = columns.table("Name", "Signal", "Target", *ends, right=ends[2:], fold=("Signal", "Target"))
    narrow = columns.table("Signal", *ends, right=ends[2:], fold=("Signal",))
    for one in sorted(remediations, key=lambda r: r.created, reverse=True):
        seen = one.status.deduplication.occurrence_count if one.status.deduplication else 1
        signal, target = one.spec.signal_name, str(one.spec.target_resource)
        rest = (
            phase_text(one.status.overall_phase), outcome_text(one.status.outcome), str(seen), age(one.created, now),
        )  # fmt: skip
        wide.add_row(one.name, Text(signal), Text(target), *rest)
        narrow.add_row(columns.beneath(Text.assemble((signal, "bold"), "\n", target), one.name), *rest)
    return columns.Fitting(wide, narrow)


def phase_times(remediation: RemediationRequest, now: datetime) -> list[tuple[str, float]]:
    """(phase, seconds) for every phase this incident has been through, in order; the running one until ``now``."""
    status = remediation.status
    starts = [
        ("Pending", remediation.created),
        ("Processing", status.processing_start_time),
        ("Analyzing", status.analyzing_start_time),
        ("AwaitingApproval", status.awaiting_approval_start_time),
        ("Executing", status.executing_start_time),
        ("Verifying", status.verifying_start_time),
    ]
    entered = sorted(((name, at) for name, at in starts if at is not None), key=lambda entry: entry[1])
    end = status.completed_at or now
    ends = [at for _, at in entered[1:]] + [end]
    return [
        (name, max(0.0, (stop - max(start, remediation.created)) / timedelta(seconds=1)))
        for (name, start), stop in zip(entered, ends, strict=True)
    ]


def walk(incident: Incident, now: datetime) -> RenderableType:
    """The walk of one incident so far: a line a phase, with what it found and how long it took."""
    remediation = incident.remediation
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=2)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    phase = remediation.status.overall_phase or RemediationPhase.PENDING
    times = phase_times(remediation, now)
    for index, (name, seconds) in enumerate(times):
        running = index == len(times) - 1 and not phase.terminal
        mark = Text("●", style="yellow") if running else Text("✓", style="green")
        grid.add_row(mark, Text(name, style="bold" if running else ""), f"{seconds:.1f}s", _found(name, incident))
    if phase.terminal or phase is RemediationPhase.BLOCKED:
        colour = PHASE_COLOUR.get(phase, "blue")
        mark = Text("✓" if phase is RemediationPhase.COMPLETED else "✗", style=colour)
        detail = remediation.status.message or remediation.status.failure_reason or remediation.status.block_message
        outcome = remediation.status.outcome
        grid.add_row(
            mark, Text(phase.value, style=f"bold {colour}"), "", Text(f"{outcome}: {detail}" if outcome else detail)
        )
    return grid


def _found(phase: str, incident: Incident) -> str:
    """What a phase found, in one line."""
    match phase:
        case "Pending":
            spec = incident.remediation.spec
            return f"{spec.signal_name} on {spec.target_resource}"
        case "Processing" if incident.processing is not None:
            status = incident.processing.status
            parts = [
                status.severity or "",
                status.environment_classification.environment if status.environment_classification else "",
                status.priority_assignment.priority if status.priority_assignment else "",
            ]
            return " · ".join(p for p in parts if p)
        case "Analyzing" if incident.analyses:
            status_ = incident.analyses[-1].status
            chosen = status_.selected_workflow
            if chosen is None:
                return status_.message
            return f"{chosen.workflow_name or chosen.workflow_id} {chosen.version} (confidence {chosen.confidence:.2f})"
        case "AwaitingApproval" if incident.approvals:
            decided = incident.approvals[-1].status
            if decided.sealed_decision:
                return f"{decided.sealed_decision} by {decided.decided_by}"
            return f"kubernaut-ray approve {incident.remediation.name}"
        case "Executing" if incident.executions:
            execution = incident.executions[-1]
            run = execution.status.pipeline_run_status
            tasks = f", {run.completed_tasks}/{run.total_tasks} tasks" if run and run.total_tasks else ""
            return f"{execution.status.phase or 'Pending'} {execution.spec.workflow_ref.workflow_name}{tasks}"
        case "Verifying" if incident.assessment is not None:
            judged = incident.assessment.status
            return judged.message or str(judged.phase or "Pending")
        case _:
            return ""


def detail(incident: Incident, now: datetime) -> RenderableType:
    """One incident in full, for ``status NAME``."""
    remediation = incident.remediation
    parts: list[RenderableType] = [
        Text.assemble(
            (remediation.name, "bold"),
            "  ",
            phase_text(remediation.status.overall_phase),
            "  ",
            outcome_text(remediation.status.outcome),
        ),
        Text(
            f"{remediation.spec.signal_name} · {remediation.spec.severity} · {remediation.spec.target_resource}",
            style="dim",
        ),
        Text(""),
        walk(incident, now),
    ]
    if (reached := reach(remediation)) is not None:
        parts += [Text(""), reached]
    if incident.analyses and incident.analyses[-1].status.root_cause_analysis is not None:
        parts += [Text(""), cause(incident.analyses[-1])]
    if incident.notifications:
        parts += [Text(""), notifications(incident.notifications)]
    return Group(*parts)


def reach(remediation: RemediationRequest) -> RenderableType | None:
    """The storm that the incident is part of, and what it took with it, by workload; ``None`` without either."""
    storm, took = remediation.status.storm, affected(remediation.status.members)
    lines: list[RenderableType] = []
    if storm is not None:
        where = f" on {len(storm.affected_resources)} resources" if storm.affected_resources else ""
        lines.append(
            Text(f"Part of a {storm.storm_type} storm: {storm.alert_count} signals within {storm.window}{where}")
        )
    if took is not None:
        table = Table(
            box=box.SIMPLE_HEAD, header_style="bold", title=f"Took {took} with it", title_justify="left", pad_edge=False
        )
        table.add_column("Workload", overflow="fold")
        table.add_column("Resources", justify="right")
        table.add_column("Over", justify="right")
        table.add_column("Signals", overflow="fold")
        for one in took.workloads[:MAX_WORKLOADS]:
            table.add_row(one.target, str(one.resources), str(one.over or ""), ", ".join(one.signals))
        if (more := took.workload_count - MAX_WORKLOADS) > 0:
            table.add_row(f"and {more} more workloads (-o yaml lists every resource)", "", "", "")
        lines.append(table)
    return Group(*lines) if lines else None


def cause(analysis: AIAnalysis) -> RenderableType:
    """The root-cause analysis with its evidence."""
    status = analysis.status
    rca = status.root_cause_analysis
    if rca is None:
        return Text("no root-cause analysis", style="dim")
    lines: list[RenderableType] = [Text(rca.summary)]
    lines += [Text(f"  • {factor}", style="dim") for factor in rca.contributing_factors[:6]]
    if status.evidence:
        lines.append(Text("Evidence", style="bold"))
        lines += [Text(f"  • {line}", style="dim") for line in status.evidence[:6]]
    title = f"Root cause ({rca.severity}), investigated by {status.investigated_by or 'unknown'}"
    return Panel(Group(*lines), title=title, title_align="left", border_style="cyan", box=box.ROUNDED)


def notifications(requests: Sequence[NotificationRequest]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title="Notifications", title_justify="left", pad_edge=False)
    for column in ("Type", "Phase", "Channels", "Subject"):
        table.add_column(column, overflow="fold")
    for one in sorted(requests, key=lambda n: n.created):
        channels = sorted({a.channel for a in one.status.delivery_attempts})
        table.add_row(one.spec.type, one.status.phase or "Pending", ", ".join(channels), one.spec.subject)
    return table


def instant(at: datetime) -> str:
    return clock.rfc3339(at)[11:23]
