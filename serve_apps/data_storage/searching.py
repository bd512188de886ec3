"""A search as every caller gets it, over REST or MCP: on this replica's snapshot, counted, told to the trail."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from catalog.search import Found
from catalog.snapshot import Snapshot
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import SEARCH_COMPLETED, WITHOUT_REMEDIATION, SearchRequest
from kubernaut_ray.crds.enums import AuditCategory
from kubernaut_ray.errors import InvalidInput
from serve_apps.data_storage.deps import Deps


async def snapshot_of(deps: Deps, at_least: int = 0) -> Snapshot:
    """Return the current snapshot; ``at_least`` is a catalog version that the caller was told."""
    snapshot = await deps.catalog.snapshot(at_least)
    deps.metrics.holds(snapshot)
    return snapshot


async def search(deps: Deps, *asked: SearchRequest, at_least: int = 0) -> tuple[Found, SearchRequest]:
    """Answer a question. Several requests are one question, asked one after the other until something is found.

    Returns the answer and the request that it is to. The trail is told once: the facts of the first request, the answer of
    the last.
    """
    for request in asked:
        if not request.query.strip():
            raise InvalidInput("query is empty; say what was found, for example the signal and the root cause")
    snapshot = await snapshot_of(deps, at_least)
    for answered in asked:
        if snapshot.embedder.slow or answered.explain or answered.explain_workflow:
            found = await asyncio.get_running_loop().run_in_executor(deps.searchers, snapshot.find, answered)
        else:
            # A millisecond of work: handing it to a thread and back costs more than it frees.
            found = snapshot.find(answered)
        deps.metrics.searched(found)
        if found.hits:
            break
    await deps.audit.record(_told(deps, asked[0], found))
    return found, answered


def _told(deps: Deps, asked: SearchRequest, found: Found) -> AuditEvent:
    results: list[dict[str, Any]] = []
    for hit in found.hits:
        name, parts = found.index.records.name(hit.position), hit.named_parts
        results.append(
            {
                "workflow_id": name.workflow_id,
                "workflow_name": name.workflow_name,
                "score": hit.score,
                "relevance": round(parts["semantic"] + parts["lexical"], 6),
                "score_breakdown": parts,
            }
        )
    return AuditEvent.fact(
        SEARCH_COMPLETED,
        correlation_id=asked.remediation_id[:255] or WITHOUT_REMEDIATION,
        category=AuditCategory.WORKFLOW,
        now=deps.now(),
        actor="data-storage",
        key=(uuid.uuid4().hex,),
        duration_ms=round(found.took_ms),
        event_data={
            "query": asked.query,
            "filters": asked.filters.to_json(),
            "results": results,
            "total_matched": found.total_matched,
            "snapshot_version": found.snapshot_version,
        },
    )
