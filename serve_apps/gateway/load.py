"""How much the gateway takes on at a time: so many requests at work, so many waiting, and the rest is told to come back.

Load is shed with 503 and Retry-After, which Alertmanager retries, and never with 429, after which it gives up.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve_apps import problem

WAIT_SECONDS = 10.0
MAX_CLIENTS = 10_000


class Load:
    def __init__(self, *, concurrent: int, queued: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._slots = asyncio.Semaphore(concurrent)
        self._queued, self._wait_seconds = queued, wait_seconds
        self.waiting = 0
        self.working = 0
        self.draining = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one slot. Raises a 503 ``Problem`` when the queue is full, the wait too long, or we are going away."""
        if self.draining:
            raise problem.unavailable("this gateway is shutting down; another replica will take it", after=1)
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()
        self.working += 1
        try:
            yield
        finally:
            self.working -= 1
            self._slots.release()

    async def _wait(self) -> None:
        if self.waiting >= self._queued:
            raise problem.unavailable("too many signals at once; send again", after=2)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise problem.unavailable(f"no room within {self._wait_seconds:g}s; send again", after=5) from None
        finally:
            self.waiting -= 1

    async def drained(self, seconds: float) -> None:
        """Take no more, and wait until the work at hand is done, at most so long."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (self.working or self.waiting) and loop.time() < until:
            await asyncio.sleep(0.02)


class Rates:
    """A token bucket a client; off when ``per_minute`` is 0. Each replica counts for itself."""

    def __init__(self, per_minute: int, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._monotonic = per_minute / 60, float(max(1, burst)), monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Take one request's worth. Raises a 503 ``Problem`` that says when there is one again: 429 would lose alerts."""
        if not self._per_second:
            return
        now = self._monotonic()
        left, since = self._buckets.get(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        if left < 1:
            self._buckets[client] = (left, now)
            wait = (1 - left) / self._per_second
            raise problem.unavailable(f"client {client} sends more than its share; send again", after=wait + 0.5)
        self._buckets[client] = (left - 1, now)
        self._buckets.move_to_end(client)
        while len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
