"""Who waits here for a turn, so that what frees it (another execution's end) is followed by a look at once.

In memory and a hint only: what it misses (another process's execution that waits, an event that was lost, a listing that was
read just before an end) is found by the timers of ``queue.py``. Whose turn it is, it does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from actors.workflow_execution.queue import Entry
from kubernaut_ray.control.decision import Key
from kubernaut_ray.kube.client import Object

HEADS = 4
"""How many look at a time. Namespaces take turns, so the next one is the first of some namespace."""
LOST = timedelta(minutes=5)
"""One that is not looked at for so long although it was due, is another process's by now."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    due: datetime


class WaitingRoom:
    """Used from one event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[Key, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, key: Key, entry: Entry, due: datetime, now: datetime) -> None:
        """It waits, and looks again by itself when it is ``due``."""
        self._waiting[key] = _Waiting(entry, due)
        for other in [k for k, waiting in self._waiting.items() if now > waiting.due + LOST]:
            del self._waiting[other]

    def leave(self, key: Key) -> None:
        """It waits no longer, or for something else."""
        self._waiting.pop(key, None)

    def called(self, changed: Object, /) -> Sequence[Key]:
        """Return who shall look again after a change of an execution: the oldest of its namespace, then those of others.

        Nobody, unless it is over or about to be gone, or was admitted just now: there may be room for one more.
        """
        entry = Entry.of(changed)
        if entry is None:
            return ()
        admitted = entry.active and not entry.started
        if not (admitted or entry.over or changed["metadata"].get("deletionTimestamp")):
            return ()
        heads: dict[str, Key] = {}
        for key, waiting in sorted(self._waiting.items(), key=lambda item: item[1].entry.age):
            heads.setdefault(waiting.entry.namespace, key)
        first = heads.pop(entry.namespace, None)
        return ([first] if first is not None else []) + list(heads.values())[: HEADS - 1]
