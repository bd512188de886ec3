"""The loop of one controller over one range of shards: watches feed the queue, workers reconcile, failures come back.

Owns retry, and so is the one place that catches everything. What becomes of a failed reconcile:

===================  ==============================================================================================
Conflict             at once, again (a few times in a row, then like Retryable)
Retryable            backoff, or later when the error says so
ValidationError      the object was edited into something unreadable: Warning Event, looked at again after a minute
Permanent            Warning Event, looked at again after a minute, then ever more rarely
Fenced               like Retryable, told once; when the shards turn out to be another's, everything here is dropped
no end in sight      cut off after two minutes, then like Retryable
anything else        a bug: logged with its trace, backoff
===================  ==============================================================================================

``run`` goes on until ``drain``; a lost Lease stops all work until it is won back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import Any

import structlog
from pydantic import ValidationError

from kubernaut_ray import clock as clocks
from kubernaut_ray.control import events, shards
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.control.decision import Controller, Key, Watch
from kubernaut_ray.control.lease import Fenced
from kubernaut_ray.control.queue import Closed, WorkQueue
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.control.reconcile import Outcome, Reconciler, Version
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.control.stats import LoopStats, Result
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube.cache import Cache, metadata_only
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Conflict
from kubernaut_ray.settings import FleetSettings

RECONCILE_TIMEOUT = 120.0
DRAIN_TIMEOUT = 15.0
REFUSED_FLOOR, REFUSED_CEILING = 60.0, 900.0
"""Seconds until something that cannot succeed is looked at again."""
IDLE_FLOOR = 0.25
"""A decision that changes nothing is not looked at again sooner, whatever ``wake_at`` says."""
CONFLICTS_IN_A_ROW = 5
_WELL = frozenset({Result.WROTE, Result.UNCHANGED})

log = structlog.get_logger(__name__)

_NO_ECHOES: tuple[frozenset[Version], frozenset[Version]] = (frozenset(), frozenset())


class ControlLoop:
    """See the module. ``queue`` is made by the caller, because the controller is built with its ``wake``."""

    def __init__(
        self,
        controller: Controller[Any, Any],
        client: KubeClient,
        audit: AuditSink,
        queue: WorkQueue,
        *,
        settings: FleetSettings,
        namespace: str | None,
        shard_range: ShardRange | None = None,
        lease: ShardLease | None = None,
        clock: clocks.Clock = clocks.utcnow,
        recall: Recall | None = None,
    ) -> None:
        self.stats = LoopStats()
        self._state = "starting"
        self._controller, self._client, self._queue = controller, client, queue
        self._settings, self._namespace = settings, namespace
        self._shards = shard_range or ShardRange()
        self._lease = lease
        self._clock = clock
        self._recall = Recall() if recall is None else recall
        self._reconcile = Reconciler(controller, client, audit, clock=clock, fence=lease, recall=self._recall)
        self._own = self._watch_own()
        self._caches: tuple[Cache, ...] = ()
        self._echoes: dict[Key, tuple[frozenset[Version], frozenset[Version]]] = {}
        """What the last two reconciles that wrote have written: events may come late by one."""
        self._heard: dict[Key, set[Version]] = {}
        """What events told of keys that are being worked on."""
        self._told: set[Key] = set()
        """Keys to look at because of an event or of our own last write: only then does memory count."""
        self._settled: dict[Key, str] = {}
        self._conflicts: Counter[Key] = Counter()
        self._draining = asyncio.Event()
        self._told_fenced = False

    @property
    def state(self) -> str:
        """``starting``, ``acquiring``, ``standby`` (another process holds the Lease), ``syncing``, ``running``, ``draining``,
        ``stopped``.
        """
        if self._state == "acquiring" and self._lease is not None and self._lease.contended:
            return "standby"
        return self._state

    @property
    def objects(self) -> int:
        """How many objects of its own kind the loop looks after."""
        return len(self._own)

    @property
    def queue(self) -> WorkQueue:
        return self._queue

    def drain(self) -> None:
        """Take no new work; ``run`` returns when the work in hand has ended."""
        self._draining.set()

    async def run(self) -> None:
        """Work until drained. Whatever breaks a tenure is logged, and a new one begins."""
        started, pause = False, 0.5
        with structlog.contextvars.bound_contextvars(controller=self._controller.name, shards=str(self._shards)):
            while not self._draining.is_set():
                try:
                    if not started:
                        await self._controller.start()
                        started = True
                    await self._tenure()
                    pause = 0.5
                except Exception as error:
                    if (task := asyncio.current_task()) is not None and task.cancelling():
                        raise asyncio.CancelledError from error  # it broke on the way out, and out it goes
                    self.stats.last_error = f"{type(error).__name__}: {error}"
                    log.exception("loop.broke", again_in=pause)
                    await self._sleep(pause)
                    pause = min(pause * 2, 30.0)
            self._queue.close()
            if started:
                await self._controller.stop()
            self._state = "stopped"

    async def _tenure(self) -> None:
        """Work for as long as the shards are ours."""
        endings: set[asyncio.Task[Any]] = {asyncio.create_task(self._draining.wait())}
        try:
            if self._lease is not None:
                self._state = "acquiring"
                acquired = asyncio.create_task(self._lease.acquire())
                endings.add(acquired)
                await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
                if self._draining.is_set():
                    return
                endings.discard(acquired)
                await acquired
                endings.add(asyncio.create_task(self._lease.keep()))
            await self._serve(endings)
        finally:
            await _cancel(endings)
            if self._lease is not None:
                await self._lease.release()

    async def _serve(self, endings: set[asyncio.Task[Any]]) -> None:
        self._state = "syncing"
        self._own = self._watch_own()
        self._caches = (self._own, *(self._watch_other(watch) for watch in self._controller.watches))
        self._echoes.clear()
        self._settled.clear()
        self._told.clear()
        self._recall.clear()  # another owner may have written meanwhile
        self._told_fenced = False
        feeders = [asyncio.create_task(cache.run()) for cache in self._caches]
        feeders.append(asyncio.create_task(self._resync()))
        if self._shards.sweeps:
            feeders.append(asyncio.create_task(self._sweep()))
        workers = [asyncio.create_task(self._work()) for _ in range(self._settings.concurrency)]
        feeders.append(asyncio.create_task(self._synced()))
        watched = {*feeders[:-1], *workers, *endings}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._draining.is_set():
                self._state = "draining"
                self._queue.close()
                await asyncio.wait(workers, timeout=DRAIN_TIMEOUT)
            for task in (*feeders, *workers):
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
        finally:
            await _cancel({*feeders, *workers})
            self._queue.clear()

    async def _synced(self) -> None:
        for cache in self._caches:
            await cache.synced.wait()
        self._state = "running"
        log.info("loop.running", objects=len(self._own))

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.take()
            except Closed:
                return
            heard = self._heard[key] = set()
            try:
                await self._once(key)
            finally:
                del self._heard[key]
                if not all(self._is_echo(key, version) for version in heard):
                    self._tell(key)
                self._queue.done(key)

    async def _once(self, key: Key) -> None:
        known = self._own.get(key.name, key.namespace)
        correlation = shards.remediation_of(known) if known else key.name
        began = time.monotonic()
        if key in self._told:
            self._told.discard(key)
        else:
            self._recall.forget(key)
        # The worker's own context: it holds until the next key.
        structlog.contextvars.bind_contextvars(key=str(key), correlation_id=correlation)
        try:
            async with asyncio.timeout(RECONCILE_TIMEOUT):
                outcome = await self._reconcile(key)
            result = self._settle(key, outcome)
        except Conflict:
            result = Result.CONFLICT
            self._conflicts[key] += 1
            if self._conflicts[key] <= CONFLICTS_IN_A_ROW:
                self._queue.add(key)
            else:
                self._queue.retry(key)
        except Fenced as error:
            result = Result.FENCED
            self._queue.retry(key, after=error.after)  # if it was only a long pause, the shards are still ours
            self._fenced(error)
        except Retryable as error:
            result = Result.RETRY
            delay = self._queue.retry(key, after=error.after)
            log.info("reconcile.retry", error=str(error), again_in=round(delay, 2))
        except TimeoutError:
            result = Result.RETRY
            delay = self._queue.retry(key)
            log.warning("reconcile.timeout", seconds=RECONCILE_TIMEOUT, again_in=round(delay, 2))
        except ValidationError as error:
            result = Result.INVALID
            await self._refused(key, "InvalidObject", _problems(error))
        except Permanent as error:
            result = Result.PERMANENT
            await self._refused(key, error.reason, str(error))
        except Exception as error:
            result = Result.ERROR
            delay = self._queue.retry(key)
            self.stats.last_error = f"{key}: {type(error).__name__}: {error}"
            log.exception("reconcile.broke", again_in=round(delay, 2))
        if result not in _WELL:
            self._recall.forget(key)
        self.stats.took(time.monotonic() - began, result)

    def _fenced(self, error: Fenced) -> None:
        """Tell it once a tenure, and find out what is true."""
        if not self._told_fenced:
            self._told_fenced = True
            self.stats.last_error = f"Fenced: {error}"
            log.warning("reconcile.fenced", error=str(error))
        if self._lease is not None:
            self._lease.doubt()

    def _settle(self, key: Key, outcome: Outcome) -> Result:
        self._queue.succeed(key)
        self._conflicts.pop(key, None)
        for effect, times in outcome.effects.items():
            self.stats.effects[effect] += times
        if outcome.gone:
            self._queue.forget(key)
            self._echoes.pop(key, None)
            self._settled.pop(key, None)
            self._recall.forget(key)
            return Result.GONE
        if outcome.old_phase != outcome.new_phase:
            self.stats.transitions[outcome.old_phase, outcome.new_phase] += 1
            log.info("phase", old=outcome.old_phase, new=outcome.new_phase, reason=outcome.reason)
        else:
            log.debug("decided", phase=outcome.new_phase, reason=outcome.reason)
        if outcome.settled:
            self._settled[key] = outcome.settled
        if outcome.wrote:
            # The echoes of our own writes on the watches would say nothing new: go on at once, or rest.
            self._echoes[key] = (outcome.echoes, self._echoes.get(key, _NO_ECHOES)[0])
            if not outcome.rests:
                self._tell(key)
        if outcome.wake_at is not None:
            delay = (outcome.wake_at - self._clock()).total_seconds()
            self._queue.wake(key, max(delay, IDLE_FLOOR))
        return Result.WROTE if outcome.wrote else Result.UNCHANGED

    async def _refused(self, key: Key, reason: str, message: str) -> None:
        delay = self._queue.retry(key, floor=REFUSED_FLOOR, ceiling=REFUSED_CEILING)
        self.stats.last_error = f"{key}: {reason}: {message}"
        log.warning("reconcile.refused", reason=reason, error=message, again_in=round(delay, 1))
        known = self._own.get(key.name, key.namespace) or {}
        await events.warn(
            self._client,
            self._controller.resource,
            key,
            uid=str((known.get("metadata") or {}).get("uid", "")),
            reason=reason,
            message=message,
            component=f"kubernaut-{self._controller.name}",
            now=self._clock(),
        )

    def _watch_own(self) -> Cache:
        def changed(old: Object | None, new: Object | None) -> None:
            self._changed(_key(new or old or {}), self._controller.resource.plural, old, new)

        return Cache(
            self._client,
            self._controller.resource,
            self._namespace,
            labels=self._shards.selector,
            on_change=changed,
            project=_trigger_projection,
        )

    def _watch_other(self, watch: Watch) -> Cache:
        def changed(old: Object | None, new: Object | None) -> None:
            try:
                keys = watch.keys(new or old or {})
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.warning("watch.unmapped", resource=watch.resource.plural, error=f"{type(error).__name__}: {error}")
                return
            for key in keys:
                # Not in our own list: another shard's, or not seen yet, and then its own event will come.
                if self._own.get(key.name, key.namespace) is not None:
                    self._changed(key, watch.resource.plural, old, new)

        selector = shards.join(watch.labels, self._shards.selector if watch.sharded else "")
        return Cache(
            self._client, watch.resource, watch.namespace, labels=selector, on_change=changed, project=metadata_only
        )

    def _changed(self, key: Key, plural: str, old: Object | None, new: Object | None) -> None:
        """Look at a key again, unless all that happened is what we did ourselves.

        Of a key that is being worked on, that is known only when the work has ended: an echo may arrive before the answer.
        """
        if (last := new or old) is not None:
            self._recall.note(key, plural, last)
        if new is None:
            self._recall.forget(key)
        metadata = new["metadata"] if new is not None else {}
        version = (plural, str(metadata.get("name", "")), str(metadata.get("resourceVersion", "")))
        if (heard := self._heard.get(key)) is not None:
            heard.add(version)
        elif not self._is_echo(key, version):
            self._tell(key)

    def _tell(self, key: Key) -> None:
        self._told.add(key)
        self._queue.add(key)

    def _is_echo(self, key: Key, version: Version) -> bool:
        return any(version in written for written in self._echoes.get(key, _NO_ECHOES))

    async def _resync(self) -> None:
        """Look at everything that may still move again now and then, against events that nobody sent."""
        interval = self._settings.resync_interval
        while True:
            await asyncio.sleep(interval)
            for obj in self._own:
                key = _key(obj)
                if self._settled.get(key) == obj["metadata"].get("resourceVersion"):
                    continue
                self._queue.wake(key, random.uniform(0.001, interval / 10))  # noqa: S311 - spreading load

    async def _sweep(self) -> None:
        """Give objects that people made without a shard label theirs, so that they have an owner whatever the fleet's size."""
        sweeps = WorkQueue(backoff_base=1.0)

        def changed(_: Object | None, new: Object | None) -> None:
            if new is not None:
                sweeps.add(_key(new))

        found = Cache(
            self._client, self._controller.resource, self._namespace, labels=shards.UNLABELLED, on_change=changed
        )
        feeder = asyncio.create_task(found.run())
        try:
            while True:
                key = await sweeps.take()
                try:
                    obj = found.get(key.name, key.namespace)
                    if obj is not None:
                        patch = shards.missing_labels(obj)
                        await self._client.patch(self._controller.resource, key.name, patch, key.namespace or None)
                        self.stats.swept += 1
                    sweeps.succeed(key)
                except KubernautError as error:
                    sweeps.retry(key)
                    log.warning("sweep.failed", key=str(key), error=str(error))
                finally:
                    sweeps.done(key)
        finally:
            await _cancel({feeder})

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not past a drain."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _trigger_projection(obj: Object) -> Object:
    """Identity, and the reference that tells which remediation an object belongs to."""
    kept = metadata_only(obj)
    reference = (obj.get("spec") or {}).get("remediationRequestRef")
    return {**kept, "spec": {"remediationRequestRef": reference}} if reference else kept


def _problems(error: ValidationError) -> str:
    """Every problem with its path; the values themselves stay out, they may be secret."""
    lines = [f"{'.'.join(str(part) for part in e['loc']) or '(object)'}: {e['msg']}" for e in error.errors()]
    return f"{error.title} cannot be read: {'; '.join(lines[:20])}. Correct the object or delete it."


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
