"""The HTTP shell: who gets in, how much they may send, and how every error looks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from pydantic import BaseModel

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.kube.errors import Conflict, NotFound, Unavailable
from serve_apps.http import KubeGate, Problem, Rule, install, user_of


class TokenGate:
    """Knows the tokens ``reader`` and ``writer``; only the writer may create."""

    async def authenticate(self, token: str) -> UserInfo | None:
        if token == "down":
            raise Unavailable("the API server is away")
        return UserInfo(token) if token in {"reader", "writer"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return verb == "get" or user.username == "writer"


class Thing(BaseModel):
    size: int


def app(**options: object) -> FastAPI:
    made = FastAPI()
    raised = {
        "invalid": InvalidInput("bad thing", problems=(("size", "must be a number"),)),
        "retryable": Retryable("come again", after=7),
        "conflict": Conflict("it moved"),
        "absent": NotFound("no such thing", status=404, reason="NotFound"),
        "bug": ZeroDivisionError("secret detail"),
        "problem": Problem(503, "service-unavailable", "Busy", "too much", headers={"Retry-After": "3"}),
    }

    @made.get("/health")
    async def health() -> str:
        return "ok"

    @made.get("/things")
    async def things(request: Request) -> str:
        return user_of(request).username

    @made.post("/things")
    async def create(thing: Thing) -> int:
        return thing.size

    @made.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @made.get("/raise/{which}")
    async def fail(which: str) -> None:
        raise raised[which]

    @made.get("/forgotten")
    async def forgotten() -> str:
        return "nobody wrote a rule for me"

    rules = [Rule("GET", "/things", "get", "things"), Rule("GET", "/raise", "get", "things")]
    rules += [Rule("POST", "/", "create", "things")]
    install(made, service="things", gate=TokenGate(), rules=rules, max_body_bytes=100, **options)  # type: ignore[arg-type]
    return made


def client(made: FastAPI, token: str = "writer", root_path: str = "") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(made, root_path=root_path, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://things", headers=headers)


@pytest.mark.parametrize(
    ("token", "method", "path", "status", "slug"),
    [
        pytest.param("", "GET", "/health", 200, "", id="health needs no token"),
        pytest.param("", "GET", "/things", 401, "unauthorized", id="no token"),
        pytest.param("stranger", "GET", "/things", 401, "unauthorized", id="unknown token"),
        pytest.param("reader", "GET", "/things", 200, "", id="permitted"),
        pytest.param("reader", "POST", "/raw", 403, "forbidden", id="authenticated but not permitted"),
        pytest.param("writer", "GET", "/forgotten", 403, "forbidden", id="a route without a rule is closed"),
        pytest.param("writer", "GET", "/nowhere", 404, "not-found", id="no such route"),
        pytest.param("writer", "DELETE", "/things", 405, "method-not-allowed", id="wrong method"),
        pytest.param("down", "GET", "/things", 503, "service-unavailable", id="the gate cannot find out"),
        pytest.param("writer", "GET", "/raise/invalid", 400, "validation-error", id="invalid input"),
        pytest.param("writer", "GET", "/raise/retryable", 503, "service-unavailable", id="retryable"),
        pytest.param("writer", "GET", "/raise/conflict", 409, "conflict", id="conflict"),
        pytest.param("writer", "GET", "/raise/absent", 404, "not-found", id="object not found"),
        pytest.param("writer", "GET", "/raise/bug", 500, "internal-error", id="a bug tells nothing"),
        pytest.param("writer", "GET", "/raise/problem", 503, "service-unavailable", id="a problem as raised"),
    ],
)
async def test_answers(token: str, method: str, path: str, status: int, slug: str) -> None:
    """Each refusal has its status, its RFC 7807 type, the security headers and the request id."""
    async with client(app(), token) as http:
        answer = await http.request(method, path, headers={"X-Request-ID": "abc-1"})

    assert answer.status_code == status
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    if slug:
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["type"], body["status"]) == (f"https://kubernaut.ai/problems/{slug}", status)
        assert body["request_id"] == "abc-1"
        assert "secret detail" not in answer.text
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("basic", "credentials", "status"),
    [
        pytest.param(True, b"sns:writer", 200, id="the password is the token"),
        pytest.param(True, b":writer", 200, id="the user name does not matter"),
        pytest.param(True, b"writer", 401, id="no password"),
        pytest.param(True, b"writer:", 401, id="an empty password"),
        pytest.param(True, b"sns:stranger", 401, id="not a token"),
        pytest.param(True, b"\xff:\xfe", 401, id="not UTF-8"),
        pytest.param(False, b"sns:writer", 401, id="only where it is asked for"),
    ],
)
async def test_basic_authentication(basic: bool, credentials: bytes, status: int) -> None:
    """A sender that knows only a URL brings the token as a password; one that waits to be asked is asked."""
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    async with client(app(basic=basic), token="") as http:
        answer = await http.get("/things", headers=headers)
        garbled = await http.get("/things", headers={"Authorization": "Basic ***"})

    assert (answer.status_code, garbled.status_code) == (status, 401)
    assert garbled.headers["www-authenticate"] == ('Basic realm="kubernaut", Bearer' if basic else "Bearer")


async def test_validation_names_the_fields() -> None:
    """A body that does not fit says which field and why."""
    async with client(app()) as http:
        answer = await http.post("/things", json={"size": "big"})

    assert answer.status_code == 400
    assert answer.json()["field_errors"][0]["field"] == "body.size"


@pytest.mark.parametrize("declared", [True, False], ids=["declared length", "chunked"])
@pytest.mark.parametrize("path", ["/raw", "/things"], ids=["raw body", "parsed body"])
async def test_large_bodies_are_refused_while_reading(declared: bool, path: str) -> None:
    """A body over the limit is refused, whether its length was declared or not, and is never read to its end."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 50

    headers = {"content-type": "application/json", **({"content-length": "50000"} if declared else {})}
    async with client(app()) as http:
        answer = await http.post(path, content=endless(), headers=headers)

    assert answer.status_code == 413
    assert answer.json()["type"].endswith("payload-too-large")
    assert sent <= 4


async def test_root_path_is_not_part_of_the_rule() -> None:
    """Under a route prefix the rules still speak of the app's own paths."""
    async with client(app(), "reader", root_path="/prefix") as http:
        assert (await http.get("/prefix/things")).status_code == 200
        assert (await http.get("/prefix/forgotten")).status_code == 403
        assert (await http.get("/prefix/health", headers={"Authorization": ""})).status_code == 200


async def test_a_hostile_request_id_is_replaced() -> None:
    """An id that could break a log line or a header is not echoed."""
    async with client(app()) as http:
        answer = await http.get("/health", headers={"X-Request-ID": "a b" * 100})

    assert len(answer.headers["x-request-id"]) == 32


async def test_cookie_and_login() -> None:
    """A browser shows its token by cookie, and is sent to the login page without one."""
    made = app(cookie="session", login_path="/login", open_paths=["/login", "/static/"])
    async with client(made, "") as http:
        assert (await http.get("/things", headers={"Cookie": "session=reader"})).json() == "reader"
        redirect = await http.get("/things", headers={"Accept": "text/html"})
        assert (redirect.status_code, redirect.headers["location"]) == (303, "/login")
        assert (await http.get("/things")).status_code == 401
        assert (await http.get("/static/none.css")).status_code == 404


class CountingKube:
    """Counts reviews; ``known`` is what TokenReview answers."""

    def __init__(self) -> None:
        self.known: UserInfo | None = UserInfo("amy", groups=("sre",))
        self.reviews = self.checks = 0

    async def review_token(self, token: str, *, audiences: tuple[str, ...] = ()) -> UserInfo | None:
        self.reviews += 1
        await asyncio.sleep(0)
        return self.known

    async def may(self, user: UserInfo, *, verb: str, group: str, resource: str, **_: str) -> bool:
        self.checks += 1
        return verb == "get" and group == "kubernaut.ai"


async def test_kube_gate_remembers_only_yes_and_only_briefly() -> None:
    """Concurrent questions share one review; a yes is kept ten seconds; a no is asked again each time."""
    kube, now = CountingKube(), [0.0]
    gate = KubeGate(kube, monotonic=lambda: now[0])  # type: ignore[arg-type]

    users = await asyncio.gather(*(gate.authenticate("t") for _ in range(20)))
    assert {u.username for u in users if u} == {"amy"}
    assert kube.reviews == 1

    kube.known = None
    now[0] = 9.9
    assert await gate.authenticate("t") is not None
    now[0] = 10.1
    assert await gate.authenticate("t") is None
    assert await gate.authenticate("t") is None
    assert kube.reviews == 3

    amy = UserInfo("amy")
    assert [await gate.authorize(amy, "get", "things") for _ in range(3)] == [True] * 3
    assert [await gate.authorize(amy, "create", "things") for _ in range(2)] == [False] * 2
    assert kube.checks == 3


async def test_a_web_socket_is_not_let_in() -> None:
    """No service has one; a route that is added some day is no way round the gate."""
    made = app()

    @made.websocket("/things")
    async def things(socket: WebSocket) -> None:
        await socket.accept()

    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await made(
        {"type": "websocket", "path": "/things", "headers": [], "query_string": b"", "subprotocols": []}, receive, send
    )
    assert sent == ["websocket.close"]
