"""The Kubernetes API as the gateway uses it: few verbs, retried while that can help, behind a circuit breaker.

When the API server does not answer, the breaker opens: requests fail at once with ``Unavailable`` (the sender is told 503 and
when to come back) instead of queueing up behind time-outs, and one call at a time finds out whether it is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import structlog

from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient, Object, Version
from kubernaut_ray.kube.errors import ApiError, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.kinds import Kinds

T = TypeVar("T")
KINDS_SECONDS = 300.0
"""How long a discovery is good for; a kind installed since is found within this time."""

log = structlog.get_logger(__name__)


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after ``failures`` in a row, for ``open_seconds``; then lets one call through to find out."""

    def __init__(
        self, failures: int = 5, open_seconds: float = 5.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._open_seconds, self._monotonic = failures, open_seconds, monotonic
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        waited = self._monotonic() - self._opened_at
        return BreakerState.HALF_OPEN if waited >= self._open_seconds else BreakerState.OPEN

    async def call(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Make one call. Raises ``Unavailable`` at once while open."""
        state = self.state
        if state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and self._probing):
            raise Unavailable("the Kubernetes API does not answer", after=self._open_seconds)
        self._probing = state is BreakerState.HALF_OPEN
        try:
            answer = await ask()
        except Unavailable:
            self._failures += 1
            if self._failures >= self._limit or state is BreakerState.HALF_OPEN:
                if self._opened_at is None:
                    log.warning("gateway.breaker_opened", failures=self._failures)
                self._opened_at = self._monotonic()
            raise
        except KubernautError:
            self._close()  # It answered, if only to refuse.
            raise
        else:
            self._close()
            return answer
        finally:
            if state is BreakerState.HALF_OPEN:
                self._probing = False

    def _close(self) -> None:
        if self._opened_at is not None:
            log.info("gateway.breaker_closed")
        self._failures, self._opened_at = 0, None


class Cluster:
    """What the gateway asks of one API server. Errors are ``kubernaut_ray.kube.errors``."""

    def __init__(
        self,
        client: KubeClient,
        *,
        attempts: int = 3,
        breaker: Breaker | None = None,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._client, self._attempts, self._wait = client, max(1, attempts), wait
        self.breaker = breaker or Breaker()
        self._kinds: Kinds | None = None
        self._kinds_until = 0.0
        self._discovering = asyncio.Lock()

    async def get(self, resource: Resource, name: str, namespace: str | None) -> Object:
        return await self._ask(lambda: self._client.get(resource, name, namespace))

    async def list(self, resource: Resource, namespace: str, *, labels: str) -> tuple[Object, ...]:
        found = await self._ask(lambda: self._client.list(resource, namespace, labels=labels))
        return found.items

    async def versions(self, resource: Resource, namespace: str, *, labels: str) -> tuple[Version, ...]:
        return await self._ask(lambda: self._client.versions(resource, namespace, labels=labels))

    async def create(self, resource: Resource, obj: Mapping[str, Any], namespace: str) -> Object:
        """Create; after a lost answer the retry may raise ``AlreadyExists`` for our own object."""
        return await self._ask(lambda: self._client.create(resource, obj, namespace))

    async def patch_status(self, resource: Resource, name: str, patch: Mapping[str, Any], namespace: str) -> Object:
        """Patch conditionally, once: a repeat after a lost answer would meet its own Conflict and hide that it was done."""
        return await self.breaker.call(
            lambda: self._client.patch(resource, name, patch, namespace, subresource="status")
        )

    async def kinds(self) -> Kinds:
        """Return what the discovery lists; an older answer when the API server cannot say now, if there is one."""
        if self._kinds is not None and time.monotonic() < self._kinds_until:
            return self._kinds
        async with self._discovering:
            if self._kinds is not None and time.monotonic() < self._kinds_until:
                return self._kinds
            try:
                self._kinds = Kinds(await self.breaker.call(self._client.discover))
                self._kinds_until = time.monotonic() + KINDS_SECONDS
            except Unavailable:
                if self._kinds is None:
                    raise
            except ApiError as error:
                log.warning("gateway.discovery_refused", error=str(error))
                self._kinds = self._kinds or Kinds()  # The well-known kinds need no discovery.
                self._kinds_until = time.monotonic() + KINDS_SECONDS
            return self._kinds

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, self._attempts):
            try:
                return await self.breaker.call(ask)
            except Unavailable:
                if self.breaker.state is not BreakerState.CLOSED:
                    raise
                jitter = random.uniform(0.9, 1.1)  # noqa: S311 - spreads retries, guards nothing
                await self._wait(min(5.0, 0.1 * 2 ** (attempt - 1)) * jitter)
        return await self.breaker.call(ask)
