"""What goes wrong, and when: one source of chance decides, so that a seed names a run.

``Faults.on`` is taken away near the end: left alone, the world must come to rest.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


class Crash(BaseException):
    """The process dies here. No ``except Exception`` may see it."""


@dataclass(frozen=True)
class Rates:
    """Probabilities a call, a write, or an event."""

    unread: float = 0.005
    """A read has no answer. Nothing can come of it but another one, so that it is rarer than what happens to writes."""
    refused: float = 0.01
    """A write, or another service, is not answered, and nothing was done."""
    answer_lost: float = 0.01
    """It was done, and nobody hears of it."""
    conflict: float = 0.01
    slow: float = 0.005
    """A call takes seconds."""
    hung: float = 0.0002
    """A call takes longer than any reconcile may."""
    crash: float = 0.002
    """The process dies right before or right after a write."""
    paused: float = 0.001
    """Of processes with a Lease, a write: it is on its way, the process sleeps for minutes, and the write arrives when it wakes."""
    paused_execution: float = 0.001
    """The same, where the write creates an execution."""
    paused_run: float = 0.12
    """The same, where the write creates a run: this is what fencing is for."""
    event_lost: float = 0.01
    event_twice: float = 0.02
    event_late: float = 0.02
    watch_cut: float = 0.003
    watch_gone: float = 0.0005
    """The resourceVersion is too old, and everything is to be listed again."""


STORM = Rates(
    unread=0.015,
    refused=0.04,
    answer_lost=0.04,
    conflict=0.04,
    slow=0.02,
    hung=0.002,
    crash=0.015,
    paused=0.004,
    paused_execution=0.004,
    paused_run=0.25,
    event_lost=0.1,
    event_twice=0.1,
    event_late=0.1,
    watch_cut=0.01,
    watch_gone=0.005,
)
"""Some two controllers die for each incident."""


def weather(seed: int) -> Rates:
    """Two seeds of a bad day, two of a storm, in turn."""
    return STORM if seed // 2 % 2 else Rates()


class Faults:
    """Rolls the dice."""

    def __init__(self, rng: random.Random, rates: Rates) -> None:
        self.rng, self.rates, self.on = rng, rates, True
        self.happened: dict[str, int] = {}

    def hits(self, what: str) -> bool:
        """Whether this fault happens now."""
        if not self.on or self.rng.random() >= getattr(self.rates, what):
            return False
        self.note(what)
        return True

    def note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def nap(self) -> float:
        """Seconds that a process sleeps: shorter than its Lease lasts, longer, or until its successor has done all the work."""
        return self.rng.uniform(*self.rng.choice(((20.0, 200.0), (350.0, 700.0), (900.0, 1800.0))))

    def latency(self) -> float:
        """Seconds that a call takes: this is what interleaves everything with everything."""
        if self.hits("slow"):
            return self.rng.uniform(1.0, 10.0)
        if self.hits("hung"):
            return self.rng.uniform(100.0, 200.0)
        return self.rng.uniform(0.0005, 0.02)
