"""Snapshots: one catalog version as bytes, published by the owner, loaded whole by every search replica.

``catalog.draft`` lays them out. Loading copies no array, parses no record and embeds nothing, needs neither DuckDB nor Arrow,
and refuses what another embedder made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from catalog.draft import ALIGNMENT, MAGIC, Draft
from catalog.embed import Embedder, Vectors
from catalog.index import Index
from catalog.lexical import Lexical
from catalog.packed import LABEL_FIELDS, Column, Records
from catalog.search import Found, search
from kubernaut_ray.contracts.catalog import SearchRequest, SearchResponse, Workflow
from kubernaut_ray.errors import Permanent, Retryable

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the catalog, ready to be searched. Immutable; safe to share between threads."""

    version: int
    embedder: Embedder
    index: Index

    def find(self, request: SearchRequest) -> Found:
        return search(self.index, self.embedder, request, version=self.version)

    def search(self, request: SearchRequest) -> SearchResponse:
        return self.find(request).response()


def pack(version: int, fingerprint: str, workflows: Sequence[Workflow], vectors: Vectors) -> bytes:
    """Render a snapshot of these alone; ``vectors[i]`` belongs to ``workflows[i]``."""
    draft = Draft()
    draft.put(zip(workflows, vectors, strict=True))
    return draft.render(version, fingerprint, vectors.shape[1])


def load(data: bytes, embedder: Embedder, *, exact: bool = False) -> Snapshot:
    """Read a snapshot. Raises ``Permanent`` for bytes that are none, ``Retryable`` for what another embedder made.

    With ``exact`` every search compares with all that its filter leaves, to measure others by.
    """
    if not data.startswith(MAGIC):
        raise Permanent("these bytes are no catalog snapshot of this release", reason="NotASnapshot")
    length = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 8], "big")
    start = len(MAGIC) + 8 + length
    header = orjson.loads(data[len(MAGIC) + 8 : start])
    if header["embedder"] != embedder.fingerprint:
        # Passing while a new setting reaches one process after the other.
        raise Retryable(
            f"the snapshot was made with embedder {header['embedder']}, this replica has {embedder.fingerprint}; "
            "if this stays so, give owner and replicas the same settings and the same model",
            after=5.0,
        )
    base = start + -start % ALIGNMENT
    places = header["places"]

    def array(name: str, kind: type[T]) -> npt.NDArray[T]:
        place = places[name]
        count = int(np.prod(place["shape"]))
        flat = np.frombuffer(data, dtype=place["dtype"], count=count, offset=base + place["offset"])
        return flat.reshape(place["shape"]).astype(kind, copy=False)

    where = places["records"]
    first = base + where["offset"]
    records = Records(memoryview(data)[first : first + where["length"]], array("ends", np.int64))
    row_of = array("row_of", np.int32)
    lexical = Lexical(
        vocabulary={term: number for number, term in enumerate(header["vocabulary"])},
        starts=array("starts", np.int32),
        documents=array("documents", np.int32),
        weights=array("weights", np.float32),
        idf=array("idf", np.float32),
        rows=array("rows", np.uint8),
        row_of=np.full_like(row_of, -1) if exact else row_of,
        level=header["level"],
        bag_starts=array("bag_starts", np.int64),
        bag_terms=array("bag_terms", np.int32),
        bag_weights=array("bag_weights", np.float32),
        size=len(records),
    )
    columns = {name: Column(header["labels"][name], array(f"label/{name}", np.uint32)) for name in LABEL_FIELDS}
    index = Index(
        records,
        array("vectors", np.float32),
        lexical,
        columns=columns,
        offered=array("offered", np.bool_),
        cells=array("cells", np.uint16)[: 0 if exact else None],
        axes=array("axes", np.float32),
        outlines=array("outlines", np.float32)[: 0 if exact else None],
    )
    return Snapshot(header["version"], embedder, index)
