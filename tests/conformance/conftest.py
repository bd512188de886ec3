"""What the conformance suite shares: plain HTTPS with the kubeconfig's credentials, kubectl, and objects to try things on.

The suite asserts documented kube-apiserver behaviour only, so that it holds on any cluster:
``KUBERNAUT_TEST_KUBECONFIG=… pytest -m conformance``.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import ApiError
from tests import build
from tests.conftest import kubectl


@dataclass(frozen=True, slots=True)
class Raw:
    """Requests as any HTTP client makes them."""

    session: aiohttp.ClientSession
    url: str

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, **options) as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def headers(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, **options) as answer:
            await answer.read()
            return answer.status, answer.headers


def _inline(entry: dict[str, Any], key: str) -> bytes | None:
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data)
    return Path(entry[key]).read_bytes() if key in entry else None


def connection(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """Read a kubeconfig: address, trust (with a client certificate if it has one), and headers."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
    authority = _inline(cluster, "certificate-authority")
    trust = ssl.create_default_context(cadata=authority.decode() if authority else None)
    certificate, key = _inline(user, "client-certificate"), _inline(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            trust.load_cert_chain(file.name)
    return cluster["server"], trust, {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}


@pytest.fixture
async def raw(api_server: Path) -> AsyncIterator[Raw]:
    url, trust, headers = connection(api_server)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), headers=headers) as session:
        yield Raw(session, url)


@pytest.fixture
async def anonymous(api_server: Path) -> AsyncIterator[Raw]:
    """The same server without credentials (a token goes into the request's own headers)."""
    url, _, _ = connection(api_server)
    authority = ssl.create_default_context(cadata=connection(api_server)[1].get_ca_certs(binary_form=True)[0])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority)) as session:
        yield Raw(session, url)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kctl(api_server: Path, namespace: str) -> Run:
    """Runs kubectl in the test's namespace; a failure fails the test unless ``check=False``."""

    def run(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        done = kubectl(api_server, "-n", namespace, *arguments, **options)
        if check:
            assert done.returncode == 0, done.stderr + done.stdout
        return done

    return run


async def eventually(condition: Callable[[], Awaitable[Any]], *, seconds: float = 60.0) -> Any:
    """Wait until ``condition`` gives something true. Clusters collect garbage in their own time."""
    async with asyncio.timeout(seconds):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.05)


async def gone(kube: KubeClient, resource: resources.Resource, name: str, namespace: str | None = None) -> bool:
    try:
        await kube.get(resource, name, namespace)
    except ApiError as error:
        return error.status == 404
    return False


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "data": data or {}}


def deployment(name: str = "web", **spec: Any) -> Object:
    """A Deployment that asks for no pods."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [{"name": "app", "image": "registry.invalid/app:1", "env": [{"name": "A", "value": "1"}]}]
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def remediation(name: str = "rr-1", **metadata: Any) -> Object:
    """One of ours, as the gateway would create it."""
    obj = build.remediation_request(name).to_object()
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": name, **metadata},
        "spec": obj["spec"],
    }


RR, CM, DEPLOY = resources.REMEDIATION_REQUEST, resources.CONFIG_MAP, resources.DEPLOYMENT
