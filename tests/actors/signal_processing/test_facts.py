"""Facts: the few lines that tell what is wrong, read from whatever an object happens to hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.signal_processing import facts
from tests.actors.signal_processing.cluster import obj, pod_status, template

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def pod(name: str = "p", **status: Any) -> dict[str, Any]:
    return obj(name, spec=template()["spec"], status=pod_status(**status))


def test_a_pod_tells_of_its_worst_container() -> None:
    """Not of the sidecar that happens to come first."""
    told = facts.related("Pod", pod(restarts=7, reason="OOMKilled", waiting="CrashLoopBackOff")).facts
    assert told == {
        "phase": "Running",
        "ready": "1/2",
        "restarts": "7",
        "lastTermination": "OOMKilled",
        "lastExitCode": "137",
        "waitingReason": "CrashLoopBackOff",
        "conditions": "Ready=False (ContainersNotReady)",
        "container": "web",
        "image": "web:2",
        "memoryLimit": "128Mi",
        "memoryRequest": "64Mi",
    }


def test_a_pod_that_cannot_be_scheduled_says_why() -> None:
    """The scheduler's own words."""
    why = "0/3 nodes are available: 3 Insufficient memory."
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}],
    }
    assert facts.related("Pod", obj("p", spec=template()["spec"], status=status)).facts["unschedulable"] == why


def test_the_worst_pod_is_the_one_that_fails_loudest() -> None:
    """An error that waits, then a bad end, then restarts; the name settles the rest."""
    calm, restarted = pod("a"), pod("b", restarts=9)
    killed, crashing = pod("c", restarts=1, reason="OOMKilled"), pod("d", restarts=1, waiting="ImagePullBackOff")
    assert facts.worst_pod([calm, restarted, killed, crashing]) is crashing
    assert facts.worst_pod([calm, restarted, killed]) is killed
    assert facts.worst_pod([restarted, calm]) is restarted
    assert facts.worst_pod([]) is None


@pytest.mark.parametrize(
    ("revisions", "expected"),
    [
        pytest.param([("1", "web:1"), ("2", "web:2")], "web:1", id="the revision before"),
        pytest.param([("1", "web:0"), ("2", "web:1"), ("3", "web:2")], "web:1", id="the newest of several"),
        pytest.param([("1", "web:2"), ("2", "web:2")], "", id="the image did not change"),
        pytest.param([("2", "web:2")], "", id="nothing older"),
    ],
)
def test_the_previous_image_is_of_an_older_revision(revisions: list[tuple[str, str]], expected: str) -> None:
    """What a roll-back would go back to."""
    newest = revisions[-1][0]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "uid": "u", "annotations": {facts.REVISION: newest}},
        "spec": {"template": template()},
    }
    sets = [
        obj(f"w{n}", owner=deployment, annotations={facts.REVISION: n}, spec={"template": template(image)})
        for n, image in revisions
    ]
    foreign = obj("other", annotations={facts.REVISION: "1"}, spec={"template": template("evil:1")})
    assert facts.previous_image(deployment, [*sets, foreign], "web") == expected


def test_labels_and_annotations_are_bounded() -> None:
    """No object is too decorated for the status."""
    labels = {f"l{n:03}": "v" * 200 for n in range(300)}
    described = facts.related("Pod", obj("p", labels=labels, annotations={"long": "x" * 5000, "short": "y"}))
    assert len(described.labels) == facts.MAX_LABELS
    assert {len(value) for value in described.labels.values()} == {facts.MAX_LABEL_VALUE}
    assert described.annotations == {"short": "y"}


def test_last_applied_configuration_is_never_kept() -> None:
    """It holds whole specs, secrets included."""
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    assert facts.related("Pod", obj("p", annotations=annotations)).annotations == {}


@given(
    kind=st.sampled_from(["Pod", "Deployment", "Node", "PodDisruptionBudget", "Service", "Job", "Widget"]),
    spec=st.dictionaries(st.sampled_from(["replicas", "minAvailable", "type", "unschedulable"]), JSON, max_size=3),
    status=st.dictionaries(st.sampled_from(["phase", "failed", "disruptionsAllowed", "x"]), JSON, max_size=3),
)
def test_odd_values_become_text_and_never_an_error(kind: str, spec: Any, status: Any) -> None:
    """Custom kinds put anything anywhere."""
    described = facts.related(kind, obj("it", spec=spec, status=status))
    assert all(isinstance(value, str) and value for value in described.facts.values())
