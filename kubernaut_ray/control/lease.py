"""One ``coordination.k8s.io`` Lease held by one process at a time: the event watcher's, and each member's of a fleet.

The holder renews every few seconds and counts itself the owner only for as long as its last renewal reaches, by its own
monotonic clock; whoever wants the Lease takes it when it has not moved for its whole duration, by *its* own clock (as
client-go does: clocks of two machines are never compared). ``leaseTransitions`` grows with every change of hands, and the
holder's identity carries it: a restarted process is a new holder even under its old name. What a member holds beside its
Lease is in ``shard_lease.py``.

Nothing is done for the caller on loss but telling: ``check`` raises ``Fenced``, ``lost`` is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from kubernaut_ray import clock
from kubernaut_ray.errors import KubernautError, Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, NotFound
from kubernaut_ray.kube.resources import LEASE

log = structlog.get_logger(__name__)


class Fenced(Retryable):
    """The shards belong to somebody else, or to nobody we know of: this process is not their owner now."""


class Lease:
    """One process's side of one Lease. ``stem`` names the process's place (same place, same stem, across restarts)."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        stem: str,
        *,
        duration: float = 15.0,
        renew: float = 5.0,
        now: clock.Clock = clock.utcnow,
        monotonic: Callable[[], float] = time.monotonic,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.token = 0
        """The fencing token while held: ``leaseTransitions`` at the time of taking it."""
        self.lost = asyncio.Event()
        self.contended = False
        """Whether the last attempt found another holder."""
        self._client, self._namespace, self._stem = client, namespace, stem
        self._duration, self._renew = duration, renew
        self._now, self._monotonic = now, monotonic
        self._labels = dict(labels or {})
        self._held_until = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)
        self._object: Object | None = None
        self._claimed = False
        self._doubted = asyncio.Event()

    @property
    def identity(self) -> str:
        return f"{self._stem}#{self.token}"

    @property
    def uid(self) -> str:
        """Of the Lease as last seen; empty before it was taken."""
        return str((self._object or {}).get("metadata", {}).get("uid", ""))

    @property
    def held(self) -> bool:
        return self._monotonic() < self._held_until

    @property
    def seconds_left(self) -> float:
        """How long the last renewal reaches; 0 when not held."""
        return max(0.0, self._held_until - self._monotonic())

    def check(self) -> None:
        """Raise ``Fenced`` unless this process is the owner right now."""
        if not self.held:
            raise Fenced(f"lease {self.name} is not held", after=self._renew)

    async def acquire(self) -> None:
        """Wait until the Lease is ours; outages of the API server are waited out."""
        while True:
            try:
                if await self.attempt():
                    log.info("lease.acquired", lease=self.name, holder=self.identity, token=self.token)
                    return
            except KubernautError as error:
                log.warning("lease.unavailable", lease=self.name, error=str(error))
            await asyncio.sleep(min(self._renew, 2.0))

    async def keep(self) -> None:
        """Renew until the Lease is lost; returns then, with ``lost`` set."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), self._renew)
            self._doubted.clear()
            if not await self.renew():
                return

    def doubt(self) -> None:
        """Have ``keep`` look at once whether the Lease is ours still: somebody said that it is not."""
        self._doubted.set()

    async def renew(self) -> bool:
        """Renew once; ``False`` when the Lease is lost."""
        try:
            await self._renewed()
            kept = True
        except (Conflict, NotFound):
            kept = await self._still_ours()
        except KubernautError as error:
            kept = True
            log.warning("lease.renewal_failed", lease=self.name, error=str(error))
        if kept and self.held:
            return True
        self._claimed, self._held_until = False, float("-inf")
        self.lost.set()
        log.warning("lease.lost", lease=self.name, holder=self.identity)
        return False

    async def release(self) -> None:
        """Give the Lease up at once, so that the next owner need not wait. Best effort: it expires anyway."""
        try:
            await self._release()
        except KubernautError as error:
            log.info("lease.release_failed", lease=self.name, error=str(error))

    async def _release(self) -> None:
        if not self._claimed or (self._object is None and not await self._still_ours()):
            return
        self._claimed, self._held_until = False, float("-inf")
        for _ in range(3):
            try:
                await self._client.replace(LEASE, self._body(self._object or {}, holder=""), self._namespace)
                return
            except Conflict:  # a renewal that was cut off may still have arrived
                if not await self._still_ours():
                    return

    async def attempt(self) -> bool:
        """Take the Lease if it is free; ``False`` when it is not, or somebody else was faster."""
        began, before = self._monotonic(), self.token
        try:
            try:
                current = await self._client.get(LEASE, self.name, self._namespace)
            except NotFound:
                self.token, self._claimed = before + 1, True
                body = self._body({}, holder=self.identity)
                self._object = await self._client.create(LEASE, body, self._namespace)
            else:
                self.contended = not self._free(current)
                if self.contended:
                    return False
                self.token = int((current.get("spec") or {}).get("leaseTransitions") or 0) + 1
                self._claimed = True
                body = self._body(current, holder=self.identity)
                self._object = await self._client.replace(LEASE, body, self._namespace)
        except (Conflict, AlreadyExists):
            self.token, self._claimed = before, False
            return False
        self._held_until = began + self._duration
        self.lost.clear()
        return True

    def _free(self, current: Object) -> bool:
        """Whether it may be taken: given up, left by our own former life, or unmoved for its whole duration."""
        spec: dict[str, Any] = current.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if not holder:
            return True
        if self.token == 0 and holder.rpartition("#")[0] == self._stem:
            return (
                True  # only at the start of a life: a process that lost the Lease to its own twin must not win it back
            )
        version, now = current["metadata"]["resourceVersion"], self._monotonic()
        if self._seen[0] != version:
            self._seen = (version, now)
            return False
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or self._duration)

    async def _renewed(self) -> None:
        began = self._monotonic()
        body = self._body(self._object or {}, holder=self.identity)
        self._object = await self._client.replace(LEASE, body, self._namespace)
        self._held_until = began + self._duration

    async def _still_ours(self) -> bool:
        """After a conflict: somebody may have annotated the Lease only."""
        try:
            self._object = await self._client.get(LEASE, self.name, self._namespace)
        except NotFound:
            return False
        except Retryable:
            return self.held
        return str((self._object.get("spec") or {}).get("holderIdentity") or "") == self.identity

    def _body(self, current: Object, *, holder: str) -> Object:
        spec: dict[str, Any] = dict(current.get("spec") or {})
        now = clock.rfc3339(self._now())
        if spec.get("holderIdentity") != holder:
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": now,
            "leaseTransitions": self.token,
        }
        metadata = {**(current.get("metadata") or {}), "name": self.name, "namespace": self._namespace}
        if self._labels:
            metadata["labels"] = {**(metadata.get("labels") or {}), **self._labels}
        return {"metadata": metadata, "spec": spec}
