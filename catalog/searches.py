"""Searches that found nothing, read from the audit trail in the catalog owner: half of the gap report.

A *question* is what one remediation asked in one wording: it is asked with fewer facts when it finds nothing, so several
searches may be one question, and it was in vain only if none of them was answered. Questions in vain are grouped by what a
workflow would be labelled with. ``catalog.gaps`` is the other half, on a replica: why nothing was found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from catalog import match
from catalog.store import Connection
from kubernaut_ray.contracts.catalog import SEARCH_COMPLETED, WITHOUT_REMEDIATION

FIELDS = ("signal_type", "component", "environment", "severity")
"""What questions are grouped by."""
MAX_SEARCHES = 50_000
"""The newest so many are read; a report on more says that it is truncated."""
MAX_REMEDIATIONS = 10

Row = tuple[str, int, str, str, int, float | None]
"""Correlation id, instant in µs, query, filters as JSON, number of results, relevance of the best."""


@dataclass(slots=True)
class _Question:
    correlation_id: str
    query: str
    asked_us: int
    filters: str
    results: int = 0
    best: float = 0.0

    def in_vain(self, min_relevance: float) -> bool:
        return not self.results or self.best < min_relevance


@dataclass(slots=True)
class _Group:
    last: _Question
    first_us: int
    questions: int = 0
    weak: int = 0
    best: float = 0.0
    remediations: dict[str, None] = field(default_factory=dict)


def in_vain(connection: Connection, since_us: int, min_relevance: float, limit: int) -> bytes:
    """Return the ``limit`` most frequent groups as JSON, for ``catalog.gaps``.

    A question counts as in vain when it had no results, or none as relevant as ``min_relevance``.
    """
    rows = connection.execute(
        """
        SELECT correlation_id, event_us,
               coalesce(json_extract_string(body, '$.event_data.query'), ''),
               coalesce(json_extract_string(body, '$.event_data.filters'), '{}'),
               coalesce(json_array_length(body, '$.event_data.results'), 0),
               list_max(json_extract(body, '$.event_data.results[*].relevance')::DOUBLE[])
        FROM audit_events WHERE event_type = ? AND event_us >= ? ORDER BY event_us DESC LIMIT ?
        """,
        [SEARCH_COMPLETED, since_us, MAX_SEARCHES + 1],
    ).fetchall()
    questions = list(_questions(rows[:MAX_SEARCHES]))
    vain = [question for question in questions if question.in_vain(min_relevance)]
    groups = sorted(_grouped(vain), key=lambda g: (-g.questions, -g.last.asked_us))
    return orjson.dumps(
        {
            "questions": len(questions),
            "unanswered": len(vain),
            "truncated": len(rows) > MAX_SEARCHES,
            "groups": [_told(group) for group in groups[:limit]],
        }
    )


def _questions(rows: Iterable[Row]) -> Iterable[_Question]:
    """Fold searches (newest first) into questions; the first search of one knows most facts, so its filters are kept."""
    known: dict[tuple[str, str], _Question] = {}
    for number, (correlation_id, asked_us, query, filters, results, best) in enumerate(rows):
        alone = correlation_id == WITHOUT_REMEDIATION
        question = known.setdefault(
            (correlation_id, f"{number}" if alone else query), _Question(correlation_id, query, asked_us, filters)
        )
        question.filters = filters
        question.results = max(question.results, results)
        # An event that tells no relevance is from before it was recorded; what it found is taken as good.
        question.best = max(question.best, 1.0 if results and best is None else best or 0.0)
    return known.values()


def _grouped(questions: Iterable[_Question]) -> Iterable[_Group]:
    groups: dict[tuple[str, ...], _Group] = {}
    for question in questions:
        filters = orjson.loads(question.filters)
        key = tuple(match.canonical(name, str(filters.get(name, ""))) for name in FIELDS)
        group = groups.setdefault(key, _Group(question, question.asked_us))
        group.questions += 1
        group.weak += question.results > 0
        group.best = max(group.best, question.best)
        group.first_us = min(group.first_us, question.asked_us)
        if question.correlation_id != WITHOUT_REMEDIATION and len(group.remediations) < MAX_REMEDIATIONS:
            group.remediations[question.correlation_id] = None
    return groups.values()


def _told(group: _Group) -> dict[str, Any]:
    return {
        "questions": group.questions,
        "weak": group.weak,
        "best_relevance": group.best,
        "first_us": group.first_us,
        "last_us": group.last.asked_us,
        "query": group.last.query,
        "filters": orjson.loads(group.last.filters),
        "remediation_ids": list(group.remediations),
    }
