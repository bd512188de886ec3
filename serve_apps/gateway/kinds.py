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
    "k8s_pod_name": (POD, resources.POD),
    "deployment": (WORKLOAD, resources.DEPLOYMENT),
    "statefulset": (WORKLOAD, resources.STATEFUL_SET),
    "daemonset": (WORKLOAD, resources.DAEMON_SET),
    "replicaset": (WORKLOAD, resources.REPLICA_SET),
    "replicationcontroller": (WORKLOAD, REPLICATION_CONTROLLER),
    "job_name": (WORKLOAD, resources.JOB),
    "cronjob": (WORKLOAD, CRON_JOB),
    "k8s_deployment_name": (WORKLOAD, resources.DEPLOYMENT),
    "k8s_statefulset_name": (WORKLOAD, resources.STATEFUL_SET),
    "k8s_daemonset_name": (WORKLOAD, resources.DAEMON_SET),
    "k8s_replicaset_name": (WORKLOAD, resources.REPLICA_SET),
    "k8s_job_name": (WORKLOAD, resources.JOB),
    "k8s_cronjob_name": (WORKLOAD, CRON_JOB),
    "horizontalpodautoscaler": (OTHER, resources.HPA),
    "hpa": (OTHER, resources.HPA),
    "poddisruptionbudget": (OTHER, resources.PDB),
    "persistentvolumeclaim": (OTHER, resources.PVC),
    "ingress": (OTHER, INGRESS),
    "service": (OTHER, resources.SERVICE),
    "node": (NODE, resources.NODE),
    "kubernetes_node": (NODE, resources.NODE),
    "k8s_node_name": (NODE, resources.NODE),
    "persistentvolume": (NODE, PERSISTENT_VOLUME),
}

ANY_WORKLOAD = (
    resources.DEPLOYMENT,
    resources.STATEFUL_SET,
    resources.DAEMON_SET,
    CRON_JOB,
    resources.JOB,
    resources.POD,
)
"""What a name that is of some workload may be, likeliest first; a bare pod is called so, too, where nothing owns it."""

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
        well_known = {r.kind: r for r in (*resources.BY_KIND.values(), *(r for _, r in WORDS.values()))}
        self._by_group: dict[tuple[str, str], Resource] = {}
        self._by_kind: dict[str, Resource] = {}
        guesses: dict[str, list[Resource]] = {}
        for resource in (*well_known.values(), *sorted(discovered, key=_preference)):
            kind = resource.kind.lower()
            if (resource.group, kind) not in self._by_group and _remediable(resource):
                guesses.setdefault(kind, []).append(resource)
            if self._by_group.get((resource.group, kind)) == resource:
                continue  # Well known and discovered alike: it stays the one object that others compare with.
            for word in (kind, resource.plural):
                self._by_group[resource.group, word] = resource
                self._by_kind.setdefault(word, resource)
        self._of_word = {word: tuple((GUESS, r) for r in found) for word, found in guesses.items()}
        self._of_word |= {word: (known,) for word, known in WORDS.items()}

    def of_word(self, word: str) -> tuple[tuple[int, Resource], ...]:
        """Return (tier, resource) of everything that this label word may name: of several groups, if they share a kind."""
        return self._of_word.get(word, ())

    def of_kind(self, kind: str, api_version: str = "") -> Resource | None:
        """Return the resource of a kind or a plural, in any case, in the group of ``api_version`` when that is given."""
        if api_version:
            group = api_version.partition("/")[0] if "/" in api_version else ""
            return self._by_group.get((group, kind.lower()))
        return self._by_kind.get(kind.lower())


def _remediable(resource: Resource) -> bool:
    kind = resource.kind.lower()
    return resource.group != names.GROUP and kind not in NOT_TARGETS and not kind.endswith("review")


def _preference(resource: Resource) -> tuple[int, str]:
    rank = _GROUP_ORDER.index(resource.group) if resource.group in _GROUP_ORDER else len(_GROUP_ORDER)
    return rank, resource.group
