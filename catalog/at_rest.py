"""The audit trail of a system that does not run, read from its files: for who verifies it, which changes nothing.

Nobody is there to sign, so there is no statement of where the trail ends: unsealed records at its end could be missing. An
owner that ends in order seals before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import duckdb
from pydantic import ValidationError

from catalog import audit
from catalog.audit import RecordQuery
from catalog.keeper import ARCHIVE, state
from catalog.ledger.export import Scope
from catalog.ledger.record import Page, read_page
from catalog.owner import FILE
from catalog.store import Connection, open_read_only
from kubernaut_ray.contracts.ledger import Checkpoint, CheckpointPage, LedgerState, Statement
from kubernaut_ray.errors import Permanent

T = TypeVar("T")


class AtRest:
    """A ``Source`` of an export. ``directory`` is the catalog's. Raises ``Permanent`` for what cannot be read."""

    def __init__(self, directory: Path) -> None:
        self._archive = directory / ARCHIVE
        self._connection = open_read_only(directory / FILE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    async def audit_records(
        self,
        *,
        after: int,
        limit: int,
        correlation_id: str = "",
        event_type: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page:
        query = RecordQuery(after, limit, correlation_id, event_type, since, until)
        found, last, more = await self._read(lambda c: audit.records(c, query, self._archive))
        return read_page(
            b'{"records":[%b],"last":%d,"more":%b}' % (b",".join(found), last, b"true" if more else b"false")
        )

    async def audit_checkpoints(self, *, after: int, limit: int, leaves: bool) -> tuple[Checkpoint, ...]:
        found = await self._read(lambda c: audit.checkpoints(c, after, limit, leaves=leaves))
        return CheckpointPage.model_validate_json(b'{"checkpoints":[%b]}' % b",".join(found)).checkpoints

    async def audit_state(self) -> LedgerState:
        return LedgerState.model_validate_json(await self._read(state))

    async def audit_statement(self, scope: Scope, correlation_id: str) -> Statement | None:  # noqa: ARG002 - as sources have it
        return None

    async def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            return await asyncio.to_thread(query, self._connection)
        except (duckdb.Error, ValidationError) as error:
            raise Permanent(f"the database cannot be read: {error}", reason="StoreUnreadable") from error


def present(directory: Path) -> bool:
    """Whether there is a database at all."""
    return (directory / FILE).exists()
