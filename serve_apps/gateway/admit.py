"""Creating the RemediationRequest of a new incident, at most one a fingerprint, across any number of replicas and gateways.

The name is the lock: it follows from the fingerprint and from the newest finished request, so replicas that see the same
state create the same name, and the API server lets one of them win. The others look again and join what won.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.errors import AlreadyExists, Invalid, NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.verdict import Absent, Held, Known, Open, Verdict, judge

MAX_ROUNDS = 5


class Admission:
    """Reads and creates RemediationRequests in one namespace."""

    def __init__(self, cluster: Cluster, ledger: Ledger, namespace: str, now: clock.Clock) -> None:
        self._cluster, self._ledger, self._namespace, self._now = cluster, ledger, namespace, now
        self._by_field = True

    async def verdict(self, fingerprint: str) -> Verdict:
        """Read the source of truth and judge."""
        return judge(fingerprint, (await self._ledger.look((fingerprint,)))[fingerprint], self._now())

    async def unlabelled(self, fingerprint: str) -> Verdict:
        """Judge by the field itself: a request made by hand may lack the label that the ledger goes by."""
        return judge(fingerprint, await self._read(fingerprint), self._now())

    async def create(
        self, fingerprint: str, absent: Absent, build: Callable[[str], dict[str, Any]]
    ) -> tuple[Known, bool] | Held:
        """Create the request, unless somebody else has: returns it and whether it is ours. ``build`` takes its name."""
        for _ in range(MAX_ROUNDS):
            name = names.remediation_request(fingerprint, absent.previous_uid)
            try:
                return Known.of(await self._cluster.create(REMEDIATION_REQUEST, build(name), self._namespace)), True
            except AlreadyExists:
                verdict = await self._verdict_on(fingerprint, name)
            match verdict:
                case Open(request):
                    return request, False
                case Held():
                    return verdict
                case Absent():
                    absent = verdict
        raise Retryable(f"RemediationRequests of {fingerprint[:12]} change faster than they can be read")

    async def _verdict_on(self, fingerprint: str, name: str) -> Verdict:
        """Judge again after the name turned out to be taken; the list alone may miss an object edited by hand."""
        try:
            taken = Known.of(await self._cluster.get(REMEDIATION_REQUEST, name, self._namespace))
        except NotFound:
            return await self.verdict(fingerprint)
        if taken.fingerprint != fingerprint:
            raise Permanent(
                f"the name {name} is taken by a RemediationRequest of another fingerprint; delete it",
                reason="NameTaken",
            )
        others = [r for r in await self._read(fingerprint) if r.uid != taken.uid]
        return judge(fingerprint, [*others, taken], self._now())

    async def _read(self, fingerprint: str) -> tuple[Known, ...]:
        if self._by_field:
            try:
                found = await self._cluster.list(
                    REMEDIATION_REQUEST, self._namespace, fields=f"spec.signalFingerprint={fingerprint}"
                )
                return tuple(Known.of(obj) for obj in found)
            except Invalid:
                self._by_field = False  # An API server before selectable fields (Kubernetes 1.30).
        label = f"{names.LABEL_FINGERPRINT}={fingerprint[:63]}"
        listed = await self._cluster.list(REMEDIATION_REQUEST, self._namespace, labels=label)
        return tuple(known for known in map(Known.of, listed) if known.fingerprint == fingerprint)
