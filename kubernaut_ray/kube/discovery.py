"""What resources an API server has, by its discovery documents: aggregated (v2) where offered, classic otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubernaut_ray.kube.connection import JSON, Connection
from kubernaut_ray.kube.errors import NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource

AGGREGATED = f"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,{JSON}"


async def discover(link: Connection) -> tuple[Resource, ...]:
    """Return every listable or creatable resource, in the preferred version of its group; core first."""
    found: list[Resource] = []
    for root in ("/api", "/apis"):
        body = await link.send("GET", root, accept=AGGREGATED)
        if body.get("kind") == "APIGroupDiscoveryList":
            found.extend(_aggregated(body))
        elif root == "/api":
            found.extend(await _classic(link, "", (body.get("versions") or ["v1"])[0]))
        else:
            for group in body.get("groups") or ():
                found.extend(await _classic(link, group["name"], group["preferredVersion"]["version"]))
    return tuple(found)


def _aggregated(body: dict[str, Any]) -> Iterator[Resource]:
    for group in body.get("items") or ():
        versions = group.get("versions") or ()
        for version in versions[:1]:  # the preferred one comes first
            for entry in version.get("resources") or ():
                kind = (entry.get("responseKind") or {}).get("kind") or ""
                yield Resource(
                    group.get("metadata", {}).get("name", ""),
                    version["version"],
                    entry["resource"],
                    kind,
                    namespaced=entry.get("scope") == "Namespaced",
                )


async def _classic(link: Connection, group: str, version: str) -> list[Resource]:
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        body = await link.send("GET", root)
    except (NotFound, Unavailable):
        return []  # an aggregated API whose server is away; the others are still there
    return [
        Resource(group, version, entry["name"], entry["kind"], namespaced=bool(entry.get("namespaced")))
        for entry in body.get("resources") or ()
        if "/" not in entry["name"]
    ]
