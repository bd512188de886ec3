"""Senders as processes: they begin together, send what the plans say, and what came back is told by plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._load import Plan, Senders, Sent, Target, percentile
from tests.benchmarks.test_sender import BUSY, OK, answering


async def test_two_processes_send_two_plans(tmp_path: Path) -> None:
    """Each plan's requests come back in its order, with their times on one clock."""
    plans = [Plan((b'{"a":1}', b'{"b":2}'), ((0.0, 0), (0.05, 1))), Plan((b'{"c":3}',), ((0.02, 0),))]
    async with answering(lambda n: BUSY if n == 0 else OK) as (url, arrived):
        async with Senders(plans, [Target(url)], tmp_path) as senders:
            start = senders.begin()
            sent = await senders.end()
        assert min(arrived) >= start
    assert [[one.body for one in plan] for plan in sent] == [[0, 1], [0]]
    assert sorted(tuple(one.statuses) for plan in sent for one in plan) == [(200,), (200,), (503, 200)]
    assert all(one.scheduled - 0.01 <= one.began < one.answered for plan in sent for one in plan)
    assert senders.progress.acknowledged == 3


async def test_a_sender_that_cannot_start_says_so(tmp_path: Path) -> None:
    """An URL that is none ends the benchmark, not a report of nothing lost."""
    with pytest.raises(RuntimeError, match="did not start"):
        async with Senders([Plan((b"{}",), ((0.0, 0),))], [Target("ftp://127.0.0.1")], tmp_path):
            pass


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A sender that is late, or tries again, does not make it look better."""
    assert Sent(0, scheduled=1.0, began=1.5, answered=3.0, statuses=(503, 200), answer="").milliseconds == 2000


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 99, 0.0),
        ([5.0], 50, 5.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        (list(range(1, 101)), 99, 99),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], percent: float, expected: float) -> None:
    """Nearest rank."""
    assert percentile(values, percent) == expected
