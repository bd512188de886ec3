"""Sends, in memory: what this process has promised to send, what it is sending, and how it went.

An attempt is promised before it is written into the status, and sent only once the status says so. After a crash the status
names an attempt of which no process remembers anything: nobody can say whether it went out, and it is recorded as unknown.
Nothing here decides whether or when to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from actors.notification.breaker import Breaker
from actors.notification.channels.base import UNANSWERED
from kubernaut_ray.clock import Clock
from kubernaut_ray.control.controller import Wake
from kubernaut_ray.control.decision import Call, Key
from kubernaut_ray.crds.enums import AttemptStatus
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.errors import Permanent, Retryable

INTEND = "notification.intend"
DELIVER = "notification.deliver"

_log = structlog.get_logger(__name__)

Send = Callable[[NotificationRequest, str, int, bool], Awaitable[None]]
"""``send(notification, delivery key, attempt, possible duplicate)``; raises ``Retryable`` or ``Permanent``."""


class Local(StrEnum):
    PROMISED = "promised"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt went. ``error`` holds no secret."""

    status: AttemptStatus
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """Names one attempt of one delivery of one notification."""

    uid: str
    key: str
    number: int

    def __str__(self) -> str:
        return f"{self.uid}/{self.key}/{self.number}"


class Outbox:
    def __init__(
        self, send: Send, wake: Wake, clock: Clock, new_breaker: Callable[[], Breaker], *, give_up_after: float
    ) -> None:
        self._send, self._wake, self._clock = send, wake, clock
        self._new_breaker = new_breaker
        self._give_up_after = give_up_after
        self._known: dict[Attempt, Local | Ended] = {}
        self._owner: dict[Attempt, Key] = {}
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}
        self._breakers: dict[str, Breaker] = {}

    async def intend(self, call: Call, /) -> None:
        """Remember that this process is about to write this attempt down."""
        notification, attempt, _ = _read(call)
        if attempt not in self._known:
            self._known[attempt] = Local.PROMISED
            self._owner[attempt] = Key(notification.namespace, notification.name)

    async def deliver(self, call: Call, /) -> None:
        """Start sending a promised attempt; a second call for it does nothing."""
        notification, attempt, possible_duplicate = _read(call)
        if self._known.get(attempt) is Local.PROMISED:
            self._known[attempt] = Local.RUNNING
            task = asyncio.create_task(self._run(notification, attempt, possible_duplicate))
            task.add_done_callback(lambda done: self._ended(done, notification, attempt))
            self._tasks[attempt] = task

    def local(self, uid: str) -> Mapping[tuple[str, int], Local | Ended]:
        """What this process knows of a notification's attempts, by (delivery key, number)."""
        return {(a.key, a.number): state for a, state in self._known.items() if a.uid == uid}

    def held(self) -> Mapping[str, datetime]:
        """Deliveries that must wait, and until when: their circuit breaker is open, or the other side asked."""
        return {key: breaker.not_before for key, breaker in self._breakers.items() if breaker.not_before is not None}

    def forget(self, owner: Key, sending: frozenset[tuple[str, int]], uid: str) -> None:
        """Drop all but the attempts that the status, read just now, calls ``sending``.

        The others were taken up, or were promised in a write that never happened. ``uid`` empty means that the notification
        is gone: what still runs is stopped.
        """
        for attempt in [a for a, key in self._owner.items() if key == owner]:
            if attempt.uid == uid and (attempt.key, attempt.number) in sending:
                continue
            if task := self._tasks.pop(attempt, None):
                task.cancel()
            del self._known[attempt], self._owner[attempt]

    async def drain(self) -> frozenset[Key]:
        """Wait for what is being sent; return the notifications whose results no status holds yet."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._give_up_after + 1)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return frozenset(self._owner[a] for a, state in self._known.items() if isinstance(state, Ended))

    async def _run(self, notification: NotificationRequest, attempt: Attempt, possible_duplicate: bool) -> None:
        began = self._clock()
        status, error = AttemptStatus.SUCCESS, ""
        breaker = self._breakers.setdefault(attempt.key, self._new_breaker())
        try:
            async with asyncio.timeout(self._give_up_after):
                await self._send(notification, attempt.key, attempt.number, possible_duplicate)
            breaker.succeeded()
        except TimeoutError:
            status, error = AttemptStatus.TIMEOUT, f"no answer within {self._give_up_after:g} s"
            breaker.failed(self._clock())
        except Retryable as failure:
            unanswered = failure.reason == UNANSWERED
            status, error = AttemptStatus.TIMEOUT if unanswered else AttemptStatus.FAILED, str(failure)
            breaker.failed(self._clock())
            if failure.after:
                breaker.hold(self._clock() + timedelta(seconds=failure.after))
        except Permanent as failure:
            status, error = AttemptStatus.INVALID, str(failure)
        seconds = max(0.0, (self._clock() - began).total_seconds())
        self._known[attempt] = Ended(status, seconds, error)
        log = _log.info if status is AttemptStatus.SUCCESS else _log.warning
        log(
            "notification.attempt",
            notification=notification.name,
            delivery=attempt.key,
            attempt=attempt.number,
            status=str(status),
            error=error,
            seconds=round(seconds, 3),
        )

    def _ended(self, task: asyncio.Task[None], notification: NotificationRequest, attempt: Attempt) -> None:
        """Wake the notification. A bug in a channel must not leave an attempt running for ever."""
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("notification.broke", notification=notification.name, delivery=attempt.key, exc_info=error)
            self._known[attempt] = Ended(AttemptStatus.FAILED, 0.0, f"internal error: {type(error).__name__}")
        self._wake(notification.namespace, notification.name)


def call(performer: str, notification: NotificationRequest, key: str, number: int, possible_duplicate: bool) -> Call:
    """Build the effect that promises or sends one attempt."""
    payload = {
        "notification": notification.to_object(),
        "key": key,
        "number": number,
        "possibleDuplicate": possible_duplicate,
    }
    return Call(performer, str(Attempt(notification.uid, key, number)), payload)


def _read(call: Call) -> tuple[NotificationRequest, Attempt, bool]:
    notification = NotificationRequest.from_object(call.payload["notification"])
    attempt = Attempt(notification.uid, call.payload["key"], call.payload["number"])
    return notification, attempt, bool(call.payload["possibleDuplicate"])
