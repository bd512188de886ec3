"""Snapshots: one catalog version as bytes, published by the owner, loaded whole by every search replica.

The bytes are a JSON header (version, embedder, where each array lies), the arrays as they are in memory, and the records as
JSON. Loading copies no array and embeds nothing, needs neither DuckDB nor Arrow, and refuses what another embedder made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from catalog.embed import Embedder, Vectors
from catalog.index import Index
from catalog.lexical import Lexical
from catalog.search import document_terms, search
from kubernaut_ray.contracts.catalog import SearchRequest, SearchResponse, Workflow
from kubernaut_ray.errors import Permanent, Retryable

MAGIC = b"KRSNAP01"
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the catalog, ready to be searched. Immutable; safe to share between threads."""

    version: int
    embedder: Embedder
    index: Index

    def search(self, request: SearchRequest) -> SearchResponse:
        return search(self.index, self.embedder, request, version=self.version)


def pack(version: int, fingerprint: str, workflows: Sequence[Workflow], vectors: Vectors) -> bytes:
    """Render a snapshot; ``vectors[i]`` belongs to ``workflows[i]``. Schema texts stay behind: searches do not need them."""
    order = sorted(range(len(workflows)), key=lambda i: workflows[i].workflow_id)
    lexical = Lexical.build([document_terms(workflows[i]) for i in order])
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "vectors": np.ascontiguousarray(vectors[order], dtype=np.float32),
        "starts": lexical.starts,
        "documents": lexical.documents,
        "weights": lexical.weights,
        "idf": lexical.idf,
    }
    records = b"[" + b",".join(_record(workflows[i]) for i in order) + b"]"
    body = bytearray()
    places = {}
    for name, array in arrays.items():
        body += bytes(-len(body) % ALIGNMENT)
        places[name] = {"offset": len(body), "dtype": array.dtype.str, "shape": array.shape}
        body += array.tobytes()
    places["records"] = {"offset": len(body), "length": len(records)}
    body += records
    header = orjson.dumps(
        {
            "version": version,
            "embedder": fingerprint,
            "vocabulary": sorted(lexical.vocabulary, key=lexical.vocabulary.__getitem__),
            "places": places,
        }
    )
    start = len(MAGIC) + 8 + len(header)
    return MAGIC + len(header).to_bytes(8, "big") + header + bytes(-start % ALIGNMENT) + bytes(body)


def _record(workflow: Workflow) -> bytes:
    return workflow.model_copy(update={"content": ""}).model_dump_json().encode()


def load(data: bytes, embedder: Embedder) -> Snapshot:
    """Read a snapshot. Raises ``Permanent`` for bytes that are none, ``Retryable`` for what another embedder made."""
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

    def array(name: str) -> npt.NDArray[np.generic]:
        place = places[name]
        count = int(np.prod(place["shape"]))
        flat = np.frombuffer(data, dtype=place["dtype"], count=count, offset=base + place["offset"])
        return flat.reshape(place["shape"])

    where = places["records"]
    records = orjson.loads(data[base + where["offset"] : base + where["offset"] + where["length"]])
    lexical = Lexical(
        vocabulary={term: number for number, term in enumerate(header["vocabulary"])},
        starts=array("starts").astype(np.int32, copy=False),
        documents=array("documents").astype(np.int32, copy=False),
        weights=array("weights").astype(np.float32, copy=False),
        idf=array("idf").astype(np.float32, copy=False),
        size=len(records),
    )
    vectors = array("vectors").astype(np.float32, copy=False)
    return Snapshot(header["version"], embedder, Index([Workflow.model_validate(r) for r in records], vectors, lexical))
