"""The immutable search index of one catalog version: vectors in FAISS, postings, and the records they stand for.

Filter first, then search only what the filter left: an exact inner-product scan under an ``IDSelectorBitmap`` keeps full
recall however narrow the filter is. The label verdicts come from ``catalog.match``; the index groups records that carry
the same label and asks once a group, so a filter costs a few comparisons and not one a record.

Never changed after it was made; a new catalog version is a new index, swapped in whole. FAISS runs one thread a query, so
that many queries at a time do not fight for cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import orjson

from catalog import match
from catalog.embed import Vectors
from catalog.lexical import Floats, Lexical
from kubernaut_ray.contracts.catalog import SearchFilters, Workflow, WorkflowLabels
from kubernaut_ray.crds.enums import WorkflowStatus

Mask = npt.NDArray[np.bool_]

_faiss: Any = faiss
"""Untyped: its annotations are those of the C++ side, not of the Python constructors."""


class _Groups:
    """Records grouped by one of their labels; verdicts are asked once a group and fact, and remembered."""

    def __init__(self, values: Sequence[Any], judge: Callable[[Any, Any], match.Verdict]) -> None:
        keys = [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self._members = np.asarray([numbers[key] for key in keys], dtype=np.int32)
        distinct = [orjson.loads(key) for key in numbers]

        @lru_cache(maxsize=256)
        def judged(fact: bytes) -> tuple[Mask, Floats]:
            verdicts = [judge(value, orjson.loads(fact)) for value in distinct]
            admitted = np.asarray([v.admitted for v in verdicts], dtype=np.bool_)
            return admitted[self._members], np.asarray([v.strength for v in verdicts], dtype=np.float32)[self._members]

        self._judged = judged

    def judge(self, fact: Any) -> tuple[Mask, Floats]:
        """Return who admits this fact, and how strongly. The arrays are shared: do not write to them."""
        return self._judged(orjson.dumps(fact, option=orjson.OPT_SORT_KEYS))


class Index:
    """``records[i]`` has ``vectors[i]`` and is document ``i`` of ``lexical``. ``records`` are sorted by workflow id."""

    def __init__(self, records: Sequence[Workflow], vectors: Vectors, lexical: Lexical) -> None:
        _faiss.omp_set_num_threads(1)
        self.records = tuple(records)
        self.lexical = lexical
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._flat = _faiss.IndexFlatIP(self._vectors.shape[1])
        self._flat.add(self._vectors)
        labels = [record.labels for record in self.records]
        self._labels = {
            field: _Groups([_get(la, field) for la in labels], _label_judge(field)) for field in match.LABELS
        }
        self._detected = _Groups([la.detected for la in labels], match.detected)
        self._penalty = _Groups([la.detected for la in labels], lambda w, f: match.Verdict(match.penalty(w, f)))
        self._custom = _Groups([la.custom for la in labels], match.custom)
        self._offered = np.asarray(
            [r.status is WorkflowStatus.ACTIVE and r.is_latest_version for r in self.records], dtype=np.bool_
        )

    @property
    def dimension(self) -> int:
        return int(self._vectors.shape[1])

    def __len__(self) -> int:
        return len(self.records)

    def admitted(self, filters: SearchFilters, *, include_disabled: bool) -> Mask:
        """Return which records the facts leave."""
        mask = np.ones(len(self), dtype=np.bool_) if include_disabled else self._offered.copy()
        for field, groups in self._labels.items():
            if fact := getattr(filters, field):
                mask &= groups.judge(fact)[0]
        if filters.detected_labels:
            mask &= self._detected.judge(filters.detected_labels)[0]
        if filters.custom_labels:
            mask &= self._custom.judge(filters.custom_labels)[0]
        return mask

    def label_strength(self, filters: SearchFilters) -> Floats:
        """Return 0 to 1 a record: how exactly its mandatory labels speak of the known facts."""
        known = [
            (groups, fact) for f, groups in self._labels.items() if match.canonical(f, fact := getattr(filters, f))
        ]
        if not known:
            return np.zeros(len(self), dtype=np.float32)
        total: Floats = np.sum([groups.judge(fact)[1] for groups, fact in known], axis=0, dtype=np.float32)
        return total / np.float32(len(known))

    def detected_strength(self, filters: SearchFilters) -> Floats:
        return self._detected.judge(filters.detected_labels)[1]

    def custom_strength(self, filters: SearchFilters) -> Floats:
        return self._custom.judge(filters.custom_labels)[1]

    def penalties(self, filters: SearchFilters) -> Floats:
        return self._penalty.judge(filters.detected_labels)[1]

    def nearest(self, query: Floats, mask: Mask, count: int) -> npt.NDArray[np.int64]:
        """Return the positions of the ``count`` admitted records nearest to the query, exactly."""
        wanted = min(count, int(mask.sum()))
        if not wanted:
            return np.zeros(0, dtype=np.int64)
        bitmap = np.packbits(mask, bitorder="little")
        selector = _faiss.IDSelectorBitmap(bitmap)
        _, found = self._flat.search(query[None, :], wanted, params=_faiss.SearchParameters(sel=selector))
        positions: npt.NDArray[np.int64] = found[0]
        return positions[positions >= 0]

    def similarity(self, query: Floats, positions: npt.NDArray[np.int64]) -> Floats:
        """Return the cosine of the query with each of these records, 0 where it is negative."""
        cosine: Floats = np.clip(self._vectors[positions] @ query, 0.0, 1.0)
        return cosine


def _label_judge(field: str) -> Callable[[Any, Any], match.Verdict]:
    return lambda wanted, fact: match.label(field, wanted, fact)


def _get(labels: WorkflowLabels, field: str) -> Any:
    return getattr(labels, field)
