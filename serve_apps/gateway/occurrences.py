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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from kubernaut_ray.crds.base import Model
from kubernaut_ray.crds.remediation_request import Deduplication, Member, SignalResolution, Storm
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.tally import Recorded, Tally, opened_by, record
from serve_apps.gateway.verdict import Known

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
    fingerprint: str = field(default="", compare=False)

    @classmethod
    def of(cls, known: Known) -> Address:
        return cls(known.name, known.uid, known.fingerprint)


Flushed = Callable[[Address, Tally], Awaitable[None]]


class Occurrences:
    """``flushed`` is told of every tally once it is in the status; ``storm_of`` says what storm a signal name is part of;
    ``ticked`` is called at every flush.
    """

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        namespace: str,
        *,
        interval: float,
        flushed: Flushed,
        storm_of: Callable[[str], Storm | None] = lambda _: None,
        ticked: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._cluster, self._ledger, self._namespace = cluster, ledger, namespace
        self._interval, self._flushed, self._storm_of = interval, flushed, storm_of
        self._ticked = ticked
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

    def tally(self, address: Address) -> Tally:
        """Return what is pending of one request, to be added to; written later."""
        tally = self._pending.get(address)
        if tally is None:
            tally = self._pending[address] = Tally()
        return tally

    def add(self, address: Address, tally: Tally) -> None:
        """Count; written later."""
        self.tally(address).add(tally)

    async def write(self, address: Address, tally: Tally) -> Known | None:
        """Count, and write now; as ``flush_now``."""
        self.add(address, tally)
        return await self.flush_now(address)

    async def flush_now(self, address: Address) -> Known | None:
        """Write what is pending of one request; returns the request as it is then, ``None`` when it is gone.

        All who ask while a write is under way share the next one. Raises ``Retryable`` when it fails; what is pending
        is kept then and written later.
        """
        return await self._flush_one(address)

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
        if self._ticked is not None:
            await self._ticked()

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
            except Exception:
                log.exception("gateway.flush_crashed")

    async def _flush_one(self, address: Address) -> Known | None:
        known: Known | None = None
        async with self._locks.setdefault(address, asyncio.Lock()):
            try:
                known = await self._merge(address)
            except Permanent as error:
                self._pending.pop(address, None)
                self._unsure.pop(address, None)
                log.warning("gateway.occurrences_refused", remediation=address.name, error=str(error))
        if address not in self._pending and address not in self._unsure:
            # A waiter still holds on to it; a third writer with a lock of its own would only meet a Conflict.
            self._locks.pop(address, None)
        return known

    async def _merge(self, address: Address) -> Known | None:
        """Add what is pending to the object. When the object is gone, its count goes with it."""
        known = None
        if address not in self._unsure:
            known = self._ledger.remembered(address.fingerprint, address.uid)
        for _ in range(CONFLICT_ATTEMPTS):
            if known is None and (known := await self._find(address)) is None:
                return None
            old = _recorded(known.obj)
            await self._settle(address, old)
            if (tally := self._pending.pop(address, None)) is None:
                return known
            try:
                known = await self._write(address, known, old, tally)
            except Conflict:
                self._put_back(address, tally)
                known = None
                continue
            await self._flushed(address, tally)
            return known
        raise Retryable(f"RemediationRequest {address.name} changes faster than its occurrences can be written")

    async def _find(self, address: Address) -> Known | None:
        try:
            obj = await self._cluster.get(REMEDIATION_REQUEST, address.name, self._namespace)
        except NotFound:
            obj = {"metadata": {}}
        if obj["metadata"].get("uid") == address.uid:
            return self._ledger.note(obj)
        self._pending.pop(address, None)
        self._unsure.pop(address, None)
        return None

    async def _settle(self, address: Address, found: Recorded) -> None:
        """Find out about a write whose answer was lost: it arrived when the status says exactly what was meant."""
        tally, meant = self._unsure.pop(address, (None, None))
        if tally is None:
            return
        if found == meant:
            await self._flushed(address, tally)
        else:
            self._put_back(address, tally)

    async def _write(self, address: Address, known: Known, old: Recorded, tally: Tally) -> Known | None:
        for name in {name for name, _ in tally.symptoms}:
            tally.mark(self._storm_of(name))
        new = record(old, tally, opened_by(known.obj.get("spec") or {}), admits=known.open)
        change = patch.diff(_status(old), _status(new))
        if not change:
            return known
        body = {"metadata": {"resourceVersion": known.version}, "status": change}
        try:
            obj = await self._cluster.patch_status(REMEDIATION_REQUEST, address.name, body, self._namespace)
        except NotFound:
            return None
        except Conflict:
            raise
        except (Retryable, asyncio.CancelledError):
            self._unsure[address] = (tally, new)
            raise
        return self._ledger.note(obj)

    def _put_back(self, address: Address, tally: Tally) -> None:
        if (later := self._pending.get(address)) is not None:
            tally.add(later)
        self._pending[address] = tally


def _recorded(obj: Mapping[str, Any]) -> Recorded:
    status = obj.get("status") or {}
    listed = status.get("members")
    members = [_read(Member, m) for m in listed] if isinstance(listed, list) else []
    return Recorded(
        _read(Deduplication, status.get("deduplication")),
        _read(SignalResolution, status.get("resolved")),
        _read(Storm, status.get("storm")),
        tuple(m for m in members if m is not None),
    )


def _read(model: type[M], value: Any) -> M | None:
    """Read a part of the status; one that somebody edited into nonsense starts anew."""
    try:
        return model.model_validate(value) if value else None
    except ValidationError:
        return None


def _status(recorded: Recorded) -> dict[str, Any]:
    parts = {"deduplication": recorded.deduplication, "resolved": recorded.resolved, "storm": recorded.storm}
    status: dict[str, Any] = {name: part.to_object() for name, part in parts.items() if part is not None}
    if recorded.members:
        status["members"] = [member.to_object() for member in recorded.members]
    return status
