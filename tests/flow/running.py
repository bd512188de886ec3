"""A whole system as a person runs it: ``kubernaut-ray up`` in a process of its own, and ways to stop or kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from kubernaut_ray import clock, names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object

START_TIMEOUT = 120.0


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, deepest last, as the kernel lists them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(0), []):
            found.append(child)
            queue.append(child)
    return found


class Running:
    """One ``kubernaut-ray up`` on one data directory."""

    def __init__(self, data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._options = options
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.load(self.data_dir)

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.data_dir / 'token').read_text().strip()}"}

    def start(self) -> float:
        """Start and wait for the line that starts with ``ready``. Returns the seconds it took."""
        began = time.monotonic()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = (self.data_dir / "up.log").open("ab")
        command = [sys.executable, "-m", "kubernaut_ray.cli", "up", "--data-dir", str(self.data_dir), *self._options]
        with log:
            offset = log.tell()
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self._environment}
            )
        while time.monotonic() - began < START_TIMEOUT:
            text = (self.data_dir / "up.log").read_bytes()[offset:].decode(errors="replace")
            if any(line.startswith("ready") for line in text.splitlines()):
                return time.monotonic() - began
            if self._process.poll() is not None:
                raise AssertionError(f"up ended with {self._process.returncode}:\n{text[-4000:]}")
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"up was not ready in {START_TIMEOUT:.0f} s:\n{text[-4000:]}")

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """``kill -9`` of the whole process tree."""
        if self._process is None or self._process.poll() is not None:
            return
        tree = [self._process.pid, *descendants(self._process.pid)]
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + 10
        while any(_alive(pid) for pid in tree[1:]) and time.monotonic() < deadline:
            time.sleep(0.05)


@contextlib.contextmanager
def started(data_dir: Path, *options: str) -> Iterator[Running]:
    """A system that is ready, killed at the end."""
    system = Running(data_dir, *options)
    system.start()
    try:
        yield system
    finally:
        system.kill()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def alert(
    deployment: str, namespace: str, *, name: str = "KubeContainerOOMKilled", status: str = "firing"
) -> dict[str, Any]:
    """One alert of an Alertmanager webhook about a Deployment."""
    return {
        "status": status,
        "labels": {
            "alertname": name, "namespace": namespace, "deployment": deployment, "severity": "critical", "reason": "OOMKilled",
        },
        "annotations": {"summary": f"A container of {deployment} was OOMKilled"},
        "startsAt": clock.rfc3339(clock.utcnow()),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph",
        "fingerprint": "0123456789abcdef",
    }  # fmt: skip


def webhook(*alerts: dict[str, Any], status: str = "firing") -> dict[str, Any]:
    """An Alertmanager webhook, version 4."""
    return {
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": status, "receiver": "kubernaut",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.example.org",
        "alerts": list(alerts),
    }  # fmt: skip


async def post(running: Running, payload: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """POST a webhook to the gateway."""
    url = f"{running.endpoints.gateway}/api/v1/signals/prometheus"
    async with aiohttp.ClientSession(headers=running.headers) as session, session.post(url, json=payload) as response:
        return response.status, await response.json()


def deployment(name: str, namespace: str, *, limit: str = "128Mi", needs: str = "200Mi", replicas: int = 1) -> Object:
    """A Deployment; with the workload simulator its pods are OOMKilled while ``needs`` exceeds ``limit``."""
    labels = {"app": name}
    container = {"name": "main", "image": "registry.example.org/app:1.0.0", "resources": {"limits": {"memory": limit}}}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"simulate.kubernaut.ai/memory": needs}},
                "spec": {"containers": [container]},
            },
        },
    }


async def broken(client: KubeClient, name: str, namespace: str, environment: str = "production") -> None:
    """Create a Deployment whose pods are OOMKilled, in a namespace of that environment, and wait until they are."""
    if namespace not in {n["metadata"]["name"] for n in (await client.list(resources.NAMESPACE)).items}:
        labels = {names.LABEL_ENVIRONMENT: environment, names.LABEL_MANAGED: "true"}
        await client.create(resources.NAMESPACE, {"metadata": {"name": namespace, "labels": labels}})
    await client.create(resources.DEPLOYMENT, deployment(name, namespace))
    async with asyncio.timeout(30):
        while True:
            pods = await client.list(resources.POD, namespace, labels=f"app={name}")
            if any(p.get("status", {}).get("containerStatuses") for p in pods.items):
                return
            await asyncio.sleep(0.1)


async def eventually(
    client: KubeClient, name: str, condition: Callable[[RemediationRequest], bool], timeout: float = 60.0
) -> RemediationRequest:
    """Poll a RemediationRequest until the condition holds; fails with what it last looked like."""
    deadline = time.monotonic() + timeout
    while True:
        obj = await client.get(resources.REMEDIATION_REQUEST, name, "kubernaut-system")
        remediation = RemediationRequest.from_object(obj)
        if condition(remediation):
            return remediation
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{name} after {timeout:.0f} s: {remediation.status.model_dump_json(exclude_none=True)[:3000]}"
            )
        await asyncio.sleep(0.05)
