"""From what a signal names to what it is about: the first candidate that exists, and from there to the top of its owners.

``Owners.resolve`` reads the API with a time limit; answers are kept for half a minute, and a last known owner for longer,
because the pod of an alert is often gone when the alert arrives. A guess is never silent: ``Resolution.note`` says what was
assumed. When the API cannot answer in time, ``Unavailable`` is raised, because a fingerprint that depends on the weather
would open a second incident.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Forbidden, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.kinds import POD, WORKLOAD, Kinds
from serve_apps.gateway.target import Candidate

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
    """

    target: TargetResource
    signal_resource: TargetResource | None = None
    identified: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Top:
    target: TargetResource
    note: str
    learned: float


class Owners:
    def __init__(self, cluster: Cluster, *, timeout: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._timeout, self._monotonic = cluster, timeout, monotonic
        self._known: OrderedDict[tuple[str, str, str], _Top] = OrderedDict()

    async def resolve(self, candidates: Sequence[Candidate], namespace: str, kinds: Kinds) -> Resolution:
        """Return what the signal is about. Raises ``Unavailable`` when the API server does not say in time."""
        if not candidates:
            return _nameless(namespace)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._resolve(candidates, namespace, kinds)
        except TimeoutError:
            raise Unavailable(f"the owners of {candidates[0]} could not be read in {self._timeout:g}s") from None

    async def _resolve(self, candidates: Sequence[Candidate], namespace: str, kinds: Kinds) -> Resolution:
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
            return _resolution(candidate, top.target, note)
        if gone is None:
            return _nameless(namespace)
        if gone.resource is resources.POD and (derived := await self._derive(gone, kinds)) is not None:
            return derived
        named = _target(gone.resource, gone.name, gone.namespace)
        return Resolution(named, note=f"{gone} is not in the cluster; taken as the signal names it")

    async def _top(self, candidate: Candidate, kinds: Kinds) -> _Top | None:
        """Return the top of the candidate's owner chain, or ``None`` when there is no such object and never was."""
        key = (candidate.resource.kind, candidate.namespace, candidate.name)
        known, now = self._known.get(key), self._monotonic()
        if known is not None and now - known.learned < FRESH_SECONDS:
            return known
        try:
            obj = await self._cluster.get(candidate.resource, candidate.name, candidate.namespace or None)
        except NotFound:
            if known is not None and now - known.learned < REMEMBER_SECONDS:
                return _Top(known.target, f"{candidate} is gone; this was its owner when last seen", known.learned)
            return None
        except Forbidden:
            named = _target(candidate.resource, candidate.name, candidate.namespace)
            return _Top(named, f"{candidate} may not be read (RBAC); taken as the signal names it", now)
        target, note = await self._climb(candidate.resource, obj, kinds)
        top = _Top(target, note, now)
        self._known[key] = top
        self._known.move_to_end(key)
        while len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return top

    async def _climb(self, resource: Resource, obj: Object, kinds: Kinds) -> tuple[TargetResource, str]:
        namespace = obj["metadata"].get("namespace", "")
        for _ in range(MAX_DEPTH):
            owner = _controller(obj)
            if owner is None or owner.get("kind") == "Node":  # a static pod belongs to itself
                break
            parent = kinds.of_kind(str(owner.get("kind", "")), str(owner.get("apiVersion", "")))
            name = str(owner.get("name", ""))
            if parent is None or not name:
                break  # a kind that this API server does not serve: the owned object is the last we know
            home = namespace if parent.namespaced else ""
            try:
                obj, resource = await self._cluster.get(parent, name, home or None), parent
            except Forbidden:
                return _target(parent, name, home), f"{parent.kind} {name} may not be read (RBAC); its owner is unknown"
            except NotFound:
                derived = await self._by_template_hash(obj, parent, name, home)
                return derived or (_target(parent, name, home), f"{parent.kind} {name} is gone; its owner is unknown")
        return _target(resource, obj["metadata"]["name"], namespace if resource.namespaced else ""), ""

    async def _by_template_hash(
        self, pod: Object, parent: Resource, name: str, namespace: str
    ) -> tuple[TargetResource, str] | None:
        """Find the Deployment of a pod whose ReplicaSet is already gone: the pod carries the hash of its name."""
        labels = pod["metadata"].get("labels") or {}
        suffix = f"-{labels.get('pod-template-hash', '')}"
        if parent.kind != "ReplicaSet" or len(suffix) < 2 or not name.endswith(suffix):
            return None
        deployment = name.removesuffix(suffix)
        if not await self._exists(resources.DEPLOYMENT, deployment, namespace):
            return None
        return _target(
            resources.DEPLOYMENT, deployment, namespace
        ), f"ReplicaSet {name} is gone; its name tells its Deployment"

    async def _derive(self, pod: Candidate, kinds: Kinds) -> Resolution | None:
        """Find the workload that a deleted pod's generated name points to, if such a workload exists."""
        for pattern, resource in _GENERATED:
            match = pattern.fullmatch(pod.name)
            if match is None:
                continue
            workload = Candidate(resource, match[1], pod.namespace, pod.label, WORKLOAD)
            top = await self._top(workload, kinds)
            if top is not None:
                return _resolution(pod, top.target, f"{pod} is gone; its name says that it belonged to {workload}")
        return None

    async def _exists(self, resource: Resource, name: str, namespace: str) -> bool:
        try:
            await self._cluster.get(resource, name, namespace or None)
        except (NotFound, Forbidden):
            return False
        return True


def _controller(obj: Object) -> dict[str, Any] | None:
    references = obj["metadata"].get("ownerReferences") or ()
    return next((r for r in references if r.get("controller")), None)


def _target(resource: Resource, name: str, namespace: str) -> TargetResource:
    return TargetResource(api_version=resource.api_version, kind=resource.kind, name=name, namespace=namespace)


def _resolution(named: Candidate, target: TargetResource, note: str) -> Resolution:
    itself = _target(named.resource, named.name, named.namespace)
    return Resolution(target, None if itself == target else itself, note=note)


def _nameless(namespace: str) -> Resolution:
    note = "the signal names no resource; it is identified by its name and labels"
    if namespace:
        return Resolution(_target(resources.NAMESPACE, namespace, ""), identified=False, note=note)
    return Resolution(UNKNOWN, identified=False, note=note)
