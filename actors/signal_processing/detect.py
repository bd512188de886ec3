"""What the cluster says about how a workload is run: GitOps, disruption budgets, autoscaling, state, Helm, isolation, mesh.

Pure. A query that failed is passed as ``None``, and its label is then reported as failed: unknown, not false. Wrong labels
are worse than none, so a relation counts only when it is proven (a selector that matches, a reference that names).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernaut_ray.crds.enums import Detection
from kubernaut_ray.crds.shared import DetectedLabels, OwnerEntry
from kubernaut_ray.kube.client import Object

Found = Sequence[Object] | None
"""What a query returned; ``None`` when it failed."""


def detect(
    *,
    owners: Sequence[OwnerEntry],
    target_kind: str,
    labels: Sequence[Mapping[str, str]],
    annotations: Sequence[Mapping[str, str]],
    namespace: Object | None,
    pod_labels: Mapping[str, str],
    budgets: Found,
    autoscalers: Found,
    isolations: Found,
) -> DetectedLabels:
    """``labels`` and ``annotations`` are those of the target, its pods and its owners; ``owners`` includes the target."""
    home = (namespace or {}).get("metadata") or {}
    tool = _gitops(labels, annotations, home.get("labels") or {}, home.get("annotations") or {})
    failed = [
        detection
        for detection, found in (
            (Detection.PDB_PROTECTED, budgets),
            (Detection.HPA_ENABLED, autoscalers),
            (Detection.NETWORK_ISOLATED, isolations),
        )
        if found is None
    ]
    return DetectedLabels(
        failed_detections=tuple(failed),
        git_ops_managed=bool(tool),
        git_ops_tool=tool,
        pdb_protected=any(selects(budget, pod_labels) for budget in budgets or ()),
        hpa_enabled=any(scales(autoscaler, owners) for autoscaler in autoscalers or ()),
        stateful=target_kind == "StatefulSet" or any(owner.kind == "StatefulSet" for owner in owners),
        helm_managed=any(
            found.get("app.kubernetes.io/managed-by") == "Helm" or "helm.sh/chart" in found for found in labels
        ),
        network_isolated=bool(isolations),
        service_mesh=_mesh(annotations),
    )


def selects(obj: Object, labels: Mapping[str, str]) -> bool:
    """Whether ``spec.selector`` matches these pod labels. A missing selector selects nothing, and so do no labels."""
    selector = (obj.get("spec") or {}).get("selector")
    if selector is None or not labels:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(term, labels) for term in selector.get("matchExpressions") or ()
    )


def scales(autoscaler: Object, owners: Sequence[OwnerEntry]) -> bool:
    """Whether an autoscaler names one of these objects."""
    target = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
    return any((owner.kind, owner.name) == (target.get("kind"), target.get("name")) for owner in owners)


def _holds(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = term.get("key", ""), term.get("values") or ()
    match term.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def _gitops(
    labels: Sequence[Mapping[str, str]],
    annotations: Sequence[Mapping[str, str]],
    home_labels: Mapping[str, str],
    home_annotations: Mapping[str, str],
) -> str:
    everywhere = (*labels, *annotations, home_labels)
    if any("argocd.argoproj.io/instance" in found or "argocd.argoproj.io/tracking-id" in found for found in everywhere):
        return "argocd"
    if any(
        "fluxcd.io/sync-gc-mark" in found
        or any(key.startswith(("kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/")) for key in found)
        for found in everywhere
    ):
        return "flux"
    if "argocd.argoproj.io/managed" in home_annotations:
        return "argocd"
    return "flux" if "fluxcd.io/sync-status" in home_annotations else ""


def _mesh(annotations: Sequence[Mapping[str, str]]) -> str:
    if any("sidecar.istio.io/status" in found for found in annotations):
        return "istio"
    return "linkerd" if any("linkerd.io/proxy-version" in found for found in annotations) else ""
