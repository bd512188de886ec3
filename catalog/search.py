"""Search: facts of the incident rule workflows out, then relevance and label precision order the rest.

``score`` is a weighted sum whose parts are in ``score_breakdown`` (each already weighted, so that they add up to it, the
penalty subtracted). Weights are fixed: relevance is meaning and words in equal shares; labels, having filtered already,
only refine. The order is by score, then by workflow id, so the same question to the same catalog version has one answer.
A score is a relevance; it is never a confidence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from catalog import explain, match
from catalog.embed import Embedder
from catalog.index import Index, Mask
from catalog.lexical import Floats, bag
from catalog.text import terms
from kubernaut_ray.contracts.catalog import (
    ANY,
    ScoreBreakdown,
    SearchExclusion,
    SearchFilters,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Workflow,
)
from kubernaut_ray.errors import KubernautError

SEMANTIC, LEXICAL, LABELS, DETECTED, CUSTOM = 0.40, 0.40, 0.10, 0.05, 0.05
PENALTY = 0.10
POOL = 100
"""How many of the nearest by meaning, and how many by words, are scored in full."""
DIGITS = 6
"""Scores are rounded here before ordering: a last bit that differs by machine must not decide."""
EXPLAINED = 200
"""At most this many exclusions are listed."""


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


def search(index: Index, embedder: Embedder, request: SearchRequest, *, version: int) -> SearchResponse:
    """Answer a search on one index. CPU only, safe from several threads at a time."""
    started = time.perf_counter()
    filters = request.filters
    mask = index.admitted(filters, include_disabled=request.include_disabled)
    query, degraded = _understood(index, embedder, request.query)
    lexical = index.lexical.scores(terms(request.query))
    pool = max(POOL, 2 * request.top_k)
    candidates = np.union1d(index.nearest(query, mask, pool), _best(lexical, mask, pool))
    order = partial(_ordered, index, filters, query, lexical, words_only=bool(degraded))
    ranked = order(candidates)
    hits = [
        SearchHit(rank=rank, score=score, score_breakdown=parts, workflow=index.records[position])
        for rank, (score, position, parts) in enumerate(ranked, start=1)
        if score >= request.min_score
    ][: request.top_k]
    explanation = None
    if request.explain_workflow:
        explanation = explain.workflow(index, request, ranked, lambda position: order(np.array([position]))[0])
    return SearchResponse(
        hits=tuple(hits),
        total_matched=int(mask.sum()),
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


def _best(scores: Floats, mask: Mask, count: int) -> npt.NDArray[np.int64]:
    positions = np.flatnonzero(mask & (scores > 0))
    if len(positions) > count:
        positions = positions[np.argpartition(-scores[positions], count)[:count]]
    return positions


def _ordered(
    index: Index,
    filters: SearchFilters,
    query: Floats,
    lexical: Floats,
    positions: npt.NDArray[np.int64],
    *,
    words_only: bool,
) -> list[tuple[float, int, ScoreBreakdown]]:
    """Score candidates; best first. Records are sorted by id, so a position is the tiebreak."""
    parts = (
        SEMANTIC * index.similarity(query, positions),
        # Words have the weight of both then, so that scores and a min_score mean what they meant.
        (SEMANTIC + LEXICAL if words_only else LEXICAL) * lexical[positions],
        LABELS * index.label_strength(filters)[positions],
        DETECTED * index.detected_strength(filters)[positions],
        CUSTOM * index.custom_strength(filters)[positions],
        PENALTY * index.penalties(filters)[positions],
    )
    scored = []
    for position, *values in zip(positions.tolist(), *(part.tolist() for part in parts), strict=True):
        semantic, words, labels, detected, custom, penalty = (round(value, DIGITS) for value in values)
        score = round(min(1.0, max(0.0, semantic + words + labels + detected + custom - penalty)), DIGITS)
        breakdown = ScoreBreakdown(
            semantic=semantic, lexical=words, labels=labels, detected=detected, custom=custom, penalty=penalty
        )
        scored.append((score, position, breakdown))
    return sorted(scored, key=lambda item: (-item[0], item[1]))


def _exclusions(index: Index, request: SearchRequest, mask: Mask, hits: list[SearchHit]) -> Iterator[SearchExclusion]:
    """Say why each workflow that is not in the answer is not: its status, a label, or its place in the order."""
    answered = {hit.workflow.workflow_id for hit in hits}
    latest = {record.workflow_name: record for record in index.records if record.is_latest_version}
    left = (n for n, record in enumerate(index.records) if record.workflow_id not in answered)
    for _, number in zip(range(EXPLAINED), left, strict=False):
        record = index.records[number]
        reason = "admitted by its labels, but scored below the workflows in the answer"
        if not mask[number]:
            reason = match.refusal(record.labels, request.filters) or explain.status(
                record, latest.get(record.workflow_name)
            )
        yield SearchExclusion(workflow_id=record.workflow_id, workflow_name=record.workflow_name, reason=reason)
