"""Ownership of a range of one kind's shards, so that two Ray clusters never work on the same ones, whatever their sizes.

Each block of shards has a Lease of its own (``contracts/fencing.py``), which is written when it changes hands and never at
rest. What is renewed is one Lease for each actor, the member's; a block belongs to the life of a member that its Lease names::

    kubernaut-workflowexecutions-00-03     holder kubernaut-workflowexecutions-by-3fa1…#2    transitions 7   ← the token
    kubernaut-workflowexecutions-04-07     holder kubernaut-workflowexecutions-by-3fa1…#2    transitions 5
    kubernaut-workflowexecutions-by-3fa1…  holder host:dir#2                                 renewed every 5 s

Taking blocks from a member that does not move any more takes two conditional writes: first its own Lease is emptied, which
ends that life (its next renewal fails, and it can never renew again), then the blocks are claimed. Giving up is the first
of these, done by oneself: one write, and everything is free at once. It is all blocks of a range or none: whoever cannot
have all holds none, so that two fleets of different sizes never wait for each other.

The ControlLoop waits in ``acquire``, works while ``keep`` runs, and ends with ``release``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from kubernaut_ray import clock, names
from kubernaut_ray.contracts import fencing
from kubernaut_ray.contracts.fencing import Holder, Stamp
from kubernaut_ray.control import shards
from kubernaut_ray.control.lease import Fenced, Lease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, NotFound
from kubernaut_ray.kube.resources import LEASE

log = structlog.get_logger(__name__)

POLL = 2.0
"""Seconds between two looks at Leases that somebody else holds, at the most."""


class ShardLease:
    """One actor's side. ``place`` names where it lives: after a restart in the same place nobody need wait for the old life."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        plural: str,
        owned: ShardRange,
        place: str,
        *,
        duration: float = 15.0,
        renew: float = 5.0,
        now: clock.Clock = clock.utcnow,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.contended = False
        """Whether the last attempt found another owner."""
        self._client, self._namespace, self._plural = client, namespace, plural
        self._blocks = {fencing.block_lease(plural, first): first for first in owned.blocks}
        self._shards, self._place = owned, place
        self._duration, self._poll = duration, min(renew, POLL)
        self._now, self._monotonic = now, monotonic
        self._labels = {names.LABEL_SHARDS_OF: plural}
        name = fencing.member_lease(plural, place, str(owned))
        self._member = Lease(
            client, namespace, name, place,
            duration=duration, renew=renew, now=now, monotonic=monotonic, labels=self._labels,
        )  # fmt: skip
        self._tokens: dict[str, int] = {}
        self._seen: dict[str, tuple[str, float]] = {}

    @property
    def name(self) -> str:
        """Of the member's Lease."""
        return self._member.name

    @property
    def _identity(self) -> str:
        return str(Holder(self.name, self._member.uid, self._member.token))

    @property
    def held(self) -> bool:
        return bool(self._tokens) and self._member.held

    @property
    def tokens(self) -> Mapping[str, int]:
        """The fencing token of each block while held, by the name of its Lease."""
        return dict(self._tokens) if self.held else {}

    def check(self) -> None:
        """Raise ``Fenced`` unless this process is the owner right now."""
        if not self.held:
            raise Fenced(f"shards {self._shards} of {self._plural} are not held (Lease {self.name})", after=self._poll)

    def doubt(self) -> None:
        """Look at once whether we are the owner still: a write was refused as a stale owner's."""
        self._member.doubt()

    def stamp(self, obj: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the annotations for an object to create: the Lease of its own shard, and our token. Raises ``Fenced``.

        Nothing for an object of another's shards: whoever checks stamps then says what is wrong with it.
        """
        self.check()
        shard = fencing.shard_of(obj)
        lease = fencing.block_lease(
            self._plural, names.shard_of(shards.remediation_of(obj)) if shard is None else shard
        )
        token = self._tokens.get(lease)
        return {} if token is None else Stamp(lease, token, self._identity).annotations

    def to_json(self) -> dict[str, Any]:
        """For the actor's stats."""
        return {
            "member": self.name,
            "held": self.held,
            "life": self._member.token,
            "seconds_left": round(self._member.seconds_left, 1),
            "tokens": self.tokens,
        }

    async def acquire(self) -> None:
        """Wait until all the blocks are ours; outages of the API server are waited out."""
        while not await self.attempt():
            await asyncio.sleep(self._poll * random.uniform(0.7, 1.0))  # noqa: S311 - so that two do not meet forever
        log.info("shards.acquired", member=self.name, life=self._member.token, tokens=self._tokens)

    async def keep(self) -> None:
        """Renew until the shards are lost; returns then."""
        await self._member.keep()
        self._tokens = {}

    async def renew(self) -> bool:
        """Renew once; ``False`` when the shards are lost."""
        if not await self._member.renew():
            self._tokens = {}
        return self.held

    async def release(self) -> None:
        """Give everything up at once. Best effort: it expires anyway."""
        self._tokens = {}
        await self._member.release()

    async def attempt(self) -> bool:
        """Take all the blocks if they are free; otherwise none is held. An API server that is away makes it ``False``."""
        self._tokens = {}
        try:
            taken = await self._attempt()
        except (Conflict, AlreadyExists, NotFound):
            taken, self.contended = False, True  # somebody was faster
        except KubernautError as error:
            log.warning("shards.unavailable", member=self.name, error=str(error))
            taken = False
        if not taken:
            await self.release()
        return taken

    async def _attempt(self) -> bool:
        listed = await self._client.list(LEASE, self._namespace, labels=f"{names.LABEL_SHARDS_OF}={self._plural}")
        found = {lease["metadata"]["name"]: lease for lease in listed.items}
        holders = {holder for name in self._blocks if (holder := Holder.of(found.get(name, {}))) is not None}
        living = [found[holder.lease] for holder in sorted(holders, key=str) if _lives(holder, found)]
        others = [member for member in living if member["metadata"]["name"] != self.name]
        silent = [member for member in others if self._silent(member)]
        self.contended = len(silent) < len(others)
        if self.contended:
            return False
        if not await self._member.attempt():  # where our own former life holds them, this judges it
            self.contended = self._member.contended
            return False
        for member in silent:
            await self._put_out(member)
        tokens: dict[str, int] = {}
        claims = (self._claim(name, found.get(name)) for name in self._blocks)
        for name, claimed in zip(self._blocks, await asyncio.gather(*claims, return_exceptions=True), strict=True):
            if isinstance(claimed, BaseException):
                raise claimed
            tokens[name] = claimed
        if not self._member.held:
            return False
        self._tokens = tokens
        await self._tidy(found)
        return True

    def _silent(self, member: Object) -> bool:
        """Whether a member may be put out: it has not moved for its whole duration by our clock, or is our former self."""
        name, version, now = member["metadata"]["name"], member["metadata"]["resourceVersion"], self._monotonic()
        spec = member.get("spec") or {}
        if self._member.token == 0 and str(spec["holderIdentity"]).rpartition("#")[0] == self._place:
            return True  # another range of ours before a restart, when the fleet had another size
        seen, since = self._seen.setdefault(name, (version, now))
        if seen != version:
            self._seen[name] = (version, now)
            return False
        return now - since > float(spec.get("leaseDurationSeconds") or self._duration)

    async def _put_out(self, member: Object) -> None:
        """End a member's life, unless it moved meanwhile. Raises ``Conflict`` then."""
        log.info(
            "shards.taking_over", member=self.name, of=member["metadata"]["name"], was=member["spec"]["holderIdentity"]
        )
        emptied = {**member, "spec": {**member["spec"], "holderIdentity": ""}}
        try:
            await self._client.replace(LEASE, emptied, self._namespace)
        except NotFound:
            return  # gone is as good as put out

    async def _claim(self, name: str, current: Object | None) -> int:
        """Write ourselves into a block's Lease as it was seen; the new token. Raises when somebody was faster."""
        token = fencing.transitions(current or {}) + 1
        now = clock.rfc3339(self._now())
        spec = {
            **((current or {}).get("spec") or {}),
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": token,
        }
        metadata = {**((current or {}).get("metadata") or {}), "name": name, "namespace": self._namespace}
        body = {"metadata": metadata | {"labels": {**(metadata.get("labels") or {}), **self._labels}}, "spec": spec}
        if current is None:
            await self._client.create(LEASE, body, self._namespace)
        else:
            await self._client.replace(LEASE, body, self._namespace)
        return token

    async def _tidy(self, found: Mapping[str, Object]) -> None:
        """Delete the Leases of members that have given up: places come and go, their Leases would stay."""
        for name, lease in found.items():
            gone = name.startswith(fencing.member_lease_prefix(self._plural)) and Holder.living(lease) is None
            if not gone or name == self.name:
                continue
            meta = lease["metadata"]
            try:
                await self._client.delete(
                    LEASE, name, self._namespace, uid=meta["uid"], resource_version=meta["resourceVersion"]
                )
            except KubernautError:
                continue  # it came back to life, or the next one tidies


def _lives(holder: Holder, found: Mapping[str, Object]) -> bool:
    member = found.get(holder.lease)
    return member is not None and Holder.living(member) == holder
