"""Which object a workflow acts on. It is resolved from the incident, never taken from a model's word.

Normally that is the incident's target. A workflow may be made for another kind (a pod of the Deployment, the node below it);
then the resource that the answer blames is accepted, but only when the cluster proves that it belongs to the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.crds.shared import TargetResource
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.toolsets import CLUSTER_SCOPED

KIND = "TARGET_RESOURCE_KIND"


def accepted_kinds(workflow: Workflow) -> frozenset[str]:
    """The kinds that a workflow says it acts on, in lower case; empty when it does not say."""
    parameter = next((p for p in workflow.parameters if p.name == KIND), None)
    return frozenset(k.lower() for k in parameter.enum) if parameter else frozenset()


def choose_target(workflow: Workflow, options: Sequence[TargetResource | None]) -> TargetResource | None:
    """Return the first resource that the workflow acts on; ``None`` when there is none."""
    parameter = next((p for p in workflow.parameters if p.name == KIND), None)
    kinds = {k.lower(): k for k in parameter.enum} if parameter else {}
    chosen = next((t for t in options if t is not None and (not kinds or t.kind.lower() in kinds)), None)
    return chosen.replace(kind=kinds[chosen.kind.lower()]) if chosen is not None and kinds else chosen


async def resolve_target(
    workflow: Workflow, request: IncidentRequest, blamed: TargetResource | None, cluster: Cluster
) -> TargetResource | None:
    """Return what the workflow acts on in this incident; ``None`` when nothing of the incident is of its kind."""
    chosen = choose_target(workflow, (request.target,))
    if chosen is not None:
        return chosen
    if blamed is not None and not blamed.namespace and blamed.kind.lower() not in CLUSTER_SCOPED:
        blamed = blamed.replace(namespace=request.target.namespace)
    proven = blamed if blamed is not None and await belongs(request, blamed, cluster) else None
    chain = [
        TargetResource(api_version=o.api_version, kind=o.kind, name=o.name, namespace=o.namespace)
        for o in request.enrichment.owner_chain
    ]
    return choose_target(workflow, (proven, request.signal_resource, *chain))


def known(request: IncidentRequest, blamed: TargetResource) -> bool:
    """Whether a resource is the target, what the signal named, in the owner chain, or the enriched pod."""
    same = [(t.kind, t.name) for t in (request.target, request.signal_resource) if t is not None]
    same += [(o.kind, o.name) for o in request.enrichment.owner_chain]
    pod = request.enrichment.pod
    same += [("Pod", pod.name)] if pod else []
    return any(blamed.kind.lower() == kind.lower() and blamed.name == name for kind, name in same)


async def belongs(request: IncidentRequest, blamed: TargetResource, cluster: Cluster) -> bool:
    """Whether the cluster shows that a resource belongs to the target: its pod, their node, budget, claim or autoscaler."""
    if known(request, blamed):
        return True
    target = request.target
    kind = blamed.kind.lower()
    if kind != "node" and blamed.namespace not in ("", target.namespace):
        return False
    if kind == "horizontalpodautoscaler":
        scaler = await cluster.get("HorizontalPodAutoscaler", blamed.name, blamed.namespace)
        ref = ((scaler or {}).get("spec") or {}).get("scaleTargetRef") or {}
        return bool((ref.get("kind"), ref.get("name")) == (target.kind, target.name))
    pods = await cluster.pods(target.kind, target.name, target.namespace)
    match kind:
        case "pod":
            return any(p["name"] == blamed.name for p in pods)
        case "node":
            # A pod without a node waits for any of them.
            return any(p["node"] in (blamed.name, "") for p in pods)
        case "persistentvolumeclaim":
            return any(blamed.name in p["claims"] for p in pods)
        case "poddisruptionbudget":
            budget = await cluster.get("PodDisruptionBudget", blamed.name, blamed.namespace)
            return budget is not None and any(selects(budget, p["labels"]) for p in pods)
        case _:
            return False


def selects(budget: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a PodDisruptionBudget's ``matchLabels`` select a pod with these labels."""
    wanted = ((budget.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(k) == v for k, v in wanted.items())
