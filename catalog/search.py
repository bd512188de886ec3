"""Search: facts of the incident rule workflows out, then relevance and label precision order the rest.

``score`` is a weighted sum whose parts are in ``score_breakdown`` (each already weighted, so that they add up to it, the
penalty subtracted). Weights are fixed: relevance is meaning and words in equal shares; labels, having filtered already,
only refine. The order is by score, then by workflow id, so the same question to the same catalog version has one answer.
A score is a relevance; it is never a confidence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from catalog import explain, match
from catalog.embed import Embedder
from catalog.hits import Hit
from catalog.index import Index, Mask, Positions
from catalog.lexical import Floats, bag, best, merged
from catalog.text import terms
from kubernaut_ray.contracts.catalog import (
    ANY,
    SearchExclusion,
    SearchFilters,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Workflow,
    WorkflowExplanation,
)
from kubernaut_ray.errors import KubernautError

SEMANTIC, LEXICAL, LABELS, DETECTED, CUSTOM = 0.40, 0.40, 0.10, 0.05, 0.05
PENALTY = 0.10
POOL = 100
"""How many of the nearest by meaning, and how many by words, are scored in full."""
FEW = 256
"""When one record in so many is left, or fewer, words are looked up in the records and not in the postings."""
DIGITS = 6
"""Scores are rounded here before ordering: a last bit that differs by machine must not decide."""
EXPLAINED = 200
"""At most this many exclusions are listed."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that refers to the records of its index; rendered from their JSON, or read as models."""

    index: Index
    hits: tuple[Hit, ...]
    total_matched: int
    snapshot_version: int
    embedder: str
    degraded: str
    took_ms: float
    excluded: tuple[SearchExclusion, ...]
    explanation: WorkflowExplanation | None

    def to_json(self) -> bytes:
        """Render a ``SearchResponse``, unset fields left out."""
        records = self.index.records
        told = {"explanation": self.explanation.to_json()} if self.explanation is not None else {}
        return orjson.dumps(
            {
                "hits": [
                    {
                        "rank": rank,
                        "score": hit.score,
                        "score_breakdown": hit.named_parts,
                        "workflow": orjson.Fragment(records.json(hit.position)),
                    }
                    for rank, hit in enumerate(self.hits, start=1)
                ],
                **self._rest(),
                "excluded": [exclusion.to_json() for exclusion in self.excluded],
                **told,
            }
        )

    def response(self) -> SearchResponse:
        hits = tuple(
            SearchHit(
                rank=rank,
                score=hit.score,
                score_breakdown=hit.breakdown,
                workflow=self.index.records[hit.position],
            )
            for rank, hit in enumerate(self.hits, start=1)
        )
        return SearchResponse(hits=hits, excluded=self.excluded, explanation=self.explanation, **self._rest())

    def _rest(self) -> dict[str, Any]:
        return {
            "total_matched": self.total_matched,
            "snapshot_version": self.snapshot_version,
            "embedder": self.embedder,
            "degraded": self.degraded,
            "took_ms": self.took_ms,
        }


def document_text(workflow: Workflow) -> str:
    """Return what the embedder reads of a workflow: what it does and when; never its name, which means nothing."""
    description = workflow.description
    return f"{workflow.action_type} {_signals(workflow)}\n{description.what}\n{description.when_to_use}"


def document_terms(workflow: Workflow) -> dict[str, float]:
    """Return the weighted terms of a workflow for BM25: action and summary count double."""
    description = workflow.description
    names = f"{workflow.action_type} {_signals(workflow)}"
    return bag((terms(names), 2), (terms(description.what), 2), (terms(description.when_to_use), 1))


def _signals(workflow: Workflow) -> str:
    wanted = workflow.labels.signal_type
    return " ".join(value for value in ((wanted,) if isinstance(wanted, str) else wanted) if value != ANY)


def search(index: Index, embedder: Embedder, request: SearchRequest, *, version: int) -> Found:
    """Answer a search on one index. CPU only, safe from several threads at a time."""
    started = time.perf_counter()
    mask = index.admitted(request.filters, include_disabled=request.include_disabled)
    query, degraded = _understood(index, embedder, request.query)
    said = index.lexical.asked(terms(request.query))
    left = int(np.count_nonzero(mask))
    pool = max(POOL, 2 * request.top_k)
    near = index.nearest(query, mask, pool)
    if left * FEW <= len(index):
        among = np.flatnonzero(mask)
        few = index.lexical.scores_of(said, among)
        candidates = merged(near, among[best(few, pool)])
        lexical = few[np.searchsorted(among, candidates)]
    else:
        every = index.lexical.estimates(said)
        # The nearest are as many as are wanted here: the best by words are at least as good as the worst of them.
        floor = float(every[near].min()) if len(near) >= pool else 0.0
        every *= mask
        candidates = merged(near, best(every, pool, floor=floor))
        lexical = index.lexical.scores_of(said, candidates)
    order = partial(_ordered, index, request.filters, query, words_only=bool(degraded))
    ranking = order(lexical, candidates)
    hits = ranking.hits(request.top_k, request.min_score)
    explanation = None
    if request.explain_workflow:

        def score_of(position: int) -> Hit:
            alone = np.asarray([position])
            return order(index.lexical.scores_of(said, alone), alone).hits(1)[0]

        explanation = explain.workflow(index, request, ranking.hits(len(candidates)), score_of)
    return Found(
        index=index,
        hits=hits,
        total_matched=left,
        snapshot_version=version,
        embedder=embedder.fingerprint,
        degraded=degraded,
        took_ms=round((time.perf_counter() - started) * 1000, 3),
        excluded=tuple(_exclusions(index, request, mask, hits)) if request.explain else (),
        explanation=explanation,
    )


def _understood(index: Index, embedder: Embedder, query: str) -> tuple[Floats, str]:
    """Return the query's vector; or zeros and why, when it cannot be embedded now: an incident does not wait for a model."""
    try:
        return embedder.embed([query])[0], ""
    except KubernautError as error:
        return np.zeros(index.dimension, dtype=np.float32), f"ordered by words and labels only: {error}"


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Scores, best first, of the records at ``positions``; row ``i`` of ``parts`` belongs to the ``i``-th."""

    scores: npt.NDArray[np.float64]
    positions: Positions
    parts: npt.NDArray[np.float64]

    def hits(self, count: int, min_score: float = 0.0) -> tuple[Hit, ...]:
        count = min(count, int(np.count_nonzero(self.scores >= min_score)))
        first = (self.scores[:count].tolist(), self.positions[:count].tolist(), self.parts[:count].tolist())
        return tuple(Hit(score, position, tuple(parts)) for score, position, parts in zip(*first, strict=True))


def _ordered(
    index: Index, filters: SearchFilters, query: Floats, lexical: Floats, positions: Positions, *, words_only: bool
) -> _Ranking:
    """Score candidates, ``lexical[i]`` being that of ``positions[i]``. Records are sorted by id, so a position is the tiebreak."""
    parts = np.stack(
        (
            SEMANTIC * index.similarity(query, positions),
            # Words have the weight of both then, so that scores and a min_score mean what they meant.
            (SEMANTIC + LEXICAL if words_only else LEXICAL) * lexical,
            LABELS * index.label_strength(filters, positions),
            DETECTED * index.detected_strength(filters, positions),
            CUSTOM * index.custom_strength(filters, positions),
            PENALTY * index.penalties(filters, positions),
        )
    )
    # In double precision, where a part times a million is exact, this rounds as ``round`` does.
    rounded = np.asarray(np.round(parts.astype(np.float64), DIGITS), dtype=np.float64)
    semantic, words, labels, detected, custom, penalty = rounded
    total: npt.NDArray[np.float64] = np.round(
        np.clip(semantic + words + labels + detected + custom - penalty, 0.0, 1.0), DIGITS
    )
    order = np.lexsort((positions, -total))
    return _Ranking(total[order], positions[order], rounded[:, order].T)


def _exclusions(index: Index, request: SearchRequest, mask: Mask, hits: Sequence[Hit]) -> Iterator[SearchExclusion]:
    """Say why each workflow that is not in the answer is not: its status, a label, or its place in the order."""
    answered = {hit.position for hit in hits}
    left = (n for n in range(len(index)) if n not in answered)
    for _, number in zip(range(EXPLAINED), left, strict=False):
        record = index.records[number]
        reason = "admitted by its labels, but scored below the workflows in the answer"
        if not mask[number]:
            reason = match.refusal(record.labels, request.filters) or explain.status(
                record, index.records.latest(record.workflow_name)
            )
        yield SearchExclusion(workflow_id=record.workflow_id, workflow_name=record.workflow_name, reason=reason)
