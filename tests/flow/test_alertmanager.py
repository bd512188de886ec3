"""Debian's Prometheus and Alertmanager, unmodified, against the gateway over real HTTP: what fires becomes a request.

Needs the Debian packages ``prometheus`` and ``prometheus-alertmanager``.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from kubernaut_ray import clock, names
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from kubernaut_ray.settings import GatewaySettings, Settings
from serve_apps.gateway.app import Deps, create_app
from serve_apps.http import KubeGate
from tests.serve_apps.gateway.world import Facts
from tests.serving import serving

pytestmark = pytest.mark.flow

PROMETHEUS = "/usr/bin/prometheus"
ALERTMANAGER = "/usr/bin/prometheus-alertmanager"
PATIENCE = 45.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Poll until the condition gives something true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.1)
    return found


@asynccontextmanager
async def running(log: Path, *command: str) -> AsyncIterator[None]:
    """Run a program; its output goes to ``log``."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            yield
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 20)


async def answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(url)).status_code == 200
        except httpx.TransportError:
            return False


@asynccontextmanager
async def alertmanager(folder: Path, gateway: str, token: Path) -> AsyncIterator[str]:
    """Run Alertmanager with nothing but its documented webhook configuration; yields its URL."""
    receiver = {
        "name": "kubernaut",
        "webhook_configs": [
            {
                "url": f"{gateway}/api/v1/signals/prometheus",
                "send_resolved": True,
                "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(token)}},
            }
        ],
    }
    route = {
        "receiver": "kubernaut",
        "group_by": ["namespace"],
        "group_wait": "1s",
        "group_interval": "1s",
        "repeat_interval": "4h",
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    port = free_port()
    async with running(
        folder / "alertmanager.log",
        ALERTMANAGER,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=debug",
    ):
        url = f"http://127.0.0.1:{port}"
        await until(lambda: answers(f"{url}/-/ready"), "Alertmanager is ready")
        yield url


@asynccontextmanager
async def prometheus(folder: Path, alerts: str, rules: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Run Prometheus with these alerting rules; yields its URL."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "interval": "1s", "rules": rules}]}))
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts.removeprefix("http://")]}]}]},
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    async with running(
        folder / "prometheus.log",
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ):
        url = f"http://127.0.0.1:{port}"
        await until(lambda: answers(f"{url}/-/ready"), "Prometheus is ready")
        yield url


@dataclass(frozen=True, slots=True)
class System:
    gateway: str
    token: Path
    kube: KubeClient
    namespace: str

    async def requests(self) -> dict[str, RemediationRequest]:
        """The RemediationRequests by their target."""
        listed = await self.kube.list(REMEDIATION_REQUEST, self.namespace)
        found = [RemediationRequest.from_object(obj) for obj in listed.items]
        return {str(one.spec.target_resource): one for one in found}

    async def deployment(self, name: str) -> None:
        container = {"name": name, "image": "registry.example.org/app:1"}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
        metadata = {"name": name, "namespace": self.namespace}
        await self.kube.create(resources.DEPLOYMENT, {"metadata": metadata, "spec": spec})


@pytest.fixture
async def system(kube: KubeClient, namespace: str, tmp_path: Path) -> AsyncIterator[System]:
    """A gateway that authenticates by the API server, and the token of a service account that may send signals."""
    name = f"alertmanager-{namespace}"
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "alertmanager", "namespace": namespace}})
    rule = {"apiGroups": [names.GROUP], "resources": ["signals"], "verbs": ["create"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": [rule]})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "alertmanager", "namespace": namespace}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    token = tmp_path / "token"
    token.write_text(await kube.service_account_token(namespace, "alertmanager"))
    settings = Settings(namespace=namespace, gateway=GatewaySettings(occurrence_flush_interval=0.1))
    async with serving(create_app(Deps(kube, settings, Facts(), KubeGate(kube)))) as gateway:
        yield System(gateway, token, kube, namespace)
    await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
    await kube.delete(resources.CLUSTER_ROLE, name)


def alert_rule(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": "vector(1)",
        "labels": {"namespace": namespace, "severity": "critical", **labels},
        "annotations": {"summary": f"{name} fires"},
    }


async def test_a_firing_rule_becomes_a_request_and_its_end_is_recorded(system: System, tmp_path: Path) -> None:
    """Two rules about one Deployment and one about another, one grouped webhook: two requests; then all is over."""
    await system.deployment("web")
    await system.deployment("api")
    space = system.namespace
    rules = [
        alert_rule("KubePodOOMKilled", space, deployment="web"),
        alert_rule("KubePodCrashLooping", space, deployment="web"),
        alert_rule("HighLatency", space, deployment="api"),
    ]
    web, api = f"{space}/deployment/web", f"{space}/deployment/api"
    async with (
        alertmanager(tmp_path, system.gateway, system.token) as alerts,
        prometheus(tmp_path, alerts, rules) as metrics,
    ):

        async def both_symptoms() -> bool:
            found = await system.requests()
            seen = found[web].status.deduplication if set(found) == {web, api} else None
            return seen is not None and len(seen.symptoms) == 2

        await until(both_symptoms, "a request a Deployment, and both symptoms of one of them")
        found = await system.requests()
        assert found[web].spec.severity == "critical"
        assert found[web].spec.signal_source == "alertmanager"
        assert found[web].spec.description.endswith("fires")
        assert found[api].spec.signal_labels["alertname"] == "HighLatency"

        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": []}))
        now = clock.utcnow()
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"{metrics}/-/reload")).status_code == 200
            # A removed rule's alerts run out by themselves after minutes; ended by the API they are over at once.
            for rule in rules:
                over = {
                    "labels": {"alertname": rule["alert"], **rule["labels"]},
                    "annotations": rule["annotations"],
                    "startsAt": clock.rfc3339(now - timedelta(minutes=1)),
                    "endsAt": clock.rfc3339(now),
                }
                assert (await http.post(f"{alerts}/api/v2/alerts", json=[over])).status_code == 200

        async def over() -> bool:
            return all(one.status.resolved is not None for one in (await system.requests()).values())

        await until(over, "both requests say that their signals are over")
        assert set(await system.requests()) == {web, api}


async def test_what_was_refused_with_503_comes_again(system: System, tmp_path: Path) -> None:
    """While the gateway sheds load Alertmanager keeps the alert and repeats it; nothing is lost."""
    await system.deployment("web")
    refused = 0
    settings = Settings(namespace=system.namespace, gateway=GatewaySettings(occurrence_flush_interval=0.1))
    app = create_app(Deps(system.kube, settings, Facts(), KubeGate(system.kube)))
    load = app.state.gateway.load
    async with (
        serving(app) as gateway,
        alertmanager(tmp_path, gateway, system.token) as alerts,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        load.draining = True
        labels = {"alertname": "A", "namespace": system.namespace, "deployment": "web"}
        assert (await http.post(f"{alerts}/api/v2/alerts", json=[{"labels": labels}])).status_code == 200

        async def sent_once() -> bool:
            nonlocal refused
            text = (await http.get(f"{gateway}/metrics")).text
            refused = int(float(re.findall(r"^gateway_requests_shed_total (\S+)$", text, re.MULTILINE)[0]))
            return refused >= 1

        await until(sent_once, "Alertmanager was told to come back")
        assert await system.requests() == {}
        load.draining = False
        await until(system.requests, "it came back")
    assert refused >= 1


async def test_a_wrong_token_is_not_retried_into_a_request(system: System, tmp_path: Path) -> None:
    """With a token that is not accepted nothing is created, and Alertmanager's log says 401."""
    await system.deployment("web")
    wrong = tmp_path / "wrong"
    wrong.write_text("not-a-token")
    labels = {"alertname": "A", "namespace": system.namespace, "deployment": "web"}
    async with (
        alertmanager(tmp_path, system.gateway, wrong) as alerts,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        assert (await http.post(f"{alerts}/api/v2/alerts", json=[{"labels": labels}])).status_code == 200

        async def told() -> bool:
            return "401" in (tmp_path / "alertmanager.log").read_text()

        await until(told, "Alertmanager was refused")
    assert await system.requests() == {}
