"""Fencing: which Lease stands for which shards, what a causing write tells of it, and whether that still holds.

The shards of a kind are divided into blocks, the same ones whatever the size of a fleet, with a Lease each. A block's Lease
is written when it changes hands only: its holder is named by another Lease, the member's, which one process renews for all
its blocks at once, and is worth what that one is worth. ``leaseTransitions`` of the block's Lease is the fencing token.

Controllers claim and stamp (``control/shard_lease.py``), the admission webhook judges (``serve_apps/admission/fencing.py``).
Knows no API server and no clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernaut_ray import names

REFUSED = "Fenced"
"""The reason under which the webhook refuses a stale owner's write."""
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Holder:
    """One life of one member: its Lease, which making of that Lease, and how often the Lease had changed hands by then."""

    lease: str
    uid: str
    life: int

    def __str__(self) -> str:
        return f"{self.lease}#{self.life}#{self.uid}"

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> Holder | None:
        """Return who holds a block's Lease, as the Lease says; ``None`` for nobody."""
        lease, _, rest = _holder(block).partition("#")
        life, _, uid = rest.partition("#")
        number = _number(life)
        return cls(lease, uid, number) if lease and uid and number is not None else None

    @classmethod
    def living(cls, member: Mapping[str, Any]) -> Holder | None:
        """Return the present life of a member by its own Lease; ``None`` when that was given up, or taken from it."""
        meta = member.get("metadata") or {}
        return cls(meta["name"], meta["uid"], transitions(member)) if _holder(member) else None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a created object carries: under which block's Lease, by which token, and as whom it was created."""

    lease: str
    token: int
    holder: str
    """A Lease that was deleted counts from the beginning again; who holds it tells the two apart."""

    @property
    def annotations(self) -> dict[str, str]:
        return {
            names.ANNOTATION_FENCING_LEASE: self.lease,
            names.ANNOTATION_FENCING_TOKEN: str(self.token),
            names.ANNOTATION_FENCING_HOLDER: self.holder,
        }

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Stamp | None:
        notes = (obj.get("metadata") or {}).get("annotations") or {}
        lease, token = notes.get(names.ANNOTATION_FENCING_LEASE), _number(notes.get(names.ANNOTATION_FENCING_TOKEN))
        holder = str(notes.get(names.ANNOTATION_FENCING_HOLDER) or "")
        return cls(str(lease), token, holder) if lease and token is not None and holder else None


def block_lease(plural: str, shard: int) -> str:
    """Name the Lease of the block that a shard of a kind lies in."""
    first = shard - shard % names.BLOCK_SHARDS
    return f"kubernaut-{plural}-{first:02}-{first + names.BLOCK_SHARDS - 1:02}"


def member_lease(plural: str, place: str, part: str) -> str:
    """Name the Lease that the actor of a kind for a part of its shards renews; the same after a restart in the same place."""
    return f"{member_lease_prefix(plural)}{hashlib.sha256(f'{place} {part}'.encode()).hexdigest()[:12]}"


def member_lease_prefix(plural: str) -> str:
    return f"kubernaut-{plural}-by-"


def transitions(lease: Mapping[str, Any]) -> int:
    return int((lease.get("spec") or {}).get("leaseTransitions") or 0)


def shard_of(obj: Mapping[str, Any]) -> int | None:
    """Return the shard that an object's label says; ``None`` where there is none that could be."""
    shard = _number(((obj.get("metadata") or {}).get("labels") or {}).get(names.LABEL_SHARD))
    return shard if shard is not None and shard < names.VIRTUAL_SHARDS else None


def stale(stamp: Stamp, block: Mapping[str, Any] | None, member: Mapping[str, Any] | None) -> str:
    """Say why whoever made this stamp owns its block no longer; empty when it does.

    ``block`` is the Lease that the stamp names and ``member`` the one that ``block``'s holder names, both as they are now.
    That a member has not renewed in time is no reason: until somebody takes its blocks it alone has worked on them.
    """
    if block is None:
        return f"Lease {stamp.lease} is gone"
    if transitions(block) != stamp.token:
        return f"Lease {stamp.lease} has changed hands: token {stamp.token} is old, {transitions(block)} is current"
    holder = Holder.of(block)
    if holder is None or str(holder) != stamp.holder:
        return f"Lease {stamp.lease} is held by {holder or 'nobody'}, not by {stamp.holder}"
    if member is None or Holder.living(member) != holder:
        return f"Lease {stamp.lease} was held by {holder.lease}, which has given up or was put out"
    return ""


def _holder(lease: Mapping[str, Any]) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and _NUMBER.fullmatch(text) else None
