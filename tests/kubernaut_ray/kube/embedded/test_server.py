"""The server as one thing: files, restarts, TLS, and what only the embedded one does."""

from __future__ import annotations

import asyncio
import io
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.embedded.log import LogFailed
from kubernaut_ray.kube.embedded.server import EmbeddedServer
from kubernaut_ray.kube.errors import Gone, Invalid, NotFound, Unauthorized


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    it = EmbeddedServer(tmp_path)
    await it.start()
    yield it
    await it.stop()


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(server.kubeconfig) as it:
        yield it


async def raw(
    server: EmbeddedServer, method: str, path: str, token: str | None = None, **options: Any
) -> tuple[int, Any, Any]:
    trust = ssl.create_default_context(cafile=str(server.data_dir / "ca.crt"))
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session,
        session.request(method, server.url + path, headers=headers, **options) as answer,
    ):
        body = await (answer.json() if answer.content_type == "application/json" else answer.text())
        return answer.status, body, answer.headers


def admin(server: EmbeddedServer) -> str:
    return (server.data_dir / "kube" / "admin.token").read_text()


async def test_private_files(server: EmbeddedServer) -> None:
    """Whatever holds a secret is for its owner only."""
    folder = server.data_dir / "kube"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (
        server.kubeconfig,
        folder / "ca.key",
        folder / "server.key",
        folder / "admin.token",
        folder / "tokens.json",
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_open_paths(server: EmbeddedServer) -> None:
    """Health and version need no token; everything else does."""
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await raw(server, "GET", path))[:2] == (200, "ok")
    assert (await raw(server, "GET", "/version"))[1]["major"] == "1"
    for path in ("/api", "/apis", "/openapi/v3", "/api/v1/namespaces", "/nothing", "/"):
        code, body, _ = await raw(server, "GET", path)
        assert (code, body["reason"]) == (401, "Unauthorized"), path
    assert (await raw(server, "GET", "/api/v1/namespaces", token="wrong"))[0] == 401


async def test_a_restart_goes_on(tmp_path: Path) -> None:
    """Objects, tokens and versions are as they were; watches from before are told to list again."""
    first = EmbeddedServer(tmp_path)
    await first.start()
    async with await KubeClient.connect(first.kubeconfig) as client:
        made = await client.create(resources.CONFIG_MAP, {"metadata": {"name": "kept"}, "data": {"a": "b"}}, "default")
        before = (await client.list(resources.CONFIG_MAP, "default")).resource_version
        await client.create(resources.CONFIG_MAP, {"metadata": {"name": "later"}}, "default")
    token, port = admin(first), first.port
    await first.stop()
    second = EmbeddedServer(tmp_path, port)
    await second.start()
    try:
        assert token == admin(second)
        assert port == second.port
        async with await KubeClient.connect(second.kubeconfig) as client:
            assert made == await client.get(resources.CONFIG_MAP, "kept", "default")
            listed = await client.list(resources.CONFIG_MAP, "default")
            assert int(listed.resource_version) >= int(made["metadata"]["resourceVersion"])
            with pytest.raises(Gone):
                async for _ in client.watch(resources.CONFIG_MAP, "default", resource_version=before):
                    pass
    finally:
        await second.stop()


async def test_one_server_a_directory(server: EmbeddedServer) -> None:
    """The second one is told why it may not."""
    with pytest.raises(LogFailed, match="another server"):
        await EmbeddedServer(server.data_dir).start()


async def test_a_taken_port(server: EmbeddedServer, tmp_path: Path) -> None:
    """Says which, and what to do."""
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}.*--port"):
        await EmbeddedServer(tmp_path / "other", server.port).start()


async def test_stopping_ends_watches(tmp_path: Path) -> None:
    """A watch does not hold the server up."""
    server = EmbeddedServer(tmp_path)
    await server.start()
    async with await KubeClient.connect(server.kubeconfig) as client:

        async def watch() -> None:
            async for _ in client.watch(resources.NAMESPACE):
                pass

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await server.stop()
            await watching


async def test_bodies_that_are_refused(server: EmbeddedServer) -> None:
    """415, 400 and 413, each saying what was wrong."""
    token, path = admin(server), "/api/v1/namespaces/default/configmaps"
    code, body, _ = await raw(
        server, "POST", path, token, data=b"k8s\0", headers={"Content-Type": "application/vnd.kubernetes.protobuf"}
    )
    assert (code, body["reason"]) == (415, "UnsupportedMediaType")
    code, body, _ = await raw(server, "POST", path, token, data=b"{", headers={"Content-Type": "application/json"})
    assert (code, body["reason"]) == (400, "BadRequest")
    big = b'{"data":"' + b"x" * (4 * 1024 * 1024) + b'"}'
    code, body, _ = await raw(
        server, "POST", path, token, data=io.BytesIO(big), headers={"Content-Type": "application/json"}
    )
    assert (code, body["reason"]) == (413, "RequestEntityTooLarge")
    code, _, _ = await raw(
        server, "POST", path, token, data=b"[" * 100_000, headers={"Content-Type": "application/json"}
    )
    assert code == 400


async def test_pod_logs_are_simulated(client: KubeClient, server: EmbeddedServer) -> None:
    """The annotation's text, by container, tail and previous."""
    pod = {
        "metadata": {
            "name": "p",
            "annotations": {
                "embedded.kubernaut.ai/log": "one\ntwo\nthree\n",
                "embedded.kubernaut.ai/log.side": "other\n",
                "embedded.kubernaut.ai/previous-log": "killed\n",
            },
        },
        "spec": {"containers": [{"name": "app", "image": "i"}, {"name": "side", "image": "i"}]},
    }
    await client.create(resources.POD, pod, "default")
    path = "/api/v1/namespaces/default/pods/p/log?container="
    token = admin(server)
    assert (await raw(server, "GET", path + "app", token))[1] == "one\ntwo\nthree\n"
    assert (await raw(server, "GET", path + "app&tailLines=1", token))[1] == "three\n"
    assert (await raw(server, "GET", path + "side", token))[1] == "other\n"
    assert (await raw(server, "GET", path + "app&previous=true", token))[1] == "killed\n"
    assert (await raw(server, "GET", path + "nope", token))[0] == 400
    assert (await raw(server, "GET", "/api/v1/namespaces/default/pods/p/log", token))[0] == 400


async def test_pages_are_one_snapshot(client: KubeClient) -> None:
    """What is written between two pages shows in neither; a token of another life is 410."""
    for name in "abcd":
        await client.create(resources.CONFIG_MAP, {"metadata": {"name": name}}, "default")
    first = await client.list(resources.CONFIG_MAP, "default", limit=2)
    await client.delete(resources.CONFIG_MAP, "c", "default")
    await client.create(resources.CONFIG_MAP, {"metadata": {"name": "e"}}, "default")
    rest = await client.list(resources.CONFIG_MAP, "default", continue_token=first.continue_token)
    names = [o["metadata"]["name"] for o in (*first.items, *rest.items)]
    assert names == ["a", "b", "c", "d", "kube-root-ca.crt"]
    assert first.resource_version == rest.resource_version
    with pytest.raises(Invalid):
        await client.list(resources.CONFIG_MAP, "default", continue_token="rubbish")


async def test_definitions_it_cannot_honour(client: KubeClient) -> None:
    """A rule that cannot be evaluated makes the definition invalid, with the place and the reason."""
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "quantity('1') == quantity('1')"}]}
    crd = {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    with pytest.raises(Invalid, match=r"x-kubernetes-validations\[0\].*function 'quantity' is not supported"):
        await client.create(resources.CRD, crd)
    with pytest.raises(NotFound):
        await client.get(resources.CRD, "things.example.com")


async def test_a_stolen_kubeconfig_is_useless_after_token_rotation(tmp_path: Path) -> None:
    """Removing the token files gives the administrator a new token."""
    server = EmbeddedServer(tmp_path)
    await server.start()
    old = admin(server)
    await server.stop()
    (tmp_path / "kube" / "admin.token").unlink()
    await server.start()
    try:
        assert (await raw(server, "GET", "/api/v1/namespaces", old))[0] == 401
        async with await KubeClient.connect(server.kubeconfig) as client:
            assert await client.list(resources.NAMESPACE)
    finally:
        await server.stop()


async def test_unknown_token_is_unauthorized(server: EmbeddedServer, tmp_path: Path) -> None:
    """The client sees it as its own error class."""
    text = server.kubeconfig.read_text().replace(admin(server), "wrong")
    other = tmp_path / "wrong-kubeconfig"
    other.write_text(text)
    async with await KubeClient.connect(other) as client:
        with pytest.raises(Unauthorized):
            await client.list(resources.NAMESPACE)
