"""What a notification does next: write intents down, send them, fold the results in, end truthfully. Pure and total.

An attempt is first on record as ``sending`` and only then sent. An attempt on record as ``sending`` that this process knows
nothing of was begun by one that died: it becomes ``unknown`` and the next attempt is marked a possible duplicate. Nothing
is called sent that was not, and no channel at all is a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from actors.notification import outbox, retry
from actors.notification.outbox import DELIVER, INTEND, Ended, Local
from actors.notification.plan import Plan
from actors.notification.retry import Standing, State
from kubernaut_ray import conditions
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit, Call, Decision, Delete, Effect, Key
from kubernaut_ray.crds.enums import AttemptStatus, AuditCategory, AuditOutcome, NotificationReason
from kubernaut_ray.crds.enums import NotificationPhase as Phase
from kubernaut_ray.crds.notification_request import (
    DeliveryAttempt,
    NotificationRequest,
    NotificationRequestStatus,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.redact import redact

Status = NotificationRequestStatus

ACTOR = "notification-controller"
UNSEEN = "the process that was sending ended before it could say how it went"
TERMINAL = frozenset({Phase.SENT, Phase.PARTIALLY_SENT, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Observed:
    """``local`` is what this process knows of the attempts; ``held`` which deliveries must wait, and until when."""

    notification: NotificationRequest
    plan: Plan
    local: Mapping[tuple[str, int], Local | Ended] = field(default_factory=dict)
    held: Mapping[str, datetime] = field(default_factory=dict)


def decide(seen: Observed, now: datetime) -> Decision[Status]:
    """Return the notification's next step."""
    own = seen.notification
    if own.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    match own.status.phase:
        case None:
            status = own.status.replace(phase=Phase.PENDING, queued_at=now, observed_generation=own.metadata.generation)
            return Decision("Accepted", status)
        case Phase.SENT | Phase.PARTIALLY_SENT | Phase.FAILED:
            return _finished(own, now)
        case _ if not seen.plan.deliveries:
            return _nowhere(seen, now)
        case _:
            return _deliver(seen, now)


def _nowhere(seen: Observed, now: datetime) -> Decision[Status]:
    """Zero deliveries are zero successes, not "all of them"."""
    message = f"No channel was resolved (receivers: {', '.join(seen.plan.receivers) or 'none'}); nobody was told"
    status = _resolved(seen, now, False, "NoChannelsResolved", message).replace(
        phase=Phase.FAILED,
        reason=NotificationReason.NO_CHANNELS_RESOLVED,
        message=message,
        completion_time=now,
    )
    fact = _fact(seen.notification, "failed", "(none)", AuditOutcome.FAILURE, now, attempts=0, error=message, of=0)
    return Decision("NoChannelsResolved", status, (fact,))


def _deliver(seen: Observed, now: datetime) -> Decision[Status]:
    own = seen.notification
    folded = tuple(_folded(attempt, seen) for attempt in own.status.delivery_attempts)
    refused = {attempt.channel for attempt in folded}
    folded += tuple(
        DeliveryAttempt(channel=d.key, attempt=1, timestamp=now, status=AttemptStatus.INVALID, error=d.problem)
        for d in seen.plan.deliveries
        if d.problem and d.key not in refused
    )
    effects: list[Effect] = [
        outbox.call(DELIVER, own, attempt.channel, attempt.attempt, attempt.possible_duplicate)
        for attempt in folded
        if attempt.status is AttemptStatus.SENDING and seen.local.get(_id(attempt)) is Local.PROMISED
    ]
    attempts, promises = _intents(seen, folded, now)
    standings = _standings(seen, attempts, now)
    status = _resolved(seen, now, True, "ChannelsResolved", f"deliveries: {', '.join(s.key for s in standings)}")
    status = _summed(own, status, attempts, standings, now)
    waits = [_due(standing, seen) for standing in standings if standing.due is not None]
    status = status.replace(next_retry_at=min(waits, default=None))
    before = {s.key for s in _standings(seen, own.status.delivery_attempts, now) if s.over}
    facts = [_outcome(own, s, attempts, now, of=len(standings)) for s in standings if s.over and s.key not in before]
    reason = str(status.reason or status.phase)
    changed = status if status != own.status else None
    return Decision(reason, changed, (*effects, *promises, *facts), min(waits, default=None))


def _folded(attempt: DeliveryAttempt, seen: Observed) -> DeliveryAttempt:
    """The attempt with what became of it since it was written down."""
    if attempt.status is not AttemptStatus.SENDING:
        return attempt
    match seen.local.get(_id(attempt)):
        case Ended() as end:
            return attempt.replace(status=end.status, error=end.error, duration_seconds=end.seconds)
        case None:
            return attempt.replace(status=AttemptStatus.UNKNOWN, error=UNSEEN)
        case _:
            return attempt


def _intents(
    seen: Observed, attempts: tuple[DeliveryAttempt, ...], now: datetime
) -> tuple[tuple[DeliveryAttempt, ...], list[Call]]:
    """The attempts that may start now, as intents on record, and the promises that go with them."""
    own = seen.notification
    promises: list[Call] = []
    for standing in _standings(seen, attempts, now):
        if standing.state not in {State.FRESH, State.WAITING} or _due(standing, seen) > now:
            continue
        number = standing.attempts + 1
        intent = DeliveryAttempt(
            channel=standing.key,
            attempt=number,
            timestamp=now,
            status=AttemptStatus.SENDING,
            possible_duplicate=standing.possible_duplicate,
        )
        attempts = (*attempts, intent)
        promises.append(outbox.call(INTEND, own, standing.key, number, standing.possible_duplicate))
    return attempts, promises


def _standings(seen: Observed, attempts: tuple[DeliveryAttempt, ...], now: datetime) -> list[Standing]:
    own = seen.notification
    return [
        retry.standing(delivery.key, attempts, own.spec.retry_policy, seed=own.uid, now=now)
        for delivery in seen.plan.deliveries
    ]


def _due(standing: Standing, seen: Observed) -> datetime:
    """When the next attempt may start: after its backoff, and not while the way out is held."""
    due = standing.due or datetime.min.replace(tzinfo=seen.notification.created.tzinfo)
    return max(due, seen.held.get(standing.key, due))


def _summed(
    own: NotificationRequest,
    status: Status,
    attempts: tuple[DeliveryAttempt, ...],
    standings: list[Standing],
    now: datetime,
) -> Status:
    """Phase, reason, counts and message from where the deliveries stand."""
    good = sum(s.state is State.DELIVERED for s in standings)
    bad = [s for s in standings if s.state in {State.REFUSED, State.EXHAUSTED}]
    over = good + len(bad) == len(standings)
    phase, reason = _phase(own.status.phase, good, bad, over, attempts)
    told = f"{good} of {len(standings)} deliveries succeeded"
    errors = {s.key: next((a.error for a in reversed(attempts) if a.channel == s.key and a.error), "") for s in bad}
    if errors:
        told += "; given up: " + "; ".join(f"{key}: {error}" for key, error in errors.items())
    return status.replace(
        phase=phase,
        reason=reason,
        message=told[:32_000],
        delivery_attempts=attempts,
        total_attempts=len(attempts),
        successful_deliveries=good,
        failed_deliveries=len(bad),
        processing_started_at=own.status.processing_started_at or now,
        completion_time=now if phase in TERMINAL else None,
    )


def _phase(
    old: Phase | None, good: int, bad: list[Standing], over: bool, attempts: tuple[DeliveryAttempt, ...]
) -> tuple[Phase, NotificationReason | None]:
    if over and not bad:
        return Phase.SENT, NotificationReason.ALL_DELIVERIES_SUCCEEDED
    if over and good:
        return Phase.PARTIALLY_SENT, NotificationReason.PARTIAL_DELIVERY_SUCCESS
    if over:
        worn_out = any(standing.state is State.EXHAUSTED for standing in bad)
        return Phase.FAILED, (
            NotificationReason.MAX_RETRIES_EXHAUSTED if worn_out else NotificationReason.ALL_DELIVERIES_FAILED
        )
    tried = any(a.status not in {AttemptStatus.SENDING, AttemptStatus.SUCCESS} for a in attempts)
    if old is Phase.RETRYING or (tried and old is Phase.SENDING):
        return Phase.RETRYING, NotificationReason.PARTIAL_FAILURE_RETRYING
    return Phase.SENDING, None


def _finished(own: NotificationRequest, now: datetime) -> Decision[Status]:
    """A message of its own is removed after its retention; one that belongs to a remediation goes with that."""
    ended = own.status.completion_time
    if own.metadata.owner_references or ended is None:
        return Decision("Finished", settled=True)
    over = ended + timedelta(days=own.spec.retention_days)
    if now < over:
        return Decision("Finished", wake_at=over, settled=True)
    return Decision(
        "RetentionOver",
        effects=(Delete(resources.NOTIFICATION_REQUEST, Key(own.namespace, own.name), own.uid),),
    )


def _resolved(seen: Observed, now: datetime, status: bool, reason: str, message: str) -> Status:
    own = seen.notification
    marked = conditions.with_condition(
        own.status.conditions,
        "RoutingResolved",
        status=status,
        reason=reason,
        message=message,
        now=now,
        generation=own.metadata.generation,
    )
    return own.status.replace(receivers=seen.plan.receivers[:50], conditions=marked)


def _outcome(
    own: NotificationRequest, standing: Standing, attempts: tuple[DeliveryAttempt, ...], now: datetime, *, of: int
) -> Audit:
    """One fact a delivery, when it is over; ``of`` is how many deliveries the notification has."""
    last = next((a for a in reversed(attempts) if a.channel == standing.key), None)
    if standing.state is State.DELIVERED:
        return _fact(own, "sent", standing.key, AuditOutcome.SUCCESS, now, attempts=standing.attempts, of=of)
    error = last.error if last else ""
    return _fact(
        own, "failed", standing.key, AuditOutcome.FAILURE, now, attempts=standing.attempts, error=redact(error), of=of
    )


def _fact(
    own: NotificationRequest, what: str, key: str, outcome: AuditOutcome, now: datetime, **data: str | int
) -> Audit:
    reference = own.spec.remediation_request_ref
    return Audit(
        AuditEvent.fact(
            f"notification.message.{what}",
            correlation_id=reference.name if reference and reference.name else own.name,
            category=AuditCategory.NOTIFICATION,
            now=now,
            outcome=outcome,
            actor=ACTOR,
            key=(own.uid, key),
            resource_type=own.kind(),
            resource_id=own.name,
            namespace=own.namespace,
            event_data={"delivery": key, "type": str(own.spec.type), "priority": str(own.spec.priority), **data},
        )
    )


def _id(attempt: DeliveryAttempt) -> tuple[str, int]:
    return attempt.channel, attempt.attempt
