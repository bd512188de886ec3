"""A circuit breaker per way out: after some failures in a row it lets nothing through for a while, then tries carefully.

Open → nothing is tried until ``open_for`` is over; then half open → one failure opens it again, enough successes close it. An
open breaker defers deliveries and uses up none of their attempts. Times are arguments; the state is memory only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(slots=True)
class Breaker:
    failures_to_open: int = 3
    open_for: timedelta = timedelta(seconds=30)
    successes_to_close: int = 2
    _failures: int = 0
    _successes: int = 0
    _tripped: bool = False
    _until: datetime | None = None

    @property
    def not_before(self) -> datetime | None:
        """Nothing may be tried before this instant; ``None`` when nothing holds it."""
        return self._until

    @property
    def tripped(self) -> bool:
        """Open or half open."""
        return self._tripped

    def failed(self, now: datetime) -> None:
        """The way out itself failed (not: refused this one message)."""
        self._failures += 1
        self._successes = 0
        if self._tripped or self._failures >= self.failures_to_open:
            self._tripped = True
            self._until = now + self.open_for

    def succeeded(self) -> None:
        self._failures = 0
        self._until = None
        self._successes += 1
        if self._tripped and self._successes >= self.successes_to_close:
            self._tripped = False
            self._successes = 0

    def hold(self, until: datetime) -> None:
        """The other side asked to wait (``Retry-After``)."""
        if self._until is None or until > self._until:
            self._until = until
