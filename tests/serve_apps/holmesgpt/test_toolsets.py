"""What the tools show of a cluster, and which facts of an incident a catalog search may use."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray.contracts.catalog import SearchResponse
from kubernaut_ray.contracts.catalog_tools import CatalogQuery, RcaResource
from kubernaut_ray.contracts.signal_words import canonical, keywords
from kubernaut_ray.crds.enums import Detection
from kubernaut_ray.crds.shared import DetectedLabels, KubernetesContext, OwnerEntry, TargetResource
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube import resources
from serve_apps.holmesgpt.cluster import Cluster, differences, label_selector
from serve_apps.holmesgpt.toolsets import CatalogTools, known_detections, related
from tests.serve_apps.holmesgpt.world import HEALTHY, NAMESPACE, crashed, incident

CHAIN = KubernetesContext(owner_chain=(OwnerEntry(kind="ReplicaSet", name="web-1", namespace=NAMESPACE),))
POD = TargetResource(kind="Pod", name="web-1-0", namespace=NAMESPACE)
NODE = TargetResource(kind="Node", name="n1")


@pytest.mark.parametrize(
    ("request_fields", "resource", "told"),
    [
        ({}, ("Deployment", "web", NAMESPACE), True),
        ({}, ("deployment", "web", NAMESPACE), True),
        ({}, ("Deployment", "other", NAMESPACE), True),
        ({}, ("Deployment", "web", "elsewhere"), False),
        ({}, ("Pod", "web-1-0", NAMESPACE), False),
        ({"signal_resource": POD}, ("Pod", "web-1-0", NAMESPACE), True),
        ({"enrichment": CHAIN}, ("ReplicaSet", "web-1", NAMESPACE), True),
        ({}, ("Node", "n1", ""), False),
        ({"target": NODE}, ("Node", "n1", ""), True),
        ({"target": NODE}, ("Node", "n2", ""), False),
        ({"target": NODE}, ("Pod", "web-1-0", NAMESPACE), False),
    ],
    ids=["the target", "in another case", "same kind and namespace", "another namespace", "an unproven pod", "the signal's pod",
         "in the owner chain", "a node for a workload", "the target node", "another node", "a pod for a node"],
)  # fmt: skip
def test_detected_labels_need_a_proven_relation(request_fields, resource, told):
    """What was detected on the target is said of nothing else; wrong labels are worse than none."""
    assert related(incident(**request_fields), *resource) is told


def test_failed_detections_are_unknown():
    """A failed detection is left out; a false one stays."""
    detected = DetectedLabels(failed_detections=(Detection.GITOPS_MANAGED,), git_ops_tool="flux", stateful=True)

    known = known_detections(detected)

    assert "gitOpsManaged" not in known
    assert "gitOpsTool" not in known
    assert known["stateful"] is True
    assert known["pdbProtected"] is False


class Asked:
    """A catalog that keeps its questions and never has an answer."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def search(self, request: Any) -> Any:
        self.requests.append(request)
        return SearchResponse(hits=(), total_matched=0, snapshot_version=1)

    async def workflow(self, workflow_id: str) -> None:
        return None


async def test_the_incident_adds_its_own_facts():
    """Environment, priority and custom labels are added; the remediation id only for the record; spellings are tried."""
    catalog = Asked()
    request = incident(enrichment=KubernetesContext(custom_labels={"team": ("shop",)}))
    query = CatalogQuery(
        query="memory",
        rca_resource=RcaResource(kind="Deployment", name="web", namespace=NAMESPACE, signal_type="KubePodCrashLooping"),
    )

    await CatalogTools(catalog, request).search(query)

    first = catalog.requests[0]
    assert (first.filters.environment, first.filters.priority, first.filters.severity) == ("staging", "P1", "critical")
    assert first.filters.custom_labels == {"team": ("shop",)}
    assert first.filters.component == "Deployment"
    assert first.remediation_id == request.remediation_id
    assert [r.filters.signal_type for r in catalog.requests] == ["CrashLoopBackOff", "KubePodCrashLooping", ""]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("OOMKilled", "OOMKilled"), ("oom-killed", "OOMKilled"), ("KubePodOOMKilled", "OOMKilled"), ("KubePodCrashLooping", "CrashLoopBackOff"),
     ("ShopCheckoutCrashLoopBackOff", "CrashLoopBackOff"), ("ErrImagePull", "ImagePullBackOff"), ("PDBBlocked", "PodDisruptionBudgetAtLimit"),
     ("SomethingOdd", "SomethingOdd"), ("", "")],
)  # fmt: skip
def test_signal_words(word, meant):
    """Alert names and spellings mean a canonical reason; what is not known stays."""
    assert canonical(word) == meant


@pytest.mark.parametrize(
    ("name", "words"),
    [("KubePodCrashLooping", {"kube", "pod", "crash", "looping"}), ("RelaxPDB", {"relax", "pdb"}), ("fix-pvc_v1", {"fix", "pvc", "v", "1"}),
     ("MEMORY_LIMIT", {"memory", "limit"})],
)  # fmt: skip
def test_keywords(name, words):
    """Words of names in any style."""
    assert keywords(name) == words


async def test_pods_in_brief(world):
    """States, restarts, last terminations and limits of each container."""
    world.deployment(crashed(restarts=3), HEALTHY)

    broken, healthy = await Cluster(world.kube).pods("Deployment", "web", NAMESPACE)

    (container,) = broken["containers"]
    assert (container["restarts"], container["waitingReason"], container["memoryLimit"]) == (
        3,
        "CrashLoopBackOff",
        "128Mi",
    )
    assert container["lastTermination"]["exitCode"] == 1
    assert healthy["containers"][0]["ready"]


async def test_rollouts_tell_what_changed(world):
    """Newest first, with the differences to the revision before; environment values stay hidden."""
    env = {"env": [{"name": "MODE", "value": "secret-mode"}], "image": "registry.local/web:2.0"}
    world.deployment(HEALTHY, revisions=({"env": [{"name": "MODE", "value": "old"}]}, env))

    newest, oldest = await Cluster(world.kube).rollouts(NAMESPACE, "web")

    assert (newest["revision"], oldest["revision"]) == (2, 1)
    assert "containers.app.image: registry.local/web:1.0 -> registry.local/web:2.0" in newest["changes"]
    assert "containers.app.env.MODE.value: changed" in newest["changes"]
    assert "secret-mode" not in str(newest)
    assert oldest["changes"] == []


async def test_secrets_are_never_read(world):
    """Of a Secret only its keys are told."""
    world.add(resources.SECRET, "db", {"data": {"password": "aHVudGVyMg=="}, "type": "Opaque"})

    found = await Cluster(world.kube).get("secret", "db", NAMESPACE)

    assert found == {"kind": "Secret", "metadata": {"name": "db"}, "keys": ["password"], "type": "Opaque"}
    assert "aHVudGVyMg" not in str(await Cluster(world.kube).find("Secret", NAMESPACE))


async def test_absence_is_an_answer(world):
    """What is not there is nothing, not an error; a kind that there is not is the asker's mistake."""
    cluster = Cluster(world.kube)

    assert await cluster.get("Deployment", "gone", NAMESPACE) is None
    assert await cluster.pods("Deployment", "gone", NAMESPACE) == []
    assert await cluster.rollouts(NAMESPACE, "gone") == []
    assert await cluster.node("gone") is None
    assert await cluster.logs(NAMESPACE, "gone", "", previous=True, lines=10) is None
    with pytest.raises(InvalidInput, match="no kind 'Flux'"):
        await cluster.get("Flux", "x")


async def test_events_newest_first(world):
    """Of the named objects only, in brief."""
    world.event("BackOff", "restarting", about="web-1-0", count=9)
    world.event("Other", "unrelated", about="somebody-else")

    (event,) = await Cluster(world.kube).events(NAMESPACE, ["web-1-0"])

    assert (event["reason"], event["count"], event["object"]) == ("BackOff", 9, "Pod/web-1-0")


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (None, ""),
        ({}, ""),
        ({"matchLabels": {"a": "b", "c": "d"}}, "a=b,c=d"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}, "a in (b,c)"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}]}, "a,!b"),
    ],
)
def test_label_selectors(selector, text):
    assert label_selector(selector) == text


def test_differences_of_lists_by_name():
    """Containers are compared by name, whatever their order."""
    old = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    new = {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}

    assert differences(old, new) == ["containers.b.image: 1 -> 2"]
