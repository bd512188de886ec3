"""The ledger: which RemediationRequests there are of a fingerprint, asked of the Kubernetes API each time, for many at once.

Every look is a read that began after it was asked for, so it is as fresh as a read of its own; but all who ask while one
round of reading is under way share the next. A round first asks only for the *versions* of the objects (metadata, picked by
the fingerprint label) and reads those again of which it does not hold exactly these versions: what is remembered saves
bytes and never decides. That makes the price of a look one small request a round, whatever the number of signals.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from kubernaut_ray import names
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.verdict import Known

CAPACITY = 10_000
VERSIONS_AT_ONCE = 100
"""Fingerprints in one selector: a path of some 7 KiB, which every proxy takes."""
OBJECTS_AT_ONCE = 25
GATHER_SECONDS = 0.001
"""Under load a round waits so long for more askers: a request costs as much CPU for one of them as for all."""
_LABEL_LENGTH = 63

Requests = tuple[Known, ...]


@dataclass(slots=True)
class _Round:
    wanted: set[str] = field(default_factory=set)
    found: dict[str, Requests] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    askers: int = 0


class Ledger:
    """Reads the RemediationRequests of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._held: OrderedDict[str, Requests] = OrderedDict()
        self._current: asyncio.Task[None] | None = None
        self._next: _Round | None = None
        self._crowd = 0
        """How many asked for the last round."""

    async def look(self, fingerprints: Collection[str]) -> Mapping[str, Requests]:
        """Return every request of these fingerprints, as the API server has them after this was called.

        Raises what ``Cluster.list`` raises.
        """
        mine = self._next
        if mine is None:
            mine = self._next = _Round()
            # Many requests share a round, so it must not carry the context of one.
            run = self._run(mine, self._current)
            mine.task = asyncio.get_running_loop().create_task(run, context=contextvars.Context())
            mine.task.add_done_callback(_unheard)
        mine.wanted.update(fingerprints)
        mine.askers += 1
        assert mine.task is not None  # noqa: S101
        await asyncio.shield(mine.task)
        return mine.found

    def note(self, obj: Object) -> Known:
        """Remember an object that a write of ours was answered with."""
        known = Known.of(obj)
        held = self._held.get(known.fingerprint)
        if held is not None:
            self._held[known.fingerprint] = tuple(known if k.uid == known.uid else k for k in held)
        return known

    def remembered(self, fingerprint: str, uid: str) -> Known | None:
        """Return an object as it was last read, if it was; only good for a write that is conditional on its version."""
        return next((k for k in self._held.get(fingerprint, ()) if k.uid == uid), None)

    async def _run(self, round_: _Round, previous: asyncio.Task[None] | None) -> None:
        if previous is not None and not previous.done():
            await asyncio.wait({previous})
        if self._crowd > 1:
            await asyncio.sleep(GATHER_SECONDS)
        self._crowd = round_.askers
        self._current, self._next = round_.task, None
        await self._read(round_)

    async def _read(self, round_: _Round) -> None:
        held = [f for f in round_.wanted if f in self._held]
        unsure = set(round_.wanted).difference(held)
        for versions in await asyncio.gather(*(self._versions(part) for part in _parts(held, VERSIONS_AT_ONCE))):
            for fingerprint, current in versions.items():
                known = self._held.get(fingerprint, ())
                if len(known) == len(current) and all(current.get(k.uid) == k.version for k in known):
                    round_.found[fingerprint] = known
                    self._held.move_to_end(fingerprint)
                else:
                    unsure.add(fingerprint)
        for found in await asyncio.gather(*(self._objects(part) for part in _parts(unsure, OBJECTS_AT_ONCE))):
            for fingerprint, requests in found.items():
                round_.found[fingerprint] = self._held[fingerprint] = requests
                self._held.move_to_end(fingerprint)
        while len(self._held) > CAPACITY:
            self._held.popitem(last=False)

    async def _versions(self, fingerprints: Sequence[str]) -> dict[str, dict[str, str]]:
        by_label = {f[:_LABEL_LENGTH]: f for f in fingerprints}
        found: dict[str, dict[str, str]] = {f: {} for f in fingerprints}
        for version in await self._cluster.versions(REMEDIATION_REQUEST, self._namespace, labels=_selector(by_label)):
            fingerprint = by_label.get(version.labels.get(names.LABEL_FINGERPRINT, ""))
            if fingerprint is not None:
                found[fingerprint][version.uid] = version.resource_version
        return found

    async def _objects(self, fingerprints: Sequence[str]) -> dict[str, Requests]:
        labels = _selector(f[:_LABEL_LENGTH] for f in fingerprints)
        found: dict[str, list[Known]] = {f: [] for f in fingerprints}
        for obj in await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=labels):
            known = Known.of(obj)
            if known.fingerprint in found:
                found[known.fingerprint].append(known)
        return {f: tuple(requests) for f, requests in found.items()}


def _unheard(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # The askers raise it; none may be left.


def _selector(values: Collection[str] | Iterator[str]) -> str:
    return f"{names.LABEL_FINGERPRINT} in ({','.join(sorted(values))})"


def _parts(values: Collection[str], size: int) -> Iterator[list[str]]:
    rest = iter(sorted(values))
    while part := list(islice(rest, size)):
        yield part
