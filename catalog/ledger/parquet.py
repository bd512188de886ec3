"""Bundles as Parquet: a row a record, so that analysts can query them; everything else in the file's metadata.

Under the key ``kubernaut-audit``, as JSON: the header, retirements, checkpoints without their leaves, the statement. A checkpoint's
leaves stand beside the records they are of, in the column ``leaf``, because metadata has to be read as a whole; only of a
checkpoint that has lost records to a retirement the metadata holds them.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from catalog.ledger.bundle import Header
from catalog.ledger.record import Entry, Item, Path, Record, event_text
from catalog.ledger.seals import HASH_BYTES
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement
from kubernaut_ray.errors import InvalidInput

KEY = b"kubernaut-audit"
ROWS = 8192
SCHEMA = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("previous", pa.string(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
        pa.field("stored_us", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        ("leaf", pa.binary(HASH_BYTES)),
        ("proof_checkpoint", pa.int64()),
        ("proof_index", pa.int64()),
        ("proof_path", pa.list_(pa.string())),
    ]
)


class Rest(Contract):
    """What of a bundle is no record."""

    header: Header
    retired: tuple[Retired, ...]
    checkpoints: tuple[Checkpoint, ...]
    statement: Statement


class ParquetFile:
    """Writes a bundle into a Parquet file that appears when it is whole."""

    def __init__(self, file: File, header: Header) -> None:
        self._file, self._draft = file, file.with_name(f".{file.name}.part")
        self._header = header
        self._retired: list[Retired] = []
        self._checkpoints: list[Checkpoint] = []
        self._statement: Statement | None = None
        self._rows: list[dict[str, Any]] = []
        self._leaves = b""
        self._covered = 0
        self._writer = pq.ParquetWriter(self._draft, SCHEMA, compression="zstd")

    def put(self, item: Item) -> None:
        match item:
            case Entry():
                self._rows.append(self._row(item))
                if len(self._rows) == ROWS:
                    self._write()
            case Checkpoint():
                self._settle()
                self._checkpoints.append(item)
                self._leaves, self._covered = base64.b64decode(item.leaves), 0
            case Retired():
                self._retired.append(item)
            case Statement():
                self._statement = item

    def close(self) -> None:
        if self._statement is None:
            raise InvalidInput("a bundle ends with its statement")
        self._settle()
        self._write()
        rest = Rest(
            header=self._header,
            retired=tuple(self._retired),
            checkpoints=tuple(self._checkpoints),
            statement=self._statement,
        )
        self._writer.add_key_value_metadata({KEY: rest.model_dump_json(exclude_none=True).encode()})
        self._writer.close()
        self._draft.replace(self._file)

    def abandon(self) -> None:
        self._writer.close()
        self._draft.unlink(missing_ok=True)

    def _row(self, entry: Entry) -> dict[str, Any]:
        record, proof, leaf = entry.record, entry.proof, None
        if self._leaves and record.sequence <= self._checkpoints[-1].last_sequence:
            at = (record.sequence - self._checkpoints[-1].first_sequence) * HASH_BYTES
            leaf = self._leaves[at : at + HASH_BYTES]
            self._covered += 1
        return {
            "sequence": record.sequence,
            "position": record.position,
            "previous": record.previous,
            "hash": record.hash,
            "stored_us": record.stored_us,
            "event": bytes(record.event).decode(),
            "leaf": leaf,
            "proof_checkpoint": proof.checkpoint if proof else None,
            "proof_index": proof.index if proof else None,
            "proof_path": list(proof.path) if proof else None,
        }

    def _settle(self) -> None:
        """Take the last checkpoint's leaves out of the metadata if all of them stand beside records."""
        if self._leaves and self._covered * HASH_BYTES == len(self._leaves):
            self._checkpoints[-1] = self._checkpoints[-1].model_copy(update={"leaves": ""})
        self._leaves = b""

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows = []


def read(file: File) -> tuple[Header, Iterator[Item]]:
    """Open a Parquet bundle. Raises ``InvalidInput`` for what is none; damage further on is met while reading."""
    try:
        opened = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{file}: it cannot be read as Parquet: {error}") from error
    metadata = opened.schema_arrow.metadata or opened.metadata.metadata or {}
    told = metadata.get(KEY) or (opened.metadata.metadata or {}).get(KEY)
    if told is None:
        raise InvalidInput(f"{file} is Parquet, but no audit bundle: it has no metadata called {KEY.decode()}")
    if not opened.schema_arrow.equals(SCHEMA):
        raise InvalidInput(f"{file} has other columns than an audit bundle: {', '.join(opened.schema_arrow.names)}")
    try:
        rest = TypeAdapter(Rest).validate_json(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput(f"{file}: metadata: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return rest.header, _items(file, opened, rest)


def _items(file: File, opened: Any, rest: Rest) -> Iterator[Item]:
    yield from rest.retired
    whole = rest.header.scope == "store"
    waiting = deque(rest.checkpoints)
    if not whole:
        yield from waiting
        waiting.clear()
    held: list[tuple[Entry, bytes | None]] = []
    for entry, leaf in _rows(file, opened):
        if waiting and entry.record.sequence > waiting[0].last_sequence:
            yield from _sealed(waiting, held, entry.record.sequence)
        if waiting:
            held.append((entry, leaf))
        else:
            yield entry
    yield from _sealed(waiting, held, None)
    yield rest.statement


def _sealed(waiting: deque[Checkpoint], held: list[tuple[Entry, bytes | None]], before: int | None) -> Iterator[Item]:
    """Yield the checkpoints that end before a sequence (all at the end), each with its leaves and before its records."""
    while waiting and (before is None or waiting[0].last_sequence < before):
        checkpoint = waiting.popleft()
        mine = [pair for pair in held if pair[0].record.sequence <= checkpoint.last_sequence]
        del held[: len(mine)]
        size = checkpoint.last_sequence - checkpoint.first_sequence + 1
        leaves = [leaf for _, leaf in mine if leaf is not None]
        if not checkpoint.leaves and len(leaves) == size:
            checkpoint = checkpoint.model_copy(update={"leaves": base64.b64encode(b"".join(leaves)).decode()})
        yield checkpoint
        yield from (entry for entry, _ in mine)
    if not waiting:
        yield from (entry for entry, _ in held)
        held.clear()


def _rows(file: File, opened: Any) -> Iterator[tuple[Entry, bytes | None]]:
    batches = opened.iter_batches(batch_size=ROWS)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise InvalidInput(f"{file}: it is damaged: {error}") from error
        if batch is None:
            return
        for row in batch.to_pylist():
            yield _entry(file, row), row["leaf"]


def _entry(file: File, row: dict[str, Any]) -> Entry:
    event = row["event"].encode()
    try:
        orjson.loads(event)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{file}: the event of record {row['sequence']} is not JSON: {error}") from error
    record = Record(row["sequence"], row["position"], row["previous"], row["hash"], row["stored_us"], event_text(event))
    if row["proof_checkpoint"] is None:
        return Entry(record)
    return Entry(record, Path(row["proof_checkpoint"], row["proof_index"] or 0, tuple(row["proof_path"] or ())))
