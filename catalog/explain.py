"""Why one workflow is, or is not, in the answer of a search: for ``explain_workflow`` and ``workflow search --why``.

Called by ``catalog.search`` with what it has computed anyway. It judges nothing itself: labels are judged by
``catalog.match``, scores come from the search.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from catalog import match
from catalog.index import Index
from kubernaut_ray.contracts.catalog import ScoreBreakdown, SearchRequest, Workflow, WorkflowExplanation
from kubernaut_ray.crds.enums import WorkflowStatus

Scored = tuple[float, int, ScoreBreakdown]
"""Score, position in the index, and what the score is made of."""

SIMILAR = 3
"""So many names are offered for one that the catalog does not hold."""


def workflow(
    index: Index, request: SearchRequest, ranked: Sequence[Scored], score_of: Callable[[int], Scored]
) -> WorkflowExplanation:
    """Say what became of ``request.explain_workflow``. ``ranked`` is the whole order; ``score_of`` scores any position."""
    asked = request.explain_workflow.strip()
    position = position_of(index.records, asked)
    if position is None:
        return WorkflowExplanation(asked=asked, reasons=(_absent(index.records, asked),))
    record = index.records[position]
    rank = next((place for place, (_, other, _) in enumerate(ranked, start=1) if other == position), None)
    score, _, parts = score_of(position)
    reasons = (
        []
        if request.include_disabled or is_offered(record)
        else [status(record, latest_of(index.records, record.workflow_name))]
    )
    reasons += match.refusals(record.labels, request.filters).values()
    if not reasons:
        if rank is None:
            reasons.append(
                "its labels admit it, but it is neither among the nearest by meaning nor among the best by words"
            )
        elif score < request.min_score:
            reasons.append(f"its score {score:.3f} is below min_score {request.min_score:g}")
        elif rank > request.top_k:
            last = ranked[request.top_k - 1][0]
            reasons.append(
                f"it is number {rank} with score {score:.3f}; top_k {request.top_k} ended at score {last:.3f}"
            )
    return WorkflowExplanation(
        asked=asked,
        workflow_id=record.workflow_id,
        workflow_name=record.workflow_name,
        version=record.version,
        status=record.status,
        offered=not reasons,
        rank=rank,
        score=score,
        score_breakdown=parts,
        reasons=tuple(reasons),
    )


def position_of(records: Sequence[Workflow], wanted: str, version: str = "") -> int | None:
    """Return where the workflow of this id or name is; of a name the given version, or the newest."""
    named = []
    for position, record in enumerate(records):
        if record.workflow_id == wanted:
            return position
        if record.workflow_name == wanted and version in ("", record.version):
            named.append(position)
    return next((n for n in named if records[n].is_latest_version), named[0] if named else None)


def is_offered(record: Workflow) -> bool:
    """Whether searches offer it at all, whatever the incident."""
    return record.status is WorkflowStatus.ACTIVE and record.is_latest_version


def status(record: Workflow, latest: Workflow | None) -> str:
    """Say why a workflow that is not offered is not; ``latest`` is the latest version of its name."""
    if record.status is not WorkflowStatus.ACTIVE:
        return f"it is {_stands(record)}"
    if latest is None or latest.status is WorkflowStatus.ACTIVE:
        return "a newer version of it is registered"
    return (
        f"version {latest.version} of it is newer and is {_stands(latest)}; no older version is offered in its place, "
        f"so register this one's content again under a version above {latest.version}"
    )


def latest_of(records: Sequence[Workflow], name: str) -> Workflow | None:
    """Return the latest version of a workflow."""
    return next((record for record in records if record.workflow_name == name and record.is_latest_version), None)


def _stands(record: Workflow) -> str:
    why = f": {record.disabled_reason}" if record.disabled_reason else ""
    return f"{record.status.value}{why}"


def _absent(records: Sequence[Workflow], asked: str) -> str:
    near = difflib.get_close_matches(asked, {record.workflow_name for record in records}, SIMILAR)
    hint = f"; similar names: {', '.join(near)}" if near else "; list the catalog to see its names"
    return f"the catalog holds no workflow of this id or name{hint}"
