"""Which targets are ours to remediate, by the label ``kubernaut.ai/managed`` on the object or, failing that, its namespace.

The rule is ``kubernaut_ray.scope``. Cluster-scoped objects go by their own label only. The topology knows most labels; the
rest is read live. A look-up that fails raises (the sender is told to come back): it is neither a yes nor a no. Where RBAC
forbids the look-up coming back is no use, and the target is not managed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from kubernaut_ray import names, scope
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube.errors import Forbidden, NotFound
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.topology import Topology

FRESH_SECONDS = 30.0
_CAPACITY = 10_000

log = structlog.get_logger(__name__)


class Scope:
    def __init__(
        self,
        cluster: Cluster,
        mode: scope.Mode,
        *,
        topology: Topology | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._mode, self._monotonic = cluster, mode, monotonic
        self._topology = topology
        self._read: OrderedDict[tuple[str, str, str, str], tuple[str | None, float]] = OrderedDict()

    async def manages(self, target: TargetResource) -> bool:
        """Tell whether signals about this target are taken."""
        if self._mode == "all":
            return True
        label = await self._label(target)
        if label is None and target.namespace:
            label = await self._label(TargetResource(api_version="v1", kind="Namespace", name=target.namespace))
        return scope.permits(self._mode, label)

    async def _label(self, target: TargetResource) -> str | None:
        """Return the label's value, ``false`` when it may not be read; an object that is not there carries none."""
        group = target.api_version.rpartition("/")[0]
        if self._topology is not None and target.api_version:
            known = self._topology.find(group, target.kind, target.name, target.namespace)
            if known is not None:
                return known.managed
        key = (target.api_version, target.kind, target.namespace, target.name)
        read, now = self._read.get(key), self._monotonic()
        if read is not None and now - read[1] < FRESH_SECONDS:
            return read[0]
        resource = (await self._cluster.kinds()).of_kind(target.kind, target.api_version)
        label: str | None = None
        if resource is not None:
            try:
                obj = await self._cluster.get(resource, target.name, target.namespace or None)
                label = (obj["metadata"].get("labels") or {}).get(names.LABEL_MANAGED)
            except NotFound:
                label = None
            except Forbidden as error:
                log.warning("gateway.scope_forbidden", target=str(target), error=str(error))
                label = "false"
        self._read[key] = (label, now)
        while len(self._read) > _CAPACITY:
            self._read.popitem(last=False)
        return label
