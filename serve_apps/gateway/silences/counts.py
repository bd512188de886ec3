"""What a silence kept quiet: counted in memory, written to its status with the matchers' text that ``kubectl get`` shows.

Conditional on the resourceVersion, so that the counts of several replicas add up; a write whose answer was lost is looked up
before it is repeated. A crash takes the count since the last flush.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from kubernaut_ray.crds.silence import SilenceStatus
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Conflict, NotFound
from kubernaut_ray.kube.resources import SILENCE

CONFLICT_ATTEMPTS = 8

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """One silence: a successor under the same name is another."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be written: the text if it is known, and how many signals were silenced from when to when."""

    summary: str = ""
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def __add__(self, other: Due) -> Due:
        return Due(
            other.summary or self.summary,
            self.count + other.count,
            _extreme(min, self.first, other.first),
            _extreme(max, self.last, other.last),
        )

    def added_to(self, status: SilenceStatus) -> SilenceStatus:
        return SilenceStatus(
            summary=self.summary or status.summary,
            silenced_count=status.silenced_count + self.count,
            first_silenced_at=_extreme(min, status.first_silenced_at, self.first),
            last_silenced_at=_extreme(max, status.last_silenced_at, self.last),
        )


class Counts:
    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self._due: dict[Address, Due] = {}
        self._unsure: dict[Address, tuple[Due, SilenceStatus]] = {}
        """Written without an answer: what, and what the status says if the write arrived."""

    @property
    def pending(self) -> int:
        return len(self._due.keys() | self._unsure.keys())

    def add(self, address: Address, due: Due) -> None:
        self._due[address] = self._due[address] + due if address in self._due else due

    async def flush(self) -> None:
        """Write all that is due; what fails stays so. Not to be called twice at a time."""
        for address in self._due.keys() | self._unsure.keys():
            try:
                await self._flush(address)
            except Retryable as error:
                log.warning("gateway.silence_count_failed", silence=address.name, error=str(error))
                if not isinstance(error, Conflict):
                    return  # The API server is away, for the others as well.
            except Permanent as error:
                self._due.pop(address, None)
                self._unsure.pop(address, None)
                log.warning("gateway.silence_count_refused", silence=address.name, error=str(error))

    async def _flush(self, address: Address) -> None:
        for _ in range(CONFLICT_ATTEMPTS):
            try:
                obj = await self._client.get(SILENCE, address.name, self._namespace)
            except NotFound:
                obj = {"metadata": {}}
            if obj["metadata"].get("uid") != address.uid:
                self._due.pop(address, None)
                self._unsure.pop(address, None)
                return
            old = _status(obj)
            written, meant = self._unsure.pop(address, (None, None))
            if written is not None and old != meant:
                self.add(address, written)
            if (due := self._due.pop(address, None)) is None:
                return
            try:
                await self._write(address, obj["metadata"]["resourceVersion"], old, due)
            except Conflict:
                self.add(address, due)
                continue
            return
        raise Conflict(f"Silence {address.name} changes faster than its count can be written")

    async def _write(self, address: Address, version: str, old: SilenceStatus, due: Due) -> None:
        new = due.added_to(old)
        change: dict[str, Any] = patch.diff(old.to_object(), new.to_object())
        if not change:
            return
        body = {"metadata": {"resourceVersion": version}, "status": change}
        try:
            await self._client.patch(SILENCE, address.name, body, self._namespace, subresource="status")
        except NotFound:
            return
        except Conflict:
            raise
        except (Retryable, asyncio.CancelledError):
            self._unsure[address] = (due, new)
            raise


def _status(obj: Object) -> SilenceStatus:
    """Read the status; one that somebody edited into nonsense starts anew."""
    try:
        return SilenceStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return SilenceStatus()


def _extreme(which: Any, one: datetime | None, two: datetime | None) -> datetime | None:
    known = [instant for instant in (one, two) if instant is not None]
    return which(known) if known else None
