"""Checks of the built-in kinds beyond their schema: what kube-apiserver refuses and people run into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kubernaut_ray.kube.embedded import meta, quantity, webhook_checks
from kubernaut_ray.kube.embedded.columns import at
from kubernaut_ray.kube.embedded.status import (
    Cause,
    Obj,
    field_forbidden,
    invalid_value,
    required,
    unsupported,
)

_DATA_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")
DATA_LIMIT = 1024 * 1024


def _selects(selector: Any, labels: Mapping[str, str]) -> bool:
    for key, value in at(selector, "matchLabels", missing={}).items():
        if labels.get(key) != value:
            return False
    for expression in at(selector, "matchExpressions", missing=()):
        key, values = expression.get("key"), expression.get("values") or ()
        matches = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not matches.get(expression.get("operator"), False):
            return False
    return True


def pod_spec(spec: Any, path: str, *, restart: tuple[str, ...] = ("Always", "OnFailure", "Never")) -> list[Cause]:
    """Check a pod's spec."""
    if not isinstance(spec, Mapping):
        return [required(path)]
    causes: list[Cause] = []
    containers = spec.get("containers") or []
    if not containers:
        causes.append(required(f"{path}.containers"))
    seen: set[str] = set()
    volumes = {v.get("name") for v in spec.get("volumes") or ()}
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{i}]"
            name = container.get("name") or ""
            if not name:
                causes.append(required(f"{where}.name"))
            elif len(name) > 63 or not meta.DNS_LABEL.match(name):
                causes.append(invalid_value(f"{where}.name", name, "must be a lowercase RFC 1123 label"))
            elif name in seen:
                causes.append(Cause(f"{where}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
            seen.add(name)
            if not container.get("image"):
                causes.append(required(f"{where}.image"))
            causes += _container(container, where, volumes)
    if spec.get("restartPolicy") not in restart:
        causes.append(unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), restart))
    return causes


def _container(container: Obj, where: str, volumes: set[Any]) -> list[Cause]:
    causes: list[Cause] = []
    for i, env in enumerate(container.get("env") or ()):
        if not env.get("name"):
            causes.append(required(f"{where}.env[{i}].name"))
    for i, port in enumerate(container.get("ports") or ()):
        if not 0 < port.get("containerPort", 0) < 65536:
            causes.append(
                invalid_value(f"{where}.ports[{i}].containerPort", port.get("containerPort"), "must be between 1 and 65535, inclusive")
            )  # fmt: skip
    for i, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            causes.append(
                Cause(f"{where}.volumeMounts[{i}].name", "FieldValueNotFound", f'Not found: "{mount.get("name")}"')
            )
    requests, limits = (
        at(container, "resources", "requests", missing={}),
        at(container, "resources", "limits", missing={}),
    )
    for name, wanted in requests.items():
        if name in limits and quantity.parse(wanted) > quantity.parse(limits[name]):
            causes.append(
                invalid_value(f"{where}.resources.requests", wanted, f"must be less than or equal to {name} limit of {limits[name]}")
            )  # fmt: skip
    return causes


_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName", "schedulingGates")


def _frozen_pod(spec: Mapping[str, Any]) -> Obj:
    kept: Obj = {k: v for k, v in spec.items() if k not in _POD_MUTABLE}
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [{k: v for k, v in c.items() if k != "image"} for c in kept[field]]
    return kept


def _pod(pod: Obj, old: Obj | None) -> list[Cause]:
    causes = pod_spec(pod.get("spec"), "spec")
    if old is not None and _frozen_pod(pod.get("spec") or {}) != _frozen_pod(old["spec"]):
        causes.append(
            field_forbidden(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
                "`spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), "
                "`spec.terminationGracePeriodSeconds`",
            )
        )
    return causes


def _workload(
    *, frozen: tuple[str, ...] = ("selector",), restart: tuple[str, ...] = ("Always",)
) -> Callable[[Obj, Obj | None], list[Cause]]:
    def check(obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj.get("spec")
        if not isinstance(spec, Mapping):
            return [required("spec")]
        causes: list[Cause] = []
        selector, template = spec.get("selector"), spec.get("template")
        if not selector:
            causes.append(required("spec.selector"))
        elif not at(selector, "matchLabels") and not at(selector, "matchExpressions"):
            causes.append(invalid_value("spec.selector", selector, "empty selector is invalid for deployment"))
        labels = at(template, "metadata", "labels", missing={})
        if selector and not _selects(selector, labels):
            causes.append(
                invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
            )
        causes += meta.label_problems(labels, "spec.template.metadata.labels")
        causes += pod_spec(at(template, "spec"), "spec.template.spec", restart=restart)
        if spec.get("replicas", 1) < 0:
            causes.append(invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0"))
        if old is not None:
            causes += [
                invalid_value(f"spec.{f}", spec.get(f), "field is immutable") for f in frozen if spec.get(f) != old["spec"].get(f)
            ]  # fmt: skip
        return causes

    return check


def _data(obj: Obj, old: Obj | None) -> list[Cause]:
    causes: list[Cause] = []
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            if not _DATA_KEY.match(key):
                causes.append(
                    invalid_value(f"{field}[{key}]", key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'")
                )  # fmt: skip
            size += len(value)
    if size > DATA_LIMIT * (4 / 3 if obj.get("kind") == "Secret" else 1):
        causes.append(Cause("data", "FieldValueTooLong", f"Too long: may not be more than {DATA_LIMIT} bytes"))
    if (
        old is not None
        and old.get("immutable")
        and any(obj.get(f) != old.get(f) for f in ("data", "binaryData", "immutable"))
    ):
        causes.append(field_forbidden("data", "field is immutable when `immutable` is set"))
    if obj.get("kind") == "Secret" and old is not None and obj.get("type") != old.get("type"):
        causes.append(invalid_value("type", obj.get("type"), "field is immutable"))
    return causes


def _service(obj: Obj, old: Obj | None) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    types = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in types:
        causes.append(unsupported("spec.type", spec.get("type"), types))
    ports = spec.get("ports") or ()
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    for i, port in enumerate(ports):
        if not 0 < port.get("port", 0) < 65536:
            causes.append(
                invalid_value(f"spec.ports[{i}].port", port.get("port"), "must be between 1 and 65535, inclusive")
            )
        if len(ports) > 1 and not port.get("name"):
            causes.append(required(f"spec.ports[{i}].name"))
    before = at(old, "spec", "clusterIP")
    if before and spec.get("type") != "ExternalName" and spec.get("clusterIP") != before:
        causes.append(invalid_value("spec.clusterIP", spec.get("clusterIP"), "field is immutable"))
    return causes


def _hpa(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    spec = obj.get("spec") or {}
    causes = [required(f"spec.scaleTargetRef.{f}") for f in ("kind", "name") if not at(spec, "scaleTargetRef", f)]
    low, high = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if low < 1:
        causes.append(invalid_value("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        causes.append(invalid_value("spec.maxReplicas", high, "must be greater than 0"))
    elif high < low:
        causes.append(invalid_value("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    return causes


def _pdb(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        return [invalid_value("spec", {}, "minAvailable and maxUnavailable cannot be both set")]
    causes = []
    for field in ("minAvailable", "maxUnavailable"):
        value = spec.get(field)
        if (isinstance(value, int) and value < 0) or (isinstance(value, str) and not re.match(r"^\d+%$", value)):
            causes.append(
                invalid_value(f"spec.{field}", value, "must be a whole number or a percentage (e.g '1' or '15%')")
            )
    return causes


def _binding(obj: Obj, old: Obj | None) -> list[Cause]:
    causes: list[Cause] = []
    ref = obj.get("roleRef") or {}
    if not ref.get("name"):
        causes.append(required("roleRef.name"))
    kinds = ("ClusterRole", "Role") if obj.get("kind") == "RoleBinding" else ("ClusterRole",)
    if ref.get("kind") not in kinds:
        causes.append(unsupported("roleRef.kind", ref.get("kind"), kinds))
    for i, subject in enumerate(obj.get("subjects") or ()):
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            causes.append(unsupported(f"subjects[{i}].kind", subject.get("kind"), ("ServiceAccount", "User", "Group")))
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            causes.append(required(f"subjects[{i}].namespace"))
        if not subject.get("name"):
            causes.append(required(f"subjects[{i}].name"))
    if old is not None and ref != old.get("roleRef"):
        causes.append(invalid_value("roleRef", ref, "cannot change roleRef"))
    return causes


def _role(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    causes: list[Cause] = []
    for i, rule in enumerate(obj.get("rules") or ()):
        if not rule.get("verbs"):
            causes.append(required(f"rules[{i}].verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if obj.get("kind") == "Role":
                causes.append(
                    invalid_value(f"rules[{i}].nonResourceURLs", rule["nonResourceURLs"], "namespaced rules cannot apply to non-resource URLs")
                )  # fmt: skip
            continue
        if not rule.get("apiGroups"):
            causes.append(required(f"rules[{i}].apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            causes.append(required(f"rules[{i}].resources", "resource rules must supply at least one resource"))
    return causes


def _lease(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    spec = obj.get("spec") or {}
    causes = []
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        causes.append(
            invalid_value("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
        )
    if spec.get("leaseTransitions") is not None and spec["leaseTransitions"] < 0:
        causes.append(
            invalid_value("spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0")
        )
    return causes


def _event(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    about = at(obj, "involvedObject", "namespace", missing="")
    namespace = obj["metadata"].get("namespace", "")
    if about != namespace and not (about == "" and namespace in ("default", "kube-system")):
        return [invalid_value("involvedObject.namespace", about, "does not match event.namespace")]
    return []


CHECKS: dict[str, Callable[[Obj, Obj | None], list[Cause]]] = {
    "Pod": _pod,
    "Deployment": _workload(),
    "ReplicaSet": _workload(),
    "StatefulSet": _workload(frozen=("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")),
    "DaemonSet": _workload(),
    "Job": _workload(frozen=("selector", "template", "completionMode"), restart=("OnFailure", "Never")),
    "ConfigMap": _data,
    "Secret": _data,
    "Service": _service,
    "HorizontalPodAutoscaler": _hpa,
    "PodDisruptionBudget": _pdb,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "Role": _role,
    "ClusterRole": _role,
    "Lease": _lease,
    "Event": _event,
    "MutatingWebhookConfiguration": webhook_checks.problems,
    "ValidatingWebhookConfiguration": webhook_checks.problems,
}
