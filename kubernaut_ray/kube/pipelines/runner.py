"""The embedded pipeline runner: watches PipelineRuns, TaskRuns and executions' Jobs of one namespace and drives them.

One process per data directory, kept by a file lock: only then is it certain that a claimed TaskRun nobody runs was lost.
At rest it waits on three watches and nothing else.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from kubernaut_ray.clock import Clock, utcnow
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube.cache import Cache
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.pipelines.binding import LABEL_RUN
from kubernaut_ray.kube.pipelines.conditions import done
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.job import JobRunner, over, settled, suspended
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.pipeline import PipelineReconciler
from kubernaut_ray.kube.pipelines.resolve import Resolver
from kubernaut_ray.kube.pipelines.task import TaskRunner
from kubernaut_ray.kube.resources import JOB, PIPELINE_RUN, TASK_RUN
from kubernaut_ray.names import LABEL_WORKFLOW_EXECUTION, WORKFLOW_NAMESPACE

BACKOFF_MAX = 30.0
_log = structlog.get_logger(__name__)


class Runner:
    """``start`` begins to watch, ``stop`` drains. ``slots`` is how many TaskRuns, and how many Jobs, run at a time."""

    def __init__(
        self,
        client: KubeClient,
        cluster: Cluster,
        stores: Stores,
        data_dir: Path,
        *,
        namespace: str = WORKFLOW_NAMESPACE,
        slots: int = 8,
        drain_timeout: float = 20.0,
        clock: Clock = utcnow,
    ) -> None:
        resolver = Resolver(client, stores)
        self._pipelines = PipelineReconciler(client, resolver, clock)
        self._tasks = TaskRunner(client, resolver, cluster, data_dir, clock, slots)
        self._jobs = JobRunner(client, cluster, data_dir, clock, slots)
        self._clock = clock
        self._namespace = namespace
        self._drain_timeout = drain_timeout
        self._draining = False
        self._runs = Cache(client, PIPELINE_RUN, namespace, on_change=self._run_changed)
        self._task_runs = Cache(client, TASK_RUN, namespace, on_change=self._task_changed)
        self._job_objects = Cache(client, JOB, namespace, labels=LABEL_WORKFLOW_EXECUTION, on_change=self._job_changed)
        self._watching: list[asyncio.Task[None]] = []
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._faults: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._running: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    async def start(self) -> None:
        """List all kinds, take up what was left, and go on watching."""
        self._watching = [
            asyncio.create_task(cache.run(), name=f"watch-{cache.resource.plural}")
            for cache in (self._task_runs, self._runs, self._job_objects)
        ]
        await asyncio.wait([*self._watching, asyncio.create_task(self._synced())], return_when=asyncio.FIRST_COMPLETED)
        _log.info("runner.watching", namespace=self._namespace, runs=len(self._runs), task_runs=len(self._task_runs))

    async def stop(self) -> None:
        """Start nothing more, let running tasks end until the drain limit, then stop. What is cut off is found lost later."""
        self._draining = True
        for timer in self._timers.values():
            timer.cancel()
        if running := [task for task, _ in self._running.values()]:
            _log.info("runner.draining", tasks=len(running), limit=self._drain_timeout)
            await asyncio.wait(running, timeout=self._drain_timeout)
        rest = [*self._watching, *self._looking.values(), *(task for task, _ in self._running.values())]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _synced(self) -> None:
        await self._task_runs.synced.wait()
        await self._runs.synced.wait()
        await self._job_objects.synced.wait()

    def _run_changed(self, _old: Object | None, new: Object | None) -> None:
        if new is not None and not done(new):
            self._look(new["metadata"]["name"])

    def _task_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        if new is None:
            self._end(obj["metadata"]["uid"])
        else:
            self._take(new)
        if run := (obj["metadata"].get("labels") or {}).get(LABEL_RUN):
            self._look(run)

    def _take(self, task_run: Object) -> None:
        """Run a TaskRun that nobody runs; tell a running one that it is cancelled."""
        uid = task_run["metadata"]["uid"]
        cancelled = task_run["spec"].get("status") == "TaskRunCancelled"
        if uid not in self._running and not self._draining and not done(task_run):
            stop = asyncio.Event()
            task = asyncio.create_task(self._run_task(task_run, stop), name=f"task-{task_run['metadata']['name']}")
            self._running[uid] = task, stop
        if cancelled and uid in self._running:
            self._running[uid][1].set()

    def _end(self, uid: str) -> None:
        """The TaskRun is gone: so is its right to run."""
        if uid in self._running:
            self._running[uid][0].cancel()

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        """Run a Job that nobody runs; stop one that is suspended or deleted."""
        obj = new or old
        if obj is None:
            return
        uid = obj["metadata"]["uid"]
        stopping = new is None or suspended(obj) or bool(obj["metadata"].get("deletionTimestamp"))
        if uid in self._running:
            if stopping:
                self._running[uid][1].set()
        elif new is not None and not self._draining and not over(new) and not settled(new):
            stop = asyncio.Event()
            task = asyncio.create_task(self._run_job(new, stop), name=f"job-{new['metadata']['name']}")
            self._running[uid] = task, stop

    async def _run_job(self, job: Object, stopped: asyncio.Event) -> None:
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        try:
            await self._jobs.run(job, stopped, lambda: self._draining)
        except KubernautError as error:
            _log.error("job.fault", job=name, error=str(error))
            await asyncio.sleep(1.0 if isinstance(error, Retryable) else BACKOFF_MAX)
        finally:
            del self._running[uid]
        asyncio.get_running_loop().call_later(0.2, self._take_job_again, name, uid)

    def _take_job_again(self, name: str, uid: str) -> None:
        """Take up a Job that changed while its runner was about to return; by now the cache has seen the last write."""
        current = self._job_objects.get(name, self._namespace)
        if current and current["metadata"]["uid"] == uid:
            self._job_changed(None, current)

    async def _run_task(self, task_run: Object, cancelled: asyncio.Event) -> None:
        uid, name = task_run["metadata"]["uid"], task_run["metadata"]["name"]
        try:
            await self._tasks.run(task_run, cancelled, lambda: self._draining)
        except KubernautError as error:
            _log.error("task.fault", task_run=name, error=str(error))
            await asyncio.sleep(1.0 if isinstance(error, Retryable) else BACKOFF_MAX)
        finally:
            del self._running[uid]
        current = self._task_runs.get(name, self._namespace)
        if current and current["metadata"]["uid"] == uid and not done(current):
            asyncio.get_running_loop().call_later(0.2, self._take_again, name, uid)

    def _take_again(self, name: str, uid: str) -> None:
        """Take up a TaskRun whose runner returned early; by now the cache has seen the last write."""
        current = self._task_runs.get(name, self._namespace)
        if current and current["metadata"]["uid"] == uid:
            self._take(current)

    def _look(self, name: str) -> None:
        """Look at a PipelineRun now; once more if it is being looked at already."""
        if self._draining:
            return
        if name in self._looking:
            self._again.add(name)
            return
        if timer := self._timers.pop(name, None):
            timer.cancel()
        self._looking[name] = asyncio.create_task(self._look_at(name), name=f"pipeline-{name}")

    async def _look_at(self, name: str) -> None:
        delay: float | None = None
        try:
            looked = await self._pipelines.look(self._namespace, name)
            self._faults.pop(name, None)
            for task_run in looked.task_runs:
                self._take(task_run)
            if looked.wake_at:
                delay = max(0.0, (looked.wake_at - self._clock()).total_seconds())
        except Retryable as error:
            delay = error.after if error.after is not None else self._backoff(name)
            _log.info("pipeline.again", run=name, after=delay, error=str(error))
        except Permanent as error:
            delay = self._backoff(name, floor=5.0)
            _log.warning("pipeline.fault", run=name, after=delay, error=str(error))
        finally:
            del self._looking[name]
        if name in self._again:
            self._again.discard(name)
            self._look(name)
        elif delay is not None and not self._draining:
            self._timers[name] = asyncio.get_running_loop().call_later(delay, self._look, name)

    def _backoff(self, name: str, floor: float = 0.2) -> float:
        self._faults[name] = self._faults.get(name, 0) + 1
        return float(min(BACKOFF_MAX, floor * 2 ** min(self._faults[name], 10)))


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data directory. Raises ``Permanent`` (reason ``AlreadyRunning``) when another runner has it."""
    folder = data_dir / "pipelines"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Permanent(
                f"another pipeline runner works in {data_dir}; stop it first", reason="AlreadyRunning"
            ) from error
        yield


async def run_until(stop: asyncio.Event, client: KubeClient, runner: Runner, ready: Any = None) -> None:
    """Run until told to stop; ``ready`` is called once the watches are up."""
    async with client:
        await runner.start()
        if ready:
            ready()
        try:
            await stop.wait()
        finally:
            with suppress(asyncio.CancelledError):
                await runner.stop()
