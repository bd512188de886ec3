"""What a PipelineRun does next: a pure function of its spec, its TaskRuns and the time.

``advance`` is called whenever something about a run changed. It says which tasks to start, which to cancel, which are
skipped and why, what the ``Succeeded`` condition is, and when to look again. It keeps no memory: killing the runner
loses nothing, because everything is derived from the cluster again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kubernaut_ray.clock import format_duration
from kubernaut_ray.kube.pipelines.conditions import Reason, Skip, done, succeeded
from kubernaut_ray.kube.pipelines.graph import dependencies
from kubernaut_ray.kube.pipelines.spec import PipelineSpec, PipelineTask, Timeouts, When
from kubernaut_ray.kube.pipelines.variables import ParamValue, substitute

DEFAULT_TIMEOUT = 3600.0
CANCELLED_MESSAGE = "TaskRun cancelled as the PipelineRun it belongs to has been cancelled."
TIMED_OUT_MESSAGE = "TaskRun cancelled as the PipelineRun it belongs to has timed out."


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def over(self) -> bool:
        return self not in (State.WAITING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Run:
    """A PipelineRun in the middle of its life. ``task_runs`` maps pipeline task names to TaskRun objects."""

    name: str
    spec: PipelineSpec
    variables: Mapping[str, ParamValue]
    """Params and context, without results."""
    timeouts: Timeouts
    requested: str
    """``spec.status``: empty, Cancelled, CancelledRunFinally or StoppedRunFinally."""
    started: datetime
    finally_started: datetime | None
    task_runs: Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Advance:
    """``status`` True, False or None (Unknown) is that of the condition; not None means the run is over."""

    status: bool | None
    reason: str
    message: str
    start: tuple[PipelineTask, ...] = ()
    cancel: tuple[str, ...] = ()
    """Names of the pipeline tasks to cancel."""
    cancel_message: str = ""
    skipped: dict[str, Skip] = field(default_factory=dict)
    variables: dict[str, ParamValue] = field(default_factory=dict)
    """Everything that params of the tasks to start may refer to."""
    finally_started: datetime | None = None
    wake_at: datetime | None = None


def state_of(task_run: Mapping[str, Any] | None) -> State:
    """Return the state of a pipeline task from its TaskRun."""
    if task_run is None:
        return State.WAITING
    found = succeeded(task_run)
    if found is None or not done(task_run):
        return State.RUNNING
    if found["status"] == "True":
        return State.SUCCEEDED
    return State.CANCELLED if found.get("reason") == Reason.TASK_CANCELLED else State.FAILED


def result_variables(task_runs: Mapping[str, Mapping[str, Any]]) -> dict[str, ParamValue]:
    """Return ``tasks.T.results.R`` of every TaskRun that has ended."""
    return {
        f"tasks.{task}.results.{result['name']}": result["value"]
        for task, task_run in task_runs.items()
        if done(task_run)
        for result in (task_run.get("status") or {}).get("results") or ()
    }


def advance(run: Run, now: datetime) -> Advance:
    """Decide the next move. Total: any combination of states has an answer."""
    limits = _Limits.of(run)
    states = {t.name: state_of(run.task_runs.get(t.name)) for t in (*run.spec.tasks, *run.spec.finally_)}
    variables = {**run.variables, **result_variables(run.task_runs)}
    skipped: dict[str, Skip] = {}
    starting: list[PipelineTask] = []

    stop = _reason_to_stop(run, states, limits, now)
    broken = _broken_reference(run.spec, states, variables)
    _walk(run.spec.tasks, states, skipped, starting, variables, stop or (Skip.STOPPING if broken else None))
    dag_over = all(states[t.name].over for t in run.spec.tasks)
    cancel = _to_cancel(run, states, limits, now)

    finally_started = run.finally_started
    if dag_over and run.spec.finally_:
        finally_started = finally_started or now
        final_variables = {**variables, **_status_variables(run.spec, states, skipped)}
        _final(run, states, skipped, starting, final_variables, limits.finally_stop(run, finally_started, now))
        variables = final_variables
    elif dag_over:
        finally_started = None
    if dag_over:
        cancel += tuple(
            t.name
            for t in run.spec.finally_
            if states[t.name] is State.RUNNING and limits.finally_stop(run, finally_started or now, now)
        )
    status, reason, message = _condition(run, states, skipped, limits, now, over=dag_over)
    if status is not None and broken:
        status, reason, message = False, Reason.INVALID_RESULT_REFERENCE, broken
    return Advance(
        status,
        reason,
        message,
        start=tuple(starting),
        cancel=cancel,
        cancel_message=CANCELLED_MESSAGE if run.requested else TIMED_OUT_MESSAGE,
        skipped=skipped,
        variables=variables,
        finally_started=finally_started,
        wake_at=None if status is not None else limits.next_after(now, finally_started),
    )


@dataclass(frozen=True, slots=True)
class _Limits:
    """Absolute deadlines; ``None`` is no limit."""

    pipeline: datetime | None
    tasks: datetime | None
    finally_seconds: float | None
    pipeline_seconds: float

    @classmethod
    def of(cls, run: Run) -> _Limits:
        timeouts = run.timeouts
        whole = DEFAULT_TIMEOUT if timeouts.pipeline is None else timeouts.pipeline
        tasks, final = timeouts.tasks, timeouts.finally_
        if tasks is None and final and whole:
            tasks = whole - final
        return cls(
            pipeline=run.started + timedelta(seconds=whole) if whole else None,
            tasks=run.started + timedelta(seconds=tasks) if tasks else None,
            finally_seconds=final or None,
            pipeline_seconds=whole,
        )

    def pipeline_over(self, now: datetime) -> bool:
        return self.pipeline is not None and now >= self.pipeline

    def tasks_over(self, now: datetime) -> bool:
        return self.pipeline_over(now) or (self.tasks is not None and now >= self.tasks)

    def finally_deadline(self, started: datetime) -> datetime | None:
        return started + timedelta(seconds=self.finally_seconds) if self.finally_seconds else None

    def finally_stop(self, run: Run, started: datetime, now: datetime) -> Skip | None:
        deadline = self.finally_deadline(started)
        if run.requested == "Cancelled":
            return Skip.CANCELLED
        if self.pipeline_over(now):
            return Skip.PIPELINE_TIMEOUT
        return Skip.FINALLY_TIMEOUT if deadline and now >= deadline else None

    def next_after(self, now: datetime, finally_started: datetime | None) -> datetime | None:
        deadlines = [self.pipeline, self.tasks, self.finally_deadline(finally_started) if finally_started else None]
        return min((d for d in deadlines if d is not None and d > now), default=None)


def _ignores_failure(task: PipelineTask) -> bool:
    return task.on_error == "continue"


def _reason_to_stop(run: Run, states: Mapping[str, State], limits: _Limits, now: datetime) -> Skip | None:
    """Return why no further task of the graph starts, if so."""
    match run.requested:
        case "Cancelled" | "CancelledRunFinally":
            return Skip.CANCELLED
        case "StoppedRunFinally":
            return Skip.STOPPED
    if limits.pipeline_over(now):
        return Skip.PIPELINE_TIMEOUT
    if limits.tasks_over(now):
        return Skip.TASKS_TIMEOUT
    failed = any(
        states[t.name] is State.CANCELLED or (states[t.name] is State.FAILED and not _ignores_failure(t))
        for t in run.spec.tasks
    )
    return Skip.STOPPING if failed else None


def _broken_reference(spec: PipelineSpec, states: Mapping[str, State], variables: Mapping[str, ParamValue]) -> str:
    """Say which task needs a result that its producer should have written and did not; empty when all is well.

    Skipping the task instead would let a run succeed without, say, its verification.
    """
    for task in spec.tasks:
        for producer, name in sorted(dependencies(task).results):
            written = f"tasks.{producer}.results.{name.partition('.')[0]}" in variables
            if states[producer] is State.SUCCEEDED and not written:
                return (
                    f'invalid result reference in pipeline task "{task.name}": '
                    f'could not find result with name "{name}" for task "{producer}"'
                )
    return ""


def _walk(
    tasks: tuple[PipelineTask, ...],
    states: dict[str, State],
    skipped: dict[str, Skip],
    starting: list[PipelineTask],
    variables: Mapping[str, ParamValue],
    stop: Skip | None,
) -> None:
    """Settle every waiting task whose dependencies have settled, until nothing moves."""
    moved = True
    while moved:
        moved = False
        for task in tasks:
            if states[task.name] is not State.WAITING or task in starting:
                continue
            needs = dependencies(task)
            if stop is None and not all(states[n].over for n in needs.tasks):
                continue
            reason = stop or _skip_reason(task, states, skipped, variables)
            if reason:
                states[task.name], skipped[task.name] = State.SKIPPED, reason
            else:
                starting.append(task)
            moved = True


def _skip_reason(
    task: PipelineTask,
    states: Mapping[str, State],
    skipped: Mapping[str, Skip],
    variables: Mapping[str, ParamValue],
) -> Skip | None:
    needs = dependencies(task)
    parents = [n for n in needs.after if states[n] is State.SKIPPED and skipped[n] is not Skip.WHEN]
    if parents:
        return Skip.PARENT
    if any(f"tasks.{t}.results.{r.partition('.')[0]}" not in variables for t, r in needs.results):
        return Skip.MISSING_RESULTS
    return None if _holds(task.when, variables) else Skip.WHEN


def _holds(when: tuple[When, ...], variables: Mapping[str, ParamValue]) -> bool:
    return all(When.model_validate(substitute(w.model_dump(), variables)).holds() for w in when)


def _final(
    run: Run,
    states: dict[str, State],
    skipped: dict[str, Skip],
    starting: list[PipelineTask],
    variables: Mapping[str, ParamValue],
    stop: Skip | None,
) -> None:
    for task in run.spec.finally_:
        if states[task.name] is State.WAITING:
            reason = stop or _skip_reason(task, states, skipped, variables)
            if reason:
                states[task.name], skipped[task.name] = State.SKIPPED, reason
            else:
                starting.append(task)


def _to_cancel(run: Run, states: Mapping[str, State], limits: _Limits, now: datetime) -> tuple[str, ...]:
    if run.requested not in ("Cancelled", "CancelledRunFinally") and not limits.tasks_over(now):
        return ()
    return tuple(t.name for t in run.spec.tasks if states[t.name] is State.RUNNING)


def _status_variables(
    spec: PipelineSpec, states: Mapping[str, State], skipped: Mapping[str, Skip]
) -> dict[str, ParamValue]:
    """Return ``tasks.T.status`` and ``tasks.status`` for finally tasks."""
    words = {State.SUCCEEDED: "Succeeded", State.FAILED: "Failed", State.CANCELLED: "Failed"}
    dag = [t for t in spec.tasks if not (_ignores_failure(t) and states[t.name] is State.FAILED)]
    if any(states[t.name] in (State.FAILED, State.CANCELLED) for t in dag):
        whole = "Failed"
    else:
        whole = "Completed" if any(t.name in skipped for t in dag) else "Succeeded"
    return {**{f"tasks.{t.name}.status": words.get(states[t.name], "None") for t in spec.tasks}, "tasks.status": whole}


def _condition(
    run: Run, states: Mapping[str, State], skipped: Mapping[str, Skip], limits: _Limits, now: datetime, *, over: bool
) -> tuple[bool | None, str, str]:
    ignored = {t.name for t in run.spec.tasks if _ignores_failure(t) and states[t.name] is State.FAILED}
    count = {state: sum(1 for s in states.values() if s is state) for state in State}
    ended = count[State.SUCCEEDED] + count[State.FAILED] + count[State.CANCELLED]
    failures = f"{count[State.FAILED]}" + (f" (Ignored: {len(ignored)})" if ignored else "")
    tally = f"Tasks Completed: {ended} (Failed: {failures}, Cancelled {count[State.CANCELLED]})"
    if not all(state.over for state in states.values()):
        reason = Reason.RUNNING
        if run.requested == "CancelledRunFinally":
            reason = Reason.CANCELLED_RUNNING_FINALLY
        elif run.requested == "StoppedRunFinally":
            reason = Reason.STOPPED_RUNNING_FINALLY
        elif count[State.FAILED] > len(ignored) and not over:
            reason = Reason.STOPPING
        incomplete = count[State.RUNNING] + count[State.WAITING]
        return None, reason, f"{tally}, Incomplete: {incomplete}, Skipped: {len(skipped)}"
    message = f"{tally}, Skipped: {len(skipped)}"
    timed_out = any(s in (Skip.PIPELINE_TIMEOUT, Skip.TASKS_TIMEOUT, Skip.FINALLY_TIMEOUT) for s in skipped.values())
    if run.requested == "" and (timed_out or (count[State.CANCELLED] and limits.tasks_over(now))):
        limit = format_duration(timedelta(seconds=limits.pipeline_seconds))
        return False, Reason.PIPELINE_TIMEOUT, f'PipelineRun "{run.name}" failed to finish within "{limit}"'
    if count[State.FAILED] > len(ignored) and run.requested != "Cancelled":
        return False, Reason.FAILED, message
    if run.requested:
        return False, Reason.CANCELLED, f'PipelineRun "{run.name}" was cancelled'
    if count[State.CANCELLED]:
        return False, Reason.CANCELLED, message
    return True, Reason.COMPLETED if skipped else Reason.SUCCEEDED, message
