"""Looks up whether the orchestrator may act on a target now: fresh reads of the target's labels and its namespace's.

The rule is ``kubernaut_ray.scope``. A target that is gone has no label of its own; a look-up that fails for any other reason
is a no, with its reason: where nobody can tell whether acting was forbidden, it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubernaut_ray import scope
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource


@dataclass(frozen=True, slots=True)
class InScope:
    """``problem`` says why the look-up failed; nothing is managed then."""

    managed: bool
    problem: str = ""


async def look_up(client: KubeClient, mode: scope.Mode, target: TargetResource) -> InScope:
    """Read the labels and judge; nothing is read where all targets are managed."""
    if mode == "all":
        return InScope(True)
    try:
        resource = await _resource(client, target)
        wide = resource is not None and not resource.namespaced
        home = "" if wide else target.namespace
        own, around = await asyncio.gather(
            _labels(client, resource, target.name, home), _labels(client, resources.NAMESPACE, home, "")
        )
    except KubernautError as error:
        return InScope(False, str(error))
    return InScope(scope.managed(mode, own, around))


async def _resource(client: KubeClient, target: TargetResource) -> Resource | None:
    known = resources.BY_KIND.get(target.kind)
    if known is not None and target.api_version in ("", known.api_version):
        return known
    for found in await client.discover():
        if found.kind == target.kind and target.api_version in ("", found.api_version):
            return found
    return None


async def _labels(client: KubeClient, resource: Resource | None, name: str, namespace: str) -> scope.Labels:
    if resource is None or not name:
        return None
    try:
        obj = await client.get(resource, name, namespace or None)
    except NotFound:
        return None
    return obj["metadata"].get("labels") or {}
