"""Which silences match: as a plain reading of their rules says, whatever is filed how."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.enums import SilenceState
from kubernaut_ray.crds.silence import Silence, SilenceMatcher
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.matchers import parse
from serve_apps.gateway.silences.table import Entry, Table
from tests.build import NOW, later, silence

SUNDAYS = {"weekdays": ["sunday"], "times": [{"startTime": "12:10", "endTime": "12:20"}]}


def table(*silences: Silence) -> Table:
    made = Table()
    for one in silences:
        made.put(Entry.of(one))
    return made


@pytest.mark.parametrize(
    ("fields", "states"),
    [
        pytest.param(
            {"starts_at": later(minutes=1), "ends_at": later(minutes=2)},
            {0: "pending", 59: "pending", 60: "active", 119: "active", 120: "expired"},
            id="from its start until before its end",
        ),
        pytest.param(
            {"starts_at": NOW, "ends_at": NOW}, {-1: "pending", 0: "expired"}, id="called off before it began"
        ),
        pytest.param(
            {"starts_at": NOW, "ends_at": later(minutes=15), "time_intervals": [SUNDAYS]},
            {0: "pending", 599: "pending", 600: "active", 899: "active", 900: "expired"},
            id="in its window, while it lasts",
        ),
        pytest.param(
            {"starts_at": NOW, "ends_at": later(minutes=60), "time_intervals": [SUNDAYS, {"years": ["2030"]}]},
            {600: "active", 1199: "active", 1200: "pending"},
            id="in any of its windows",
        ),
    ],
)
def test_states(fields: dict[str, Any], states: dict[int, str]) -> None:
    """Seconds from noon of a Sunday; the table comes to the same, and looks again in time."""
    one = silence("one", 'alertname="Foo"', **fields)
    for seconds, state in states.items():
        assert Entry.of(one).state(later(seconds)) == SilenceState(state)
        found = table(one).match({"alertname": "Foo"}, later(seconds))
        assert found == (("one",) if state == "active" else ())
    walking, generation = table(one), 0
    for seconds, state in states.items():
        found = walking.match({"alertname": "Foo"}, later(seconds))
        assert found == (("one",) if state == "active" else ())
        assert walking.generation >= generation
        generation = walking.generation


def test_the_generation_follows_what_is_in_force() -> None:
    """It moves when a silence starts, changes, ends or vanishes, and for nothing else."""
    made = table(silence("a", "x=1", starts_at=NOW, ends_at=later(60)))
    first = made.tick(NOW)
    assert made.next_change == later(60)
    made.put(Entry.of(silence("a", "x=1", starts_at=NOW, ends_at=later(60), comment="another", silenced_count=7)))
    assert made.tick(later(1)) == first
    made.put(Entry.of(silence("later", "x=1", starts_at=later(30), ends_at=later(90))))
    assert made.tick(later(2)) == first
    assert made.next_change == later(30)
    generations = [made.tick(later(seconds)) for seconds in (29, 30, 59, 60, 89, 90, 1000)]
    assert generations == [first, first + 1, first + 1, first + 2, first + 2, first + 3, first + 3]
    assert made.next_change is None
    made.put(Entry.of(silence("b", "x=1", starts_at=NOW, ends_at=later(5000))))
    assert made.tick(later(1000)) == first + 4
    made.drop("b")
    made.drop("b")
    assert made.tick(later(1000)) == first + 5


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"matcher": SilenceMatcher(name="a", value="(", is_regex=True)}, id="no expression"),
        pytest.param({"time_intervals": [{"weekdays": ["friday:monday"]}]}, id="no window"),
    ],
)
def test_what_makes_no_sense_is_never_in_force(broken: dict[str, Any]) -> None:
    """It cannot be compiled, so that no table holds it."""
    one = silence("one", "x=1", **{k: v for k, v in broken.items() if k != "matcher"})
    if "matcher" in broken:
        one = one.replace(spec=one.spec.replace(matchers=(broken["matcher"],)))
    with pytest.raises(InvalidInput):
        Entry.of(one)


NAMES, VALUES = st.sampled_from("abc"), st.sampled_from(["", "x", "y", "xy"])
MATCHERS = st.builds(
    lambda name, operator, value: f'{name}{operator}"{value}"',
    NAMES,
    st.sampled_from(["=", "!=", "=~", "!~"]),
    VALUES | st.sampled_from(["x|y", ".*", ".+", "x.*"]),
)


@given(
    silences=st.lists(
        st.tuples(st.lists(MATCHERS, min_size=1, max_size=3), st.integers(-5, 5), st.integers(0, 5)), max_size=6
    ),
    labels=st.dictionaries(NAMES, VALUES),
    seconds=st.integers(-6, 11),
)
def test_it_finds_what_a_plain_reading_finds(
    silences: list[tuple[list[str], int, int]], labels: dict[str, str], seconds: int
) -> None:
    """Filing by label value leaves none out and lets none in."""
    now: datetime = later(seconds)
    made = table(
        *(
            silence(f"s{i}", *texts, starts_at=later(start), ends_at=later(start + length))
            for i, (texts, start, length) in enumerate(silences)
        )
    )
    expected = tuple(
        f"s{i}"
        for i, (texts, start, length) in enumerate(silences)
        if later(start) <= now < later(start) + timedelta(seconds=length)
        and all(matcher.matches(labels) for text in texts for matcher in parse(text))
    )
    assert made.match(labels, now) == expected
