"""Who may call which route: bearer tokens by TokenReview, permission by SubjectAccessReview, both remembered briefly.

``serve_apps.http`` asks a ``Gate`` before a request's body is read. Only *positive* answers are kept, for ten seconds:
a token that was just granted works at once, one that was just revoked works for at most that long. Concurrent misses of
one question share one review, so that a storm after a quiet hour costs the API server one call. Nothing is let through
when the API server cannot answer: the error goes to the caller, who says 503.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kubernaut_ray import names
from kubernaut_ray.kube.client import KubeClient, UserInfo

POSITIVE_SECONDS = 10.0
_CAPACITY = 2048

T = TypeVar("T")


class Gate(Protocol):
    """Decides who a token belongs to and what that user may do. May raise ``Retryable`` when it cannot find out."""

    async def authenticate(self, token: str) -> UserInfo | None: ...

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A request with this method (``*`` any) below this path needs ``verb`` on ``resource`` in the group kubernaut.ai."""

    method: str
    path_prefix: str
    verb: str
    resource: str

    def matches(self, method: str, path: str) -> bool:
        return self.method in {"*", method} and path.startswith(self.path_prefix)


class _Remembered(Generic[T]):
    """Positive answers by key, for a while; at most one question a key in flight."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds, self._monotonic = seconds, monotonic
        self._known: dict[Hashable, tuple[T, float]] = {}
        self._asking: dict[Hashable, asyncio.Task[T | None]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[None, None, T | None]]) -> T | None:
        known = self._known.get(key)
        if known is not None and known[1] > self._monotonic():
            return known[0]
        task = self._asking.get(key)
        if task is None:
            # An empty context: the answer serves every waiter, so it must not carry one request's context variables.
            task = asyncio.get_running_loop().create_task(self._learn(key, ask), context=contextvars.Context())
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    def _asked(self, key: Hashable, task: asyncio.Task[T | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # Every waiter may have gone; what it raised is theirs alone.

    async def _learn(self, key: Hashable, ask: Callable[[], Coroutine[None, None, T | None]]) -> T | None:
        answer = await ask()
        self._known.pop(key, None)
        if answer:
            if len(self._known) >= _CAPACITY:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (answer, self._monotonic() + self._seconds)
        return answer


class KubeGate:
    """The gate of a running system: asks the Kubernetes API, by TokenReview and SubjectAccessReview."""

    def __init__(
        self,
        client: KubeClient,
        *,
        positive_seconds: float = POSITIVE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._users: _Remembered[UserInfo] = _Remembered(positive_seconds, monotonic)
        self._grants: _Remembered[bool] = _Remembered(positive_seconds, monotonic)

    async def authenticate(self, token: str) -> UserInfo | None:
        # Keyed by digest: a memory dump of the cache shows no token.
        return await self._users.get(hashlib.sha256(token.encode()).digest(), lambda: self._client.review_token(token))

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return (
            await self._grants.get(
                (user.username, user.groups, verb, resource),
                lambda: self._client.may(user, verb=verb, group=names.GROUP, resource=resource),
            )
            is True
        )
