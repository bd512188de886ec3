"""The table of a RemediationRequest's phases."""

from __future__ import annotations

import pytest

from actors.remediation.phases import TABLE
from kubernaut_ray.crds.enums import RemediationPhase as Phase


def test_terminal_phases_are_those_that_the_vocabulary_calls_so() -> None:
    """Nothing leaves a terminal phase."""
    assert TABLE.terminal == {phase for phase in Phase if phase.terminal}


@pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.terminal])
def test_a_person_can_call_it_off_in_any_running_phase(phase: Phase) -> None:
    """Cancellation and the overall deadline reach every phase that is not terminal."""
    assert {Phase.CANCELLED, Phase.TIMED_OUT} <= set(TABLE.edges[phase])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Pending", "Processing"), ("Pending", "Blocked"),
        ("Processing", "Analyzing"), ("Processing", "Failed"), ("Processing", "TimedOut"),
        ("Analyzing", "AwaitingApproval"), ("Analyzing", "Executing"), ("Analyzing", "Completed"),
        ("Analyzing", "Failed"), ("Analyzing", "TimedOut"), ("Analyzing", "Blocked"),
        ("AwaitingApproval", "Executing"), ("AwaitingApproval", "Failed"), ("AwaitingApproval", "TimedOut"),
        ("Executing", "Completed"), ("Executing", "Failed"), ("Executing", "TimedOut"), ("Executing", "Skipped"),
        ("Blocked", "Failed"), ("Blocked", "Pending"), ("Blocked", "Analyzing"), ("Blocked", "AwaitingApproval"),
    ],
)  # fmt: skip
def test_the_contract_s_edges_are_there(old: str, new: str) -> None:
    """Every edge that the contract names is legal."""
    assert TABLE.allows(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "Executing"),
        ("Pending", "Executing"),
        ("Processing", "Executing"),
        ("Completed", "Pending"),
        ("Failed", "Blocked"),
    ],
)
def test_no_way_round(old: str, new: str) -> None:
    """Execution has two doors only, and the end is the end."""
    assert not TABLE.allows(old, new)
