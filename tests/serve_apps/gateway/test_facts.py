"""What is kept of an object, also when it is badly written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubernaut_ray.kube import resources
from serve_apps.gateway import facts
from serve_apps.gateway.facts import Facts, NodeFacts, Owner, PodFacts
from tests.build import NOW

STAMP = "2026-03-01T12:00:00Z"


def reference(kind: str, *, controller: bool = True) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u-o", "controller": controller}


def ready(status: str, stamp: object = STAMP) -> dict[str, Any]:
    return {"conditions": [{"type": "X"}, {"type": "Ready", "status": status, "lastTransitionTime": stamp}]}


def test_a_pod() -> None:
    """Its controller among its owners, its node, and whether it is ready since when."""
    pod = {
        "metadata": {
            "name": "p",
            "uid": "u",
            "creationTimestamp": STAMP,
            "deletionTimestamp": STAMP,
            "labels": {"pod-template-hash": "7d", "kubernaut.ai/managed": "true"},
            "ownerReferences": [reference("ConfigMap", controller=False), reference("ReplicaSet")],
        },
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running"} | ready("False"),
    }

    assert facts.of(resources.POD, pod) == PodFacts(
        "u",
        Owner("apps/v1", "ReplicaSet", "o", "u-o"),
        "true",
        node="n1",
        ready_since=NOW,
        created=NOW,
        leaving=True,
        template_hash="7d",
    )


@pytest.mark.parametrize(
    ("status", "wanting"),
    [
        pytest.param({"phase": "Running"} | ready("True"), False, id="ready"),
        pytest.param({"phase": "Running"} | ready("False"), True, id="not ready"),
        pytest.param({"phase": "Running"} | ready("Unknown"), True, id="unknown"),
        pytest.param({"phase": "Pending"}, True, id="nothing said yet"),
        pytest.param({"phase": "Succeeded"} | ready("False"), False, id="done"),
        pytest.param({"phase": "Failed"} | ready("False"), False, id="evicted"),
        pytest.param(None, True, id="no status"),
    ],
)
def test_which_pods_want_for_something(status: dict[str, Any] | None, wanting: bool) -> None:
    """A pod that ran to its end is not expected to be ready."""
    pod = facts.of(resources.POD, {"metadata": {"name": "p"}, "status": status})
    assert isinstance(pod, PodFacts)
    assert pod.wanting is wanting


@pytest.mark.parametrize(
    ("kind", "unique"), [("ReplicaSet", True), ("DaemonSet", True), ("Job", True), ("StatefulSet", False), ("", False)]
)
def test_whose_pod_names_return(kind: str, unique: bool) -> None:
    """A StatefulSet and a person use a pod's name again, the others never do."""
    owners = [reference(kind)] if kind else []
    pod = facts.of(resources.POD, {"metadata": {"name": "p", "ownerReferences": owners}})
    assert isinstance(pod, PodFacts)
    assert pod.name_is_unique is unique


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ready("True"), NodeFacts("u", ready=True, ready_since=NOW)),
        (ready("False"), NodeFacts("u", ready=False, ready_since=NOW)),
        (ready("Unknown", "2026-03-01T13:00:00+01:00"), NodeFacts("u", ready=False, ready_since=NOW)),
        (ready("False", "yesterday"), NodeFacts("u", ready=False)),
        (ready("False", None), NodeFacts("u", ready=False)),
        ({}, NodeFacts("u")),
        (None, NodeFacts("u")),
    ],
)
def test_a_node(status: dict[str, Any] | None, expected: NodeFacts) -> None:
    """Unknown is not ready; a node that has not reported yet is no lost node."""
    assert facts.of(resources.NODE, {"metadata": {"name": "n", "uid": "u"}, "status": status}) == expected


def test_anything_else() -> None:
    """A kind of another group that is called Pod is no pod."""
    other = resources.Resource("example.org", "v1", "pods", "Pod")
    assert facts.of(other, {"metadata": {"name": "x", "uid": "u", "ownerReferences": None}}) == Facts("u")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"matchLabels": {"a": "1", "b": "2"}}, "a=1,b=2"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, "a in (1,2)"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, "a notin (1)"),
        (
            {
                "matchLabels": {"c": "3"},
                "matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}],
            },
            "c=3,a,!b",
        ),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}, ""),
        ({}, ""),
        (None, ""),
        ("app=web", ""),
    ],
)
def test_selectors(selector: object, expected: str) -> None:
    """What cannot be written as a selector selects nothing, rather than too much."""
    assert facts.selector({"spec": {"selector": selector}}) == expected


def test_instants_are_in_utc() -> None:
    """A time with an offset is the same instant."""
    node = facts.of(resources.NODE, {"metadata": {"name": "n"}, "status": ready("False", "2026-03-01T11:00:00-01:30")})
    assert isinstance(node, NodeFacts)
    assert node.ready_since == NOW + timedelta(minutes=30)
