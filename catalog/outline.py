"""Outlines of a large catalog's vectors: a few numbers each, by which a search picks whom it compares in full.

An outline is a vector seen along the directions in which the landmarks (``catalog.cells``) differ most. Texts of one trade
differ in few directions, so that an eighth of the numbers tells nearly all; where it does not, there are no outlines and
every candidate is compared in full. What they leave is compared in full always: no score is made from an outline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from catalog.embed import Vectors

KEPT = 0.95
"""What outlines must keep of the landmarks' squared lengths."""
STEP = 16
SHORTLIST = 256
"""So many, or two and a half times as many as are wanted if that is more, are compared in full."""
WORTHWHILE = 1024
"""Fewer candidates are compared in full without a look at their outlines."""


def directions(marks: Vectors) -> Vectors:
    """Return the directions, a column each, without any where more than half as many as the dimension were needed."""
    dimension = marks.shape[1]
    if not len(marks):
        return np.zeros((dimension, 0), dtype=np.float32)
    doubles = marks.astype(np.float64)
    energies, axes = np.linalg.eigh(doubles.T @ doubles)
    kept = np.cumsum(energies[::-1])
    needed = 1 + int(np.searchsorted(kept, KEPT * kept[-1]))
    needed += -needed % STEP
    if 2 * needed > dimension:
        needed = 0
    return np.ascontiguousarray(axes[:, ::-1][:, :needed], dtype=np.float32)


class Outlines:
    """``rows[i]`` is the outline of record ``i`` along ``axes``. Immutable."""

    def __init__(self, axes: Vectors, rows: Vectors) -> None:
        self._axes, self._rows = axes, rows

    def likely(self, query: npt.NDArray[np.float32], among: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Return those of these records that the ``count`` nearest are among, as far as outlines tell; rising if ``among`` is."""
        shortlist = max(SHORTLIST, 5 * count // 2)
        if len(among) <= max(WORTHWHILE, shortlist):
            return among
        similar = self._rows.take(among, axis=0) @ (query @ self._axes)
        edge = np.partition(similar, len(similar) - shortlist)[len(similar) - shortlist]
        likely: npt.NDArray[np.int64] = among[similar >= edge]
        return likely
