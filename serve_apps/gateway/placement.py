"""Where the pods behind a signal run: what ``nodeloss.explain`` judges, from the topology, or live while that is blind.

``Owners`` asks it about the pod or the workload that a signal names. A refused read (RBAC) means that nothing can be
explained by it; a server that does not answer is ``Unavailable``, for then the judgement would hang on the weather.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import facts
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.facts import Facts, NodeFacts, PodFacts
from serve_apps.gateway.nodeloss import Loss, NodeState, Place, Snapshot, explain
from serve_apps.gateway.topology import Topology, node_state

NODE_SECONDS = 5.0
"""How long a node's state that was read live is good for."""
_CAPACITY = 1_000
_SELECTING = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
"""Workloads whose pods their selector finds."""


class Placement:
    """``window`` is how long before a node's loss a signal may begin to fire and still be due to it."""

    def __init__(
        self,
        cluster: Cluster,
        topology: Topology,
        window: timedelta,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._topology, self._window, self._monotonic = cluster, topology, window, monotonic
        self._read: OrderedDict[str, tuple[NodeState | None, float]] = OrderedDict()

    async def of_pod(self, pod: PodFacts, firing_time: datetime | None) -> Loss | None:
        """Return the lost node that this placed pod runs, or last ran, on."""
        return await self._explain((pod,), firing_time)

    async def of_workload(
        self, resource: Resource, name: str, namespace: str, uid: str, firing_time: datetime | None
    ) -> Loss | None:
        """Return the lost node that keeps the pods of this workload from being ready.

        Nodes and pods are followed by two watches, and one may lag: a pod that fails on a node that is well may not be known
        yet. So what memory puts down to a node is looked at once more before the workload's signal goes to the node.
        """
        known = self._topology.wanting_under(uid)
        if known is not None and await self._explain(known, firing_time) is None:
            return None
        pods = await self._read_pods(resource, name, namespace, uid)
        return await self._explain((known or ()) if pods is None else pods, firing_time)

    async def _explain(self, pods: Iterable[PodFacts], firing_time: datetime | None) -> Loss | None:
        places = tuple(
            Place(pod.node, None if pod.ready else pod.ready_since, pod.created, pod.leaving) for pod in pods
        )
        if not places:
            return None
        states: list[NodeState] = []
        for name in sorted({place.node for place in places if place.node}):
            state = self._topology.node(name) or await self._read_node(name)
            if state is not None:
                states.append(state)
        return explain(Snapshot(places, tuple(states), firing_time, self._window))

    async def _read_node(self, name: str) -> NodeState | None:
        known, now = self._read.get(name), self._monotonic()
        if known is not None and now - known[1] < NODE_SECONDS:
            return known[0]
        state: NodeState | None = None
        try:
            node = facts.of(resources.NODE, await self._cluster.get(resources.NODE, name, None))
            state = node_state(name, node) if isinstance(node, NodeFacts) else None
        except NotFound:
            state = NodeState(name, lost=True, since=self._topology.node_gone_since(name), exists=False)
        except Forbidden:
            state = None
        self._read[name] = state, now
        self._read.move_to_end(name)
        while len(self._read) > _CAPACITY:
            self._read.popitem(last=False)
        return state

    async def _read_pods(self, resource: Resource, name: str, namespace: str, uid: str) -> tuple[PodFacts, ...] | None:
        """Read the pods of a workload by its selector; ``None`` for what has none, as a CronJob, is gone, or may not be read."""
        if resource.kind not in _SELECTING:
            return None
        try:
            selector = facts.selector(await self._cluster.get(resource, name, namespace))
            if not selector:
                return None
            owners = {uid}
            if resource.kind == resources.DEPLOYMENT.kind:
                found = await self._cluster.list(resources.REPLICA_SET, namespace, labels=selector)
                owners |= {child.uid for child in _under(resources.REPLICA_SET, found, owners)}
            pods = _under(resources.POD, await self._cluster.list(resources.POD, namespace, labels=selector), owners)
        except (Forbidden, NotFound):
            return None
        return tuple(pod for pod in pods if isinstance(pod, PodFacts) and pod.wanting)


def _under(resource: Resource, objects: Iterable[Object], owners: set[str]) -> tuple[Facts, ...]:
    every = (facts.of(resource, obj) for obj in objects)
    return tuple(one for one in every if one.owner is not None and one.owner.uid in owners)
