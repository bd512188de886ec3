"""The work queue of one controller: keys only, each at most once, with backoff and timers.

- A key added many times is worked on once; added while it is worked on, once more afterwards.
- ``wake`` sets a timer per key; of two wakes the earlier wins. Taking the key clears it: the reconcile that follows
  says anew when to look again.
- ``retry`` backs off exponentially with jitter. An event for a key in backoff is not lost but waits a moment, so that
  a failing object that keeps changing cannot become a hot loop.

Used from one event loop only.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque

from kubernaut_ray.control.decision import Key

EVENT_FLOOR = 1.0
"""Seconds that an event waits, at least after the last failure, when its key is in backoff."""


class Closed(Exception):
    """The queue was closed: there will be no more work."""


class WorkQueue:
    """See the module. All times are seconds of the event loop's clock."""

    def __init__(self, *, backoff_base: float = 0.5, backoff_max: float = 60.0) -> None:
        self._base, self._max = backoff_base, backoff_max
        self._ready: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._failed_at: dict[Key, float] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        """When the timer goes off."""
        self._closed = False

    def __len__(self) -> int:
        """Keys ready to be worked on."""
        return len(self._ready)

    @property
    def working(self) -> int:
        return len(self._working)

    @property
    def waiting(self) -> int:
        """Keys with a timer."""
        return len(self._due)

    def add(self, key: Key) -> None:
        """Work on this key soon."""
        if self._closed:
            return
        if key in self._failures and key not in self._working:
            self.wake(key, self._failed_at[key] + EVENT_FLOOR - _now())
        else:
            self._push(key)

    def wake(self, key: Key, delay: float) -> None:
        """Work on this key in ``delay`` seconds, or earlier if that was asked before."""
        if self._closed:
            return
        if delay <= 0:
            self._push(key)
            return
        due = _now() + delay
        if key in self._queued or due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._arm()

    def retry(self, key: Key, *, after: float | None = None, floor: float = 0.0, ceiling: float | None = None) -> float:
        """Work on a failed key again after its backoff; return the delay. ``after`` (what the failing side asked for) and
        ``floor`` lengthen it, ``ceiling`` replaces the queue's longest delay.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._failed_at[key] = _now()
        longest = self._max if ceiling is None else ceiling
        delay = max(floor, self._base) * (1 << min(failures - 1, 30))
        delay = max(min(delay, longest), floor, after or 0.0) * random.uniform(0.9, 1.1)  # noqa: S311 - spreading load
        self.wake(key, delay)
        return delay

    def failures(self, key: Key) -> int:
        return self._failures.get(key, 0)

    def succeed(self, key: Key) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)
        self._failed_at.pop(key, None)

    def forget(self, key: Key) -> None:
        """The object is gone: forget failures and timers."""
        self.succeed(key)
        self._due.pop(key, None)

    async def take(self) -> Key:
        """Wait for a key; call ``done`` after the work. Raises ``Closed``."""
        while not self._ready:
            if self._closed:
                raise Closed
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._ready:
                    self._notify()  # it was for us, and we cannot take it
                raise
        key = self._ready.popleft()
        self._queued.discard(key)
        self._due.pop(key, None)
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """The work on a taken key ended, well or badly."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def clear(self) -> None:
        """Drop everything that waits; a new list finds it again."""
        self._ready.clear()
        self._queued.clear()
        self._again.clear()
        self._due.clear()
        self._failures.clear()
        self._failed_at.clear()
        self._arm()

    def close(self) -> None:
        """Stop handing out keys, for good; work in hand may end."""
        self._closed = True
        self.clear()
        while self._waiters:
            self._notify()

    def _push(self, key: Key) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._notify()

    def _notify(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        """Set the one timer to the earliest due key."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        first = self._heap[0][0] if self._heap and not self._closed else None
        if self._timer is not None:
            if self._armed == first:
                return
            self._timer.cancel()
            self._timer = None
        if first is not None:
            self._timer, self._armed = asyncio.get_running_loop().call_at(first, self._ring), first

    def _ring(self) -> None:
        self._timer = None
        now = _now()
        while self._heap and self._heap[0][0] <= now + 0.001:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._push(key)
        self._arm()


def _now() -> float:
    return asyncio.get_running_loop().time()
