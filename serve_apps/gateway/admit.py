"""Is this signal a new incident? Asked of the Kubernetes API each time, answered from what it holds.

::

    list RemediationRequests of the fingerprint ── one not finished ──────────────────────── Open: duplicate
                                                ├─ the newest finished one asks for a person ┐
                                                ├─ or must not be repeated yet ──────────────┴ Held: duplicate
                                                └─ none, or only finished ones ── Absent: create rr(fingerprint, newest uid)
                                                                                        └─ AlreadyExists: look again

The name is the lock: replicas that see the same state create the same name, and the API server lets one of them win. A
finished request that asks for a person (manual review) holds its signal back for as long as it exists (retention removes
it after a day) or until somebody annotates it with ``kubernaut.ai/reviewed=true``.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.crds.enums import AdmissionReason, Outcome, RemediationPhase
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import AlreadyExists, Invalid, NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.tally import MAX_SYMPTOMS, SymptomKey, opened_by

MAX_ROUNDS = 5
_TERMINAL = frozenset(phase for phase in RemediationPhase if phase.terminal)


@dataclass(frozen=True, slots=True)
class Known:
    """A RemediationRequest as far as admission looks at it; tolerant, because people edit objects by hand."""

    name: str
    uid: str
    created: str
    fingerprint: str
    phase: str = ""
    """Anything that is no terminal phase counts as in progress."""
    asks_for_person: bool = False
    held_until: datetime | None = None
    deleting: bool = False
    firing: frozenset[SymptomKey] = frozenset()
    """Symptoms that are on record and not over; the one in the spec is on record from the start."""
    full: bool = False
    """No further symptom is put on record, and nobody calls the incident over."""

    @classmethod
    def of(cls, obj: Object) -> Known:
        meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
        wants_review = bool(status.get("requiresManualReview")) or (
            status.get("outcome") == Outcome.MANUAL_REVIEW_REQUIRED
        )
        reviewed = (meta.get("annotations") or {}).get(names.ANNOTATION_REVIEWED) == "true"
        return cls(
            name=meta["name"],
            uid=meta.get("uid", ""),
            created=meta.get("creationTimestamp", ""),
            fingerprint=spec.get("signalFingerprint", ""),
            phase=str(status.get("overallPhase") or ""),
            asks_for_person=wants_review and not reviewed,
            held_until=_instant(status.get("nextAllowedExecution")),
            deleting="deletionTimestamp" in meta,
            **_on_record(spec, status),
        )

    def knows(self, symptom: SymptomKey) -> bool:
        """Tell whether this firing symptom keeps the incident from being called over already, without another write."""
        return self.full or symptom in self.firing

    @property
    def finished(self) -> bool:
        return self.phase in _TERMINAL


@dataclass(frozen=True, slots=True)
class Open:
    """Work on it goes on: the signal is one more occurrence of it."""

    request: Known


@dataclass(frozen=True, slots=True)
class Held:
    """Finished, but the signal must not open another one now."""

    request: Known
    reason: AdmissionReason
    why: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing stands in the way; ``previous_uid`` is the newest finished one's, empty when there is none."""

    previous_uid: str = ""


Verdict = Open | Held | Absent


def judge(fingerprint: str, requests: Sequence[Known], now: datetime) -> Verdict:
    """Say what a firing signal of this fingerprint is, given every request of that fingerprint. Pure and total."""
    unfinished = [r for r in requests if not r.finished and not r.deleting]
    if unfinished:
        return Open(_newest(fingerprint, unfinished))
    if not requests:
        return Absent()
    newest = _newest(fingerprint, requests)
    if newest.finished and not newest.deleting:
        if newest.asks_for_person:
            why = (
                f"waits for a person's review; annotate it {names.ANNOTATION_REVIEWED}=true to let the signal in again"
            )
            return Held(newest, AdmissionReason.AWAITING_REVIEW, why)
        if newest.held_until is not None and newest.held_until > now:
            why = f"must not be repeated before {clock.rfc3339(newest.held_until)}"
            return Held(newest, AdmissionReason.HELD, why)
    return Absent(newest.uid)


def _newest(fingerprint: str, requests: Sequence[Known]) -> Known:
    """Return the end of the chain. Creation times have whole seconds, but each name tells its predecessor."""
    taken = {r.name for r in requests}
    return max(requests, key=lambda r: (r.created, names.remediation_request(fingerprint, r.uid) not in taken, r.name))


class SharedRead:
    """Lets concurrent askers of one key share a read that began after each of them asked, so it is fresh for all."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._next: dict[str, asyncio.Task[Any]] = {}

    async def get(self, key: str, read: Callable[[], Coroutine[Any, Any, tuple[Known, ...]]]) -> tuple[Known, ...]:
        running = self._running.get(key)
        if running is None:
            task = self._start(key, read())
        else:
            waiting = self._next.get(key)
            task = waiting if waiting is not None else self._queue(key, running, read)
        requests: tuple[Known, ...] = await asyncio.shield(task)
        return requests

    def _start(self, key: str, reading: Coroutine[Any, Any, tuple[Known, ...]]) -> asyncio.Task[Any]:
        # Many requests share it, so it must not carry the context of one.
        task = asyncio.get_running_loop().create_task(reading, context=contextvars.Context())
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))
        return task

    def _queue(
        self, key: str, running: asyncio.Task[Any], read: Callable[[], Coroutine[Any, Any, tuple[Known, ...]]]
    ) -> asyncio.Task[Any]:
        async def after() -> tuple[Known, ...]:
            await asyncio.wait({running})
            self._next.pop(key, None)
            self._running[key] = task
            return await read()

        task = asyncio.get_running_loop().create_task(after(), context=contextvars.Context())
        self._next[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))
        return task

    def _finished(self, key: str, task: asyncio.Task[Any]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if self._next.get(key) is task:
            del self._next[key]
        if not task.cancelled():
            task.exception()  # The askers raise it; none may be left.


class Admission:
    """Reads and creates RemediationRequests in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, now: clock.Clock) -> None:
        self._cluster, self._namespace, self._now = cluster, namespace, now
        self._reads = SharedRead()
        self._by_field = True

    async def verdict(self, fingerprint: str) -> Verdict:
        """Read the source of truth and judge."""
        requests = await self._reads.get(fingerprint, lambda: self._read(fingerprint))
        return judge(fingerprint, requests, self._now())

    async def create(
        self, fingerprint: str, absent: Absent, build: Callable[[str], dict[str, Any]]
    ) -> tuple[Known, bool] | Held:
        """Create the request, unless somebody else has: returns it and whether it is ours. ``build`` takes its name."""
        for _ in range(MAX_ROUNDS):
            name = names.remediation_request(fingerprint, absent.previous_uid)
            try:
                return Known.of(await self._cluster.create(REMEDIATION_REQUEST, build(name), self._namespace)), True
            except AlreadyExists:
                verdict = await self._verdict_on(fingerprint, name)
            match verdict:
                case Open(request):
                    return request, False
                case Held():
                    return verdict
                case Absent():
                    absent = verdict
        raise Retryable(f"RemediationRequests of {fingerprint[:12]} change faster than they can be read")

    async def _verdict_on(self, fingerprint: str, name: str) -> Verdict:
        """Judge again after the name turned out to be taken; the list alone may miss an object edited by hand."""
        try:
            taken = Known.of(await self._cluster.get(REMEDIATION_REQUEST, name, self._namespace))
        except NotFound:
            return await self.verdict(fingerprint)
        if taken.fingerprint != fingerprint:
            raise Permanent(
                f"the name {name} is taken by a RemediationRequest of another fingerprint; delete it",
                reason="NameTaken",
            )
        others = [r for r in await self._read(fingerprint) if r.uid != taken.uid]
        return judge(fingerprint, [*others, taken], self._now())

    async def _read(self, fingerprint: str) -> tuple[Known, ...]:
        if self._by_field:
            try:
                found = await self._cluster.list(
                    REMEDIATION_REQUEST, self._namespace, fields=f"spec.signalFingerprint={fingerprint}"
                )
                return tuple(Known.of(obj) for obj in found)
            except Invalid:
                self._by_field = False  # An API server before selectable fields (Kubernetes 1.30).
        label = f"{names.LABEL_FINGERPRINT}={fingerprint[:63]}"
        listed = await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=label)
        return tuple(known for known in map(Known.of, listed) if known.fingerprint == fingerprint)


def _on_record(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    deduplication = status.get("deduplication")
    found = deduplication.get("symptoms") if isinstance(deduplication, dict) else None
    listed = [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []
    over = {(str(s.get("signalName", "")), str(s.get("resource", ""))): bool(s.get("resolvedAt")) for s in listed}
    if (opener := opened_by(spec)) is not None:
        over.setdefault(opener, False)
    return {"firing": frozenset(key for key, ended in over.items() if not ended), "full": len(listed) >= MAX_SYMPTOMS}


def _instant(value: Any) -> datetime | None:
    try:
        return clock.parse_rfc3339(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
