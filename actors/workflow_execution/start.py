"""May this execution create its run now? The checks in their order, each with its own answer. Pure.

Nothing has happened yet, so every refusal here says that nothing was executed. The grant is used up last, by a write that
only one execution can win: an execution that waits for its turn has not spent it, and fails as soon as it expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_never

from actors.workflow_execution import engines, leave, marks, queue, registered
from actors.workflow_execution.engines import Engine
from actors.workflow_execution.observe import Observed
from actors.workflow_execution.queue import Entry
from actors.workflow_execution.registered import Away
from actors.workflow_execution.signatures import Unasked, Unknown
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control.decision import Patch
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.kube.pipelines.cosign import Unverified
from kubernaut_ray.settings import Settings
from kubernaut_ray.signing import SigningKey


@dataclass(frozen=True, slots=True)
class Never:
    """It must not run."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: look again at ``at``."""

    reason: str
    message: str
    at: datetime
    queued: bool = False
    """Whether it is its turn that it waits for."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Use up the grant first."""

    claim: Patch


@dataclass(frozen=True, slots=True)
class Now:
    engine: Engine
    workflow: Workflow


@dataclass(frozen=True, slots=True)
class Admit:
    """Its turn has come: say so before anything is created."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Others were admitted before it."""

    why: str


Answer = Never | Later | Claim | Admit | GiveBack | Now
QUEUED = "Queued"
"""The reason of whoever waits for its turn."""
_LEAST_TIME = timedelta(seconds=60)


def impossible(seen: Observed, now: datetime, settings: Settings) -> Never | None:
    """Judge what no waiting will change, whoever has the target."""
    execution = seen.execution
    wrong = list(marks.problems(execution))
    if engines.chosen(execution, settings.execution.engines) is None:
        wrong.append(engines.unsupported(execution, settings.execution.engines))
    if wrong:
        return Never(Reason.CONFIGURATION_ERROR, "; ".join(wrong))
    if execution.spec.deadline is not None and now >= execution.spec.deadline:
        why = "the deadline passed before the workflow could start"
        waited = execution.status.message
        return Never(Reason.DEADLINE_EXCEEDED, f"{why}; the last that was known: {waited}" if waited else why)
    return None


def checked(seen: Observed, now: datetime, settings: Settings) -> Never | Later | Now:
    """Judge whether a run can be made of the execution, as the catalog has its workflow."""
    execution = seen.execution
    engine = engines.chosen(execution, settings.execution.engines)
    if engine is None:
        return Never(Reason.CONFIGURATION_ERROR, engines.unsupported(execution, settings.execution.engines))
    if isinstance(seen.workflow, Away):
        again = now + timedelta(seconds=settings.execution.poll_interval)
        message = f"Waiting for the catalog, to check the parameters against the workflow's schema: {seen.workflow.why}"
        return Later("CatalogAway", message, again)
    if seen.workflow is None:
        return Never(Reason.CONFIGURATION_ERROR, registered.missing(execution))
    wrong = list(registered.problems(execution, seen.workflow)) or list(engine.problems(execution, seen.workflow))
    if wrong:
        return Never(Reason.CONFIGURATION_ERROR, "; ".join(wrong))
    if settings.execution.signatures == "required":
        match seen.signature:
            case Unverified(why):
                return Never(Reason.CONFIGURATION_ERROR, f"only signed bundles may run here: {why}")
            case Unknown(why):
                again = now + timedelta(seconds=settings.execution.poll_interval)
                return Later("SignatureUnknown", f"Waiting until the bundle's signature can be checked: {why}", again)
            case Unasked():
                return Later("SignatureUnknown", "Waiting until the bundle's signature is checked", now)
    return Now(engine, seen.workflow)


def judge(seen: Observed, now: datetime, settings: Settings, key: SigningKey | None) -> Answer:
    """Judge an execution whose target is free."""
    if seen.ended:
        return Never(Reason.APPROVAL_INVALID, f"{seen.ended} before the workflow could start")
    allowed = leave.judge(seen.execution, seen.leave, key, now)
    if isinstance(allowed, leave.Refused):
        return Never(Reason.APPROVAL_INVALID, allowed.why)
    answer = checked(seen, now, settings)
    if not isinstance(answer, Now):
        return answer
    match queue.judge(entry(seen), seen.others, queue.Limits.of(settings.execution), now):
        case queue.Turn():
            return Admit()
        case queue.GiveBack(why):
            return GiveBack(why)
        case queue.Wait(why, at):
            return _queued(seen, why, at, now)
        case queue.Go():
            return Claim(allowed.claim) if isinstance(allowed, leave.Unused) else answer
        case never_here:
            assert_never(never_here)


def entry(seen: Observed) -> Entry:
    """Return the execution as the queue knows it."""
    execution = seen.execution
    return Entry(
        execution.uid,
        execution.name,
        execution.spec.target_resource,
        execution.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC),
        execution.status.admitted_at,
    )


def _queued(seen: Observed, why: str, at: datetime, now: datetime) -> Never | Later:
    """Wait for the turn, but not until so little time is left that the run would be cut off right after its start."""
    spec, created = seen.execution.spec, seen.execution.metadata.creation_timestamp
    last = None
    if spec.deadline is not None:
        last = spec.deadline - min(_LEAST_TIME, (spec.deadline - (created or now)) / 2)
        if now >= last:
            told = f"its turn did not come before its deadline was near; {why}"
            return Never(Reason.RESOURCE_EXHAUSTED, told)
    grant = spec.approval
    ends = [t for t in (at, last, grant.expires_at if grant is not None else None) if t is not None and t > now]
    return Later(QUEUED, f"Waiting for its turn, {why}", min(ends), queued=True)
