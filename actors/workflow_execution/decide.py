"""What a WorkflowExecution does next. Pure: an observation, the time and the settings in, a decision out.

One execution is one run of one engine (a PipelineRun, a Job). The controller does not order steps, does not retry them and
rolls nothing back; it creates the run, reads its end, tells it in structured form, and releases the target after the cooldown.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never

import yaml

from actors.workflow_execution import engines, locks, marks, outcome, start
from actors.workflow_execution.engines.seam import Engine, State
from actors.workflow_execution.locks import Hold
from actors.workflow_execution.observe import Observed
from actors.workflow_execution.signatures import Unasked, Unknown
from kubernaut_ray import names
from kubernaut_ray.clock import format_duration, parse_duration, rfc3339
from kubernaut_ray.conditions import find, with_condition
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.control.decision import Audit, Call, Create, Decision, Delete, Effect, Key, Patch
from kubernaut_ray.crds.base import LocalReference
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import ExecutionFailureDetails, WorkflowExecution, WorkflowExecutionStatus
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.pipelines.cosign import Unverified, Verified
from kubernaut_ray.redact import redact, redact_values
from kubernaut_ray.settings import Settings
from kubernaut_ray.signing import SigningKey

Result = Decision[WorkflowExecutionStatus]

CREATED, RUNNING, COMPLETE, AUDITED, COUNTED, CLEARED, SIGNED = (
    "TektonPipelineCreated",
    "TektonPipelineRunning",
    "TektonPipelineComplete",
    "AuditRecorded",
    "StatisticsRecorded",
    "BlockCleared",
    "SignatureVerified",
)
COUNT = "workflowexecution.count"
"""The performer that tells the catalog how an execution ended."""
_OVERRUN = timedelta(seconds=60)
"""How long after its timeout a run that nobody ends is given up."""
_RENDERED_LIMIT = 32_768
_STARTED, _COMPLETED, _FAILED, _CANCELLED, _REHEARSED, _BLOCK_CLEARED = (
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
    "workflow.cancelled",
    "workflow.rehearsed",
    "workflowexecution.block.cleared",
)


def decide(seen: Observed, now: datetime, settings: Settings, key: SigningKey | None = None) -> Result:
    """Decide the next move of one execution. With a ``key`` what needs leave runs only with a grant signed by it."""
    if seen.execution.metadata.deletion_timestamp is not None:
        return _deleted(seen, now)
    phase = seen.execution.status.phase
    match phase:
        case None:
            return _new(seen, now)
        case Phase.PENDING:
            return _pending(seen, now, settings, key)
        case Phase.RUNNING:
            return _running(seen, now, settings)
        case Phase.COMPLETED | Phase.FAILED:
            return _over(seen, now, settings)
        case _:
            assert_never(phase)


def _new(seen: Observed, now: datetime) -> Result:
    """Protect the run-to-be with the finalizer before anything is created."""
    execution = seen.execution
    status = execution.status.replace(
        phase=Phase.PENDING,
        observed_generation=execution.metadata.generation,
        message="Waiting for its run",
    )
    effects: tuple[Effect, ...] = ()
    if names.FINALIZER_WORKFLOW_EXECUTION not in execution.metadata.finalizers:
        protect = _finalizers(execution, (*execution.metadata.finalizers, names.FINALIZER_WORKFLOW_EXECUTION))
        # The budget of the target's namespace is counted by this label.
        home = names.label_value(marks.target_namespace(execution.spec.target_resource))
        labels = {"metadata": {**protect.patch["metadata"], "labels": {names.LABEL_SOURCE_NAMESPACE: home}}}
        effects = (replace(protect, patch=labels),)
    return Decision("Accepted", status, effects, wake_at=now)


def _pending(seen: Observed, now: datetime, settings: Settings, key: SigningKey | None) -> Result:
    execution = seen.execution
    if (never := start.impossible(seen, now, settings)) is not None:
        return _fail_before(seen, never.reason, never.why, now)
    if execution.spec.dry_run:
        return _rehearsed(seen, now, settings)
    if seen.vanished:
        return _vanished(seen, now)  # somebody deleted it before it could start: that is an answer too
    if seen.run is not None:
        return _begin(seen, seen.run, now, settings) if seen.mine else _contended(seen, seen.run, now, settings)
    match start.judge(seen, now, settings, key):
        case start.Never(reason, why):
            return _fail_before(seen, reason, why, now)
        case start.Later() as later:
            return _later(execution, later, now)
        case start.Admit():
            status = execution.status.replace(message="Its turn has come", admitted_at=now, queued_at=None)
            return Decision("Admitted", status, wake_at=now)
        case start.GiveBack(why):
            status = execution.status.replace(message=f"Waiting: {why}", admitted_at=None, queued_at=now)
            return Decision("AdmissionGivenBack", status, wake_at=_soon(now))
        case start.Claim(claim):
            status = execution.status.replace(message="Using up the approval")
            return Decision("ApprovalClaimed", status, (claim,), wake_at=now)
        case start.Now(engine, workflow):
            body = engine.build(execution, workflow, settings.execution, now)
            label = names.LABEL_WORKFLOW_EXECUTION
            mine = {label: body["metadata"]["labels"][label]}
            create = Create(engine.resource, body, mine=mine, tolerate_foreign=True)
            kind, name = engine.resource.kind, body["metadata"]["name"]
            status = execution.status.replace(
                message=f"{kind} {name} requested",
                queued_at=None,
                pipeline_run_ref=LocalReference(name=name),
                conditions=_signature(seen, now),
            )
            return Decision(f"{kind}Requested", status, (create,), wake_at=_poll(now, settings))
        case never_here:
            assert_never(never_here)


def _rehearsed(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Say what would have been created, or why nothing would."""
    execution = seen.execution
    match start.checked(seen, now, settings):
        case start.Never(reason, why):
            return _fail_before(seen, reason, f"Dry run: {why}", now)
        case start.Later() as later:
            return _later(execution, later, now)
        case start.Now(engine, workflow):
            kind = engine.resource.kind
    if seen.refusal:
        why = f"Dry run: the {kind} would have been refused: {seen.refusal}"
        return _fail_before(seen, Reason.CONFIGURATION_ERROR, why, now)
    shown = execution.replace(
        spec=execution.spec.replace(parameters=redact_values(execution.spec.parameters))
    )  # People are shown it, and the trail keeps it.
    body = engine.build(shown, workflow, settings.execution, now)
    manifest = yaml.safe_dump(body, sort_keys=False, width=120)
    event = _event(seen, _REHEARSED, AuditOutcome.SUCCESS, now, manifest=manifest)
    status = execution.status.replace(
        phase=Phase.COMPLETED,
        message=f"Dry run: {kind} {body['metadata']['name']} was rendered and not created",
        completion_time=now,
        rendered=manifest[:_RENDERED_LIMIT],
        lock_released=True,
        conditions=_audited(execution.status.conditions, now),
    )
    return Decision("Rehearsed", status, (Audit(event),))


def _later(execution: WorkflowExecution, later: start.Later, now: datetime) -> Result:
    """Wait, but not beyond the deadline."""
    at = min(later.at, execution.spec.deadline) if execution.spec.deadline is not None else later.at
    since = (execution.status.queued_at or now) if later.queued else None
    return Decision(later.reason, execution.status.replace(message=later.message, queued_at=since), wake_at=at)


def _begin(seen: Observed, run: Object, now: datetime, settings: Settings) -> Result:
    """Take the run as ours."""
    execution, name = seen.execution, run["metadata"]["name"]
    engine = engines.of(run)
    kind = engine.resource.kind
    signed = find(execution.status.conditions, SIGNED)
    signature = f"{signed.reason}: {signed.message}"[:2000] if signed is not None else ""
    event = _event(
        seen, _STARTED, AuditOutcome.PENDING, now,
        pipeline_run=name, signature=signature, engine=execution.spec.workflow_ref.engine,
    )  # fmt: skip
    conditions = with_condition(
        execution.status.conditions, CREATED, status=True, reason=f"{engine.word}Created",
        message=f"{kind} {name} in {run['metadata']['namespace']}", now=now,
    )  # fmt: skip
    conditions = with_condition(
        conditions, RUNNING, status=True, reason=f"{engine.word}Started", message=f"The {kind} exists", now=now
    )
    status = execution.status.replace(
        phase=Phase.RUNNING,
        message=f"{kind} {name} is running",
        start_time=now,
        pipeline_run_ref=LocalReference(name=name),
        pipeline_run_uid=run["metadata"]["uid"],
        pipeline_run_status=engine.summary(run, seen.parts),
        conditions=_audited(conditions, now),
    )
    return Decision(f"{kind}Adopted", status, (Audit(event),), wake_at=_poll(now, settings))


def _contended(seen: Observed, run: Object, now: datetime, settings: Settings) -> Result:
    """Somebody else's run has the target, whatever its engine."""
    execution = seen.execution
    remediation = execution.spec.remediation_request_ref.name
    cooldown = timedelta(seconds=settings.execution.cooldown)
    verdict = locks.judge(run, seen.holder, remediation, now, cooldown)
    owner = marks.Ownership.of(run).execution or "somebody outside this system"
    waiting = execution.status.replace(pipeline_run_ref=None, admitted_at=None, queued_at=None)
    match verdict.hold:
        case Hold.BUSY:
            message = f"the target is being changed by {owner} ({run['kind']} {run['metadata']['name']})"
            return _fail_before(seen, Reason.UNKNOWN, message, now)
        case Hold.RELEASABLE:
            message = f"Releasing the target from {owner}, which is over"
            return Decision(verdict.hold, waiting.replace(message=message), (_delete(run),), wake_at=now)
        case Hold.SETTLING:
            message = f"Waiting for {owner} to take note of its end"
            return Decision(verdict.hold, waiting.replace(message=message), wake_at=_soon(now))
        case Hold.COOLING:
            message = f"Waiting for the cooldown of {owner}"
            return Decision(verdict.hold, waiting.replace(message=message), wake_at=verdict.until)
        case _:
            assert_never(verdict.hold)


def _running(seen: Observed, now: datetime, settings: Settings) -> Result:
    execution, run = seen.execution, seen.run
    if run is None or not seen.mine or run["metadata"]["uid"] != execution.status.pipeline_run_uid:
        return _vanished(seen, now)
    engine = engines.of(run)
    status = execution.status.replace(pipeline_run_status=engine.summary(run, seen.parts))
    match engine.state(run, seen.parts, now):
        case State.SUCCEEDED:
            return _complete(seen, run, status, now)
        case State.FAILED:
            stop: tuple[Effect, ...] = () if engine.is_over(run) else (engine.stop(run),)
            return _fail(seen, engine.failure(execution, run, seen.parts, now), status, now, effects=stop)
    limit = _limit(execution)
    if limit is not None and now >= limit:
        kind = engine.resource.kind
        message = f"the {kind} was not ended within its timeout; is anything at work that runs {kind}s?"
        executed = engine.started(run) is not None
        details = outcome.failure_without_run(execution, Reason.DEADLINE_EXCEEDED, message, now, executed=executed)
        return _fail(seen, details, status, now, effects=(engine.stop(run),))
    wake = _poll(now, settings)
    if engine.held(run):
        # Its UID is in our status by now, so this and no other run of ours may start.
        return Decision(f"{engine.word}LetGo", effects=(engine.let_go(run),), wake_at=wake)
    return Decision(f"{engine.word}Running", status, wake_at=min(wake, limit) if limit else wake)


def _complete(seen: Observed, run: Object, status: WorkflowExecutionStatus, now: datetime) -> Result:
    engine = engines.of(run)
    ended = engine.ended(run) or now
    duration = format_duration(ended - (status.start_time or ended))
    values = engine.results(run, seen.parts)
    event = _event(seen, _COMPLETED, AuditOutcome.SUCCESS, now, duration=duration, results=values)
    message = values.get("summary") or "The workflow completed"
    conditions = with_condition(status.conditions, RUNNING, status=False, reason=f"{engine.word}Ended", now=now)
    conditions = with_condition(
        conditions, COMPLETE, status=True, reason=f"{engine.word}Succeeded", message=message[:1000], now=now
    )
    final = status.replace(
        phase=Phase.COMPLETED,
        message=message,
        completion_time=ended,
        duration=duration,
        results=values,
        conditions=_audited(conditions, now),
    )
    return Decision(f"{engine.word}Succeeded", final, (Audit(event),), wake_at=now)


def _vanished(seen: Observed, now: datetime) -> Result:
    """Fail because the run is gone. How far it came is unknown, so it counts as executed, unless it was never let go."""
    engine = _engine(seen)
    kind = engine.resource.kind if engine is not None else "run"
    executed = bool(seen.execution.status.pipeline_run_uid)
    message = f"the {kind} was deleted externally before its {'end was seen' if executed else 'start'}"
    details = outcome.failure_without_run(seen.execution, Reason.UNKNOWN, message, now, executed=executed)
    return _fail(seen, details, seen.execution.status, now)


def _fail_before(seen: Observed, reason: Reason, message: str, now: datetime) -> Result:
    """Fail without having executed anything."""
    details = outcome.failure_without_run(seen.execution, reason, message, now, executed=False)
    return _fail(seen, details, seen.execution.status, now)


def _fail(
    seen: Observed,
    details: ExecutionFailureDetails,
    status: WorkflowExecutionStatus,
    now: datetime,
    effects: tuple[Effect, ...] = (),
) -> Result:
    event = _event(
        seen, _FAILED, AuditOutcome.FAILURE, now,
        reason=str(details.reason), message=details.message[:2000], exit_code=details.exit_code,
        summary=details.natural_language_summary[:4000], failed_at=rfc3339(details.failed_at),
        failed_task_index=details.failed_task_index, time_before_failure=details.execution_time_before_failure,
        failed_task=details.failed_task_name, failed_step=details.failed_step_name,
        was_execution_failure=details.was_execution_failure,
    )  # fmt: skip
    conditions = status.conditions
    engine = _engine(seen)
    if status.phase is Phase.RUNNING:
        conditions = with_condition(
            conditions, RUNNING, status=False, reason=f"{engine.word if engine else 'Run'}Ended", now=now
        )
    word = str(details.reason)
    message = details.message[:1000]
    conditions = with_condition(conditions, COMPLETE, status=False, reason=word, message=message, now=now)
    began = status.start_time
    final = status.replace(
        phase=Phase.FAILED,
        message=details.message or word,
        completion_time=details.failed_at,
        duration=format_duration(details.failed_at - began) if began else "",
        failure_details=details,
        conditions=_audited(conditions, now),
    )
    return Decision(word, final, (*effects, Audit(event)), wake_at=now)


def _over(seen: Observed, now: datetime, settings: Settings) -> Result:
    """Keep the run for the cooldown, then release the target by deleting it.

    The catalog is told of the end beside that, and never before a release that is due: it may be away. A run that a process
    created which did not know of the end, because it slept, was never let go; it is deleted whenever it turns up.
    """
    execution, run = seen.execution, seen.run
    if run is not None and seen.mine and engines.of(run).held(run) and _uid(run) != execution.status.pipeline_run_uid:
        return Decision("LateRunRemoved", effects=(_delete(run),), wake_at=now)
    ended = execution.status.completion_time or now
    until = ended + timedelta(seconds=settings.execution.cooldown)
    if not execution.status.lock_released:
        released = execution.status.replace(lock_released=True)
        if seen.run is None or not seen.mine:
            return Decision("LockReleased", released)
        if now >= until:
            return Decision("LockReleased", released, (_delete(seen.run),))
    if (clearance := execution.status.block_clearance) is not None and find(
        execution.status.conditions, CLEARED
    ) is None:
        by, why = clearance.cleared_by, clearance.clear_reason
        event = _event(
            seen, _BLOCK_CLEARED, AuditOutcome.SUCCESS, now,
            cleared_by=by, cleared_at=rfc3339(clearance.cleared_at), reason=redact(why),
        )  # fmt: skip
        conditions = with_condition(
            execution.status.conditions, CLEARED, status=True, reason="Cleared", message=f"{by}: {why}"[:1000], now=now
        )
        return Decision("BlockCleared", execution.status.replace(conditions=conditions), (Audit(event),), wake_at=now)
    if (count := _count(execution)) is not None:
        conditions = with_condition(execution.status.conditions, COUNTED, status=True, reason="Recorded", now=now)
        return Decision("Counted", execution.status.replace(conditions=conditions), (count,), wake_at=now)
    return Decision("Over") if execution.status.lock_released else Decision("CoolingDown", wake_at=until)


def _count(execution: WorkflowExecution) -> Call | None:
    """Return how the execution ended, for the workflow's statistics, unless that was told.

    An end before anything ran (target busy, no such pipeline, no leave to create it) says nothing about the workflow.
    """
    status = execution.status
    failure = status.failure_details
    if (
        execution.spec.dry_run
        or find(status.conditions, COUNTED) is not None
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


def _deleted(seen: Observed, now: datetime) -> Result:
    """The execution is being deleted: take its own run along, and only that."""
    execution = seen.execution
    if names.FINALIZER_WORKFLOW_EXECUTION not in execution.metadata.finalizers:
        return Decision("Deleted")
    effects: list[Effect] = []
    if execution.status.phase in {Phase.PENDING, Phase.RUNNING}:
        was = str(execution.status.phase)
        effects.append(Audit(_event(seen, _CANCELLED, AuditOutcome.FAILURE, now, was=was)))
    if seen.run is not None and seen.mine:
        effects.append(_delete(seen.run))
    rest = tuple(f for f in execution.metadata.finalizers if f != names.FINALIZER_WORKFLOW_EXECUTION)
    effects.append(_finalizers(execution, rest))
    return Decision("Finalized", effects=tuple(effects))


def _uid(run: Object) -> str:
    return str(run["metadata"]["uid"])


def _limit(execution: WorkflowExecution) -> datetime | None:
    """Return when a run that nobody ends is given up."""
    began = execution.status.start_time
    if began is None:
        return None
    ends = began + parse_duration(execution.spec.execution_config.timeout)
    if execution.spec.deadline is not None:
        ends = min(ends, execution.spec.deadline)
    return ends + _OVERRUN


def _signature(seen: Observed, now: datetime) -> Any:
    """Say in a condition what is known of the bundle's signature, where anybody wants to know."""
    match seen.signature:
        case Verified(key_id):
            status, reason, message = True, "Signed", f"signed with the key {key_id}"
        case Unverified(why):
            status, reason, message = False, "Unsigned", why
        case Unknown(why):
            status, reason, message = False, "NotChecked", why
        case Unasked():
            return seen.execution.status.conditions
    conditions = seen.execution.status.conditions
    return with_condition(conditions, SIGNED, status=status, reason=reason, message=message[:1000], now=now)


def _engine(seen: Observed) -> Engine | None:
    return engines.chosen(seen.execution, engines.ALL)


def _poll(now: datetime, settings: Settings) -> datetime:
    return now + timedelta(seconds=settings.execution.poll_interval)


def _soon(now: datetime) -> datetime:
    return now + timedelta(seconds=1)


def _delete(run: Object) -> Delete:
    meta = run["metadata"]
    return Delete(engines.of(run).resource, Key(meta["namespace"], meta["name"]), meta["uid"])


def _finalizers(execution: WorkflowExecution, finalizers: tuple[str, ...]) -> Patch:
    """Set the finalizers on the very version that was seen."""
    return Patch(
        resources.WORKFLOW_EXECUTION,
        Key(execution.namespace, execution.name),
        {"metadata": {"finalizers": list(finalizers)}},
        resource_version=execution.metadata.resource_version,
    )


def _audited(conditions: Any, now: datetime) -> Any:
    """Say that the fact is recorded: the status is written only after the audit took it."""
    return with_condition(conditions, AUDITED, status=True, reason="AuditSucceeded", now=now)


def _event(seen: Observed, event_type: str, result: AuditOutcome, now: datetime, **data: Any) -> AuditEvent:
    execution = seen.execution
    ref = execution.spec.workflow_ref
    started = execution.status.start_time
    return AuditEvent.fact(
        event_type,
        correlation_id=execution.spec.remediation_request_ref.name or execution.name,
        category=AuditCategory.EXECUTION,
        now=now,
        outcome=result,
        actor="workflow-execution-controller",
        key=(execution.name, execution.uid),
        resource_type=WorkflowExecution.kind(),
        resource_id=execution.name,
        namespace=execution.namespace,
        duration_ms=max(0, int((now - started).total_seconds() * 1000)) if started else None,
        event_data={
            "workflow_id": ref.workflow_id,
            "workflow_name": ref.workflow_name,
            "version": ref.version,
            "container_image": pinned(ref),
            "target_resource": execution.spec.target_resource,
            "parameters": redact_values(execution.spec.parameters),
            "pipeline_run": execution.status.pipeline_run_ref.name if execution.status.pipeline_run_ref else "",
            **{key: value for key, value in data.items() if value not in (None, "")},
        },
    )
