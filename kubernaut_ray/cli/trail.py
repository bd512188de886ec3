"""Where ``kubernaut-ray audit`` reads the trail: a bundle in a file, a running system, or a database at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from catalog.ledger.bundle import Header, Lines, read
from catalog.ledger.export import Wanted, export
from catalog.ledger.finding import Account, Finding
from catalog.ledger.record import Item
from catalog.ledger.signing import keyring, read_public_keys
from catalog.ledger.verify import verifier
from kubernaut_ray import clock
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, Exit
from kubernaut_ray.clients.data_storage import DataStorage, NotFound
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable

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
    about: str = ""
    """The correlation that was asked about, where the whole trail was read for it."""
    length: int = 0
    """Of its chain."""
    elsewhere: int = 0
    """Findings about other correlations."""

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
    """Open the trail of the system that runs in a data directory, or of its database where nothing runs."""
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(storage(data_dir))
            found = await stack.enter_async_context(exported(client, wanted))
        except (CommandError, Retryable) as error:
            # Loaded where it is needed: DuckDB takes a while.
            from catalog.at_rest import AtRest, present

            if not present(data_dir / "catalog") or (
                isinstance(error, CommandError) and error.code != Exit.UNREACHABLE
            ):
                raise
            try:
                source = await stack.enter_async_context(AtRest(data_dir / "catalog"))
            except Permanent as refused:
                if refused.reason == "StoreInUse":
                    raise error from None  # It runs, and this is what it said.
                raise
            found = await export(source, wanted)
        yield found


def opened(file: Path) -> tuple[Header, AsyncIterator[Item]]:
    """Open a bundle in a file as ``exported`` gives one."""
    header, items = read(file)
    return header, _later(items)


async def verify(
    header: Header, items: AsyncIterator[Item], pinned: Mapping[str, bytes], progress: Account, about: str = ""
) -> Outcome:
    """Verify a history to its end; ``progress`` is the account of how far it is.

    Asked ``about`` one correlation of a whole trail, it keeps what was found about that one, and what may be about it.
    """
    keys = pinned or keyring(header.public_keys)
    history = verifier(header.scope, keys, correlation_id=header.correlation_id, account=progress)
    outcome = Outcome(header, progress, keys, bool(pinned), about=about)

    def note(found: Iterator[Finding]) -> None:
        for finding in found:
            if about and finding.correlation_id not in {"", about}:
                outcome.elsewhere += 1
            elif len(outcome.findings) < KEPT:
                outcome.findings.append(finding)
            else:
                outcome.more += 1

    async for item in items:
        note(history.take(item))
    note(history.finish())
    outcome.length = history.length(about)
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
