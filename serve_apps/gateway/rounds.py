"""Rounds: one read for all who ask while the one before is under way.

Every answer comes of a read that began after it was asked for, so it is as fresh as a read of its own; what many ask for at
a time costs one request instead of many. ``ledger`` reads RemediationRequests this way, and ``folding`` counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

GATHER_SECONDS = 0.002
"""Under load a round waits so long, until as many ask as the last time: a request costs as much CPU for one as for all."""

V = TypeVar("V")


@dataclass(slots=True)
class _Round(Generic[V]):
    task: asyncio.Task[None]
    wanted: set[str] = field(default_factory=set)
    found: Mapping[str, V] = field(default_factory=dict)
    askers: int = 0


class Rounds(Generic[V]):
    """``read`` is given the keys of a round and returns a value for each."""

    def __init__(self, read: Callable[[Collection[str]], Awaitable[Mapping[str, V]]]) -> None:
        self._read = read
        self._current: asyncio.Task[None] | None = None
        self._next: _Round[V] | None = None
        self._crowd = 0
        """How many asked for the last round."""
        self._gathered: asyncio.Event | None = None
        """Set when as many ask for the next one; there only while somebody waits for that."""

    async def ask(self, keys: Collection[str]) -> Mapping[str, V]:
        """Return the value of each key (and perhaps of others). Raises what ``read`` raises."""
        mine = self._next
        if mine is None or mine.task.done():
            # Many requests share a round, so it must not carry the context of one.
            run = self._run(self._current)
            task = asyncio.get_running_loop().create_task(run, context=contextvars.Context())
            task.add_done_callback(_unheard)
            mine = self._next = _Round(task)
        mine.wanted.update(keys)
        mine.askers += 1
        if mine.askers >= self._crowd and self._gathered is not None:
            self._gathered.set()
        await asyncio.shield(mine.task)
        return mine.found

    async def _run(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None and not previous.done():
            await asyncio.wait({previous})
        if self._next is not None and self._next.askers < self._crowd:
            self._gathered = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._gathered.wait()
            self._gathered = None
        round_, self._next = self._next, None
        if round_ is not None:
            self._crowd, self._current = round_.askers, round_.task
            round_.found = await self._read(round_.wanted)


def batched(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut into parts of this size: a selector has to fit into a URL that every proxy takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _unheard(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # The askers raise it; none may be left.
