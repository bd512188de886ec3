"""The trail in a real database, tampered with by who can write its files: found by ``verify``, running or at rest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow.parquet as pq
import pytest

from catalog.archives import file_of
from catalog.at_rest import AtRest
from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.keeper import ARCHIVE
from catalog.ledger.canonical import canonical, parse
from catalog.ledger.chain import record_hash
from catalog.ledger.export import Source, Wanted, export
from catalog.ledger.finding import Account, Finding, Kind
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier
from catalog.owner import FILE, Owner
from catalog.policy import TrailPolicy
from kubernaut_ray.contracts.ledger import LegalHold
from kubernaut_ray.errors import Permanent
from tests import build

FEBRUARY = build.NOW - timedelta(days=20)
EVENTS = 60


class Clock:
    def __init__(self) -> None:
        self.now = FEBRUARY

    def __call__(self) -> Any:
        return self.now


def opened(directory: Path, clock: Clock) -> Owner:
    policy = TrailPolicy(checkpoint_events=16, checkpoint_interval=3600.0)
    return Owner(directory, embedder=Lexicon(), source=Bundles(directory / "bundles"), now=clock, policy=policy)


async def verified(source: Source, wanted: Wanted = Wanted()) -> tuple[list[Finding], Account]:  # noqa: B008 - frozen
    header, items = await export(source, wanted)
    history = verifier(header.scope, keyring(header.public_keys), correlation_id=header.correlation_id)
    findings = [found async for item in items for found in history.take(item)]
    return [*findings, *history.finish()], history.account


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A trail of two months, the first rolled off, closed in order."""
    clock = Clock()
    owner = await asyncio.to_thread(opened, tmp_path, clock)
    catalog = Catalog(InProcess(owner), Lexicon())
    for number in range(EVENTS):
        clock.now = FEBRUARY + timedelta(hours=16 * number)
        await catalog.append_audit([build.audit_event(number, correlation_id=f"rr-{number % 3}", now=clock.now)])
    assert [a.name for a in (await catalog.archive_audit("2026-02")).archived] == ["audit-2026-02"]
    await asyncio.to_thread(owner.close)
    return tmp_path


async def test_nothing_was_done(directory: Path) -> None:
    """Running, at rest, and running again: sound, with the archive's records among the others."""
    async with AtRest(directory) as source:
        findings, account = await verified(source)
        assert findings == []
        assert account.records >= EVENTS
        assert (account.unsealed, account.stated) == (0, False)
        findings, account = await verified(source, Wanted("rr-1"))
        assert (findings, account.records) == ([], EVENTS // 3)
    owner = await asyncio.to_thread(opened, directory, Clock())
    catalog = Catalog(InProcess(owner), Lexicon())
    for wanted in (Wanted(), Wanted("rr-1"), Wanted(since=build.NOW)):
        findings, account = await verified(catalog, wanted)
        assert (findings, account.stated) == ([], True)
    await asyncio.to_thread(owner.close)


def sql(directory: Path, *statements: str) -> list[Any]:
    with duckdb.connect(str(directory / FILE)) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        return connection.execute(statements[-1]).fetchall()


def rewrite(directory: Path) -> None:
    """Change an event and compute its chain anew, to the end."""
    with duckdb.connect(str(directory / FILE)) as connection:
        rows = connection.execute(
            "SELECT seq, position, previous, stored_us, body FROM audit_events WHERE correlation_id = 'rr-1' ORDER BY seq"
        ).fetchall()
        before = ""
        for number, (seq, position, previous, stored_us, body) in enumerate(rows):
            text = canonical(parse(body.encode()) | ({"event_outcome": "failure"} if number == 2 else {}))
            before = record_hash(seq, position, before or bytes(previous).hex(), stored_us, text)
            connection.execute(
                "UPDATE audit_events SET body = ?, hash = ? WHERE seq = ?", [text.decode(), bytes.fromhex(before), seq]
            )
            if number + 1 < len(rows):
                connection.execute(
                    "UPDATE audit_events SET previous = ? WHERE seq = ?", [bytes.fromhex(before), rows[number + 1][0]]
                )


def bend_archive(directory: Path) -> None:
    file = file_of(directory / ARCHIVE, "audit-2026-02")
    table = pq.read_table(file)
    bodies = table["body"].to_pylist()
    bodies[4] = orjson.dumps(
        orjson.loads(bodies[4]) | {"event_action": "nothing"}, option=orjson.OPT_SORT_KEYS
    ).decode()
    pq.write_table(table.set_column(table.schema.get_field_index("body"), table.schema.field("body"), [bodies]), file)


def of(number: int) -> str:
    return f"event_id = '{build.audit_event(number, correlation_id=f'rr-{number % 3}').event_id}'"


DEEDS: dict[str, tuple[Callable[[Path], object], Kind, int | None]] = {
    "edited": (
        lambda d: sql(d, f"UPDATE audit_events SET body = replace(body, 'success', 'failure') WHERE {of(50)}"),
        Kind.EDITED, 51,
    ),
    "no JSON": (lambda d: sql(d, f"UPDATE audit_events SET body = 'gone' WHERE {of(50)}"), Kind.EDITED, 51),
    "another form": (
        lambda d: sql(d, f"UPDATE audit_events SET body = replace(body, '\":', '\" : ') WHERE {of(50)}"),
        Kind.NOT_CANONICAL, 51,
    ),
    "rewritten": (rewrite, Kind.REWRITTEN, None),
    "removed": (lambda d: sql(d, f"DELETE FROM audit_events WHERE {of(50)}"), Kind.REMOVED, 51),
    "end removed": (lambda d: sql(d, "DELETE FROM audit_events WHERE seq > 58"), Kind.REMOVED, 59),
    "exchanged": (
        lambda d: sql(d, "UPDATE audit_events SET seq = CASE seq WHEN 50 THEN 51 WHEN 51 THEN 50 ELSE seq END"),
        Kind.EDITED, None,
    ),
    "doubled": (
        lambda d: sql(d, f"INSERT INTO audit_events SELECT * FROM audit_events WHERE {of(50)}"), Kind.DUPLICATED, 51,
    ),
    "another time": (lambda d: sql(d, f"UPDATE audit_events SET stored_us = 7 WHERE {of(50)}"), Kind.EDITED, 51),
    "checkpoint removed": (
        lambda d: sql(d, "DELETE FROM audit_checkpoints WHERE number = 2"), Kind.CHECKPOINT_REMOVED, None,
    ),
    "checkpoint edited": (
        lambda d: sql(d, "UPDATE audit_checkpoints SET body = replace(body, '\"created_us\":1', '\"created_us\":2')"),
        Kind.CHECKPOINT_FORGED, None,
    ),
    "leaf edited": (
        lambda d: sql(d, "UPDATE audit_checkpoints SET leaves = leaves || '\\x00'::BLOB WHERE number = 2"),
        Kind.CHECKPOINT_MISFIT, None,
    ),
    "archive edited": (bend_archive, Kind.EDITED, 5),
    "archive deleted": (lambda d: file_of(d / ARCHIVE, "audit-2026-02").unlink(), Kind.REMOVED, None),
    "key exchanged": (
        lambda d: sql(d, "DELETE FROM audit_keys"), Kind.CHECKPOINT_FORGED, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_was_done_is_found(directory: Path, deed: str) -> None:
    """By who can write the files: found at rest, where nothing of ours runs, and named."""
    do, kind, sequence = DEEDS[deed]
    await asyncio.to_thread(do, directory)
    async with AtRest(directory) as source:
        findings, _ = await verified(source)
    assert kind in {found.kind for found in findings}
    assert sequence is None or sequence in {found.sequence for found in findings}


async def test_retired_and_held(directory: Path) -> None:
    """What is held stays; released and old enough, it goes lawfully, and the trail is sound without it."""
    clock = Clock()
    clock.now = build.NOW + timedelta(days=4000)
    owner = await asyncio.to_thread(opened, directory, clock)
    catalog = Catalog(InProcess(owner), Lexicon())
    await catalog.hold_audit(LegalHold(correlation_id="rr-1", reason="case 7", placed_by="ann"))
    assert (await catalog.archive_audit("2026-02")).retired == ()
    assert await catalog.release_audit("rr-1", "ann", "closed")
    (retired,) = (await catalog.archive_audit("2026-02")).retired
    findings, account = await verified(catalog)
    assert (findings, account.retired) == ([], retired.last_sequence)
    for name in ("rr-0", "rr-1", "rr-2", "audit-2026-02"):
        assert (await verified(catalog, Wanted(name)))[0] == []
    await asyncio.to_thread(owner.close)
    async with AtRest(directory) as source:
        assert (await verified(source))[0] == []


KILLED = """
import os, sys
from pathlib import Path
from tests.catalog.test_tampering import Clock, opened
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from tests import build
import asyncio
owner = opened(Path(sys.argv[1]), Clock())
async def main():
    catalog = Catalog(InProcess(owner), Lexicon())
    for number in range(100, 140):
        await catalog.append_audit([build.audit_event(number, correlation_id="rr-k", now=Clock()())])
asyncio.run(main())
os._exit(9)
"""


async def test_after_a_crash(directory: Path) -> None:
    """Killed in the middle, nothing was sealed at the end: still sound, the tail is only unsealed."""
    died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(directory)], check=False)
    assert died.returncode == 9
    async with AtRest(directory) as source:
        findings, account = await verified(source)
    assert findings == []
    assert account.unsealed > 0
    assert account.records >= EVENTS + 40


async def test_a_database_in_use_or_of_another_release(directory: Path, tmp_path: Path) -> None:
    """Said in words."""
    waiting = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", waiting, str(directory / FILE),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None
    await other.stdout.readline()
    with pytest.raises(Permanent, match="open in another process"):
        AtRest(directory)
    other.terminate()
    await other.wait()
    sql(directory, "INSERT INTO migrations VALUES (99, 'later', 0)")
    with pytest.raises(Permanent, match="use a newer release"):
        AtRest(directory)
    (tmp_path / "other").mkdir()
    with duckdb.connect(str(tmp_path / "other" / FILE)) as connection:
        connection.execute("CREATE TABLE a (b INTEGER)")
    with pytest.raises(Permanent, match="no catalog"):
        AtRest(tmp_path / "other")
