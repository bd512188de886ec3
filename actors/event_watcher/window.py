"""The events of one stream that were read and are not acknowledged yet, in the order in which they were read.

It is bounded: who reads waits while it is full, and so does the API server, so that a gateway that takes nothing costs no
memory. ``reached`` moves over acknowledged events only, never past one that is still under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from actors.event_watcher.position import Point


@dataclass(slots=True, eq=False)
class Ticket:
    """One event under way, or a stretch with none. ``point`` is where its acknowledgement leads; ``None``: nowhere."""

    point: Point | None
    closed: bool = False


class Window:
    def __init__(self, capacity: int, start: Point, moved: Callable[[], None] = lambda: None) -> None:
        self.reached = start
        self._capacity, self._moved = capacity, moved
        self._tickets: deque[Ticket] = deque()
        self._open = 0
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        """Count the events under way."""
        return self._open

    async def take(self, point: Point | None) -> Ticket:
        """Enter an event, as soon as there is room."""
        while len(self._tickets) >= self._capacity:
            self._room.clear()
            await self._room.wait()
        ticket = Ticket(point)
        self._tickets.append(ticket)
        self._open += 1
        return ticket

    def skip(self, point: Point) -> None:
        """Enter a stretch in which there was nothing to forward; stretches in a row are one."""
        if self._tickets and self._tickets[-1].closed:
            self._tickets[-1].point = point
        else:
            self._tickets.append(Ticket(point, closed=True))
        self._advance()

    def close(self, ticket: Ticket) -> None:
        """The event is acknowledged, or will never be taken."""
        if not ticket.closed:
            ticket.closed = True
            self._open -= 1
            self._advance()

    def _advance(self) -> None:
        before = self.reached
        while self._tickets and self._tickets[0].closed:
            point = self._tickets.popleft().point
            self.reached = point or self.reached
        if len(self._tickets) < self._capacity:
            self._room.set()
        if self.reached != before:
            self._moved()
