"""Shards: ranges cover everything once, selectors say which, unlabelled objects find their remediation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray import names
from kubernaut_ray.control import shards
from kubernaut_ray.control.shards import ShardRange
from tests.memory_kube import matches_labels


@given(st.integers(1, names.SHARD_BLOCKS))
def test_ranges_cover_every_shard_once(actors: int) -> None:
    """Whatever the number of actors: no gap, no overlap, whole blocks, sizes differ by one block at most, one sweeps."""
    parts = shards.ranges(actors)
    assert [s for part in parts for s in range(part.first, part.last + 1)] == list(range(names.VIRTUAL_SHARDS))
    sizes = {part.last - part.first for part in parts}
    assert max(sizes) - min(sizes) in (0, names.BLOCK_SHARDS)
    assert sorted(first for part in parts for first in part.blocks) == [*range(0, 64, 4)]
    assert [part.sweeps for part in parts] == [True] + [False] * (actors - 1)


@given(st.integers(1, 8), st.text("abc-0", min_size=1, max_size=20))
def test_each_object_is_selected_by_exactly_one_range(actors: int, remediation: str) -> None:
    """The label given at creation meets one selector."""
    labels = names.shard_label(remediation)
    owners = [part for part in shards.ranges(actors) if matches_labels(part.selector, labels)]
    assert len(owners) == 1
    assert names.shard_of(remediation) in owners[0]


def test_a_single_actor_selects_everything() -> None:
    """With one actor nothing may escape for want of a label."""
    assert ShardRange().selector == ""
    assert ShardRange(0, 1).selector == "kubernaut.ai/shard in (0,1)"
    assert shards.join("a=b", "", "c") == "a=b,c"


def test_a_block_is_not_cut_in_two() -> None:
    """Fleets of any two sizes divide the same blocks, so no more actors than blocks share them."""
    with pytest.raises(ValueError, match="whole blocks of 4"):
        _ = ShardRange(0, 1).blocks
    with pytest.raises(ValueError, match="between 1 and 16"):
        shards.ranges(17)


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (5, 4), (0, 64)])
def test_impossible_ranges_are_refused(first: int, last: int) -> None:
    """A range lies within the virtual shards."""
    with pytest.raises(ValueError, match="must lie within"):
        ShardRange(first, last)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param({"metadata": {"name": "rr-1"}}, "rr-1", id="a RemediationRequest is its own"),
        pytest.param(
            {"metadata": {"name": "x", "labels": {names.LABEL_REMEDIATION: "rr-2"}}}, "rr-2", id="the label says"
        ),
        pytest.param(
            {"metadata": {"name": "x"}, "spec": {"remediationRequestRef": {"name": "rr-3"}}}, "rr-3", id="the spec says"
        ),
        pytest.param(
            {"metadata": {"name": "x", "ownerReferences": [{"kind": "RemediationRequest", "name": "rr-4"}]}},
            "rr-4",
            id="the owner says",
        ),
    ],
)
def test_the_remediation_of_an_object_made_by_hand(obj: dict[str, Any], expected: str) -> None:
    """The sweeper labels an object with the shard of its RemediationRequest."""
    assert shards.remediation_of(obj) == expected
    assert shards.missing_labels(obj) == {"metadata": {"labels": names.shard_label(expected)}}
