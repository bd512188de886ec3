"""What is left to do for a WorkflowExecution that is over or being deleted: its target's release, its statistics, its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from actors.workflow_execution import engines, facts
from actors.workflow_execution.observe import Observed
from kubernaut_ray import names
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.conditions import find, with_condition
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.control.decision import Audit, Call, Decision, Delete, Effect, Key, Patch
from kubernaut_ray.crds.enums import AuditOutcome
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import BlockClearance, WorkflowExecution, WorkflowExecutionStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import Settings

Result = Decision[WorkflowExecutionStatus]

COUNT = "workflowexecution.count"
"""The performer that tells the catalog how an execution ended."""


def over(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Keep the run for the cooldown, then release the target by deleting it.

    The catalog is told of the end beside that, and never before a release that is due: it may be away. A run that a process
    created which did not know of the end, because it slept, was never let go; it is deleted whenever it turns up.
    """
    execution, run = seen.execution, seen.run
    if run is not None and seen.mine and engines.of(run).held(run) and _uid(run) != execution.status.pipeline_run_uid:
        return Decision("LateRunRemoved", effects=(delete(run),), wake_at=now)
    ended = execution.status.completion_time or now
    until = ended + timedelta(seconds=settings.execution.cooldown)
    if not execution.status.lock_released:
        released = execution.status.replace(lock_released=True)
        if seen.run is None or not seen.mine:
            return Decision("LockReleased", released)
        if now >= until:
            return Decision("LockReleased", released, (delete(seen.run),))
    if execution.status.block_clearance is not None and find(execution.status.conditions, facts.CLEARED) is None:
        return _cleared(seen, execution.status.block_clearance, now)
    if (count := _count(execution)) is not None:
        conditions = with_condition(execution.status.conditions, facts.COUNTED, status=True, reason="Recorded", now=now)
        return Decision("Counted", execution.status.replace(conditions=conditions), (count,), wake_at=now)
    return Decision("Over") if execution.status.lock_released else Decision("CoolingDown", wake_at=until)


def _cleared(seen: Observed, clearance: BlockClearance, now: datetime) -> Result:
    """Tell that a person let workflows run again on the target."""
    execution, by, why = seen.execution, clearance.cleared_by, clearance.clear_reason
    event = facts.event(
        seen, facts.BLOCK_CLEARED, AuditOutcome.SUCCESS, now,
        cleared_by=by, cleared_at=rfc3339(clearance.cleared_at), reason=redact(why),
    )  # fmt: skip
    conditions = with_condition(
        execution.status.conditions,
        facts.CLEARED,
        status=True,
        reason="Cleared",
        message=f"{by}: {why}"[:1000],
        now=now,
    )
    return Decision("BlockCleared", execution.status.replace(conditions=conditions), (Audit(event),), wake_at=now)


def _count(execution: WorkflowExecution) -> Call | None:
    """Return how the execution ended, for the workflow's statistics, unless that was told.

    An end before anything ran (target busy, no such pipeline, no leave to create it) says nothing about the workflow.
    """
    status = execution.status
    failure = status.failure_details
    if (
        execution.spec.dry_run
        or find(status.conditions, facts.COUNTED) is not None
        or (failure is not None and not failure.was_execution_failure)
    ):
        return None
    began, ended = status.start_time, status.completion_time
    record = ExecutionRecord(
        execution_id=execution.uid,
        workflow_id=execution.spec.workflow_ref.workflow_id,
        success=status.phase is Phase.COMPLETED,
        target=execution.spec.target_resource,
        remediation_id=execution.spec.remediation_request_ref.name,
        finished_at=ended,
        duration_seconds=max(0.0, (ended - began).total_seconds()) if began and ended else None,
    )
    return Call(COUNT, execution.uid, {"record": record})


def deleted(seen: Observed, now: datetime) -> Result:
    """The execution is being deleted: take its own run along, and only that."""
    execution = seen.execution
    if names.FINALIZER_WORKFLOW_EXECUTION not in execution.metadata.finalizers:
        return Decision("Deleted")
    effects: list[Effect] = []
    if execution.status.phase in {Phase.PENDING, Phase.RUNNING}:
        was = str(execution.status.phase)
        if not execution.spec.dry_run:  # Nothing has run of a rehearsal: it may be rehearsed again.
            effects.append(_stopped(execution))
        effects.append(Audit(facts.event(seen, facts.CANCELLED, AuditOutcome.FAILURE, now, was=was)))
    if seen.run is not None and seen.mine:
        effects.append(delete(seen.run))
    rest = tuple(f for f in execution.metadata.finalizers if f != names.FINALIZER_WORKFLOW_EXECUTION)
    effects.append(finalizers(execution, rest))
    return Decision("Finalized", effects=tuple(effects))


def _stopped(execution: WorkflowExecution) -> Patch:
    """Leave word with the remediation: an orchestrator that died right after it had created the execution knows of none."""
    note = {"metadata": {"annotations": {names.ANNOTATION_STOPPED_EXECUTION: execution.name}}}
    place = Key(execution.namespace, execution.spec.remediation_request_ref.name)
    return Patch(resources.REMEDIATION_REQUEST, place, note)


def _uid(run: Object) -> str:
    return str(run["metadata"]["uid"])


def delete(run: Object) -> Delete:
    """Delete exactly this run."""
    meta = run["metadata"]
    return Delete(engines.of(run).resource, Key(meta["namespace"], meta["name"]), meta["uid"])


def finalizers(execution: WorkflowExecution, finalizers: tuple[str, ...]) -> Patch:
    """Set the finalizers on the very version that was seen."""
    return Patch(
        resources.WORKFLOW_EXECUTION,
        Key(execution.namespace, execution.name),
        {"metadata": {"finalizers": list(finalizers)}},
        resource_version=execution.metadata.resource_version,
    )
