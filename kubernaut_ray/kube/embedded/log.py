"""The commit log: one SQLite file in WAL mode behind one thread that commits writes in groups.

Writes that arrive in one turn of the event loop, or while a commit is on its way, go into the next one, so that a hundred
concurrent writers pay for one ``fsync`` and not for a hundred. One group is under way at a time. While writers are many,
groups begin ``PACE`` seconds apart: on a quick disk they would otherwise be of three or four writes each, and a commit costs
more than what is in it. A write is acknowledged by the callback only after its transaction is committed:

- ``FULL`` (the default) syncs the WAL at each commit: what was acknowledged survives ``kill -9`` and a power cut.
- ``NORMAL`` leaves the syncing to checkpoints: it survives ``kill -9`` (the page cache is the kernel's), but a power cut
  may take the last moments. The file is never corrupted either way.

The thread knows nothing about objects: a row is an address, a version and bytes. A failed commit is final for the
process, since memory is then ahead of the disk; the owner is told once and every later write is refused.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Synchronous = Literal["FULL", "NORMAL"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
LAYOUT = 1
CROWD, PACE = 3, 0.002
"""After a group of so many writes the next begins no sooner than so many seconds after it began."""
FIRST_VERSION = 1000
"""Where a new file begins, so that small numbers that clients make up are never a place to watch from."""


@dataclass(frozen=True, slots=True)
class Write:
    """One row to write; ``body`` ``None`` deletes it. ``version`` grows by one with every write."""

    resource: str
    namespace: str
    name: str
    version: int
    body: bytes | None


class LogFailed(Exception):
    """The log cannot commit any more; the process must start again on the same file."""


class CommitLog:
    """Owns the file. ``open`` and ``rows`` before ``start``; ``append`` from the event loop afterwards."""

    def __init__(self, path: Path, *, synchronous: Synchronous = "FULL") -> None:
        self.path = path
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: list[Write] = []
        """The next group."""
        self._groups: queue.SimpleQueue[list[Write]] = queue.SimpleQueue()
        """For the thread; an empty one ends it."""
        self._under_way = False
        self._due = False
        """A hand-over is arranged for."""
        self._not_before = 0.0

    def open(self) -> int:
        """Open the file, take it for this process alone, and return the last committed version."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=0.5)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.executescript(_SCHEMA)
            first = (("layout", LAYOUT), ("resource_version", FIRST_VERSION))
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?,?)", first)
            meta = dict(connection.execute("SELECT key, value FROM meta"))
        except sqlite3.OperationalError as error:
            connection.close()
            raise LogFailed(
                f"{self.path} cannot be opened ({error}); if another server runs on this data directory, stop it first"
            ) from error
        if meta["layout"] != LAYOUT:
            connection.close()
            raise LogFailed(f"{self.path} has layout {meta['layout']}, this version reads layout {LAYOUT}")
        self._connection = connection
        return int(meta["resource_version"])

    def rows(self) -> Iterator[tuple[str, str, str, bytes]]:
        """Yield ``(resource, namespace, name, body)`` of every stored object."""
        yield from self._opened().execute("SELECT resource, namespace, name, body FROM objects")

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        committed: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Start the thread. ``committed(version)`` and ``failed(error)`` are called on the loop."""

        def work() -> None:
            while group := self._groups.get():
                try:
                    self._commit(group)
                except sqlite3.Error as error:
                    loop.call_soon_threadsafe(failed, error)
                    return
                loop.call_soon_threadsafe(done, group[-1].version)

        def done(version: int) -> None:
            self._under_way = False
            if self._not_before > loop.time():
                self._due = True
                loop.call_at(self._not_before, self._hand_over)
            else:
                self._hand_over()
            committed(version)

        self._loop = loop
        self._thread = threading.Thread(target=work, name="commit-log", daemon=True)
        self._thread.start()
        self._hand_over()

    def append(self, write: Write) -> None:
        """Queue a write for the next group. Order of calls is order of versions."""
        self._next.append(write)
        if not (self._due or self._under_way) and self._loop is not None:
            self._due = True
            self._loop.call_soon(self._hand_over)

    def close(self) -> None:
        """Commit what is queued, then close the file."""
        if self._next:
            self._groups.put(self._next)
            self._next = []
        self._groups.put([])
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _hand_over(self) -> None:
        """Give the thread the next group, if there is one and the one before is done."""
        self._due = False
        if self._next and not self._under_way:
            self._under_way = True
            group, self._next = self._next, []
            if self._loop is not None and len(group) >= CROWD:
                self._not_before = self._loop.time() + PACE
            self._groups.put(group)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LogFailed(f"{self.path} is not open")
        return self._connection

    def _commit(self, batch: list[Write]) -> None:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            # The last write to a name wins inside a group; the ones before it need not touch the file.
            last = {(w.resource, w.namespace, w.name): w for w in batch}
            puts = [(w.resource, w.namespace, w.name, w.body) for w in last.values() if w.body is not None]
            gone = [(w.resource, w.namespace, w.name) for w in last.values() if w.body is None]
            connection.executemany(
                "INSERT INTO objects VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET body=excluded.body", puts
            )
            connection.executemany("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", gone)
            connection.execute("UPDATE meta SET value=? WHERE key='resource_version'", (batch[-1].version,))
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.rollback()
            raise
