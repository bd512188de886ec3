"""BM25 over fielded workflow texts, as three flat arrays: immutable, quick to load, scored one posting list a term.

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
MAX_QUERY_WEIGHT = 2.0
"""A term repeated in the query counts by the root of its number, up to this."""


@dataclass(frozen=True, slots=True)
class Lexical:
    """Postings of term ``t`` are ``documents[starts[t]:starts[t + 1]]`` with their finished ``weights``; ``idf`` by term."""

    vocabulary: Mapping[str, int]
    starts: Ints
    documents: Ints
    weights: Floats
    idf: Floats
    size: int

    @classmethod
    def build(cls, bags: Sequence[Mapping[str, float]]) -> Lexical:
        lengths = [sum(bag.values()) for bag in bags]
        mean = sum(lengths) / len(bags) if bags else 1.0
        postings: dict[str, list[tuple[int, float]]] = {}
        for number, (bag, length) in enumerate(zip(bags, lengths, strict=True)):
            damp = K1 * (1 - B + B * length / (mean or 1.0))
            for term, count in bag.items():
                postings.setdefault(term, []).append((number, count * (K1 + 1) / (count + damp)))
        order = sorted(postings)
        idf = [math.log(1 + (len(bags) - len(postings[t]) + 0.5) / (len(postings[t]) + 0.5)) for t in order]
        pairs = [(n, w * i) for t, i in zip(order, idf, strict=True) for n, w in postings[t]]
        return cls(
            vocabulary={term: number for number, term in enumerate(order)},
            starts=np.cumsum([0, *(len(postings[t]) for t in order)], dtype=np.int32),
            documents=np.asarray([n for n, _ in pairs], dtype=np.int32),
            weights=np.asarray([w for _, w in pairs], dtype=np.float32),
            idf=np.asarray(idf, dtype=np.float32),
            size=len(bags),
        )

    def scores(self, query: Sequence[str]) -> Floats:
        """Return each document's score in 0 to 1."""
        total = np.zeros(self.size, dtype=np.float32)
        best = 0.0
        for term, count in sorted(Counter(query).items()):
            number = self.vocabulary.get(term)
            if number is None:
                continue
            weight = min(MAX_QUERY_WEIGHT, math.sqrt(count))
            start, end = self.starts[number], self.starts[number + 1]
            total[self.documents[start:end]] += np.float32(weight) * self.weights[start:end]
            best += weight * float(self.idf[number]) * (K1 + 1)
        return total / np.float32(best) if best else total


def bag(*fields: tuple[Sequence[str], float]) -> dict[str, float]:
    """Count the terms of several fields, each with its weight."""
    counts: Counter[str] = Counter()
    for term, weight in chain.from_iterable(((t, w) for t in terms) for terms, w in fields):
        counts[term] += weight  # type: ignore[assignment]
    return dict(counts)
