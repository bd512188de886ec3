"""How an incident's account looks on a terminal. Pure functions from the contract to rich renderables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kubernaut_ray import clock
from kubernaut_ray.cli.render import OUTCOME_COLOUR, PHASE_COLOUR
from kubernaut_ray.contracts.timeline import Attempt, Gap, GapKind, IncidentStory, State, Step
from kubernaut_ray.crds.enums import AuditOutcome, Outcome, RemediationPhase

MARK = {AuditOutcome.SUCCESS: ("✓", "green"), AuditOutcome.FAILURE: ("✗", "red"), AuditOutcome.PENDING: ("●", "yellow")}
MOST_FACTORS = 6


def account(incident: IncidentStory, *, every: bool = False) -> RenderableType:
    """The whole account: how it stands, what happened, why, and what is not known."""
    parts: list[RenderableType] = [_head(incident), Text(""), _steps(incident.steps, every)]
    for attempt in incident.attempts:
        if attempt.cause is not None or attempt.chosen is not None or attempt.execution is not None:
            parts += [Text(""), _attempt(attempt)]
    if (messages := _messages(incident)) is not None:
        parts += [Text(""), messages]
    parts += [Text(""), _gaps(incident.gaps)]
    return Group(*parts)


def lasted(seconds: float | None) -> str:
    """``0.4s``, ``12.0s``, ``3m5s``, ``2h10m0s``; nothing where it is not known."""
    if seconds is None:
        return ""
    return f"{seconds:.1f}s" if seconds < 60 else clock.format_duration(timedelta(seconds=seconds))


def offset(seconds: float) -> str:
    """``+0.4s`` or ``+3m5s`` after the beginning, ``-5.0s`` before it."""
    return f"{'-' if seconds < 0 else '+'}{lasted(abs(seconds))}"


def _head(incident: IncidentStory) -> RenderableType:
    ending, signal, seen = incident.ending, incident.signal, incident.occurrences
    phase = ending.phase if ending else (incident.phases[-1].phase if incident.phases else "no phase")
    known = RemediationPhase(phase) if phase in set(RemediationPhase) else None
    line = Text.assemble(
        (incident.remediation_id, "bold"), "  ", (phase, PHASE_COLOUR.get(known, "blue") if known else "")
    )
    if ending and ending.outcome:
        outcome = Outcome(ending.outcome) if ending.outcome in set(Outcome) else None
        line.append(f"  {ending.outcome}", OUTCOME_COLOUR.get(outcome, "yellow") if outcome else "yellow")
    if ending and ending.seconds is not None:
        line.append(f"  after {lasted(ending.seconds)}")
    if incident.state is State.OPEN:
        line.append("  still open", "yellow")
    times = f" · seen {seen.count}×" if seen.count > 1 else ""
    more = f" · {seen.folded} signals of other resources taken in" if seen.folded else ""
    storm = f" · part of a {seen.storm} storm" if seen.storm else ""
    lines: list[RenderableType] = [
        line,
        Text(f"{signal.name} · {signal.severity} · {incident.target}{times}{more}{storm}", style="dim"),
    ]
    if (found := incident.classification) is not None:
        policy = f"policy {found.policy_hash[:12]}" if found.policy_hash else "no policy"
        degraded = " · the target could not be read" if found.degraded else ""
        said = f"{found.severity} · {found.environment} · {found.priority} · {policy}{degraded}"
        lines.append(Text(f"Classified: {said}", style="dim"))
    if ending and ending.manual_review:
        lines.append(Text(f"A person must take over: {ending.manual_review}", style="bold yellow"))
    return Group(*lines)


def _steps(steps: Iterable[Step], every: bool) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("After", justify="right", no_wrap=True)
    table.add_column("UTC", style="dim", no_wrap=True)
    table.add_column("", width=1)
    table.add_column("What happened", overflow="fold", ratio=1)
    table.add_column("Who", style="dim", overflow="fold")
    table.add_column("Took", justify="right", no_wrap=True)
    hidden = 0
    for step in steps:
        if step.detail and not every and step.outcome != AuditOutcome.FAILURE:
            hidden += 1
            continue
        mark, colour = (
            MARK.get(AuditOutcome(step.outcome), ("?", "")) if step.outcome in set(AuditOutcome) else ("?", "")
        )
        table.add_row(
            offset(step.offset),
            clock.rfc3339(step.at)[11:19],
            Text(mark, style=colour),
            Text(step.what),
            Text(step.who),
            lasted(step.seconds),
        )
    return Group(table, Text(f"{hidden} more facts with --all", style="dim")) if hidden else table


def _attempt(attempt: Attempt) -> RenderableType:
    """Why it was done, and what: one panel a way from investigation to execution."""
    lines: list[RenderableType] = []
    if (cause := attempt.cause) is not None:
        lines.append(Text(cause.summary))
        lines += [Text(f"  • {factor}", style="dim") for factor in cause.contributing_factors[:MOST_FACTORS]]
    if attempt.evidence:
        lines.append(Text("Evidence", style="bold"))
        lines += [Text(f"  • {line}", style="dim") for line in attempt.evidence[:MOST_FACTORS]]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _facts(attempt):
        grid.add_row(name, Text(value))
    lines.append(grid)
    title = f"Recovery attempt {attempt.number}" if attempt.number else "Cause and remedy"
    by = f", investigated by {attempt.model}" if attempt.model else ""
    return Panel(Group(*lines), title=f"{title}{by}", title_align="left", border_style="cyan", box=box.ROUNDED)


def _facts(attempt: Attempt) -> Iterable[tuple[str, str]]:
    if (chosen := attempt.chosen) is not None:
        sure = f", confidence {chosen.confidence:.2f}" if chosen.confidence is not None else ""
        yield "Workflow", f"{chosen.workflow_name or chosen.workflow_id} {chosen.version}{sure}"
        if chosen.rationale:
            yield "Because", chosen.rationale
        if chosen.parameters:
            yield "With", ", ".join(f"{name}={value}" for name, value in chosen.parameters.items())
    for other in attempt.alternatives:
        yield (
            "Instead of",
            " · ".join(part for part in (other.workflow_name or other.workflow_id, other.rationale) if part),
        )
    leave = attempt.approval
    if leave.decision:
        waited = f" after {lasted(leave.waited)}" if leave.waited is not None else ""
        via = f" via {leave.via}" if leave.via else ""
        yield "Approval", f"{leave.decision} by {leave.by}{via}{waited}{f': {leave.said}' if leave.said else ''}"
    elif leave.asked is not None:
        yield "Approval", f"asked for, no decision on record: {leave.why}"
    elif leave.required is False:
        yield "Approval", f"not required{f': {leave.why}' if leave.why else ''}"
    for why in leave.refused:
        yield "Refused", why
    if (run := attempt.execution) is not None:
        took = f" in {lasted(run.seconds)}" if run.seconds is not None else ""
        yield "Execution", f"{run.outcome or 'running'}{took}, {run.run}"
        if run.failure is not None:
            where = "/".join(part for part in (run.failure.task, run.failure.step) if part)
            code = f", exit code {run.failure.exit_code}" if run.failure.exit_code is not None else ""
            half = "; it may have changed something" if run.failure.executed else "; nothing was executed"
            yield "Failed", f"{run.failure.reason}{f' at {where}' if where else ''}{code}{half}: {run.failure.message}"
    if (then := attempt.recovery) is not None:
        yield "Then", f"{'tried again' if then.started else f'not tried again ({then.reason})'}: {then.message}"
    tokens = [one for one in attempt.investigations if one.llm_requests]
    if tokens:
        asked = sum(one.llm_requests for one in tokens)
        into, outof = sum(one.input_tokens for one in tokens), sum(one.output_tokens for one in tokens)
        yield "Model", f"{asked} requests, {into} tokens in, {outof} out"


def _messages(incident: IncidentStory) -> RenderableType | None:
    if not incident.notifications:
        return None
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title="Who was told", title_justify="left", pad_edge=False)
    for column in ("Message", "Subject", "By", "Result"):
        table.add_column(column, overflow="fold")
    for one in incident.notifications:
        if not one.deliveries:
            table.add_row(one.type, Text(one.subject), "", Text("not on record", style="yellow"))
        for delivery in one.deliveries:
            failed = Text(f"failed after {delivery.attempts}: {delivery.error}", style="red")
            sent = Text(f"sent{f' at attempt {delivery.attempts}' if delivery.attempts > 1 else ''}", style="green")
            table.add_row(one.type, Text(one.subject), delivery.delivery, sent if delivery.sent else failed)
    return table


def _gaps(gaps: Iterable[Gap]) -> RenderableType:
    lines = [
        Text.assemble(
            ("  ! ", "yellow"),
            (f"{gap.kind}: ", "bold red" if gap.kind is GapKind.CONTRADICTION else "bold"),
            gap.message,
            (f" ({gap.event_type})" if gap.event_type else "", "dim"),
        )
        for gap in gaps
    ]
    if not lines:
        return Text("The trail is complete: nothing is missing, nothing contradicts.", style="green")
    return Group(Text("What the trail does not tell", style="bold yellow"), *lines)
