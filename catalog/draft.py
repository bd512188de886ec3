"""The draft of the next snapshot: everything a snapshot says of each record, kept by the owner from one to the next.

A record is read, taken apart into terms and embedded when it is new or has changed, and not again for each version. What
depends on all records (word weights, order) is made anew from arrays each time. Not thread-safe: the owner builds one
snapshot at a time.

The bytes of a snapshot are a JSON header (version, embedder, label values, vocabulary, where each array lies), then the
arrays as they are in memory and the records as JSON. ``catalog.snapshot`` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson

from catalog.cells import assign, landmarks
from catalog.embed import Vectors
from catalog.lexical import Lexical
from catalog.outline import directions
from catalog.packed import LABEL_FIELDS
from catalog.search import document_terms
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.crds.enums import WorkflowStatus

MAGIC = b"KRSNAP03"
ALIGNMENT = 64
NO_CELL = -1


@dataclass(slots=True)
class _Entry:
    """One record. ``labels`` are numbers of values, one a label; ``terms`` are numbers of words, laid out as bytes."""

    json: bytes
    vector: bytes
    labels: tuple[int, ...]
    offered: bool
    terms: bytes
    counts: bytes
    cell: int = NO_CELL
    outline: bytes = b""
    """Made along with ``cell``."""


@dataclass(slots=True)
class Draft:
    """Starts empty; all vectors put into it must come from one embedder."""

    _entries: dict[str, _Entry] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _words: dict[str, int] = field(default_factory=dict)
    _values: dict[str, dict[bytes, int]] = field(default_factory=lambda: {label: {} for label in LABEL_FIELDS})
    _marks: Vectors = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    """The landmarks that the cells and outlines of the entries belong to."""
    _axes: Vectors = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    def __len__(self) -> int:
        return len(self._order)

    def put(self, records: Iterable[tuple[Workflow, Vectors]]) -> None:
        """Take in records that are new or have changed, each with the vector of its text."""
        for workflow, vector in records:
            known = self._entries.get(workflow.workflow_id)
            if known is None:
                self._order.append(workflow.workflow_id)
            self._entries[workflow.workflow_id] = self._entry(workflow, vector, known)
        self._order.sort()

    def _entry(self, workflow: Workflow, vector: Vectors, known: _Entry | None) -> _Entry:
        bag = sorted(document_terms(workflow).items())
        numbers = [self._words.setdefault(term, len(self._words)) for term, _ in bag]
        labels = workflow.labels.model_dump(mode="json")
        data = np.ascontiguousarray(vector, dtype=np.float32).tobytes()
        same = known is not None and known.vector == data
        return _Entry(
            # Schema texts stay behind: searches do not need them.
            json=workflow.model_copy(update={"content": ""}).model_dump_json(exclude_none=True).encode(),
            vector=data,
            labels=tuple(self._value(label, labels[label]) for label in LABEL_FIELDS),
            offered=workflow.status is WorkflowStatus.ACTIVE and workflow.is_latest_version,
            terms=np.asarray(numbers, dtype=np.int32).tobytes(),
            counts=np.asarray([count for _, count in bag], dtype=np.float32).tobytes(),
            cell=known.cell if known is not None and same else NO_CELL,
            outline=known.outline if known is not None and same else b"",
        )

    def _value(self, label: str, value: object) -> int:
        numbers = self._values[label]
        return numbers.setdefault(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), len(numbers))

    def render(self, version: int, fingerprint: str, dimension: int) -> bytes:
        """Return the snapshot's bytes. ``fingerprint`` and ``dimension`` are the embedder's."""
        entries = [self._entries[workflow_id] for workflow_id in self._order]
        joined = b"".join(entry.vector for entry in entries)
        vectors = np.frombuffer(joined, dtype=np.float32).reshape(len(entries), dimension)
        sizes = np.fromiter((len(entry.terms) for entry in entries), dtype=np.int64, count=len(entries)) // 4
        lexical = Lexical.of(
            self._words,
            sizes=sizes,
            terms=np.frombuffer(b"".join(entry.terms for entry in entries), dtype=np.int32),
            counts=np.frombuffer(b"".join(entry.counts for entry in entries), dtype=np.float32),
        )
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "starts": lexical.starts,
            "documents": lexical.documents,
            "weights": lexical.weights,
            "idf": lexical.idf,
            "rows": lexical.rows,
            "row_of": lexical.row_of,
            "bag_starts": lexical.bag_starts,
            "bag_terms": lexical.bag_terms,
            "bag_weights": lexical.bag_weights,
            "offered": np.asarray([entry.offered for entry in entries], dtype=np.bool_),
            **self._placed(entries, vectors),
            "ends": np.cumsum([len(entry.json) for entry in entries], dtype=np.int64),
        }
        members = np.asarray([entry.labels for entry in entries], dtype=np.uint32).reshape(-1, len(LABEL_FIELDS))
        arrays |= {f"label/{name}": members[:, n].copy() for n, name in enumerate(LABEL_FIELDS)}
        header = {
            "version": version,
            "embedder": fingerprint,
            "vocabulary": list(lexical.vocabulary),
            "level": lexical.level,
            "labels": {name: [orjson.Fragment(v) for v in self._values[name]] for name in LABEL_FIELDS},
        }
        return b"".join(_laid_out(header, {"vectors": vectors, **arrays}, [entry.json for entry in entries]))

    def _placed(self, entries: Sequence[_Entry], vectors: Vectors) -> dict[str, npt.NDArray[np.generic]]:
        """Return the cells and outlines, both empty for a small catalog."""
        marks = vectors[: landmarks(len(entries))]
        if not len(marks):
            nothing = np.zeros((0, 0), dtype=np.float32)
            return {"cells": np.zeros(0, dtype=np.uint16), "axes": nothing, "outlines": nothing}
        if not np.array_equal(marks, self._marks):
            self._marks, self._axes = marks.copy(), directions(marks)
            for entry in entries:
                entry.cell = NO_CELL
        missing = [position for position, entry in enumerate(entries) if entry.cell == NO_CELL]
        added = vectors[missing]
        for position, cell, outline in zip(missing, assign(added, marks).tolist(), added @ self._axes, strict=True):
            entries[position].cell, entries[position].outline = cell, outline.tobytes()
        joined = b"".join(entry.outline for entry in entries)
        return {
            "cells": np.asarray([entry.cell for entry in entries], dtype=np.uint16),
            "axes": self._axes,
            "outlines": np.frombuffer(joined, dtype=np.float32).reshape(len(entries), self._axes.shape[1]),
        }


def _laid_out(
    header: dict[str, object], arrays: dict[str, npt.NDArray[np.generic]], records: list[bytes]
) -> Iterator[bytes | memoryview]:
    places: dict[str, object] = {}
    body: list[bytes | memoryview] = []
    at = 0
    for name, array in arrays.items():
        padding = -at % ALIGNMENT
        places[name] = {"offset": at + padding, "dtype": array.dtype.str, "shape": array.shape}
        body += [bytes(padding), np.ascontiguousarray(array).data.cast("B") if array.size else b""]
        at += padding + array.nbytes
    places["records"] = {"offset": at, "length": sum(map(len, records))}
    head = orjson.dumps({**header, "places": places})
    start = len(MAGIC) + 8 + len(head)
    yield from (MAGIC, len(head).to_bytes(8, "big"), head, bytes(-start % ALIGNMENT))
    yield from body
    yield from records
