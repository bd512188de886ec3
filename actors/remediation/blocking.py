"""Is it sensible to run now? An ordered chain of small checks over fresh facts; the first one hit wins.

Asked before the analysis, and again before every execution, on the direct path as on the approved one. All blocking is
decided here: a WorkflowExecution, once created, simply runs. A ``Block`` passes (by time or by an event), a ``Handover``
needs a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from actors.remediation.facts import BLOCKED_CONDITION
from kubernaut_ray import clock, conditions, names
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import BlockReason, FailurePhase, Outcome, SkipReason, WorkflowExecutionPhase
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import OrchestratorSettings

_WHY_LIMIT = 1024


class Stage(StrEnum):
    """What would start next. Only before an execution do other executions on the target matter."""

    ANALYSIS = "analysis"
    EXECUTION = "execution"


@dataclass(frozen=True, slots=True)
class Facts:
    """Fresh reads: the other requests with this fingerprint, and all executions on this target with what they came to."""

    siblings: tuple[RemediationRequest, ...] = ()
    executions: tuple[WorkflowExecution, ...] = ()
    managed: bool = True
    """What the scope label says of the target."""
    scope_problem: str = ""
    """Why the scope label could not be read."""
    spec_hash: str = ""
    """What the target's spec is, where its effect will be judged."""
    assessments: tuple[EffectivenessAssessment, ...] = ()
    """What all remediations of this target came to, as far as that was judged."""


@dataclass(frozen=True, slots=True)
class Block:
    """``until`` is ``None`` where an event ends the block, which is then looked for again every recheck interval."""

    reason: BlockReason
    message: str
    until: datetime | None = None
    duplicate_of: str = ""
    execution: str = ""


@dataclass(frozen=True, slots=True)
class Handover:
    """Only a person can clear this."""

    reason: SkipReason
    message: str
    execution: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    request: RemediationRequest
    facts: Facts
    workflow_id: str
    now: datetime
    settings: OrchestratorSettings


Verdict = Block | Handover


def judge(
    request: RemediationRequest,
    facts: Facts,
    stage: Stage,
    *,
    workflow_id: str = "",
    now: datetime,
    settings: OrchestratorSettings,
) -> Verdict | None:
    """Return what stands in the way of this stage, or ``None``."""
    question = _Question(request, facts, workflow_id, now, settings)
    checks = _BEFORE_EXECUTION if stage is Stage.EXECUTION else _BEFORE_ANALYSIS
    return next((verdict for check in checks if (verdict := check(question)) is not None), None)


def _unmanaged(q: _Question) -> Verdict | None:
    if q.facts.managed:
        return None
    target = q.request.spec.target_resource
    if q.facts.scope_problem:
        why = f"nobody can tell whether {target} is managed, so it is not touched: {q.facts.scope_problem}"
    else:
        where = "it or its namespace" if target.namespace else "it"
        why = f"{target} is not managed: label {where} {names.LABEL_MANAGED}=true to let kubernaut act on it"
    return Block(BlockReason.UNMANAGED_RESOURCE, why[:_WHY_LIMIT], until=q.now + _scope_pause(q))


def _scope_pause(q: _Question) -> timedelta:
    """Return 5 s, 10 s, 20 s … at most 5 min, ± 10 %, until the scope is looked up again.

    Pauses that double add up to the time blocked so far plus the first one, so no counter is needed and no event that comes
    in between shortens them.
    """
    status = q.request.status
    blocked = conditions.find(status.conditions, BLOCKED_CONDITION)
    same = status.overall_phase is Phase.BLOCKED and status.block_reason is BlockReason.UNMANAGED_RESOURCE
    waited = (q.now - blocked.last_transition_time).total_seconds() if same and blocked else 0.0
    seconds = min(q.settings.scope_backoff_base + max(waited, 0.0), q.settings.scope_backoff_max)
    return timedelta(seconds=seconds * (1 + _jitter(f"{q.request.uid} {waited:.0f}")))


def _consecutive_failures(q: _Question) -> Verdict | None:
    count = failures_in_a_row(q.facts.siblings)
    if count < q.settings.consecutive_failures:
        return None
    pause = timedelta(seconds=q.settings.consecutive_failure_block)
    return Block(
        BlockReason.CONSECUTIVE_FAILURES,
        f"the last {count} remediations of this signal failed in a row; pausing for {clock.format_duration(pause)}",
        until=q.now + pause,
    )


def _duplicate(q: _Question) -> Verdict | None:
    older = [s for s in q.facts.siblings if _active(s) and _age(s) < _age(q.request)]
    if not older:
        return None
    original = min(older, key=_age)
    return Block(
        BlockReason.DUPLICATE_IN_PROGRESS,
        f"{original.name} is already working on this signal; its outcome will be taken over",
        duplicate_of=original.name,
    )


def _previous_execution_failed(q: _Question) -> Verdict | None:
    ended = [e for e in _others(q) if e.status.completion_time is not None]
    last = max(ended, key=lambda e: (e.status.completion_time or q.now, e.name), default=None)
    if (
        last is None
        or last.status.phase is not WorkflowExecutionPhase.FAILED
        or last.status.block_clearance is not None
    ):
        return None
    details = last.status.failure_details
    if details is None or not details.was_execution_failure:
        return None
    return Handover(
        SkipReason.PREVIOUS_EXECUTION_FAILED,
        f"workflow execution {last.name} failed half-way on {last.spec.target_resource} ({details.reason}), so the target's "
        f"state is unknown; a person must look and clear it (kubernaut-ray unblock {last.name} --reason ...)",
        execution=last.name,
    )


def _exhausted(q: _Question) -> Verdict | None:
    count = 0
    for kind, sibling in _history(q.facts.siblings):
        if kind is _Past.SUCCESS or (kind is _Past.FAILURE and _executed(sibling)):
            break
        count += kind is _Past.FAILURE
    if count < q.settings.max_pre_execution_failures:
        return None
    return Handover(
        SkipReason.EXHAUSTED_RETRIES,
        f"{count} remediations of this signal in a row failed before anything was executed",
    )


def _backoff(q: _Question) -> Verdict | None:
    for kind, sibling in _history(q.facts.siblings):
        if kind is _Past.SUCCESS:
            return None
        until = sibling.status.next_allowed_execution
        if until is not None and until > q.now:
            what = "was a dry run" if sibling.status.outcome is Outcome.DRY_RUN else "failed"
            return Block(
                BlockReason.EXPONENTIAL_BACKOFF,
                f"{sibling.name} {what}; the next try may start at {until:%H:%M:%S} UTC",
                until=until,
            )
    return None


def _busy(q: _Question) -> Verdict | None:
    running = [e for e in _others(q) if e.status.phase in {None, *_RUNNING}]
    if not running:
        return None
    first = min(running, key=lambda e: (e.created, e.name))
    return Block(
        BlockReason.RESOURCE_BUSY,
        f"workflow execution {first.name} is running on {first.spec.target_resource}",
        execution=first.name,
    )


def _recently_remediated(q: _Question) -> Verdict | None:
    window = timedelta(seconds=q.settings.recently_remediated_window)
    for execution in _others(q):
        ended = execution.status.completion_time
        if (
            execution.status.phase is WorkflowExecutionPhase.COMPLETED
            and execution.spec.workflow_ref.workflow_id == q.workflow_id
            and ended is not None
            and ended + window > q.now
        ):
            name = execution.spec.workflow_ref.workflow_name or q.workflow_id
            return Block(
                BlockReason.RECENTLY_REMEDIATED,
                f"workflow {name} ran on {execution.spec.target_resource} at {ended:%H:%M:%S} UTC "
                f"({execution.name}); not again within {clock.format_duration(window)}",
                until=ended + window,
                execution=execution.name,
            )
    return None


def _ineffective_chain(q: _Question) -> Verdict | None:
    """Whatever is wrong there, one more try of ours is not what it needs."""
    window, target = timedelta(seconds=q.settings.ineffective_window), q.request.spec.target_resource
    since, span = q.now - window, clock.format_duration(window)
    chain = 0
    for judged in sorted(_judged(q, since), key=lambda one: one.created, reverse=True):
        if judged.status.effective:
            break
        chain += 1
    if chain >= q.settings.ineffective_chain:
        return Handover(
            SkipReason.INEFFECTIVE_CHAIN,
            f"the last {chain} remediations of {target} succeeded and did not help",
        )
    recent = [e for e in _others(q) if e.status.start_time is not None and e.status.start_time >= since]
    if len(recent) >= q.settings.remediations_per_target:
        return Handover(
            SkipReason.INEFFECTIVE_CHAIN,
            f"{target} was remediated {len(recent)} times within {span}: what is done about it does not last",
        )
    return None


def _judged(q: _Question, since: datetime) -> list[EffectivenessAssessment]:
    """Other requests' assessments that came to a verdict; one that could not be judged neither adds to a chain nor ends it."""
    return [
        one
        for one in q.facts.assessments
        if one.spec.remediation_request_ref.uid != q.request.uid
        and one.status.effective is not None
        and (one.status.completed_at or one.created) >= since
    ]


_BEFORE_ANALYSIS = (
    _unmanaged,
    _consecutive_failures,
    _duplicate,
    _previous_execution_failed,
    _exhausted,
    _backoff,
)
_BEFORE_EXECUTION = (*_BEFORE_ANALYSIS, _busy, _recently_remediated, _ineffective_chain)
_RUNNING = (WorkflowExecutionPhase.PENDING, WorkflowExecutionPhase.RUNNING)


class _Past(StrEnum):
    """What a sibling says about the odds of another try."""

    FAILURE = "failure"
    SUCCESS = "success"
    PAUSE = "pause"
    NOTHING = "nothing"


def failures_in_a_row(siblings: Sequence[RemediationRequest]) -> int:
    """Count failed remediations, newest first, back to the last success or to a pause that was sat out."""
    count = 0
    for kind, _ in _history(siblings):
        if kind in {_Past.SUCCESS, _Past.PAUSE}:
            break
        count += kind is _Past.FAILURE
    return count


def backoff(failures: int, key: str, settings: OrchestratorSettings) -> timedelta:
    """Return ``min(base × 2^(n-1), max)`` ± 10 %; the jitter depends on ``key`` only, so asking twice gives one answer."""
    exponent = min(max(failures - 1, 0), settings.backoff_max_exponent)
    seconds = min(settings.backoff_base * 2**exponent, settings.backoff_max)
    return timedelta(seconds=seconds * (1 + _jitter(key)))


def _jitter(key: str) -> float:
    """Return a share between -0.1 and 0.1 that depends on ``key`` only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32 * 0.2 - 0.1


def _history(siblings: Sequence[RemediationRequest]) -> Iterator[tuple[_Past, RemediationRequest]]:
    for sibling in sorted(siblings, key=_age, reverse=True):
        yield _past(sibling), sibling


def _past(sibling: RemediationRequest) -> _Past:
    status = sibling.status
    paused = status.block_reason is BlockReason.CONSECUTIVE_FAILURES
    match status.overall_phase:
        case Phase.FAILED if status.failure_phase is FailurePhase.DEDUPLICATED:
            return _Past.NOTHING
        case Phase.FAILED if paused and status.failure_phase is FailurePhase.BLOCKED:
            return _Past.PAUSE
        case Phase.FAILED | Phase.TIMED_OUT:
            return _Past.FAILURE
        case Phase.BLOCKED if paused:
            return _Past.FAILURE
        case Phase.COMPLETED if status.outcome is Outcome.INCONCLUSIVE:
            return _Past.FAILURE
        case Phase.COMPLETED if status.outcome in {Outcome.REMEDIATED, Outcome.NO_ACTION_REQUIRED}:
            return _Past.SUCCESS
        case _:
            return _Past.NOTHING


def _executed(sibling: RemediationRequest) -> bool:
    return any(past.failure.was_execution_failure for past in sibling.status.previous_executions)


def _active(sibling: RemediationRequest) -> bool:
    return sibling.status.overall_phase is None or not sibling.status.overall_phase.terminal


def _age(request: RemediationRequest) -> tuple[datetime, str]:
    return request.created, request.name


def _others(q: _Question) -> list[WorkflowExecution]:
    mine = q.request.uid
    return [e for e in q.facts.executions if e.spec.remediation_request_ref.uid != mine and not e.spec.dry_run]
