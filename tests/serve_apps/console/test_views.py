"""What the pages show, computed from models."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.enums import RemediationPhase
from serve_apps.console import views
from serve_apps.console.views import BAR_WIDTH, Filter, Tone
from tests import build
from tests.build import NOW, later


def rr(**status: Any) -> Any:
    return build.remediation_request(**{"phase" if k == "overall_phase" else k: v for k, v in status.items()})


def test_steps_of_a_finished_remediation() -> None:
    """Each phase lasts until the next begins; the last until completion."""
    made = views.steps(
        rr(
            overall_phase=RemediationPhase.COMPLETED,
            start_time=NOW,
            processing_start_time=later(1),
            analyzing_start_time=later(3),
            executing_start_time=later(63),
            completed_at=later(70),
        ),
        later(minutes=60),
    )
    assert [(s.phase, s.duration) for s in made] == [
        ("Pending", "1.0s"),
        ("Processing", "2.0s"),
        ("Analyzing", "1m 0s"),
        ("Executing", "7.0s"),
    ]
    assert not any(s.running for s in made)
    assert made[-1].tone is Tone.GOOD


def test_the_last_step_of_a_running_one_goes_on() -> None:
    """A remediation that waits shows how long it has been waiting."""
    made = views.steps(
        rr(overall_phase=RemediationPhase.AWAITING_APPROVAL, start_time=NOW, awaiting_approval_start_time=later(5)),
        later(20),
    )
    assert (made[-1].phase, made[-1].duration, made[-1].running, made[-1].tone) == (
        "Awaiting approval",
        "15s",
        True,
        Tone.WAIT,
    )


@given(
    st.lists(st.integers(-5, 5000), min_size=5, max_size=5), st.integers(0, 10_000), st.sampled_from(RemediationPhase)
)
def test_the_bar_is_always_whole(offsets: list[int], now: int, phase: RemediationPhase) -> None:
    """Whatever the times say (clocks differ), the steps fill the bar, in order, and none is invisible."""
    fields = ["processing", "analyzing", "awaiting_approval", "executing", "verifying"]
    times = {f"{name}_start_time": later(at) for name, at in zip(fields, offsets, strict=True)}
    made = views.steps(rr(overall_phase=phase, start_time=NOW, **times), later(now))
    assert len(made) == 6
    assert all(step.width > 0 for step in made)
    assert sum(step.width for step in made) == pytest.approx(BAR_WIDTH, abs=1)
    assert [step.start for step in made] == sorted(step.start for step in made)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.96, "10.0s"), (42, "42s"), (65, "1m 5s"), (7800, "2h 10m"), (-4, "0.0s")]
)
def test_brief(seconds: float, text: str) -> None:
    """Durations are told in at most two units."""
    assert views.brief(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AwaitingApproval", "Awaiting approval"),
        ("TimedOut", "Timed out"),
        ("ManualReviewRequired", "Manual review required"),
        ("OOMKilled", "OOMKilled"),
        ("AIAnalysis", "AIAnalysis"),
        ("Completed", "Completed"),
        ("", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    """Enumerated words are shown as people write them."""
    assert views.words(text) == expected


def test_listing_filters_and_counts() -> None:
    """Open and finished ones are told apart, text is searched in name, signal and target."""
    some = [
        build.remediation_request("rr-a", phase=RemediationPhase.AWAITING_APPROVAL),
        build.remediation_request("rr-b", phase=RemediationPhase.COMPLETED),
        build.remediation_request("rr-c"),
    ]
    shown = views.listing(some, Filter.OPEN, "")
    assert [r.name for r in shown.rows] == ["rr-a", "rr-c"]
    assert shown.counts == {Filter.OPEN: 2, Filter.FINISHED: 1, Filter.ALL: 3}
    assert shown.waiting == 1
    assert [r.name for r in views.listing(some, Filter.ALL, "RR-B").rows] == ["rr-b"]
    assert len(views.listing(some, Filter.ALL, "shop/deployment/web").rows) == 3
