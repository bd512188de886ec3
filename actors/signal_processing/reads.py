"""Reads for enrichment: a bounded number at a time, from the source of truth, with a meaning for every refusal.

NotFound is ``None``. Forbidden is ``None`` and remembered in the ``Gaps`` of that enrichment, and so is any fault of a side
query and of the look upwards, which returns the chain as far as it came. Passing faults of the other reads are raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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

DISCOVERY_SECONDS = 30.0
"""How long a kind that discovery did not list stays unknown."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """What one enrichment could not read."""

    denied: list[str] = field(default_factory=list)
    """What the API server refused for want of a right, such as ``get nodes``."""
    failed: list[str] = field(default_factory=list)
    """What failed otherwise and was gone without, with the reason."""


Owner = tuple[OwnerEntry, Object | None]
"""A link of an owner chain; the object is ``None`` when it could not be read."""


class Reads:
    """One per controller, so that the bound holds over all its objects. It keeps the API's discovery and nothing else."""

    def __init__(self, client: KubeClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(CONCURRENT_READS)
        self._monotonic = monotonic
        self._discovering = asyncio.Lock()
        self._discovered: Mapping[tuple[str, str], Resource] = {}
        self._discover_after = float("-inf")

    async def get(self, resource: Resource, name: str, namespace: str | None, gaps: Gaps) -> Object | None:
        try:
            async with self._turns:
                return await self._client.get(resource, name, namespace)
        except NotFound:
            return None
        except Forbidden:
            gaps.denied.append(f"get {resource.plural}")
            return None

    async def object(self, ref: TargetResource | None, gaps: Gaps) -> Object | None:
        """Read what a reference names. A kind that the API does not know is not found."""
        if ref is None or not ref.name:
            return None
        resource = await self.resource(ref.api_version, ref.kind, gaps)
        if resource is None:
            return None
        return await self.get(resource, ref.name, (ref.namespace or None) if resource.namespaced else None, gaps)

    async def owners(self, start: Object | None, gaps: Gaps) -> list[Owner]:
        """Follow controller references, nearest first. An owner that cannot be read ends the chain with its name."""
        chain: list[Owner] = []
        current = start
        while current is not None and len(chain) < MAX_OWNERS:
            metadata = current["metadata"]
            owner = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), None)
            if owner is None:
                break
            entry, current = await self._owner(owner, metadata.get("namespace", ""), gaps)
            chain.append((entry, current))
        return chain

    async def _owner(self, owner: Mapping[str, str], home: str, gaps: Gaps) -> Owner:
        ref = TargetResource(
            api_version=str(owner.get("apiVersion", "")), kind=str(owner["kind"]), name=owner["name"], namespace=home
        )
        found = None
        try:
            resource = await self.resource(ref.api_version, ref.kind, gaps)
            if resource is not None:
                ref = ref.replace(namespace=home if resource.namespaced else "")
                found = await self.get(resource, ref.name, ref.namespace or None, gaps)
        except (ApiError, Retryable) as error:
            gaps.failed.append(f"the owner {ref}: {error}")
        entry = OwnerEntry(kind=ref.kind, name=ref.name, namespace=ref.namespace, api_version=ref.api_version)
        return entry, found

    async def list(
        self,
        resource: Resource,
        namespace: str,
        gaps: Gaps,
        *,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
    ) -> Sequence[Object] | None:
        """List, or ``None`` when that failed: a side query never fails the enrichment."""
        try:
            async with self._turns:
                page = await self._client.list(resource, namespace or None, labels=labels, fields=fields, limit=limit)
        except Forbidden:
            gaps.denied.append(f"list {resource.plural}")
            return None
        except (ApiError, Retryable) as error:
            gaps.failed.append(f"list {resource.plural}: {error}")
            return None
        return page.items

    async def events(self, namespace: str, about: Iterable[tuple[str, str]], gaps: Gaps) -> Sequence[Object]:
        """Return the events about these objects (kind, name); none where they cannot be read."""
        found = await asyncio.gather(
            *(
                self.list(
                    resources.EVENT,
                    namespace,
                    gaps,
                    fields=f"involvedObject.kind={kind},involvedObject.name={name}",
                    limit=PAGE,
                )
                for kind, name in about
            )
        )
        return [event for each in found for event in each or ()]

    async def resource(self, api_version: str, kind: str, gaps: Gaps) -> Resource | None:
        """Return the REST resource of a kind, through discovery when it is not one of the well-known ones."""
        known = resources.BY_KIND.get(kind)
        if known is not None and api_version in ("", known.api_version):
            return known
        async with self._discovering:
            if (api_version, kind) not in self._discovered and self._monotonic() >= self._discover_after:
                await self._discover(gaps)
        return self._discovered.get((api_version, kind))

    async def _discover(self, gaps: Gaps) -> None:
        try:
            async with self._turns:
                listed = await self._client.discover()
        except Forbidden:
            gaps.denied.append("discover the API's kinds")
            return
        found = {(resource.api_version, resource.kind): resource for resource in reversed(listed)}
        self._discovered = {**{("", resource.kind): resource for resource in reversed(listed)}, **found}
        self._discover_after = self._monotonic() + DISCOVERY_SECONDS
