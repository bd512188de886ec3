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
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from kubernaut_ray.crds.base import Model
from kubernaut_ray.crds.remediation_request import Deduplication, Member, SignalResolution, Storm
from kubernaut_ray.errors import KubernautError, Permanent, Retryable
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.tally import Recorded, Tally, opened_by, record, recount, unlisted
from serve_apps.gateway.turns import Turn, Turns
from serve_apps.gateway.verdict import Known

CONFLICT_ATTEMPTS = 12
WRITERS = 8
MARK_SECONDS = 5.0
MAX_MARKED = 10_000
DRAIN_ATTEMPTS = 5
STOP_SECONDS = 5.0

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
        self._marked: dict[Address, float] = {}
        """When the storm on a request is to be described anew."""
        self._unsure: dict[Address, tuple[Tally, Recorded]] = {}
        """Written without an answer: the tally, and what the status says if the write arrived."""
        self._turns = Turns[Address, Known]()
        self._telling: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

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
            # A write that is cut off is in doubt, and doubtful when others write the same object; so it may end.
            self._ending.set()
            _, late = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for attempt in range(DRAIN_ATTEMPTS):
            await self.flush()
            if not self.pending:
                break
            await asyncio.sleep(0.1 * 2**attempt)
        await asyncio.gather(*self._telling)
        if not self.pending:
            return
        log.error("gateway.occurrences_lost", requests=self.pending)

    def tally(self, address: Address) -> Tally:
        """Return what is pending of one request, to be added to; written later."""
        tally = self._pending.get(address)
        if tally is None:
            tally = self._pending[address] = Tally()
        return tally

    async def flush_now(self, address: Address) -> Known | None:
        """Write what is pending of one request; returns the request as it is then, ``None`` when it is gone.

        All who ask while a write is under way share the next one. Raises ``Retryable`` when it fails; what is pending
        is kept then and written later. Raises ``Permanent`` when it is refused; what is pending is dropped then.
        """
        async with self._turns.turn(address) as turn:
            try:
                return await self._merge(address, turn)
            except Permanent as error:
                self._pending.pop(address, None)
                self._unsure.pop(address, None)
                log.warning("gateway.occurrences_refused", remediation=address.name, error=str(error))
                raise

    async def flush(self) -> None:
        """Write all that is pending now; what fails stays pending."""
        gate = asyncio.Semaphore(WRITERS)

        async def one(address: Address) -> None:
            async with gate:
                try:
                    await self.flush_now(address)
                except KubernautError as error:
                    log.warning("gateway.flush_failed", remediation=address.name, error=str(error))

        addresses = self._pending.keys() | self._unsure.keys()
        ends = await asyncio.gather(*(one(address) for address in addresses), return_exceptions=True)
        if self._ticked is not None:
            await self._ticked()
        for end in ends:
            if end is not None:
                raise end  # A defect, which must not keep the others from being written.

    async def _flush_forever(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._ending.wait()
            try:
                await self.flush()
            except Exception:
                log.exception("gateway.flush_crashed")

    async def _merge(self, address: Address, turn: Turn[Known]) -> Known | None:
        """Add what is pending to the object. When the object is gone, its count goes with it."""
        known, read = None, False
        if address not in self._unsure:
            known = turn.left or self._ledger.remembered(address.fingerprint, address.uid)
        for attempt in range(CONFLICT_ATTEMPTS):
            if known is None:
                if attempt > 1:
                    # Others write it too; whoever waits has more to write at once the next time.
                    await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 5)))  # noqa: S311
                known, read = await self._find(address), True
                if known is None:
                    return None
            if address in self._unsure:
                await self._settle(address, _recorded(known.obj))
            if (tally := self._pending.pop(address, None)) is None:
                if read or known is turn.left:
                    return known  # Whoever was before us wrote what we came for.
                known = None
                continue
            try:
                known = await self._write(address, known, tally, read=read)
            except Conflict:
                self._put_back(address, tally)
                known = None
                continue
            if known is not None:
                turn.left = known
                await self._tell(address, tally)
            return known
        raise Retryable(f"RemediationRequest {address.name} changes faster than its occurrences can be written")

    async def _tell(self, address: Address, tally: Tally) -> None:
        """Tell of what is written, also when whoever waits for it gives up now."""
        telling = asyncio.ensure_future(self._flushed(address, tally))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        await asyncio.shield(telling)

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
            await self._tell(address, tally)
        else:
            self._put_back(address, tally)

    async def _write(self, address: Address, known: Known, tally: Tally, *, read: bool) -> Known | None:
        self._mark(address, known, tally)
        change = recount(known.obj.get("status") or {}, tally)
        if change is None:
            change = self._change(known, tally)
        if not change:
            if not read:
                raise Conflict("what is remembered may lack what this is about")
            return known
        body = {"metadata": {"resourceVersion": known.version}, "status": change}
        try:
            obj = await self._cluster.patch_status(REMEDIATION_REQUEST, address.name, body, self._namespace)
        except NotFound:
            return None
        except Conflict:
            raise
        except (Retryable, asyncio.CancelledError):
            self._unsure[address] = (tally, _recorded({"status": patch.apply(change, known.obj.get("status") or {})}))
            raise
        return self._ledger.note(obj)

    def _mark(self, address: Address, known: Known, tally: Tally) -> None:
        """Say what storm its signals are part of: at once when it is the first, then every few seconds while it grows."""
        now = asyncio.get_running_loop().time()
        if known.storm and now < self._marked.get(address, 0.0):
            return
        for name in {name for name, _ in tally.symptoms}:
            tally.mark(self._storm_of(name))
        if tally.storm is not None:
            if len(self._marked) >= MAX_MARKED:
                self._marked.clear()
            self._marked[address] = now + MARK_SECONDS

    def _change(self, known: Known, tally: Tally) -> dict[str, Any]:
        """Return what of the status is another once the tally is added."""
        old, opener = _recorded(known.obj), opened_by(known.obj.get("spec") or {})
        new = record(old, tally, opener, admits=known.open)
        if refused := unlisted(new, tally):
            tally.drop(refused)  # They become somebody else's, and are counted there.
            new = record(old, tally, opener, admits=known.open)
        return patch.diff(_status(old), _status(new))

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
