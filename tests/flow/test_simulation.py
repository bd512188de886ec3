"""Thousands of incidents through every fault, in one process and no time: what must hold holds, and each run can be had again.

``pytest tests/flow/test_simulation.py --seed 7`` runs one seed, ``--incidents 500`` opens more of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock

import pytest

from actors.effectiveness import score
from actors.notification import outbox
from actors.notification.controller import NotificationController
from actors.remediation import approvals, blocking, children, endings, executions, moves, timeouts
from actors.remediation import decide as orchestrator
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from actors.workflow_execution import aftermath, engines, leave, observe, start
from actors.workflow_execution import decide as executor
from kubernaut_ray import names
from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control import loop
from kubernaut_ray.control.decision import Call, Create, Decision
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import cache, resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.settings import ExecutionSettings, Settings
from serve_apps.admission import fencing
from serve_apps.admission.review import Allowed, Verdict
from serve_apps.gateway.admit import Admission
from serve_apps.gateway.verdict import Absent
from tests.conftest import REPOSITORY
from tests.flow.simulation import fleet
from tests.flow.simulation.client import SimClient
from tests.flow.simulation.faults import Rates
from tests.flow.simulation.outside import HOME, SHELF, Actors, Gateway
from tests.flow.simulation.world import START, simulate

SEEDS = (1, 2, 3)
INCIDENTS = 25
EXPECTED = {"crash", "refused", "answer_lost", "conflict", "event_lost", "event_twice", "event_late", "watch_cut"}


def found_out(
    broken: AbstractContextManager[object],
    problem: str,
    seeds: Iterable[int],
    incidents: int,
    rates: Rates | None = None,
) -> bool:
    """Whether one of these seeds has this against a world in which something is broken; a report has room for twenty."""
    with broken:
        return any(problem in simulate(seed, incidents, rates=rates).failure() for seed in seeds)


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
    assert report.transitions["RemediationApprovalRequest: Pending → Approved"]


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
    assert found_out(broken, "was down from then on until now", (2, 4, 5, 7, 1), 12)


def test_a_chain_that_nobody_breaks_is_found_out() -> None:
    """Without the check of what did not help before, the same is done to the same target again."""
    checks = tuple(check for check in blocking._BEFORE_EXECUTION if check is not blocking._ineffective_chain)
    broken = mock.patch.object(blocking, "_BEFORE_EXECUTION", checks)
    assert found_out(broken, "and the last 1 did not help", (22, 10, 4, 16, 28, 34), 24)


def test_a_webhook_that_takes_everybody_for_the_owner_is_found_out() -> None:
    """The run of a process that slept while its shard went to another is stored, and that is seen."""

    async def allow(*_: object) -> Verdict:
        return Allowed()

    broken = mock.patch.object(fencing, "judge", allow)
    assert found_out(broken, "and its shard was", (8, 2, 14, 5, 20, 26), 12, replace(Rates(), paused_run=0.4))


def test_a_verdict_that_nobody_heeds_is_found_out() -> None:
    """An orchestrator that calls remediated what was judged to have had no effect is seen to."""

    def praise(
        seen: Observed, why: str, now: datetime, settings: Settings, *, marks: Sequence[Mark] = (), **changes: Any
    ) -> executions.Result:
        assert seen.execution is not None
        return endings.remediated(seen, seen.execution, now, settings, verified=why, marks=marks, **changes)

    broken = mock.patch.object(endings, "inconclusive", praise)
    assert found_out(broken, "did not help and ended as Remediated", (1, 2, 4, 5), 8)


def test_an_execution_that_nobody_wants_any_more_is_found_out() -> None:
    """Created by an orchestrator that had slept over the end of its remediation, it must not run, whoever is asked."""

    async def count(gateway: Gateway, client: SimClient, name: str) -> None:
        """Hear of every signal's end: of what sleeps, most is over when it wakes."""
        told = {"resolved": {"resolvedAt": rfc3339(gateway._world.now()), "source": "alertmanager"}}
        await client.patch(resources.REMEDIATION_REQUEST, name, {"status": told}, HOME, subresource="status")

    rates = replace(Rates(), paused_execution=0.8)
    shared = (6, 20, 47, 66, 72, 80, 101)  # Seeds by which two orchestrators share their shards.
    with mock.patch.object(Gateway, "_count", count):
        broken = mock.patch.object(observe.Reader, "_ended", mock.AsyncMock(return_value=""))
        assert found_out(broken, "ran, and was created when all was over", shared, 20, rates)


def test_a_reader_that_writes_on_what_it_reads_is_found_out() -> None:
    """Readers are given what is stored; a cache that keeps its notes on it changes it for everybody else."""
    turns, keep = itertools.count(), cache.metadata_only

    def note(obj: Object) -> Object:
        metadata = obj["metadata"]
        metadata["annotations"] = {**(metadata.get("annotations") or {}), "example.com/kept": str(next(turns))}
        return keep(obj)

    assert found_out(mock.patch.object(loop, "metadata_only", note), "by reading it", (1, 2), 4)


def test_a_copy_that_does_not_say_so_is_found_out() -> None:
    """A sender that forgets that an attempt may be a copy of another is seen to."""
    read = outbox._read

    def forget(call: Call) -> Any:
        return (*read(call)[:2], False)

    broken = mock.patch.object(outbox, "_read", forget)
    assert found_out(broken, "that do not say that they may be copies", (2, 4, 1, 5), 8)


def test_an_end_of_which_nobody_is_told_is_found_out() -> None:
    """Without messages a failure leaves its incident with nobody, and that is seen."""
    assert found_out(mock.patch.object(moves, "_told", return_value=()), "and nobody was told", (1, 2), 8)


def test_a_cancellation_that_spares_what_is_under_way_is_found_out() -> None:
    """Whatever works for a remediation is called off with it."""
    broken = mock.patch.object(moves, "cancel_children", return_value=())
    assert found_out(broken, "goes on after its remediation was cancelled", (6, 9, 11), 24)


def test_a_name_that_comes_back_is_found_out() -> None:
    """What is on record about an incident is about that one."""

    async def there(_: Admission, __: str, absent: Absent) -> str:
        return absent.previous_uid

    broken = mock.patch.object(Admission, "_last", there)
    assert found_out(broken, "bears the name of one that was removed", (1,), 25)


@pytest.mark.parametrize("problem", ["one id, two facts", "happened 1 times, told 0"])
def test_facts_that_take_one_another_s_place_are_found_out(problem: str) -> None:
    """An event id that says only what happened, and not when in its life, hides all but the first."""
    real = names.audit_event_id
    broken = mock.patch.object(names, "audit_event_id", lambda type_, remediation, *_: real(type_, remediation))
    assert found_out(broken, problem, (1, 3, 5), 8)


def test_a_run_that_is_made_a_second_time_is_found_out() -> None:
    """What somebody deleted half-way is not begun anew: nobody knows how far it came."""

    def again(seen: observe.Observed, now: datetime) -> executor.Result:
        execution = seen.execution
        engine, workflow = engines.chosen(execution, engines.ALL), SHELF[execution.spec.workflow_ref.workflow_id]
        assert engine is not None
        body = engine.build(execution, workflow, ExecutionSettings(), now)
        return Decision("MadeAgain", effects=(Create(engine.resource, body, tolerate_foreign=True),), wake_at=now)

    broken = mock.patch.object(executor, "_vanished", again)
    assert found_out(broken, "a second time", (6, 9, 13), 12)


def test_two_runs_at_a_time_are_found_out() -> None:
    """A run that outlives its execution, of an engine at which the next one does not look, is not alone on its target."""

    async def nobody(*_: object) -> None:
        """No pipeline ever comes to an end."""

    async def own(reader: observe.Reader, execution: WorkflowExecution) -> Object | None:
        engine = engines.chosen(execution, engines.ALL)
        assert engine is not None
        return await reader._named(engine.resource, names.pipeline_run(execution.spec.target_resource))

    deleted = aftermath.deleted
    with (
        mock.patch.object(Actors, "_run", nobody),
        mock.patch.object(aftermath, "deleted", lambda seen, now: deleted(replace(seen, run=None), now)),
    ):
        broken = mock.patch.object(observe.Reader, "_run", own)
        assert found_out(broken, "two runs at a time on", (5, 3, 9, 19), 12)


def test_an_approval_that_is_used_twice_is_found_out() -> None:
    """One leave is for one run, and not for that of another execution that takes the first one's name."""

    async def remove(actors: Actors, name: str) -> None:
        """People delete half of what has just begun to run."""
        await asyncio.sleep(5.0)
        if actors._world.rng.random() < 0.5:
            await actors._insist(lambda: actors._people[0].delete(resources.WORKFLOW_EXECUTION, name, HOME))

    def again(seen: Observed, now: datetime, settings: Settings) -> executions.Result:
        analysis, approval, attempt = seen.analysis, seen.approval, seen.request.status.recovery_attempts
        assert analysis is not None
        assert analysis.status.selected_workflow is not None
        grant = approval.status.grant if approval is not None else None
        child = children.workflow_execution(
            seen.request, analysis.status.selected_workflow, attempt=attempt, now=now, settings=settings, grant=grant
        )
        effect = children.create(seen.request, child)
        return moves.stay(seen, "MadeAgain", now, settings.orchestrator, effects=(effect,))

    with (
        mock.patch.object(Actors, "_clear", remove),
        mock.patch.object(endings, "execution_gone", again),
        mock.patch.object(executions, "stopped", return_value=False),
        mock.patch.object(observe.Reader, "_ended", mock.AsyncMock(return_value="")),
    ):
        broken = mock.patch.object(leave, "judge", return_value=leave.Given())
        assert found_out(broken, "was used twice", (1, 3, 5, 9), 8)


def test_a_run_that_begins_too_late_is_found_out() -> None:
    """Whoever waits past its deadline does not begin, whether or not anybody calls it off."""

    async def away(_: object, workflow_id: str) -> Workflow | None:
        """The catalog answers for ten minutes in two hours."""
        await asyncio.sleep(6600 - asyncio.get_running_loop().time() % 7200)
        return SHELF.get(workflow_id)

    impossible = start.impossible
    with (
        mock.patch.object(fleet._Catalog, "workflow", away),
        mock.patch.object(timeouts, "pending", return_value=None),
    ):
        broken = mock.patch.object(start, "impossible", lambda seen, _, settings: impossible(seen, START, settings))
        assert found_out(broken, "began too late", (3, 5, 2, 4), 4)


def test_an_incident_that_never_ends_is_found_out() -> None:
    """A run that hangs is given up, by its controller or by the orchestrator."""
    with mock.patch.object(timeouts, "pending", return_value=None):
        broken = mock.patch.object(executor, "_limit", return_value=None)
        assert found_out(broken, "is stuck in 'Executing'", (2, 6, 18), 6)


def test_a_world_that_stands_still_is_found_out() -> None:
    """Where no incident ends there is no next one about its target, and that is no reason to wait for it for ever."""

    def idle(seen: Observed, now: datetime, settings: Settings) -> executions.Result:
        return moves.stay(seen, "Idle", now, settings.orchestrator)

    with mock.patch.object(timeouts, "pending", return_value=None):
        assert found_out(mock.patch.object(orchestrator, "_pending", idle), "is stuck in 'Pending'", (1, 2), 8)


def test_a_controller_that_does_not_come_to_its_end_is_found_out() -> None:
    """One that waits on its way out for what nobody will do keeps everybody waiting."""

    async def wait(_: NotificationController) -> None:
        await asyncio.Event().wait()

    broken = mock.patch.object(NotificationController, "stop", wait)
    assert found_out(broken, "everybody waits for something that nobody will do", (1,), 2)
