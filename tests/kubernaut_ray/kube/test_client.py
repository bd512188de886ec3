"""The client against a server that answers by script: errors by status and reason, patch types, watches that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube import errors
from kubernaut_ray.kube.client import KubeClient, UserInfo, WatchEvent
from kubernaut_ray.kube.resources import CONFIG_MAP, DEPLOYMENT, NODE, POD

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """A server with one handler, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.handler: Handler = self.echo
        self.url = ""

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "x"}})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        return await self.handler(request)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        async def handler(request: web.Request) -> web.Response:
            if isinstance(body, str):
                return web.Response(status=status, text=body, headers=headers)
            return web.json_response(body, status=status, headers=headers)

        self.handler = handler

    def stream(self, *chunks: bytes, then: asyncio.Event | None = None) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if then is not None:
                await then.wait()
            return response

        self.handler = handler


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Script]:
    script = Script()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    script.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with serving() as script:
        yield script


def certificate(path: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    files = path / f"{name}.crt", path / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def kubeconfig(path: Path, url: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "u", "user": user or {"token": "sesame"}}],
    }
    file = path / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
async def client(script: Script, tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kubeconfig(tmp_path, script.url), timeout=2.0) as client:
        yield client


def status(code: int, reason: str = "", message: str = "no", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        pytest.param(
            400, status(400, "BadRequest", "admission webhook denied"), errors.Invalid, id="a webhook refuses"
        ),
        pytest.param(401, status(401, "Unauthorized"), errors.Unauthorized, id="no identity"),
        pytest.param(403, status(403, "Forbidden"), errors.Forbidden, id="not allowed"),
        pytest.param(404, status(404, "NotFound"), errors.NotFound, id="not there"),
        pytest.param(409, status(409, "AlreadyExists"), errors.AlreadyExists, id="the name is taken"),
        pytest.param(409, status(409, "Conflict"), errors.Conflict, id="the object moved on"),
        pytest.param(410, status(410, "Expired"), errors.Gone, id="too old"),
        pytest.param(415, status(415, "UnsupportedMediaType"), errors.ApiError, id="anything else"),
        pytest.param(422, status(422, "Invalid"), errors.Invalid, id="not valid"),
        pytest.param(429, status(429, "TooManyRequests"), errors.Unavailable, id="too many requests"),
        pytest.param(500, "plain text", errors.Unavailable, id="a body that is no Status"),
        pytest.param(502, "<html>", errors.Unavailable, id="a proxy's page"),
        pytest.param(503, status(503, "ServiceUnavailable"), errors.Unavailable, id="not now"),
    ],
)
async def test_errors(script: Script, client: KubeClient, code: int, body: Any, expected: type[Exception]) -> None:
    """Each status becomes the error that its caller acts on; the message says what was asked and why it was refused."""
    script.answer(code, body)
    with pytest.raises(expected, match=f"GET /api/v1/namespaces/ns/pods/p: {code}") as caught:
        await client.get(POD, "p", "ns")
    assert type(caught.value) is expected
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "details", "expected"),
    [
        pytest.param({"Retry-After": "7"}, {}, 7.0, id="the header"),
        pytest.param({}, {"retryAfterSeconds": 3}, 3.0, id="the Status"),
        pytest.param({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None, id="a date is left to the backoff"),
        pytest.param({"Retry-After": "99999"}, {}, 300.0, id="no server parks us for ever"),
        pytest.param({}, {}, None, id="nothing said"),
    ],
)
async def test_retry_after(
    script: Script, client: KubeClient, headers: dict[str, str], details: dict[str, Any], expected: float | None
) -> None:
    """What the server asks for reaches the caller."""
    script.answer(503, status(503, "ServiceUnavailable", **details), **headers)
    with pytest.raises(Retryable) as caught:
        await client.get(NODE, "n")
    assert caught.value.after == expected


async def test_tls_with_a_ca_of_its_own(tmp_path: Path) -> None:
    """The kubeconfig's CA is trusted and no other; connections are closed with the client."""
    cert, key = certificate(tmp_path, "right")
    other, _ = certificate(tmp_path, "wrong")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    async with serving(tls) as script:
        data = base64.b64encode(cert.read_bytes()).decode()
        file = kubeconfig(tmp_path, script.url, **{"certificate-authority-data": data})
        async with await KubeClient.connect(file) as client:
            await asyncio.gather(*(client.get(NODE, f"n{i}") for i in range(5)))
        assert len(script.requests) == 5
        file = kubeconfig(tmp_path, script.url, **{"certificate-authority": str(other)})
        async with await KubeClient.connect(file) as client:
            with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(NODE, "n")


@pytest.mark.parametrize("token", ["two\r\nlines", "tök", "a\x00b"])
async def test_what_is_no_bearer_token(script: Script, client: KubeClient, token: str) -> None:
    """It is refused before anything is sent, in words that hold nothing of it."""
    with pytest.raises(InvalidInput, match="bearer token") as refused:
        await client.bearing(token).version()
    assert (token in str(refused.value), script.requests) == (False, [])


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """A refused connection is Unavailable."""
    async with await KubeClient.connect(kubeconfig(tmp_path, "http://127.0.0.1:9"), timeout=2.0) as client:
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:9"):
            await client.version()


async def test_a_server_that_does_not_answer(script: Script, tmp_path: Path) -> None:
    """Silence is Unavailable after the client's timeout."""
    script.stream(then=asyncio.Event())
    async with await KubeClient.connect(kubeconfig(tmp_path, script.url), timeout=0.2) as client:
        with pytest.raises(errors.Unavailable, match="in time"):
            await client.get(NODE, "n")


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("merge", "application/merge-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
        ("apply", "application/apply-patch+yaml"),
    ],
)
async def test_patch_types(script: Script, client: KubeClient, kind: Any, content_type: str) -> None:
    """Each kind of patch has its content type; apply patches say what they are."""
    await client.patch(DEPLOYMENT, "d", {"spec": {"replicas": 2}}, "ns", kind=kind, force=True, subresource="scale")
    method, path, headers, body = script.requests[-1]
    assert (method, headers["Content-Type"]) == ("PATCH", content_type)
    assert path.startswith("/apis/apps/v1/namespaces/ns/deployments/d/scale?fieldManager=kubernaut-ray")
    assert ("force=true" in path) == (kind == "apply")
    assert body["spec"] == {"replicas": 2}
    assert ("kind" in body) == (kind == "apply")
    assert headers["Authorization"] == "Bearer sesame"


async def test_json_patch(script: Script, client: KubeClient) -> None:
    """A JSON patch is a list of operations."""
    operations = [{"op": "remove", "path": "/data/a"}]
    await client.patch(CONFIG_MAP, "c", operations, "ns", kind="json")
    _, _, headers, body = script.requests[-1]
    assert (headers["Content-Type"], body) == ("application/json-patch+json", operations)


async def test_create_list_and_delete_requests(script: Script, client: KubeClient) -> None:
    """Paths, queries and bodies are those of the API documentation."""
    await client.create(CONFIG_MAP, {"metadata": {"name": "c", "namespace": "ns"}, "data": {}}, dry_run=True)
    method, path, _, body = script.requests[-1]
    assert (method, path) == ("POST", "/api/v1/namespaces/ns/configmaps?dryRun=All&fieldManager=kubernaut-ray")
    assert (body["apiVersion"], body["kind"]) == ("v1", "ConfigMap")

    listing = {"metadata": {"resourceVersion": "12", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    script.answer(200, listing)
    page = await client.list(POD, labels="a in (b,c)", fields="spec.nodeName=n", limit=1, continue_token="t")
    assert script.requests[-1][1] == (
        "/api/v1/pods?labelSelector=a+in+(b,c)&fieldSelector=spec.nodeName%3Dn&limit=1&continue=t"
    )
    assert (page.resource_version, page.continue_token, page.items[0]["kind"]) == ("12", "more", "Pod")

    await client.delete(POD, "p", "ns", uid="u", grace_period_seconds=0)
    assert script.requests[-1][3] == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
    }


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        pytest.param("..", "ns", id="a path upwards"),
        pytest.param("a/b", "ns", id="a path downwards"),
        pytest.param("", "ns", id="nothing, which would be the collection"),
        pytest.param("p", "../kube-system", id="a namespace that is a path"),
        pytest.param("p", None, id="no namespace"),
    ],
)
async def test_names_that_would_change_the_path(
    script: Script, client: KubeClient, name: str, namespace: str | None
) -> None:
    """Names may come from a model or a person; none of them reaches another resource than it says."""
    with pytest.raises(InvalidInput):
        await client.get(POD, name, namespace)
    assert script.requests == []


async def collect(events: AsyncIterator[WatchEvent], into: list[WatchEvent]) -> None:
    async for one in events:
        into.append(one)  # noqa: PERF401 - what came before an error counts


def event(kind: str, version: str, size: int = 0) -> bytes:
    obj = {"metadata": {"name": "c", "resourceVersion": version}, "data": "x" * size}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


async def test_watch_yields_events_however_they_are_cut(script: Script, client: KubeClient) -> None:
    """Lines may come in pieces, several at once, and be larger than any buffer."""
    big = event("MODIFIED", "2", size=3_000_000)
    script.stream(event("ADDED", "1") + big[:100], big[100:70_000], big[70_000:] + event("BOOKMARK", "9"))
    seen = [e async for e in client.watch(CONFIG_MAP, "ns", resource_version="0", labels="a=b")]
    assert [(e.type, e.object["metadata"]["resourceVersion"]) for e in seen] == [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("BOOKMARK", "9"),
    ]
    assert "watch=true&allowWatchBookmarks=true&resourceVersion=0&labelSelector=a%3Db" in script.requests[-1][1]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [json.dumps({"type": "ERROR", "object": status(410, "Expired")}).encode() + b"\n"], errors.Gone, id="410"
        ),
        pytest.param(
            [json.dumps({"type": "ERROR", "object": status(500)}).encode() + b"\n"], errors.Unavailable, id="500"
        ),
        pytest.param([b"not json\n"], errors.Unavailable, id="not JSON"),
        pytest.param([b'"text"\n'], errors.Unavailable, id="not an event"),
        pytest.param([event("ADDED", "1"), b'{"type": "ADD'], errors.Unavailable, id="cut off in the middle"),
    ],
)
async def test_watch_errors(script: Script, client: KubeClient, chunks: list[bytes], expected: type[Exception]) -> None:
    """Errors on a watch are raised, never yielded."""
    script.stream(*chunks)
    with pytest.raises(expected):
        await collect(client.watch(CONFIG_MAP, "ns"), [])


async def test_a_watch_that_died_silently(script: Script, client: KubeClient) -> None:
    """A connection without a byte for the idle timeout is given up."""
    script.stream(event("ADDED", "1"), then=asyncio.Event())
    seen: list[WatchEvent] = []
    with pytest.raises(errors.Unavailable):
        await collect(client.watch(CONFIG_MAP, "ns", idle_timeout=0.2), seen)
    assert len(seen) == 1


async def test_a_watch_may_be_left(script: Script, client: KubeClient) -> None:
    """Leaving early closes the connection."""
    script.stream(event("ADDED", "1"), event("ADDED", "2"), then=asyncio.Event())
    async with aclosing(client.watch(CONFIG_MAP, "ns")) as events:
        async for one in events:
            assert one.object["metadata"]["resourceVersion"] == "1"
            break


async def test_token_review_and_access_review(script: Script, client: KubeClient) -> None:
    """Who a token is and what a user may do come from the API server."""
    script.answer(201, {"status": {"authenticated": True, "user": {"username": "ann", "groups": ["ops"]}}})
    user = await client.review_token("t")
    assert user == UserInfo("ann", "", ("ops",))
    script.answer(201, {"status": {"authenticated": False}})
    assert await client.review_token("t") is None
    script.answer(201, {"status": {"allowed": True}})
    assert await client.may(user, verb="create", group="kubernaut.ai", resource="signals")
    assert script.requests[-1][3]["spec"] == {
        "user": "ann",
        "uid": "",
        "groups": ["ops"],
        "resourceAttributes": {"verb": "create", "group": "kubernaut.ai", "resource": "signals"},
    }
    script.answer(201, {"status": {"allowed": True, "denied": True}})
    assert not await client.may(user, verb="create", group="kubernaut.ai", resource="signals")
    script.answer(201, {"status": {"token": "fresh"}})
    assert await client.service_account_token("ns", "sa") == "fresh"


async def test_discovery_aggregated_and_classic(script: Script, client: KubeClient) -> None:
    """Both forms of the discovery documents are understood."""
    core = {"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced"}
    apps = {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced"}
    documents: dict[str, Any] = {
        "/api": [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [core]}]}],
        "/apis": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [apps]}]}],
    }

    async def aggregated(request: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroupDiscoveryList", "items": documents[request.path]})

    script.handler = aggregated
    assert await client.discover() == (POD, DEPLOYMENT)

    group = {"name": "apps", "preferredVersion": {"version": "v1"}}
    classic: dict[str, Any] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [group, {"name": "away", "preferredVersion": {"version": "v1"}}]},
        "/api/v1": {
            "resources": [{"name": "pods", "kind": "Pod", "namespaced": True}, {"name": "pods/log", "kind": "Pod"}]
        },
        "/apis/apps/v1": {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]},
    }

    async def plain(request: web.Request) -> web.Response:
        found = classic.get(request.path)
        return web.json_response(found or {}, status=200 if found else 503)

    script.handler = plain
    assert await client.discover() == (POD, DEPLOYMENT)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no file"),
        pytest.param("", id="empty"),
        pytest.param("clusters: [", id="not YAML"),
        pytest.param("a: b", id="not a kubeconfig"),
        pytest.param("[1, 2]", id="a list"),
    ],
)
async def test_unusable_kubeconfigs(tmp_path: Path, text: str | None) -> None:
    """A kubeconfig that cannot be used is named in the error."""
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidInput, match="config"):
        await KubeClient.connect(file)


async def test_no_kubeconfig_outside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig only a pod's own credentials will do; no default file is guessed."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidInput, match="no kubeconfig given and not inside a pod"):
        await KubeClient.connect()


async def test_exec_plugins_are_asked_for_tokens(script: Script, tmp_path: Path) -> None:
    """The official loader runs the plug-in that a kubeconfig names."""
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "plugin"},
    }
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "echo",
            "args": [json.dumps(credential)],
            "interactiveMode": "Never",
        }
    }
    async with await KubeClient.connect(kubeconfig(tmp_path, script.url, user)) as client:
        await client.get(NODE, "n")
    assert script.requests[-1][2]["Authorization"] == "Bearer plugin"
