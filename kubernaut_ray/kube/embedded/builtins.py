"""The built-in kinds, a row each: names, columns, selectable fields and subresources."""

from __future__ import annotations

from kubernaut_ray.kube.embedded import columns
from kubernaut_ray.kube.embedded.builtin_rules import BuiltinRules
from kubernaut_ray.kube.embedded.kinds import ALL_VERBS, Column, Kind, Scale

_REVIEW = ("create",)


def _kind(
    group: str,
    version: str,
    plural: str,
    kind: str,
    shown: tuple[Column, ...],
    *,
    short: tuple[str, ...] = (),
    all_: bool = False,
    namespaced: bool = True,
    status: bool = False,
    scale: Scale | None = None,
    subresources: tuple[str, ...] = (),
    selectable: tuple[str, ...] = (),
    generation: bool = False,
    verbs: tuple[str, ...] = ALL_VERBS,
    dns_label: bool = False,
    loose_name: bool = False,
) -> Kind:
    return Kind(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        rules=BuiltinRules(group, version, kind),
        namespaced=namespaced,
        singular=kind.lower(),
        short_names=short,
        categories=("all",) if all_ else (),
        status=status,
        scale=scale,
        subresources=subresources,
        columns=shown,
        selectable=selectable,
        generation=generation,
        dns_label=dns_label,
        loose_name=loose_name,
        verbs=verbs,
    )


_EVENT_FIELDS = (
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
    "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
    "reportingComponent", "source", "type",
)  # fmt: skip
_POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.nominatedNodeName",
)  # fmt: skip


def builtin_kinds() -> tuple[Kind, ...]:
    """Return every built-in kind."""
    rbac, scale = "rbac.authorization.k8s.io", Scale()
    job_selector = ("status.successful",)
    return (
        _kind("", "v1", "namespaces", "Namespace", columns.NAMESPACE, short=("ns",), namespaced=False, status=True,
              selectable=("status.phase",), dns_label=True, subresources=("finalize",)),
        _kind("", "v1", "pods", "Pod", columns.POD, short=("po",), all_=True, status=True, selectable=_POD_FIELDS,
              subresources=("log", "eviction"), generation=True),
        _kind("", "v1", "services", "Service", columns.SERVICE, short=("svc",), all_=True, status=True, dns_label=True,
              selectable=("spec.clusterIP", "spec.type")),
        _kind("", "v1", "nodes", "Node", columns.NODE, short=("no",), namespaced=False, status=True,
              selectable=("spec.unschedulable",)),
        _kind("", "v1", "configmaps", "ConfigMap", columns.CONFIG_MAP, short=("cm",)),
        _kind("", "v1", "secrets", "Secret", columns.SECRET, selectable=("type",)),
        _kind("", "v1", "events", "Event", columns.EVENT, short=("ev",), selectable=_EVENT_FIELDS),
        _kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", columns.PVC, short=("pvc",), status=True),
        _kind("", "v1", "serviceaccounts", "ServiceAccount", columns.SERVICE_ACCOUNT, short=("sa",),
              subresources=("token",)),
        _kind("apps", "v1", "deployments", "Deployment", columns.DEPLOYMENT, short=("deploy",), all_=True, status=True,
              scale=scale, generation=True),
        _kind("apps", "v1", "replicasets", "ReplicaSet", columns.REPLICA_SET, short=("rs",), all_=True, status=True,
              scale=scale, generation=True, selectable=("status.replicas",)),
        _kind("apps", "v1", "statefulsets", "StatefulSet", columns.STATEFUL_SET, short=("sts",), all_=True, status=True,
              scale=scale, generation=True),
        _kind("apps", "v1", "daemonsets", "DaemonSet", columns.DAEMON_SET, short=("ds",), all_=True, status=True,
              generation=True),
        _kind("batch", "v1", "jobs", "Job", columns.JOB, all_=True, status=True, generation=True, selectable=job_selector),
        _kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", columns.HPA, short=("hpa",),
              all_=True, status=True),
        _kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", columns.PDB, short=("pdb",), status=True,
              generation=True),
        _kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", columns.NETWORK_POLICY, short=("netpol",),
              generation=True),
        _kind("coordination.k8s.io", "v1", "leases", "Lease", columns.LEASE),
        _kind(rbac, "v1", "roles", "Role", columns.CREATED_AT, loose_name=True),
        _kind(rbac, "v1", "rolebindings", "RoleBinding", columns.BINDING, loose_name=True),
        _kind(rbac, "v1", "clusterroles", "ClusterRole", columns.CREATED_AT, namespaced=False, loose_name=True),
        _kind(rbac, "v1", "clusterrolebindings", "ClusterRoleBinding", columns.BINDING, namespaced=False, loose_name=True),
        _kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", columns.CREATED_AT,
              short=("crd", "crds"), namespaced=False, status=True, generation=True),
        _kind("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
              columns.WEBHOOKS, namespaced=False, generation=True),
        _kind("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
              columns.WEBHOOKS, namespaced=False, generation=True),
        _kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", (), namespaced=False, verbs=_REVIEW),
        _kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", (), namespaced=False, verbs=_REVIEW),
        _kind("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", (), namespaced=False,
              verbs=_REVIEW),
        _kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", (), namespaced=False,
              verbs=_REVIEW),
        _kind("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", (), namespaced=False,
              verbs=_REVIEW),
        _kind("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", (), verbs=_REVIEW),
    )  # fmt: skip
