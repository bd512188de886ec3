"""What a signal is about, by its labels alone: exporters are never the target, the best-named thing comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway import target
from serve_apps.gateway.kinds import NOT_TARGETS, WORDS, Kinds
from serve_apps.gateway.signal import Signal
from tests.build import NOW

KINDS = Kinds(
    [
        Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
        Resource("kafka.strimzi.io", "v1beta2", "kafkas", "Kafka"),
        Resource("events.k8s.io", "v1", "events", "Event"),
        Resource("cluster.x-k8s.io", "v1beta1", "clusters", "Cluster"),
        Resource("postgresql.cnpg.io", "v1", "clusters", "Cluster"),
        Resource("cert-manager.io", "v1", "clusterissuers", "ClusterIssuer", namespaced=False),
        Resource("", "v1", "pods", "Pod"),
    ]
)


def signal(**labels: str) -> Signal:
    return Signal("A", "prometheus-alert", "alertmanager", "warning", NOW, NOW, labels={"alertname": "A", **labels})


def named(**labels: str) -> list[str]:
    return [str(c) for c in target.candidates(signal(**labels), KINDS)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({"namespace": "shop", "pod": "web-1"}, ["shop/pod/web-1"], id="a pod"),
        pytest.param({"pod": "web-1"}, ["default/pod/web-1"], id="no namespace means default"),
        pytest.param(
            {"namespace": "shop", "deployment": "web", "pod": "web-1", "node": "n1"},
            ["shop/pod/web-1", "shop/deployment/web", "node/n1"],
            id="pod, workload, node: in this order",
        ),
        pytest.param({"node": "n1", "namespace": "x"}, ["node/n1"], id="a node has no namespace"),
        pytest.param({"node": "10.0.0.1:9100"}, [], id="an address is no node name"),
        pytest.param(
            {"namespace": "shop", "job_name": "backup"}, ["shop/job/backup"], id="a job, by kube-state-metrics"
        ),
        pytest.param({"namespace": "shop", "job": "api", "instance": "1.2.3.4:80"}, [], id="job is the scrape job"),
        pytest.param(
            {"namespace": "shop", "service": "web"}, ["shop/service/web"], id="a service where nothing was scraped"
        ),
        pytest.param(
            {"namespace": "shop", "service": "web", "endpoint": "http", "pod": "web-1"},
            ["shop/pod/web-1"],
            id="a scraped service is scrape metadata",
        ),
        pytest.param(
            {
                "namespace": "monitoring",
                "pod": "kube-state-metrics-0",
                "service": "kube-state-metrics",
                "job": "kube-state-metrics",
                "exported_namespace": "shop",
                "exported_pod": "web-1",
            },
            ["shop/pod/web-1"],
            id="exported labels beat the exporter's",
        ),
        pytest.param(
            {"namespace": "monitoring", "pod": "ksm-0", "exported_namespace": "shop", "deployment": "web"},
            ["shop/deployment/web"],
            id="with exported_namespace the plain pod is the exporter",
        ),
        pytest.param(
            {"namespace": "shop", "deployment": "web", "pod": "kube-state-metrics-x", "job": "kube-state-metrics"},
            ["shop/deployment/web", "shop/pod/kube-state-metrics-x"],
            id="honor_labels: kube-state-metrics' own pod comes last",
        ),
        pytest.param(
            {"namespace": "monitoring", "pod": "node-exporter-abc", "job": "node-exporter", "instance": "n1:9100"},
            [],
            id="an exporter does not ask for its own remediation",
        ),
        pytest.param(
            {"namespace": "db", "pod": "postgres-0", "job": "postgres-exporter"},
            ["db/pod/postgres-0"],
            id="an exporter beside its subject names the subject",
        ),
        pytest.param(
            {"namespace": "shop", "workload": "web", "workload_type": "deployment"},
            ["shop/deployment/web"],
            id="kind and name in two labels",
        ),
        pytest.param({"namespace": "shop", "kafka": "orders"}, ["shop/kafka/orders"], id="a kind known by discovery"),
        pytest.param(
            {"namespace": "shop", "cluster": "main"},
            ["shop/cluster/main", "shop/cluster/main"],
            id="a kind that several groups have is a guess at each",
        ),
        pytest.param(
            {"namespace": "shop", "clusterissuer": "x"}, ["clusterissuer/x"], id="a cluster-scoped custom kind"
        ),
        pytest.param({"namespace": "shop", "event": "x", "lease": "y"}, [], id="words that mean something else"),
        pytest.param(
            {"namespace": "shop", "statefulset": "b", "deployment": "z", "daemonset": "a"},
            ["shop/daemonset/a", "shop/deployment/z", "shop/statefulset/b"],
            id="one tier: by the label's name",
        ),
        pytest.param(
            {"namespace": "shop", "deployment": "exporter", "exported_deployment": "web"},
            ["shop/deployment/web"],
            id="an exported label beats its plain twin, whatever it names",
        ),
        pytest.param(
            {"namespace": "shop", "workload": "web"},
            [
                "shop/deployment/web",
                "shop/statefulset/web",
                "shop/daemonset/web",
                "shop/cronjob/web",
                "shop/job/web",
                "shop/pod/web",
            ],
            id="a workload of unknown kind",
        ),
        pytest.param(
            {"namespace": "shop", "workload": "web", "workload_type": "<none>", "pod": "web-1"},
            [
                "shop/pod/web-1",
                "shop/deployment/web",
                "shop/statefulset/web",
                "shop/daemonset/web",
                "shop/cronjob/web",
                "shop/job/web",
            ],
            id="what is named comes before guesses",
        ),
        pytest.param(
            {
                "k8s.namespace.name": "shop",
                "k8s.deployment.name": "web",
                "k8s.pod.name": "web-1",
                "k8s.node.name": "n1",
            },
            ["shop/pod/web-1", "shop/deployment/web", "node/n1"],
            id="OpenTelemetry's words, with dots",
        ),
        pytest.param({"k8s_namespace_name": "shop", "k8s_pod_name": "web-1"}, ["shop/pod/web-1"], id="and underscores"),
        pytest.param({"namespace": "shop", "pod": "web..1"}, [], id="two dots in a row"),
        pytest.param({"namespace": "shop", "pod": "web.-1"}, [], id="a hyphen after a dot"),
        pytest.param({"namespace": "shop", "pod": "a" * 254}, [], id="a name too long"),
        pytest.param({"namespace": "shop", "pod": "web.1"}, ["shop/pod/web.1"], id="a dot is allowed in a name"),
        pytest.param({"namespace": "shop.eu", "pod": "web-1"}, ["default/pod/web-1"], id="but not in a namespace"),
        pytest.param({"namespace": "n" * 64, "pod": "web-1"}, ["default/pod/web-1"], id="a namespace too long"),
        pytest.param({"namespace": "shop", "pod": "Not_A_Name"}, [], id="not a Kubernetes name"),
        pytest.param({"namespace": "Bad NS", "pod": "web-1"}, ["default/pod/web-1"], id="not a namespace name"),
        pytest.param({"team": "x"}, [], id="nothing is named"),
    ],
)
def test_candidates(labels: dict[str, str], expected: list[str]) -> None:
    """Each set of labels names these things, best first."""
    assert named(**labels) == expected


def test_a_guess_is_not_certain() -> None:
    """A kind known from discovery only counts once its object has been found."""
    (kafka,) = target.candidates(signal(namespace="shop", kafka="orders"), KINDS)
    (pod,) = target.candidates(signal(namespace="shop", pod="web-1"), KINDS)
    assert (kafka.certain, pod.certain) == (False, True)


@pytest.mark.parametrize(
    ("involved", "expected"),
    [
        pytest.param(TargetResource(kind="Pod", name="p", namespace="shop"), ["shop/pod/p"], id="namespaced"),
        pytest.param(TargetResource(kind="Node", name="n", namespace="x"), ["node/n"], id="cluster-scoped"),
        pytest.param(
            TargetResource(kind="Rollout", name="r", namespace="s", api_version="argoproj.io/v1alpha1"),
            ["s/rollout/r"],
            id="custom kind by its group",
        ),
        pytest.param(
            TargetResource(kind="pods", name="p", namespace="s", api_version="v1"), ["s/pod/p"], id="a plural"
        ),
        pytest.param(
            TargetResource(kind="Cluster", name="c", namespace="s", api_version="postgresql.cnpg.io/v1"),
            ["s/cluster/c"],
            id="the right one of two groups",
        ),
        pytest.param(
            TargetResource(kind="Cluster", name="c", namespace="s", api_version="other.example/v1"),
            [],
            id="never one of another group",
        ),
        pytest.param(TargetResource(kind="Nonsense", name="n"), [], id="a kind nobody knows"),
        pytest.param(TargetResource(kind="Pod", name="../etc"), [], id="a hostile name"),
        pytest.param(TargetResource(kind="Pod", name="p", namespace="../../nodes"), [], id="a hostile namespace"),
    ],
)
def test_the_involved_object_is_taken_as_it_is(involved: TargetResource, expected: list[str]) -> None:
    """An event names its object outright; only what cannot be an object is dropped."""
    event = Signal("R", "kubernetes-event", "kubernetes-events", "warning", NOW, NOW, involved=involved)
    assert [str(c) for c in target.candidates(event, KINDS)] == expected


def test_the_group_given_is_the_one_taken() -> None:
    """Two groups have a kind Cluster: the object is of the group that the source named, and a label guesses at both."""
    involved = TargetResource(kind="Cluster", name="c", namespace="s", api_version="postgresql.cnpg.io/v1")
    event = Signal("R", "kubernetes-event", "kubernetes-events", "warning", NOW, NOW, involved=involved)
    (one,) = target.candidates(event, KINDS)
    both = target.candidates(signal(namespace="s", cluster="c"), KINDS)

    assert one.resource.group == "postgresql.cnpg.io"
    assert [c.resource.group for c in both] == ["cluster.x-k8s.io", "postgresql.cnpg.io"]
    assert not any(c.certain for c in both)


def test_a_source_s_unknown_object_leaves_it_to_the_labels() -> None:
    """A subject that is no Kubernetes object does not hide the labels that name one."""
    involved = TargetResource(kind="orders", name="4711")
    one = Signal("R", "x", "x", "warning", NOW, NOW, involved=involved, labels={"namespace": "shop", "pod": "web-1"})
    assert [str(c) for c in target.candidates(one, KINDS)] == ["shop/pod/web-1"]


def test_well_known_kinds_stay_what_others_compare_with() -> None:
    """Discovery does not replace the constants."""
    assert KINDS.of_kind("Pod", "v1") is resources.POD
    assert KINDS.of_kind("pod") is resources.POD


@given(st.permutations(["pod", "deployment", "daemonset", "node", "kafka", "cluster", "workload", "exported_pod"]))
def test_the_order_of_labels_does_not_matter(order: list[str]) -> None:
    """The same labels name the same things in the same order."""
    assert named(**dict.fromkeys(order, "x")) == named(**dict.fromkeys(sorted(order), "x"))


label_names = st.sampled_from(
    [
        *WORDS,
        *(f"exported_{w}" for w in WORDS),
        *NOT_TARGETS,
        "exported_namespace",
        "job",
        "instance",
        "workload",
        "namespace",
        "workload_type",
        "k8s.pod.name",
        "cluster",
    ]
) | st.text(max_size=12)
values = st.sampled_from(["web", "web-1", "deployment", "Pod", "", "n1:9100", "kube-state-metrics"]) | st.text(
    max_size=12
)


@given(st.dictionaries(label_names, values, max_size=8))
def test_no_labels_crash(labels: dict[str, str]) -> None:
    """Whatever the labels, candidates are few, distinct, validly named, and in the order of their tiers."""
    found = target.candidates(signal(**labels), KINDS)
    assert len(found) <= target.MAX_CANDIDATES
    assert len({(c.resource, c.name) for c in found}) == len(found)
    assert [c.tier for c in found] == sorted(c.tier for c in found)
    assert all(bool(c.namespace) == c.resource.namespaced for c in found)
