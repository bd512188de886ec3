"""What ``reconcile.py`` compares: incidents that each controller carries to the same end, and figures that say what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.remediation.controller import build as build_ours
from benchmarks import _controller_plain, reconcile
from benchmarks._incidents import NAMESPACE, PHASES, SETTLED, Stage, seed
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Controller, Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import AlreadyExists
from kubernaut_ray.settings import Settings


class Sink:
    async def record(self, event: AuditEvent) -> None:
        """Taken."""


@pytest.mark.parametrize("make", [build_ours, _controller_plain.build], ids=["ours", "plain"])
async def test_every_controller_carries_an_incident_through_the_same_steps(
    kube: KubeClient, tmp_path: Path, make: Callable[[Deps], Controller[Any, Any]]
) -> None:
    """Six writes of the parent's status, four of them reactions; live incidents stay where they are."""
    try:
        await kube.create(resources.NAMESPACE, {"metadata": {"name": NAMESPACE}})
    except AlreadyExists:
        await _clear(kube)
    await seed(kube, 2)
    queue = WorkQueue()
    settings = Settings(data_dir=tmp_path)
    deps = Deps(kube, settings, Endpoints(), str, lambda ns, name: queue.add(Key(ns, name)))
    loop = ControlLoop(make(deps), kube, Sink(), queue, settings=settings.fleet, namespace=NAMESPACE)
    running = asyncio.create_task(loop.run())
    try:
        async with Stage(kube) as stage:
            carried = await stage.closed_loop("one", 3, 2, patience=60)
    finally:
        loop.drain()
        await running
    assert [[*PHASES, SETTLED]] * 3 == [incident.steps for incident in carried]
    assert [len(incident.reactions) for incident in carried] == [4, 4, 4]
    live = await kube.get(resources.REMEDIATION_REQUEST, "live-00001", NAMESPACE)
    assert live["status"]["overallPhase"] == "Processing"
    await _clear(kube)


async def _clear(kube: KubeClient) -> None:
    for obj in (await kube.list(resources.REMEDIATION_REQUEST, NAMESPACE)).items:
        await kube.delete(resources.REMEDIATION_REQUEST, obj["metadata"]["name"], NAMESPACE)
    while (await kube.list(resources.NOTIFICATION_REQUEST, NAMESPACE)).items:
        await asyncio.sleep(0.02)  # children go with their owners
    while (await kube.list(resources.SIGNAL_PROCESSING, NAMESPACE)).items:
        await asyncio.sleep(0.02)


async def test_an_incident_that_nobody_carries_is_told_by_name(kube: KubeClient) -> None:
    """A controller that does nothing is an error of the benchmark, not a figure."""
    try:
        await kube.create(resources.NAMESPACE, {"metadata": {"name": NAMESPACE}})
    except AlreadyExists:
        await _clear(kube)
    async with Stage(kube) as stage:
        with pytest.raises(RuntimeError, match="1 incidents did not end within 0 s: lost-00000 after nothing"):
            await stage.open_loop("lost", 1, 10.0, patience=0.2)
    await _clear(kube)


def test_headlines_come_from_the_sizes_that_their_names_say() -> None:
    """A figure that was not measured is left out."""

    def at(transitions: float, cost: float) -> dict[str, Any]:
        return {
            "transitions_per_s": transitions,
            "transitions_per_cpu_s": transitions * 2,
            "reaction_p99_ms": 40.0,
            "controller_cpu_ms_per_remediation": cost,
        }

    details = {
        "ours_100": at(90, 20.0),
        "ours_1000": at(80, 20.0),
        "ours_10000": at(70, 22.0),
        "kopf_1000": at(20, 80.0),
        "beside_kopf_1000": {"ours_s": 3.5, "ours_cpu_s": 4.5},
    }
    assert pytest.approx(reconcile.headlines(details)) == {
        "ratio_kopf": 3.5,
        "ratio_kopf_cpu": 4.5,
        "p99_reaction_ms_1000": 40.0,
        "cost_ratio_10000_over_100": 1.1,
    }
    assert reconcile.headlines({"ours_10": at(1, 1.0)}) == {}


def test_a_turn_is_compared_with_its_neighbour() -> None:
    """A machine that was slow for one turn of each does not change their ratio."""
    ours, kopf = ([{"rate": rate} for rate in rates] for rates in ((90, 30, 93), (30, 10, 30)))
    assert reconcile.beside(ours, kopf, "rate") == 3.0
