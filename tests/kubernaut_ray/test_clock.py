"""Instants and durations on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray import clock


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))
def test_an_instant_survives_the_wire(instant: datetime) -> None:
    """Rendering and parsing give back the same instant to the microsecond."""
    assert clock.parse_rfc3339(clock.rfc3339(instant)) == instant


@given(st.integers(min_value=0, max_value=10**6))
def test_a_duration_survives_the_wire(seconds: int) -> None:
    """Go's form of whole seconds parses back to the same duration."""
    assert clock.parse_duration(clock.format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("250ms", 0.25), ("2m34s", 154), ("7d", 604800), ("1.5m", 90)],
)
def test_durations_parse(text: str, seconds: float) -> None:
    """Go-style durations of every unit are read."""
    assert clock.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m5", "1h 30m", "-5s", "5x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else raises and shows what a duration looks like."""
    with pytest.raises(ValueError, match="30s"):
        clock.parse_duration(text)


def test_an_instant_without_offset_is_refused() -> None:
    """RFC 3339 wants an offset."""
    with pytest.raises(ValueError, match="offset"):
        clock.parse_rfc3339("2026-01-01T00:00:00")
