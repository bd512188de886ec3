"""How the audit trail looks on a terminal: events, records of a chain, findings, holds. Models in, rich renderables out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from catalog.ledger.record import Entry
from kubernaut_ray.cli import columns
from kubernaut_ray.cli.trail import Outcome
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.ledger import ArchiveResult, Checkpoint, LedgerState, LegalHold
from kubernaut_ray.crds.enums import AuditOutcome

COLOUR = {AuditOutcome.SUCCESS: "green", AuditOutcome.FAILURE: "red", AuditOutcome.PENDING: "yellow"}
SCOPES = {"store": "the whole trail", "correlation": "one correlation", "selection": "a selection of records"}


def _table(*names: str) -> Table:
    return columns.table(*names, fold=names)


def events(found: Sequence[AuditEvent], total: int) -> RenderableType:
    """A table of events; a line says when there are more."""
    if not found:
        return Text("No events.", style="dim")
    table = _table("Time", "Type", "Outcome", "Correlation", "Actor", "Resource")
    for one in found:
        table.add_row(
            _instant(one.event_timestamp),
            Text(one.event_type),
            Text(one.event_outcome, style=COLOUR[one.event_outcome]),
            Text(one.correlation_id),
            Text(one.actor_id),
            Text("/".join(part for part in (one.resource_type, one.resource_id) if part)),
        )
    if total <= len(found):
        return table
    return Group(table, Text(f"The newest {len(found)} of {total}; --limit shows more.", style="dim"))


def chain(entries: Sequence[Entry]) -> RenderableType:
    """The records of a correlation in the order of their chain."""
    table = _table("Pos", "Sequence", "Time", "Type", "Outcome", "Actor", "Hash", "Sealed by")
    for one in entries:
        event = event_of(one)
        outcome = str(event.get("event_outcome", ""))
        table.add_row(
            str(one.record.position),
            str(one.record.sequence),
            Text(str(event.get("event_timestamp", ""))),
            Text(str(event.get("event_type", ""))),
            Text(outcome, style=COLOUR.get(AuditOutcome(outcome), "") if outcome in set(AuditOutcome) else ""),
            Text(str(event.get("actor_id", ""))),
            one.record.hash[:12],
            f"checkpoint {one.proof.checkpoint}" if one.proof else Text("not yet", style="dim"),
        )
    return table


def record(one: Entry, checkpoint: Checkpoint | None) -> RenderableType:
    """One event in full, and where it stands."""
    event = event_of(one)
    grid = Table(box=None, show_header=False, pad_edge=False)
    facts = {
        "Event": f"{event.get('event_type', '')} {event.get('event_id', '')}",
        "Correlation": str(event.get("correlation_id", "")),
        "Record": f"sequence {one.record.sequence}, position {one.record.position} of its chain",
        "Stored": _instant(_at(one.record.stored_us)),
        "Hash": one.record.hash,
        "Previous": one.record.previous,
        "Sealed": "not yet"
        if checkpoint is None
        else f"by checkpoint {checkpoint.number} at {_instant(_at(checkpoint.created_us))}, key {checkpoint.key_id}",
    }
    for label, fact in facts.items():
        grid.add_row(Text(label, style="bold"), Text(fact))
    return Group(grid, Text(""), Text(orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()))


def outcome(found: Outcome) -> RenderableType:
    """What was verified, and everything that was found."""
    account, lines = found.account, [Text(_checked(found))]
    if account.checkpoints or account.records:
        lines.append(Text(_sealed(found)))
    lines.append(Text(_keys(found), style="" if found.pinned else "dim"))
    if found.header.scope == "selection":
        lines.append(Text("A selection claims nothing about records that it left out.", style="dim"))
    elif not account.stated and found.sound:
        lines.append(
            Text(
                "There is no signed statement of where the trail ends, so that unsealed records at its end may be missing.",
                style="yellow",
            )
        )
    if found.elsewhere:
        lines.append(
            Text(f"{found.elsewhere} finding(s) are about other correlations: leave out --correlation.", style="yellow")
        )
    if found.sound:
        return Group(*lines, Text("Sound: nothing was edited, removed or reordered.", style="bold green"))
    table = _table("Finding", "Sequence", "Pos", "Correlation", "Event", "What")
    for one in found.findings:
        table.add_row(
            Text(one.kind, style="red"),
            "" if one.sequence is None else str(one.sequence),
            "" if one.position is None else str(one.position),
            Text(one.correlation_id),
            Text(f"{one.event_type} {one.event_id}".strip()),
            Text(one.message),
        )
    count = len(found.findings) + found.more
    more = [Text(f"and {found.more} more findings", style="dim")] if found.more else []
    return Group(*lines, table, *more, Text(f"Tampered with: {count} finding(s).", style="bold red"))


def report(found: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        "sound": found.sound,
        "scope": found.header.scope,
        "correlation_id": found.header.correlation_id or found.about,
        "checked": found.account.to_json(),
        "pinned": found.pinned,
        "findings": [one.to_json() for one in found.findings],
        "more_findings": found.more,
        "findings_elsewhere": found.elsewhere,
    }


def holds(found: Sequence[LegalHold]) -> RenderableType:
    if not found:
        return Text("No holds. Place one with: kubernaut-ray audit hold add CORRELATION --reason why", style="dim")
    table = _table("Correlation", "Since", "By", "Reason")
    for one in found:
        since = _instant(one.placed_at) if one.placed_at else ""
        table.add_row(Text(one.correlation_id), since, Text(one.placed_by), Text(one.reason))
    return table


def archived(done: ArchiveResult) -> RenderableType:
    if not done.archived and not done.retired:
        return Text("Nothing is old enough to be archived or deleted.", style="dim")
    lines = [
        Text(f"archived {one.name}: records {one.first_sequence} to {one.last_sequence}, {one.bytes:,} bytes", "green")
        for one in done.archived
    ]
    lines += [
        Text(
            f"deleted {one.archive}: records {one.first_sequence} to {one.last_sequence}, their retention ended",
            "yellow",
        )
        for one in done.retired
    ]
    return Group(*lines)


def state(found: LedgerState) -> RenderableType:
    """Archives and where the trail stands, for ``audit archive --list``."""
    head = Text(
        f"{found.last_sequence} records in {found.chains} chains, {found.last_checkpoint} checkpoints, {found.unsealed} unsealed"
    )
    if not found.archives and not found.retired:
        return Group(head, Text("No archives yet.", style="dim"))
    table = _table("Archive", "Records", "Events", "Bytes", "State")
    for one in found.archives:
        table.add_row(one.name, f"{one.first_sequence}–{one.last_sequence}", str(one.events), f"{one.bytes:,}", "kept")
    for gone in found.retired:
        table.add_row(gone.archive, f"{gone.first_sequence}–{gone.last_sequence}", "", "", Text("deleted", style="dim"))
    return Group(head, table)


def keys(public_keys: dict[str, str]) -> str:
    """Lines to pin: id and raw public key in base64."""
    return "".join(f"{name}  {text}\n" for name, text in sorted(public_keys.items()))


def event_of(one: Entry) -> dict[str, Any]:
    event = orjson.loads(bytes(one.record.event))
    return event if isinstance(event, dict) else {}


def _checked(found: Outcome) -> str:
    account, what = found.account, SCOPES[found.header.scope]
    if found.header.scope == "correlation":
        what = f"correlation {found.header.correlation_id}"
    gone = f", {account.retired:,} more were deleted lawfully" if account.retired else ""
    if found.about:
        what = f"the chain of {found.about} ({found.length:,} records) in {what}"
    return f"Checked {what}: {account.records:,} records in {account.chains:,} chains, up to sequence {account.last_sequence}{gone}."


def _sealed(found: Outcome) -> str:
    account = found.account
    if not account.checkpoints:
        return "No checkpoint seals any of them; their chains alone protect them."
    tail = (
        f"{account.unsealed:,} records after that are protected by their chains only"
        if account.unsealed
        else "nothing after"
    )
    return f"Sealed up to sequence {account.sealed_to} by {account.checkpoints:,} signed checkpoints; {tail}."


def _keys(found: Outcome) -> str:
    used = (
        ", ".join(f"{name} ({count} signatures)" for name, count in sorted(found.account.signatures.items())) or "none"
    )
    if found.pinned:
        return f"Keys: {used}, among the {len(found.keys)} that you gave."
    return f"Keys: {used}, as what was checked names them itself. To pin them: --public-key FILE with what audit keys prints."


def _at(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
