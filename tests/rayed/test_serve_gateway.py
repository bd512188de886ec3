"""Gateway and console as Ray Serve runs them: replicas in processes of their own, behind one port and a route prefix."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from kubernaut_ray.settings import Settings

pytestmark = [
    pytest.mark.rayed,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Serve's own
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def token(kube: KubeClient, namespace: str) -> AsyncIterator[str]:
    """The token of a service account that may do everything in our group."""
    name = f"everything-{namespace}"
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "everything", "namespace": namespace}})
    rule = {"apiGroups": ["kubernaut.ai"], "resources": ["*"], "verbs": ["*"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": [rule]})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "everything", "namespace": namespace}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    yield await kube.service_account_token(namespace, "everything")
    await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
    await kube.delete(resources.CLUSTER_ROLE, name)


async def test_replicas_make_one_request(
    ray_session: None, api_server: Path, kube: KubeClient, namespace: str, token: str, tmp_path: Path
) -> None:
    """Sixty-four posts through two replicas make one request; draining writes the counts; the console shows it."""
    from ray import serve

    from serve_apps.console.serve import build as build_console
    from serve_apps.gateway.serve import build as build_gateway

    port = free_port()
    token_file = tmp_path / "token"
    token_file.write_text(token)
    args: dict[str, Any] = {
        "settings": Settings(data_dir=tmp_path, namespace=namespace).model_dump(mode="json"),
        "endpoints": {"data_storage": "http://127.0.0.1:9"},
        "kubeconfig": str(api_server),
        "token_file": str(token_file),
    }
    labels = {"alertname": "A", "namespace": namespace, "deployment": "web"}
    alert = {"status": "firing", "labels": labels, "startsAt": "2026-03-01T11:59:00Z"}
    headers = {"Authorization": f"Bearer {token}"}
    await asyncio.to_thread(serve.start, http_options={"host": "127.0.0.1", "port": port})
    try:
        for name, build in (("gateway", build_gateway), ("console", build_console)):
            await asyncio.to_thread(serve.run, build(args), name=name, route_prefix=f"/{name}")
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False) as http:
            assert (await http.get("/gateway/ready")).json() == {"status": "ready"}
            url = "/gateway/api/v1/signals/prometheus"
            posts = [http.post(url, json={"version": "4", "alerts": [alert]}) for _ in range(64)]
            codes = [answer.status_code for answer in await asyncio.gather(*posts)]
            assert sorted(codes) == [201] + [202] * 63
            assert (await http.post(url, json={}, headers={"Authorization": "Bearer no"})).status_code == 401
            assert (await http.get("/gateway/api/v1/signals/prometheus")).status_code == 405
            page = await http.get("/console/")
            assert page.status_code == 200
            assert f"{namespace} <span" in page.text
            assert (await http.get("/console/static/console.css")).status_code == 200
    finally:
        await asyncio.to_thread(serve.shutdown)
    listed = await kube.list(REMEDIATION_REQUEST, namespace)
    (request,) = [RemediationRequest.from_object(obj) for obj in listed.items]
    assert request.status.deduplication is not None
    assert request.status.deduplication.occurrence_count == 64
    spool = tmp_path / "audit-spool"
    assert "gateway.crd.created" in "".join(file.read_text() for file in spool.glob("*.jsonl"))
