"""Which targets are ours to remediate, by the label ``kubernaut.ai/managed`` on the object or, failing that, its namespace.

Cluster-scoped objects go by their own label only. A look-up that fails raises (the sender is told to come back): it is
neither a yes nor a no.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from kubernaut_ray import names
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.cluster import Cluster

FRESH_SECONDS = 30.0
_CAPACITY = 10_000


class Scope:
    def __init__(
        self,
        cluster: Cluster,
        mode: Literal["opt-in", "opt-out", "all"],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._mode, self._monotonic = cluster, mode, monotonic
        self._labels: OrderedDict[tuple[str, str, str], tuple[str | None, float]] = OrderedDict()

    async def manages(self, target: TargetResource) -> bool:
        """Tell whether signals about this target are taken."""
        if self._mode == "all":
            return True
        label = await self._label(target)
        if label is None and target.namespace:
            label = await self._label(TargetResource(kind="Namespace", name=target.namespace))
        return label == "true" if self._mode == "opt-in" else label != "false"

    async def _label(self, target: TargetResource) -> str | None:
        key = (target.kind, target.namespace, target.name)
        known, now = self._labels.get(key), self._monotonic()
        if known is not None and now - known[1] < FRESH_SECONDS:
            return known[0]
        resource: Resource | None = (await self._cluster.kinds()).of_kind(target.kind, target.api_version)
        if target.kind == resources.NAMESPACE.kind:
            resource = resources.NAMESPACE
        label = None
        if resource is not None:
            try:
                obj = await self._cluster.get(resource, target.name, target.namespace or None)
                label = (obj["metadata"].get("labels") or {}).get(names.LABEL_MANAGED)
            except (NotFound, Forbidden):
                label = None  # What cannot be seen carries no label, as an absent one.
        self._labels[key] = (label, now)
        while len(self._labels) > _CAPACITY:
            self._labels.popitem(last=False)
        return label
