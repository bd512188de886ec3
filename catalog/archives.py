"""Months of the audit trail in Parquet files beside the database: written, found again, and deleted when their time is over.

An archive is one contiguous run of sequences. It is written from rows that no longer change, read back and checked record by
record, and only then are its rows deleted, in the transaction that lists it: whenever the process dies, running again puts
things right. A file that no row lists is a leftover and is removed. Deleting an archive leaves a signed ``Retired``, so that
the gap it leaves is lawful; while one of its incidents is under legal hold it is not deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.events import microseconds
from catalog.ledger.chain import record_hash
from catalog.ledger.signing import SigningKey
from catalog.store import Connection, quoted
from kubernaut_ray.contracts.ledger import Archive, ChainHead, Retired
from kubernaut_ray.errors import Permanent

PREFIX, SUFFIX = "audit-", ".parquet"
BLOCK = 10_000
"""Records read, and written as one row group, at a time."""

COLUMNS = (
    "seq", "position", "previous", "hash", "stored_us", "event_id", "event_us", "correlation_id", "event_type",
    "event_category", "event_outcome", "severity", "body",
)  # fmt: skip
_NUMBERS = frozenset({"seq", "position", "stored_us", "event_us"})
_SCHEMA = pa.schema(
    [
        (name, pa.int64() if name in _NUMBERS else pa.binary(32) if name in {"previous", "hash"} else pa.string())
        for name in COLUMNS
    ]
)
_SELECTED = ", ".join("event_id::UUID AS event_id" if name == "event_id" else name for name in COLUMNS)
_WRITTEN = ", ".join("event_id::VARCHAR AS event_id" if name == "event_id" else name for name in COLUMNS)


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is ready to take the place of its rows."""

    archive: Archive
    first_event_us: int
    last_event_us: int
    last_stored_us: int


def source(
    connection: Connection, directory: Path, *, after: int = 0, since_us: int | None = None, lenient: bool = False
) -> str:
    """Return what to select audit events from: the table, and the archives that can hold any after these bounds.

    A file that is not there is the database's fault to tell, or, ``lenient``, left out.
    """
    rows = connection.execute(
        "SELECT name FROM audit_archives WHERE last_seq > ? AND last_event_us >= ? ORDER BY first_seq",
        [after, since_us or 0],
    ).fetchall()
    found = [file for (name,) in rows if (file := file_of(directory, name)).exists() or not lenient]
    if not found:
        return "audit_events"
    files = ", ".join(map(quoted, found))
    columns = ", ".join(COLUMNS)
    return f"(SELECT {columns} FROM audit_events UNION ALL BY NAME SELECT {_SELECTED} FROM read_parquet([{files}]))"  # noqa: S608


def file_of(directory: Path, name: str) -> Path:
    return directory / f"{name}{SUFFIX}"


def month_of(stored_us: int) -> str:
    """Return the month of an instant as ``2026-10``, in UTC."""
    return datetime.fromtimestamp(stored_us / 1e6, UTC).strftime("%Y-%m")


def months_back(now: datetime, months: int) -> str:
    """Return the month that lies so many months before ``now``'s."""
    count = now.year * 12 + now.month - 1 - months
    return f"{count // 12:04d}-{count % 12 + 1:02d}"


def due(connection: Connection, through: str) -> list[tuple[str, int, int]]:
    """Return the months up to ``through`` (``2026-10``) that lie in the table, as (name, first sequence, last sequence)."""
    found = []
    row = connection.execute("SELECT min(seq), max(seq) FROM audit_events").fetchone()
    first, end = (int(row[0]), int(row[1])) if row and row[0] is not None else (1, 0)
    while first <= end:
        stored = connection.execute("SELECT stored_us FROM audit_events WHERE seq = ?", [first]).fetchone()
        month = month_of(int(stored[0])) if stored else through
        if month > through:
            break
        later = connection.execute(
            "SELECT min(seq) FROM audit_events WHERE seq > ? AND stored_us >= ?", [first, _end_of(month)]
        ).fetchone()
        last = int(later[0]) - 1 if later and later[0] is not None else end
        found.append((_free_name(connection, month), first, last))
        first = last + 1
    return found


def write(connection: Connection, directory: Path, name: str, first: int, last: int, now: datetime) -> Written:
    """Write and check the file of a run of records. The rows stay. Raises ``Permanent`` when what is read back differs."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = file_of(directory, name)
    draft = file.with_name(f".{file.name}.new")
    events_us: list[int] = []
    stored_us = 0
    with pq.ParquetWriter(draft, _SCHEMA, compression="zstd") as writer:
        for rows in _rows(connection, first, last):
            writer.write_table(pa.table(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)), schema=_SCHEMA))
            events_us += (min(row[6] for row in rows), max(row[6] for row in rows))
            stored_us = max(stored_us, *(row[4] for row in rows))
    _sync(draft)
    count = _check(draft, first, last)
    digest = sha256_of(draft)
    draft.replace(file)
    _sync(directory)
    archive = Archive(
        name=name,
        first_sequence=first,
        last_sequence=last,
        events=count,
        bytes=file.stat().st_size,
        sha256=digest,
        created_us=microseconds(now),
    )
    return Written(archive, min(events_us), max(events_us), stored_us)


def replace_rows(connection: Connection, written: Written) -> list[str]:
    """List the archive and delete its rows; part of one transaction. Returns the chains that end in it."""
    archive = written.archive
    bounds = [archive.first_sequence, archive.last_sequence]
    ends = connection.execute(
        "SELECT correlation_id, max(position), arg_max(hash, position) FROM audit_events WHERE seq BETWEEN ? AND ? "
        "GROUP BY correlation_id",
        bounds,
    ).fetchall()
    for one, length, head in ends:
        connection.execute("INSERT OR REPLACE INTO audit_chains VALUES (?, ?, ?)", [one, length, head])
    connection.execute(
        "INSERT INTO audit_archives VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            archive.name,
            *bounds,
            written.first_event_us,
            written.last_event_us,
            written.last_stored_us,
            archive.model_dump_json(),
        ],
    )
    connection.execute("DELETE FROM audit_events WHERE seq BETWEEN ? AND ?", bounds)
    alive = {
        one
        for (one,) in connection.execute(
            "SELECT DISTINCT correlation_id FROM audit_events WHERE correlation_id IN (SELECT correlation_id FROM audit_chains)"
        ).fetchall()
    }
    return [one for one, _, _ in ends if one not in alive]


def expired(connection: Connection, directory: Path, before_us: int) -> list[Archive]:
    """Return the archives whose last event was stored before an instant and that no legal hold keeps, oldest first."""
    rows = connection.execute(
        "SELECT body FROM audit_archives WHERE last_stored_us < ? ORDER BY first_seq", [before_us]
    ).fetchall()
    archives = [Archive.model_validate_json(body) for (body,) in rows]
    return [archive for archive in archives if not held(connection, directory, archive.name)]


def held(connection: Connection, directory: Path, name: str) -> bool:
    """Whether any incident in an archive is under legal hold."""
    row = connection.execute(
        "SELECT 1 FROM read_parquet(?) WHERE correlation_id IN (SELECT correlation_id FROM audit_holds) LIMIT 1",
        [str(file_of(directory, name))],
    ).fetchone()
    return row is not None


def retirement(connection: Connection, directory: Path, archive: Archive, key: SigningKey, now: datetime) -> Retired:
    """Return the signed account of an archive's deletion."""
    rows = connection.execute(
        "SELECT correlation_id, max(position), arg_max(hash, position) FROM read_parquet(?) "
        "GROUP BY correlation_id ORDER BY correlation_id",
        [str(file_of(directory, archive.name))],
    ).fetchall()
    return key.sign(
        Retired(
            archive=archive.name,
            first_sequence=archive.first_sequence,
            last_sequence=archive.last_sequence,
            sha256=archive.sha256,
            chains=tuple(
                ChainHead(correlation_id=one, length=length, head=bytes(head).hex()) for one, length, head in rows
            ),
            retired_us=microseconds(now),
        )
    )


def retire(connection: Connection, retired: Retired) -> None:
    """Take an archive off the list; part of one transaction, before its file is deleted."""
    connection.execute(
        "INSERT INTO audit_retired VALUES (?, ?, ?, ?)",
        [retired.archive, retired.first_sequence, retired.last_sequence, retired.model_dump_json()],
    )
    connection.execute("DELETE FROM audit_archives WHERE name = ?", [retired.archive])


def listed(connection: Connection) -> list[Archive]:
    rows = connection.execute("SELECT body FROM audit_archives ORDER BY first_seq").fetchall()
    return [Archive.model_validate_json(body) for (body,) in rows]


def sweep(connection: Connection, directory: Path) -> list[str]:
    """Remove files that no archive is listed for: what a death between two steps left behind. Returns their names."""
    names = {file_of(directory, archive.name).name for archive in listed(connection)}
    leftovers = [
        file
        for pattern in (f"{PREFIX}*{SUFFIX}", f".{PREFIX}*.new")
        for file in directory.glob(pattern)
        if file.name not in names
    ]
    for file in leftovers:
        file.unlink()
    return [file.name for file in leftovers]


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _rows(connection: Connection, first: int, last: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    while first <= last:
        rows = connection.execute(
            f"SELECT {_WRITTEN} FROM audit_events WHERE seq BETWEEN ? AND ? ORDER BY seq",  # noqa: S608 - our own names
            [first, min(first + BLOCK - 1, last)],
        ).fetchall()
        yield rows
        first += BLOCK


def _check(file: Path, first: int, last: int) -> int:
    """Read a file back; every record must be there, in its place, with the hash that its content has."""
    wanted = first
    with pq.ParquetFile(file) as written:
        for batch in written.iter_batches(BLOCK):
            for row in batch.to_pylist():
                digest = record_hash(
                    row["seq"], row["position"], row["previous"].hex(), row["stored_us"], row["body"].encode()
                )
                if row["seq"] != wanted or digest != row["hash"].hex():
                    raise Permanent(
                        f"{file}: record {wanted} is not what the database holds, so its rows stay where they are; "
                        "kubernaut-ray audit verify says whether the trail is sound",
                        reason="ArchiveDiffers",
                    )
                wanted += 1
    if wanted != last + 1:
        raise Permanent(f"{file} ends at record {wanted - 1}, not at {last}", reason="ArchiveDiffers")
    return wanted - first


def _end_of(month: str) -> int:
    year, number = map(int, month.split("-"))
    return microseconds(datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC))


def _free_name(connection: Connection, month: str) -> str:
    """A month may be rolled off in several runs, when a clock went back."""
    taken = {
        name
        for (name,) in connection.execute(
            "SELECT name FROM audit_archives UNION SELECT name FROM audit_retired"
        ).fetchall()
    }
    name, turn = f"{PREFIX}{month}", 2
    while name in taken:
        name, turn = f"{PREFIX}{month}.{turn}", turn + 1
    return name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
