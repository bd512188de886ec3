from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubernaut_ray.kube.resources import PIPELINE_RUN, TASK_RUN

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[4]


@asynccontextmanager
async def process(kubeconfig, data, namespace):
    """The runner as its own process, ready."""
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubernaut_ray.kube.pipelines",
        "--kubeconfig", str(kubeconfig), "--data-dir", str(data), "--namespace", namespace,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert (await asyncio.wait_for(runner.stdout.readline(), 30)).startswith(b"ready")
        yield runner
    finally:
        if runner.returncode is None:
            runner.kill()
        await runner.wait()
        runner._transport.close()


async def start(kube, namespace, name, script, **task):
    task = {"name": "a", "taskSpec": {"steps": [{"name": "s", "script": script}]}, **task}
    await kube.create(
        PIPELINE_RUN, {"metadata": {"name": name}, "spec": {"pipelineSpec": {"tasks": [task]}}}, namespace
    )


async def reason(kube, namespace, name, resource=PIPELINE_RUN):
    """Wait for the end and return why."""
    deadline = time.monotonic() + 20
    while True:
        status = (await kube.get(resource, name, namespace)).get("status") or {}
        if status.get("completionTime"):
            return status["conditions"][0]["reason"]
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.05)


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_runner_is_killed_and_comes_back(kube, api_server, namespace, tmp_path):
    """The step dies with it, is never run again by itself, and the run ends with the reason."""
    pid, count = tmp_path / "pid", tmp_path / "count"
    async with process(api_server, tmp_path, namespace) as runner:
        await start(kube, namespace, "r", f"echo x >> {count}; echo $$ > {pid}; sleep 60")
        await until(lambda: pid.exists() and pid.read_text().strip())
        runner.send_signal(signal.SIGKILL)
        await runner.wait()
    await until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    async with process(api_server, tmp_path, namespace):
        assert await reason(kube, namespace, "r") == "Failed"
        assert await reason(kube, namespace, "r-a", TASK_RUN) == "TaskRunLost"
        await start(kube, namespace, "q", "true")
        assert await reason(kube, namespace, "q") == "Succeeded"
    assert count.read_text() == "x\n"


async def test_sigterm_drains(kube, api_server, namespace, tmp_path):
    """What runs may end, then the process exits with 0."""
    begun = tmp_path / "begun"
    async with process(api_server, tmp_path, namespace) as runner:
        await start(kube, namespace, "r", f"touch {begun}; sleep 0.5")
        await until(begun.exists)
        runner.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(runner.wait(), 20) == 0
    assert await reason(kube, namespace, "r-a", TASK_RUN) == "Succeeded"


async def test_a_second_runner_is_refused(api_server, namespace, tmp_path):
    """With a message, not a traceback."""
    async with process(api_server, tmp_path, namespace):
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubernaut_ray.kube.pipelines", "--kubeconfig", str(api_server),
            "--data-dir", str(tmp_path), cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await second.communicate()
    assert (second.returncode, said[:40]) == (1, b"pipeline runner: another pipeline runner")
