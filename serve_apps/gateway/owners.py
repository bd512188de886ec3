"""From what a signal names to what it is about: the first candidate that exists, and from there to the top of its owners.

``Owners.resolve`` asks the topology, and the API server, with a time limit, for what that does not know; a live answer is
kept for half a minute, and what is gone is remembered for an hour, because the pod of an alert is often gone when the alert
arrives. If a lost node is behind it, the node is the target. A guess is never silent: ``Resolution.note`` says what was
assumed. When the API cannot answer in time, ``Unavailable`` is raised, because a fingerprint that depends on the weather
would open a second incident.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Forbidden, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import facts
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.facts import Facts, PodFacts
from serve_apps.gateway.kinds import POD, WORKLOAD, Kinds
from serve_apps.gateway.placement import Placement
from serve_apps.gateway.target import Candidate
from serve_apps.gateway.topology import Topology

MAX_DEPTH = 5
FRESH_SECONDS = 30.0
REMEMBER_SECONDS = 3600.0
CAPACITY = 20_000

_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
"""The alphabet of generated name endings (apimachinery ``rand.SafeEncodeString``)."""
_GENERATED = (
    (re.compile(rf"(.+)-{_SAFE}{{6,10}}-{_SAFE}{{5}}"), resources.DEPLOYMENT),
    (re.compile(r"(.+)-[0-9]+"), resources.STATEFUL_SET),
    (re.compile(rf"(.+)-{_SAFE}{{5}}"), resources.DAEMON_SET),
    (re.compile(rf"(.+)-{_SAFE}{{5}}"), resources.JOB),
)
UNKNOWN = TargetResource(kind="Unknown", name="unknown")


@dataclass(frozen=True, slots=True)
class Resolution:
    """``target`` is the top owner; ``signal_resource`` what the signal named, when that is another thing.

    ``identified`` is false when the signal names no resource: then ``target`` is only where to look.
    ``note`` is not empty when something was assumed.
    ``workload`` is set when a lost node is the target: the top owner that would have been the target otherwise.
    """

    target: TargetResource
    signal_resource: TargetResource | None = None
    identified: bool = True
    note: str = ""
    workload: TargetResource | None = None


@dataclass(frozen=True, slots=True)
class _Link:
    """An object in a chain of owners; ``gone`` when it is only remembered."""

    facts: Facts
    gone: bool = False


@dataclass(frozen=True, slots=True)
class _Top:
    """The end of a chain. ``named`` is its beginning and ``last`` what is known of its end, if that could be read."""

    target: TargetResource
    note: str
    resource: Resource
    named: _Link | None = None
    last: Facts | None = None


class Owners:
    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout: float,
        topology: Topology | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._timeout, self._monotonic = cluster, timeout, monotonic
        self._topology = topology
        self._placement: Placement | None = None
        if topology is not None and topology.window is not None:
            self._placement = Placement(cluster, topology, topology.window, monotonic=monotonic)
        self._read: OrderedDict[tuple[str, str, str, str], tuple[Facts, float]] = OrderedDict()

    async def resolve(
        self, candidates: Sequence[Candidate], namespace: str, kinds: Kinds, firing_time: datetime | None = None
    ) -> Resolution:
        """Return what the signal is about. Raises ``Unavailable`` when the API server does not say in time.

        ``firing_time`` is when the signal began to fire: one that is older than a node's loss is not due to it.
        """
        if not candidates:
            return _nameless(namespace)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._resolve(candidates, namespace, kinds, firing_time)
        except TimeoutError:
            raise Unavailable(f"the owners of {candidates[0]} could not be read in {self._timeout:g}s") from None

    async def _resolve(
        self, candidates: Sequence[Candidate], namespace: str, kinds: Kinds, firing_time: datetime | None
    ) -> Resolution:
        gone: Candidate | None = None
        for candidate in candidates:
            if gone is not None and gone.tier == POD and candidate.tier > WORKLOAD:
                break  # The service or the node of a deleted pod is not what the signal is about.
            if gone is not None and not (candidate.certain and candidate.resource.namespaced):
                break
            top = await self._top(candidate, kinds)
            if top is None:
                gone = gone or (candidate if candidate.certain else None)
                continue
            note = top.note
            if gone is not None:
                note = f"{gone} is not in the cluster; the label {candidate.label} names {candidate}. {note}".strip()
            return await self._judged(candidate, candidate, replace(top, note=note), firing_time)
        if gone is None:
            return _nameless(namespace)
        if gone.resource is resources.POD and (derived := await self._derive(gone, kinds)) is not None:
            workload, top = derived
            return await self._judged(gone, workload, top, firing_time)
        named = _target(gone.resource, gone.name, gone.namespace)
        return Resolution(named, note=f"{gone} is not in the cluster; taken as the signal names it")

    async def _judged(self, named: Candidate, found: Candidate, top: _Top, firing_time: datetime | None) -> Resolution:
        """Return the resolution of what was found for what was named: a lost node that is behind it, or its top owner."""
        itself = _target(named.resource, named.name, named.namespace)
        plain = Resolution(top.target, None if itself == top.target else itself, note=top.note)
        if self._placement is None or top.named is None or not found.resource.namespaced:
            return plain
        known = top.named.facts
        if isinstance(known, PodFacts) and known.node:
            loss = await self._placement.of_pod(known, firing_time)
            subject = "it runs"
        else:
            # A pod that was not placed yet has no node to blame; the rest of its workload may.
            resource, name, uid = found.resource, found.name, known.uid
            if isinstance(known, PodFacts) and top.last is not None:
                resource, name, uid = top.resource, top.target.name, top.last.uid
            loss = await self._placement.of_workload(resource, name, found.namespace, uid, firing_time)
            subject = "its pods that are not ready run"
        if loss is None:
            return plain
        node = TargetResource(api_version="v1", kind="Node", name=loss.node)
        note = f"{top.note}; {subject} on {loss}" if top.note else f"{subject} on {loss}"
        return Resolution(node, itself, note=note, workload=top.target)

    async def _top(self, candidate: Candidate, kinds: Kinds) -> _Top | None:
        """Return the top of the candidate's owner chain, or ``None`` when there is no such object and never was."""
        try:
            link = await self._link(candidate.resource, candidate.name, candidate.namespace)
        except Forbidden:
            named = _target(candidate.resource, candidate.name, candidate.namespace)
            note = f"{candidate} may not be read (RBAC); taken as the signal names it"
            return _Top(named, note, candidate.resource)
        if link is None:
            return None
        top = await self._climb(candidate, link, kinds)
        if not link.gone:
            return top
        note = f"{candidate} is gone; this was its owner when last seen"
        return replace(top, note=f"{note}; {top.note}" if top.note else note)

    async def _climb(self, candidate: Candidate, named: _Link, kinds: Kinds) -> _Top:
        namespace, note = candidate.namespace, ""
        resource, name, known = candidate.resource, candidate.name, named.facts
        for _ in range(MAX_DEPTH):
            owner = known.owner
            if owner is None or owner.kind == "Node":  # a static pod belongs to itself
                break
            parent = kinds.of_kind(owner.kind, owner.api_version)
            if parent is None or not owner.name:
                break  # a kind that this API server does not serve: the owned object is the last we know
            home = namespace if parent.namespaced else ""
            try:
                link = await self._link(parent, owner.name, home)
            except Forbidden:
                note = f"{parent.kind} {owner.name} may not be read (RBAC); its owner is unknown"
                return _Top(_target(parent, owner.name, home), note, parent, named)
            if link is None:
                derived = await self._by_template_hash(known, parent, owner.name, home, named)
                note = f"{parent.kind} {owner.name} is gone; its owner is unknown"
                return derived or _Top(_target(parent, owner.name, home), note, parent, named)
            resource, name, known = parent, owner.name, link.facts
            if link.gone:
                note = f"{parent.kind} {name} is gone; taken as it was when last seen"
        return _Top(_target(resource, name, namespace if resource.namespaced else ""), note, resource, named, known)

    async def _by_template_hash(
        self, pod: Facts, parent: Resource, name: str, namespace: str, named: _Link
    ) -> _Top | None:
        """Find the Deployment of a pod whose ReplicaSet is already gone: the pod carries the hash of its name."""
        suffix = f"-{pod.template_hash}" if isinstance(pod, PodFacts) else ""
        if parent.kind != "ReplicaSet" or len(suffix) < 2 or not name.endswith(suffix):
            return None
        deployment = name.removesuffix(suffix)
        try:
            link = await self._link(resources.DEPLOYMENT, deployment, namespace)
        except Forbidden:
            link = None
        if link is None or link.gone:
            return None
        note = f"ReplicaSet {name} is gone; its name tells its Deployment"
        target = _target(resources.DEPLOYMENT, deployment, namespace)
        return _Top(target, note, resources.DEPLOYMENT, named, link.facts)

    async def _derive(self, pod: Candidate, kinds: Kinds) -> tuple[Candidate, _Top] | None:
        """Find the workload that a deleted pod's generated name points to, if such a workload exists."""
        for pattern, resource in _GENERATED:
            match = pattern.fullmatch(pod.name)
            if match is None:
                continue
            workload = Candidate(resource, match[1], pod.namespace, pod.label, WORKLOAD)
            top = await self._top(workload, kinds)
            if top is not None:
                note = f"{pod} is gone; its name says that it belonged to {workload}"
                return workload, replace(top, note=note)
        return None

    async def _link(self, resource: Resource, name: str, namespace: str) -> _Link | None:
        """Return an object as it is, or was within the last hour; ``None`` when there is none. Raises ``Forbidden``."""
        remembered: Facts | None = None
        if self._topology is not None:
            known = self._topology.find(resource.group, resource.kind, name, namespace)
            if known is not None:
                return _Link(known)
            remembered = self._topology.remembered(resource.group, resource.kind, name, namespace)
            if isinstance(remembered, PodFacts) and remembered.name_is_unique:
                return _Link(remembered, gone=True)  # Nothing else can have come under that name since.
        key, now = (resource.group, resource.kind, namespace, name), self._monotonic()
        read = self._read.get(key)
        if read is not None and remembered is None and now - read[1] < FRESH_SECONDS:
            return _Link(read[0])
        try:
            obj = await self._cluster.get(resource, name, namespace or None)
        except NotFound:
            if remembered is None and read is not None and now - read[1] < REMEMBER_SECONDS:
                remembered = read[0]
            return None if remembered is None else _Link(remembered, gone=True)
        fresh = facts.of(resource, obj)
        self._read[key] = fresh, now
        self._read.move_to_end(key)
        while len(self._read) > CAPACITY:
            self._read.popitem(last=False)
        return _Link(fresh)


def _target(resource: Resource, name: str, namespace: str) -> TargetResource:
    return TargetResource(api_version=resource.api_version, kind=resource.kind, name=name, namespace=namespace)


def _nameless(namespace: str) -> Resolution:
    note = "the signal names no resource; it is identified by its name and labels"
    if namespace:
        return Resolution(_target(resources.NAMESPACE, namespace, ""), identified=False, note=note)
    return Resolution(UNKNOWN, identified=False, note=note)
