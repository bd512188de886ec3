"""The door: in which order a webhook is refused, what every answer carries, and what a sender that misbehaves costs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.kube.errors import Unavailable
from serve_apps.gateway import door
from serve_apps.gateway.app import Deps, create_app
from serve_apps.http import SECURITY_HEADERS
from tests.serve_apps.gateway.several import PROMETHEUS, alert, counted, requests, webhook
from tests.serve_apps.gateway.world import Facts, World, settings

GOOD = {"authorization": "Bearer good", "content-type": "application/json"}
BODY = orjson.dumps(webhook(alert(namespace="shop", deployment="web")))


class Tokens:
    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"good", "other", "reader"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return user.username != "reader"


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts_read: int = 0

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Sender:
    """Sends webhooks as an ASGI server would hand them over, part by part."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def post(
        self,
        parts: Sequence[bytes] = (BODY,),
        headers: dict[str, str] | None = None,
        *,
        path: str = PROMETHEUS,
        root: str = "",
        method: str = "POST",
        then: str = "done",
    ) -> Answer:
        """``then`` is what comes after the parts: done, nothing (the client stalls) or gone (it hangs up)."""
        answer = Answer()

        async def receive() -> dict[str, Any]:
            at = answer.parts_read
            answer.parts_read += 1
            if at < len(parts):
                last = at == len(parts) - 1 and then == "done"
                return {"type": "http.request", "body": parts[at], "more_body": not last}
            if then == "nothing":
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                assert len(answer.headers) == len(message["headers"]), "a header twice"
            else:
                answer.body += message.get("body", b"")

        raw = [(k.encode(), v.encode()) for k, v in (GOOD if headers is None else headers).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": root + path,
            "raw_path": (root + path).encode(),
            "root_path": root,
            "query_string": b"",
            "headers": raw,
            "client": ("127.0.0.1", 1),
            "server": ("gateway", 80),
        }
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        return answer


@asynccontextmanager
async def sender(world: World, **options: Any) -> AsyncIterator[Sender]:
    app = create_app(Deps(world, settings(**options), Facts(), Tokens(), now=world.now))
    async with app.router.lifespan_context(app):
        yield Sender(app)


@pytest.mark.parametrize(
    ("parts", "headers", "status", "read"),
    [
        pytest.param([b"x" * 400_000], {}, 401, 0, id="no token, whatever else is wrong"),
        pytest.param([BODY], GOOD | {"authorization": "Bearer stolen"}, 401, 0, id="a token of nobody"),
        pytest.param([BODY], GOOD | {"authorization": "Digest good"}, 401, 0, id="another scheme"),
        pytest.param([BODY], GOOD | {"authorization": "Bearer reader"}, 403, 0, id="somebody who may not"),
        pytest.param([b"x" * 400_000], {"authorization": "Bearer good"}, 415, 0, id="no media type"),
        pytest.param([BODY], GOOD | {"content-type": "text/plain"}, 415, 0, id="another media type"),
        pytest.param([BODY], GOOD | {"content-length": "400000"}, 413, 0, id="declared too large"),
        pytest.param([b"x" * 200_000] * 3, GOOD, 413, 2, id="too large without saying so"),
        pytest.param([b"x" * 300_000], GOOD, 413, 1, id="too large at once"),
        pytest.param([b"{", b"]"], GOOD, 400, 2, id="no JSON"),
        pytest.param([b""], GOOD, 400, 1, id="nothing"),
        pytest.param([BODY[:50], BODY[50:90], b"", BODY[90:]], GOOD, 201, 4, id="in parts"),
        pytest.param(
            [BODY], GOOD | {"content-type": "Application/JSON; charset=utf-8"}, 201, 1, id="as others write it"
        ),
    ],
)
async def test_the_order_of_refusals(parts: list[bytes], headers: dict[str, str], status: int, read: int) -> None:
    """Who is calling comes before what is sent; nothing of a body is read for a stranger, and not more than the limit ever."""
    async with sender(World()) as one:
        answer = await one.post(parts, headers)
        assert (answer.status, answer.parts_read) == (status, read)
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json["status"] == status
            assert answer.json["detail"]
        assert ("www-authenticate" in answer.headers) is (status == 401)


async def test_a_token_as_a_password() -> None:
    """Senders that know only a URL put the token into basic authentication."""
    async with sender(World()) as one:
        word = base64.b64encode(b"anybody:good").decode()
        assert (await one.post(headers=GOOD | {"authorization": f"Basic {word}"})).status == 201


@pytest.mark.parametrize("then", ["nothing", "gone"])
@pytest.mark.parametrize("parts", [(), (BODY[:20],)], ids=["at once", "in the middle"])
async def test_a_sender_that_stops(monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...], then: str) -> None:
    """A body that does not come to its end is given up after a while and leaves its place to others."""
    monkeypatch.setattr(door, "READ_SECONDS", 0.05)
    world = World()
    async with sender(world, max_concurrent_requests=1, max_queued_requests=0) as one, asyncio.timeout(10):
        answer = await one.post(parts, then=then)
        assert answer.status == {"nothing": 408, "gone": 400}[then]
        assert (await one.post()).status == 201
    assert counted(await requests(world)) == 1


@pytest.mark.parametrize(
    ("headers", "parts", "status"),
    [
        pytest.param(GOOD, [BODY], 201, id="created"),
        pytest.param({}, [BODY], 401, id="refused by the gate"),
        pytest.param(GOOD, [b"x" * 300_000], 413, id="too large"),
        pytest.param(GOOD, [b"[]"], 400, id="not readable"),
        pytest.param(GOOD, [b'{"alerts":[{}]}'], 400, id="nothing taken"),
    ],
)
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("abc-1.2:3_X", True, id="theirs"),
        pytest.param("a" * 129, False, id="too long"),
        pytest.param("a b", False, id="with a space"),
        pytest.param("", False, id="none"),
    ],
)
async def test_what_every_answer_carries(
    headers: dict[str, str], parts: list[bytes], status: int, sent: str, kept: bool
) -> None:
    """A request id, the sender's own if it is one, and the headers that keep browsers from misusing an answer."""
    async with sender(World()) as one:
        answer = await one.post(parts, headers | {"x-request-id": sent})
    assert answer.status == status
    assert (answer.headers["x-request-id"] == sent) is kept
    assert answer.headers["x-request-id"]
    expected = SECURITY_HEADERS | {"content-security-policy": "default-src 'none'"}
    assert answer.headers.items() >= expected.items()
    assert int(answer.headers["content-length"]) == len(answer.body)
    if status >= 400:
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert answer.json["instance"] == PROMETHEUS


async def test_a_client_with_more_than_its_share() -> None:
    """Beyond its burst one client is told to wait, with 503 and never 429; another one is not."""
    world = World()
    async with sender(world, client_requests_per_minute=6, client_burst=3) as one:
        answers = [await one.post() for _ in range(8)]
        assert [a.status for a in answers] == [201, 202, 202] + [503] * 5
        assert {10 <= int(a.headers["retry-after"]) <= 11 for a in answers[3:]} == {True}
        assert (await one.post(headers=GOOD | {"authorization": "Bearer other"})).status == 202
    assert counted(await requests(world)) == 4


async def test_overload_and_draining() -> None:
    """Without room, and while it goes away, the gateway says 503 and when to come back; what has begun is finished."""
    world = World()
    async with sender(world, max_concurrent_requests=1, max_queued_requests=1) as one:
        parts = one.app.state.gateway
        gate = asyncio.Event()
        discover = world.discover

        async def held() -> Any:
            await gate.wait()
            return await discover()

        parts.intake.cluster._kinds = None
        world.discover = held  # type: ignore[method-assign]
        first, second = (asyncio.create_task(one.post()) for _ in range(2))
        while (parts.load.working, parts.load.waiting) != (1, 1):
            await asyncio.sleep(0)
        refused = await one.post()
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")

        draining = asyncio.create_task(parts.load.drained(5))
        await asyncio.sleep(0)
        gone = await one.post()
        assert (gone.status, gone.headers["retry-after"]) == (503, "1")
        assert "shutting down" in gone.json["detail"]
        gate.set()
        assert sorted([(await first).status, (await second).status]) == [201, 202]
        await draining
        assert "gateway_requests_shed_total 2.0" in parts.metrics.render().decode()
    assert counted(await requests(world)) == 2


async def test_draining_waits_for_those_in_the_queue() -> None:
    """Who was let into the queue is still taken, though nobody is at work at the moment."""
    world = World()
    async with sender(world, max_concurrent_requests=1) as one:
        load = one.app.state.gateway.load
        async with load.slot():
            waiting = asyncio.create_task(one.post())
            while not load.waiting:
                await asyncio.sleep(0)
            draining = asyncio.create_task(load.drained(5))
            await asyncio.sleep(0)
        await draining
        assert (load.working, load.waiting) == (0, 0)
        assert waiting.done()
        assert (await waiting).status == 201


async def test_an_api_server_that_is_away() -> None:
    """503 with Retry-After and every outcome, also once the breaker is open."""
    world = World()
    async with sender(world, kubernetes_retries=1) as one:
        world.fault = Unavailable("connection refused")
        for _ in range(8):
            answer = await one.post()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert answer.json["results"][0]["reason"] == "Unavailable"


async def test_an_api_server_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that takes too long is given up with 503, and the same webhook is taken afterwards."""
    world = World()
    async with sender(world, kubernetes_timeout=0.05, owner_lookup_timeout=60) as one:
        ledger = one.app.state.gateway.intake.ledger

        async def never(_: Any) -> Any:
            await asyncio.Event().wait()

        with monkeypatch.context() as slow:
            slow.setattr(ledger, "look", never)
            answer = await one.post()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await one.post()).status == 201


async def test_a_defect_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is 500 with a request id, without a word about its cause."""
    async with sender(World()) as one:

        async def broken(*_: Any) -> Any:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(one.app.state.gateway.intake, "take", broken)
        answer = await one.post()
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert answer.json["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", PROMETHEUS, 405, id="GET on a webhook"),
        pytest.param("HEAD", PROMETHEUS, 405, id="HEAD on a webhook"),
        pytest.param("PUT", PROMETHEUS, 405, id="PUT on a webhook"),
        pytest.param("POST", "/api/v1/signals/nagios", 404, id="a source that there is not"),
        pytest.param("POST", "/api/v1/signals", 404, id="no source"),
        pytest.param("POST", "/gateway" + PROMETHEUS, 404, id="the mount point twice"),
        pytest.param("POST", PROMETHEUS, 201, id="the webhook itself"),
    ],
)
@pytest.mark.parametrize("root", ["", "/gateway"])
async def test_routes_below_any_mount_point(method: str, path: str, status: int, root: str) -> None:
    """Ray Serve hands paths over with the route prefix in front; our own port without."""
    async with sender(World()) as one:
        answer = await one.post(method=method, path=path, root=root)
    assert answer.status == status
    assert answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"] == "POST"
