"""Maintenance windows: Alertmanager's rules for time intervals, to the minute, through summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.silence import TimeInterval
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.silences.windows import MONTHS, WEEKDAYS, next_minute, window


def interval(**fields: Any) -> TimeInterval:
    """Fields as in the object; times as ``HH:MM-HH:MM``."""
    times = [dict(zip(("startTime", "endTime"), text.split("-"), strict=True)) for text in fields.pop("times", ())]
    return TimeInterval.model_validate({"times": times, **fields})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHT = {"times": ["02:00-03:00"]}
BERLIN = {"location": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("fields", "instant", "inside"),
    [
        pytest.param({}, "2026-03-01T12:00", True, id="nothing said, always"),
        pytest.param(NIGHT, "2026-03-01T02:00", True, id="the first minute belongs to it"),
        pytest.param(NIGHT, "2026-03-01T02:59:59.999", True, id="the last second too"),
        pytest.param(NIGHT, "2026-03-01T03:00", False, id="the end does not"),
        pytest.param({"times": ["22:00-24:00", "00:00-04:00"]}, "2026-03-01T23:59", True, id="until midnight"),
        pytest.param({"times": ["22:00-24:00", "00:00-04:00"]}, "2026-03-02T00:00", True, id="and from midnight"),
        pytest.param({"times": ["22:00-24:00", "00:00-04:00"]}, "2026-03-02T04:00", False, id="but no longer"),
        pytest.param({"weekdays": ["sunday"]}, "2026-03-01T12:00", True, id="a Sunday"),
        pytest.param({"weekdays": ["monday:friday"]}, "2026-03-01T12:00", False, id="a Sunday is no working day"),
        pytest.param({"weekdays": ["monday:friday"]}, "2026-03-06T12:00", True, id="a Friday is one"),
        pytest.param({"weekdays": ["saturday", "sunday"]}, "2026-03-07T12:00", True, id="a weekend is two days"),
        pytest.param({"daysOfMonth": ["1:7"], "weekdays": ["sunday"]}, "2026-03-01T00:00", True, id="the first Sunday"),
        pytest.param({"daysOfMonth": ["1:7"], "weekdays": ["sunday"]}, "2026-03-08T00:00", False, id="the second one"),
        pytest.param({"daysOfMonth": ["-1"]}, "2026-02-28T12:00", True, id="the last day of February"),
        pytest.param({"daysOfMonth": ["-1"]}, "2028-02-28T12:00", False, id="which is another in a leap year"),
        pytest.param({"daysOfMonth": ["-3:-1"]}, "2026-04-28T12:00", True, id="the last three of a short month"),
        pytest.param({"daysOfMonth": ["-3:-1"]}, "2026-04-27T12:00", False, id="not the fourth from its end"),
        pytest.param({"daysOfMonth": ["29:31"]}, "2026-02-28T12:00", False, id="days that February has not"),
        pytest.param({"daysOfMonth": ["28:31"]}, "2026-02-28T12:00", True, id="cut at its end"),
        pytest.param({"daysOfMonth": ["15:-1"]}, "2026-02-15T12:00", True, id="from the middle to the end"),
        pytest.param({"daysOfMonth": ["-31:-1"]}, "2026-02-01T12:00", True, id="from the end, beyond its beginning"),
        pytest.param({"months": ["june:august"]}, "2026-08-31T23:59", True, id="summer"),
        pytest.param({"months": ["6:8"]}, "2026-09-01T00:00", False, id="summer in figures, over"),
        pytest.param({"years": ["2026:2027"]}, "2027-12-31T23:59", True, id="two years"),
        pytest.param({"years": ["2026"]}, "2027-01-01T00:00", False, id="one year"),
        pytest.param(NIGHT | BERLIN, "2026-01-15T01:30", True, id="winter in Berlin: UTC and one"),
        pytest.param(NIGHT | BERLIN, "2026-07-15T00:30", True, id="summer in Berlin: UTC and two"),
        pytest.param(NIGHT | BERLIN, "2026-07-15T01:30", False, id="summer in Berlin: past three"),
        pytest.param(NIGHT | BERLIN, "2026-03-29T00:59", False, id="the night when 02:00 is skipped: before"),
        pytest.param(NIGHT | BERLIN, "2026-03-29T01:00", False, id="the night when 02:00 is skipped: there is no window"),
        pytest.param(NIGHT | BERLIN, "2026-10-25T00:30", True, id="the night when 02:00 comes twice: first"),
        pytest.param(NIGHT | BERLIN, "2026-10-25T01:30", True, id="the night when 02:00 comes twice: again"),
        pytest.param(NIGHT | BERLIN, "2026-10-25T02:00", False, id="the night when 02:00 comes twice: over"),
        pytest.param({"weekdays": ["monday"], "location": "Pacific/Auckland"}, "2026-03-01T12:00", True, id="Monday there"),
        pytest.param({"times": ["00:00-00:30"], "location": "Asia/Kathmandu"}, "2026-03-01T18:15", True, id="UTC and 5:45"),
    ],
)  # fmt: skip
def test_inside(fields: dict[str, Any], instant: str, inside: bool) -> None:
    """Every list that says something must hold, in the wall-clock time of the location."""
    assert window(interval(**fields)).contains(at(instant)) is inside


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        pytest.param({"times": ["22:00-04:00"]}, "w.times[0]", id="over midnight"),
        pytest.param({"times": ["01:00-02:00", "04:00-04:00"]}, "w.times[1]", id="no time at all"),
        pytest.param({"weekdays": ["friday:monday"]}, "w.weekdays[0]", id="over the weekend"),
        pytest.param({"weekdays": ["saturday:sunday"]}, "w.weekdays[0]", id="a week begins on Sunday"),
        pytest.param({"months": ["november:february"]}, "w.months[0]", id="over the new year"),
        pytest.param({"years": ["2027:2026"]}, "w.years[0]", id="backwards"),
        pytest.param({"daysOfMonth": ["7:1"]}, "w.daysOfMonth[0]", id="dates backwards"),
        pytest.param({"daysOfMonth": ["-1:5"]}, "w.daysOfMonth[0]", id="from the end into the next month"),
        pytest.param({"daysOfMonth": ["-1:-3"]}, "w.daysOfMonth[0]", id="from the end, backwards"),
        pytest.param({"daysOfMonth": ["30:-5"]}, "w.daysOfMonth[0]", id="backwards in the longest month"),
        pytest.param({"location": "Middle/Earth"}, "w.location", id="no such place"),
        pytest.param({"location": "../../etc/passwd"}, "w.location", id="no place at all"),
    ],
)
def test_what_can_never_be_is_refused(fields: dict[str, Any], path: str) -> None:
    """As Alertmanager refuses its configuration; the path says where."""
    with pytest.raises(InvalidInput) as caught:
        window(interval(**fields), "w")
    assert [where for where, _ in caught.value.problems] == [path]


SPANS = {
    "times": st.tuples(st.integers(0, 23), st.integers(1, 24)).filter(lambda s: s[0] < s[1]).map(
        lambda s: f"{s[0]:02}:00-{s[1]:02}:00"
    ),
    "weekdays": st.tuples(*2 * [st.integers(0, 6)]).map(sorted).map(lambda s: f"{WEEKDAYS[s[0]]}:{WEEKDAYS[s[1]]}"),
    "months": st.tuples(*2 * [st.integers(0, 11)]).map(sorted).map(lambda s: f"{MONTHS[s[0]]}:{s[1] + 1}"),
    "daysOfMonth": st.integers(1, 31).map(str) | st.integers(-31, -1).map(str),
}  # fmt: skip


@given(
    fields=st.fixed_dictionaries({}, optional={name: st.lists(span, max_size=2) for name, span in SPANS.items()}),
    place=st.sampled_from(["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    instant=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
def test_it_changes_at_full_minutes_only(fields: dict[str, Any], place: str, instant: datetime) -> None:
    """What ``next_minute`` promises to the table, which looks again only then."""
    asked = window(interval(**fields, location=place))
    then = next_minute(instant)
    assert instant < then <= instant + timedelta(minutes=1)
    assert asked.contains(instant) == asked.contains(then - timedelta(microseconds=1))
