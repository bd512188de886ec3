"""Reads for enrichment: a bounded number at a time, from the source of truth, with a meaning for every refusal.

NotFound is ``None``; Forbidden is ``None`` and remembered in the ``Denied`` list of that enrichment; a side query that
fails for any reason is ``None``. Passing faults of the other reads are raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from kubernaut_ray.crds.shared import OwnerEntry, TargetResource
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import ApiError, Forbidden, NotFound
from kubernaut_ray.kube.resources import Resource

MAX_OWNERS = 5
CONCURRENT_READS = 16
PAGE = 200
"""Objects that one list looks at."""

Denied = list[str]
"""What the API server refused, such as ``get nodes``."""
Owner = tuple[OwnerEntry, Object | None]
"""A link of an owner chain; the object is ``None`` when it could not be read."""


class Reads:
    """One per controller. It keeps the API's discovery and nothing else."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(CONCURRENT_READS)
        self._discovered: Mapping[tuple[str, str], Resource] = {}

    async def get(self, resource: Resource, name: str, namespace: str | None, denied: Denied) -> Object | None:
        try:
            async with self._turns:
                return await self._client.get(resource, name, namespace)
        except NotFound:
            return None
        except Forbidden:
            denied.append(f"get {resource.plural}")
            return None

    async def object(self, ref: TargetResource | None, denied: Denied) -> Object | None:
        """Read what a reference names. A kind that the API does not know is not found."""
        if ref is None or not ref.name:
            return None
        resource = await self.resource(ref.api_version, ref.kind)
        if resource is None:
            return None
        return await self.get(resource, ref.name, (ref.namespace or None) if resource.namespaced else None, denied)

    async def owners(self, start: Object | None, denied: Denied) -> list[Owner]:
        """Follow controller references, nearest first. An owner that cannot be read ends the chain with its name."""
        chain: list[Owner] = []
        current = start
        while current is not None and len(chain) < MAX_OWNERS:
            metadata = current["metadata"]
            owner = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), None)
            if owner is None:
                break
            api_version, kind = str(owner.get("apiVersion", "")), str(owner["kind"])
            resource = await self.resource(api_version, kind)
            namespaced = resource is None or resource.namespaced
            ref = TargetResource(
                api_version=api_version,
                kind=kind,
                name=owner["name"],
                namespace=metadata.get("namespace", "") if namespaced else "",
            )
            current = await self.object(ref, denied)
            chain.append(
                (OwnerEntry(kind=kind, name=ref.name, namespace=ref.namespace, api_version=api_version), current)
            )
        return chain

    async def list(
        self, resource: Resource, namespace: str, *, labels: str = "", fields: str = "", limit: int | None = None
    ) -> Sequence[Object] | None:
        """List, or ``None`` when that failed: a side query never fails the enrichment."""
        try:
            async with self._turns:
                page = await self._client.list(resource, namespace or None, labels=labels, fields=fields, limit=limit)
        except (ApiError, Retryable):
            return None
        return page.items

    async def events(self, namespace: str, about: Iterable[tuple[str, str]]) -> Sequence[Object]:
        """Return the events about these objects (kind, name); none where they cannot be read."""
        found = await asyncio.gather(
            *(
                self.list(
                    resources.EVENT,
                    namespace,
                    fields=f"involvedObject.kind={kind},involvedObject.name={name}",
                    limit=PAGE,
                )
                for kind, name in about
            )
        )
        return [event for each in found for event in each or ()]

    async def resource(self, api_version: str, kind: str) -> Resource | None:
        """Return the REST resource of a kind, through discovery when it is not one of the well-known ones."""
        known = resources.BY_KIND.get(kind)
        if known is not None and api_version in ("", known.api_version):
            return known
        if (api_version, kind) not in self._discovered:
            async with self._turns:
                listed = await self._client.discover()
            found = {(resource.api_version, resource.kind): resource for resource in reversed(listed)}
            self._discovered = {**{("", resource.kind): resource for resource in reversed(listed)}, **found}
        return self._discovered.get((api_version, kind))
