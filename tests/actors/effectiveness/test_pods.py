"""Facts from objects as kubelets and controllers write them."""

from __future__ import annotations

from typing import Any

from actors.effectiveness import pods
from kubernaut_ray.clock import rfc3339
from tests import build


def deployment(*, replicas: int = 2, ready: int = 2, generation: int = 3, observed: int = 3, **status: Any) -> Any:
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "generation": generation},
        "spec": {
            "replicas": replicas,
            "selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "canary", "operator": "DoesNotExist"},
                ],
            },
        },
        "status": {"observedGeneration": observed, "readyReplicas": ready, "updatedReplicas": replicas, **status},
    }


def pod(name: str, *containers: dict[str, Any], **metadata: Any) -> Any:
    return {
        "metadata": {"name": name, **metadata},
        "status": {"phase": "Running", "containerStatuses": list(containers)},
    }


def ended(reason: str, seconds: float, *, waiting: str = "") -> dict[str, Any]:
    """A container whose last run ended so many seconds after the execution."""
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    finished = {"reason": reason, "exitCode": 137, "finishedAt": rfc3339(build.later(seconds))}
    return {"name": "app", "state": state, "lastState": {"terminated": finished}}


def test_a_workload_that_is_well() -> None:
    """Counts come from the workload's status, trouble from its pods."""
    found = pods.read(deployment(), [pod("web-1"), pod("web-2")], build.NOW)
    assert (found.desired, found.ready, found.settled, found.coming_up) == (2, 2, True, False)


def test_what_happened_before_the_execution_ended_is_the_incident() -> None:
    """Only later endings count against the repair."""
    found = pods.read(deployment(), [pod("web-1", ended("OOMKilled", -5)), pod("web-2", ended("Error", 5))], build.NOW)
    assert (found.oom_killed, found.restarted) == ((), ("web-2",))


def test_killed_again_and_looping() -> None:
    """The repair did not hold."""
    found = pods.read(deployment(ready=1), [pod("web-1", ended("OOMKilled", 9, waiting="CrashLoopBackOff"))], build.NOW)
    assert (found.oom_killed, found.crash_looping, found.coming_up) == (("web-1",), ("web-1",), False)


def test_pods_that_are_leaving_do_not_count() -> None:
    """A terminating pod of the old template may crash as it likes."""
    going = pod("old", ended("OOMKilled", 9, waiting="CrashLoopBackOff"), deletionTimestamp=rfc3339(build.NOW))
    assert pods.read(deployment(), [going], build.NOW).crash_looping == ()


def test_a_roll_out_under_way_is_coming_up() -> None:
    """The controller has not seen the present spec, or not updated all pods: a later look may find it well."""
    assert pods.read(deployment(observed=2), [], build.NOW).coming_up
    assert pods.read(deployment(updatedReplicas=1), [], build.NOW).coming_up


def test_a_daemon_set_counts_nodes() -> None:
    """Its words differ."""
    status = {"observedGeneration": 1, "desiredNumberScheduled": 3, "numberReady": 2, "updatedNumberScheduled": 3}
    found = pods.read({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": status}, [], build.NOW)
    assert (found.desired, found.ready) == (3, 2)


def test_a_workload_nobody_reports_on() -> None:
    """Without a controller its state is not known; that is not the same as broken."""
    assert pods.reported(deployment())
    assert not pods.reported({"kind": "Deployment", "metadata": {}, "spec": {"replicas": 2}})


def test_the_selector_as_text() -> None:
    """Labels and expressions, as the API server takes them."""
    assert pods.selector(deployment()) == "app=web,tier in (a,b),!canary"
