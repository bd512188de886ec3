"""Which events are forwarded, and which changes of an event are new occurrences."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.event_watcher import occurrence
from actors.event_watcher.occurrence import Mark, Recent, Verdict, judge
from tests.build import NOW

OURS = frozenset({"kubernaut-system", "kubernaut-workflows"})


def event(namespace: str = "shop", **fields: Any) -> dict[str, Any]:
    made = {
        "metadata": {"name": "web.1", "namespace": namespace or "default", "uid": "u1"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": namespace},
        "type": "Warning",
        "reason": "BackOff",
        "source": {"component": "kubelet"},
        "lastTimestamp": "2026-03-01T12:00:00Z",
        "count": 1,
    }
    return {**made, **fields}


@pytest.mark.parametrize(
    ("given_event", "verdict"),
    [
        pytest.param(event(), Verdict.FORWARD, id="a warning"),
        pytest.param(event(type="Error"), Verdict.FORWARD, id="an error"),
        pytest.param(event(type="Normal"), Verdict.NORMAL, id="a normal one"),
        pytest.param({"metadata": {"name": "x"}}, Verdict.NORMAL, id="one without a type"),
        pytest.param(
            {"metadata": {"name": "x"}, "type": "Warning"}, Verdict.FORWARD, id="the gateway refuses the rest"
        ),
        pytest.param(event("kubernaut-system"), Verdict.IGNORED_NAMESPACE, id="about a pod of ours"),
        pytest.param(event("kubernaut-workflows"), Verdict.IGNORED_NAMESPACE, id="about a workflow's pod"),
        pytest.param(
            event("", involvedObject={"apiVersion": "v1", "kind": "Namespace", "name": "kubernaut-system"}),
            Verdict.IGNORED_NAMESPACE,
            id="about our namespace itself",
        ),
        pytest.param(
            event("", involvedObject={"apiVersion": "v1", "kind": "Node", "name": "kubernaut-system"}),
            Verdict.FORWARD,
            id="about a node of that name",
        ),
        pytest.param(
            event(involvedObject={"apiVersion": "kubernaut.ai/v1alpha1", "kind": "AIAnalysis", "name": "a"}),
            Verdict.OWN,
            id="about an object of our kinds",
        ),
        pytest.param(event(source={"component": "kubernaut-aianalysis"}), Verdict.OWN, id="reported by us"),
        pytest.param(
            event(source={}, reportingComponent="kubernaut-gateway"), Verdict.OWN, id="reported by us, the newer way"
        ),
        pytest.param(event(source="what?", involvedObject=[], series=7), Verdict.FORWARD, id="of odd shape"),
    ],
)
def test_what_is_forwarded(given_event: dict[str, Any], verdict: Verdict) -> None:
    """Warnings are; what asks for nothing and what we caused ourselves is not."""
    assert judge(given_event, OURS, Recent(10)) is verdict


LATER = "2026-03-01T12:00:09Z"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"count": 2, "lastTimestamp": LATER}, True, id="counted again"),
        pytest.param({"count": 2}, True, id="counted within the same second"),
        pytest.param({"lastTimestamp": LATER}, True, id="seen again, without a count"),
        pytest.param({"series": {"count": 5, "lastObservedTime": "2026-03-01T12:00:09.000001Z"}}, True, id="a series"),
        pytest.param({"message": "another text"}, False, id="another message"),
        pytest.param({"count": 0, "lastTimestamp": "2026-03-01T11:00:00Z"}, False, id="an older state"),
        pytest.param({"count": "many", "lastTimestamp": "yesterday"}, False, id="unreadable"),
    ],
)
def test_a_change_is_an_occurrence_only_if_it_counts_one(change: dict[str, Any], again: bool) -> None:
    """Kubernetes repeats an event by counting on it."""
    recent = Recent(10)
    recent.note(event())
    assert (judge(event(**change), OURS, recent) is Verdict.FORWARD) is again


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    """Beyond its capacity an event is forwarded again rather than memory spent; the gateway knows it."""
    recent = Recent(3)
    made = [event(metadata={"uid": f"u{n}"}) for n in range(5)]
    for one in made:
        recent.note(one)
    assert len(recent) == 3
    assert [recent.knows(one) for one in made] == [False, False, True, True, True]


MARKS = st.builds(Mark, st.integers(1, 3), st.none() | st.integers(0, 3).map(lambda n: NOW + timedelta(seconds=n)))


@given(MARKS, MARKS)
def test_marks_never_follow_one_another_both_ways(one: Mark, other: Mark) -> None:
    """Of two states of an event at most one is later, and none follows itself."""
    assert not (one.follows(other) and other.follows(one))
    assert not one.follows(one)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_any_object_is_judged(body: Any) -> None:
    """Nothing that an API server could hold breaks the reading."""
    fields = ("metadata", "involvedObject", "series", "source", "lastTimestamp", "count", "reportingComponent")
    made = {"type": "Warning", **dict.fromkeys(fields, body)}
    assert judge(made, OURS, Recent(1)) in Verdict
    assert isinstance(occurrence.about(made), str)
    assert isinstance(occurrence.mark(made).last_seen, datetime | None)
