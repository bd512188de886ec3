"""Defaults of the built-in kinds that people see or that clients read back, as kube-apiserver sets them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from kubernaut_ray.kube.embedded import quantity
from kubernaut_ray.kube.embedded.columns import at
from kubernaut_ray.kube.embedded.status import Obj


def _set(target: Obj, **values: Any) -> None:
    for key, value in values.items():
        target.setdefault(key, value)


def _container(container: Obj) -> None:
    image = container.get("image") or ""
    tag = image.rsplit("/", 1)[-1]
    latest = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
    _set(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for port in container.get("ports") or ():
        _set(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            _set(container[name], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if "httpGet" in container[name]:
                _set(container[name]["httpGet"], path="/", scheme="HTTP")
    limits, resources = at(container, "resources", "limits", missing={}), container["resources"]
    for key, value in limits.items():
        resources.setdefault("requests", {}).setdefault(key, value)


def pod_spec(spec: Obj, *, restart_policy: str = "Always") -> None:
    _set(
        spec,
        restartPolicy=restart_policy,
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if "serviceAccountName" in spec:
        _set(spec, serviceAccount=spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        _container(container)
    for volume in spec.get("volumes") or ():
        for source in ("configMap", "secret", "downwardAPI", "projected"):
            if source in volume:
                _set(volume[source], defaultMode=420)
        if len(volume) == 1:
            volume["emptyDir"] = {}


def quality_of_service(spec: Obj) -> str:
    """Return the pod's QoS class."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [c.get("resources") or {} for c in containers]
    if not any(r.get("limits") or r.get("requests") for r in resources):
        return "BestEffort"
    for r in resources:
        limits, requests = r.get("limits") or {}, r.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or quantity.parse(limits[name]) != quantity.parse(requests.get(name, limits[name])):
                return "Burstable"
    return "Guaranteed"


def _pod(pod: Obj, old: Obj | None) -> None:
    spec = pod["spec"]
    if old is None:
        _set(
            spec,
            serviceAccountName="default",
            enableServiceLinks=True,
            preemptionPolicy="PreemptLowerPriority",
            priority=0,
        )
    pod_spec(spec)
    if old is None:
        pod["status"] = {"phase": "Pending", "qosClass": quality_of_service(spec)}


def _template(obj: Obj, *, restart_policy: str = "Always") -> None:
    template = obj["spec"].get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        if isinstance(template.get("spec"), dict):
            pod_spec(template["spec"], restart_policy=restart_policy)


def _rolling() -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}


def _deployment(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    spec = obj["spec"]
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy=_rolling())
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(obj)


def _replica_set(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    _set(obj["spec"], replicas=1)
    _template(obj)


def _stateful_set(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    _set(
        obj["spec"],
        replicas=1,
        revisionHistoryLimit=10,
        podManagementPolicy="OrderedReady",
        updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"},
    )
    _template(obj)


def _daemon_set(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    _set(obj["spec"], revisionHistoryLimit=10, updateStrategy=strategy)
    _template(obj)


def _job(obj: Obj, old: Obj | None) -> None:
    spec = obj["spec"]
    _set(spec, backoffLimit=6, completionMode="NonIndexed", suspend=False, manualSelector=False)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _set(spec, parallelism=1)
    if old is None and "selector" not in spec and isinstance(spec.get("template"), dict):
        uid = obj["metadata"]["uid"]
        labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": obj["metadata"]["name"]}
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        metadata = spec["template"].setdefault("metadata", {})
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    _template(obj)


def _service(obj: Obj, old: Obj | None) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or ():
        _set(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if spec["type"] == "ExternalName":
        return
    _set(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if not spec.get("clusterIP"):
        kept = at(old, "spec", "clusterIP")
        digest = hashlib.sha256(obj["metadata"]["uid"].encode()).digest()
        spec["clusterIP"] = kept or f"10.96.{digest[0]}.{1 + digest[1] % 254}"
    _set(spec, clusterIPs=[spec["clusterIP"]])
    obj.setdefault("status", {"loadBalancer": {}})


def _secret(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        data.update({k: base64.b64encode(v.encode()).decode() for k, v in plain.items()})


def _namespace(obj: Obj, old: Obj | None) -> None:
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj["metadata"]["labels"] = {
        **(obj["metadata"].get("labels") or {}),
        "kubernetes.io/metadata.name": obj["metadata"].get("name", ""),
    }
    if old is None:
        obj["status"] = {"phase": "Active"}


def _pvc(obj: Obj, old: Obj | None) -> None:
    _set(obj["spec"], volumeMode="Filesystem")
    if old is None:
        obj["status"] = {"phase": "Pending"}


def _hpa(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    _set(obj["spec"], minReplicas=1, metrics=[cpu])


def _network_policy(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    spec = obj.setdefault("spec", {})
    _set(spec, podSelector={}, policyTypes=["Ingress", *(["Egress"] if "egress" in spec else [])])


def _role_binding(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    group = "rbac.authorization.k8s.io"
    _set(obj.get("roleRef") or {}, apiGroup=group)
    for subject in obj.get("subjects") or ():
        _set(subject, **({} if subject.get("kind") == "ServiceAccount" else {"apiGroup": group}))


def _event(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    _set(obj, source={}, reportingComponent="", reportingInstance="")


def _webhooks(obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    for webhook in obj.get("webhooks") or ():
        _set(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if obj["kind"] == "MutatingWebhookConfiguration":
            _set(webhook, reinvocationPolicy="Never")
        for rule in webhook.get("rules") or ():
            _set(rule, scope="*")
        if webhook["clientConfig"].get("service"):
            _set(webhook["clientConfig"]["service"], port=443)


DEFAULTS: dict[str, Callable[[Obj, Obj | None], None]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Service": _service,
    "Secret": _secret,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _pvc,
    "HorizontalPodAutoscaler": _hpa,
    "NetworkPolicy": _network_policy,
    "RoleBinding": _role_binding,
    "ClusterRoleBinding": _role_binding,
    "Event": _event,
    "MutatingWebhookConfiguration": _webhooks,
    "ValidatingWebhookConfiguration": _webhooks,
}
