"""The immutable search index of one catalog version: vectors, postings, label columns, and the records they stand for.

Filter first, then search only what the filter left. What is left of most questions is small and is scanned exactly, so that
recall is full however narrow the filter is. What is left of a large catalog by a wide filter is scanned cell by cell
(``catalog.cells``), the nearest cells first, until enough was looked at; of many candidates in a large catalog those are
compared that their outlines (``catalog.outline``) speak for. The label verdicts come from ``catalog.match``;
records that carry the same label are asked for once.

Never changed after it was made; a new catalog version is a new index, swapped in whole. FAISS runs one thread a query, so
that many queries at a time do not fight for cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import orjson

from catalog import match
from catalog.cells import Cells
from catalog.embed import Vectors
from catalog.lexical import Floats, Lexical
from catalog.outline import Outlines
from catalog.packed import Column, Records
from kubernaut_ray.contracts.catalog import SearchFilters

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

EXACT_UP_TO, REACH = 2048, 24
"""So many admitted records are all candidates, or one in ``REACH`` of the catalog if that is more; of more of them, at least as
many, cell by cell."""
REMEMBERED_MASKS = 64
"""A label and fact; each takes a byte a record."""

_faiss: Any = faiss
"""Untyped: its annotations are those of the C++ side, not of the Python constructors."""


class _Groups:
    """Records grouped by one of their labels; verdicts are asked once a group and fact, and remembered."""

    def __init__(self, column: Column, judge: Callable[[Any, Any], match.Verdict]) -> None:
        self._members = column.members

        @lru_cache(maxsize=256)
        def judged(fact: bytes) -> tuple[Mask, Floats]:
            verdicts = [judge(value, orjson.loads(fact)) for value in column.values]
            admitted = np.asarray([v.admitted for v in verdicts], dtype=np.bool_)
            return admitted, np.asarray([v.strength for v in verdicts], dtype=np.float32)

        @lru_cache(maxsize=REMEMBERED_MASKS)
        def masked(fact: bytes) -> Mask:
            return judged(fact)[0][self._members]

        self._judged, self._masked = judged, masked

    def mask(self, fact: Any) -> Mask:
        """Return who admits this fact. Shared: do not write to it."""
        return self._masked(_key(fact))

    def strength(self, fact: Any, positions: Positions) -> Floats:
        """Return how strongly these records admit it, 0 to 1."""
        strengths: Floats = self._judged(_key(fact))[1][self._members[positions]]
        return strengths


class Index:
    """``records[i]`` has ``vectors[i]`` and is document ``i`` of ``lexical``. ``records`` are sorted by workflow id."""

    def __init__(
        self,
        records: Records,
        vectors: Vectors,
        lexical: Lexical,
        *,
        columns: Mapping[str, Column],
        offered: Mask,
        cells: npt.NDArray[np.uint16],
        axes: Vectors,
        outlines: Vectors,
    ) -> None:
        """``cells`` says the cell of each record, ``outlines`` its outline along ``axes``; both empty where the catalog is small."""
        _faiss.omp_set_num_threads(1)
        self.records = records
        self.lexical = lexical
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._cells = Cells(self.vectors, cells) if len(cells) else None
        self._outlines = Outlines(axes, outlines) if outlines.size else None
        self._labels = {field: _Groups(columns[field], _label_judge(field)) for field in match.LABELS}
        self._detected = _Groups(columns["detected"], match.detected)
        self._penalty = _Groups(columns["detected"], lambda w, f: match.Verdict(match.penalty(w, f)))
        self._custom = _Groups(columns["custom"], match.custom)
        self._offered = offered

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.records)

    def admitted(self, filters: SearchFilters, *, include_disabled: bool) -> Mask:
        """Return which records the facts leave."""
        mask = np.ones(len(self), dtype=np.bool_) if include_disabled else self._offered.copy()
        for field, groups in self._labels.items():
            if fact := getattr(filters, field):
                mask &= groups.mask(fact)
        if filters.detected_labels:
            mask &= self._detected.mask(filters.detected_labels)
        if filters.custom_labels:
            mask &= self._custom.mask(filters.custom_labels)
        return mask

    def label_strength(self, filters: SearchFilters, positions: Positions) -> Floats:
        """Return 0 to 1 a record: how exactly its mandatory labels speak of the known facts."""
        known = [
            groups.strength(fact, positions)
            for field, groups in self._labels.items()
            if match.canonical(field, fact := getattr(filters, field))
        ]
        if not known:
            return np.zeros(len(positions), dtype=np.float32)
        total: Floats = np.sum(known, axis=0, dtype=np.float32)
        return total / np.float32(len(known))

    def detected_strength(self, filters: SearchFilters, positions: Positions) -> Floats:
        return self._detected.strength(filters.detected_labels, positions)

    def custom_strength(self, filters: SearchFilters, positions: Positions) -> Floats:
        return self._custom.strength(filters.custom_labels, positions)

    def penalties(self, filters: SearchFilters, positions: Positions) -> Floats:
        return self._penalty.strength(filters.detected_labels, positions)

    def nearest(self, query: Floats, mask: Mask, count: int) -> Positions:
        """Return the positions of the ``count`` admitted records nearest to the query, nearest first.

        Exact in a catalog without cells and outlines, and wherever few are admitted.
        """
        left = int(np.count_nonzero(mask))
        if not left:
            return np.zeros(0, dtype=np.int64)
        reach = max(EXACT_UP_TO, len(self) // REACH, count)
        if self._cells is None or left <= reach:
            among = np.flatnonzero(mask)
        else:
            among = self._cells.near(query, mask, left, reach)
        if self._outlines is not None:
            among = self._outlines.likely(query, among, count)
        return self._among(query, among, min(count, len(among)))

    def similarity(self, query: Floats, positions: Positions) -> Floats:
        """Return the cosine of the query with each of these records, 0 where it is negative."""
        cosine: Floats = np.clip(self.vectors[positions] @ query, 0.0, 1.0)
        return cosine

    def _among(self, query: Floats, positions: Positions, count: int) -> Positions:
        """Compare the query with exactly these records; FAISS reads the vectors where they lie."""
        query = np.ascontiguousarray(query, dtype=np.float32)
        similar = np.empty(count, dtype=np.float32)
        found = np.empty(count, dtype=np.int64)
        at = _faiss.swig_ptr
        rows, dimension = self.vectors.shape
        selector = _faiss.IDSelectorArray(len(positions), at(positions))
        _faiss.knn_inner_product(
            at(query), at(self.vectors), dimension, 1, rows, count, at(similar), at(found), selector
        )
        return found[found >= 0]


def _key(fact: Any) -> bytes:
    return orjson.dumps(fact, option=orjson.OPT_SORT_KEYS)


def _label_judge(field: str) -> Callable[[Any, Any], match.Verdict]:
    return lambda wanted, fact: match.label(field, wanted, fact)
