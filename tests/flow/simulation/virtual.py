"""An event loop whose time is an argument: nothing waits, and the next thing that is due happens at once, in its order.

The same callbacks in the same order give the same run. It knows no clock, no socket and no thread, and so runs nothing that
needs one; what is left of a loop without these is a queue of what is ready and a heap of what is due.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, NoReturn


class Stuck(Exception):
    """Everybody waits for something that nobody will do."""


class _Handle:
    """A callback; a cancelled one stays where it is, and is passed over."""

    __slots__ = ("_when", "args", "callback", "context")

    def __init__(self, callback: Callable[..., object], args: Any, context: Context | None, when: float = 0.0) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args, self._when = args, when
        self.context = copy_context() if context is None else context

    def cancel(self) -> None:
        self.callback = self.args = None

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.SelectorEventLoop):
    """``elapsed`` is seconds since its beginning. ``broken`` holds what nobody caught."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        super().__init__()
        self._now: deque[_Handle] = deque()
        self._due: list[tuple[float, int, _Handle]] = []
        self._turns = itertools.count()
        self.broken: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.elapsed

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, args, context)
        self._now.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, args, context, when)
        heappush(self._due, (when, next(self._turns), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self.elapsed + delay, callback, *args, context=context)

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a thread takes part, and no run would be like another")

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, time goes on to the next thing that is due."""
        ready, due = self._now, self._due
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            while due and due[0][2].callback is None:
                heappop(due)
            if not due:
                raise Stuck
            self.elapsed = max(self.elapsed, due[0][0])
        while due and due[0][0] <= self.elapsed:
            ready.append(heappop(due)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.callback is None:
                continue
            try:
                handle.context.run(handle.callback, *handle.args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - as the loops of asyncio do
                self.call_exception_handler({"message": f"{handle.callback} raised", "exception": error})

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.broken.append(f"{context.get('message', '')}: {error!r}")
