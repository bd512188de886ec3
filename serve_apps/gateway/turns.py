"""Turns: one after the other for each key, for as many keys as there are at the moment.

``folding`` takes turns by signal name, ``occurrences`` by RemediationRequest. A key is forgotten once nobody is at it or waits
for it, and not before: a second lock beside one that somebody waits for would let two in. (``asyncio.Lock.locked`` does not
tell: between a release and the next waiter's step it is false.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Turn(Generic[V]):
    """``left`` is what those before left for the others who waited meanwhile; ``None`` for the first."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    left: V | None = None


class Turns(Generic[K, V]):
    def __init__(self) -> None:
        self._turns: dict[K, Turn[V]] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def turn(self, key: K) -> AsyncIterator[Turn[V]]:
        """Be alone at this key."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn()
        turn.users += 1
        try:
            async with turn.lock:
                yield turn
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]
