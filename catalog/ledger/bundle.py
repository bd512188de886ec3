"""Bundles: a part of the trail, or all of it, in one file that anybody can verify without the system it came from.

As JSON lines (``.jsonl``, gzipped as ``.jsonl.gz``): a header, then items, then the signed statement. Each line is an object
with one key that says what it is (``bundle``, ``record`` with its ``proof``, ``checkpoint``, ``retired``, ``statement``;
``error`` where an export broke off); the items come as ``catalog.ledger.verify`` wants them. As Parquet:
``catalog.ledger.parquet``. Both ways nothing is held but what is being written or read. What is no bundle, or only the
beginning of one, is ``InvalidInput`` that says where.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path as File
from typing import BinaryIO, Literal, Protocol, cast

import msgspec
from pydantic import ValidationError

from catalog.ledger.record import Entry, Item, Path, Record
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.errors import InvalidInput

MAGIC = {b"PAR1": "parquet", b"\x1f\x8b": "gzip"}


class Header(Contract):
    """What a bundle is about, and the public keys (raw, base64, by id) of those who signed in it."""

    format: Literal["kubernaut-audit/1"] = "kubernaut-audit/1"
    scope: Literal["store", "correlation", "selection"]
    correlation_id: str = ""
    event_type: str = ""
    since: Timestamp | None = None
    until: Timestamp | None = None
    public_keys: dict[str, str] = {}


class Sink(Protocol):
    """Takes a bundle item by item. ``close`` finishes the file, ``abandon`` leaves none behind."""

    def put(self, item: Item) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


_NOTHING = msgspec.Raw()


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    bundle: msgspec.Raw = _NOTHING
    record: Record | None = None
    proof: Path | None = None
    checkpoint: msgspec.Raw = _NOTHING
    retired: msgspec.Raw = _NOTHING
    statement: msgspec.Raw = _NOTHING
    error: str = ""


_LINES = msgspec.json.Decoder(_Line)
_ENTRIES = msgspec.json.Encoder()


def line(item: Header | Item) -> bytes:
    """Return an item as a line, with its end."""
    match item:
        case Entry():
            return _ENTRIES.encode(item) + b"\n"
        case Header():
            name = b"bundle"
        case Checkpoint():
            name = b"checkpoint"
        case Retired():
            name = b"retired"
        case Statement():
            name = b"statement"
    body = item.model_dump_json(exclude_none=True, exclude_defaults=False).encode()
    return b'{"%b":%b}\n' % (name, body)


def broken(error: str) -> bytes:
    """Return the line that ends a bundle which cannot be finished, for whoever reads it to be told why."""
    return _ENTRIES.encode({"error": error}) + b"\n"


class Lines:
    """Reads a bundle's lines, in whatever pieces they come. ``name`` says in errors what is read."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._rest = b""
        self._ended = False
        self.header: Header | None = None

    def feed(self, data: bytes) -> Iterator[Item]:
        """Take a piece; yield the items whose lines are whole. The header is in ``header`` from then on."""
        *whole, self._rest = (self._rest + data).split(b"\n") if b"\n" in data else (self._rest + data,)
        for text in whole:
            yield from self._line(text)

    def end(self) -> None:
        """Say that nothing more comes. Raises ``InvalidInput`` when that was not all."""
        if self.header is None and not self._rest:
            raise InvalidInput(f"{self._name} is empty; an audit bundle begins with a header line")
        if self._rest or not self._ended:
            raise InvalidInput(
                f"{self._name} ends after {self._number} lines without its statement: it was cut off. Export it again"
            )

    def _line(self, text: bytes) -> Iterator[Item]:
        self._number += 1
        if self._ended:
            raise self._wrong("nothing comes after the statement")
        try:
            found = _LINES.decode(text)
            if self.header is None:
                self.header = self._header(found)
                return
            yield self._item(found)
        except msgspec.ValidationError as error:
            raise self._wrong(f"it is no line of an audit bundle: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._wrong(f"it is not JSON: {error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise self._wrong(f"{where}: {first['msg']}") from error

    def _header(self, found: _Line) -> Header:
        if found.bundle is _NOTHING:
            raise self._wrong("an audit bundle begins with a header line")
        return Header.model_validate_json(bytes(found.bundle))

    def _item(self, found: _Line) -> Item:
        if found.error:
            raise self._wrong(f"the export broke off, so this is no whole bundle: {found.error}. Export it again")
        bodies = (found.bundle, found.checkpoint, found.retired, found.statement)
        if found.record is not None and all(body is _NOTHING for body in bodies):
            return Entry(found.record, found.proof)
        told = [body for body in bodies if body is not _NOTHING]
        if len(told) != 1 or found.record is not None or found.proof is not None or found.bundle is not _NOTHING:
            raise self._wrong("it holds not exactly one of record, checkpoint, retired and statement")
        text = bytes(told[0])
        if found.checkpoint is not _NOTHING:
            return Checkpoint.model_validate_json(text)
        if found.retired is not _NOTHING:
            return Retired.model_validate_json(text)
        self._ended = True
        return Statement.model_validate_json(text)

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self._name}, line {self._number}: {what}")


class LineFile:
    """Writes a bundle of lines into a file that appears when it is whole."""

    def __init__(self, file: File, header: Header) -> None:
        self._file, self._draft = file, file.with_name(f".{file.name}.part")
        self._opened = _open(self._draft, "wb", zipped=file.name.endswith(".gz"))
        self._opened.write(line(header))

    def put(self, item: Item) -> None:
        self._opened.write(line(item))

    def close(self) -> None:
        self._opened.close()
        self._draft.replace(self._file)

    def abandon(self) -> None:
        self._opened.close()
        self._draft.unlink(missing_ok=True)


def sink(file: File, header: Header) -> Sink:
    """Open a file for writing a bundle in the form that its name asks for. Raises ``InvalidInput`` for another name."""
    name = file.name
    if name.endswith((".jsonl", ".jsonl.gz")):
        return LineFile(file, header)
    if name.endswith(".parquet"):
        from catalog.ledger.parquet import ParquetFile  # Arrow is loaded by who writes Parquet.

        return ParquetFile(file, header)
    raise InvalidInput(f"{name}: a bundle is called .jsonl, .jsonl.gz or .parquet, which says how it is written")


def read(file: File) -> tuple[Header, Iterator[Item]]:
    """Open a bundle, whatever its form; its items come as they are read. Raises ``InvalidInput``, then and later."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(4)
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from error
    form = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "lines")
    if form == "parquet":
        from catalog.ledger import parquet

        return parquet.read(file)
    lines = Lines(str(file))
    items = _read_lines(file, lines, zipped=form == "gzip")
    first = next(items)  # Reads as far as the first item, so that the header is there.
    if lines.header is None:
        raise InvalidInput(f"{file}: an audit bundle begins with a header line")
    return lines.header, _again(first, items)


def _read_lines(file: File, lines: Lines, *, zipped: bool) -> Iterator[Item]:
    with _open(file, "rb", zipped=zipped) as opened:
        try:
            while data := opened.read(1 << 18):
                yield from lines.feed(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInput(f"{file}: it was cut off or damaged: {error}") from error
    lines.end()


def _open(file: File, mode: Literal["rb", "wb"], *, zipped: bool) -> BinaryIO:
    return cast("BinaryIO", gzip.open(file, mode) if zipped else file.open(mode))


def _again(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest
