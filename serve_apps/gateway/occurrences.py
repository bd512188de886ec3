"""Occurrences: counted in memory, written to ``status.deduplication`` within the flush interval and on drain.

A duplicate costs no write of its own; each RemediationRequest is written once an interval, conditionally on its
resourceVersion, so that the counts of several replicas add up. What a crash takes is the count since the last flush, never
a RemediationRequest and never a symptom, which ``flush_now`` writes before it is acknowledged. One long-lived task does the
rest of the writing; requests only add to the tallies.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from kubernaut_ray.crds.base import Model
from kubernaut_ray.crds.remediation_request import Deduplication, SignalResolution, Storm
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.tally import Recorded, SymptomKey, Tally, opened_by, record

CONFLICT_ATTEMPTS = 8
WRITERS = 8
DRAIN_ATTEMPTS = 5

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Address:
    """One RemediationRequest: a successor under the same name is another."""

    name: str
    uid: str


Flushed = Callable[[Address, Tally], Awaitable[None]]


class Occurrences:
    """``flushed`` is told of every tally once it is in the status."""

    def __init__(self, cluster: Cluster, namespace: str, *, interval: float, flushed: Flushed) -> None:
        self._cluster, self._namespace, self._interval, self._flushed = cluster, namespace, interval, flushed
        self._pending: dict[Address, Tally] = {}
        self._unsure: dict[Address, tuple[Tally, Recorded]] = {}
        """Written without an answer: the tally, and what the status says if the write arrived."""
        self._locks: dict[Address, asyncio.Lock] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def pending(self) -> int:
        """How many RemediationRequests have occurrences that are not written yet."""
        return len(self._pending.keys() | self._unsure.keys())

    def start(self) -> None:
        # An empty context: a task that inherits a request's context keeps that request alive.
        self._task = asyncio.get_running_loop().create_task(self._flush_forever(), context=contextvars.Context())

    async def stop(self) -> None:
        """Stop the task and write what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for attempt in range(DRAIN_ATTEMPTS):
            await self.flush()
            if not self.pending:
                return
            await asyncio.sleep(0.1 * 2**attempt)
        log.error("gateway.occurrences_lost", requests=self.pending)

    def add(self, address: Address, tally: Tally) -> None:
        """Count; written later."""
        before = self._pending.get(address)
        self._pending[address] = tally if before is None else before + tally

    async def write(self, address: Address, tally: Tally) -> None:
        """Count, and write now. Raises ``Retryable`` when that fails; the tally is kept then and written later."""
        self.add(address, tally)
        await self.flush_now(address)

    async def flush_now(self, address: Address) -> None:
        """Write what is pending of one request. Raises ``Retryable`` when that fails; it is kept then and written later."""
        await self._flush_one(address)

    async def flush(self) -> None:
        """Write all that is pending now; what fails stays pending."""
        gate = asyncio.Semaphore(WRITERS)

        async def one(address: Address) -> None:
            async with gate:
                try:
                    await self._flush_one(address)
                except Retryable as error:
                    log.warning("gateway.flush_failed", remediation=address.name, error=str(error))

        await asyncio.gather(*(one(address) for address in self._pending.keys() | self._unsure.keys()))

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
            except Exception:
                log.exception("gateway.flush_crashed")

    async def _flush_one(self, address: Address) -> None:
        async with self._locks.setdefault(address, asyncio.Lock()):
            try:
                await self._merge(address)
            except Permanent as error:
                self._pending.pop(address, None)
                self._unsure.pop(address, None)
                log.warning("gateway.occurrences_refused", remediation=address.name, error=str(error))
        if address not in self._pending and address not in self._unsure:
            # A waiter still holds on to it; a third writer with a lock of its own would only meet a Conflict.
            self._locks.pop(address, None)

    async def _merge(self, address: Address) -> None:
        """Add what is pending to the object. When the object is gone, its count goes with it."""
        for _ in range(CONFLICT_ATTEMPTS):
            if address not in self._pending and address not in self._unsure:
                return
            try:
                obj = await self._cluster.get(REMEDIATION_REQUEST, address.name, self._namespace)
            except NotFound:
                obj = {"metadata": {}}
            if obj["metadata"].get("uid") != address.uid:
                self._pending.pop(address, None)
                self._unsure.pop(address, None)
                return
            old = _recorded(obj)
            await self._settle(address, old)
            if (tally := self._pending.pop(address, None)) is None:
                return
            try:
                opener = opened_by(obj.get("spec") or {})
                await self._write(address, obj["metadata"]["resourceVersion"], old, tally, opener)
            except Conflict:
                self._put_back(address, tally)
                continue
            await self._flushed(address, tally)
            return
        raise Retryable(f"RemediationRequest {address.name} changes faster than its occurrences can be written")

    async def _settle(self, address: Address, found: Recorded) -> None:
        """Find out about a write whose answer was lost: it arrived when the status says exactly what was meant."""
        tally, meant = self._unsure.pop(address, (None, None))
        if tally is None:
            return
        if found == meant:
            await self._flushed(address, tally)
        else:
            self._put_back(address, tally)

    async def _write(
        self, address: Address, version: str, old: Recorded, tally: Tally, opener: SymptomKey | None
    ) -> None:
        new = record(old, tally, opener)
        change = patch.diff(_status(old), _status(new))
        if not change:
            return
        body = {"metadata": {"resourceVersion": version}, "status": change}
        try:
            await self._cluster.patch_status(REMEDIATION_REQUEST, address.name, body, self._namespace)
        except NotFound:
            return
        except Conflict:
            raise
        except (Retryable, asyncio.CancelledError):
            self._unsure[address] = (tally, new)
            raise

    def _put_back(self, address: Address, tally: Tally) -> None:
        later = self._pending.get(address)
        self._pending[address] = tally if later is None else tally + later


def _recorded(obj: Object) -> Recorded:
    status = obj.get("status") or {}
    return Recorded(
        _read(Deduplication, status.get("deduplication")),
        _read(SignalResolution, status.get("resolved")),
        _read(Storm, status.get("storm")),
    )


def _read(model: type[M], value: Any) -> M | None:
    """Read a part of the status; one that somebody edited into nonsense starts anew."""
    try:
        return model.model_validate(value) if value else None
    except ValidationError:
        return None


def _status(recorded: Recorded) -> dict[str, Any]:
    parts = {"deduplication": recorded.deduplication, "resolved": recorded.resolved, "storm": recorded.storm}
    return {name: part.to_object() for name, part in parts.items() if part is not None}
