"""The end of the audit trail: appends events as records, each hung on the one before it in its chain, and seals them.

The store's writer thread is the only caller. What is known about the end (the last sequence, where each chain ends, which ids
are stored) is kept in memory, because asking the database for it would cost more with every event that is stored; it is a
cache of the rows, built from them at the start, and what a transaction adds to it counts only once the transaction is
committed. An event whose id is stored already is passed over and takes no sequence, so that sequences have no gaps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog import known
from catalog.events import MAX_AGE, Columns, columns, microseconds
from catalog.known import ABSENT, Known
from catalog.ledger import merkle
from catalog.ledger.chain import record_hash
from catalog.ledger.signing import SigningKey, checkpoint_hash
from catalog.store import Connection
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.ledger import NO_HASH, Checkpoint

ENDS = 50_000
"""So many chain ends are kept at hand; the others are read from their last row."""
MEMORY = MAX_AGE + timedelta(days=1)
"""Ids are remembered for this long: an event that is older is refused at the door."""
ARCHIVED = 0
"""Stands for the sequence of a chain's last record when that lies in an archive; the database knows the chain's end."""

_SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("position", pa.int64()),
        ("previous", pa.binary(32)),
        ("hash", pa.binary(32)),
        ("stored_us", pa.int64()),
        ("event_id", pa.uuid()),
        ("event_us", pa.int64()),
        *(
            (name, pa.string())
            for name in ("correlation_id", "event_type", "event_category", "event_outcome", "severity", "body")
        ),
    ]
)
_INSERT = f"INSERT INTO audit_events BY NAME SELECT {', '.join(_SCHEMA.names)} FROM incoming_audit"  # noqa: S608
_PASSED_ON = ("event_us", "correlation_id", "event_type", "event_category", "event_outcome", "severity", "body")
_MIX = np.random.default_rng().integers(1 << 62, (1 << 63) - 1, 2, dtype=np.uint64) | np.uint64(1)
"""Of this process only, so that nobody outside can make two ids meet."""


Ids = npt.NDArray[np.uint8]
"""A row of 16 bytes each."""


class End(NamedTuple):
    """Where a chain ends: how many records it has, and the hash of the last."""

    position: int = 0
    hash: str = NO_HASH


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the trail ends, and how much of it is sealed."""

    sequence: int = 0
    sealed: int = 0
    checkpoint: int = 0
    checkpoint_hash: str = NO_HASH


@dataclass(slots=True)
class _Pending:
    """What the running transaction adds."""

    tip: Tip
    leaves: list[bytes]
    """The hashes of the records that are not sealed, those of committed ones too."""
    ids: dict[int, int] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    lasts: dict[int, int] = field(default_factory=dict)
    first_hot: int = 0


class Trail:
    """``append`` and ``seal`` inside the writer's transactions; ``settle`` after each of them."""

    def __init__(self, connection: Connection, key: SigningKey, *, checkpoint_events: int, now: datetime) -> None:
        self._key, self._checkpoint_events = key, checkpoint_events
        self._ids, self._lasts = Known(), Known()
        self._ends: OrderedDict[str, End] = OrderedDict()
        self._tip = read_tip(connection)
        self._leaves = _read_leaves(connection, self._tip.sealed)
        self._pending = _Pending(self._tip, list(self._leaves))
        self._load(connection, now)

    @property
    def tip(self) -> Tip:
        """As of the last commit."""
        return self._tip

    @property
    def key(self) -> SigningKey:
        return self._key

    def append(self, connection: Connection, events: Columns, now: datetime) -> int:
        """Store events in their order; return how many were new. A full checkpoint is sealed along with them."""
        ids = id_bytes(events["event_id"])
        if not (fresh := self._fresh(connection, events["event_id"], ids)):
            return 0
        if len(fresh) < len(ids):
            events, ids = {name: [events[name][n] for n in fresh] for name in events}, ids[fresh]
        correlations = events["correlation_id"]
        ends = self._find_ends(connection, dict.fromkeys(correlations))
        lasts: dict[str, int] = {}
        sequence, stored = self._pending.tip.sequence, microseconds(now)
        first = sequence + 1
        positions, previous, hashes = [], [], []
        for one, body in zip(correlations, events["body"], strict=True):
            sequence += 1
            before, link = ends[one]
            position = before + 1
            digest = record_hash(sequence, position, link, stored, body)
            positions.append(position)
            previous.append(link)
            hashes.append(bytes.fromhex(digest))
            ends[one] = End(position, digest)
            lasts[one] = sequence
        # DuckDB finds it by the name that it has here, at half of what registering and forgetting it would cost.
        incoming_audit = pa.table(  # noqa: F841
            {
                "seq": np.arange(first, sequence + 1),
                "position": positions,
                "previous": _digests(previous),
                "hash": _fixed(b"".join(hashes), 32),
                "stored_us": np.full(len(fresh), stored),
                "event_id": pa.ExtensionArray.from_storage(pa.uuid(), _fixed(ids.tobytes(), 16)),
                **{name: events[name] for name in _PASSED_ON},
            },
            schema=_SCHEMA,
        )
        connection.execute(_INSERT)
        pending = self._pending
        pending.tip = replace(pending.tip, sequence=sequence)
        pending.leaves += hashes
        pending.ends.update(ends)
        pending.lasts.update((known.key(one), last) for one, last in lasts.items())
        while pending.tip.sequence - pending.tip.sealed >= self._checkpoint_events:
            self._seal(connection, pending.tip.sealed + self._checkpoint_events, now)
        return len(fresh)

    def record(self, connection: Connection, event: AuditEvent, now: datetime) -> None:
        """Append one event of our own."""
        self.append(connection, columns([event]), now)

    def seal(self, connection: Connection, now: datetime) -> Checkpoint | None:
        """Seal whatever is not yet; ``None`` when nothing is open. Returns the last checkpoint made."""
        checkpoint, tip = None, self._pending.tip
        for last in range(tip.sealed, tip.sequence, self._checkpoint_events):
            checkpoint = self._seal(connection, min(last + self._checkpoint_events, tip.sequence), now)
        return checkpoint

    def settle(self, committed: bool) -> None:
        """Take over what the transaction added, or forget it."""
        pending = self._pending
        if committed:
            self._tip, self._leaves = pending.tip, pending.leaves
            self._ids.forget_below(pending.first_hot)
            self._ids.put(pending.ids)
            self._lasts.put(pending.lasts)
            self._keep(pending.ends)
        self._pending = _Pending(self._tip, list(self._leaves))

    def forget(self, connection: Connection, now: datetime) -> None:
        """Let go of ids that nobody can tell again, because events as old as they are refused."""
        row = connection.execute(
            "SELECT min(seq) FROM audit_events WHERE stored_us >= ?", [microseconds(now - MEMORY)]
        ).fetchone()
        if row is not None and row[0] is not None:
            self._ids.forget_below(int(row[0]))

    def archived(self, first_hot: int, chains: Iterable[str]) -> None:
        """Learn that this transaction takes rows below ``first_hot`` out of the table, and which chains end among them."""
        self._pending.first_hot = first_hot
        self._pending.lasts.update(dict.fromkeys(map(known.key, chains), ARCHIVED))

    def _seal(self, connection: Connection, last: int, now: datetime) -> Checkpoint:
        tip = self._pending.tip
        first = tip.sealed + 1
        leaves, self._pending.leaves = (
            self._pending.leaves[: last - tip.sealed],
            self._pending.leaves[last - tip.sealed :],
        )
        checkpoint = self._key.sign(
            Checkpoint(
                number=tip.checkpoint + 1,
                first_sequence=first,
                last_sequence=last,
                root=merkle.root(leaves).hex(),
                previous=tip.checkpoint_hash,
                created_us=microseconds(now),
            )
        )
        connection.execute(
            "INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?, ?)",
            [checkpoint.number, first, last, checkpoint.model_dump_json(exclude={"leaves"}), b"".join(leaves)],
        )
        self._pending.tip = replace(
            tip, sealed=last, checkpoint=checkpoint.number, checkpoint_hash=checkpoint_hash(checkpoint)
        )
        return checkpoint

    def _fresh(self, connection: Connection, ids: Sequence[str], raw: Ids) -> list[int]:
        """Return the places of the events that are not stored, the first of equal ones."""
        keys = id_keys(raw).tolist()
        pending = self._pending.ids
        at = [
            pending.get(k, ABSENT) if k in pending else found
            for k, found in zip(keys, self._ids.get(keys), strict=True)
        ]
        stored = _stored(connection, [sequence for sequence in at if sequence != ABSENT])
        fresh, seen = [], set()
        for n, one in enumerate(ids):
            if one not in seen and not (at[n] != ABSENT and one in stored):
                seen.add(one)
                fresh.append(n)
        sequence = self._pending.tip.sequence
        pending.update((keys[n], sequence + place) for place, n in enumerate(fresh, start=1))
        return fresh

    def _find_ends(self, connection: Connection, correlations: Mapping[str, None]) -> dict[str, End]:
        """Return where these chains end; a chain that does not exist ends before its first record."""
        found: dict[str, End] = {}
        unknown: list[str] = []
        for one in correlations:
            end = self._pending.ends.get(one) or self._ends.get(one)
            if end is None:
                unknown.append(one)
            else:
                found[one] = end
        if unknown:
            lasts = self._lasts.get([known.key(one) for one in unknown])
            found |= _read_ends(connection, dict(zip(unknown, lasts, strict=True)))
        return found

    def _keep(self, ends: Mapping[str, End]) -> None:
        for one, end in ends.items():
            self._ends[one] = end
            self._ends.move_to_end(one)
        while len(self._ends) > ENDS:
            self._ends.popitem(last=False)

    def _load(self, connection: Connection, now: datetime) -> None:
        since = microseconds(now - MEMORY)
        query = f"SELECT event_id::VARCHAR AS id, seq FROM audit_events WHERE stored_us >= {since}"  # noqa: S608 - a number
        for block in connection.sql(query).to_arrow_reader(100_000):
            self._ids.load(id_keys(_id_bytes_of(block.column(0))), block.column(1).to_numpy())
        chains = connection.execute(
            "SELECT correlation_id, max(last) AS last FROM ("
            "  SELECT correlation_id, seq AS last FROM audit_events"
            "  UNION ALL SELECT correlation_id, ? FROM audit_chains) GROUP BY correlation_id",
            [ARCHIVED],
        )
        while block := chains.fetchmany(100_000):
            keys = np.fromiter((known.key(one) for one, _ in block), np.int64, len(block))
            self._lasts.load(keys, np.asarray([last for _, last in block], dtype=np.int64))


def id_bytes(ids: Sequence[str]) -> Ids:
    """Return event ids (UUIDs in lower-case text) as rows of 16 bytes."""
    return _unhex(np.frombuffer("".join(ids).encode(), dtype=np.uint8).reshape(len(ids), 36))


def _id_bytes_of(ids: pa.StringArray) -> Ids:
    """Do the same with a column, without making strings of it."""
    texts = np.frombuffer(ids.cast(pa.binary()).cast(pa.binary(36)).buffers()[1], dtype=np.uint8)
    return _unhex(texts.reshape(-1, 36)[ids.offset : ids.offset + len(ids)])


def _unhex(texts: Ids) -> Ids:
    digits = texts[:, _DIGITS]
    nibbles = np.where(digits > ord("9"), digits - (ord("a") - 10), digits - ord("0")).astype(np.uint8)
    return nibbles[:, ::2] << np.uint8(4) | nibbles[:, 1::2]


def id_keys(raw: Ids) -> npt.NDArray[np.int64]:
    """Return the keys of event ids: both halves of the number, mixed."""
    halves = np.ascontiguousarray(raw).view(">u8").astype(np.uint64)
    keys: npt.NDArray[np.int64] = (halves[:, 0] * _MIX[0] ^ halves[:, 1] * _MIX[1]).view(np.int64)
    return keys


_DIGITS = np.asarray([n for n, sign in enumerate("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") if sign == "x"])


def _digests(hexes: Sequence[str]) -> pa.Array:
    return _fixed(bytes.fromhex("".join(hexes)), 32)


def _fixed(data: bytes, width: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(data)])


def read_tip(connection: Connection) -> Tip:
    """Return where the trail ends, as the database says."""
    row = connection.execute(
        "SELECT greatest((SELECT coalesce(max(seq), 0) FROM audit_events),"
        " (SELECT coalesce(max(last_seq), 0) FROM audit_archives), (SELECT coalesce(max(last_seq), 0) FROM audit_retired))"
    ).fetchone()
    sequence = int(row[0]) if row else 0
    last = connection.execute("SELECT body FROM audit_checkpoints ORDER BY number DESC LIMIT 1").fetchone()
    if last is None:
        return Tip(sequence)
    checkpoint = Checkpoint.model_validate_json(last[0])
    return Tip(sequence, checkpoint.last_sequence, checkpoint.number, checkpoint_hash(checkpoint))


def _read_leaves(connection: Connection, sealed: int) -> list[bytes]:
    rows = connection.execute("SELECT hash FROM audit_events WHERE seq > ? ORDER BY seq", [sealed]).fetchall()
    return [bytes(digest) for (digest,) in rows]


def _stored(connection: Connection, sequences: Sequence[int]) -> set[str]:
    """Return the ids of the events at these sequences."""
    if not sequences:
        return set()
    rows = _at(connection, "a.event_id::VARCHAR", sequences)
    return {event_id for (event_id,) in rows}


def _read_ends(connection: Connection, lasts: Mapping[str, int]) -> dict[str, End]:
    """Read chain ends from the last rows of the chains, given as sequences."""
    found: dict[str, End] = {}
    hot = [last for last in lasts.values() if last > ARCHIVED]
    if hot:
        for one, position, digest in _at(connection, "a.correlation_id, a.position, a.hash", hot):
            found[one] = End(position, bytes(digest).hex())
    # Two correlation ids of one key are next to impossible, and must not fork a chain all the same.
    doubtful = [one for one, last in lasts.items() if last != ABSENT and one not in found]
    for one in doubtful:
        row = (
            connection.execute(
                "SELECT position, hash FROM audit_events WHERE correlation_id = ? ORDER BY position DESC LIMIT 1", [one]
            ).fetchone()
            or connection.execute("SELECT length, head FROM audit_chains WHERE correlation_id = ?", [one]).fetchone()
        )
        if row is not None:
            found[one] = End(int(row[0]), bytes(row[1]).hex())
    return {one: found.get(one, End()) for one in lasts}


def _at(connection: Connection, what: str, sequences: Sequence[int]) -> list[tuple[Any, ...]]:
    connection.register("wanted_audit", pa.table({"seq": pa.array(sequences, pa.int64())}))
    try:
        rows: list[tuple[Any, ...]] = connection.execute(
            f"SELECT {what} FROM audit_events a JOIN wanted_audit USING (seq)"  # noqa: S608 - our own names
        ).fetchall()
    finally:
        connection.unregister("wanted_audit")
    return rows
