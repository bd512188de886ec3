"""The whole system as processes: the walk of one alert, restarts, and ``kill -9`` of everything in each phase."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from kubernaut_ray import names
from kubernaut_ray.crds import NotificationRequest, RemediationRequest
from kubernaut_ray.crds.enums import AttemptStatus, Outcome, RemediationPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.flow.running import Running, alert, broken, descendants, eventually, post, webhook

pytestmark = [pytest.mark.flow, pytest.mark.rayed, pytest.mark.timeout(600)]

STAGING = "flow-staging"
PRODUCTION = "flow-production"


async def memory_limit(client: KubeClient, name: str, namespace: str) -> str:
    found = await client.get(resources.DEPLOYMENT, name, namespace)
    return str(found["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


def remediation_of(answer: dict[str, object]) -> str:
    results = answer.get("results") or [answer]
    assert isinstance(results, list)
    found = {r["remediationRequestName"] for r in results}
    assert len(found) == 1, answer
    return str(found.pop())


async def approve(running: Running, name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubernaut_ray.cli", "approve", name, "-m", "go", "--data-dir", str(running.data_dir),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    text, _ = await process.communicate()
    assert process.returncode == 0, text.decode()


async def check_single(client: KubeClient, remediation: RemediationRequest) -> None:
    """Each PipelineRun exists once, and each notification went out at most once more than needed, and says so."""
    selector = f"{names.LABEL_REMEDIATION}={remediation.name}"
    executions = await client.list(resources.WORKFLOW_EXECUTION, names.SYSTEM_NAMESPACE, labels=selector)
    assert len(executions.items) == 1
    runs = await client.list(
        resources.PIPELINE_RUN,
        names.WORKFLOW_NAMESPACE,
        labels=f"{names.LABEL_WORKFLOW_EXECUTION}={executions.items[0]['metadata']['name']}",
    )
    assert len(runs.items) == 1
    task_runs = await client.list(
        resources.TASK_RUN,
        names.WORKFLOW_NAMESPACE,
        labels=f"tekton.dev/pipelineRun={runs.items[0]['metadata']['name']}",
    )
    assert len(task_runs.items) == 1
    for obj in (await client.list(resources.NOTIFICATION_REQUEST, names.SYSTEM_NAMESPACE, labels=selector)).items:
        request = NotificationRequest.from_object(obj)
        for channel in {a.channel for a in request.status.delivery_attempts}:
            attempts = [a for a in request.status.delivery_attempts if a.channel == channel]
            assert sum(a.status is AttemptStatus.SUCCESS for a in attempts) <= 1
            assert sum(a.status is AttemptStatus.UNKNOWN for a in attempts) <= 1
            if any(a.status is AttemptStatus.UNKNOWN for a in attempts[:-1]):
                assert attempts[-1].possible_duplicate


async def test_alert_outside_production_is_remediated_without_approval(running: Running, client: KubeClient) -> None:
    """An alert in staging goes all the way by itself, and the Deployment is really changed."""
    await broken(client, "auto", STAGING, "staging")
    code, answer = await post(running, webhook(alert("auto", STAGING)))
    assert code == 201, answer
    done = await eventually(
        client, remediation_of(answer), lambda r: bool(r.status.overall_phase and r.status.overall_phase.terminal)
    )
    assert (done.status.overall_phase, done.status.outcome) == (RemediationPhase.COMPLETED, Outcome.REMEDIATED), (
        done.status
    )
    assert await memory_limit(client, "auto", STAGING) != "128Mi"
    await check_single(client, done)


async def test_duplicates_over_both_replicas_open_one_remediation(running: Running, client: KubeClient) -> None:
    """64 concurrent posts of one alert make exactly one RemediationRequest, and every one of them is counted."""
    await broken(client, "dup", PRODUCTION)
    answers = await asyncio.gather(*(post(running, webhook(alert("dup", PRODUCTION))) for _ in range(64)))
    assert {code for code, _ in answers} <= {201, 202}
    assert sum(code == 201 for code, _ in answers) == 1
    name = {remediation_of(answer) for _, answer in answers}
    assert len(name) == 1
    counted = await eventually(
        client,
        name.pop(),
        lambda r: r.status.deduplication is not None and r.status.deduplication.occurrence_count == 64,
    )
    assert counted.status.deduplication is not None


async def test_every_route_demands_the_token(running: Running) -> None:
    """Without a token, and with a wrong one, every service answers 401 as problem+json."""
    endpoints = running.endpoints
    urls = [
        f"{endpoints.gateway}/api/v1/signals/prometheus",
        f"{endpoints.holmesgpt}/api/v1/investigations/x",
        f"{endpoints.data_storage}/api/v1/workflows",
    ]
    async with aiohttp.ClientSession() as session:
        for url in urls:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                async with session.get(url, headers=headers) as response:
                    assert response.status == 401, url
                    assert response.content_type == "application/problem+json"


def test_listeners_are_on_loopback(running: Running) -> None:
    """Nothing that answers HTTP is reachable from another machine; only Serve's replicas keep a gRPC port everywhere."""
    pids = {running.pid, *descendants(running.pid)}
    listing = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    ours = [line.split() for line in listing.splitlines() if any(f"pid={pid}," in line for pid in pids)]
    loopback = ("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:")
    exposed = [(fields[3], fields[5]) for fields in ours if not fields[3].startswith(loopback)]
    assert len(ours) > 10
    assert all("ray::ServeRepli" in process for _, process in exposed), exposed
    assert [address for address, _ in exposed if _answers_http(address.rsplit(":", 1)[1])] == []


def _answers_http(port: str) -> bool:
    """Whether anything like HTTP/1 comes back from this port."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "2", f"http://127.0.0.1:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout not in ("000", "")


@pytest.mark.parametrize(
    "phase",
    [
        RemediationPhase.PROCESSING,
        RemediationPhase.ANALYZING,
        RemediationPhase.AWAITING_APPROVAL,
        RemediationPhase.EXECUTING,
        RemediationPhase.COMPLETED,
    ],
)
async def test_kill_of_the_whole_tree_loses_nothing(running: Running, phase: RemediationPhase) -> None:
    """After ``kill -9`` of everything in a phase, ``up`` on the same directory ends the incident as it would have ended."""
    name = f"kill-{phase.value.lower()}"
    async with await KubeClient.connect(running.kubeconfig) as client:
        await broken(client, name, PRODUCTION)
        _, answer = await post(running, webhook(alert(name, PRODUCTION)))
        remediation = remediation_of(answer)
        order = [RemediationPhase.PENDING, *RemediationPhase]

        def reached(r: RemediationRequest) -> bool:
            now = r.status.overall_phase
            return now is not None and order.index(now) >= order.index(phase)

        if phase in (RemediationPhase.EXECUTING, RemediationPhase.COMPLETED):
            await eventually(
                client, remediation, lambda r: r.status.overall_phase is RemediationPhase.AWAITING_APPROVAL
            )
            await approve(running, remediation)
        await eventually(client, remediation, reached)
    await asyncio.to_thread(running.kill)
    await asyncio.to_thread(running.start)
    async with await KubeClient.connect(running.kubeconfig) as client:
        seen = await eventually(
            client,
            remediation,
            lambda r: (
                r.status.overall_phase in (RemediationPhase.AWAITING_APPROVAL, RemediationPhase.COMPLETED)
                or (r.status.overall_phase is not None and r.status.overall_phase.terminal)
                or phase is RemediationPhase.EXECUTING
            ),
        )
        if seen.status.overall_phase is RemediationPhase.AWAITING_APPROVAL:
            await approve(running, remediation)
        done = await eventually(
            client, remediation, lambda r: bool(r.status.overall_phase and r.status.overall_phase.terminal)
        )
        assert (done.status.overall_phase, done.status.outcome) == (RemediationPhase.COMPLETED, Outcome.REMEDIATED), (
            done.status
        )
        assert await memory_limit(client, name, PRODUCTION) == "256Mi"
        await check_single(client, done)


async def test_a_killed_actor_comes_back_and_goes_on(running: Running, client: KubeClient) -> None:
    """``kill -9`` of every controller's process while an incident walks loses nothing."""
    await broken(client, "actors", STAGING, "staging")
    _, answer = await post(running, webhook(alert("actors", STAGING)))
    remediation = remediation_of(answer)
    for pid in descendants(running.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if "ControllerHost" in command:
            os.kill(pid, signal.SIGKILL)
    done = await eventually(
        client, remediation, lambda r: bool(r.status.overall_phase and r.status.overall_phase.terminal)
    )
    assert done.status.outcome is Outcome.REMEDIATED, done.status
    await check_single(client, done)


async def test_sigterm_drains_and_a_second_start_goes_on(running: Running) -> None:
    """SIGTERM ends with code 0; a second start on the same directory is ready again with everything in place."""
    assert await asyncio.to_thread(running.stop) == 0
    await asyncio.to_thread(running.start)
    async with await KubeClient.connect(running.kubeconfig) as client:
        assert (await client.list(resources.REMEDIATION_REQUEST, names.SYSTEM_NAMESPACE)).items


async def test_a_second_up_on_the_directory_is_refused(running: Running) -> None:
    """Two systems never share a data directory: the second says who holds it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubernaut_ray.cli", "up", "--data-dir", str(running.data_dir),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    text, _ = await process.communicate()
    assert process.returncode == 1
    assert str(running.pid) in text.decode()
