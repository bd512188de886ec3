"""Enrichment: what is read around each kind of target, and what every refusal of the API server means."""

from __future__ import annotations

import asyncio

import pytest

from actors.signal_processing.enrich import Enriched, Enricher, NotEnriched
from actors.signal_processing.reads import CONCURRENT_READS, DISCOVERY_SECONDS, Gaps, Reads
from kubernaut_ray.crds.enums import Detection, EnrichmentReason, TargetType
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.crds.signal_processing import SignalProcessingSpec
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import Forbidden
from tests import build
from tests.actors.signal_processing.cluster import (
    APP,
    DEPLOYMENT,
    HOME,
    POD,
    RefusingKube,
    event,
    obj,
    populate,
    template,
)
from tests.memory_kube import MemoryKube


@pytest.fixture
async def kube() -> MemoryKube:
    world = MemoryKube(lambda: build.NOW)
    await populate(world)
    return world


def spec(target: TargetResource, source: TargetResource | None = None, **signal: object) -> SignalProcessingSpec:
    made = build.signal_processing(build.remediation_request(spec={"target_resource": target}), phase=None).spec
    return made.replace(signal=made.signal.replace(signal_resource=source, **signal))


async def enrich(kube: MemoryKube, target: TargetResource, source: TargetResource | None = None) -> Enriched:
    found = await Enricher(kube).enrich(spec(target, source), 5)
    assert isinstance(found, Enriched)
    return found


async def test_a_deployment_is_seen_with_its_worst_pod_and_its_former_image(kube: MemoryKube) -> None:
    """The target is the top of the chain; the facts of the container that fails come along."""
    found = await enrich(kube, DEPLOYMENT)
    context = found.context
    assert found.reason is EnrichmentReason.ENRICHMENT_SUCCEEDED
    assert not context.degraded_mode
    assert context.namespace is not None
    assert context.namespace.labels == {"kubernaut.ai/environment": "staging"}
    assert context.deployment is not None
    assert context.deployment.facts == {
        "replicas": "2",
        "availableReplicas": "1",
        "ready": "1/2",
        "revision": "2",
        "conditions": "Available=False (MinimumReplicasUnavailable)",
        "container": "web",
        "image": "web:2",
        "previousImage": "web:1",
        "memoryLimit": "128Mi",
        "memoryRequest": "64Mi",
    }
    assert context.pod is not None
    assert context.pod.name == "web-2-a"
    assert context.pod.facts["lastTermination"] == "OOMKilled"
    assert context.node is not None
    assert context.node.facts == {"ready": "True", "conditions": "Ready=True", "capacity": "cpu=4, memory=8Gi"}
    assert context.owner_chain == ()


async def test_the_signals_own_pod_gives_the_owner_chain(kube: MemoryKube) -> None:
    """A signal about a healthy pod is about that pod, not about a worse one."""
    found = await enrich(kube, DEPLOYMENT, POD.replace(name="web-2-b"))
    context = found.context
    assert [f"{entry.kind}/{entry.name}" for entry in context.owner_chain] == ["ReplicaSet/web-2", "Deployment/web"]
    assert context.pod is not None
    assert context.pod.name == "web-2-b"
    assert context.replica_set is not None
    assert context.deployment is not None


async def test_a_pod_of_the_signal_that_is_gone_leaves_the_target(kube: MemoryKube) -> None:
    """Pods come and go; the Deployment is still there, and its worst pod tells the story."""
    found = await enrich(kube, DEPLOYMENT, POD.replace(name="web-1-gone"))
    assert not found.context.degraded_mode
    assert found.context.pod is not None
    assert found.context.pod.name == "web-2-a"


async def test_a_target_that_is_gone_is_degraded_mode_and_goes_on(kube: MemoryKube) -> None:
    """Nothing to see is no reason to stop; what is unknown is not detected."""
    found = await enrich(kube, DEPLOYMENT.replace(name="gone"))
    assert found.reason is EnrichmentReason.DEGRADED_MODE
    assert found.context.degraded_mode
    assert found.context.detected_labels is None
    assert found.context.namespace is not None
    assert "shop/deployment/gone was not found" in found.message


async def test_forbidden_reads_are_named_and_go_on(kube: MemoryKube) -> None:
    """RBAC that lacks a rule is a reason with a name and a remedy, not a crash and not a retry."""
    found = await enrich(RefusingKube(kube, forbidden=("nodes", "namespaces")), DEPLOYMENT)
    assert found.reason is EnrichmentReason.RBAC_DENIED
    assert "get namespaces, get nodes" in found.message
    assert found.context.deployment is not None
    assert found.context.namespace is None


@pytest.mark.parametrize("plural", ["namespaces", "deployments", "nodes"])
async def test_a_passing_fault_is_for_later(kube: MemoryKube, plural: str) -> None:
    """An API server that does not answer leaves nothing to go on with."""
    found = await Enricher(RefusingKube(kube, unavailable=(plural,))).enrich(spec(DEPLOYMENT), 5)
    assert isinstance(found, NotEnriched)
    assert found.reason is EnrichmentReason.API_TIMEOUT
    assert "connection refused" in found.message


async def test_side_queries_that_fail_are_failed_detections(kube: MemoryKube) -> None:
    """Unknown is not false, and one refused query does not cost the rest."""
    refusing = RefusingKube(kube, forbidden=("horizontalpodautoscalers",), unavailable=("networkpolicies", "events"))
    detected = (await enrich(refusing, DEPLOYMENT)).context.detected_labels
    assert detected is not None
    assert detected.failed_detections == (Detection.HPA_ENABLED, Detection.NETWORK_ISOLATED)
    assert detected.helm_managed
    assert detected.service_mesh == "istio"


async def test_budget_autoscaler_and_isolation_are_detected(kube: MemoryKube) -> None:
    """Each by a proven relation to the target's pods."""
    await kube.create(
        resources.PDB,
        obj("web", spec={"minAvailable": 2, "selector": {"matchLabels": APP}}, status={"disruptionsAllowed": 0}),
    )
    await kube.create(resources.HPA, obj("web", spec={"scaleTargetRef": {"kind": "Deployment", "name": "web"}}))
    await kube.create(resources.NETWORK_POLICY, obj("deny", spec={}))
    context = (await enrich(kube, DEPLOYMENT, POD)).context
    assert context.detected_labels is not None
    assert context.detected_labels.pdb_protected
    assert context.detected_labels.hpa_enabled
    assert context.detected_labels.network_isolated
    assert not context.detected_labels.stateful
    assert context.other is not None
    assert context.other.kind == "PodDisruptionBudget"
    assert context.other.facts["disruptionsAllowed"] == "0"


async def test_a_budget_leads_to_the_workload_that_it_holds(kube: MemoryKube) -> None:
    """A signal about a disruption budget is understood by the pods behind it."""
    budget = {"minAvailable": 2, "selector": {"matchLabels": APP}}
    await kube.create(resources.PDB, obj("web-pdb", spec=budget, status={"disruptionsAllowed": 0, "currentHealthy": 1}))
    target = TargetResource(api_version="policy/v1", kind="PodDisruptionBudget", name="web-pdb", namespace=HOME)
    context = (await enrich(kube, target)).context
    assert context.other is not None
    assert context.other.facts["minAvailable"] == "2"
    assert context.deployment is not None
    assert context.owner_chain == ()


async def test_an_autoscaler_leads_to_what_it_scales(kube: MemoryKube) -> None:
    """The scaled workload and its worst pod come along."""
    scaling = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5}
    await kube.create(resources.HPA, obj("web-hpa", spec=scaling, status={"currentReplicas": 5}))
    target = TargetResource(
        api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", name="web-hpa", namespace=HOME
    )
    context = (await enrich(kube, target)).context
    assert context.other is not None
    assert context.other.facts["maxReplicas"] == "5"
    assert context.deployment is not None
    assert context.pod is not None


@pytest.mark.parametrize(
    ("resource", "body", "fact"),
    [
        pytest.param(
            resources.PVC,
            {"spec": {"storageClassName": "ssd", "selector": {"matchLabels": APP}}, "status": {"phase": "Pending"}},
            ("phase", "Pending"),
            id="a volume claim, whose selector is about volumes",
        ),
        pytest.param(resources.JOB, {"status": {"failed": 3}, "spec": {"template": template()}}, ("failed", "3"), id="a job"),
        pytest.param(resources.CONFIG_MAP, {"data": {"a": "b"}}, None, id="a kind without facts of its own"),
    ],
)  # fmt: skip
async def test_other_kinds_are_described_in_other(kube: MemoryKube, resource, body, fact) -> None:
    """Every kind has at least its identity."""
    await kube.create(resource, obj("it", **body))
    target = TargetResource(api_version=resource.api_version, kind=resource.kind, name="it", namespace=HOME)
    context = (await enrich(kube, target)).context
    assert context.other is not None
    assert context.other.name == "it"
    assert fact is None or context.other.facts[fact[0]] == fact[1]
    assert context.pod is None


_CONTROLLED = {"selector": {"matchLabels": {"app": "db"}}, "template": template()}


@pytest.mark.parametrize(
    ("resource", "name", "spec", "slot", "fact"),
    [
        pytest.param(resources.POD, "web-2-b", None, "pod", ("phase", "Running"), id="Pod"),
        pytest.param(resources.DEPLOYMENT, "web", None, "deployment", ("ready", "1/2"), id="Deployment"),
        pytest.param(
            resources.STATEFUL_SET, "db", {"replicas": 3, **_CONTROLLED}, "stateful_set", ("replicas", "3"), id="StatefulSet"
        ),
        pytest.param(resources.DAEMON_SET, "log", _CONTROLLED, "daemon_set", ("image", "proxy:1"), id="DaemonSet"),
        pytest.param(resources.REPLICA_SET, "web-2", None, "replica_set", ("revision", "2"), id="ReplicaSet"),
        pytest.param(
            resources.SERVICE,
            "front",
            {"type": "ClusterIP", "selector": APP, "ports": [{"port": 80}]},
            "service",
            ("selector", "app=web"),
            id="Service",
        ),
        pytest.param(resources.NODE, "node-1", None, "node", ("ready", "True"), id="Node"),
        pytest.param(resources.CONFIG_MAP, "settings", {}, "other", None, id="any other kind"),
    ],
)  # fmt: skip
async def test_every_kind_of_target_has_its_place_and_its_namespace(
    kube: MemoryKube, resource, name, spec, slot, fact
) -> None:
    """Each of the kinds that enrichment knows, and any other."""
    if spec is not None:
        await kube.create(resource, obj(name, spec=spec))
    home = HOME if resource.namespaced else ""
    found = await enrich(
        kube, TargetResource(api_version=resource.api_version, kind=resource.kind, name=name, namespace=home)
    )
    described = getattr(found.context, slot)
    assert found.reason is EnrichmentReason.ENRICHMENT_SUCCEEDED
    assert (described.kind, described.name) == (resource.kind, name)
    assert fact is None or described.facts[fact[0]] == fact[1]
    assert (found.context.namespace is not None) == resource.namespaced
    assert found.context.detected_labels is not None


async def test_a_pod_as_the_target_has_its_owners_and_its_node(kube: MemoryKube) -> None:
    """Where nobody resolved the owner, the chain does it; every link says where it lives."""
    context = (await enrich(kube, POD)).context
    assert [(e.namespace, e.kind, e.name) for e in context.owner_chain] == [
        (HOME, "ReplicaSet", "web-2"),
        (HOME, "Deployment", "web"),
    ]
    assert context.node is not None
    assert context.deployment is not None


async def test_a_service_leads_to_its_worst_pod(kube: MemoryKube) -> None:
    """A plain selector, as Services have, finds the pods behind it and the workload behind these."""
    await kube.create(resources.SERVICE, obj("front", spec={"selector": APP}))
    context = (
        await enrich(kube, TargetResource(api_version="v1", kind="Service", name="front", namespace=HOME))
    ).context
    assert context.pod is not None
    assert context.pod.name == "web-2-a"
    assert context.deployment is not None


async def test_events_of_a_node_are_found_in_whatever_namespace_they_lie(kube: MemoryKube) -> None:
    """A node has no namespace; the kubelet writes its events into default."""
    await event(kube, "n", "Node", "node-1", minute=1, message="not ready", home="default")
    context = (await enrich(kube, TargetResource(api_version="v1", kind="Node", name="node-1"))).context
    assert [line.partition("Z ")[2] for line in context.recent_events] == ["Warning BackOff Node/node-1: not ready"]


async def test_a_look_upwards_that_fails_leaves_the_chain_as_far_as_it_came(kube: MemoryKube) -> None:
    """The owner that could not be read still has its name; the fault is told, and nothing is tried again for it."""
    found = await enrich(RefusingKube(kube, unavailable=("deployments",)), POD)
    assert [e.name for e in found.context.owner_chain] == ["web-2", "web"]
    assert found.context.deployment is None
    assert found.reason is EnrichmentReason.ENRICHMENT_SUCCEEDED
    assert "the owner shop/deployment/web: deployments: connection refused" in found.message


@pytest.mark.parametrize(
    ("plural", "named", "failed"),
    [
        pytest.param("deployments", "get deployments", None, id="the target itself"),
        pytest.param("namespaces", "get namespaces", None, id="its namespace"),
        pytest.param("nodes", "get nodes", None, id="the node"),
        pytest.param("pods", "list pods", None, id="its pods"),
        pytest.param("replicasets", "get replicasets, list replicasets", None, id="its revisions"),
        pytest.param("events", "list events", None, id="its events"),
        pytest.param("poddisruptionbudgets", "list poddisruptionbudgets", Detection.PDB_PROTECTED, id="budgets"),
        pytest.param(
            "horizontalpodautoscalers", "list horizontalpodautoscalers", Detection.HPA_ENABLED, id="autoscalers"
        ),
        pytest.param("networkpolicies", "list networkpolicies", Detection.NETWORK_ISOLATED, id="network policies"),
    ],
)
async def test_every_right_that_is_missing_is_named(
    kube: MemoryKube, plural: str, named: str, failed: Detection | None
) -> None:
    """One word for the condition, the verb and resource to grant in its message, and the detection that it costs."""
    found = await enrich(RefusingKube(kube, forbidden=(plural,)), DEPLOYMENT)
    assert found.reason is EnrichmentReason.RBAC_DENIED
    assert f"not allowed: {named}" in found.message
    detected = found.context.detected_labels
    assert found.context.degraded_mode is (plural == "deployments")
    assert detected is None or detected.failed_detections == ((failed,) if failed else ())


async def test_discovery_that_is_forbidden_is_a_named_reason(kube: MemoryKube) -> None:
    """A target of a kind that only discovery could find."""

    class Closed(RefusingKube):
        async def discover(self):
            raise Forbidden("discovery is forbidden", status=403, reason="Forbidden")

    found = await enrich(Closed(kube), TargetResource(kind="Widget", name="w", namespace=HOME))
    assert found.reason is EnrichmentReason.RBAC_DENIED
    assert "discover the API's kinds" in found.message


async def test_unknown_kinds_do_not_ask_discovery_each_time(kube: MemoryKube) -> None:
    """A storm about things that do not exist must not become a storm on the API server."""
    asked = 0

    class Counting(RefusingKube):
        async def discover(self):
            nonlocal asked
            asked += 1
            return await super().discover()

    now = 0.0
    reads = Reads(Counting(kube), monotonic=lambda: now)
    for _ in range(20):
        assert await reads.resource("", "Gadget", Gaps()) is None
    assert asked == 1
    now += DISCOVERY_SECONDS
    assert await reads.resource("", "Gadget", Gaps()) is None
    assert asked == 2


async def test_reads_are_bounded_over_all_objects_of_the_controller(kube: MemoryKube) -> None:
    """Fifty enrichments at once, never more reads in flight than the bound."""
    flying = most = 0

    class Watched(RefusingKube):
        async def get(self, *args, **kw):
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(0)
            try:
                return await super().get(*args, **kw)
            finally:
                flying -= 1

    enricher = Enricher(Watched(kube))
    found = await asyncio.gather(*(enricher.enrich(spec(DEPLOYMENT, POD), 30) for _ in range(50)))
    assert all(isinstance(one, Enriched) for one in found)
    assert 1 < most <= CONCURRENT_READS


async def test_a_stateful_set_and_a_node_fill_their_own_slots(kube: MemoryKube) -> None:
    """Named kinds have named places; a node has no namespace."""
    selector = {"matchLabels": {"app": "db"}}
    await kube.create(resources.STATEFUL_SET, obj("db", spec={"replicas": 1, "selector": selector}))
    target = TargetResource(api_version="apps/v1", kind="StatefulSet", name="db", namespace=HOME)
    context = (await enrich(kube, target)).context
    assert context.stateful_set is not None
    assert context.detected_labels is not None
    assert context.detected_labels.stateful
    context = (await enrich(kube, TargetResource(api_version="v1", kind="Node", name="node-1"))).context
    assert context.node is not None
    assert context.namespace is None
    assert not context.degraded_mode


async def test_a_kind_that_the_api_does_not_know_is_not_found(kube: MemoryKube) -> None:
    """Discovery is asked; what it does not list does not exist."""
    found = await enrich(RefusingKube(kube), TargetResource(kind="Gadget", name="g", namespace=HOME))
    assert found.reason is EnrichmentReason.DEGRADED_MODE


async def test_a_custom_kind_is_found_through_discovery(kube: MemoryKube) -> None:
    """Operators have kinds of their own."""
    refusing = RefusingKube(kube)
    await enrich(refusing, TargetResource(kind="Widget", name="w", namespace=HOME))
    widget = TargetResource(api_version="example.org/v1", kind="Widget", name="w", namespace=HOME)
    assert (await enrich(refusing, widget)).context.degraded_mode  # known, but there is none
    await kube.create((await refusing.discover())[0], obj("w"))
    assert not (await enrich(refusing, widget)).context.degraded_mode


async def test_owner_chains_end_after_five_links(kube: MemoryKube) -> None:
    """However deep somebody nests, the look upwards is bounded; a missing owner still has its name in the chain."""
    owner = None
    for depth in range(9):
        owner = await kube.create(resources.CONFIG_MAP, obj(f"c{depth}", owner=owner))
    target = TargetResource(api_version="v1", kind="ConfigMap", name="c8", namespace=HOME)
    assert [e.name for e in (await enrich(kube, target)).context.owner_chain] == ["c7", "c6", "c5", "c4", "c3"]
    gone = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "gone", "uid": "u"}}
    await kube.create(resources.POD, obj("orphan", owner=gone))
    chain = (await enrich(kube, POD.replace(name="orphan"))).context.owner_chain
    assert [(e.kind, e.name) for e in chain] == [("ReplicaSet", "gone")]


async def test_events_are_short_recent_and_without_secrets(kube: MemoryKube) -> None:
    """Newest first, about the target and its relatives only."""
    await event(kube, "old", "Pod", "web-2-a", minute=1, message="Back-off restarting", count=5)
    await event(kube, "new", "Deployment", "web", minute=2, message="scaled\nwith password=hunter2")
    await event(kube, "far", "Pod", "elsewhere", minute=3, message="not ours")
    lines = (await enrich(kube, DEPLOYMENT, POD)).context.recent_events
    assert lines[1] == "2026-03-01T12:01:00Z Warning BackOff Pod/web-2-a ×5: Back-off restarting"
    assert lines[0].startswith("2026-03-01T12:02:00Z Warning BackOff Deployment/web: scaled with password=")
    assert "hunter2" not in lines[0]
    assert len(lines) == 2


async def test_annotations_lose_their_secrets(kube: MemoryKube) -> None:
    """The context goes into prompts and audit."""
    deployment = (await enrich(kube, DEPLOYMENT)).context.deployment
    assert deployment is not None
    assert "hunter2" not in str(deployment.annotations)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"target_type": TargetType.AWS}, id="a target outside Kubernetes"),
        pytest.param({}, id="not asked for"),
    ],
)
async def test_without_a_cluster_to_look_at_nothing_is_read(kube: MemoryKube, change: dict[str, object]) -> None:
    """Degraded at once, with no request to the API server."""
    asked = spec(DEPLOYMENT, **change)
    if not change:
        asked = asked.replace(enrichment_config=asked.enrichment_config.replace(enable_cluster_state=False))
    refusing = RefusingKube(kube)
    found = await Enricher(refusing).enrich(asked, 5)
    assert isinstance(found, Enriched)
    assert found.context.degraded_mode
    assert refusing.read == []


async def test_an_enrichment_that_takes_too_long_is_given_up(kube: MemoryKube) -> None:
    """The deadline is named."""

    class Slow(RefusingKube):
        async def get(self, *args, **kw):
            await asyncio.sleep(30)

    found = await Enricher(Slow(kube)).enrich(spec(DEPLOYMENT), 0.02)
    assert isinstance(found, NotEnriched)
    assert "not done within 0.02 s" in found.message
