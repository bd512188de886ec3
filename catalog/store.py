"""The DuckDB file: opened once, migrated, written by one thread with group commit, read beside it.

Only the catalog owner uses it. A write is a function of a connection; everything that waits when the writer gets to it
shares one transaction and one sync to disk, and its future resolves after that commit, so an acknowledged write survives
``kill -9``. A write may refuse by raising a ``KubernautError`` *before* it changes anything; a database fault rolls the
group back and runs its members one by one. SQL never reaches a caller: faults are logged here and told as ``Retryable``.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
import structlog

from catalog.migrations import MIGRATIONS
from kubernaut_ray.errors import KubernautError, Permanent, Retryable

Connection = duckdb.DuckDBPyConnection
T = TypeVar("T")

GROUP = 256
"""At most this many writes share a transaction."""
MEMORY_LIMIT = "512MB"
THREADS = "1"
"""Writer and reader each work on the thread that calls. Handing a small append over to another costs half of it again."""
CHECKPOINT_BYTES = 128 << 20
"""The write-ahead log is folded into the file when it is this long: some 120,000 audit events, which is one row group of the
database. Folding less at a time rewrites the last row group over and over; more makes a restart after a crash slow."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Write:
    operation: Callable[[Connection], Any]
    done: Future[Any]
    alone: bool = False
    """Outside of any transaction, with nothing beside it."""


class Store:
    """Use as a context manager, or call ``close``: it checkpoints, so that the next start replays nothing."""

    def __init__(self, file: Path, *, memory_limit: str = MEMORY_LIMIT) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._connection = _open(file, memory_limit)
        self._reading = threading.Lock()
        self._reader = self._connection.cursor()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self.broken = False
        """The database gave up on itself; only opening the file anew helps."""
        self._settled: Callable[[bool], None] = lambda _: None
        self._thread = threading.Thread(target=self._write_forever, name="catalog-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, operation: Callable[[Connection], T]) -> Future[T]:
        """Queue a write; the future resolves when it is on disk. Raises ``Permanent`` after ``close``."""
        return self._enqueue(operation, alone=False)

    def checkpoint(self) -> Future[None]:
        """Fold the write-ahead log into the file when the writer gets to it, so that the next start has little to replay."""

        def fold(connection: Connection) -> None:
            if self._log.exists():
                connection.execute("CHECKPOINT")

        return self._enqueue(fold, alone=True)

    def copy(self, file: Path) -> None:
        """Copy the last committed state into a new file, while reads and writes go on. Blocks; cleans up when it fails."""
        with self._reading:
            connection = self._reader.cursor()
        try:
            connection.execute(f"ATTACH {quoted(file)} AS copied")
            try:
                connection.execute(f"COPY FROM DATABASE {name_of(self._file)} TO copied")
                connection.execute("CHECKPOINT copied")
            finally:
                connection.execute("DETACH copied")
        except duckdb.Error as error:
            file.unlink(missing_ok=True)
            raise self._fault(error) from None
        finally:
            connection.close()

    def _enqueue(self, operation: Callable[[Connection], T], *, alone: bool) -> Future[T]:
        done: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise Permanent("the catalog store is closed", reason="StoreClosed")
            self._queue.put(_Write(operation, done, alone))
        return done

    @property
    def _log(self) -> Path:
        return self._file.with_name(f"{self._file.name}.wal")

    def read(self, operation: Callable[[Connection], T]) -> T:
        """Run a query on the last committed state, beside the writer. Blocks."""
        with self._reading:
            try:
                self._reader.execute("BEGIN TRANSACTION READ ONLY")
                try:
                    return operation(self._reader)
                finally:
                    self._reader.execute("COMMIT")
            except duckdb.Error as error:
                raise self._fault(error) from None

    def tell(self, settled: Callable[[bool], None]) -> None:
        """Call this on the writer thread after each transaction, with whether it was committed."""
        self._settled = settled

    def close(self) -> None:
        """Finish what is queued, checkpoint, and let go of the file."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
            with contextlib.suppress(duckdb.Error):
                self._connection.execute("CHECKPOINT")
            self._connection.close()

    def _write_forever(self) -> None:
        while True:
            group = [self._queue.get()]
            while len(group) < GROUP and _joinable(group[-1]) and not self._queue.empty():
                group.append(self._queue.get())
            last = group[-1]
            writes = [write for write in group if write is not None and write.done.set_running_or_notify_cancel()]
            if together := [write for write in writes if not write.alone]:
                self._commit(together)
            if writes and writes[-1].alone:
                self._run(writes[-1])
            if last is None:
                return

    def _run(self, write: _Write) -> None:
        try:
            write.done.set_result(write.operation(self._connection))
        except duckdb.Error as error:
            write.done.set_exception(self._fault(error))

    def _commit(self, writes: list[_Write]) -> None:
        try:
            outcomes = self._transaction(writes)
        except Exception as error:  # noqa: BLE001 - whatever one operation raises must not take its neighbours along
            if len(writes) == 1:
                writes[0].done.set_exception(self._fault(error) if isinstance(error, duckdb.Error) else error)
                return
            log.warning(
                "catalog_group_runs_one_by_one", writes=len(writes), kind=type(error).__name__, error=str(error)
            )
            for write in writes:
                self._commit([write])
            return
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, KubernautError):
                write.done.set_exception(outcome)
            else:
                write.done.set_result(outcome)

    def _transaction(self, writes: list[_Write]) -> list[Any]:
        outcomes: list[Any] = []
        self._connection.execute("BEGIN TRANSACTION")
        try:
            for write in writes:
                try:
                    outcomes.append(write.operation(self._connection))
                except KubernautError as refusal:
                    outcomes.append(refusal)
                # A row that was fetched alone leaves its result unfinished, and the next write could not use the connection.
                self._connection.complete()
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            self._settled(False)
            raise
        self._settled(True)
        return outcomes

    def _fault(self, error: duckdb.Error) -> Retryable:
        self.broken = self.broken or isinstance(error, duckdb.FatalException)
        log.error("catalog_store_fault", file=str(self._file), kind=type(error).__name__, error=str(error))
        return Retryable("the catalog's database failed; the log of the catalog owner has the cause", after=1.0)


def open_read_only(file: Path) -> Connection:
    """Open the file of a system that does not run, to look at it. Nothing in it changes, so it is not migrated either.

    Raises ``Permanent``: it is in use, it cannot be read, or another release wrote it.
    """
    connection = _connect(file, read_only=True)
    try:
        current = _schema(connection)
    except duckdb.Error as error:
        connection.close()
        raise Permanent(f"{file} is no catalog: {error}", reason="StoreUnreadable") from None
    if current != len(MIGRATIONS):
        connection.close()
        raise Permanent(
            f"{file} has schema {current}, this release reads {len(MIGRATIONS)}: "
            + (
                "start the system on it once, which brings it up to date"
                if current < len(MIGRATIONS)
                else "use a newer release"
            ),
            reason="StoreOfAnotherRelease",
        )
    return connection


def quoted(path: Path) -> str:
    """Return a path as an SQL literal."""
    return "'" + str(path).replace("'", "''") + "'"


def name_of(file: Path) -> str:
    """Return the name that the database of a file has in SQL."""
    return '"' + file.stem.replace('"', '""') + '"'


def in_use(file: Path) -> bool:
    """Whether somebody has a database open."""
    try:
        open_read_only(file).close()
    except Permanent as error:
        return error.reason == "StoreInUse"
    return False


def _joinable(write: _Write | None) -> bool:
    """Whether what comes after it may share its group."""
    return write is not None and not write.alone


def _open(file: Path, memory_limit: str = MEMORY_LIMIT) -> Connection:
    connection = _connect(file, read_only=False, memory_limit=memory_limit)
    try:
        _migrate(connection, file)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(file: Path, *, read_only: bool, memory_limit: str = MEMORY_LIMIT) -> Connection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": THREADS,
        "checkpoint_threshold": f"{CHECKPOINT_BYTES >> 20}MiB",
    }
    try:
        return duckdb.connect(str(file), read_only=read_only, config=config)
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        # The second kind is what one process is told that opens a file twice.
        if isinstance(error, duckdb.ConnectionException) or "lock" in str(error).lower():
            raise Permanent(
                f"{file} is open in another process; only one catalog owner may open it. Ask Data Storage over HTTP, "
                "or stop the system that runs on this data directory",
                reason="StoreInUse",
            ) from None
        raise Permanent(f"{file} cannot be opened: {error}", reason="StoreUnreadable") from None


def _schema(connection: Connection) -> int:
    row = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
    return int(row[0]) if row else 0


def _migrate(connection: Connection, file: Path) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name VARCHAR, applied_us BIGINT)"
    )
    current = _schema(connection)
    if current > len(MIGRATIONS):
        raise Permanent(
            f"{file} was written by a newer release (schema {current}, this one knows {len(MIGRATIONS)}); "
            "run that release, or restore a backup",
            reason="StoreTooNew",
        )
    for number, (name, statements) in enumerate(MIGRATIONS, start=1):
        if number > current:
            connection.execute("BEGIN TRANSACTION")
            for statement in statements:
                if isinstance(statement, str):
                    connection.execute(statement)
                else:
                    statement(connection)
            connection.execute("INSERT INTO migrations VALUES (?, ?, epoch_us(now()))", [number, name])
            connection.execute("COMMIT")
