"""The formulas: tables for what the contract says, properties for what must hold of any facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.effectiveness import score
from actors.effectiveness.score import Measured, Pods
from kubernaut_ray.crds.effectiveness_assessment import Component, Components
from kubernaut_ray.crds.enums import AssessmentReason

SCORES = st.none() | st.floats(0, 1)
COMPONENTS = st.builds(
    lambda health, alert, metrics: Components(
        health=Component(score=health), alert=Component(score=alert), metrics=Component(score=metrics)
    ),
    SCORES,
    SCORES,
    SCORES,
)


def of(health: float | None = None, alert: float | None = None, metrics: float | None = None) -> Components:
    return Components(health=Component(score=health), alert=Component(score=alert), metrics=Component(score=metrics))


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param(Pods(2, 2), 1.0, id="all ready"),
        pytest.param(Pods(2, 2, restarted=("a",)), 0.75, id="ready, and one restarted since"),
        pytest.param(Pods(2, 1), 0.5, id="some ready"),
        pytest.param(Pods(2, 2, settled=False), 0.5, id="ready, and the present spec is not rolled out"),
        pytest.param(Pods(2, 2, restarted=("a",), oom_killed=("a",)), 0.25, id="one was OOMKilled since"),
        pytest.param(Pods(2, 0), 0.0, id="none ready"),
        pytest.param(Pods(2, 1, crash_looping=("a",)), 0.0, id="one is in a crash loop"),
        pytest.param(Pods(0, 0), 0.0, id="no replicas"),
    ],
)
def test_health(pods: Pods, expected: float) -> None:
    """Contract 14, value by value."""
    assert expected == score.health(pods).score


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(Measured("e", 10, 2), 0.8, id="fewer errors"),
        pytest.param(Measured("e", 10, 20), 0.0, id="more errors are no negative help"),
        pytest.param(Measured("r", 10, 15, higher_is_better=True), 0.5, id="more throughput"),
        pytest.param(Measured("r", 10, 90, higher_is_better=True), 1.0, id="nothing is better than all"),
        pytest.param(Measured("e", 0, 0), None, id="it was 0 and is 0: that says nothing"),
        pytest.param(Measured("e", 0, 3), 0.0, id="errors where there were none"),
        pytest.param(Measured("r", 0, 3, higher_is_better=True), 1.0, id="throughput where there was none"),
        pytest.param(Measured("e", None, 3), None, id="no samples before"),
        pytest.param(Measured("e", 3, None), None, id="no samples after"),
    ],
)
def test_improvement(one: Measured, expected: float | None) -> None:
    """The share of the value before by which it got better."""
    assert expected == score.improvement(one)


def test_metrics_are_the_mean_of_what_could_be_measured() -> None:
    """A query without samples takes no part, and is named."""
    found = score.metrics([Measured("errors", 10, 2), Measured("latency", 10, 6), Measured("queue", None, 1)])
    assert found.score == pytest.approx(0.6)
    assert "queue: no samples before the execution" in found.details


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        pytest.param(of(1, 1, 1), 1.0, id="all is well"),
        pytest.param(of(1, 0), 0.4 / 0.75, id="well, and it still fires"),
        pytest.param(of(1), 1.0, id="health alone"),
        pytest.param(of(0.5, 1, 0), 0.55, id="all three"),
        pytest.param(of(), None, id="nothing was judged"),
    ],
)
def test_overall(components: Components, expected: float | None) -> None:
    """The weighted mean over what was assessed."""
    found = score.overall(components)
    assert found is None if expected is None else found == pytest.approx(expected, abs=1e-4)


@given(COMPONENTS)
def test_the_sum_lies_between_its_parts(components: Components) -> None:
    """Never better than the best part nor worse than the worst; nothing where nothing was scored."""
    parts = [one.score for one in (components.health, components.alert, components.metrics) if one.score is not None]
    total = score.overall(components)
    assert (total is None) == (not parts)
    if total is not None:
        assert min(parts) - 1e-4 <= total <= max(parts) + 1e-4


@given(COMPONENTS)
def test_a_drift_is_worth_nothing(components: Components) -> None:
    """Whatever is seen then is not the workflow's effect."""
    assert score.overall(components, AssessmentReason.SPEC_DRIFT) == 0.0


@given(COMPONENTS, st.floats(0, 1))
def test_a_target_that_is_down_was_not_helped(components: Components, threshold: float) -> None:
    """Neither a silent signal nor fine metrics make up for it; and of nothing scored nothing is said."""
    total = score.overall(components)
    helped = score.effective(total, components, threshold)
    assert (helped is None) == (total is None)
    if components.health.score == 0:
        assert helped is False


@given(st.lists(st.builds(Measured, st.just("q"), SCORES, SCORES, st.booleans()), max_size=5))
def test_metrics_are_a_score(measured: list[Measured]) -> None:
    """0 to 1, or nothing."""
    found = score.metrics(measured).score
    assert found is None or 0.0 <= found <= 1.0
