"""Conditions move only when their meaning moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kubernaut_ray import conditions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def test_a_transition_time_stays_while_the_status_stays() -> None:
    """Another reason under the same status keeps the time; another status moves it."""
    first = conditions.with_condition((), "Ready", status=True, reason="Fine", now=NOW)
    same = conditions.with_condition(first, "Ready", status=True, reason="StillFine", now=LATER)
    other = conditions.with_condition(same, "Ready", status=None, reason="WhoKnows", now=LATER)
    assert same[0].last_transition_time == NOW
    assert (other[0].status, other[0].last_transition_time) == ("Unknown", LATER)


def test_conditions_keep_their_order() -> None:
    """A changed condition stays in its place, a new one goes last."""
    some = conditions.with_condition((), "A", status=True, reason="R", now=NOW)
    some = conditions.with_condition(some, "B", status=True, reason="R", now=NOW)
    some = conditions.with_condition(some, "A", status=False, reason="R", now=LATER)
    assert [c.type for c in some] == ["A", "B"]
    assert not conditions.is_true(some, "A")
    assert conditions.is_true(some, "B")
    assert conditions.find(some, "C") is None
