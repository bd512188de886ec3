"""Whether who creates the run of an execution owns its shard still: the stamp on it against the Leases as they are now.

A process that slept between its own check and its write is refused here, before anything is stored. The stamp is no secret
and no proof against people who may create PipelineRuns themselves; it is there for our own processes' past.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kubernaut_ray import names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.fencing import Holder, Stamp
from kubernaut_ray.crds import WorkflowExecution
from serve_apps.admission.review import Allowed, Denied, Request, Verdict

Leases = Callable[[str], Awaitable[dict[str, Any] | None]]
"""Reads a Lease of the platform's namespace from the source of truth; ``None`` when there is none of that name."""

RUNS = frozenset({("tekton.dev", "pipelineruns"), ("batch", "jobs")})
"""What executions are run by, in the namespace of workflows."""


async def judge(request: Request, leases: Leases) -> Verdict:
    """Let the creation of an execution's run through, or refuse it with the reason ``Fenced``."""
    obj = request.object or {}
    metadata = obj.get("metadata") or {}
    if names.LABEL_WORKFLOW_EXECUTION not in (metadata.get("labels") or {}):
        return Allowed()
    shard, stamp = fencing.shard_of(obj), Stamp.of(obj)
    if shard is None or stamp is None:
        return _denied(
            f"it carries the label {names.LABEL_WORKFLOW_EXECUTION} and no fencing token of the owner of its shard; if the "
            f"platform made it, the label {names.LABEL_SHARD} of its WorkflowExecution is wrong"
        )
    if stamp.lease != fencing.block_lease(WorkflowExecution.META.plural, shard):
        return _denied(f"Lease {stamp.lease} does not stand for shard {shard} of {WorkflowExecution.META.plural}")
    block = await leases(stamp.lease)
    holder = Holder.of(block or {})
    member = await leases(holder.lease) if holder is not None else None
    why = fencing.stale(stamp, block, member)
    return _denied(f"{why}; whoever asks is no longer the owner of shard {shard}") if why else Allowed()


def _denied(why: str) -> Denied:
    return Denied(why, reason=fencing.REFUSED)
