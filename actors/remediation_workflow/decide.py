"""What becomes of a RemediationWorkflow: protected, registered, looked at again, withdrawn. Pure and total.

Three conditions tell where it stands. ``Registered``: the catalog holds what this generation asks for; a passing fault does
not take it back. ``Ready``: so it was at the last look, and nobody but ``spec.suspend`` keeps it from being offered.
``Stalled``: refused, and only an edit (of the object, the bundle or the catalog) helps; GitOps tools read it as failure.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, assert_never

from actors.remediation_workflow.desk import (
    PERFORMER,
    Asking,
    Away,
    Found,
    NotAsked,
    Refused,
    Withdrawn,
)
from actors.remediation_workflow.errands import Errand, Register, Withdraw
from actors.remediation_workflow.observe import Observed, ticket
from kubernaut_ray import conditions, names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control.decision import Audit, Call, Decision, Effect, Key, Patch
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome, WorkflowStatus
from kubernaut_ray.crds.enums import RegistrationPhase as Phase
from kubernaut_ray.crds.enums import RegistrationReason as Reason
from kubernaut_ray.crds.remediation_workflow import (
    MAX_PROBLEMS,
    RegistrationProblem,
    RemediationWorkflow,
    RemediationWorkflowStatus,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import CatalogSettings

Status = RemediationWorkflowStatus
Marks = dict[str, tuple[bool | None, Reason]]

ACTOR = "remediation-workflow-controller"
REGISTERED, READY, STALLED, WITHDRAWN = "Registered", "Ready", "Stalled", "Withdrawn"
PATIENCE = timedelta(minutes=3)
"""An errand wakes its object when it ends; this is only against a wake that was lost."""
_HELD = frozenset({Phase.REGISTERED, Phase.SUSPENDED})


def decide(seen: Observed, now: datetime, settings: CatalogSettings) -> Decision[Status]:
    """Return the object's next step."""
    own = seen.workflow
    if own.metadata.deletion_timestamp is not None:
        return _leave(seen, now, settings)
    if own.status.phase is None or names.FINALIZER_REMEDIATION_WORKFLOW not in own.metadata.finalizers:
        return _protect(own, now)
    match seen.answer:
        case NotAsked() if _due(own.status, own.metadata.generation, now):
            return _ask(own, _register(seen), now)
        case NotAsked():
            return Decision("Settled", wake_at=own.status.next_check_at)
        case Asking():
            return Decision("WaitingForCatalog", wake_at=now + PATIENCE)
        case Found(record):
            return _found(own, record, now, settings)
        case Refused() as refusal:
            return _refused(own, refusal, now, settings)
        case Away() as fault:
            return _away(own, fault, now, settings)
        case Withdrawn():
            return Decision("AnswerToAnotherErrand", wake_at=now + PATIENCE)
        case _:
            assert_never(seen.answer)


def _due(status: Status, generation: int, now: datetime) -> bool:
    """At once for a new object and after an edit; otherwise when the next look, or the backoff of a fault, is due."""
    return status.next_check_at is None or now >= status.next_check_at or status.observed_generation != generation


def _protect(own: RemediationWorkflow, now: datetime) -> Decision[Status]:
    """Set the finalizer before the catalog is told anything, so that a deletion cannot overtake the registration."""
    effects: tuple[Effect, ...] = ()
    if names.FINALIZER_REMEDIATION_WORKFLOW not in own.metadata.finalizers:
        effects = (_finalizers(own, (*own.metadata.finalizers, names.FINALIZER_REMEDIATION_WORKFLOW)),)
    if own.status.phase is not None:
        return Decision("Protected", None, effects, wake_at=now)
    marks: Marks = {REGISTERED: (None, Reason.PENDING), READY: (None, Reason.PENDING)}
    message = f"Registering {own.spec.execution.bundle}"
    return Decision("Accepted", _with(own, marks, message, now, phase=Phase.PENDING), effects, wake_at=now)


def _register(seen: Observed) -> Register:
    own, status = seen.workflow, seen.workflow.status
    toggled = status.suspended is True and not own.spec.suspend
    held = _held(seen.others)
    return Register(
        source=own.source,
        image=own.spec.image,
        digest=own.spec.digest,
        expected=own.spec.expected(),
        suspend=own.spec.suspend,
        overrule=toggled and status.workflow_id not in held,
        known_id=status.workflow_id,
        claimed=_claimed(seen.others),
        held=held,
    )


def _claimed(others: tuple[RemediationWorkflow, ...]) -> frozenset[str]:
    return frozenset(o.status.workflow_id for o in others if o.status.workflow_id)


def _held(others: tuple[RemediationWorkflow, ...]) -> frozenset[str]:
    return _claimed(tuple(other for other in others if other.spec.suspend))


def _ask(own: RemediationWorkflow, errand: Errand, now: datetime) -> Decision[Status]:
    kind = f"{own.uid}/{type(errand).__name__}/{own.metadata.generation}"
    payload = {"key": Key(own.namespace, own.name), "ticket": ticket(own), "errand": errand}
    call = Call(PERFORMER, kind, payload)
    return Decision("Asking", effects=(call,), wake_at=now + PATIENCE)


def _found(own: RemediationWorkflow, record: Workflow, now: datetime, settings: CatalogSettings) -> Decision[Status]:
    """The catalog holds what the spec asks for. Whether it offers it is the record's to say."""
    phase, reason, message = _standing(own, record)
    fine = reason not in {Reason.DISABLED_IN_CATALOG, Reason.RETIRED_IN_CATALOG}
    marks: Marks = {REGISTERED: (True, reason), READY: (fine, reason), STALLED: (False, reason)}
    status = _with(
        own,
        marks,
        message,
        now,
        phase=phase,
        workflow_id=record.workflow_id,
        workflow_name=record.workflow_name,
        version=record.version,
        action_type=record.action_type,
        container_image=record.container_image,
        container_digest=record.container_digest,
        content_hash=record.content_hash,
        registered_at=record.created_at or now,
        suspended=own.spec.suspend,
        problems=(),
        failures=0,
        next_check_at=now + timedelta(seconds=settings.registration_interval),
    )
    return Decision(str(reason), status, tuple(_facts(own, status, record, now)), wake_at=status.next_check_at)


def _standing(own: RemediationWorkflow, record: Workflow) -> tuple[Phase, Reason, str]:
    what = f"{record.workflow_name} {record.version}"
    why = f": {record.status_changed_reason}" if record.status_changed_reason else ""
    match record.status:
        case WorkflowStatus.ACTIVE if record.is_latest_version:
            return Phase.REGISTERED, Reason.REGISTERED, f"{what} is registered"
        case WorkflowStatus.ACTIVE:
            return (
                Phase.REGISTERED,
                Reason.NOT_LATEST,
                (
                    f"{what} is registered, but not offered: a higher version of {record.workflow_name} is in the catalog; "
                    "to go back, register the older content under a version above it"
                ),
            )
        case WorkflowStatus.DISABLED if own.spec.suspend:
            return Phase.SUSPENDED, Reason.SUSPENDED, f"{what} is registered and disabled while spec.suspend is set"
        case WorkflowStatus.DISABLED:
            return (
                Phase.SUSPENDED,
                Reason.DISABLED_IN_CATALOG,
                (
                    f"{what} is registered, but {record.status_changed_by or 'somebody'} disabled it in the catalog{why}. "
                    f"That stands until somebody takes it back: kubernaut-ray workflow enable {record.workflow_name} "
                    f"--version {record.version} --reason WHY, or set spec.suspend and take it away again"
                ),
            )
        case _:
            return (
                Phase.SUSPENDED,
                Reason.RETIRED_IN_CATALOG,
                (f"{what} is registered, but {record.status.value} in the catalog{why}, and so not offered"),
            )


def _refused(own: RemediationWorkflow, refusal: Refused, now: datetime, settings: CatalogSettings) -> Decision[Status]:
    """Say what is wrong, all of it. What was registered before stays registered, and the message says so."""
    no, yes = (False, refusal.reason), (True, refusal.reason)
    marks: Marks = {REGISTERED: no, READY: no, STALLED: yes}
    # A bundle that is not there yet is often pushed a moment after the object that names it.
    awaited = refusal.reason is Reason.BUNDLE_NOT_FOUND
    failures = own.status.failures + 1 if awaited else 0
    wait = (
        min(settings.registration_interval, _backoff(own, failures, settings))
        if awaited
        else settings.registration_interval
    )
    status = _with(
        own,
        marks,
        f"{refusal.message}{_still(own, refusal.standing)}",
        now,
        phase=Phase.REJECTED,
        suspended=_carried_out(own, refusal.standing),
        problems=tuple(
            RegistrationProblem(path=path[:512], message=message[:2048])
            for path, message in refusal.problems[:MAX_PROBLEMS]
        ),
        failures=failures,
        next_check_at=now + timedelta(seconds=wait),
    )
    before = own.status
    same = (before.phase, before.observed_generation, before.message)
    known = same == (status.phase, status.observed_generation, status.message)
    told = hashlib.sha256(refusal.message.encode()).hexdigest()[:16]
    fact = _fact(
        own,
        "rejected",
        AuditOutcome.FAILURE,
        now,
        (str(own.metadata.generation), refusal.reason, told),
        reason=str(refusal.reason),
        message=refusal.message[:2000],
    )
    return Decision(str(refusal.reason), status, () if known else (fact,), wake_at=status.next_check_at)


def _away(own: RemediationWorkflow, fault: Away, now: datetime, settings: CatalogSettings) -> Decision[Status]:
    """Nobody could be asked. What is registered stays so; only what this edit asks for is unknown."""
    status, generation = own.status, own.metadata.generation
    registered = conditions.find(status.conditions, REGISTERED)
    stands = registered is not None and registered.status == "True" and registered.observed_generation == generation
    marks: Marks = {READY: (None, fault.reason)}
    if not stands:
        marks |= {REGISTERED: (None, fault.reason), STALLED: (False, fault.reason)}
    phase = status.phase
    if phase is None or (phase is Phase.REJECTED and status.observed_generation != generation):
        phase = Phase.PENDING
    if fault.standing is not None and phase in _HELD:
        phase = Phase.REGISTERED if fault.standing.status is WorkflowStatus.ACTIVE else Phase.SUSPENDED
    failures = status.failures + 1
    due = now + timedelta(seconds=max(_backoff(own, failures, settings), fault.after or 0.0))
    message = f"{fault.message}; asking again at {due:%H:%M:%S} UTC{_still(own, fault.standing)}"
    suspended = _carried_out(own, fault.standing)
    changed = _with(own, marks, message, now, phase=phase, suspended=suspended, failures=failures, next_check_at=due)
    return Decision(str(fault.reason), changed, wake_at=due)


def _carried_out(own: RemediationWorkflow, standing: Workflow | None) -> bool | None:
    """What ``suspended`` becomes without a registration: an errand touches the standing record only to suspend it."""
    return own.status.suspended if standing is None else True


def _still(own: RemediationWorkflow, standing: Workflow | None) -> str:
    if not own.status.workflow_id:
        return ""
    disabled = bool(own.status.suspended) if standing is None else standing.status is not WorkflowStatus.ACTIVE
    word = "registered and disabled" if disabled else "registered"
    return f". {own.status.workflow_name} {own.status.version} stays {word}"


def _leave(seen: Observed, now: datetime, settings: CatalogSettings) -> Decision[Status]:
    """Take the workflow out of service, and only then let the object go."""
    own = seen.workflow
    if names.FINALIZER_REMEDIATION_WORKFLOW not in own.metadata.finalizers:
        return Decision("Deleted")
    match seen.answer:
        case Withdrawn(disabled):
            rest = tuple(f for f in own.metadata.finalizers if f != names.FINALIZER_REMEDIATION_WORKFLOW)
            fact = _fact(own, "withdrawn", AuditOutcome.SUCCESS, now, (), disabled=list(disabled))
            return Decision("Withdrawn", effects=(fact, _finalizers(own, rest)))
        case Asking():
            return Decision("WaitingForCatalog", wake_at=now + PATIENCE)
        case Away() | Refused() as fault:
            failures = own.status.failures + 1
            after = fault.after if isinstance(fault, Away) else None
            due = now + timedelta(seconds=max(_backoff(own, failures, settings), after or 0.0))
            message = f"Being deleted; it must be disabled in the catalog first, and that failed: {fault.message}"
            marks: Marks = {WITHDRAWN: (False, fault.reason), READY: (None, fault.reason)}
            status = _with(own, marks, message, now, failures=failures, next_check_at=due)
            return Decision(str(fault.reason), status, wake_at=due)
        case _:
            failed, next_look = conditions.find(own.status.conditions, WITHDRAWN), own.status.next_check_at
            if failed is not None and next_look is not None and now < next_look:
                return Decision("BackingOff", wake_at=next_look)
            errand = Withdraw(own.source, own.status.workflow_id, _claimed(seen.others), _held(seen.others))
            return _ask(own, errand, now)


def _backoff(own: RemediationWorkflow, failures: int, settings: CatalogSettings) -> float:
    """Return seconds: doubled with each failure, spread by the object's UID so that many do not come back together."""
    delay = min(settings.registration_retry_base * float(1 << min(failures - 1, 20)), settings.registration_retry_max)
    share = int.from_bytes(hashlib.sha256(f"{own.uid}/{failures}".encode()).digest()[:4], "big") / 2**32
    return delay * (0.75 + share / 4)


def _with(own: RemediationWorkflow, marks: Marks, message: str, now: datetime, **changes: Any) -> Status:
    found: tuple[conditions.Condition, ...] = own.status.conditions
    for type_, (status, reason) in marks.items():
        found = conditions.with_condition(
            found,
            type_,
            status=status,
            reason=str(reason),
            message=message[:4096],
            now=now,
            generation=own.metadata.generation,
        )
    return own.status.replace(
        **{
            "observed_generation": own.metadata.generation,
            "message": message[:32_000],
            "conditions": found,
            "last_checked_at": now if "next_check_at" in changes else own.status.last_checked_at,
            **changes,
        }
    )


def _finalizers(own: RemediationWorkflow, finalizers: tuple[str, ...]) -> Patch:
    """Set the finalizers on the very version that was seen."""
    return Patch(
        resources.REMEDIATION_WORKFLOW,
        Key(own.namespace, own.name),
        {"metadata": {"finalizers": list(finalizers)}},
        resource_version=own.metadata.resource_version,
    )


def _facts(own: RemediationWorkflow, status: Status, record: Workflow, now: datetime) -> list[Effect]:
    """What is news: a version registered, or put out of service, or put back."""
    facts: list[Effect] = []
    before = own.status
    data = {
        "workflow_id": record.workflow_id,
        "workflow_name": record.workflow_name,
        "version": record.version,
        "container_image": record.pinned_image,
        "content_hash": record.content_hash,
    }
    if (before.workflow_id, before.registered_at) != (record.workflow_id, status.registered_at):
        key = (record.workflow_id, str(record.created_at))
        facts.append(_fact(own, "registered", AuditOutcome.SUCCESS, now, key, **data))
    was, is_ = before.phase is Phase.SUSPENDED, status.phase is Phase.SUSPENDED
    if was is not is_:
        by = {"by": record.status_changed_by, "reason": record.status_changed_reason}
        key = (record.workflow_id, str(record.status_changed_at))
        facts.append(_fact(own, "suspended" if is_ else "resumed", AuditOutcome.SUCCESS, now, key, **data, **by))
    return facts


def _fact(
    own: RemediationWorkflow, what: str, outcome: AuditOutcome, now: datetime, key: tuple[str, ...], **data: Any
) -> Audit:
    return Audit(
        AuditEvent.fact(
            f"workflow.registration.{what}",
            correlation_id=str(data.get("workflow_id") or own.status.workflow_id or own.name),
            category=AuditCategory.WORKFLOW,
            now=now,
            outcome=outcome,
            actor=ACTOR,
            key=(own.uid, *key),
            resource_type=own.kind(),
            resource_id=own.name,
            namespace=own.namespace,
            event_data={"bundle": own.spec.execution.bundle, "source": own.source, **data},
        )
    )
