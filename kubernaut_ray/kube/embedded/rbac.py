"""Who may do what: Role-based access control over the stored rbac.authorization.k8s.io objects.

``system:masters`` may do everything, as in any cluster. Rules of a subject are gathered once and kept until an RBAC object
changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.kube.embedded.authn import User
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.embedded.status import Obj
from kubernaut_ray.kube.embedded.store import Store

GROUP = "rbac.authorization.k8s.io"
_TABLES = {plural: f"{plural}.{GROUP}" for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")}
MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that somebody wants to do. ``path`` is set for non-resource requests only."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """A rule as it applies to a subject; ``namespace`` ``None`` is everywhere."""

    namespace: str | None
    rule: Mapping[str, Any]
    source: str


def _any(wanted: str, allowed: Sequence[str]) -> bool:
    return "*" in allowed or wanted in allowed


def covers(rule: Mapping[str, Any], access: Access) -> bool:
    """Whether a policy rule covers an access (its namespace aside)."""
    if not _any(access.verb, rule.get("verbs") or ()):
        return False
    if access.path:
        return any(
            url == access.path or (url.endswith("*") and access.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or ()
        )
    if not _any(access.group, rule.get("apiGroups") or ()):
        return False
    resources = rule.get("resources") or ()
    wanted = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    if not (_any(wanted, resources) or (access.subresource and f"*/{access.subresource}" in resources)):
        return False
    names = rule.get("resourceNames") or ()
    return not names or access.name in names


class Authorizer:
    """Evaluates RBAC over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[User, list[Granted]] = {}
        store.listeners.append(self._forget)

    def _forget(self, event: Event) -> None:
        if event.resource in _TABLES.values():
            self._rules.clear()

    def allowed(self, user: User, access: Access) -> tuple[bool, str]:
        """Return whether the user may, and the reason in words."""
        if MASTERS in user.groups:
            return True, ""
        for granted in self.rules(user):
            in_scope = granted.namespace is None or (bool(access.namespace) and granted.namespace == access.namespace)
            if in_scope and covers(granted.rule, access):
                return True, f"RBAC: allowed by {granted.source}"
        return False, ""

    def rules(self, user: User) -> list[Granted]:
        """Return every rule that applies to the user."""
        found = self._rules.get(user)
        if found is None:
            if len(self._rules) > 1024:
                self._rules.clear()
            found = self._rules[user] = self._gather(user)
        return found

    def _gather(self, user: User) -> list[Granted]:
        found: list[Granted] = []
        for table in ("clusterrolebindings", "rolebindings"):
            for entry in self._store.scan(_TABLES[table]):
                binding = entry.obj
                namespace = binding["metadata"].get("namespace")
                if any(_is_subject(s, user, namespace or "") for s in binding.get("subjects") or ()):
                    source = f'{binding["kind"]} "{binding["metadata"]["name"]}" of {binding["roleRef"]["kind"]} "{binding["roleRef"]["name"]}"'
                    found += [
                        Granted(namespace, rule, source) for rule in self._role_rules(binding["roleRef"], namespace)
                    ]
        return found

    def _role_rules(self, ref: Obj, namespace: str | None) -> list[Obj]:
        if ref["kind"] == "ClusterRole":
            entry = self._store.get(_TABLES["clusterroles"], "", ref["name"])
        else:
            entry = self._store.get(_TABLES["roles"], namespace or "", ref["name"])
        return list((entry.obj.get("rules") or ()) if entry else ())


def _is_subject(subject: Mapping[str, Any], user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return subject.get("name") == user.name
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            return user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject.get('name')}"
        case _:
            return False


def denial(user: User, access: Access) -> str:
    """Say what was refused, as kube-apiserver does."""
    if access.path:
        return f'User "{user.name}" cannot {access.verb} path "{access.path}"'
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    where = f'in the namespace "{access.namespace}"' if access.namespace else "at the cluster scope"
    return f'User "{user.name}" cannot {access.verb} resource "{resource}" in API group "{access.group}" {where}'


_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS: list[tuple[list[str], list[str]]] = [
    ([""], ["configmaps", "events", "persistentvolumeclaims", "pods", "pods/log", "pods/status", "services", "serviceaccounts"]),
    (["apps"], ["daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"]),
    (["batch"], ["jobs"]),
    (["autoscaling"], ["horizontalpodautoscalers"]),
    (["policy"], ["poddisruptionbudgets"]),
    (["networking.k8s.io"], ["networkpolicies"]),
]  # fmt: skip


def _role(name: str, rules: list[Obj]) -> Obj:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "rules": rules,
    }


def _binding(name: str, group: str) -> Obj:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": group}],
    }


def bootstrap() -> list[Obj]:
    """Return the cluster roles and bindings that every cluster starts with."""
    view = [{"apiGroups": g, "resources": r, "verbs": _READ} for g, r in _WORKLOADS]
    namespaces = {"apiGroups": [""], "resources": ["namespaces"], "verbs": _READ}
    edit = [{"apiGroups": g, "resources": r, "verbs": _READ + _WRITE} for g, r in _WORKLOADS]
    secrets_ = {"apiGroups": [""], "resources": ["secrets"], "verbs": _READ + _WRITE}
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": _READ + _WRITE}
    roles = {"apiGroups": [GROUP], "resources": ["roles", "rolebindings"], "verbs": _READ + _WRITE}
    everything = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    paths = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ]
    own = [
        {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ]  # fmt: skip
    delegator = [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ]
    return [
        _role("cluster-admin", everything),
        _role("admin", [*edit, namespaces, secrets_, leases, roles]),
        _role("edit", [*edit, namespaces, secrets_, leases]),
        _role("view", [*view, namespaces]),
        _role("system:discovery", [{"nonResourceURLs": paths, "verbs": ["get"]}]),
        _role("system:basic-user", own),
        _role("system:auth-delegator", delegator),
        _binding("cluster-admin", MASTERS),
        _binding("system:discovery", "system:authenticated"),
        _binding("system:basic-user", "system:authenticated"),
    ]
