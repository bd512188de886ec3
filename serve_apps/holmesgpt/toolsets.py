"""The tools that an investigation has: read-only looks at the cluster, and the workflow catalog.

Built anew for each investigation, because the catalog tool adds facts of the incident that a model neither sees nor may
choose (environment, priority, custom labels), and the labels detected on the target only where the resource that the model
asks about is provably related to it: wrong labels are worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from pydantic import Field

from kubernaut_ray.contracts.catalog import SearchFilters, SearchHit, SearchRequest, SearchResponse, Workflow
from kubernaut_ray.contracts.catalog_tools import (
    GET,
    GET_DESCRIPTION,
    SEARCH,
    SEARCH_DESCRIPTION,
    Arguments,
    CatalogQuery,
    RcaResource,
    Resource,
    hit_brief,
    signal_types,
    workflow_brief,
)
from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.crds.enums import Detection, Environment
from kubernaut_ray.crds.shared import DetectedLabels
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.toolbox import Tool

CLUSTER_SCOPED = {
    "node", "persistentvolume", "namespace", "clusterrole", "clusterrolebinding", "storageclass",
}  # fmt: skip


class Catalog(Protocol):
    """What of Data Storage an investigation uses."""

    async def search(self, request: SearchRequest) -> SearchResponse: ...

    async def workflow(self, workflow_id: str) -> Workflow | None: ...


class Listing(Arguments):
    kind: str
    namespace: str = ""
    """Empty for cluster-scoped kinds or for all namespaces."""
    label_selector: str = ""
    """For example app=shop,tier in (web)."""


class Events(Arguments):
    namespace: str
    names: tuple[str, ...] = ()
    """Objects by name; empty for every event of the namespace."""


class Logs(Arguments):
    namespace: str
    pod: str
    container: str = ""
    previous: bool = False
    """The run before the last restart."""
    lines: Annotated[int, Field(ge=1, le=500)] = 100


class Rollouts(Arguments):
    namespace: str
    deployment: str


class NodeName(Arguments):
    name: str


class NamespaceName(Arguments):
    namespace: str


class WorkflowId(Arguments):
    workflow_id: str


def cluster_tools(cluster: Cluster) -> tuple[Tool, ...]:
    """Return the looks at the cluster."""

    async def get(a: Resource) -> Any:
        return await cluster.get(a.kind, a.name, a.namespace)

    async def find(a: Listing) -> Any:
        return await cluster.find(a.kind, a.namespace, a.label_selector)

    async def pods(a: Resource) -> Any:
        return await cluster.pods(a.kind, a.name, a.namespace)

    async def events(a: Events) -> Any:
        return await cluster.events(a.namespace, a.names)

    async def logs(a: Logs) -> Any:
        return await cluster.logs(a.namespace, a.pod, a.container, previous=a.previous, lines=a.lines)

    async def rollouts(a: Rollouts) -> Any:
        return await cluster.rollouts(a.namespace, a.deployment)

    async def node(a: NodeName) -> Any:
        return await cluster.node(a.name)

    async def guards(a: NamespaceName) -> Any:
        return await cluster.guards(a.namespace)

    return (
        Tool("kubernetes_get", "Read one Kubernetes object (of a Secret only its keys).", Resource, get),
        Tool("kubernetes_list", "List objects of one kind, at most 50.", Listing, find),
        Tool("workload_pods", "Pods of a workload, of a node, or one pod: states, restarts, last terminations, limits.", Resource, pods),
        Tool("recent_events", "Recent Kubernetes events, newest first.", Events, events),
        Tool("pod_logs", "The last lines of a container's log; use previous=true after a crash.", Logs, logs),
        Tool("rollout_history", "Revisions of a Deployment, newest first, with what each changed.", Rollouts, rollouts),
        Tool("node_status", "Conditions, taints and capacity of a node.", NodeName, node),
        Tool("disruption_and_scaling", "PodDisruptionBudgets and HorizontalPodAutoscalers of a namespace.", NamespaceName, guards),
    )  # fmt: skip


@dataclass(slots=True)
class CatalogTools:
    """Search and look-up for one incident. ``found`` keeps what the searches returned, by workflow id."""

    catalog: Catalog
    request: IncidentRequest
    found: dict[str, SearchHit] = field(default_factory=dict)

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(SEARCH, SEARCH_DESCRIPTION, CatalogQuery, self._search),
            Tool(GET, GET_DESCRIPTION, WorkflowId, self._workflow),
        )

    async def search(self, query: CatalogQuery) -> tuple[SearchHit, ...]:
        """Search with the incident's own facts added, by one spelling of the signal type after the other."""
        filters = self._filters(query.rca_resource)
        hits: tuple[SearchHit, ...] = ()
        for signal_type in signal_types(query.rca_resource.signal_type):
            request = SearchRequest(
                query=query.query,
                filters=filters.model_copy(update={"signal_type": signal_type}),
                top_k=query.top_k,
                remediation_id=self.request.remediation_id,
            )
            hits = (await self.catalog.search(request)).hits
            if hits:
                break
        self.found.update({hit.workflow.workflow_id: hit for hit in hits})
        return hits

    async def _search(self, query: CatalogQuery) -> Any:
        return [hit_brief(hit) for hit in await self.search(query)]

    async def _workflow(self, asked: WorkflowId) -> Any:
        workflow = await self.catalog.workflow(asked.workflow_id)
        return workflow_brief(workflow) if workflow else None

    def _filters(self, resource: RcaResource) -> SearchFilters:
        environment = "" if self.request.environment == Environment.UNKNOWN else self.request.environment
        return SearchFilters(
            severity="" if self.request.severity == "unknown" else self.request.severity,
            component=resource.kind,
            environment=environment,
            priority=self.request.priority,
            custom_labels={k: tuple(v) for k, v in self.request.enrichment.custom_labels.items()},
            detected_labels=self._detected(resource),
        )

    def _detected(self, resource: RcaResource) -> dict[str, Any]:
        detected = self.request.enrichment.detected_labels
        if detected is None or not related(self.request, resource.kind, resource.name, resource.namespace):
            return {}
        return known_detections(detected)


def known_detections(detected: DetectedLabels) -> dict[str, Any]:
    """Return the detected labels in wire form without those whose detection failed (unknown is not false)."""
    unknown = {str(f) for f in detected.failed_detections}
    if Detection.GITOPS_MANAGED in detected.failed_detections:
        unknown.add("gitOpsTool")
    return {k: v for k, v in detected.to_object().items() if k != "failedDetections" and k not in unknown}


def related(request: IncidentRequest, kind: str, name: str, namespace: str) -> bool:
    """Whether what was detected on the target may be said of this resource too.

    Yes when it is the target or the signal's resource, when it is in the owner chain, or (fallback) of the target's kind in
    its namespace; never between a namespaced and a cluster-scoped resource.
    """
    wide = kind.lower() in CLUSTER_SCOPED
    here = "" if wide else namespace
    known = [(t.kind, t.name, t.namespace) for t in (request.target, request.signal_resource) if t is not None]
    known += [(o.kind, o.name, o.namespace) for o in request.enrichment.owner_chain]
    for other_kind, other_name, other_namespace in known:
        if (other_kind.lower() in CLUSTER_SCOPED) != wide or other_kind.lower() != kind.lower():
            continue
        if wide and other_name == name:
            return True
        if not wide and other_namespace == here:
            return True
    return False
