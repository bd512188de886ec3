"""Discovery: what the server serves, in the classic and the aggregated (v2) form, and its version."""

from __future__ import annotations

from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.status import Obj

VERSION: Obj = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+kubernaut",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
_SUBRESOURCE_KINDS = {
    "log": ("", "v1", "Pod", ("get",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "finalize": ("", "v1", "Namespace", ("update",)),
}


def _subresources(kind: Kind) -> list[tuple[str, Obj, tuple[str, ...]]]:
    """Return ``(name, response kind, verbs)`` of each subresource."""
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    found: list[tuple[str, Obj, tuple[str, ...]]] = []
    if kind.status:
        found.append(("status", own, ("get", "patch", "update")))
    if kind.scale is not None:
        found.append(("scale", _SCALE, ("get", "patch", "update")))
    for name in kind.subresources:
        group, version, response, verbs = _SUBRESOURCE_KINDS[name]
        found.append((name, {"group": group, "version": version, "kind": response}, verbs))
    return found


def _aggregated_resource(kind: Kind) -> Obj:
    resource: Obj = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind.categories:
        resource["categories"] = list(kind.categories)
    below = [{"subresource": n, "responseKind": r, "verbs": list(v)} for n, r, v in _subresources(kind)]
    if below:
        resource["subresources"] = below
    return resource


def aggregated(registry: Registry, *, core: bool) -> Obj:
    """Return ``APIGroupDiscoveryList`` for ``/api`` (core) or ``/apis``."""
    items = []
    for group in ("",) if core else registry.groups():
        versions = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_aggregated_resource(k) for k in registry.in_version(group, version)],
            }
            for version in registry.versions(group)
        ]
        items.append({"metadata": {"name": group, "creationTimestamp": None} if group else {}, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def core_versions(server: str) -> Obj:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    }


def group(registry: Registry, name: str) -> Obj | None:
    """Return the ``APIGroup``, or ``None``."""
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in registry.versions(name)]
    if not versions or not name:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}


def groups(registry: Registry) -> Obj:
    found = [group(registry, name) for name in registry.groups()]
    bare = [{k: v for k, v in g.items() if k not in ("kind", "apiVersion")} for g in found if g]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": bare}


def resources(registry: Registry, group_name: str, version: str) -> Obj | None:
    """Return the classic ``APIResourceList`` of a version, or ``None``."""
    kinds = registry.in_version(group_name, version)
    if not kinds:
        return None
    rows: list[Obj] = []
    for kind in kinds:
        row: Obj = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            row["shortNames"] = list(kind.short_names)
        if kind.categories:
            row["categories"] = list(kind.categories)
        rows.append(row)
        for name, response, verbs in _subresources(kind):
            rows.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    **({} if response["group"] == group_name else {k: response[k] for k in ("group", "version")}),
                    "kind": response["kind"],
                    "verbs": list(verbs),
                }
            )
    name = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows}
