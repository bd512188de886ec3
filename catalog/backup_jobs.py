"""The owner's backups: made one at a time on a thread of their own, kept until they are fetched or the next one is asked for.

They lie in the catalog's directory, so what an owner left unfinished or unfetched goes when the next one starts.
"""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from catalog import backup
from catalog.archives import sha256_of
from catalog.backup import Sources
from catalog.errors import Conflict, NotFound
from catalog.store import Store
from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts.backup import Backup, BackupRequest, BackupState
from kubernaut_ray.errors import KubernautError

FOLDER = "backups"
PIECE = 4 << 20
"""Bytes that are read at once."""

log = structlog.get_logger(__name__)


class Backups:
    """``operations`` are for the owner's table; each answers at once. ``still`` is held while archives come and go."""

    def __init__(self, store: Store, sources: Sources, still: threading.Lock, now: Clock) -> None:
        self._store, self._sources, self._still, self._now = store, sources, still, now
        self._directory = sources.catalog / FOLDER
        self._state: Backup | None = None
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        shutil.rmtree(self._directory, ignore_errors=True)
        self.operations: Mapping[str, Callable[[Any], Any]] = {
            "backup_start": self._start,
            "backup_state": lambda p: self._found(p["name"]).to_json(),
            "backup_read": self._read,
            "backup_delete": self._delete,
        }

    def close(self) -> None:
        """Wait for one that is being made."""
        if self._thread is not None:
            self._thread.join()

    def _start(self, payload: Any) -> dict[str, Any]:
        request = BackupRequest.model_validate(payload)
        with self._changing:
            if self._state is not None and self._state.state is BackupState.RUNNING:
                raise Conflict(
                    f"the backup {self._state.name} is still being made; fetch it, or ask again when it is done"
                )
            shutil.rmtree(self._directory, ignore_errors=True)
            name = f"kubernaut-{self._now():%Y%m%dT%H%M%SZ}"
            self._state = Backup(name=name, state=BackupState.RUNNING)
            self._thread = threading.Thread(target=self._make, args=(name, request), name="catalog-backup", daemon=True)
            self._thread.start()
            return self._state.to_json()

    def _make(self, name: str, request: BackupRequest) -> None:
        key = self._sources.signing_key if request.with_signing_key else None
        sources = Sources(self._sources.catalog, self._sources.bundles, key)
        try:
            file = self._file(name)
            with self._still:
                manifest = backup.write(self._store, sources, file, self._now())
            done = Backup(
                name=name,
                state=BackupState.DONE,
                bytes=file.stat().st_size,
                sha256=sha256_of(file),
                last_sequence=manifest.last_sequence,
            )
            log.info("catalog_backed_up", backup=name, bytes=done.bytes, last_sequence=done.last_sequence)
        except Exception as error:
            told = str(error) if isinstance(error, KubernautError) else "the log of the catalog owner has the cause"
            done = Backup(name=name, state=BackupState.FAILED, error=told)
            log.exception("catalog_backup_failed", backup=name)
        with self._changing:
            self._state = done

    def _read(self, payload: Any) -> dict[str, Any]:
        """Return the piece of a finished backup that begins at ``offset``, in base64; empty at its end."""
        state = self._found(payload["name"])
        if state.state is not BackupState.DONE:
            raise Conflict(
                f"the backup {state.name} is not done: {state.state}{f', {state.error}' if state.error else ''}"
            )
        try:
            with self._file(state.name).open("rb") as opened:
                opened.seek(int(payload["offset"]))
                piece = opened.read(PIECE)
        except FileNotFoundError:
            raise NotFound(f"the backup {state.name} is gone") from None
        return {"data": base64.b64encode(piece).decode()}

    def _delete(self, payload: Any) -> dict[str, Any]:
        with self._changing:
            state = self._found(payload["name"])
            if state.state is BackupState.RUNNING:
                raise Conflict(f"the backup {state.name} is still being made")
            self._file(state.name).unlink(missing_ok=True)
            self._state = None
            return state.to_json()

    def _found(self, name: str) -> Backup:
        state = self._state
        if state is None or state.name != name:
            raise NotFound(f"there is no backup {name!r}; only the last one is kept, until it is fetched")
        return state

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.tar"
