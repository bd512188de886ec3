"""Chains events that were stored before there were chains. Called by one migration, inside its transaction."""

from __future__ import annotations

from typing import Any

import duckdb

from catalog.ledger.canonical import canonical, parse
from catalog.ledger.chain import record_hash
from kubernaut_ray.contracts.ledger import NO_HASH

BLOCK = 500
"""Rows an INSERT; 13 values each."""


def chain_events(connection: duckdb.DuckDBPyConnection) -> None:
    """Copy ``audit_events`` into ``audit_records`` in the order of their sequence, numbered anew without gaps."""
    old = connection.cursor()
    ends: dict[str, tuple[int, str]] = {}
    sequence = 0
    last = -1
    while True:
        rows: list[tuple[Any, ...]] = old.execute(
            "SELECT seq, stored_us, event_id::VARCHAR, event_us, correlation_id, event_type, event_category, event_outcome, "
            "severity, body FROM audit_events WHERE seq > ? ORDER BY seq LIMIT ?",
            [last, BLOCK],
        ).fetchall()
        if not rows:
            return
        block = []
        for seq, stored_us, event_id, event_us, correlation, *labels, body in rows:
            last = seq
            sequence += 1
            position, previous = ends.get(correlation, (0, NO_HASH))
            text = canonical(parse(body.encode()))
            digest = record_hash(sequence, position + 1, previous, stored_us, text)
            ends[correlation] = (position + 1, digest)
            chained = (bytes.fromhex(previous), bytes.fromhex(digest))
            block.append(
                (sequence, position + 1, *chained, stored_us, event_id, event_us, correlation, *labels, text.decode())
            )
        places = ", ".join(["(?, ?, ?, ?, ?, ?::UUID, ?, ?, ?, ?, ?, ?, ?)"] * len(block))
        connection.execute(f"INSERT INTO audit_records VALUES {places}", [value for row in block for value in row])  # noqa: S608
