"""Jobs of executions, run on one machine: the Job and its pod read afterwards as they would in a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray import names
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.job import expanded
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner
from kubernaut_ray.kube.resources import JOB, POD


class World:
    """An API, a data directory, and runners that come and go."""

    def __init__(self, kube: KubeClient, kubeconfig: Path, namespace: str, data: Path) -> None:
        self.kube, self.kubeconfig, self.namespace, self.data = kube, kubeconfig, namespace, data
        self.runner: Runner | None = None

    async def start(self) -> None:
        cluster, stores = Cluster.read(self.kubeconfig), Stores(self.data / "bundles")
        self.runner = Runner(self.kube, cluster, stores, self.data, namespace=self.namespace, drain_timeout=0)
        await self.runner.start()

    async def die(self) -> None:
        if self.runner is not None:
            await self.runner.stop()

    async def create(
        self, script: str, *, labelled: bool = True, env: dict[str, str] | None = None, **spec: Any
    ) -> Object:
        container = {
            "name": "workflow", "image": "i", "command": ["sh", "-c", script],
            "env": [{"name": k, "value": v} for k, v in {"RESULT_SUMMARY": "/dev/termination-log", **(env or {})}.items()],
        }  # fmt: skip
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        labels = {names.LABEL_WORKFLOW_EXECUTION: "we-1"} if labelled else {}
        body = {
            "metadata": {"name": "j", "labels": labels},
            "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 20, "template": template, **spec},
        }
        return await self.kube.create(JOB, body, self.namespace)

    async def until(self, fits: Callable[[Object], object]) -> Object:
        deadline = time.monotonic() + 15
        while True:
            job = await self.kube.get(JOB, "j", self.namespace)
            if fits(job):
                return job
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.01)

    async def ended(self) -> Object:
        return await self.until(lambda job: condition(job) if condition(job)[0] in ("Complete", "Failed") else None)

    async def pod(self) -> Object:
        (pod,) = (await self.kube.list(POD, self.namespace, labels="batch.kubernetes.io/job-name=j")).items
        return pod

    async def terminated(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.pod())["status"]["containerStatuses"][0]["state"]["terminated"]
        return found


def condition(job: Object) -> tuple[str, str]:
    conditions = (job.get("status") or {}).get("conditions") or [{}]
    return conditions[0].get("type", ""), conditions[0].get("reason", "")


@pytest.fixture
async def world(kube: KubeClient, api_server: Path, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    world = World(kube, api_server, namespace, tmp_path)
    await world.start()
    yield world
    await world.die()


@pytest.mark.integration
class TestJobs:
    async def test_one_that_succeeds(self, world: World) -> None:
        """Its result is the termination message, its output a log file, its pod belongs to it."""
        await world.create('echo "hello $WHO"; echo -n "did $(WHO)" > "$RESULT_SUMMARY"', env={"WHO": "it"})
        job = await world.ended()
        assert condition(job) == ("Complete", "CompletionsReached")
        assert (job["status"]["succeeded"], job["status"]["active"]) == (1, 0)
        assert job["status"]["startTime"] <= job["status"]["completionTime"]
        pod = await world.pod()
        assert (pod["status"]["phase"], pod["metadata"]["ownerReferences"][0]["uid"]) == (
            "Succeeded",
            job["metadata"]["uid"],
        )
        state = await world.terminated()
        assert (state["exitCode"], state["message"]) == (0, "did it")
        assert "hello it" in (world.data / "logs" / "j" / f"{pod['metadata']['name']}.log").read_text()

    async def test_one_that_fails(self, world: World) -> None:
        """Tried once, with its exit code and the end of its output."""
        await world.create("echo no such thing; exit 3")
        assert condition(await world.ended()) == ("Failed", "BackoffLimitExceeded")
        state = await world.terminated()
        assert (state["exitCode"], state["message"].strip()) == (3, "no such thing")

    async def test_one_that_takes_too_long(self, world: World) -> None:
        """The deadline ends it, and what it started."""
        await world.create("sleep 60", activeDeadlineSeconds=1)
        assert condition(await world.ended()) == ("Failed", "DeadlineExceeded")

    async def test_one_whose_program_is_not_here(self, world: World) -> None:
        """Told as a container that cannot be started."""
        await world.create("", template={"spec": {"restartPolicy": "Never", "containers": [
            {"name": "workflow", "image": "i", "command": ["no-such-program"]},
        ]}})  # fmt: skip
        await world.ended()
        state = await world.terminated()
        assert (state["exitCode"], state["reason"]) == (128, "StartError")
        assert "no-such-program" in state["message"]

    async def test_one_that_is_suspended_is_killed(self, world: World) -> None:
        """Its pod goes, and the Job says so."""
        await world.create("touch $HOME/../began; sleep 60")
        await world.until(lambda job: (job.get("status") or {}).get("active"))
        await world.kube.patch(JOB, "j", {"spec": {"suspend": True}}, world.namespace)
        job = await world.until(lambda job: condition(job)[0] == "Suspended")
        assert job["status"]["active"] == 0
        assert not (await world.kube.list(POD, world.namespace)).items

    async def test_one_that_is_made_suspended_waits_until_it_is_resumed(self, world: World) -> None:
        """It has no pod and no start until then; afterwards it runs like any other."""
        await world.create("true", suspend=True)
        job = await world.until(lambda job: condition(job) == ("Suspended", "JobSuspended"))
        assert "startTime" not in job["status"]
        assert (await world.kube.list(POD, world.namespace)).items == ()
        await world.kube.patch(JOB, "j", {"spec": {"suspend": False}}, world.namespace)
        await world.until(lambda job: condition(job) != ("Suspended", "JobSuspended"))
        assert condition(await world.ended()) == ("Complete", "CompletionsReached")

    async def test_one_that_is_deleted_is_killed(self, world: World) -> None:
        """And nothing of it is left."""
        await world.create("sleep 60")
        await world.until(lambda job: (job.get("status") or {}).get("active"))
        await world.kube.delete(JOB, "j", world.namespace)
        deadline = time.monotonic() + 15
        while (await world.kube.list(POD, world.namespace)).items:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        with pytest.raises(NotFound):
            await world.kube.get(JOB, "j", world.namespace)

    async def test_one_that_was_running_when_the_runner_died_is_lost(self, world: World) -> None:
        """It is not begun a second time; how far it came is unknown."""
        await world.create(f"echo x >> {world.data}/ran; sleep 60")
        await world.until(lambda job: (job.get("status") or {}).get("active"))
        while not (world.data / "ran").exists():
            await asyncio.sleep(0.01)
        await world.die()
        await world.start()
        assert condition(await world.ended()) == ("Failed", "BackoffLimitExceeded")
        state = await world.terminated()
        assert (state["exitCode"], state["reason"]) == (255, "Lost")
        assert (world.data / "ran").read_text() == "x\n"

    async def test_a_job_of_somebody_else_is_left_alone(self, world: World) -> None:
        """Only Jobs of executions are carried out here."""
        await world.create("true", labelled=False)
        await asyncio.sleep(0.3)
        assert not (await world.kube.get(JOB, "j", world.namespace)).get("status")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B) $A", "$(B) $A"),
        ("a$(A)b$(A)", "a1b1"),
        ("$$$(A)", "$1"),
        ("$(date)", "$(date)"),
    ],
)
def test_variables_are_expanded_as_in_a_cluster(text: str, result: str) -> None:
    """Known ones, unless the dollar is doubled."""
    assert result == expanded(text, {"A": "1"})


@given(st.text())
def test_an_escaped_value_is_the_value(value: str) -> None:
    """What the engine for Jobs writes, every dollar doubled, comes out as it was."""
    assert value == expanded(value.replace("$", "$$"), {"A": "1"})
