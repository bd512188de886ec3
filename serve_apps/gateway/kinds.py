"""Which kinds there are, and what label words name them: the well-known ones, and whatever the API's discovery lists.

A word of a well-known kind is taken at its word. A kind known from discovery only is a guess, since a label ``workflow`` or
``lease`` may mean anything: it counts only once an object of that name has been found.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubernaut_ray import names
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.resources import Resource

CRON_JOB = Resource("batch", "v1", "cronjobs", "CronJob")
REPLICATION_CONTROLLER = Resource("", "v1", "replicationcontrollers", "ReplicationController")
INGRESS = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
PERSISTENT_VOLUME = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)

POD, WORKLOAD, OTHER, NODE, GUESS = range(5)
"""Tiers: what a signal that names several things is about, first one first."""

WORDS: dict[str, tuple[int, Resource]] = {
    "pod": (POD, resources.POD),
    "pod_name": (POD, resources.POD),
    "kubernetes_pod_name": (POD, resources.POD),
    "deployment": (WORKLOAD, resources.DEPLOYMENT),
    "statefulset": (WORKLOAD, resources.STATEFUL_SET),
    "daemonset": (WORKLOAD, resources.DAEMON_SET),
    "replicaset": (WORKLOAD, resources.REPLICA_SET),
    "replicationcontroller": (WORKLOAD, REPLICATION_CONTROLLER),
    "job_name": (WORKLOAD, resources.JOB),
    "cronjob": (WORKLOAD, CRON_JOB),
    "horizontalpodautoscaler": (OTHER, resources.HPA),
    "hpa": (OTHER, resources.HPA),
    "poddisruptionbudget": (OTHER, resources.PDB),
    "persistentvolumeclaim": (OTHER, resources.PVC),
    "ingress": (OTHER, INGRESS),
    "service": (OTHER, resources.SERVICE),
    "node": (NODE, resources.NODE),
    "persistentvolume": (NODE, PERSISTENT_VOLUME),
}

NOT_TARGETS = frozenset(
    {"binding", "componentstatus", "controllerrevision", "customresourcedefinition", "endpoints", "endpointslice"}
    | {"event", "job", "lease", "namespace", "role", "rolebinding", "clusterrole", "clusterrolebinding", "secret"}
    | {"configmap", "serviceaccount", "apiservice", "priorityclass", "storageclass", "podtemplate", "limitrange"}
)
"""Words that alerts use for something else, or kinds whose objects nobody remediates."""

_GROUP_ORDER = ("", "apps", "batch", "autoscaling", "policy", "networking.k8s.io")


class Kinds:
    """The kinds of one API server. Where several groups have one kind, core and apps win, then the alphabet."""

    def __init__(self, discovered: Iterable[Resource] = ()) -> None:
        known = {r.kind: r for r in (*resources.BY_KIND.values(), *(r for _, r in WORDS.values()))}
        self._by_kind: dict[str, Resource] = known
        self._by_group: dict[tuple[str, str], Resource] = {(r.group, r.kind): r for r in known.values()}
        for resource in sorted(discovered, key=_preference):
            self._by_kind.setdefault(resource.kind, resource)
            self._by_group[resource.group, resource.kind] = resource
        self._guesses = {
            r.kind.lower(): r
            for r in self._by_kind.values()
            if r.group != names.GROUP and r.kind.lower() not in NOT_TARGETS and not r.kind.endswith("Review")
        }

    def of_word(self, word: str) -> tuple[int, Resource] | None:
        """Return tier and resource that this label word names, or ``None``."""
        if (known := WORDS.get(word)) is not None:
            return known
        guess = self._guesses.get(word)
        return (GUESS, guess) if guess is not None else None

    def of_kind(self, kind: str, api_version: str = "") -> Resource | None:
        """Return the resource of a kind (any case when no group is given), in the group of ``api_version``."""
        if api_version:
            group = api_version.partition("/")[0] if "/" in api_version else ""
            return self._by_group.get((group, kind))
        return self._by_kind.get(kind) or next((r for k, r in self._by_kind.items() if k.lower() == kind.lower()), None)


def _preference(resource: Resource) -> tuple[int, str]:
    rank = _GROUP_ORDER.index(resource.group) if resource.group in _GROUP_ORDER else len(_GROUP_ORDER)
    return rank, resource.group
