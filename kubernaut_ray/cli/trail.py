"""Where ``kubernaut-ray audit`` reads the trail: a bundle in a file, a running system, or a database at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from catalog.ledger.bundle import Header, Lines, read
from catalog.ledger.export import Wanted
from catalog.ledger.finding import Account, Finding
from catalog.ledger.record import Item
from catalog.ledger.signing import keyring, read_public_keys
from catalog.ledger.verify import verifier
from kubernaut_ray import clock
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, Exit
from kubernaut_ray.clients.data_storage import DataStorage, NotFound
from kubernaut_ray.errors import InvalidInput

KEPT = 1000
"""How many findings are kept to be shown; the others are counted."""


@dataclass(slots=True)
class Outcome:
    """What verifying gave. ``pinned``: the keys were given by who asks, not taken from what was verified."""

    header: Header
    account: Account
    keys: Mapping[str, bytes]
    pinned: bool
    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    """Findings that were not kept."""

    @property
    def sound(self) -> bool:
        return not self.findings


@asynccontextmanager
async def storage(data_dir: Path, *, timeout: float = 30.0) -> AsyncIterator[DataStorage]:
    """Connect to the Data Storage of a running system."""
    system = connection.find(data_dir)
    async with DataStorage(system.service("data_storage"), system.token, timeout=timeout) as client:
        try:
            yield client
        except NotFound as error:
            raise CommandError(str(error), Exit.NOT_FOUND) from error


@asynccontextmanager
async def exported(client: DataStorage, wanted: Wanted) -> AsyncIterator[tuple[Header, AsyncIterator[Item]]]:
    """Stream a bundle from a running system. What comes is checked to be whole."""
    lines = Lines("the answer of Data Storage")
    stream = client.export_audit(
        correlation_id=wanted.correlation_id, event_type=wanted.event_type, since=wanted.since, until=wanted.until
    )
    async with stream as pieces:
        items = _items(lines, pieces)
        first = await anext(items)
        if lines.header is None:
            raise InvalidInput("the answer of Data Storage is no audit bundle")
        yield lines.header, _again(first, items)


@asynccontextmanager
async def history(data_dir: Path, wanted: Wanted) -> AsyncIterator[tuple[Header, AsyncIterator[Item]]]:
    """Open the trail of the system that runs in a data directory."""
    async with storage(data_dir) as client, exported(client, wanted) as found:
        yield found


def opened(file: Path) -> tuple[Header, AsyncIterator[Item]]:
    """Open a bundle in a file as ``exported`` gives one."""
    header, items = read(file)
    return header, _later(items)


async def verify(header: Header, items: AsyncIterator[Item], pinned: Mapping[str, bytes], progress: Account) -> Outcome:
    """Verify a history to its end; ``progress`` is the account of how far it is."""
    keys = pinned or keyring(header.public_keys)
    history = verifier(header.scope, keys, correlation_id=header.correlation_id, account=progress)
    outcome = Outcome(header, progress, keys, bool(pinned))

    def note(found: Iterator[Finding]) -> None:
        for finding in found:
            if len(outcome.findings) < KEPT:
                outcome.findings.append(finding)
            else:
                outcome.more += 1

    async for item in items:
        note(history.take(item))
    note(history.finish())
    return outcome


def pins(files: list[Path] | None) -> dict[str, bytes]:
    """Read the public keys that somebody trusts. Raises ``InvalidInput``."""
    keys: dict[str, bytes] = {}
    for file in files or ():
        try:
            keys |= read_public_keys(file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file}: it cannot be read: {error}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{file}: {error}") from error
    return keys


def instant(text: str, option: str, now: datetime) -> datetime | None:
    """Read an instant, or an age such as ``24h``. Raises ``CommandError``."""
    if not text:
        return None
    try:
        return clock.parse_rfc3339(text)
    except ValueError:
        pass
    try:
        return now - clock.parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise CommandError(
            f"{option} {text}: give an instant (2026-01-31T12:00:00Z) or an age (24h, 7d)", Exit.USAGE
        ) from error


async def _items(lines: Lines, pieces: AsyncIterator[bytes]) -> AsyncIterator[Item]:
    async for piece in pieces:
        for item in lines.feed(piece):
            yield item
    lines.end()


async def _later(items: Iterator[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


async def _again(first: Item, rest: AsyncIterator[Item]) -> AsyncIterator[Item]:
    yield first
    async for item in rest:
        yield item
