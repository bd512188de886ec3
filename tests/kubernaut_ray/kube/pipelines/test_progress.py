from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.pipelines.progress import Run, advance
from kubernaut_ray.kube.pipelines.spec import Timeouts, read_pipeline

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEP = {"steps": [{"name": "s", "script": "true"}]}


def task_run(state, **results):
    """A TaskRun in a state; ``results`` are what it wrote."""
    word = {
        "running": ("Unknown", "Running"), "ok": ("True", "Succeeded"), "failed": ("False", "Failed"),
        "cancelled": ("False", "TaskRunCancelled"),
    }[state]  # fmt: skip
    status = {"conditions": [{"type": "Succeeded", "status": word[0], "reason": word[1]}]}
    status["results"] = [{"name": k, "value": v} for k, v in results.items()]
    return {"metadata": {"name": "t"}, "status": status}


def run(tasks, states=None, *, final=(), requested="", after=0.0, finally_after=None, timeouts=None, variables=None):
    spec = read_pipeline(
        {"tasks": [{"taskSpec": STEP, **t} for t in tasks], "finally": [{"taskSpec": STEP, **t} for t in final]}
    )
    return advance(
        Run(
            name="r",
            spec=spec,
            variables=variables or {},
            timeouts=Timeouts.model_validate(timeouts or {}),
            requested=requested,
            started=NOW,
            finally_started=None if finally_after is None else NOW + timedelta(seconds=finally_after),
            task_runs={n: s if isinstance(s, dict) else task_run(s) for n, s in (states or {}).items()},
        ),
        NOW + timedelta(seconds=after),
    )


A, B, C = {"name": "a"}, {"name": "b", "runAfter": ["a"]}, {"name": "c", "runAfter": ["b"]}
F = {"name": "f"}
USES_A = {"name": "b", "params": [{"name": "p", "value": "$(tasks.a.results.x)"}]}
NEVER = {"name": "a", "when": [{"input": "x", "operator": "in", "values": ["y"]}]}
ALWAYS = {"name": "a", "when": [{"input": "$(params.P)", "operator": "notin", "values": ["y"]}]}


@pytest.mark.parametrize(
    ("world", "starts", "skips", "status", "reason"),
    [
        pytest.param({"tasks": [A, B]}, ["a"], [], None, "Running", id="the first task starts"),
        pytest.param({"tasks": [A, F]}, ["a", "f"], [], None, "Running", id="independent tasks start together"),
        pytest.param({"tasks": [A, B], "states": {"a": "running"}}, [], [], None, "Running", id="order is kept"),
        pytest.param({"tasks": [A, B], "states": {"a": "ok"}}, ["b"], [], None, "Running", id="the next task starts"),
        pytest.param({"tasks": [A], "states": {"a": "ok"}}, [], [], True, "Succeeded", id="all done"),
        pytest.param({"tasks": [A, B], "states": {"a": "failed"}}, [], ["b"], False, "Failed", id="a failure ends it"),
        pytest.param(
            {"tasks": [A, F], "states": {"a": "failed", "f": "running"}}, [], [], None, "PipelineRunStopping",
            id="a failure waits for what runs",
        ),
        pytest.param(
            {"tasks": [{**A, "onError": "continue"}, B], "states": {"a": "failed"}}, ["b"], [], None, "Running",
            id="an ignored failure goes on",
        ),
        pytest.param(
            {"tasks": [{**A, "onError": "continue"}], "states": {"a": "failed"}}, [], [], True, "Succeeded",
            id="an ignored failure is a success",
        ),
        pytest.param({"tasks": [NEVER]}, [], ["a"], True, "Completed", id="a guard that does not hold"),
        pytest.param({"tasks": [ALWAYS], "variables": {"params.P": "x"}}, ["a"], [], None, "Running", id="one that does"),
        pytest.param({"tasks": [NEVER, B]}, ["b"], ["a"], None, "Running", id="a guarded task is merely passed by"),
        pytest.param({"tasks": [NEVER, USES_A]}, [], ["a", "b"], True, "Completed", id="a result nobody will write"),
        pytest.param(
            {"tasks": [NEVER, USES_A, C]}, [], ["a", "b", "c"], True, "Completed", id="skipped parents skip children"
        ),
        pytest.param(
            {"tasks": [A, USES_A], "states": {"a": task_run("ok", x="1")}}, ["b"], [], None, "Running", id="a result"
        ),
        pytest.param(
            {"tasks": [A, USES_A], "states": {"a": "ok"}}, [], ["b"], False, "InvalidTaskResultReference",
            id="a result that should have been written",
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "ok"}}, ["f"], [], None, "Running", id="finally after success"
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "failed"}}, ["f"], [], None, "Running", id="and after failure"
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "failed", "f": "ok"}}, [], [], False, "Failed",
            id="finally does not heal",
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "ok", "f": "failed"}}, [], [], False, "Failed",
            id="finally can fail it",
        ),
        pytest.param(
            {"tasks": [A, B], "requested": "Cancelled"}, [], ["a", "b"], False, "Cancelled", id="cancelled at once"
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "cancelled"}, "requested": "Cancelled"}, [], ["f"], False,
            "Cancelled", id="cancelling skips finally",
        ),
        pytest.param(
            {"tasks": [A, B], "final": [F], "states": {"a": "cancelled"}, "requested": "CancelledRunFinally"},
            ["f"], ["b"], None, "CancelledRunningFinally", id="cancelling with finally",
        ),
        pytest.param(
            {"tasks": [A, B], "final": [F], "states": {"a": "running"}, "requested": "StoppedRunFinally"},
            [], ["b"], None, "StoppedRunningFinally", id="stopping lets running tasks end",
        ),
        pytest.param(
            {"tasks": [A, B], "states": {"a": "cancelled"}, "timeouts": {"pipeline": "10s"}, "after": 10},
            [], ["b"], False, "PipelineRunTimeout", id="the pipeline's time is up",
        ),
        pytest.param(
            {"tasks": [A], "final": [F], "states": {"a": "cancelled"}, "timeouts": {"tasks": "5s"}, "after": 6},
            ["f"], [], None, "Running", id="when the tasks' time is up finally still runs",
        ),
        pytest.param(
            {
                "tasks": [A], "final": [F], "states": {"a": "ok"}, "timeouts": {"finally": "5s"},
                "after": 20, "finally_after": 10,
            },
            [], ["f"], False, "PipelineRunTimeout", id="finally has a time too",
        ),
        pytest.param({"tasks": [A], "timeouts": {"pipeline": "0"}, "after": 1e7}, ["a"], [], None, "Running", id="no limit"),
        pytest.param({"tasks": [A], "after": 3600}, [], ["a"], False, "PipelineRunTimeout", id="an hour by default"),
    ],
)  # fmt: skip
def test_the_next_move(world, starts, skips, status, reason):
    """What starts, what is skipped, and what the condition says."""
    move = run(**world)
    assert starts == [t.name for t in move.start]
    assert skips == sorted(move.skipped)
    assert (status, reason) == (move.status, move.reason)


@pytest.mark.parametrize(
    ("world", "cancels"),
    [
        pytest.param({"requested": "Cancelled"}, ("a",), id="cancelled"),
        pytest.param({"requested": "CancelledRunFinally"}, ("a",), id="cancelled gracefully"),
        pytest.param({"requested": "StoppedRunFinally"}, (), id="stopped"),
        pytest.param({"after": 3601}, ("a",), id="out of time"),
        pytest.param({}, (), id="nothing asked"),
    ],
)
def test_who_is_cancelled(world, cancels):
    """Only running tasks are."""
    assert cancels == run([A, B], {"a": "running"}, **world).cancel


def test_finally_tasks_know_how_it_went():
    """``tasks.status`` and ``tasks.T.status`` are theirs alone."""
    move = run([A, NEVER | {"name": "n"}], {"a": "failed"}, final=[F])
    assert tuple(move.variables[k] for k in ("tasks.status", "tasks.a.status", "tasks.n.status")) == (
        "Failed",
        "Failed",
        "None",
    )


def test_it_wakes_at_the_next_deadline():
    """A timer, not polling."""
    assert NOW + timedelta(seconds=5) == run([A], {"a": "running"}, timeouts={"pipeline": "9s", "tasks": "5s"}).wake_at
    assert NOW + timedelta(seconds=9) == run([A], {"a": "ok"}, final=[F], timeouts={"pipeline": "9s"}).wake_at


STATES = st.sampled_from(["", "running", "ok", "failed", "cancelled"])


@given(
    st.tuples(STATES, STATES, STATES, STATES),
    st.sampled_from(["", "Cancelled", "CancelledRunFinally", "StoppedRunFinally"]),
    st.sampled_from([0.0, 9.0, 11.0]),
)
def test_every_state_has_a_sound_answer(states, requested, after):
    """A run ends exactly when nothing runs and nothing starts; nothing starts twice; what is over is never cancelled."""
    known = {n: s for n, s in zip("abcf", states, strict=True) if s}
    move = run([A, B, C], known, final=[F], requested=requested, after=after, timeouts={"pipeline": "10s"})
    started = {t.name for t in move.start}
    assert not started & set(known)
    assert not started & set(move.skipped)
    assert set(move.cancel) <= {n for n, s in known.items() if s == "running"}
    running = {n for n, s in known.items() if s == "running"}
    waiting = set("abcf") - set(known) - set(move.skipped) - started
    assert (move.status is None) == bool(running or started or waiting)
    if not running and not started:
        assert move.status is not None


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_declaration_does_not_matter(order):
    """The graph decides."""
    tasks = {"a": A, "b": B, "c": C}
    assert [t.name for t in run([tasks[n] for n in order]).start] == ["a"]
