"""What a notification does next."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from actors.notification.config import FileConfig, LogConfig
from actors.notification.decide import Observed, decide
from actors.notification.outbox import DELIVER, INTEND, Ended, Local
from actors.notification.phases import TABLE
from actors.notification.plan import Delivery, Plan
from kubernaut_ray import conditions
from kubernaut_ray.control.decision import Audit, Call, Decision, Delete
from kubernaut_ray.crds.enums import AttemptStatus as End
from kubernaut_ray.crds.enums import NotificationPhase as Phase
from kubernaut_ray.crds.enums import NotificationReason
from kubernaut_ray.crds.notification_request import (
    DeliveryAttempt,
    NotificationRequest,
    NotificationRequestStatus,
    RetryPolicy,
)
from tests import build

TWO = Plan(("ops",), (Delivery("ops/log", LogConfig()), Delivery("ops/file", FileConfig())))
ONE = Plan(("ops",), (Delivery("ops/log", LogConfig()),))


def step(seen: Observed, now: datetime = build.NOW) -> Decision[NotificationRequestStatus]:
    decision = decide(seen, now)
    if decision.status is not None:
        TABLE.check(str(seen.notification.status.phase or ""), str(decision.status.phase or ""))
    return decision


def result(decision: Decision[NotificationRequestStatus]) -> NotificationRequestStatus:
    assert decision.status is not None, decision.reason
    return decision.status


def calls(decision: Decision[Any], performer: str) -> list[str]:
    return [e.payload["key"] for e in decision.effects if isinstance(e, Call) and e.performer == performer]


def told(decision: Decision[Any]) -> list[tuple[str, str]]:
    return [(e.event.event_type, e.event.event_data["delivery"]) for e in decision.effects if isinstance(e, Audit)]


def notice(phase: Phase | None = Phase.PENDING, *attempts: DeliveryAttempt, **spec: Any) -> NotificationRequest:
    return build.notification_request(phase=phase, delivery_attempts=attempts, spec=spec)


def attempt(key: str = "ops/log", number: int = 1, end: End = End.SENDING, **fields: Any) -> DeliveryAttempt:
    return DeliveryAttempt(channel=key, attempt=number, timestamp=build.NOW, status=end, **fields)


def test_a_new_notification_is_taken_up() -> None:
    """Pending first."""
    assert result(step(Observed(notice(None), TWO))).phase is Phase.PENDING


def test_intents_are_on_record_before_anything_is_sent() -> None:
    """The decision that writes ``sending`` only promises; nothing is delivered yet."""
    decision = step(Observed(notice(), TWO))
    status = result(decision)
    assert (status.phase, status.receivers) == (Phase.SENDING, ("ops",))
    assert [(a.channel, a.attempt, a.status) for a in status.delivery_attempts] == [
        ("ops/log", 1, End.SENDING),
        ("ops/file", 1, End.SENDING),
    ]
    assert (calls(decision, INTEND), calls(decision, DELIVER)) == (["ops/log", "ops/file"], [])
    assert conditions.is_true(status.conditions, "RoutingResolved")


def test_a_promise_on_record_is_sent() -> None:
    """Only now."""
    decision = step(Observed(notice(Phase.SENDING, attempt()), ONE, {("ops/log", 1): Local.PROMISED}))
    assert (calls(decision, DELIVER), calls(decision, INTEND)) == (["ops/log"], [])


def test_what_is_under_way_is_waited_for() -> None:
    """No second attempt beside a running one."""
    decision = step(Observed(notice(Phase.SENDING, attempt()), ONE, {("ops/log", 1): Local.RUNNING}))
    assert not any(isinstance(effect, Call) for effect in decision.effects)


def test_a_result_is_folded_in_and_told_once() -> None:
    """Sent, with one fact."""
    local = {("ops/log", 1): Ended(End.SUCCESS, 0.2)}
    decision = step(Observed(notice(Phase.SENDING, attempt()), ONE, local))
    status = result(decision)
    assert (status.phase, status.reason) == (Phase.SENT, NotificationReason.ALL_DELIVERIES_SUCCEEDED)
    assert (status.successful_deliveries, status.completion_time) == (1, build.NOW)
    assert told(decision) == [("notification.message.sent", "ops/log")]
    assert step(Observed(notice().replace(status=status), ONE)).effects == ()


def test_an_attempt_that_nobody_remembers_is_unknown_and_repeated_with_a_mark() -> None:
    """The process died while sending: it may have gone out."""
    decision = step(Observed(notice(Phase.SENDING, attempt()), ONE))
    first, second = result(decision).delivery_attempts
    assert (first.status, second.status) == (End.UNKNOWN, End.SENDING)
    assert (second.attempt, second.possible_duplicate) == (2, True)
    assert result(decision).phase is Phase.RETRYING


def test_only_what_failed_is_tried_again_and_not_too_early() -> None:
    """The other channel keeps its success."""
    attempts = (attempt(end=End.FAILED, error="HTTP 503"), attempt("ops/file", end=End.SUCCESS))
    waiting = step(Observed(notice(Phase.SENDING, *attempts), TWO))
    status = result(waiting)
    assert (status.phase, status.reason) == (Phase.RETRYING, NotificationReason.PARTIAL_FAILURE_RETRYING)
    assert status.next_retry_at is not None
    assert build.later(27) <= status.next_retry_at <= build.later(33)
    assert waiting.wake_at == status.next_retry_at
    again = step(Observed(notice().replace(status=status), TWO), build.later(34))
    assert calls(again, INTEND) == ["ops/log"]


def test_an_own_status_write_does_not_bypass_the_backoff() -> None:
    """Looked at again at once, nothing happens."""
    seen = Observed(notice(Phase.SENDING, attempt(end=End.FAILED)), ONE)
    status = result(step(seen))
    assert step(replace(seen, notification=seen.notification.replace(status=status)), build.later(1)).status is None


def test_an_open_breaker_defers_and_uses_up_no_attempt() -> None:
    """Held back, on the first attempt as on a later one."""
    fresh = step(Observed(notice(), ONE, held={"ops/log": build.later(30)}))
    assert (result(fresh).delivery_attempts, fresh.wake_at) == ((), build.later(30))
    late = Observed(notice(Phase.RETRYING, attempt(end=End.UNKNOWN)), ONE, held={"ops/log": build.later(30)})
    assert calls(step(late), INTEND) == []
    assert calls(step(late, build.later(31)), INTEND) == ["ops/log"]


@pytest.mark.parametrize(
    ("log", "file", "phase", "reason"),
    [
        pytest.param(End.SUCCESS, End.INVALID, Phase.PARTIALLY_SENT, "PartialDeliverySuccess", id="one refused"),
        pytest.param(End.INVALID, End.INVALID, Phase.FAILED, "AllDeliveriesFailed", id="both refused"),
        pytest.param(End.FAILED, End.INVALID, Phase.FAILED, "MaxRetriesExhausted", id="one worn out"),
        pytest.param(End.SUCCESS, End.FAILED, Phase.PARTIALLY_SENT, "PartialDeliverySuccess", id="one given up"),
    ],
)
def test_ends(log: End, file: End, phase: Phase, reason: str) -> None:
    """Every end is told as it is."""
    attempts = (attempt(end=log), attempt("ops/file", end=file))
    seen = Observed(notice(Phase.SENDING, *attempts, retry_policy=RetryPolicy(max_attempts=1)), TWO)
    status = result(step(seen))
    assert (status.phase, str(status.reason)) == (phase, reason)


def test_no_channel_at_all_is_a_failure() -> None:
    """Zero of zero is not sent."""
    status = result(decision := step(Observed(notice(), Plan(("noop",), ()))))
    assert (status.phase, status.reason) == (Phase.FAILED, NotificationReason.NO_CHANNELS_RESOLVED)
    assert told(decision) == [("notification.message.failed", "(none)")]


def test_a_channel_that_cannot_be_used_is_refused_without_an_attempt_to_send() -> None:
    """Asked for by name, configured nowhere."""
    plan = Plan((), (Delivery("slack", problem="no receiver has slack_configs"),))
    status = result(decision := step(Observed(notice(), plan)))
    assert status.phase is Phase.FAILED
    assert "no receiver has slack_configs" in status.message
    assert calls(decision, INTEND) == []


def test_a_message_of_nobody_goes_after_its_retention() -> None:
    """One that belongs to a remediation goes with that instead."""
    alone = build.notification_request(phase=Phase.SENT, completion_time=build.NOW)
    week = 7 * 24 * 3600
    assert step(Observed(alone, ONE)).wake_at == build.later(week)
    assert isinstance(step(Observed(alone, ONE), build.later(week)).effects[0], Delete)
    owned = build.notification_request(owner=build.remediation_request(), phase=Phase.SENT, completion_time=build.NOW)
    assert step(Observed(owned, ONE), build.later(week)).effects == ()
