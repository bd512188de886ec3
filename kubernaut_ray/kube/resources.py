"""The resources we talk about, by group, version and plural; ours are derived from the CRD models."""

from __future__ import annotations

from dataclasses import dataclass

from kubernaut_ray import crds, names


@dataclass(frozen=True, slots=True)
class Resource:
    """A REST resource: enough to build its paths. ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """``/api/v1`` or ``/apis/GROUP/VERSION``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, of one object, or of one of its subresources."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def of(model: type[crds.CustomResource]) -> Resource:
    """Return the resource of one of our kinds."""
    return Resource(names.GROUP, names.VERSION, model.META.plural, model.kind())


REMEDIATION_REQUEST = of(crds.RemediationRequest)
SIGNAL_PROCESSING = of(crds.SignalProcessing)
AI_ANALYSIS = of(crds.AIAnalysis)
APPROVAL_REQUEST = of(crds.RemediationApprovalRequest)
WORKFLOW_EXECUTION = of(crds.WorkflowExecution)
EFFECTIVENESS_ASSESSMENT = of(crds.EffectivenessAssessment)
NOTIFICATION_REQUEST = of(crds.NotificationRequest)
REMEDIATION_WORKFLOW = of(crds.RemediationWorkflow)
SILENCE = of(crds.Silence)

NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
POD = Resource("", "v1", "pods", "Pod")
SERVICE = Resource("", "v1", "services", "Service")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SECRET = Resource("", "v1", "secrets", "Secret")
EVENT = Resource("", "v1", "events", "Event")
PVC = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SET = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMON_SET = Resource("apps", "v1", "daemonsets", "DaemonSet")
JOB = Resource("batch", "v1", "jobs", "Job")
HPA = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
PDB = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
PIPELINE = Resource("tekton.dev", "v1", "pipelines", "Pipeline")
TASK = Resource("tekton.dev", "v1", "tasks", "Task")
PIPELINE_RUN = Resource("tekton.dev", "v1", "pipelineruns", "PipelineRun")
TASK_RUN = Resource("tekton.dev", "v1", "taskruns", "TaskRun")
CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
TOKEN_REVIEW = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
SUBJECT_ACCESS_REVIEW = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
ROLE = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")

BY_KIND: dict[str, Resource] = {
    r.kind: r
    for r in (
        *(of(k) for k in crds.SERVED),
        NAMESPACE, POD, SERVICE, NODE, CONFIG_MAP, SECRET, EVENT, PVC, SERVICE_ACCOUNT,
        DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB, HPA, PDB, NETWORK_POLICY, LEASE,
        PIPELINE, TASK, PIPELINE_RUN, TASK_RUN, CRD, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING,
        MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS,
    )
}  # fmt: skip
"""The well-known kinds; anything else is found through discovery."""
