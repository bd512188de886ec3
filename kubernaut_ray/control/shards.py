"""Shards: which part of a kind's objects one actor works on, and how objects made by hand get their shard label.

64 virtual shards, by the RemediationRequest's name (``names.shard_of``), in 16 blocks of 4 with a Lease each. A fleet of n
actors for a kind divides the blocks into n ranges; resizing the fleet moves blocks, never objects, and fleets of different
sizes meet at the same Leases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kubernaut_ray import names
from kubernaut_ray.kube.client import Object

UNLABELLED = f"!{names.LABEL_SHARD}"
"""Selects what the sweeper looks for."""


@dataclass(frozen=True, slots=True)
class ShardRange:
    """The virtual shards ``first`` to ``last``, both included."""

    first: int = 0
    last: int = names.VIRTUAL_SHARDS - 1

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last < names.VIRTUAL_SHARDS:
            raise ValueError(f"shards {self.first} to {self.last}: must lie within 0 to {names.VIRTUAL_SHARDS - 1}")

    def __contains__(self, shard: int) -> bool:
        return self.first <= shard <= self.last

    def __str__(self) -> str:
        return f"{self.first:02}-{self.last:02}"

    @property
    def everything(self) -> bool:
        return self.first == 0 and self.last == names.VIRTUAL_SHARDS - 1

    @property
    def selector(self) -> str:
        """The label selector of this range; empty for all shards, so that nothing escapes a single actor."""
        if self.everything:
            return ""
        return f"{names.LABEL_SHARD} in ({','.join(str(shard) for shard in range(self.first, self.last + 1))})"

    @property
    def blocks(self) -> tuple[int, ...]:
        """The first shard of each block in this range. Raises ``ValueError`` for a range that cuts a block in two."""
        if self.first % names.BLOCK_SHARDS or (self.last + 1) % names.BLOCK_SHARDS:
            raise ValueError(f"shards {self}: whole blocks of {names.BLOCK_SHARDS} only")
        return tuple(range(self.first, self.last + 1, names.BLOCK_SHARDS))

    @property
    def sweeps(self) -> bool:
        """Whether this range's owner labels what nobody labelled: exactly one range does."""
        return self.first == 0


def ranges(actors: int) -> tuple[ShardRange, ...]:
    """Divide all shards among this many actors, as evenly as whole blocks can be."""
    if not 1 <= actors <= names.SHARD_BLOCKS:
        raise ValueError(f"{actors} actors: between 1 and {names.SHARD_BLOCKS} can share the shards")
    bounds = [names.SHARD_BLOCKS * index // actors * names.BLOCK_SHARDS for index in range(actors + 1)]
    return tuple(ShardRange(low, high - 1) for low, high in pairwise(bounds))


def join(*selectors: str) -> str:
    """Join label selectors; empty ones do not narrow."""
    return ",".join(selector for selector in selectors if selector)


def missing_labels(obj: Object) -> Mapping[str, Any]:
    """Return the merge patch that gives an unlabelled object of ours its shard."""
    return {"metadata": {"labels": names.shard_label(remediation_of(obj))}}


def remediation_of(obj: Mapping[str, Any]) -> str:
    """The name of the RemediationRequest that an object belongs to: its label, its reference, its owner, or itself."""
    metadata = obj.get("metadata") or {}
    if label := (metadata.get("labels") or {}).get(names.LABEL_REMEDIATION):
        return str(label)
    reference = (obj.get("spec") or {}).get("remediationRequestRef")
    if isinstance(reference, Mapping) and reference.get("name"):
        return str(reference["name"])
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "RemediationRequest":
            return str(owner.get("name", ""))
    return str(metadata.get("name", ""))
