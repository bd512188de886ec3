"""BM25 over fielded workflow texts, as flat arrays: immutable, quick to load, scored one posting list a term.

A document is a bag of weighted term counts (the action and the summary count double). Scores are given as the share of
what a document holding every known query term often would get, so that they mean the same for short and long queries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

K1 = 1.2
B = 0.5
COMMON_SHARE, COMMON_FROM = 32, 4096
"""In a catalog of ``COMMON_FROM`` records, a term that one in ``COMMON_SHARE`` has is kept as a row of rough weights too, a byte
a document: adding a row takes a fraction of the time of going through the list."""
LEVELS, AT_ONCE = 63, 4
"""A rough weight is so many levels at most, so that ``AT_ONCE`` rows can be added up as bytes."""
SEVENTHS = 7
"""Weights of a query's terms are taken in sevenths where they are estimated: 1, 10/7, 12/7, 2."""
ROWS = 0xFFFF // (2 * SEVENTHS * LEVELS)
"""So many can be added up in sixteen bits."""
MAX_QUERY_WEIGHT = 2.0
"""A term repeated in the query counts by the root of its number, up to this."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query's known terms with their weights, in alphabetical order, and what all of them often would get."""

    known: tuple[tuple[int, float], ...]
    most: float


@dataclass(frozen=True, slots=True)
class Lexical:
    """Postings of term ``t`` are ``documents[starts[t]:starts[t + 1]]`` with their finished ``weights``; ``idf`` by term.

    The weights of a common term are also, in multiples of ``level``, ``rows[row_of[t]]``; of the others ``row_of`` is -1.
    Document ``d`` has the terms ``bag_terms[bag_starts[d]:bag_starts[d + 1]]``, rising, with ``bag_weights``: the same
    once more, for when few documents are asked about.
    """

    vocabulary: Mapping[str, int]
    starts: Ints
    documents: Ints
    weights: Floats
    idf: Floats
    rows: npt.NDArray[np.uint8]
    row_of: Ints
    level: float
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
        rough = np.flatnonzero(row >= 0)
        level = float(weights[rough].max()) / LEVELS if len(rough) else 1.0
        rows = np.zeros((len(common), size), dtype=np.uint8)
        rows[row[rough], documents[rough]] = np.round(weights[rough] / np.float32(level))
        by_term = _stable_order(renumbered)
        return cls(
            vocabulary={term: number for number, term in enumerate(order)},
            starts=np.concatenate(([0], np.cumsum(frequencies))).astype(np.int32),
            documents=documents[by_term],
            weights=weights[by_term],
            idf=idf.astype(np.float32),
            rows=rows,
            row_of=row_of,
            level=level,
            bag_starts=np.concatenate(([0], np.cumsum(sizes))),
            bag_terms=renumbered,
            bag_weights=weights,
            size=size,
        )

    def scores(self, query: Sequence[str]) -> Floats:
        """Return each document's score in 0 to 1."""
        asked = self.asked(query)
        return _shares(self._listed(asked.known), asked)

    def estimates(self, asked: Asked) -> Floats:
        """Return about the scores, a common term to the nearest level: to choose by whom to score. Exact without rows."""
        listed: list[tuple[int, float]] = []
        rows: list[tuple[int, int]] = []
        for number, weight in asked.known:
            row = int(self.row_of[number])
            if row < 0:
                listed.append((number, weight))
            else:
                rows.append((round(weight * SEVENTHS), row))
        total = self._listed(listed)
        rows.sort()
        for first in range(0, len(rows), ROWS):
            total += np.float32(self.level / SEVENTHS) * self._added(rows[first : first + ROWS])
        return _shares(total, asked)

    def _listed(self, known: Sequence[tuple[int, float]]) -> Floats:
        total = np.zeros(self.size, dtype=np.float32)
        for number, weight in known:
            start, end = self.starts[number], self.starts[number + 1]
            weights = self.weights[start:end]
            if weight != 1:
                weights = np.float32(weight) * weights
            # No document is twice in a list; ``add.at`` is only the quicker way to say so.
            np.add.at(total, self.documents[start:end], weights)
        return total

    def _added(self, rows: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint16]:
        """Add up rows, each as often as stands before it; those of one number are neighbours."""
        total = np.zeros(self.size, dtype=np.uint16)
        for times, alike in groupby(rows, key=itemgetter(0)):
            part = np.zeros(self.size, dtype=np.uint16)
            places = [row for _, row in alike]
            for few in (places[first : first + AT_ONCE] for first in range(0, len(places), AT_ONCE)):
                part += reduce(np.add, [self.rows[row] for row in few])
            part *= np.uint16(times)
            total += part
        return total

    def scores_of(self, asked: Asked, documents: npt.NDArray[np.int64]) -> Floats:
        """Return ``scores(query)[documents]``, to the last bit, by looking at the bags of these documents only."""
        wanted = np.zeros(len(self.vocabulary), dtype=np.float32)
        for number, weight in asked.known:
            wanted[number] = weight
        starts = self.bag_starts[documents]
        sizes = self.bag_starts[documents + 1] - starts
        ends = np.cumsum(sizes)
        places = np.repeat(starts - (ends - sizes), sizes)
        places += np.arange(len(places))
        weights = wanted[self.bag_terms[places]]
        shared = np.flatnonzero(weights > 0)
        total = np.zeros(len(documents), dtype=np.float32)
        owners = np.searchsorted(ends, shared, side="right")
        np.add.at(total, owners, weights[shared] * self.bag_weights[places[shared]])
        return _shares(total, asked)

    def asked(self, query: Sequence[str]) -> Asked:
        """Look up the terms of a query."""
        known = tuple(
            (number, min(MAX_QUERY_WEIGHT, math.sqrt(count)))
            for term, count in sorted(Counter(query).items())
            if (number := self.vocabulary.get(term)) is not None
        )
        return Asked(known, sum(weight * float(self.idf[number]) * (K1 + 1) for number, weight in known))


def _shares(total: Floats, asked: Asked) -> Floats:
    if asked.most:
        total /= np.float32(asked.most)
    return total


def best(scores: Floats, count: int, *, floor: float = 0.0) -> npt.NDArray[np.int64]:
    """Return the positions of the ``count`` best scores above 0, rising; of equals the first.

    ``floor`` is a score that ``count`` of them are known to reach; a good one saves most of the work.
    """
    hopeful = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores > 0)
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
    first = np.ones(len(both), dtype=np.bool_)
    np.not_equal(both[1:], both[:-1], out=first[1:])
    return both[first]


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
