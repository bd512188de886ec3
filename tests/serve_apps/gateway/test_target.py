"""What a signal is about, by its labels alone: exporters are never the target, the best-named thing comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.shared import TargetResource
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
        pytest.param({"namespace": "shop", "event": "x", "lease": "y"}, [], id="words that mean something else"),
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
        pytest.param(TargetResource(kind="Nonsense", name="n"), [], id="a kind nobody knows"),
        pytest.param(TargetResource(kind="Pod", name="../etc"), [], id="a hostile name"),
    ],
)
def test_the_involved_object_is_taken_as_it_is(involved: TargetResource, expected: list[str]) -> None:
    """An event names its object outright; only what cannot be an object is dropped."""
    event = Signal("R", "kubernetes-event", "kubernetes-events", "warning", NOW, NOW, involved=involved)
    assert [str(c) for c in target.candidates(event, KINDS)] == expected


label_names = st.sampled_from(
    [*WORDS, *(f"exported_{w}" for w in WORDS), *NOT_TARGETS, "exported_namespace", "job", "instance", "workload"]
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
