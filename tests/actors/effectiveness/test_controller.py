"""The controller: killed at every point in memory, and with the orchestrator on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from actors.effectiveness.controller import EffectivenessController, being_verified
from actors.remediation.controller import RemediationController
from kubernaut_ray import crds, names
from kubernaut_ray.clock import rfc3339, utcnow
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.contracts.statistics import EffectivenessRecord
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.crds.enums import RemediationPhase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import EffectivenessSettings, MetricQuery, Settings
from tests import build
from tests.actors.remediation.test_walk import Incident, Sink
from tests.crash import crash_everywhere

KEY = Key(names.SYSTEM_NAMESPACE, "ea-rr-1")
SHORT = EffectivenessSettings().for_one_machine()


class Catalog:
    """What Data Storage was told."""

    def __init__(self) -> None:
        self.records: list[EffectivenessRecord] = []

    async def record_effectiveness(self, record: EffectivenessRecord) -> None:
        self.records.append(record)

    async def close(self) -> None:
        """Nothing is open."""


class Source:
    """An Alertmanager with these alerts; ``None``: it does not answer."""

    def __init__(self, *alerts: Mapping[str, str], away: bool = False) -> None:
        self._alerts, self._away = alerts, away

    async def alerts(self, name: str) -> tuple[Mapping[str, str], ...]:
        if self._away:
            raise Retryable("Alertmanager gives no usable answer")
        return tuple(one for one in self._alerts if one["alertname"] == name)

    async def close(self) -> None:
        """Nothing is open."""


class Series:
    """A Prometheus whose series had 10 before the execution and 1 after it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def mean(self, query: str, start: datetime, end: datetime, *, step: float) -> float | None:
        self.asked.append(query)
        return 10.0 if start < build.NOW else 1.0

    async def close(self) -> None:
        """Nothing is open."""


def deps(client: KubeClient, settings: Settings) -> Deps:
    return Deps(client, settings, Endpoints(), lambda: "token", lambda _ns, _name: None)


def deployment(*, ready: int = 2, image: str = "web:2") -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "metadata": {"name": "web", "namespace": "shop", "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}},
        },
        "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": ready, "updatedReplicas": 2},
    }


async def world(client: KubeClient, *, ready: int = 2) -> None:
    """A request in Verifying whose execution completed, its target, and the assessment."""
    request = build.remediation_request(phase=RemediationPhase.VERIFYING)
    made = await client.create(resources.REMEDIATION_REQUEST, request.to_object())
    owner = crds.RemediationRequest.from_object(made)
    status = {"status": request.status.to_object()}
    await client.patch(resources.REMEDIATION_REQUEST, "rr-1", status, names.SYSTEM_NAMESPACE, subresource="status")
    run = build.workflow_execution(owner, Run.COMPLETED)
    await client.create(resources.WORKFLOW_EXECUTION, run.to_object())
    status = {"status": run.status.to_object()}
    await client.patch(resources.WORKFLOW_EXECUTION, run.name, status, names.SYSTEM_NAMESPACE, subresource="status")
    await client.create(resources.DEPLOYMENT, deployment(ready=ready))
    await client.create(resources.EFFECTIVENESS_ASSESSMENT, build.effectiveness_assessment(owner).to_object())


@pytest.mark.parametrize(
    ("ready", "alerts", "reason", "score", "effective"),
    [
        pytest.param(2, (), "Full", 0.975, True, id="well, and silent"),
        pytest.param(
            2, ({"alertname": "KubePodOOMKilled"},), "AlertDecayTimeout", 0.625, True, id="well, and it fires"
        ),
        pytest.param(0, (), "Full", 0.575, False, id="down: nothing makes up for that"),
    ],
)
async def test_it_ends_the_same_wherever_it_dies(
    ready: int, alerts: tuple[Any, ...], reason: str, score: float, effective: bool
) -> None:
    """Every point of its work, with Alertmanager and Prometheus to be asked."""
    queries = {"errors": MetricQuery(query='sum(rate(errors_total{namespace="$namespace",app="$name"}[5m]))')}
    settings = Settings(effectiveness=EffectivenessSettings(enabled=True, queries=queries, poll_interval=600))
    catalog, series = Catalog(), Series()

    def make(client: KubeClient) -> EffectivenessController:
        return EffectivenessController(deps(client, settings), catalog, Source(*alerts), series)

    report = await crash_everywhere(make, lambda client: world(client, ready=ready), KEY, max_steps=400)
    status = report.world.objects["EffectivenessAssessment kubernaut-system/ea-rr-1"]["status"]
    assert (status["phase"], status["reason"], status["score"], status["effective"]) == (
        "Completed", reason, pytest.approx(score), effective,
    )  # fmt: skip
    assert {one.effective for one in catalog.records} == {effective}
    assert set(series.asked) == {'sum(rate(errors_total{namespace="shop",app="web"}[5m]))'}


async def test_an_alertmanager_that_is_away_is_left_out_in_the_end() -> None:
    """Its answer would have been waited for; the target's health must do."""
    settings = Settings(effectiveness=EffectivenessSettings(enabled=True, poll_interval=600))

    def make(client: KubeClient) -> EffectivenessController:
        return EffectivenessController(deps(client, settings), Catalog(), Source(away=True))

    report = await crash_everywhere(make, world, KEY, max_steps=400)
    status = report.world.objects["EffectivenessAssessment kubernaut-system/ea-rr-1"]["status"]
    assert (status["reason"], status["effective"]) == ("Partial", True)
    assert status["completedAt"] >= status["validUntil"]


def test_a_request_that_is_being_verified_wakes_its_assessment() -> None:
    """What the gateway is told of the signal lies in its status; other requests have no assessment yet."""
    verifying = build.remediation_request(phase=RemediationPhase.VERIFYING).to_object()
    assert list(being_verified(verifying)) == [KEY]
    assert list(being_verified(build.remediation_request(phase=RemediationPhase.EXECUTING).to_object())) == []


@asynccontextmanager
async def at_work(
    kube: KubeClient, namespace: str, tmp_path: Path, catalog: Catalog, sink: Sink
) -> AsyncIterator[None]:
    """The orchestrator and the effectiveness controller."""
    settings = Settings(namespace=namespace, data_dir=tmp_path, effectiveness=SHORT)
    given = deps(kube, settings)
    loops = [
        ControlLoop(made, kube, sink, WorkQueue(backoff_base=0.05), settings=settings.fleet, namespace=namespace)
        for made in (RemediationController(given), EffectivenessController(given, catalog))
    ]
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        yield
    finally:
        for loop in loops:
            loop.drain()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)


async def executed(incident: Incident) -> None:
    """Play an incident up to the success of its workflow."""
    await incident.open()
    await incident.play(crds.SignalProcessing, "sp-rr-1", build.signal_processing(incident.request).status)
    await incident.analysed(approval=False)
    done = build.workflow_execution(incident.request, Run.COMPLETED, ended=utcnow())
    await incident.play(crds.WorkflowExecution, "we-rr-1", done.status)


async def workload(kube: KubeClient, shop: str, *, ready: int) -> None:
    await kube.create(resources.NAMESPACE, {"metadata": {"name": shop}})
    body = deployment(ready=ready)
    body["metadata"]["namespace"] = shop
    status = {"status": body.pop("status")}
    await kube.create(resources.DEPLOYMENT, body)
    await kube.patch(resources.DEPLOYMENT, "web", status, shop, subresource="status")


def about(shop: str) -> dict[str, Any]:
    return {"target_resource": build.TARGET.replace(namespace=shop)}


@pytest.mark.integration
async def test_a_fix_that_helped(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """Executing → Verifying → Completed; a resolved notification on the way makes the judgement full."""
    incident, catalog, sink, shop = Incident(kube, namespace), Catalog(), Sink(), f"{namespace}-shop"
    incident.request = build.remediation_request(spec=about(shop))
    await workload(kube, shop, ready=2)
    async with at_work(kube, namespace, tmp_path, catalog, sink):
        await executed(incident)
        await incident.wait(crds.RemediationRequest, "rr-1", overallPhase="Verifying")
        resolved = {"status": {"resolved": {"resolvedAt": rfc3339(utcnow()), "source": "alertmanager"}}}
        await kube.patch(resources.REMEDIATION_REQUEST, "rr-1", resolved, namespace, subresource="status")
        ended = await incident.wait(crds.RemediationRequest, "rr-1", overallPhase="Completed")
        judged = await incident.wait(crds.EffectivenessAssessment, "ea-rr-1", phase="Completed")
        run = await incident.wait(crds.WorkflowExecution, "we-rr-1")
        async with asyncio.timeout(10):
            while not catalog.records:
                await asyncio.sleep(0.02)
    assert (ended["status"]["outcome"], ended["status"]["effectivenessScore"]) == ("Remediated", 1)
    assert (judged["status"]["reason"], judged["status"]["specChanged"]) == ("Full", False)
    assert run["metadata"]["annotations"][names.ANNOTATION_SPEC_HASH].startswith("sha256:")
    assert [one.effective for one in catalog.records] == [True]
    told = [event.event_type for event in sink.events.values()]
    assert told.count("effectiveness.assessment.completed") == 1


@pytest.mark.integration
async def test_a_fix_that_did_not_help(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """The pods crash again after the workflow's success: inconclusive, and a person's turn."""
    incident, catalog, shop = Incident(kube, namespace), Catalog(), f"{namespace}-shop"
    incident.request = build.remediation_request(spec=about(shop))
    await workload(kube, shop, ready=0)
    pod = {
        "metadata": {"name": "web-1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": "web:2"}]},
    }
    await kube.create(resources.POD, pod, shop)
    looping = {"name": "app", "image": "web:2", "imageID": "", "ready": False, "restartCount": 3,
               "state": {"waiting": {"reason": "CrashLoopBackOff"}}}  # fmt: skip
    status = {"status": {"phase": "Running", "containerStatuses": [looping]}}
    await kube.patch(resources.POD, "web-1", status, shop, subresource="status")
    async with at_work(kube, namespace, tmp_path, catalog, Sink()):
        await executed(incident)
        ended = await incident.wait(crds.RemediationRequest, "rr-1", overallPhase="Completed")
        review = await incident.wait(crds.NotificationRequest, "nr-manual-review-rr-1")
    assert (ended["status"]["outcome"], ended["status"]["requiresManualReview"]) == ("Inconclusive", True)
    assert "in a crash loop: web-1" in review["spec"]["body"]
