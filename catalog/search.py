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
from typing import Any

import numpy as np
import orjson

from catalog import match
from catalog.embed import Embedder
from catalog.index import Index, Mask, Positions
from catalog.lexical import Floats, bag, best, merged
from catalog.text import terms
from kubernaut_ray.contracts.catalog import (
    ANY,
    ScoreBreakdown,
    SearchExclusion,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Workflow,
)
from kubernaut_ray.crds.enums import WorkflowStatus

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


PARTS = tuple(ScoreBreakdown.model_fields)


@dataclass(frozen=True, slots=True)
class Hit:
    """``parts`` of the score are in the order of ``PARTS``; ``position`` is the record's in the index."""

    score: float
    position: int
    parts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that refers to the records of its index; rendered from their JSON, or read as models."""

    index: Index
    hits: tuple[Hit, ...]
    total_matched: int
    snapshot_version: int
    embedder: str
    took_ms: float
    excluded: tuple[SearchExclusion, ...]

    def to_json(self) -> bytes:
        """Render a ``SearchResponse``, unset fields left out."""
        records = self.index.records
        return orjson.dumps(
            {
                "hits": [
                    {
                        "rank": rank,
                        "score": hit.score,
                        "score_breakdown": dict(zip(PARTS, hit.parts, strict=True)),
                        "workflow": orjson.Fragment(records.json(hit.position)),
                    }
                    for rank, hit in enumerate(self.hits, start=1)
                ],
                **self._rest(),
                "excluded": [exclusion.to_json() for exclusion in self.excluded],
            }
        )

    def response(self) -> SearchResponse:
        hits = tuple(
            SearchHit(
                rank=rank,
                score=hit.score,
                score_breakdown=ScoreBreakdown(**dict(zip(PARTS, hit.parts, strict=True))),
                workflow=self.index.records[hit.position],
            )
            for rank, hit in enumerate(self.hits, start=1)
        )
        return SearchResponse(hits=hits, excluded=self.excluded, **self._rest())

    def _rest(self) -> dict[str, Any]:
        return {
            "total_matched": self.total_matched,
            "snapshot_version": self.snapshot_version,
            "embedder": self.embedder,
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
    filters = request.filters
    mask = index.admitted(filters, include_disabled=request.include_disabled)
    query = embedder.embed([request.query])[0]
    said = terms(request.query)
    left = int(np.count_nonzero(mask))
    pool = max(POOL, 2 * request.top_k)
    near = index.nearest(query, mask, pool)
    if left * FEW <= len(index):
        among = np.flatnonzero(mask)
        few = index.lexical.scores_of(said, among)
        candidates = merged(near, among[best(few, pool)])
        lexical = few[np.searchsorted(among, candidates)]
    else:
        every = index.lexical.scores(said)
        # The nearest are as many as are wanted here: the best by words are at least as good as the worst of them.
        floor = float(every[near].min()) if len(near) >= pool else 0.0
        candidates = merged(near, best(every * mask, pool, floor=floor))
        lexical = every[candidates]
    hits = _ordered(index, request, query, lexical, candidates)
    return Found(
        index=index,
        hits=hits,
        total_matched=left,
        snapshot_version=version,
        embedder=embedder.fingerprint,
        took_ms=round((time.perf_counter() - started) * 1000, 3),
        excluded=tuple(_exclusions(index, request, mask, hits)) if request.explain else (),
    )


def _ordered(
    index: Index, request: SearchRequest, query: Floats, lexical: Floats, positions: Positions
) -> tuple[Hit, ...]:
    """Score candidates, ``lexical[i]`` being that of ``positions[i]``; best first. Records are sorted by id, so a position is the tiebreak."""
    filters = request.filters
    parts = np.stack(
        (
            SEMANTIC * index.similarity(query, positions),
            LEXICAL * lexical,
            LABELS * index.label_strength(filters, positions),
            DETECTED * index.detected_strength(filters, positions),
            CUSTOM * index.custom_strength(filters, positions),
            PENALTY * index.penalties(filters, positions),
        )
    )
    # In double precision, where a part times a million is exact, this rounds as ``round`` does.
    semantic, words, labels, detected, custom, penalty = rounded = np.round(parts.astype(np.float64), DIGITS)
    total = np.round(np.clip(semantic + words + labels + detected + custom - penalty, 0.0, 1.0), DIGITS)
    order = np.lexsort((positions, -total))
    order = order[total[order] >= request.min_score][: request.top_k]
    return tuple(
        Hit(score, position, tuple(values))
        for score, position, values in zip(
            total[order].tolist(), positions[order].tolist(), rounded[:, order].T.tolist(), strict=True
        )
    )


def _exclusions(index: Index, request: SearchRequest, mask: Mask, hits: Sequence[Hit]) -> Iterator[SearchExclusion]:
    """Say why each workflow that is not in the answer is not: its status, a label, or its place in the order."""
    answered = {hit.position for hit in hits}
    left = (n for n in range(len(index)) if n not in answered)
    for _, number in zip(range(EXPLAINED), left, strict=False):
        record = index.records[number]
        reason = "admitted by its labels, but scored below the workflows in the answer"
        if not mask[number]:
            reason = match.refusal(record.labels, request.filters) or _status(record)
        yield SearchExclusion(workflow_id=record.workflow_id, workflow_name=record.workflow_name, reason=reason)


def _status(record: Workflow) -> str:
    if record.status is not WorkflowStatus.ACTIVE:
        why = f": {record.disabled_reason}" if record.disabled_reason else ""
        return f"it is {record.status.value}{why}"
    return "a newer version of it is registered"
