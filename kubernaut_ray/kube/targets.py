"""Which object a target is: the object itself, and its UID, so that one of the same name made anew is not taken for it."""

from __future__ import annotations

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound


async def target_uid(client: KubeClient, target: TargetResource) -> str:
    """Return the UID of a target of a well-known kind; empty where there is none, or we may not or cannot read it.

    Raises ``Retryable`` when the API server does not answer.
    """
    try:
        found = await read(client, target)
    except (NotFound, Forbidden):
        return ""
    return str(found["metadata"].get("uid") or "") if found is not None else ""


async def read(client: KubeClient, target: TargetResource) -> Object | None:
    """Return a target of a well-known kind, ``None`` for one that we cannot look up. Raises as the client does."""
    resource = resources.BY_KIND.get(target.kind)
    if resource is None or target.api_version not in ("", resource.api_version) or not target.name:
        return None
    if resource.namespaced and not target.namespace:
        return None
    return await client.get(resource, target.name, target.namespace if resource.namespaced else None)
