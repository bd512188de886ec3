"""A random life of a RemediationWorkflow: edits, deletions, a catalog that is away or changed by hand, and a process that dies.

It has no end, so what must hold is where it comes to: the catalog offers what the object asks for and nothing that it left,
and an object that is deleted goes, and takes its workflow out of service.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from actors.remediation_workflow.controller import RemediationWorkflowController
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from tests import build
from tests.actors.remediation_workflow.world import SETTINGS, Shelf, Shop
from tests.machines import HOME, Machine, Trouble, examples, places, troubles

OLD, NEW = build.workflow(), build.workflow(version="2.0.0")
BUNDLES = (OLD.container_image, NEW.container_image, "r.example/none:1")


class Life(Machine):
    resource, name = resources.REMEDIATION_WORKFLOW, "restart"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.shop = Shop(Path(self.folder.name), Shelf(OLD, NEW))
        self.by_hand = False

    def build(self) -> RemediationWorkflowController:
        deps = Deps(self.client, SETTINGS, Endpoints(), lambda: "token", lambda *_: None)
        return RemediationWorkflowController(deps, self.shop)

    def bury(self) -> None:
        if self.controller is not None:
            self.run(self.controller.stop())

    @initialize()
    def begin(self) -> None:
        made = build.remediation_workflow(self.name)
        self.run(self.kube.create(self.resource, made.to_object()))

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule()
    def the_catalog_answers(self) -> None:
        if self.controller is not None:
            self.run(self.controller.desk.settled())

    @rule(away=st.booleans())
    def the_catalog_comes_and_goes(self, away: bool) -> None:
        self.shop.fault = Retryable("connection refused") if away else None

    @rule(seconds=st.sampled_from([1, 5, 200, 400]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(bundle=st.sampled_from(BUNDLES), suspend=st.booleans())
    def it_is_edited(self, bundle: str, suspend: bool) -> None:
        if self.found() is not None:
            body = {"spec": {"execution": {"bundle": bundle}, "suspend": suspend}}
            self.run(self.kube.patch(self.resource, self.name, body, HOME))

    @rule(dice=st.integers(0, 3))
    def it_is_deleted(self, dice: int) -> None:
        obj = self.found()
        if dice == 0 and obj is not None and not obj["metadata"].get("deletionTimestamp"):
            self.run(self.kube.delete(self.resource, self.name, HOME))

    @rule(status=st.sampled_from(["disabled", "active"]))
    def somebody_changes_the_catalog(self, status: str) -> None:
        for record in (OLD, NEW):
            if self.shop.fault is None and self.run(self.shop.workflow(record.workflow_id)) is not None:
                self.by_hand = True
                self.run(self.shop.by_hand(record.workflow_id, status))

    def teardown(self) -> None:
        try:
            self.shop.fault = None
            self.come_to_rest()
        finally:
            try:
                self.bury()
            finally:
                self.shop.shut()
                self.loop.close()
                self.folder.cleanup()

    def come_to_rest(self) -> None:
        """Look, let the catalog answer, look again, until there is only the next look to wait for, or nothing at all."""
        looks = 0
        for _ in range(80):
            outcome = self.turn()
            if self.controller is not None:
                self.run(self.controller.desk.settled())
            if outcome is not None and outcome.gone:
                self.at_rest()
                return
            if outcome is not None and outcome.reason == "Settled":
                looks += 1
                if looks > 2:
                    self.at_rest()
                    return
            if outcome is not None and outcome.reason in {"Settled", "BackingOff"}:
                self.now = max(self.now, outcome.wake_at or self.now)
        raise AssertionError(f"{self.name} does not settle: {self.outcomes[-6:]}")

    def at_rest(self) -> None:
        """What the catalog offers is what the object asks for."""
        active = {name for name, stands in self.run(self.shop.stands()).items() if stands.startswith("active")}
        obj = self.found()
        if obj is None:
            assert self.by_hand or not active
            return
        spec, status = obj["spec"], obj["status"]
        there = spec["execution"]["bundle"] in BUNDLES[:2]
        suspended = spec.get("suspend", False)
        if not there:
            assert status["phase"] == "Rejected"
        elif suspended:
            assert status["phase"] == "Suspended"
            assert f"{status['workflowName']} {status['version']}" not in active
        else:
            assert status["phase"] == "Registered" or self.by_hand
        assert status["observedGeneration"] == obj["metadata"]["generation"]


TestLife = Life.TestCase
TestLife.settings = examples(10)
