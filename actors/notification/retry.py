"""Where each delivery of a notification stands, from its attempts on record. Pure.

An attempt that was refused for good (``invalid``) ends a delivery; one that failed or timed out is tried again after the
policy's backoff. An attempt whose end nobody saw (``unknown``) is tried again at once and marked a possible duplicate; it
uses up no attempt of the policy, but a process that dies again and again does not send for ever either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kubernaut_ray.crds.enums import AttemptStatus
from kubernaut_ray.crds.notification_request import DeliveryAttempt, RetryPolicy

ATTEMPTS_ON_RECORD = 190
"""A notification gives up before its record outgrows what the CRD can hold."""


class State(StrEnum):
    FRESH = "fresh"
    SENDING = "sending"
    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"


_OVER = frozenset({State.DELIVERED, State.REFUSED, State.EXHAUSTED})


@dataclass(frozen=True, slots=True)
class Standing:
    """``due`` is when the next attempt may start, for ``FRESH`` and ``WAITING``."""

    key: str
    state: State
    attempts: int
    due: datetime | None = None
    possible_duplicate: bool = False

    @property
    def over(self) -> bool:
        return self.state in _OVER


def standing(
    key: str, attempts: Sequence[DeliveryAttempt], policy: RetryPolicy, *, seed: str, now: datetime
) -> Standing:
    """Judge one delivery; ``attempts`` are all of the notification, ``seed`` makes its jitter."""
    mine = [attempt for attempt in attempts if attempt.channel == key]
    states = [attempt.status for attempt in mine]
    count = len(mine)
    if AttemptStatus.SUCCESS in states:
        return Standing(key, State.DELIVERED, count)
    if AttemptStatus.SENDING in states:
        return Standing(key, State.SENDING, count)
    if AttemptStatus.INVALID in states:
        return Standing(key, State.REFUSED, count)
    failed = sum(state in {AttemptStatus.FAILED, AttemptStatus.TIMEOUT} for state in states)
    if failed >= policy.max_attempts or count >= 2 * policy.max_attempts or len(attempts) >= ATTEMPTS_ON_RECORD:
        return Standing(key, State.EXHAUSTED, count)
    if not mine:
        return Standing(key, State.FRESH, 0, due=now)
    unseen = any(state in {AttemptStatus.UNKNOWN, AttemptStatus.TIMEOUT} for state in states)
    last = mine[-1]
    due = now
    if last.status is not AttemptStatus.UNKNOWN:
        ended = last.timestamp + timedelta(seconds=last.duration_seconds)
        due = ended + backoff(failed, policy, f"{seed}/{key}/{failed}")
    return Standing(key, State.WAITING, count, due=due, possible_duplicate=unseen)


def backoff(failures: int, policy: RetryPolicy, seed: str) -> timedelta:
    """Return ``min(initial × multiplier^(n-1), max)`` ± 10 %, the same for the same seed."""
    seconds = float(policy.initial_backoff_seconds)
    for _ in range(max(0, failures - 1)):
        seconds = min(seconds * policy.backoff_multiplier, policy.max_backoff_seconds)
    jitter = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**32 * 0.2 - 0.1
    return timedelta(seconds=min(seconds, policy.max_backoff_seconds) * (1 + jitter))
