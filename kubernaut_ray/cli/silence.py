"""``kubernaut-ray silence``: keep signals from opening incidents for a while, see what is silenced, end it."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kubernaut_ray import clock
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out
from kubernaut_ray.clients.silences import NotFound, SilenceClient
from kubernaut_ray.contracts.silences import PostedSilence, SilenceView
from kubernaut_ray.crds.enums import SilenceState
from kubernaut_ray.crds.silence import SilenceMatcher, TimeInterval
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.matchers import Matcher, parse

app = typer.Typer(help="Silences: add, list, show, expire.", no_args_is_help=True)

COLOUR = {SilenceState.ACTIVE: "green", SilenceState.PENDING: "yellow", SilenceState.EXPIRED: "dim"}


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="table or json.")]
Ranges = list[str] | None


@asynccontextmanager
async def _gateway(data_dir: Path) -> AsyncIterator[SilenceClient]:
    system = connection.find(data_dir)
    async with SilenceClient(system.service("gateway"), system.token, timeout=15.0) as client:
        try:
            yield client
        except NotFound as error:
            raise CommandError(str(error), Exit.NOT_FOUND) from error


@app.command()
def add(
    matchers: Annotated[
        list[str],
        typer.Argument(metavar="MATCHER...", help='Such as alertname=Foo, severity=~"warning|info", env!=prod.'),
    ],
    comment: Annotated[str, typer.Option("--comment", "-c", help="Why. People will read it at night.")],
    duration: Annotated[
        str, typer.Option("--for", help="How long, such as 2h, 1h30m or 90d.", metavar="DURATION")
    ] = "",
    start: Annotated[str, typer.Option(help="From when (RFC 3339); now by default.", metavar="TIME")] = "",
    end: Annotated[str, typer.Option(help="Until when (RFC 3339), instead of --for.", metavar="TIME")] = "",
    author: Annotated[str, typer.Option(help="Who silences; you by default.", show_default=False)] = "",
    times: Annotated[Ranges, typer.Option(help="Only at these times, such as 22:00-24:00.", metavar="RANGE")] = None,
    weekdays: Annotated[
        Ranges, typer.Option(help="Only on these days, such as monday:friday.", metavar="RANGE")
    ] = None,
    days_of_month: Annotated[
        Ranges, typer.Option(help="Only on these dates, such as 1:7 or -1.", metavar="RANGE")
    ] = None,
    months: Annotated[Ranges, typer.Option(help="Only in these months, such as june:august.", metavar="RANGE")] = None,
    location: Annotated[
        str, typer.Option(help="Time zone of the windows, such as Europe/Berlin; UTC by default.")
    ] = "",
    output: Output = Format.TABLE,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Silence the signals that match all of these, and print the silence's name.

    With --times, --weekdays, --days-of-month or --months it is in force only inside these windows; give an option several
    times, or several ranges with commas.

    Examples:

      kubernaut-ray silence add alertname=KubePodCrashLooping namespace=shop --for 2h --comment "rollout of 4.2"

      kubernaut-ray silence add 'severity=~"warning|info"' --for 90d --weekdays sunday --times 02:00-06:00 \
--location Europe/Berlin --comment "weekly maintenance"
    """

    async def main() -> None:
        starts, ends = period(duration, start, end, clock.utcnow())
        only = windows(times, weekdays, days_of_month, months, location)
        try:
            posted = PostedSilence(
                matchers=tuple(map(SilenceMatcher.of, read_matchers(matchers))),
                starts_at=starts,
                ends_at=ends,
                created_by=author or getpass.getuser(),
                comment=comment,
                time_intervals=only,
            )
        except ValidationError as error:
            raise InvalidInput("this is no silence", problems=_problems(error)) from error
        async with _gateway(data_dir) as gateway:
            name = await gateway.put(posted)
            if output is Format.JSON:
                _print_json((await gateway.get(name)).to_object())
            else:
                typer.echo(name)

    connection.run(main)


@app.command("list")
def list_(
    matchers: Annotated[
        list[str] | None, typer.Argument(metavar="[MATCHER]...", help="Only silences that have these matchers.")
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those that are over, too.")] = False,
    output: Output = Format.TABLE,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """List the silences in force and to come.

    Example: kubernaut-ray silence list namespace=shop --expired
    """

    async def main() -> None:
        async with _gateway(data_dir) as gateway:
            found = await gateway.list([str(matcher) for matcher in read_matchers(matchers or ())])
        shown = [one for one in found if expired or one.status.state is not SilenceState.EXPIRED]
        if output is Format.JSON:
            _print_json([one.to_object() for one in shown])
        else:
            out.print(listing(shown))

    connection.run(main)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The silence's name.")],
    output: Output = Format.TABLE,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Show one silence in full, and how much it kept quiet."""

    async def main() -> None:
        async with _gateway(data_dir) as gateway:
            found = await gateway.get(name)
        if output is Format.JSON:
            _print_json(found.to_object())
        else:
            out.print(detail(found))

    connection.run(main)


@app.command()
def expire(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Silences to end.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """End silences now. They stay on record."""

    async def main() -> None:
        async with _gateway(data_dir) as gateway:
            for name in names:
                await gateway.expire(name)
                out.print(f"[green]expired[/] {name}", highlight=False)

    connection.run(main)


def read_matchers(texts: Sequence[str]) -> tuple[Matcher, ...]:
    """Parse matchers as people type them. Raises ``InvalidInput``."""
    return tuple(matcher for text in texts for matcher in parse(text))


def period(duration: str, start: str, end: str, now: datetime) -> tuple[datetime, datetime]:
    """Return start and end. Raises ``CommandError`` unless exactly one of duration and end is given."""
    if bool(duration) is bool(end):
        raise CommandError("say for how long with --for 2h, or until when with --end 2026-01-31T12:00:00Z", Exit.USAGE)
    try:
        starts = clock.parse_rfc3339(start) if start else now
        return starts, clock.parse_rfc3339(end) if end else starts + clock.parse_duration(duration)
    except (ValueError, OverflowError) as error:
        raise CommandError(str(error), Exit.USAGE) from error


def windows(
    times: Ranges, weekdays: Ranges, days_of_month: Ranges, months: Ranges, location: str
) -> tuple[TimeInterval, ...]:
    """Return the recurring window that the options describe, if any. Raises ``InvalidInput``."""
    if not (times or weekdays or days_of_month or months):
        if location:
            raise InvalidInput("--location is the time zone of --times and --weekdays; give one of them too")
        return ()
    given: dict[str, Any] = {
        "times": [dict(zip(("startTime", "endTime"), text.split("-", 1), strict=False)) for text in _split(times)],
        "weekdays": [text.lower() for text in _split(weekdays)],
        "daysOfMonth": _split(days_of_month),
        "months": [text.lower() for text in _split(months)],
        "location": location,
    }
    try:
        return (TimeInterval.model_validate(given),)
    except ValidationError as error:
        raise InvalidInput("this is no recurring window", problems=_problems(error)) from error


def listing(silences: Sequence[SilenceView]) -> RenderableType:
    """A table of silences."""
    if not silences:
        return Text(
            "No silences. Make one with: kubernaut-ray silence add alertname=Foo --for 2h --comment why", style="dim"
        )
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("Name", no_wrap=True)
    for column in ("State", "Matchers", "Ends", "By", "Comment"):
        table.add_column(column, overflow="fold")
    table.add_column("Silenced", justify="right")
    for one in silences:
        state = one.status.state
        table.add_row(
            one.id, Text(state, style=COLOUR[state]), Text(_matchers(one)), _instant(one.ends_at), Text(one.created_by),
            Text(one.comment), str(one.silenced_count),
        )  # fmt: skip
    return table


def detail(one: SilenceView) -> RenderableType:
    """One silence, a line a fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    facts: list[tuple[str, str | Text]] = [
        ("Name", one.id),
        ("State", Text(one.status.state, style=COLOUR[one.status.state])),
        ("Matchers", _matchers(one)),
        ("Starts", _instant(one.starts_at)),
        ("Ends", _instant(one.ends_at)),
        *(("Only", _window(interval)) for interval in one.time_intervals),
        ("By", one.created_by),
        ("Authenticated", one.authenticated_user or "-"),
        ("Comment", one.comment),
        ("Silenced", str(one.silenced_count)),
    ]
    if one.last_silenced_at is not None:
        facts.append(("Last", _instant(one.last_silenced_at)))
    for label, fact in facts:
        table.add_row(Text(label, style="bold"), Text(fact) if isinstance(fact, str) else fact)
    return table


def _problems(error: ValidationError) -> tuple[tuple[str, str], ...]:
    return tuple((".".join(map(str, e["loc"])), f"{str(e['input'])[:100]!r}: {e['msg']}") for e in error.errors())


def _split(texts: Ranges) -> list[str]:
    return [part.strip() for text in texts or () for part in text.split(",") if part.strip()]


def _matchers(one: SilenceView) -> str:
    return " ".join(str(matcher.compiled()) for matcher in one.matchers)


def _window(interval: TimeInterval) -> str:
    times = [f"{times.start_time}-{times.end_time}" for times in interval.times]
    dates = [f"day {text}" for text in interval.days_of_month]
    parts = (*interval.weekdays, *dates, *interval.months, *interval.years, *times)
    return f"{', '.join(parts)} ({interval.location or 'UTC'})"


def _instant(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def _print_json(body: object) -> None:
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
