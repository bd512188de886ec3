"""Cells of a large catalog: records by the nearest of a few landmark records, so that a search looks near the query first.

The landmarks are the first records by workflow id. Ids are hashes, so that is a fair sample, a function of the catalog's
content alone, and hardly ever another one after a registration: cells of records that were there before stay what they were.
A catalog below ``MIN_RECORDS`` has no cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from catalog.embed import Vectors

MIN_RECORDS = 8192
MAX_LANDMARKS = 1024
CHUNK = 8192

CellNumbers = npt.NDArray[np.uint16]


def landmarks(records: int) -> int:
    """Return how many landmarks a catalog of so many records has: a power of two, at least the root; 0 for a small one."""
    if records < MIN_RECORDS:
        return 0
    return min(MAX_LANDMARKS, 1 << int(np.ceil(np.log2(np.sqrt(records)))))


def assign(vectors: Vectors, marks: Vectors) -> CellNumbers:
    """Return the cell of each vector: its most similar landmark, the first of equals."""
    cells = np.empty(len(vectors), dtype=np.uint16)
    for start in range(0, len(vectors), CHUNK):
        cells[start : start + CHUNK] = np.argmax(vectors[start : start + CHUNK] @ marks.T, axis=1)
    return cells


class Cells:
    """``cells[i]`` is the cell of record ``i``; landmark ``c`` is record ``c``. Immutable."""

    def __init__(self, vectors: Vectors, cells: CellNumbers) -> None:
        count = landmarks(len(cells))
        self._marks = vectors[:count]
        self._members = np.argsort(cells, kind="stable")
        self._ends = np.cumsum(np.bincount(cells, minlength=count))
        self._starts = self._ends - np.bincount(cells, minlength=count)

    def near(
        self, query: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], left: int, wanted: int
    ) -> npt.NDArray[np.int64]:
        """Return at least ``wanted`` of the ``left`` admitted records (all, if there are not so many), near cells first."""
        order = np.argsort(-(self._marks @ query), kind="stable")
        held = np.cumsum((self._ends - self._starts)[order])
        reach = wanted * len(mask) / left
        while True:
            cells = order[: 1 + int(np.searchsorted(held, reach))]
            members = np.concatenate([self._members[self._starts[c] : self._ends[c]] for c in cells.tolist()])
            admitted = members[mask[members]]
            if len(admitted) >= min(wanted, left) or len(cells) == len(order):
                return np.sort(admitted)
            reach *= 1.5
