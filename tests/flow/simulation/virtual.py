"""An event loop whose time is an argument: nothing waits, and the next thing that is due happens at once, in its order.

The same callbacks in the same order give the same run. It knows no clock, no socket and no thread, and so runs nothing that
needs one; what is left of a loop without these is a queue of what is ready and a heap of what is due.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, NoReturn, cast


class Stuck(Exception):
    """Everybody waits for something that nobody will do."""


class _Timer(asyncio.TimerHandle):
    """One callback that is due at a time. Cancelled ones stay where they are, and are passed over."""

    def cancel(self) -> None:
        asyncio.Handle.cancel(self)


class VirtualLoop(asyncio.SelectorEventLoop):
    """``elapsed`` is seconds since its beginning. ``broken`` holds what nobody caught."""

    _ready: Any

    def __init__(self) -> None:
        self.elapsed = 0.0
        super().__init__()
        self._due: list[tuple[float, int, _Timer]] = []
        self._turns = itertools.count()
        self.broken: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.elapsed

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, cast("Any", self), context)
        heappush(self._due, (when, next(self._turns), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.elapsed + delay, callback, *args, context=context)

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a thread takes part, and no run would be like another")

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, time goes on to the next timer."""
        ready, due = self._ready, self._due
        if not ready:
            while due and due[0][2].cancelled():
                heappop(due)
            if not due:
                raise Stuck
            self.elapsed = max(self.elapsed, due[0][0])
        while due and due[0][0] <= self.elapsed:
            ready.append(heappop(due)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.broken.append(f"{context.get('message', '')}: {error!r}")
