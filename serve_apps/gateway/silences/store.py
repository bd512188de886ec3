"""The silences of one gateway replica: watched, asked for each signal, their counts written back, the old ones removed.

``start`` before the first signal, ``synced`` before the first incident is opened: a replica that has not seen the silences yet
waits for them, but not for ever. What cannot be known (no answer, an object that makes no sense) silences nothing: an alert
too many is better than one lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from kubernaut_ray.clock import Clock, utcnow
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.kube.cache import Cache
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import SILENCE
from serve_apps.gateway.signal import cut
from serve_apps.gateway.silences.counts import Address, Counts, Due
from serve_apps.gateway.silences.table import Entry, Table

FLUSH_SECONDS = 0.5
SWEEP_SECONDS = 60.0
RETENTION = timedelta(hours=120)
"""How long an expired silence is kept, as Alertmanager keeps it."""
DRAIN_ATTEMPTS = 5
MAX_SUMMARY = 1024

log = structlog.get_logger(__name__)


class Silences:
    """Safe with any number of replicas: everything that they write is conditional and may be written twice."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        now: Clock = utcnow,
        retention: timedelta = RETENTION,
        interval: float = FLUSH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.namespace = client, namespace
        self._now, self._retention, self._interval, self._monotonic = now, retention, interval, monotonic
        self._table = Table()
        self._counts = Counts(client, namespace)
        self._cache = Cache(client, SILENCE, namespace, on_change=self._changed)
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._started = monotonic()
        self._told = False
        self._news = asyncio.Event()

    @property
    def healthy(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def pending(self) -> int:
        """How many silences have counts that are not written yet."""
        return self._counts.pending

    @property
    def generation(self) -> int:
        """As of the last ``tick`` or ``match``."""
        return self._table.generation

    @property
    def next_change(self) -> datetime | None:
        """When ``tick`` may find another generation though no silence was touched."""
        return self._table.next_change

    async def start(self) -> None:
        loop, self._started = asyncio.get_running_loop(), self._monotonic()
        # An empty context: a task that inherits a request's context keeps that request alive.
        self._tasks = tuple(
            loop.create_task(work, context=contextvars.Context()) for work in (self._cache.run(), self._keep())
        )

    async def stop(self) -> None:
        """End the tasks and write the counts that are left."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for attempt in range(DRAIN_ATTEMPTS):
            await self._counts.flush()
            if not self._counts.pending:
                return
            await asyncio.sleep(0.1 * 2**attempt)
        log.error("gateway.silence_counts_lost", silences=self._counts.pending)

    async def synced(self, timeout: float) -> bool:
        """Wait for the silences until ``timeout`` seconds after the start; ``False`` says to go on without them."""
        if self._cache.synced.is_set():
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._started + timeout - self._monotonic())):
                return await self._cache.synced.wait()
        if not self._told:
            self._told = True
            log.error(
                "gateway.silences_unknown", waited=timeout, consequence="no signal is silenced until they are read"
            )
        return False

    def tick(self, now: datetime) -> int:
        """Return the generation: it increases whenever a silence appears, changes, vanishes, starts or ends."""
        return self._table.tick(now)

    def match(self, labels: Mapping[str, str], now: datetime) -> tuple[str, ...]:
        """Return the names of the silences in force that match these labels (``labels_of``)."""
        return self._table.match(labels, now)

    def count(self, name: str, n: int, now: datetime) -> None:
        """Count ``n`` signals that this silence kept quiet; written to its status within the second."""
        entry = self._table.get(name)
        if entry is not None:
            self._counts.add(Address(name, entry.uid), Due(count=n, first=now, last=now))

    async def seen(self, silence: Silence, timeout: float = 1.0) -> None:
        """Wait until this replica works with a change that was just made, or for ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._knows(silence):
                    await self._news.wait()

    def _knows(self, silence: Silence) -> bool:
        held = self._cache.get(silence.name, silence.namespace)
        metadata = held["metadata"] if held else {}
        return metadata.get("uid") == silence.uid and metadata.get("generation", 0) >= silence.metadata.generation

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._table.drop((old or {})["metadata"]["name"])
        else:
            self._learn(new)
        self._news.set()
        self._news = asyncio.Event()

    def _learn(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        try:
            silence = Silence.from_object(obj)
            entry = Entry.of(silence)
        except (ValidationError, InvalidInput) as error:
            self._table.drop(name)
            log.warning("gateway.silence_unusable", silence=name, error=str(error))
            return
        self._table.put(entry)
        summary = cut(entry.summary, MAX_SUMMARY)
        if silence.status.summary != summary:
            self._counts.add(Address(name, silence.uid), Due(summary=summary))

    async def _keep(self) -> None:
        swept = self._monotonic()
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._counts.flush()
                if self._monotonic() - swept >= SWEEP_SECONDS:
                    swept = self._monotonic()
                    await self.sweep()
            except Exception:
                log.exception("gateway.silences_crashed")

    async def sweep(self) -> None:
        """Remove what expired longer ago than the retention, unless it changed since it was seen."""
        for obj in self._cache:
            metadata = obj["metadata"]
            entry = self._table.get(metadata["name"])
            if entry is None or self._now() < entry.ends_at + self._retention:
                continue
            try:
                await self.client.delete(
                    SILENCE,
                    entry.name,
                    self.namespace,
                    uid=entry.uid,
                    resource_version=metadata["resourceVersion"],
                )
                log.info("gateway.silence_removed", silence=entry.name, ended=entry.ends_at.isoformat())
            except (NotFound, Conflict):
                continue  # Another replica was first, or it lives again.
            except KubernautError as error:
                log.warning("gateway.silence_not_removed", silence=entry.name, error=str(error))
                return
