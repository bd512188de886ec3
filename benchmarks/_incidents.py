"""Incidents for ``reconcile.py``: the objects of one, and the hands that play everybody but the controller under test.

A live incident is a RemediationRequest in ``Processing`` whose SignalProcessing nobody works on. An active one is opened and
then carried to its end: as soon as the controller has made a child, ``Stage`` says in the child's status that it is done, as
that child's own controller would, and notes on a watch when the parent's status follows.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from kubernaut_ray import clock, names
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.resources import Resource
from tests import build

NAMESPACE = names.SYSTEM_NAMESPACE
PHASES = ("Pending", "Processing", "Analyzing", "Executing", "Completed")
SETTLED = "NotificationDelivered"
TRANSITIONS = len(PHASES) + 1
"""Writes of the parent's status in one remediation: its phases, and the condition that its message is out."""
SEEDERS = 24

_REQUEST = build.remediation_request("rr-0")
_BODIES: dict[Resource, bytes] = {
    resources.REMEDIATION_REQUEST: orjson.dumps(_REQUEST.to_object()),
    resources.SIGNAL_PROCESSING: orjson.dumps(build.signal_processing(_REQUEST, None).to_object()),
    resources.AI_ANALYSIS: orjson.dumps(build.ai_analysis(_REQUEST, None).to_object()),
    resources.WORKFLOW_EXECUTION: orjson.dumps(build.workflow_execution(_REQUEST, None).to_object()),
    resources.NOTIFICATION_REQUEST: orjson.dumps(build.notification_request(owner=_REQUEST).to_object()),
}
_PROCESSED = build.signal_processing(_REQUEST).status.to_object()
_ANALYSED = build.ai_analysis(_REQUEST).status.to_object()
_DONE: dict[Resource, Callable[[], Object]] = {
    resources.SIGNAL_PROCESSING: lambda: _PROCESSED,
    resources.AI_ANALYSIS: lambda: _ANALYSED,
    resources.WORKFLOW_EXECUTION: lambda: {"phase": "Completed", "completionTime": clock.rfc3339(clock.utcnow())},
    resources.NOTIFICATION_REQUEST: lambda: {"phase": "Sent"},
}
_FOLLOWS = {
    "Analyzing": resources.SIGNAL_PROCESSING,
    "Executing": resources.AI_ANALYSIS,
    "Completed": resources.WORKFLOW_EXECUTION,
    SETTLED: resources.NOTIFICATION_REQUEST,
}
"""What the parent does next, and the child whose end makes it."""


def request(name: str) -> Object:
    """Return a new RemediationRequest, about a target and a signal that no other is about."""
    body: Object = orjson.loads(_BODIES[resources.REMEDIATION_REQUEST])
    labels = {**names.shard_label(name), names.LABEL_REMEDIATION: name}
    body["metadata"] = {"name": name, "namespace": NAMESPACE, "labels": labels}
    body["spec"]["signalFingerprint"] = hashlib.sha256(name.encode()).hexdigest()
    body["spec"]["targetResource"]["name"] = f"web-{name}"
    body.pop("status", None)
    return body


def child(resource: Resource, name: str, parent: Object) -> Object:
    """Return a child of the parent, as plain as its CRD allows."""
    metadata = parent["metadata"]
    body: Object = orjson.loads(_BODIES[resource])
    owner = {"apiVersion": names.API_VERSION, "kind": "RemediationRequest", "name": metadata["name"]}
    body["metadata"] = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {**names.shard_label(metadata["name"]), names.LABEL_REMEDIATION: metadata["name"]},
        "ownerReferences": [{**owner, "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}],
    }
    spec = body["spec"]
    spec["remediationRequestRef"] = {**owner, "namespace": NAMESPACE, "uid": metadata["uid"]}
    if resource == resources.WORKFLOW_EXECUTION:
        target = TargetResource.model_validate(parent["spec"]["targetResource"])
        spec["targetResource"] = str(target)
    body.pop("status", None)
    return body


async def seed(client: KubeClient, count: int) -> None:
    """Create so many live incidents, which wait for their SignalProcessing."""
    numbers = iter(range(count))

    async def create() -> None:
        for number in numbers:
            name = f"live-{number:05}"
            made = await client.create(resources.REMEDIATION_REQUEST, request(name))
            signal = child(resources.SIGNAL_PROCESSING, names.signal_processing(name), made)
            await client.create(resources.SIGNAL_PROCESSING, signal)
            now = clock.rfc3339(clock.utcnow())
            status = {"overallPhase": "Processing", "startTime": now, "processingStartTime": now}
            await client.patch(resources.REMEDIATION_REQUEST, name, {"status": status}, NAMESPACE, subresource="status")

    await asyncio.gather(*(create() for _ in range(SEEDERS)))


@dataclass(slots=True)
class Incident:
    """One active incident, as its watcher saw it. Times are seconds of the monotonic clock."""

    name: str
    opened: float
    steps: list[str] = field(default_factory=list)
    told: dict[Resource, float] = field(default_factory=dict)
    """When the status of each child was sent."""
    reactions: list[float] = field(default_factory=list)
    """Seconds from there to the parent's next step."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Stage:
    """Opens incidents and plays the children's controllers. Use as an async context manager; it watches meanwhile."""

    def __init__(self, client: KubeClient, *, think: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> None:
        self._client, self._think = client, think
        self._dice = random.Random(seed)
        self._active: dict[str, Incident] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for resource in (resources.REMEDIATION_REQUEST, *_DONE):
            version = (await self._client.list(resource, NAMESPACE, limit=1)).resource_version
            self._begin(self._watch(resource, version))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def closed_loop(self, stem: str, count: int, at_once: int, patience: float) -> list[Incident]:
        """Carry so many incidents to their end, never more than ``at_once`` at a time."""
        numbers = iter(range(count))
        carried: list[Incident] = []

        async def carry() -> None:
            for number in numbers:
                incident = await self._open(f"{stem}-{number:05}")
                await incident.ended.wait()
                carried.append(incident)

        await self._within(patience, [carry() for _ in range(min(at_once, count))])
        return carried

    async def open_loop(self, stem: str, count: int, per_second: float, patience: float) -> list[Incident]:
        """Open so many incidents at a steady rate, whatever becomes of them; return when all have ended."""
        start, opened = time.monotonic(), list[Incident]()

        async def one(number: int) -> None:
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            incident = await self._open(f"{stem}-{number:05}")
            opened.append(incident)
            await incident.ended.wait()

        await self._within(patience, [one(number) for number in range(count)])
        return opened

    async def _within(self, patience: float, work: Sequence[Any]) -> None:
        try:
            await asyncio.wait_for(asyncio.gather(*work), patience)
        except TimeoutError:
            stuck = [i for i in self._active.values() if not i.ended.is_set()]
            told = "; ".join(f"{i.name} after {', '.join(i.steps) or 'nothing'}" for i in stuck[:5])
            raise RuntimeError(f"{len(stuck)} incidents did not end within {patience:.0f} s: {told}") from None

    async def _open(self, name: str) -> Incident:
        incident = self._active[name] = Incident(name, time.monotonic())
        await self._client.create(resources.REMEDIATION_REQUEST, request(name))
        return incident

    async def _watch(self, resource: Resource, version: str) -> None:
        seen = self._parent if resource == resources.REMEDIATION_REQUEST else None
        events = self._client.watch(resource, NAMESPACE, resource_version=version, timeout_seconds=3600)
        async with aclosing(events):
            async for event in events:
                if event.type == "BOOKMARK":
                    continue
                if seen is not None:
                    seen(event.object)
                elif event.type == "ADDED":
                    self._child(resource, event.object)

    def _parent(self, obj: Object) -> None:
        incident = self._active.get(obj["metadata"]["name"])
        if incident is None:
            return
        now, status = time.monotonic(), obj.get("status") or {}
        steps = [status["overallPhase"]] if status.get("overallPhase") else []
        steps += [c["type"] for c in status.get("conditions") or () if c["type"] == SETTLED]
        for step in steps:
            if step in incident.steps:
                continue
            incident.steps.append(step)
            cause = _FOLLOWS.get(step)
            if cause is not None and cause in incident.told:
                incident.reactions.append(now - incident.told[cause])
            if step == SETTLED:
                incident.ended.set()

    def _child(self, resource: Resource, obj: Object) -> None:
        incident = self._active.get((obj["metadata"].get("labels") or {}).get(names.LABEL_REMEDIATION, ""))
        if incident is not None and resource not in incident.told:
            incident.told[resource] = float("inf")
            self._begin(self._finish(incident, resource, obj["metadata"]["name"]))

    async def _finish(self, incident: Incident, resource: Resource, name: str) -> None:
        await asyncio.sleep(self._dice.uniform(*self._think))
        incident.told[resource] = time.monotonic()
        body = {"status": _DONE[resource]()}
        await self._client.patch(resource, name, body, NAMESPACE, subresource="status")

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def reactions(incidents: Iterable[Incident]) -> list[float]:
    """Return all reaction times, in milliseconds."""
    return [seconds * 1000 for incident in incidents for seconds in incident.reactions]
