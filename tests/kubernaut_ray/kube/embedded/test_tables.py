"""What kubectl get shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubernaut_ray.kube.embedded.builtins import builtin_kinds
from kubernaut_ray.kube.embedded.columns import human_duration, pod_status
from kubernaut_ray.kube.embedded.tables import columns_of, table

KINDS = {k.kind: k for k in builtin_kinds()}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 120, "3h2m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    """As apimachinery's HumanDuration."""
    assert expected == human_duration(seconds)


def container(**state: Any) -> dict[str, Any]:
    return {"name": "c", "state": state, "ready": "running" in state, "restartCount": 0}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({"status": {"phase": "Running", "containerStatuses": [container(running={})]}}, "Running"),
        ({"status": {"phase": "Pending"}}, "Pending"),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, "Evicted"),
        (
            {"status": {"phase": "Running", "containerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]}},
            "CrashLoopBackOff",
        ),
        (
            {
                "status": {
                    "phase": "Running",
                    "containerStatuses": [container(terminated={"reason": "OOMKilled", "exitCode": 137})],
                }
            },
            "OOMKilled",
        ),
        ({"status": {"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 3})]}}, "ExitCode:3"),
        ({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}, "Terminating"),
        (
            {
                "spec": {"initContainers": [{}, {}]},
                "status": {
                    "phase": "Pending",
                    "initContainerStatuses": [container(terminated={"exitCode": 0}), container(running={})],
                },
            },
            "Init:1/2",
        ),
    ],
)
def test_pod_status(pod: dict[str, Any], expected: str) -> None:
    """The most telling reason wins."""
    assert expected == pod_status({"metadata": {}, **pod})


def cells(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    body = {"apiVersion": "v1", "kind": kind, **obj, "metadata": {"name": "n", **obj.get("metadata", {})}}
    made = table(KINDS[kind], [body], {}, include="None")
    return dict(zip((c["name"] for c in made["columnDefinitions"]), made["rows"][0]["cells"], strict=True))


def test_every_kind_renders_a_bare_object() -> None:
    """No missing field makes a table fall over."""
    for kind in KINDS.values():
        row = table(kind, [{"metadata": {"name": "n"}}], {}, include="Object")["rows"][0]
        assert len(columns_of(kind)) == len(row["cells"])


def test_cells() -> None:
    """The columns that people read."""
    ago = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pod = {
        "metadata": {"creationTimestamp": ago},
        "spec": {"containers": [{}, {}], "nodeName": "n1"},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [
                {
                    "ready": True,
                    "restartCount": 2,
                    "lastState": {"terminated": {"finishedAt": ago}},
                    "state": {"running": {}},
                }
            ],
        },
    }
    shown = cells("Pod", pod)
    assert tuple(shown[k] for k in ("Ready", "Status", "Restarts", "Age", "Node")) == (
        "1/2",
        "Running",
        "2 (5m ago)",
        "5m",
        "n1",
    )
    deployment = {"spec": {"replicas": 3}, "status": {"readyReplicas": 2, "updatedReplicas": 3}}
    shown = cells("Deployment", deployment)
    assert tuple(shown[k] for k in ("Ready", "Up-to-date", "Available")) == ("2/3", 3, 0)
    service = {
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
        }
    }
    assert cells("Service", service)["Port(s)"] == "80/TCP,53/UDP"
    node = {"spec": {"unschedulable": True}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert cells("Node", node)["Status"] == "Ready,SchedulingDisabled"
