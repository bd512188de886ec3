"""Exactly once across two clusters: the owner is stopped between its check and its write, another takes over, it wakes.

Real processes, an API server over HTTPS, the webhook or none, a runner that really changes the target. The one that is
stopped (SIGSTOP) has sent its request, which the way to the API server holds up: nobody can tell that from a process that is
stopped right before it sends it. The two fleets are of different sizes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catalog.bundles import Bundles, pack, reference_for
from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control import shards
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.cache import Cache
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.embedded import pki
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.runtime import admission
from tests import build
from tests.cluster import MANIFESTS
from tests.serve_apps.admission.world import World, world
from tests.stall import Stall, stall

pytestmark = pytest.mark.integration

HOME, RUNS, SHOP = names.SYSTEM_NAMESPACE, names.WORKFLOW_NAMESPACE, "shop"
REMEDIATION = build.remediation_request("rr-1")
SHARD = names.shard_of("rr-1")
TARGET = f"{SHOP}/deployment/web"
RUN = names.pipeline_run(TARGET)


@dataclass
class Engine:
    """How an execution is carried out: its workflow, its parameters, its kind of run, and what each start of one leaves."""

    folder: str
    parameters: dict[str, str]
    kind: Resource
    part: Resource


MEMORY = {"TARGET_RESOURCE_KIND": "Deployment", "TARGET_RESOURCE_NAME": "web", "TARGET_RESOURCE_NAMESPACE": SHOP}
TEKTON = Engine(
    "workflows/increase-memory-limits",
    {**MEMORY, "ROLLOUT_TIMEOUT_SECONDS": "0"},
    resources.PIPELINE_RUN,
    resources.TASK_RUN,
)
JOB = Engine("samples/job-workflow", {"NOTE": "look"}, resources.JOB, resources.POD)


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 60) -> Any:
    try:
        async with asyncio.timeout(seconds):
            while not (found := await condition()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


@dataclass
class Scene:
    """The world with a runner, one execution to carry out, and the starts that were seen."""

    it: World
    tmp: Path
    engine: Engine
    workflow: Workflow
    started: set[str]

    @property
    def kube(self) -> Any:
        return self.it.kube

    async def execute(self) -> None:
        made = build.workflow_execution(REMEDIATION, None)
        ref = made.spec.workflow_ref.replace(
            workflow_id=self.workflow.workflow_id,
            container_image=self.workflow.container_image,
            container_digest=self.workflow.container_digest,
            engine=str(self.workflow.execution_engine),
        )
        spec = made.spec.replace(workflow_ref=ref, parameters=self.engine.parameters, target_resource=TARGET)
        body = {
            "metadata": {"name": made.name, "labels": names.shard_label("rr-1")},
            "spec": made.replace(spec=spec).to_object()["spec"],
        }
        await self.kube.create(resources.WORKFLOW_EXECUTION, body, HOME)
        self.name = made.name

    async def status(self) -> Object:
        found = await self.kube.get(resources.WORKFLOW_EXECUTION, self.name, HOME)
        return dict(found.get("status") or {})

    async def released(self) -> bool:
        return bool((await self.status()).get("lockReleased"))

    async def run(self) -> Object | None:
        try:
            return dict(await self.kube.get(self.engine.kind, RUN, RUNS))
        except NotFound:
            return None

    async def gone(self) -> bool:
        return await self.run() is None


@dataclass
class Executor:
    """One process that carries executions out."""

    process: asyncio.subprocess.Process
    log: Path
    facts: Path

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [told for line in lines if line.startswith("{") and (told := json.loads(line))["event"] == event]

    async def told(self, event: str) -> bool:
        return bool(self.events(event))

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 30)


@pytest.fixture(params=[TEKTON, JOB], ids=["tekton", "job"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    engine: Engine = request.param
    async with world(tmp_path / "world") as it:
        await it.kube.create(resources.NAMESPACE, {"metadata": {"name": SHOP}})
        container = {"name": "web", "image": "i", "resources": {"limits": {"memory": "128Mi"}}}
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
        await it.kube.create(resources.DEPLOYMENT, body, SHOP)
        folder = MANIFESTS / engine.folder
        bundles = Bundles(tmp_path / "bundles")
        workflow, _ = bundles.workflow(str(bundles.push(folder, reference_for(pack(folder).workflow))))
        (tmp_path / "workflow.json").write_text(workflow.model_dump_json())
        started: set[str] = set()

        def seen(_: Object | None, new: Object | None) -> None:
            if new is not None:
                started.add(new["metadata"]["uid"])

        runner = Runner(it.kube, Cluster.read(it.server.kubeconfig), Stores(tmp_path / "bundles"), tmp_path)
        counter = Cache(it.kube, engine.part, RUNS, on_change=seen)
        counting = asyncio.create_task(counter.run())
        await runner.start()
        yield Scene(it, tmp_path, engine, workflow, started)
        await runner.stop()
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


@pytest.fixture
async def way(scene: Scene) -> AsyncIterator[Stall]:
    """A way to the API server that holds up the creation of a run."""
    first_line = f"POST {scene.engine.kind.path(RUNS)}"
    server = scene.it.server
    async with stall(scene.tmp / "stall", first_line, server.url, server.data_dir / "ca.crt") as it:
        yield it


@pytest.fixture
async def start(scene: Scene) -> AsyncIterator[Callable[..., Awaitable[Executor]]]:
    running: list[Executor] = []

    async def make(place: str, part: shards.ShardRange, url: str, ca: bytes) -> Executor:
        """Start one under the platform's own account."""
        kubeconfig, log, facts = (scene.tmp / f"{place}.{end}" for end in ("kubeconfig", "log", "facts"))
        kubeconfig.write_bytes(pki.kubeconfig(url=url, ca=ca, token=scene.it.tokens["platform"]))
        told = {
            "kubeconfig": str(kubeconfig),
            "place": place,
            "shards": [part.first, part.last],
            "workflow": str(scene.tmp / "workflow.json"),
            "facts": str(facts),
        }
        facts.touch()
        with log.open("w") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.executor", json.dumps(told), stdout=out, stderr=out
            )
        running.append(Executor(process, log, facts))
        return running[-1]

    yield make
    for executor in running:
        await executor.end()


@pytest.mark.parametrize("webhook", [True, False], ids=["webhook", "none"])
async def test_an_owner_that_slept_through_everything_does_nothing_twice(
    scene: Scene, way: Stall, start: Callable[..., Awaitable[Executor]], webhook: bool
) -> None:
    """One run, one change of the target, each fact once. With the webhook the late write is refused; without, what it makes
    is never let go, and the new owner deletes it.
    """
    if not webhook:
        await admission.remove(scene.kube)
    server = scene.it.server
    await scene.execute()
    first = await start("first", shards.ShardRange(), way.url, way.ca)
    await asyncio.wait_for(way.caught.wait(), 60)
    os.kill(first.process.pid, signal.SIGSTOP)
    assert await scene.gone()

    [part] = [part for part in shards.ranges(3) if SHARD in part]
    second = await start("second", part, server.url, (server.data_dir / "ca.crt").read_bytes())
    await until(scene.released, "the second owner carries the execution out and releases the target")
    assert await scene.gone()
    before = await scene.status()
    assert before["phase"] == "Completed", before
    assert len(scene.started) == 1

    way.go.set()
    assert await asyncio.wait_for(way.answer, 60) == (403 if webhook else 201)
    os.kill(first.process.pid, signal.SIGCONT)
    await until(lambda: first.told("reconcile.fenced"), "the first owner tells that it was refused")
    await until(scene.gone, "nothing is left behind")
    if webhook:
        [refusal] = first.events("reconcile.fenced")
        assert "token 1 is old, 2 is current" in refusal["error"]
    await until(lambda: first.told("lease.lost"), "the first owner knows that it is none")

    assert await scene.status() == before
    assert len(scene.started) == 1
    facts = [line for executor in (first, second) for line in executor.facts.read_text().splitlines()]
    assert facts == ["workflow.started", "workflow.completed"]
    deployment = await scene.kube.get(resources.DEPLOYMENT, "web", SHOP)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    if scene.engine is TEKTON:  # which doubles the limit every time it runs
        assert container["resources"]["limits"]["memory"] == "256Mi"
    else:
        assert deployment["metadata"]["annotations"]["kubernaut.ai/review"] == "look"
