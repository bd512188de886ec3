"""The trail of a store that nobody serves, as ``catalog.ledger.export`` reads one: for verifying what was restored."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from catalog import audit, keeper
from catalog.audit import RecordQuery
from catalog.ledger.export import Scope
from catalog.ledger.record import Page, read_page
from catalog.store import Store
from kubernaut_ray.contracts.ledger import Checkpoint, LedgerState, Statement


class AtRest:
    """``directory`` is the catalog's. Nobody signs a statement here."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store, self._archive = store, directory / keeper.ARCHIVE

    async def audit_records(
        self,
        *,
        after: int,
        limit: int,
        correlation_id: str,
        event_type: str,
        since: datetime | None,
        until: datetime | None,
    ) -> Page:
        query = RecordQuery(after, limit, correlation_id, event_type, since, until)
        found, last, more = self._store.read(lambda c: audit.records(c, query, self._archive))
        return read_page(
            b'{"records":[%b],"last":%d,"more":%b}' % (b",".join(found), last, b"true" if more else b"false")
        )

    async def audit_checkpoints(self, *, after: int, limit: int, leaves: bool) -> tuple[Checkpoint, ...]:
        found = self._store.read(lambda c: audit.checkpoints(c, after, limit, leaves=leaves))
        return tuple(Checkpoint.model_validate_json(one) for one in found)

    async def audit_state(self) -> LedgerState:
        return self._store.read(keeper.state)

    async def audit_statement(self, scope: Scope, correlation_id: str) -> Statement | None:
        del scope, correlation_id
        return None
