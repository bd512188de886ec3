"""The ledger: which RemediationRequests there are of a fingerprint, asked of the Kubernetes API each time, for many at once.

Every look is a read that began after it was asked for (``rounds``). A round first asks only for the *versions* of the objects (metadata, picked by
the fingerprint label) and reads those again of which it does not hold exactly these versions: what is remembered saves
bytes and never decides. That makes the price of a look one small request a round, whatever the number of signals.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence

from kubernaut_ray import names
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.rounds import Rounds, batched
from serve_apps.gateway.verdict import Known

CAPACITY = 10_000
VERSIONS_AT_ONCE = 100
"""Fingerprints in one selector: a path of some 7 KiB, which every proxy takes."""
OBJECTS_AT_ONCE = 25
_LABEL_LENGTH = 63

Requests = tuple[Known, ...]


class Ledger:
    """Reads the RemediationRequests of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._held: OrderedDict[str, Requests] = OrderedDict()
        self._rounds: Rounds[Requests] = Rounds(self._read)

    async def look(self, fingerprints: Collection[str]) -> Mapping[str, Requests]:
        """Return every request of these fingerprints, as the API server has them after this was called.

        Raises what ``Cluster.list`` raises.
        """
        return await self._rounds.ask(fingerprints)

    def note(self, obj: Object) -> Known:
        """Remember an object that a write of ours was answered with."""
        known = Known.of(obj)
        held = self._held.get(known.fingerprint)
        if held is not None:
            others = tuple(k for k in held if k.uid != known.uid)
            self._held[known.fingerprint] = (*others, known)
        return known

    def remembered(self, fingerprint: str, uid: str) -> Known | None:
        """Return an object as it was last read, if it was; only good for a write that is conditional on its version."""
        return next((k for k in self._held.get(fingerprint, ()) if k.uid == uid), None)

    async def _read(self, wanted: Collection[str]) -> Mapping[str, Requests]:
        found: dict[str, Requests] = {}
        # Versions are found by label; where nothing stands in a new incident's way, one made by hand may.
        held = [f for f in wanted if any(k.open or k.asks_for_person or k.held_until for k in self._held.get(f, ()))]
        unsure = set(wanted).difference(held)
        for versions in await asyncio.gather(
            *(self._versions(part) for part in batched(sorted(held), VERSIONS_AT_ONCE))
        ):
            for fingerprint, current in versions.items():
                known = self._held.get(fingerprint, ())
                if len(known) == len(current) and all(current.get(k.uid) == k.version for k in known):
                    found[fingerprint] = known
                    self._held.move_to_end(fingerprint)
                else:
                    unsure.add(fingerprint)
        if unsure:
            *parts, by_hand = await asyncio.gather(
                *(self._objects(part) for part in batched(sorted(unsure), OBJECTS_AT_ONCE)), self._unlabelled(unsure)
            )
            for part in parts:
                for fingerprint, requests in part.items():
                    found[fingerprint] = (*requests, *by_hand.get(fingerprint, ()))
                    self._held[fingerprint] = found[fingerprint]
                    self._held.move_to_end(fingerprint)
        while len(self._held) > CAPACITY:
            self._held.popitem(last=False)
        return found

    async def _unlabelled(self, fingerprints: Collection[str]) -> dict[str, Requests]:
        """Read the requests that people made by hand, without the label by which the others are found."""
        found: dict[str, Requests] = {}
        for obj in await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=f"!{names.LABEL_FINGERPRINT}"):
            known = Known.of(obj)
            if known.fingerprint in fingerprints:
                found[known.fingerprint] = (*found.get(known.fingerprint, ()), known)
        return found

    async def _versions(self, fingerprints: Sequence[str]) -> dict[str, dict[str, str]]:
        by_label = {f[:_LABEL_LENGTH]: f for f in fingerprints}
        found: dict[str, dict[str, str]] = {f: {} for f in fingerprints}
        for version in await self._cluster.versions(REMEDIATION_REQUEST, self._namespace, labels=_selector(by_label)):
            fingerprint = by_label.get(version.labels.get(names.LABEL_FINGERPRINT, ""))
            if fingerprint is not None:
                found[fingerprint][version.uid] = version.resource_version
        return found

    async def _objects(self, fingerprints: Sequence[str]) -> dict[str, Requests]:
        labels = _selector(f[:_LABEL_LENGTH] for f in fingerprints)
        found: dict[str, list[Known]] = {f: [] for f in fingerprints}
        for obj in await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=labels):
            known = Known.of(obj)
            if known.fingerprint in found:
                found[known.fingerprint].append(known)
        return {f: tuple(requests) for f, requests in found.items()}


def _selector(values: Collection[str] | Iterator[str]) -> str:
    return f"{names.LABEL_FINGERPRINT} in ({','.join(sorted(values))})"
