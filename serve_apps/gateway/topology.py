"""Whose is what, and where does it run: the cluster's workloads, pods and nodes in brief, kept current by watches.

``Intake`` starts and stops it; ``owners``, ``scope`` and ``placement`` ask it before they ask the API server. It answers only
what it has seen: that it does not know an object never means that there is none. While a kind cannot be followed (not
listed yet, forbidden, the connection down for half a minute) it knows nothing of that kind, and its askers read live.

::

    pods, replicasets, deployments, …  ── list and watch ──>  Facts by name, children by owner, the last hour's deleted
    nodes  ─────────────────────────── list and watch ──>  NodeState; ``generation`` moves when a node is lost or comes back
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import structlog

from kubernaut_ray import clock
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.cache import Address, Cache
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import facts
from serve_apps.gateway.facts import Facts, NodeFacts, PodFacts
from serve_apps.gateway.kinds import CRON_JOB
from serve_apps.gateway.nodeloss import NodeState

FOLLOWED = (
    resources.POD,
    resources.REPLICA_SET,
    resources.DEPLOYMENT,
    resources.STATEFUL_SET,
    resources.DAEMON_SET,
    resources.JOB,
    CRON_JOB,
    resources.NODE,
    resources.NAMESPACE,
)
REMEMBER = timedelta(hours=1)
REMEMBERED_PODS = 20_000
REMEMBERED_OTHERS = 2_000
STALE_SECONDS = 30.0
"""For so long a copy that cannot be followed right now is still believed."""
REFUSED_RETRY_SECONDS = 300.0
MAX_DEPTH = 5
_PAGE = 250
"""Pods are large, and decoding a page of them holds up everybody else."""
_OWNER, _WANTING = "owner", "wanting"

log = structlog.get_logger(__name__)


class Topology:
    """``generation`` moves when an earlier judgement about a lost node may have changed."""

    def __init__(
        self,
        client: KubeClient,
        *,
        fold_node_loss: bool = True,
        fold_window: float = 120.0,
        refused_retry: float = REFUSED_RETRY_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        now: clock.Clock = clock.utcnow,
    ) -> None:
        self.generation = 0
        self.window = timedelta(seconds=fold_window) if fold_node_loss else None
        """How long before a node's loss a signal may begin and still be due to it; ``None``: signals are never folded."""
        self._now = now
        self._kinds = {
            (r.group, r.kind): _Followed(client, r, self._changed, refused_retry, monotonic) for r in FOLLOWED
        }
        self._pods = self._kinds["", "Pod"]
        self._nodes = self._kinds["", "Node"]
        self._between = [self._kinds["apps", "ReplicaSet"], self._kinds["batch", "Job"]]
        self._node_gone_since: dict[str, datetime] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        # The watches outlive whatever request or start-up hook began them.
        self._tasks = [
            asyncio.create_task(kind.run(), name=f"topology of {kind.resource.plural}", context=contextvars.Context())
            for kind in self._kinds.values()
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for kind in self._kinds.values():
            kind.running = False

    @property
    def healthy(self) -> bool:
        """False when a task that should follow the cluster has died; it is a defect, and a new replica is the remedy."""
        return not any(task.done() for task in self._tasks)

    @property
    def blind(self) -> tuple[str, ...]:
        """Plurals of the kinds that are read live because they cannot be followed now."""
        return tuple(kind.resource.plural for kind in self._kinds.values() if not kind.current)

    def find(self, group: str, kind: str, name: str, namespace: str = "") -> Facts | None:
        """Return what is known of an object; ``None`` says nothing about whether there is one."""
        followed = self._kinds.get((group, kind))
        return followed.get(name, namespace) if followed is not None and followed.current else None

    def remembered(self, group: str, kind: str, name: str, namespace: str = "") -> Facts | None:
        """Return the last that was known of an object whose deletion was seen within the last hour."""
        followed = self._kinds.get((group, kind))
        return followed.gone.get((namespace, name)) if followed is not None and followed.current else None

    def wanting_under(self, uid: str) -> tuple[PodFacts, ...] | None:
        """Return the pods, at any depth under this owner, that should be ready and are not; ``None`` when not known."""
        if not (self._pods.current and all(kind.current for kind in self._between)):
            return None
        found: list[PodFacts] = []
        owners = [uid]
        for _ in range(MAX_DEPTH):
            found.extend(pod for owner in owners for pod in self._pods.by(_WANTING, owner) if isinstance(pod, PodFacts))
            owners = [child.uid for owner in owners for kind in self._between for child in kind.by(_OWNER, owner)]
            if not owners:
                break
        return tuple(found)

    def node(self, name: str) -> NodeState | None:
        """Return the state of a node that is there; ``None`` when none is known under this name."""
        node = self.find("", "Node", name)
        return node_state(name, node) if isinstance(node, NodeFacts) else None

    def node_gone_since(self, name: str) -> datetime | None:
        """Return when a node that is no more was lost, if that was seen within the last hour."""
        return self._node_gone_since.get(name)

    def lost_lately(self) -> tuple[TargetResource, ...]:
        """Return the nodes that are lost, were deleted within the last hour, or became ready within it.

        A signal that is over and was folded into one of them is over there, though its pod's node is well again.
        """
        since = self._now() - REMEMBER
        names = {name for name, gone in self._node_gone_since.items() if gone >= since}
        for name, node in self._nodes.items() if self._nodes.current else ():
            if isinstance(node, NodeFacts) and (
                not node.ready or (node.ready_since is not None and node.ready_since >= since)
            ):
                names.add(name)
        return tuple(TargetResource(api_version="v1", kind="Node", name=name) for name in sorted(names))

    def _changed(self, followed: _Followed, name: str, old: Facts | None, new: Facts | None) -> None:
        if followed is not self._nodes:
            return
        if new is not None:
            self._node_gone_since.pop(name, None)
        elif isinstance(old, NodeFacts):
            self._forget_nodes()
            lost = old.ready_since if not old.ready else None
            self._node_gone_since[name] = lost or self._now()
        before, after = (node_state(name, node) if isinstance(node, NodeFacts) else None for node in (old, new))
        if before != after:
            self.generation += 1

    def _forget_nodes(self) -> None:
        since = self._now() - REMEMBER
        self._node_gone_since = {name: gone for name, gone in self._node_gone_since.items() if gone >= since}


def node_state(name: str, node: NodeFacts) -> NodeState:
    """Return the state of a node that exists."""
    return NodeState(name, lost=not node.ready, since=None if node.ready else node.ready_since)


OnFacts = Callable[["_Followed", str, Facts | None, Facts | None], None]


class _Followed:
    """One kind: the copy that is kept of it, and the deleted that are remembered."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        on_facts: OnFacts,
        refused_retry: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.resource = resource
        self.running = False
        self._client, self._on_facts, self._refused_retry = client, on_facts, refused_retry
        pods = resource is resources.POD
        self.gone = _Gone(REMEMBERED_PODS if pods else REMEMBERED_OTHERS, monotonic)
        indexes = {_WANTING: _wanting} if pods else {_OWNER: _owner}
        self._cache = Cache(
            client,
            resource,
            project=self._project,
            on_change=self._on_change,
            indexes=indexes,
            page_size=_PAGE,
        )

    @property
    def current(self) -> bool:
        """Tell whether the copy is complete and followed, but for a short break."""
        return self.running and self._cache.synced.is_set() and self._cache.failing_for < STALE_SECONDS

    def get(self, name: str, namespace: str) -> Facts | None:
        obj = self._cache.get(name, namespace)
        return None if obj is None else _facts(obj)

    def by(self, index: str, value: str) -> Iterator[Facts]:
        return map(_facts, self._cache.by(index, value))

    def items(self) -> Iterator[tuple[str, Facts]]:
        return ((obj["metadata"]["name"], _facts(obj)) for obj in self._cache)

    async def run(self) -> None:
        """Follow until cancelled. A kind that may not be listed, or is not served here, is tried again in five minutes."""
        self.running = True
        try:
            while not await self._allowed():
                await asyncio.sleep(self._refused_retry * random.uniform(0.8, 1.2))  # noqa: S311 - spreading load
            await self._cache.run()
        finally:
            self.running = False

    async def _allowed(self) -> bool:
        try:
            await self._client.list(self.resource, limit=1)
        except (Forbidden, NotFound) as error:
            log.warning("gateway.topology_kind_refused", resource=self.resource.plural, error=str(error))
            return False
        except KubernautError:
            return True  # The cache waits out whatever will pass.
        return True

    def _project(self, obj: Object) -> Object:
        metadata = obj["metadata"]
        kept = {field: metadata[field] for field in ("name", "namespace", "resourceVersion") if field in metadata}
        return {"metadata": kept, "facts": facts.of(self.resource, obj)}

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        address = metadata.get("namespace", ""), metadata["name"]
        # What the cache keeps is what has just been projected; the last word on a deleted object comes whole.
        before = None if old is None else old.get("facts") or facts.of(self.resource, old)
        after = None if new is None else self.get(address[1], address[0])
        if after is None and before is not None:
            self.gone.add(address, before)
        elif old is None:
            self.gone.discard(address)
        self._on_facts(self, address[1], before, after)


class _Gone:
    """The last facts of deleted objects, for an hour and up to a number."""

    def __init__(self, capacity: int, monotonic: Callable[[], float]) -> None:
        self._capacity, self._monotonic = capacity, monotonic
        self._known: OrderedDict[Address, tuple[Facts, float]] = OrderedDict()

    def add(self, address: Address, last: Facts) -> None:
        now = self._monotonic()
        self._known.pop(address, None)
        self._known[address] = last, now
        while self._known and (
            len(self._known) > self._capacity or self._old(next(iter(self._known.values()))[1], now)
        ):
            self._known.popitem(last=False)

    def discard(self, address: Address) -> None:
        self._known.pop(address, None)

    def get(self, address: Address) -> Facts | None:
        known = self._known.get(address)
        return None if known is None or self._old(known[1], self._monotonic()) else known[0]

    @staticmethod
    def _old(learned: float, now: float) -> bool:
        return now - learned > REMEMBER.total_seconds()


def _facts(obj: Object) -> Facts:
    known: Facts = obj["facts"]
    return known


def _owner(obj: Object) -> tuple[str, ...]:
    owner = _facts(obj).owner
    return () if owner is None else (owner.uid,)


def _wanting(obj: Object) -> tuple[str, ...]:
    pod = _facts(obj)
    return (pod.owner.uid,) if isinstance(pod, PodFacts) and pod.owner is not None and pod.wanting else ()
