"""Which object a target is: its UID, so that one of the same name made anew is not taken for it."""

from __future__ import annotations

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import Forbidden, NotFound


async def target_uid(client: KubeClient, target: TargetResource) -> str:
    """Return the UID of a target of a well-known kind; empty where there is none, or we may not or cannot read it.

    Raises ``Retryable`` when the API server does not answer.
    """
    resource = resources.BY_KIND.get(target.kind)
    if resource is None or target.api_version not in ("", resource.api_version) or not target.name:
        return ""
    if resource.namespaced and not target.namespace:
        return ""
    try:
        found = await client.get(resource, target.name, target.namespace if resource.namespaced else None)
    except (NotFound, Forbidden):
        return ""
    return str(found["metadata"].get("uid") or "")
