"""BM25 over fielded workflow texts, as flat arrays: immutable, quick to load, scored one posting list a term.

A document is a bag of weighted term counts (the action and the summary count double). Scores are given as the share of
what a document holding every known query term often would get, so that they mean the same for short and long queries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

K1 = 1.2
B = 0.5
COMMON_SHARE, COMMON_FROM = 8, 4096
"""In a catalog of ``COMMON_FROM`` records, a term that one in ``COMMON_SHARE`` has is kept as a row of weights, not as a list:
adding a row takes a fraction of the time, and not much more memory."""
MAX_QUERY_WEIGHT = 2.0
"""A term repeated in the query counts by the root of its number, up to this."""


@dataclass(frozen=True, slots=True)
class Lexical:
    """Postings of term ``t`` are ``documents[starts[t]:starts[t + 1]]`` with their finished ``weights``; ``idf`` by term.

    A common term has no list: its weights, one a document, are ``rows[row_of[t]]``; of the others ``row_of`` is -1.
    Document ``d`` has the terms ``bag_terms[bag_starts[d]:bag_starts[d + 1]]``, rising, with ``bag_weights``: the same
    once more, for when few documents are asked about.
    """

    vocabulary: Mapping[str, int]
    starts: Ints
    documents: Ints
    weights: Floats
    idf: Floats
    rows: Floats
    row_of: Ints
    bag_starts: npt.NDArray[np.int64]
    bag_terms: Ints
    bag_weights: Floats
    size: int

    @classmethod
    def build(cls, bags: Sequence[Mapping[str, float]]) -> Lexical:
        known = {term: number for number, term in enumerate(sorted(set(chain.from_iterable(bags))))}
        sorted_bags = [sorted(bag.items()) for bag in bags]
        return cls.of(
            known,
            sizes=np.asarray([len(bag) for bag in bags], dtype=np.int64),
            terms=np.asarray([known[term] for bag in sorted_bags for term, _ in bag], dtype=np.int32),
            counts=np.asarray([count for bag in sorted_bags for _, count in bag], dtype=np.float32),
        )

    @classmethod
    def of(cls, vocabulary: Mapping[str, int], *, sizes: npt.NDArray[np.int64], terms: Ints, counts: Floats) -> Lexical:
        """Build from bags laid end to end: document ``d`` has ``sizes[d]`` terms, by their numbers in ``vocabulary``.

        A document's terms are in alphabetical order. Numbers may be in any order and may be unused; the result's are those
        of the used terms in alphabetical order.
        """
        used = np.bincount(terms, minlength=len(vocabulary))
        order = sorted(term for term, number in vocabulary.items() if used[number])
        numbers = np.zeros(len(vocabulary), dtype=np.int32)
        old = np.asarray([vocabulary[term] for term in order], dtype=np.int64)
        numbers[old] = np.arange(len(order), dtype=np.int32)
        frequencies = used[old]

        size = len(sizes)
        documents = np.repeat(np.arange(size, dtype=np.int32), sizes)
        doubles = counts.astype(np.float64)
        lengths = np.bincount(documents, weights=doubles, minlength=size)
        mean = float(lengths.sum()) / size if size else 1.0
        damp = K1 * (1 - B + B * lengths / (mean or 1.0))
        idf = np.asarray([math.log(1 + (size - n + 0.5) / (n + 0.5)) for n in frequencies.tolist()], dtype=np.float64)
        renumbered = numbers[terms]
        weights = (doubles * (K1 + 1) / (doubles + damp[documents]) * idf[renumbered]).astype(np.float32)
        common = (
            np.flatnonzero(frequencies * COMMON_SHARE > size) if size >= COMMON_FROM else np.zeros(0, dtype=np.int64)
        )
        row_of = np.full(len(order), -1, dtype=np.int32)
        row_of[common] = np.arange(len(common), dtype=np.int32)
        row = row_of[renumbered]
        rows = np.zeros((len(common), size), dtype=np.float32)
        rows[row[row >= 0], documents[row >= 0]] = weights[row >= 0]
        listed = np.flatnonzero(row < 0)
        by_term = listed[_stable_order(renumbered[listed])]
        lengths_of_lists = np.where(row_of < 0, frequencies, 0)
        return cls(
            vocabulary={term: number for number, term in enumerate(order)},
            starts=np.concatenate(([0], np.cumsum(lengths_of_lists))).astype(np.int32),
            documents=documents[by_term],
            weights=weights[by_term],
            idf=idf.astype(np.float32),
            rows=rows,
            row_of=row_of,
            bag_starts=np.concatenate(([0], np.cumsum(sizes))),
            bag_terms=renumbered,
            bag_weights=weights,
            size=size,
        )

    def scores(self, query: Sequence[str]) -> Floats:
        """Return each document's score in 0 to 1."""
        known, most = self._known(query)
        total = np.zeros(self.size, dtype=np.float32)
        for number, weight in known:
            row = self.row_of[number]
            start, end = self.starts[number], self.starts[number + 1]
            weights = self.rows[row] if row >= 0 else self.weights[start:end]
            if weight != 1:
                weights = np.float32(weight) * weights
            if row >= 0:
                total += weights
            else:
                # No document is twice in a list; ``add.at`` is only the quicker way to say so.
                np.add.at(total, self.documents[start:end], weights)
        if most:
            total /= np.float32(most)
        return total

    def scores_of(self, query: Sequence[str], documents: npt.NDArray[np.int64]) -> Floats:
        """Return ``scores(query)[documents]``, to the last bit, by looking at the bags of these documents only."""
        known, most = self._known(query)
        asked = np.zeros(len(self.vocabulary), dtype=np.float32)
        for number, weight in known:
            asked[number] = weight
        starts = self.bag_starts[documents]
        sizes = self.bag_starts[documents + 1] - starts
        ends = np.cumsum(sizes)
        places = np.repeat(starts - (ends - sizes), sizes)
        places += np.arange(len(places))
        weights = asked[self.bag_terms[places]]
        shared = np.flatnonzero(weights)
        total = np.zeros(len(documents), dtype=np.float32)
        owners = np.searchsorted(ends, shared, side="right")
        np.add.at(total, owners, weights[shared] * self.bag_weights[places[shared]])
        if most:
            total /= np.float32(most)
        return total

    def _known(self, query: Sequence[str]) -> tuple[list[tuple[int, float]], float]:
        """Return the known terms of a query with their weights, in alphabetical order, and what all of them often would get."""
        known = [
            (number, min(MAX_QUERY_WEIGHT, math.sqrt(count)))
            for term, count in sorted(Counter(query).items())
            if (number := self.vocabulary.get(term)) is not None
        ]
        return known, sum(weight * float(self.idf[number]) * (K1 + 1) for number, weight in known)


def best(scores: Floats, count: int, *, floor: float = 0.0) -> npt.NDArray[np.int64]:
    """Return the positions of the ``count`` best scores above 0, rising; of equals the first.

    ``floor`` is a score that ``count`` of them are known to reach; a good one saves most of the work.
    """
    hopeful = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores)
    if len(hopeful) <= count:
        return hopeful
    among = scores[hopeful]
    edge = np.partition(among, len(among) - count)[len(among) - count]
    above = hopeful[among > edge]
    level = hopeful[among == edge][: count - len(above)]
    return merged(above, level)


def merged(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions that are in either, rising, each once."""
    both = np.sort(np.concatenate((one, other)))
    return both[np.diff(both, prepend=-1) > 0]


def bag(*fields: tuple[Sequence[str], float]) -> dict[str, float]:
    """Count the terms of several fields, each with its weight."""
    counts: Counter[str] = Counter()
    for term, weight in chain.from_iterable(((t, w) for t in terms) for terms, w in fields):
        counts[term] += weight  # type: ignore[assignment]
    return dict(counts)


def _stable_order(keys: Ints) -> npt.NDArray[np.int64]:
    """Return ``argsort(keys, kind="stable")``, by NumPy's radix sort, which it has for 16 bits only."""
    low = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    if not len(keys) or keys.max() <= 0xFFFF:
        return low
    high = np.argsort((keys[low] >> 16).astype(np.uint16), kind="stable")
    return low[high]
