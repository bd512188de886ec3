"""``kubernaut-ray workflow gaps`` and ``workflow search --why``: what the catalog lacks, and why a workflow was not offered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from kubernaut_ray.cli import columns, connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import parse_duration, parse_rfc3339
from kubernaut_ray.contracts.catalog import WorkflowExplanation
from kubernaut_ray.contracts.gaps import Gap, GapReport


def gaps(
    since: Annotated[str, typer.Option(help="How far back: 7d, 24h, or an RFC 3339 instant.")] = "7d",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="table or json.")] = "table",
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Show incidents that found no workflow, the most frequent first, and which labels ruled the nearest workflows out.

    Example: kubernaut-ray workflow gaps --since 30d
    """
    start: timedelta | datetime
    try:
        start = parse_duration(since)
    except ValueError:
        try:
            start = parse_rfc3339(since)
        except ValueError:
            raise typer.BadParameter(f"{since!r} is neither a duration (7d, 24h) nor an RFC 3339 instant") from None

    async def main() -> None:
        system = connection.find(data_dir)
        async with DataStorage(system.service("data_storage"), system.token) as storage:
            report = await storage.gaps(since=start, limit=limit)
        if output == "json":
            typer.echo(report.model_dump_json(indent=2))
        else:
            _print(report, out)

    connection.run(main)


def show(told: WorkflowExplanation) -> None:
    """Print why a workflow was, or was not, offered. Raises ``CommandError`` for one that the catalog does not hold."""
    if not told.workflow_id:
        raise CommandError("; ".join(told.reasons), Exit.NOT_FOUND)
    verdict = "[green]offered[/]" if told.offered else "[yellow]not offered[/]"
    place = f", number {told.rank}" if told.rank is not None else ""
    out.print(f"{verdict}: {told.workflow_name} {told.version}{place}", highlight=False)
    for reason in told.reasons:
        out.print(f"  {escape(reason)}", highlight=False)
    if told.score is not None and told.score_breakdown is not None:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in told.score_breakdown)
        out.print(f"  [dim]score {told.score:.3f}: {parts}[/]", highlight=False)


def _print(report: GapReport, console: Console) -> None:
    console.print(
        f"{report.unanswered} of {report.questions} questions since {report.since:%Y-%m-%d %H:%M} UTC found no workflow"
        f"{' (only the newest searches are counted)' if report.truncated else ''}",
        highlight=False,
    )
    if not report.gaps:
        return
    names = (
        "Asked", "Last", "Signal", "Component", "Environment", "Severity", "Ruled out by", "Nearest", "Example",
    )  # fmt: skip
    table = columns.table(*names, fold=names)
    for gap in report.gaps:
        facts = (gap.signal_type, gap.component, gap.environment, gap.severity)
        table.add_row(
            str(gap.questions), f"{gap.last_seen:%m-%d %H:%M}", *(escape(fact) or "-" for fact in facts), _why(gap),
            gap.nearest[0].workflow_name if gap.nearest else "-", escape(gap.example_query[:80]),
        )  # fmt: skip
    console.print(table)


def _why(gap: Gap) -> str:
    if gap.answered_now and not gap.weak:
        return f"[green]closed since: {gap.answered_now} would be offered[/]"
    if gap.answered_now:
        return f"nothing relevant ({gap.best_relevance:.2f} at best)"
    return ", ".join(f"{label} {count}" for label, count in gap.ruled_out.items()) or "the catalog is empty"
