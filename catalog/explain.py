"""Why one workflow is, or is not, in the answer of a search: for ``explain_workflow`` and ``workflow search --why``.

Called by ``catalog.search`` with what it has computed anyway. It judges nothing itself: labels are judged by
``catalog.match``, scores come from the search.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from catalog import match
from catalog.hits import Hit
from catalog.index import Index
from catalog.packed import Records
from kubernaut_ray.contracts.catalog import SearchRequest, Workflow, WorkflowExplanation
from kubernaut_ray.crds.enums import WorkflowStatus

SIMILAR = 3
"""So many names are offered for one that the catalog does not hold."""


def workflow(
    index: Index, request: SearchRequest, ranked: Sequence[Hit], score_of: Callable[[int], Hit]
) -> WorkflowExplanation:
    """Say what became of ``request.explain_workflow``. ``ranked`` is the whole order; ``score_of`` scores any position."""
    asked = request.explain_workflow.strip()
    position = position_of(index.records, asked)
    if position is None:
        return WorkflowExplanation(asked=asked, reasons=(_absent(index.records, asked),))
    record = index.records[position]
    rank = next((place for place, other in enumerate(ranked, start=1) if other.position == position), None)
    hit = score_of(position)
    offered = request.include_disabled or is_offered(record)
    reasons = [] if offered else [status(record, index.records.latest(record.workflow_name))]
    reasons += match.refusals(record.labels, request.filters).values()
    if not reasons:
        if rank is None:
            reasons.append(
                "its labels admit it, but it is neither among the nearest by meaning nor among the best by words"
            )
        elif hit.score < request.min_score:
            reasons.append(f"its score {hit.score:.3f} is below min_score {request.min_score:g}")
        elif rank > request.top_k:
            last = ranked[request.top_k - 1].score
            reasons.append(
                f"it is number {rank} with score {hit.score:.3f}; top_k {request.top_k} ended at score {last:.3f}"
            )
    return WorkflowExplanation(
        asked=asked,
        workflow_id=record.workflow_id,
        workflow_name=record.workflow_name,
        version=record.version,
        status=record.status,
        offered=not reasons,
        rank=rank,
        score=hit.score,
        score_breakdown=hit.breakdown,
        reasons=tuple(reasons),
    )


def position_of(records: Records, wanted: str, version: str = "") -> int | None:
    """Return where the workflow of this id or name is; of a name the given version, or the newest."""
    named = []
    for position, name in enumerate(records.names()):
        if name.workflow_id == wanted:
            return position
        if name.workflow_name == wanted and version in ("", name.version):
            named.append((position, name.is_latest_version))
    return next((n for n, latest in named if latest), named[0][0] if named else None)


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


def _stands(record: Workflow) -> str:
    why = f": {record.disabled_reason}" if record.disabled_reason else ""
    return f"{record.status.value}{why}"


def _absent(records: Records, asked: str) -> str:
    near = difflib.get_close_matches(asked, {name.workflow_name for name in records.names()}, SIMILAR)
    hint = f"; similar names: {', '.join(near)}" if near else "; list the catalog to see its names"
    return f"the catalog holds no workflow of this id or name{hint}"
