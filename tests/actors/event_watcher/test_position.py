"""The position in its ConfigMap: read as written, never written over another hand's, and none when unreadable."""

from __future__ import annotations

from datetime import timedelta

import pytest

from actors.event_watcher.position import ALL, Moved, Point, PositionStore, begin, later
from kubernaut_ray import names
from kubernaut_ray.control.lease import Fenced
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import CONFIG_MAP
from tests.build import NOW

ONE = {ALL: Point("12", NOW), "shop": Point("", NOW + timedelta(microseconds=1))}
TWO = {ALL: Point("13", NOW)}


@pytest.mark.parametrize(
    ("version", "other", "answer"),
    [("12", "9", True), ("9", "12", False), ("7", "7", False), ("a", "7", None), ("", "7", None), ("7", "٧", None)],
)
def test_versions_are_compared_as_numbers_or_not_at_all(version: str, other: str, answer: bool | None) -> None:
    """What is no number has no order."""
    assert later(version, other) is answer


def test_streams_begin_where_they_stood_and_new_ones_where_the_others_did() -> None:
    """A change of what is watched loses nothing; with nothing stored it begins now."""
    old, new = Point("5", NOW - timedelta(hours=1)), Point("9", NOW)
    assert begin({"a": old, "b": new}, ("b", "c"), NOW) == {"b": new, "c": old}
    assert begin({"a": old}, (ALL,), NOW) == {ALL: old}
    assert begin({}, (ALL,), NOW) == {ALL: Point("", NOW)}


@pytest.mark.integration
async def test_what_is_written_is_read(kube: KubeClient, namespace: str) -> None:
    """Created, changed, and a stream that is no longer watched taken out."""
    store = PositionStore(kube, namespace)
    assert await store.read() == {}
    await store.write(ONE)
    assert await PositionStore(kube, namespace).read() == ONE
    await store.write(TWO)
    assert await PositionStore(kube, namespace).read() == TWO


@pytest.mark.integration
async def test_another_hand_is_not_overwritten(kube: KubeClient, namespace: str) -> None:
    """The one that did not write last learns that the position moved."""
    ours, theirs = PositionStore(kube, namespace), PositionStore(kube, namespace)
    await ours.write(TWO)
    await theirs.read()
    await theirs.write(ONE)
    with pytest.raises(Moved, match=names.EVENT_WATCHER):
        await ours.write({ALL: Point("14", NOW)})
    assert await theirs.read() == ONE


@pytest.mark.integration
async def test_labels_and_deletions_are_no_other_hand(kube: KubeClient, namespace: str) -> None:
    """A person's label stays; a deleted position is written anew."""
    store = PositionStore(kube, namespace)
    await store.write(ONE)
    await kube.patch(CONFIG_MAP, names.EVENT_WATCHER, {"metadata": {"labels": {"seen": "yes"}}}, namespace)
    await store.write(TWO)
    found = await kube.get(CONFIG_MAP, names.EVENT_WATCHER, namespace)
    assert found["metadata"]["labels"] == {"seen": "yes"}
    await kube.delete(CONFIG_MAP, names.EVENT_WATCHER, namespace)
    await store.write(ONE)
    assert await PositionStore(kube, namespace).read() == ONE


@pytest.mark.integration
@pytest.mark.parametrize("text", ["", "{", "7", "{}", '{"resourceVersion": "7", "at": "today"}', '["at"]'])
async def test_a_position_that_cannot_be_read_is_none(kube: KubeClient, namespace: str, text: str) -> None:
    """It is replaced by the next write."""
    await kube.create(CONFIG_MAP, {"metadata": {"name": names.EVENT_WATCHER}, "data": {ALL: text}}, namespace)
    store = PositionStore(kube, namespace)
    assert await store.read() == {}
    await store.write(TWO)
    assert await store.read() == TWO


@pytest.mark.integration
async def test_only_the_owner_writes(kube: KubeClient, namespace: str) -> None:
    """Without the Lease nothing is written."""

    def fenced() -> None:
        raise Fenced("not ours")

    with pytest.raises(Fenced):
        await PositionStore(kube, namespace, check=fenced).write(ONE)
    assert await PositionStore(kube, namespace).read() == {}
