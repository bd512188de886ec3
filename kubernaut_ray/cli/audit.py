"""``kubernaut-ray audit``: read the trail, take it along as a bundle, verify it, hold it, roll it off."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import yaml
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from catalog.ledger.bundle import Header, sink
from catalog.ledger.export import Wanted
from catalog.ledger.finding import Account
from catalog.ledger.record import Entry, Item
from kubernaut_ray import clock
from kubernaut_ray.cli import audit_view as view
from kubernaut_ray.cli import connection, trail
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, err, out
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts.ledger import Checkpoint
from kubernaut_ray.crds.enums import AuditCategory

app = typer.Typer(help="The audit trail: list, show, export, verify, hold, archive, keys.", no_args_is_help=True)
hold_app = typer.Typer(help="Legal holds: keep an incident's events beyond their retention.", no_args_is_help=True)
app.add_typer(hold_app, name="hold")


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format | None, typer.Option("--output", "-o", help="json or yaml instead of a picture.")]
CorrelationOption = Annotated[
    str, typer.Option("--correlation", help="Only this correlation: a RemediationRequest's name.", metavar="ID")
]
TypeOption = Annotated[str, typer.Option("--type", help="Only this event type, such as gateway.signal.received.")]
Since = Annotated[str, typer.Option(help="From when: an instant (RFC 3339) or an age such as 24h.", metavar="TIME")]
Until = Annotated[str, typer.Option(help="Until when, exclusive.", metavar="TIME")]


@app.command("list")
def list_(
    correlation: CorrelationOption = "",
    event_type: TypeOption = "",
    category: Annotated[AuditCategory | None, typer.Option(help="Only this category.")] = None,
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest ones.")] = 50,
    output: Output = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """List events by their time, the newest last.

    Examples:

      kubernaut-ray audit list --since 1h

      kubernaut-ray audit list --correlation rr-3f2a91c0d4e5-9a1b2c3d -o json | jq '.data[].event_type'
    """

    async def main() -> None:
        now = clock.utcnow()
        async with trail.storage(data_dir) as storage:
            page = await storage.audit_events(
                correlation_id=correlation,
                event_type=event_type,
                event_category=category.value if category else "",
                since=trail.instant(since, "--since", now),
                until=trail.instant(until, "--until", now),
                newest_first=True,
                limit=limit,
            )
        shown = page.model_copy(update={"data": page.data[::-1]})
        if output is not None:
            _dump(shown.to_json(), output)
        else:
            out.print(view.events(shown.data, page.pagination.total))

    connection.run(main)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="An event's id, or a correlation: a RemediationRequest's name.")
    ],
    output: Output = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Show one event in full, or the chain of one correlation, with hashes and what seals them.

    Examples:

      kubernaut-ray audit show rr-3f2a91c0d4e5-9a1b2c3d

      kubernaut-ray audit show 0b5f3c1e-8a4d-5e21-9c77-1f2e3d4c5b6a
    """

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            event_id = name.lower() if _is_uuid(name) else ""
            correlation = await _correlation_of(storage, event_id) if event_id else name
            entries, checkpoints = await _chain(storage, correlation)
        if not entries and not event_id:
            raise CommandError(
                f"the trail holds no event of {name}; list what it holds: kubernaut-ray audit list", Exit.NOT_FOUND
            )
        found = [one for one in entries if not event_id or view.event_of(one).get("event_id") == event_id]
        if output is not None:
            records = [_object(one) for one in found]
            _dump(records[0] if event_id else {"correlation_id": correlation, "records": records}, output)
        elif event_id:
            out.print(view.record(found[0], checkpoints.get(found[0].proof.checkpoint) if found[0].proof else None))
        else:
            out.print(view.chain(found))

    connection.run(main)


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ends in .jsonl, .jsonl.gz or .parquet, which says its form.")
    ],
    correlation: CorrelationOption = "",
    event_type: TypeOption = "",
    since: Since = "",
    until: Until = "",
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Write the trail, or a part of it, into a bundle that ``audit verify`` checks with no system at hand.

    A whole trail or a whole correlation proves that nothing is missing; a selection by time or type cannot.

    Examples:

      kubernaut-ray audit export incident.jsonl --correlation rr-3f2a91c0d4e5-9a1b2c3d

      kubernaut-ray audit export trail.parquet
    """

    async def main() -> None:
        now = clock.utcnow()
        wanted = Wanted(
            correlation, event_type, trail.instant(since, "--since", now), trail.instant(until, "--until", now)
        )
        async with trail.storage(data_dir) as storage, trail.exported(storage, wanted) as (header, items):
            written = await _write(file, header, items)
        out.print(f"[green]exported[/] {written.records} records to {file}", highlight=False)

    connection.run(main)


@app.command()
def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="A bundle to verify, with no system at hand.")
    ] = None,
    correlation: CorrelationOption = "",
    public_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--public-key", help="Trust only the keys in this file: what audit keys prints, or PEM.", metavar="FILE"
        ),
    ] = None,
    output: Output = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Find out whether an event was edited, removed or reordered, and which.

    Verifies the running system's trail, or what of it concerns one correlation, or an exported bundle. Where nothing runs in
    the data directory its database is read. The computing is done here, whatever was asked. Exit code 0: sound, 1: tampered with.

    Examples:

      kubernaut-ray audit keys > pinned.txt

      kubernaut-ray audit verify --public-key pinned.txt

      kubernaut-ray audit verify incident.jsonl --public-key pinned.txt
    """
    if bundle is not None and correlation:
        raise typer.BadParameter("a BUNDLE says itself what it is about; leave out --correlation")

    async def main() -> None:
        pinned = trail.pins(public_key)
        if bundle is not None:
            outcome = await _verified(*trail.opened(bundle), pinned)
        else:
            # The whole trail, also for one correlation: that the end of a chain is missing shows nowhere else.
            async with trail.history(data_dir, Wanted()) as (header, items):
                outcome = await _verified(header, items, pinned, correlation)
            if correlation and outcome.sound and not outcome.length:
                raise CommandError(
                    f"the trail holds no event of {correlation}; audit list shows what it holds", Exit.NOT_FOUND
                )
        if output is not None:
            _dump(view.report(outcome), output)
        else:
            out.print(view.outcome(outcome))
        if not outcome.sound:
            raise typer.Exit(Exit.FAILED)

    connection.run(main)


@app.command()
def archive(
    through: Annotated[
        str,
        typer.Option(
            help="Roll off through this month, such as 2026-10; by default what is old enough.", metavar="MONTH"
        ),
    ] = "",
    listing: Annotated[bool, typer.Option("--list", help="Only say which archives there are.")] = False,
    output: Output = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Roll old months off into Parquet archives, and delete those whose retention has ended and that nothing holds.

    The catalog owner does that by itself; this does it now. Archived events stay in the trail, deleted ones are gone.

    Example: kubernaut-ray audit archive --through 2026-10
    """

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            if listing:
                state = await storage.audit_state()
                _show(state.to_json(), view.state(state), output)
            else:
                done = await storage.archive_audit(through)
                _show(done.to_json(), view.archived(done), output)

    connection.run(main)


@app.command()
def keys(output: Output = None, data_dir: DataDir = connection.DEFAULT_DATA_DIR) -> None:
    """Print the public keys that sign the trail, to be kept elsewhere and given to ``verify --public-key``.

    Example: kubernaut-ray audit keys > pinned.txt
    """

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            public_keys = (await storage.audit_state()).public_keys
        if output is not None:
            _dump(public_keys, output)
        else:
            sys.stdout.write(view.keys(public_keys))

    connection.run(main)


@hold_app.command()
def add(
    correlation: Annotated[str, typer.Argument(metavar="CORRELATION", help="A RemediationRequest's name.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why. People will read it in years.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Keep an incident's events beyond their retention.

    Example: kubernaut-ray audit hold add rr-3f2a91c0d4e5-9a1b2c3d --reason "case 2026-117"
    """

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            placed = await storage.place_hold(correlation, reason)
        out.print(f"[green]held[/] {placed.correlation_id} by {placed.placed_by}", highlight=False)

    connection.run(main)


@hold_app.command()
def release(
    correlation: Annotated[str, typer.Argument(metavar="CORRELATION", help="A RemediationRequest's name.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Let an incident's events go when their retention ends."""

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            await storage.release_hold(correlation, reason)
        out.print(f"[green]released[/] {correlation}", highlight=False)

    connection.run(main)


@hold_app.command("list")
def list_holds(output: Output = None, data_dir: DataDir = connection.DEFAULT_DATA_DIR) -> None:
    """List the holds."""

    async def main() -> None:
        async with trail.storage(data_dir) as storage:
            found = await storage.audit_holds()
        _show([one.to_json() for one in found], view.holds(found), output)

    connection.run(main)


async def _write(file: Path, header: Header, items: AsyncIterator[Item]) -> Account:
    """Write a bundle; what was begun and not finished leaves no file."""
    opened, written = sink(file, header), Account()
    try:
        with _progress("exporting", written):
            async for item in items:
                opened.put(item)
                written.records += isinstance(item, Entry)
        opened.close()
    except BaseException:
        opened.abandon()
        raise
    return written


async def _verified(
    header: Header, items: AsyncIterator[Item], pinned: dict[str, bytes], about: str = ""
) -> trail.Outcome:
    account = Account()
    with _progress("verifying", account):
        return await trail.verify(header, items, pinned, account, about)


@contextmanager
def _progress(what: str, account: Account) -> Iterator[None]:
    """Draw how many records were done, on standard error and only for people."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())

    class Counting(Progress):
        def get_renderables(self) -> Iterator[Any]:
            for task in self.tasks:
                task.description = f"{what} {account.records:,} records"
            yield self.make_tasks_table(self.tasks)

    with Counting(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield


async def _correlation_of(storage: DataStorage, event_id: str) -> str:
    page = await storage.audit_events(event_id=event_id, limit=1)
    if not page.data:
        raise CommandError(f"the trail holds no event {event_id}", Exit.NOT_FOUND)
    return page.data[0].correlation_id


async def _chain(storage: DataStorage, correlation: str) -> tuple[list[Entry], dict[int, Checkpoint]]:
    entries, checkpoints = [], {}
    async with trail.exported(storage, Wanted(correlation)) as (_, items):
        async for item in items:
            if isinstance(item, Entry):
                entries.append(item)
            elif isinstance(item, Checkpoint):
                checkpoints[item.number] = item
    return entries, checkpoints


def _object(one: Entry) -> dict[str, Any]:
    record, proof = one.record, one.proof
    return {
        "sequence": record.sequence,
        "position": record.position,
        "previous": record.previous,
        "hash": record.hash,
        "stored_us": record.stored_us,
        "checkpoint": proof.checkpoint if proof else None,
        "event": view.event_of(one),
    }


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _show(body: Any, drawn: Any, output: Format | None) -> None:
    if output is not None:
        _dump(body, output)
    else:
        out.print(drawn)


def _dump(value: Any, output: Format) -> None:
    if output is Format.JSON:
        sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
