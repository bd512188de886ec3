"""Creating the RemediationRequest of a new incident, at most one a fingerprint, across any number of replicas and gateways.

The name is the lock: it follows from the fingerprint and from the newest finished request, so replicas that see the same
state create the same name, and the API server lets one of them win. The others look again and join what won. The newest may have
been removed after its time, and before older ones (each waits for its own trail): ``contracts/lineage.py`` remembers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.errors import AlreadyExists, NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP, REMEDIATION_REQUEST
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.ledger import Ledger
from serve_apps.gateway.verdict import Absent, Held, Known, Open, Verdict, judge

MAX_ROUNDS = 5


class Admission:
    """Reads and creates RemediationRequests in one namespace."""

    def __init__(self, cluster: Cluster, ledger: Ledger, namespace: str, now: clock.Clock) -> None:
        self._cluster, self._ledger, self._namespace, self._now = cluster, ledger, namespace, now

    async def verdict(self, fingerprint: str) -> Verdict:
        """Read the source of truth and judge."""
        return judge(fingerprint, (await self._ledger.look((fingerprint,)))[fingerprint], self._now())

    async def create(
        self, fingerprint: str, absent: Absent, build: Callable[[str], dict[str, Any]]
    ) -> tuple[Known, bool] | Held:
        """Create the request, unless somebody else has: returns it and whether it is ours. ``build`` takes its name."""
        for _ in range(MAX_ROUNDS):
            name = names.remediation_request(fingerprint, await self._last(fingerprint, absent))
            try:
                made = await self._cluster.create(REMEDIATION_REQUEST, build(name), self._namespace)
                return self._ledger.note(made), True
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

    async def _last(self, fingerprint: str, absent: Absent) -> str:
        """Return the UID of the newest request there has been, there still or remembered; empty when there was none."""
        try:
            found = await self._cluster.get(CONFIG_MAP, lineage.named(fingerprint), self._namespace)
        except NotFound:
            return absent.previous_uid
        removed, previous = lineage.last_of(found, fingerprint), absent.previous
        if removed is None or previous is None:
            return absent.previous_uid if removed is None else removed.uid
        # Creation times have whole seconds; a name tells which one it follows.
        followed = previous.name == names.remediation_request(fingerprint, removed.uid)
        return previous.uid if followed or removed.created < lineage.written(previous.created) else removed.uid

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
        found = await self._ledger.look((fingerprint,))
        others = [r for r in found[fingerprint] if r.uid != taken.uid]
        return judge(fingerprint, [*others, taken], self._now())
