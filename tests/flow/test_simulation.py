"""Thousands of incidents through every fault, in one process and no time: what must hold holds, and each run can be had again.

``pytest tests/flow/test_simulation.py --seed 7`` runs one seed, ``--incidents 500`` opens more of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest import mock

import pytest

from actors.effectiveness import score
from actors.remediation import approvals, blocking, executions
from serve_apps.admission import fencing
from serve_apps.admission.review import Allowed, Verdict
from tests.conftest import REPOSITORY
from tests.flow.simulation.faults import Rates
from tests.flow.simulation.world import simulate

SEEDS = (1, 2, 3)
INCIDENTS = 25
EXPECTED = {"crash", "refused", "answer_lost", "conflict", "event_lost", "event_twice", "event_late", "watch_cut"}


def found_out(
    broken: AbstractContextManager[object], seeds: Iterable[int], incidents: int, rates: Rates | None = None
) -> str:
    """Return what the first of these seeds has against a world in which something is broken."""
    with broken:
        for seed in seeds:
            report = simulate(seed, incidents, rates=rates)
            if report.problems:
                return report.failure()
    return ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", metafunc.config.getoption("--seed") or SEEDS)


@pytest.mark.timeout(7200)  # As many incidents as one asks for.
def test_whatever_happens_the_rules_hold_and_every_incident_ends(seed: int, pytestconfig: pytest.Config) -> None:
    """Never two runs for one leave or at a time on a target, none without leave, nobody stuck, everything told once."""
    report = simulate(seed, pytestconfig.getoption("--incidents") or INCIDENTS)
    print(f"\nseed {seed}: {report}")
    assert not report.problems, report.failure()
    assert report.incidents >= (pytestconfig.getoption("--incidents") or INCIDENTS)
    assert report.runs > report.incidents / 8
    assert report.faults.keys() >= EXPECTED


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same log to the last byte, in this process and in another with other hashes."""
    here = simulate(5, 8, keep_log=True)
    again = simulate(5, 8, keep_log=True)
    assert here.log == again.log
    code = "from tests.flow.simulation.world import simulate; print(simulate(5, 8).digest)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (here.digest, here.digest) == (again.digest, other.stdout.strip())
    assert simulate(6, 8).digest != here.digest


def test_an_orchestrator_that_does_not_ask_is_found_out() -> None:
    """A rule that nothing can break proves nothing: here one is broken, and the seed is named."""
    with mock.patch.object(
        approvals, "ask", lambda seen, _, workflow, now, settings: executions.start(seen, workflow, now, settings)
    ):
        report = simulate(2, 12)
    assert any("ran without leave" in problem for problem in report.problems)
    assert "--seed 2" in report.failure()


def test_an_effect_that_is_not_looked_at_is_found_out() -> None:
    """Where every assessment says that it helped, a target that stays down ends as remediated, and that is seen."""
    broken = mock.patch.object(score, "effective", return_value=True)
    assert "was down from then on until now" in found_out(broken, (1, 2, 4, 5), 12)


def test_a_chain_that_nobody_breaks_is_found_out() -> None:
    """Without the check of what did not help before, the same is done to the same target again."""
    checks = tuple(check for check in blocking._BEFORE_EXECUTION if check is not blocking._ineffective_chain)
    broken = mock.patch.object(blocking, "_BEFORE_EXECUTION", checks)
    assert "and the last 1 did not help" in found_out(broken, (16, 22, 10, 28, 34, 4), 24)


def test_a_webhook_that_takes_everybody_for_the_owner_is_found_out() -> None:
    """The run of a process that slept while its shard went to another is stored, and that is seen."""

    async def allow(*_: object) -> Verdict:
        return Allowed()

    broken = mock.patch.object(fencing, "judge", allow)
    told = found_out(broken, (8, 2, 14, 5, 20, 26), 12, replace(Rates(), paused_run=0.4))
    assert "and its shard was" in told
