"""The same random lives for a process that goes by what it was told: events come late, and it believes them until then.

Memory may make it try in vain, never do wrong: what is executed is judged on what is so, and the status is written on the
version that was judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hypothesis.stateful import rule

from actors.remediation.controller import RemediationController
from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource
from tests.actors.remediation.test_machine import KEY, NAMESPACE, Judged, Life
from tests.crash import Crash
from tests.machines import Client, Driven, Line, Trail, Trouble, examples, places, troubles

Happening = tuple[Literal["ADDED", "MODIFIED", "DELETED"], Object]


class Watched(Judged):
    """Keeps what a watch would tell, in order."""

    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.untold: list[Happening] = []

    def _happened(self, kind: Any, obj: Object, old: Object | None) -> None:
        super()._happened(kind, obj, old)
        owners = [owner["name"] for owner in obj["metadata"].get("ownerReferences") or ()]
        if KEY.name in (obj["metadata"]["name"], *owners):
            self.untold.append((kind, obj))

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        if resource == resources.WORKFLOW_EXECUTION and obj["metadata"]["name"].startswith("we-rr-1"):
            request = await self.get(resources.REMEDIATION_REQUEST, KEY.name, NAMESPACE)
            assert names.ANNOTATION_CANCEL not in (request["metadata"].get("annotations") or {}), "executed, called off"
            assert "resolved" not in request["status"], "executed, although it was over"
        return await super().create(resource, obj, namespace, dry_run=dry_run)


class ToldLife(Life):
    """``at`` also says how far behind the watches are (0 to 3 events), and every third time memory does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.kube: Watched = Watched(lambda: self.now)
        self.client = Client(self.kube)
        self.sink = Trail(self.client)
        self.recall = Recall()

    @rule(trouble=troubles, at=places)
    def reconcile(self, trouble: Trouble, at: int) -> None:
        deps = Deps(self.client, self.SETTINGS, Endpoints(), lambda: "token", lambda _ns, _name: None, self.recall)
        controller: Any = Driven(RemediationController(deps), self.client)
        reconcile = Reconciler(controller, self.client, self.sink, clock=self.tick, recall=self.recall)
        if at % 3 == 0:
            self.recall.forget(KEY)
        self._tell(behind=at % 4)
        self.client.line = Line(trouble, at)
        try:
            for _ in range(3):
                self.run(reconcile(KEY))
        except Crash:
            self.recall.clear()
        except Retryable:
            self.recall.forget(KEY)
        finally:
            self.client.line = Line()

    def _tell(self, behind: int) -> None:
        told = max(0, len(self.kube.untold) - behind)
        for kind, obj in self.kube.untold[:told]:
            if kind == "DELETED":
                self.recall.forget(KEY)
            else:
                self.recall.note(KEY, resources.BY_KIND[obj["kind"]].plural, obj)
        del self.kube.untold[:told]


TestToldLife = ToldLife.TestCase
TestToldLife.settings = examples(12, steps=40)
