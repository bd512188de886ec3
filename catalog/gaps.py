"""The gap report: which incidents the catalog has no workflow for, and what rules the nearest workflows out.

Called by Data Storage with the questions in vain that the owner found (``catalog.searches``). They are judged against the
current snapshot with the one label matcher, so the report says what is missing now, and which gaps were closed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from catalog import explain, match
from catalog.events import instant
from catalog.index import Index
from catalog.lexical import Floats
from catalog.packed import Records
from catalog.search import LEXICAL, SEMANTIC
from catalog.snapshot import Snapshot
from catalog.text import terms
from kubernaut_ray.contracts.catalog import SearchFilters, Workflow
from kubernaut_ray.contracts.gaps import Gap, GapReport, NearMiss

NEAREST = 10
"""So many of the nearest workflows are asked why they were ruled out."""
SHOWN = 5
"""So many of them are named."""
MIN_RELEVANCE = 0.18
"""Below it the best answer is taken for none. Meaning and words alone, labels left aside: with 34 workflows and the default
embedder the right workflow had less for none of the 25 incidents of the development set and for 2 of our own 100; with the
right one taken out of the catalog, the best of the others had less for 13 of 25 and 51 of 100. Another embedder has another
scale."""


def report(snapshot: Snapshot, found: Mapping[str, Any], since: datetime) -> GapReport:
    """Explain what ``catalog.searches.in_vain`` found. CPU only, safe beside searches."""
    groups = found["groups"]
    queries = snapshot.embedder.embed([group["query"] for group in groups]) if groups else ()
    return GapReport(
        since=since,
        questions=found["questions"],
        unanswered=found["unanswered"],
        snapshot_version=snapshot.version,
        truncated=found["truncated"],
        gaps=tuple(_gap(snapshot.index, group, query) for group, query in zip(groups, queries, strict=True)),
    )


def _gap(index: Index, group: Mapping[str, Any], query: Floats) -> Gap:
    filters = _filters(group["filters"])
    relevance = SEMANTIC * index.similarity(query, np.arange(len(index)))
    relevance = relevance + LEXICAL * index.lexical.scores(terms(group["query"]))
    order = (int(n) for n in np.argsort(-relevance, kind="stable") if index.records.name(n).is_latest_version)
    nearest = [
        (index.records[n], float(relevance[n]), _ruled_out(index.records, index.records[n], filters))
        for n, _ in zip(order, range(NEAREST), strict=False)
    ]
    return Gap(
        signal_type=filters.signal_type,
        component=filters.component,
        environment=filters.environment,
        severity=filters.severity,
        questions=group["questions"],
        weak=group["weak"],
        best_relevance=round(group["best_relevance"], 3),
        first_seen=instant(group["first_us"]),
        last_seen=instant(group["last_us"]),
        example_query=group["query"],
        remediation_ids=tuple(group["remediation_ids"]),
        answered_now=int(index.admitted(filters, include_disabled=False).sum()),
        ruled_out=_counted([reasons for _, _, reasons in nearest]),
        nearest=tuple(
            NearMiss(
                workflow_id=record.workflow_id,
                workflow_name=record.workflow_name,
                version=record.version,
                relevance=round(score, 3),
                ruled_out_by=reasons,
            )
            for record, score, reasons in nearest[:SHOWN]
        ),
    )


def _ruled_out(records: Records, record: Workflow, filters: SearchFilters) -> dict[str, str]:
    reasons = match.refusals(record.labels, filters)
    if explain.is_offered(record):
        return reasons
    return {"status": explain.status(record, records.latest(record.workflow_name)), **reasons}


def _counted(reasons: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return dict(Counter(label for each in reasons for label in each).most_common())


def _filters(told: Mapping[str, Any]) -> SearchFilters:
    """Read filters as an event holds them; one of another release may name what this one does not know."""
    return SearchFilters.model_validate({k: v for k, v in told.items() if k in SearchFilters.model_fields})
