"""Where a delivery stands, and how long it waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.notification.breaker import Breaker
from actors.notification.retry import State, backoff, standing
from kubernaut_ray.crds.enums import AttemptStatus as End
from kubernaut_ray.crds.notification_request import DeliveryAttempt, RetryPolicy
from tests import build

POLICY = RetryPolicy()


def attempts(*ends: End) -> tuple[DeliveryAttempt, ...]:
    return tuple(
        DeliveryAttempt(channel="a/slack", attempt=n + 1, timestamp=build.NOW, status=end) for n, end in enumerate(ends)
    )


@pytest.mark.parametrize(
    ("ends", "state", "duplicate"),
    [
        pytest.param([], State.FRESH, False, id="never tried"),
        pytest.param([End.SENDING], State.SENDING, False, id="under way"),
        pytest.param([End.SUCCESS], State.DELIVERED, False, id="delivered"),
        pytest.param([End.INVALID], State.REFUSED, False, id="refused for good"),
        pytest.param([End.FAILED], State.WAITING, False, id="failed once"),
        pytest.param([End.TIMEOUT], State.WAITING, True, id="timed out: may have arrived"),
        pytest.param([End.UNKNOWN], State.WAITING, True, id="ended unseen: may have arrived"),
        pytest.param([End.UNKNOWN, End.FAILED], State.WAITING, True, id="still may have arrived"),
        pytest.param([End.FAILED] * 5, State.EXHAUSTED, False, id="five failures"),
        pytest.param([End.FAILED] * 4 + [End.UNKNOWN], State.WAITING, True, id="unseen uses up nothing"),
        pytest.param([End.UNKNOWN] * 10, State.EXHAUSTED, False, id="but not for ever"),
        pytest.param([End.FAILED, End.SUCCESS], State.DELIVERED, False, id="delivered in the end"),
    ],
)
def test_standing(ends: list[End], state: State, duplicate: bool) -> None:
    """One delivery, judged from its attempts alone."""
    found = standing("a/slack", attempts(*ends), POLICY, seed="x", now=build.NOW)
    assert (state, duplicate) == (found.state, found.possible_duplicate)


def test_other_deliveries_do_not_count() -> None:
    """Each delivery has its own attempts."""
    assert standing("b/slack", attempts(End.FAILED), POLICY, seed="x", now=build.NOW).state is State.FRESH


@pytest.mark.parametrize(("failures", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (9, 480)])
def test_backoff_doubles_up_to_its_limit(failures: int, seconds: float) -> None:
    """30, 60, 120, 240, 480 seconds, ten per cent either way."""
    delay = backoff(failures, POLICY, "seed").total_seconds()
    assert seconds * 0.9 <= delay <= seconds * 1.1


def test_an_unseen_end_is_tried_again_at_once() -> None:
    """It may not have gone out at all."""
    assert standing("a/slack", attempts(End.UNKNOWN), POLICY, seed="x", now=build.NOW).due == build.NOW


@given(
    failures=st.integers(0, 30),
    policy=st.builds(
        RetryPolicy,
        initial_backoff_seconds=st.integers(1, 300),
        backoff_multiplier=st.integers(1, 10),
        max_backoff_seconds=st.integers(60, 3600),
    ),
)
def test_backoff_keeps_to_the_policy(failures: int, policy: RetryPolicy) -> None:
    """Never above the policy's limit (and its jitter), whatever the numbers."""
    assert backoff(failures, policy, "s") <= timedelta(seconds=policy.max_backoff_seconds * 1.1)


def test_a_breaker_opens_waits_and_closes_carefully() -> None:
    """Three failures open it for half a minute; one failure opens it again, two successes close it."""
    breaker = Breaker()
    for _ in range(2):
        breaker.failed(build.NOW)
    assert breaker.not_before is None
    breaker.failed(build.NOW)
    assert breaker.not_before == build.later(30)
    breaker.failed(build.later(31))
    assert breaker.not_before == build.later(61)
    breaker.succeeded()
    assert (breaker.not_before, breaker.tripped) == (None, True)
    breaker.failed(build.later(70))
    assert breaker.not_before == build.later(100)
    breaker.succeeded()
    breaker.succeeded()
    assert not breaker.tripped
    breaker.failed(build.later(110))
    assert breaker.not_before is None


def test_the_other_side_may_ask_to_wait() -> None:
    """``Retry-After`` holds deliveries without opening the breaker."""
    breaker = Breaker()
    breaker.hold(build.later(120))
    breaker.hold(build.later(60))
    assert (breaker.not_before, breaker.tripped) == (build.later(120), False)
