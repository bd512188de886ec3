"""The gateway's own port: shared by its replicas, refused when somebody else has it, and left without cutting anybody off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from kubernaut_ray.errors import Permanent
from serve_apps.gateway.app import Deps, create_app
from serve_apps.gateway.listen import listening
from tests.serve_apps.gateway.several import PROMETHEUS, alert, counted, requests, webhook
from tests.serve_apps.gateway.world import Facts, World, settings

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


class Named:
    """Answers with its name, once it is let to."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": self.name})


async def ask(port: int) -> str:
    """Ask on a connection of its own."""
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=30) as http:
        return (await http.get("/")).text


async def test_two_replicas_share_a_port() -> None:
    """The kernel gives connections to either; when one has gone, the other gets them all."""
    port = free_port()
    async with listening(Named("b"), HOST, port):
        async with listening(Named("a"), HOST, port), asyncio.timeout(30):
            seen = set()
            while seen != {"a", "b"}:
                seen.add(await ask(port))
        assert {await ask(port) for _ in range(20)} == {"b"}
    with pytest.raises(httpx.ConnectError):
        await ask(port)


async def test_a_port_of_somebody_else() -> None:
    """Whoever listens without sharing is not joined; the error names the setting."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Permanent, match=f"gateway.port {port} on {HOST} cannot be listened on: .*name another"):
            async with listening(Named("a"), HOST, port):
                pass


async def test_an_address_that_is_not_ours() -> None:
    """A host that this machine does not have is an error of the same kind."""
    with pytest.raises(Permanent, match=r"192\.0\.2\.1"):
        async with listening(Named("a"), "192.0.2.1", free_port()):
            pass


async def test_an_end_lets_a_request_finish() -> None:
    """A request in flight is answered, though the port is already closed to others."""
    port, app = free_port(), Named("a")
    app.go.clear()
    async with asyncio.timeout(30):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(listening(app, HOST, port))
            asking = asyncio.create_task(ask(port))
            await app.begun.wait()
            ending = asyncio.create_task(stack.pop_all().aclose())
            while True:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except ConnectionRefusedError:
                    break
                except ConnectionResetError:
                    continue  # It was still waiting to be accepted when the port was closed.
                writer.close()
                await asyncio.sleep(0.01)
        assert not asking.done()
        app.go.set()
        assert await asking == "a"
        await ending


async def test_the_gateway_on_its_own_port() -> None:
    """Webhooks, probes and errors are the same there, and at the end everything that was answered is written."""
    port, world = free_port(), World()
    config = settings(port=port, occurrence_flush_interval=60)
    app = create_app(Deps(world, config, Facts(), None, now=world.now))
    body = webhook(alert(namespace="shop", deployment="web"))
    http = httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=30)
    async with app.router.lifespan_context(app), http:
        codes = [(await http.post(PROMETHEUS, json=body)).status_code for _ in range(3)]
        assert codes == [201, 202, 202]
        assert (await http.get("/ready")).json() == {"status": "ready"}
        assert (await http.get(PROMETHEUS)).status_code == 405
        chunked = await http.post(
            PROMETHEUS, content=parts(b'{"alerts":', b"[{}]}"), headers={"content-type": "application/json"}
        )
        assert chunked.status_code == 400
        assert "server" not in chunked.headers
    assert counted(await requests(world)) == 3


async def parts(*some: bytes) -> AsyncIterator[bytes]:
    for one in some:
        yield one


async def test_a_gateway_whose_port_is_taken_leaves_nothing_behind() -> None:
    """The start fails with a reason, and what had been started is stopped and closed."""
    closed = []

    async def close() -> None:
        closed.append(True)

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        config = settings(port=taken.getsockname()[1])
        world = World()
        app = create_app(Deps(world, config, Facts(), None, now=world.now, close=close))
        with pytest.raises(Permanent, match="cannot be listened on"):
            async with app.router.lifespan_context(app):
                pass
    assert closed == [True]
    assert not app.state.gateway.intake.occurrences.healthy
    assert asyncio.all_tasks() == {asyncio.current_task()}
