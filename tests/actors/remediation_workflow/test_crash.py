"""The controller killed at every point: one finalizer, one registration, each fact once, and no workflow left in service."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from actors.remediation_workflow.controller import RemediationWorkflowController
from actors.remediation_workflow.observe import Observed
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflowStatus
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP, REMEDIATION_WORKFLOW
from tests import build
from tests.actors.remediation_workflow.world import NAMESPACE, SETTINGS, Shelf, Shop
from tests.crash import crash_everywhere

KEY = Key(NAMESPACE, "restart")
RECORD = build.workflow()
NEWER = build.workflow(version="2.0.0")


class Unhurried(RemediationWorkflowController):
    """Does not look again by itself: the story would never end."""

    def decide(self, observed: Observed, now: datetime) -> Decision[RemediationWorkflowStatus]:
        decision = super().decide(observed, now)
        return replace(decision, wake_at=None) if decision.reason == "Settled" else decision


class Story:
    """What people do to the object, one thing each time the controller has nothing left to do; the catalog is mirrored into
    the API, so that worlds compare by it too.
    """

    def __init__(self, shop: Shop, *turns: Any) -> None:
        self.shop, self.turns = shop, turns
        self.controller: RemediationWorkflowController | None = None
        self.turn = 0

    def make_controller(self, client: KubeClient) -> RemediationWorkflowController:
        deps = Deps(client, SETTINGS, Endpoints(), lambda: "token", lambda *_: None)
        self.controller = Unhurried(deps, self.shop)
        return self.controller

    async def make_world(self, client: KubeClient) -> None:
        self.turn = 0
        self.shop.open()
        await client.create(REMEDIATION_WORKFLOW, build.remediation_workflow().to_object())
        await client.create(CONFIG_MAP, {"metadata": {"name": "catalog"}, "data": {}}, NAMESPACE)

    async def advance(self, client: KubeClient) -> None:
        assert self.controller is not None
        await self.controller.desk.settled()
        data = await self.shop.stands()
        await client.patch(CONFIG_MAP, "catalog", {"data": data}, NAMESPACE)
        try:
            found = await client.get(REMEDIATION_WORKFLOW, KEY.name, KEY.namespace)
        except NotFound:
            return
        status = found.get("status", {})
        seen = status.get("observedGeneration") == found["metadata"]["generation"] and status.get("phase") != "Pending"
        if seen and self.turn < len(self.turns):
            turn = self.turns[self.turn]
            self.turn += 1
            if turn == "delete":
                await client.delete(REMEDIATION_WORKFLOW, KEY.name, KEY.namespace)
            else:
                await client.patch(REMEDIATION_WORKFLOW, KEY.name, {"spec": turn}, KEY.namespace)


@pytest.mark.parametrize(
    ("turns", "catalog", "facts"),
    [
        pytest.param((), {"1.0.0": "active"}, 1, id="declared"),
        pytest.param(({"suspend": True}, {"suspend": False}), {"1.0.0": "active"}, 3, id="suspended and resumed"),
        pytest.param(
            ({"execution": {"bundle": NEWER.container_image}},),
            {"1.0.0": "active", "2.0.0": "active"},
            2,
            id="a new version",
        ),
        pytest.param(("delete",), {"1.0.0": "disabled"}, 2, id="deleted"),
        pytest.param(
            ({"execution": {"bundle": "r.example/none:1"}}, "delete"), {"1.0.0": "disabled"}, 3, id="broken, deleted"
        ),
    ],
)
async def test_a_crash_anywhere_changes_nothing(
    tmp_path: Path, turns: tuple[Any, ...], catalog: dict[str, str], facts: int
) -> None:
    """The catalog, the object and the trail end as if nothing had happened."""
    shop = Shop(tmp_path, Shelf(RECORD, NEWER))
    story = Story(shop, *turns)
    try:
        report = await crash_everywhere(
            story.make_controller, story.make_world, KEY, advance=story.advance, start=build.NOW, max_steps=200
        )
    finally:
        shop.shut()
    stands = report.world.objects[f"ConfigMap {NAMESPACE}/catalog"]["data"]
    assert {name.split()[1]: told.split(" | ")[0] for name, told in stands.items()} == catalog
    assert len(report.world.facts) == facts
    assert ("delete" in turns) is (f"RemediationWorkflow {KEY}" not in report.world.objects)
