"""An event loop whose time is an argument: nothing waits, and the next thing that is due happens at once, in its order.

The same callbacks in the same order give the same run. It reads no clock and no socket, and so runs nothing that needs one.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any, NoReturn


class Stuck(Exception):
    """Everybody waits for something that nobody will do."""


class _Jump(selectors.SelectSelector):
    """Where a loop would sleep until its next timer, time goes on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.loop.elapsed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``elapsed`` is seconds since its beginning. ``broken`` holds what nobody caught."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)
        self.broken: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.elapsed

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a thread takes part, and no run would be like another")

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.broken.append(f"{context.get('message', '')}: {error!r}")
