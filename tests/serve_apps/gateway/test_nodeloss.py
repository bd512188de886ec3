"""Which node explains this: the whole decision, as a table and as properties."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.gateway.nodeloss import Loss, NodeState, Place, Snapshot, explain
from tests.build import NOW

WINDOW = timedelta(minutes=2)
WELL = NodeState("well", lost=False)
LOST = NodeState("lost", lost=True, since=NOW)
ALSO = NodeState("also", lost=True, since=NOW)
LATER = NodeState("later", lost=True, since=NOW + timedelta(hours=1))
GONE = NodeState("gone", lost=True, exists=False)
UNDATED = NodeState("undated", lost=True)
NODES = (WELL, LOST, ALSO, LATER, GONE, UNDATED)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def on(node: str, unready: float | None = None, *, leaving: bool = False) -> Place:
    return Place(node, None if unready is None else at(unready), at(-600), leaving)


def waiting(created: float, *, leaving: bool = False) -> Place:
    return Place("", created=at(created), leaving=leaving)


@pytest.mark.parametrize(
    ("pods", "fired", "expected"),
    [
        pytest.param([on("lost")], 1, "lost", id="fired after the loss"),
        pytest.param([on("lost")], -2, "lost", id="fired as long before the loss as the window allows"),
        pytest.param([on("lost")], -2.1, None, id="fired before the loss"),
        pytest.param([on("lost")], 600, "lost", id="fired long after"),
        pytest.param([on("lost")], None, "lost", id="nobody knows when it began"),
        pytest.param([], 1, None, id="no pod in question"),
        pytest.param([on("well")], 1, None, id="its node is well"),
        pytest.param([on("never-heard-of")], 1, None, id="its node is not known"),
        pytest.param([on("lost"), on("well")], 1, None, id="another pod is in trouble elsewhere"),
        pytest.param([on("lost"), on("well", leaving=True)], 1, "lost", id="another pod is being deleted elsewhere"),
        pytest.param([on("well", leaving=True)], 1, None, id="only pods that are being deleted"),
        pytest.param([on("lost", leaving=True)], 1, "lost", id="being deleted on the lost node"),
        pytest.param([on("lost"), on("also"), on("lost")], 1, "lost", id="the node with most of the pods"),
        pytest.param([on("lost"), on("also")], 1, "also", id="a tie goes by name"),
        pytest.param([on("lost"), on("later"), on("later")], 1, "lost", id="a node lost later explains nothing"),
        pytest.param([on("later"), on("lost")], -10, None, id="older than both losses"),
        pytest.param([on("lost"), waiting(1)], 1, "lost", id="its replacement waits to be placed"),
        pytest.param([on("lost"), waiting(-2)], 1, "lost", id="a replacement made as early as the window allows"),
        pytest.param([on("lost"), waiting(-3)], 1, None, id="a pod waited before the loss"),
        pytest.param([on("lost"), waiting(-3, leaving=True)], 1, "lost", id="a waiting pod that is being deleted"),
        pytest.param([waiting(1)], 1, None, id="only waiting pods"),
        pytest.param([on("gone", 0)], 1, "gone", id="a deleted node, dated by its pod"),
        pytest.param([on("gone", 0)], -5, None, id="fired before the pod of a deleted node stopped being ready"),
        pytest.param([on("gone", -60), on("gone", 0)], -5, None, id="the last pod to stop dates a deleted node"),
        pytest.param([on("gone")], -600, "gone", id="nothing dates the deleted node"),
        pytest.param([on("undated", 0)], 1, "undated", id="a lost node without a time"),
    ],
)
def test_which_node_explains_it(pods: list[Place], fired: float | None, expected: str | None) -> None:
    """A node explains a signal only if nothing else is wrong and the time fits."""
    firing = None if fired is None else at(fired)
    loss = explain(Snapshot(tuple(pods), NODES, firing, WINDOW))
    assert (loss.node if loss else None) == expected


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (Loss("n1", NOW, exists=True), "node n1, which is not ready since 2026-03-01T12:00:00Z"),
        (Loss("n1", NOW, exists=False), "node n1, which is gone since 2026-03-01T12:00:00Z"),
        (Loss("n1", None, exists=False), "node n1, which is gone"),
    ],
)
def test_what_it_says(loss: Loss, text: str) -> None:
    """The words end up in the note that people read."""
    assert str(loss) == text


places = st.builds(
    Place,
    node=st.sampled_from(["", "well", "lost", "also", "later", "gone", "unheard"]),
    unready_since=st.none() | st.integers(-90, 90).map(at),
    created=st.none() | st.integers(-90, 90).map(at),
    leaving=st.booleans(),
)


@given(pods=st.lists(places, max_size=6), fired=st.none() | st.integers(-90, 90).map(at), data=st.data())
def test_it_is_a_function_of_what_is_there(pods: list[Place], fired: datetime | None, data: st.DataObject) -> None:
    """The order of pods and nodes makes no difference, so every replica judges alike; the answer is a lost node of theirs."""
    loss = explain(Snapshot(tuple(pods), NODES, fired, WINDOW))
    shuffled = data.draw(st.permutations(pods)), data.draw(st.permutations(NODES))
    assert explain(Snapshot(tuple(shuffled[0]), tuple(shuffled[1]), fired, WINDOW)) == loss
    if loss is not None:
        assert loss.node in {pod.node for pod in pods}
        assert loss.node not in {"", "well", "unheard"}
        assert loss.since is None or fired is None or fired >= loss.since - WINDOW


@given(pods=st.lists(places, max_size=5), fired=st.none() | st.integers(-90, 90).map(at))
def test_a_pod_in_trouble_elsewhere_always_speaks_against(pods: list[Place], fired: datetime | None) -> None:
    """However many pods are on lost nodes."""
    assert explain(Snapshot((*pods, on("well")), NODES, fired, WINDOW)) is None
