"""The thin HTTP client against sockets that keep, cut, stall and misspell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from kubernaut_ray.kube.wire import Disconnected, Wire

Turn = Callable[[int, str, asyncio.StreamWriter], Awaitable[bool]]
"""Answers the n-th request of the server; ``False`` ends the connection."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Server:
    base: str = ""
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a connection has ended."""


@asynccontextmanager
async def serving(turn: Turn) -> AsyncIterator[Server]:
    server = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = [int(line.split(": ")[1]) for line in head.splitlines() if line.startswith("Content-Length")]
                server.requests.append(head.split("\r\n", 1)[0] + (await reader.readexactly(sum(size))).decode())
                if not await turn(len(server.requests), head, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            server.gone.set()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.base = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/base"
    async with listener:
        yield server


async def answers(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
    writer.write(OK)
    return True


async def get(wire: Wire, target: str = "/a?b=c", timeout: float = 5.0) -> tuple[int, bytes]:
    answer = await wire.exchange("GET", target, "Accept: x\r\n", None, timeout=timeout)
    return answer.status, answer.body


async def test_a_connection_is_used_again_one_exchange_at_a_time() -> None:
    """Exchanges after one another share a connection, exchanges at once do not, and the base's path goes before the target."""
    async with serving(answers) as server:
        wire = Wire(server.base, tls=None)
        assert await get(wire) == (200, b"{}")
        assert await get(wire) == (200, b"{}")
        assert server.connections == 1
        await asyncio.gather(get(wire), get(wire), get(wire))
        assert server.connections == 3
        answer = await wire.exchange("POST", "/p", "", b"body", timeout=5.0)
        assert answer.status == 200
        assert server.requests[0] == "GET /base/a?b=c HTTP/1.1"
        assert server.requests[-1] == "POST /base/p HTTP/1.1body"
        await wire.close()


async def test_no_more_exchanges_than_the_limit_at_once() -> None:
    """Who finds all connections taken waits for one, and gets its answer all the same."""
    async with serving(answers) as server:
        wire = Wire(server.base, tls=None, limit=2)
        assert await asyncio.gather(*(get(wire) for _ in range(20))) == [(200, b"{}")] * 20
        assert server.connections <= 2
        await wire.close()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", (200, b"{}", None)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, (200, b"{}", None)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", None)),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\nContent-Length: 1\r\n\r\n!", (429, b"!", "3")),
    ],
)
async def test_answers_as_servers_write_them(raw: bytes, expected: tuple[int, bytes, str | None]) -> None:
    """Chunks, interim answers, empty answers and Retry-After, in whatever pieces they come."""

    async def turn(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
        for at in range(0, len(raw), 7):
            writer.write(raw[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0)
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        for _ in range(2):
            answer = await wire.exchange("GET", "/", "", None, timeout=5.0)
            assert (answer.status, answer.body, answer.retry_after) == expected
        assert server.connections == 1
        await wire.close()


async def test_a_server_that_ends_a_connection_says_so() -> None:
    """After ``Connection: close`` the next exchange has a new connection."""

    async def turn(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        assert [await get(wire), await get(wire)] == [(200, b"{}")] * 2
        assert server.connections == 2
        await wire.close()


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("PUT", 3), ("DELETE", 3), ("POST", 2), ("PATCH", 2)])
async def test_what_a_kept_connection_took_along(method: str, sent: int) -> None:
    """A request on a kept connection that dies unanswered is repeated once if that is harmless, and never otherwise."""

    async def turn(count: int, _: str, writer: asyncio.StreamWriter) -> bool:
        if count != 2:
            writer.write(OK)
        return count != 2

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        assert await get(wire) == (200, b"{}")
        exchange = wire.exchange(method, "/", "", None, timeout=5.0)
        if sent == 3:
            assert (await exchange).body == b"{}"
        else:
            with pytest.raises(Disconnected):
                await exchange
        assert len(server.requests) == sent
        await wire.close()


async def test_half_an_answer_is_an_error_and_not_repeated() -> None:
    """What was answered in part may have been done."""

    async def turn(count: int, _: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK if count == 1 else OK[:-1])
        return count == 1

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        await get(wire)
        with pytest.raises(Disconnected):
            await get(wire)
        assert len(server.requests) == 2
        await wire.close()


async def test_who_gives_up_waiting_takes_the_connection_along() -> None:
    """After a timeout or a cancellation the late answer must not be taken for the next one's."""
    late = asyncio.Event()

    async def turn(count: int, _: str, writer: asyncio.StreamWriter) -> bool:
        if count <= 2:
            await late.wait()
        writer.write(OK)
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        with pytest.raises(TimeoutError):
            await get(wire, timeout=0.05)
        waiting = asyncio.create_task(get(wire))
        while len(server.requests) < 2:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        late.set()
        assert await get(wire) == (200, b"{}")
        assert server.connections == 3
        await wire.close()


@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", OK, b"H"],
    ids=["half an answer", "a whole answer", "a letter"],
)
async def test_an_answer_that_nobody_asked_for_is_nobody_s(more: bytes) -> None:
    """What comes right behind an answer must not be taken for the next one's: the connection is not used again."""

    async def turn(count: int, _: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK + more if count == 1 else b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyou")
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        assert await get(wire) == (200, b"{}")
        assert await get(wire) == (201, b"you")
        assert server.connections == 2
        await wire.close()


async def test_what_is_no_http() -> None:
    """Anything else than HTTP is an error that says so."""

    async def turn(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        with pytest.raises(Disconnected, match="not HTTP"):
            await get(wire)
        await wire.close()


async def test_closing_closes_everything() -> None:
    """After ``close`` no connection is open, what was in flight has failed, and nothing new begins."""

    async def turn(count: int, _: str, writer: asyncio.StreamWriter) -> bool:
        if count == 1:
            writer.write(OK)
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        await get(wire)
        waiting = asyncio.create_task(get(wire))
        while len(server.requests) < 2:
            await asyncio.sleep(0.001)
        await wire.close()
        with pytest.raises(Disconnected):
            await waiting
        with pytest.raises(Disconnected):
            await get(wire)
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_closing_while_a_connection_is_made() -> None:
    """A connection that is there only after ``close`` carries nothing, and does not stay."""
    async with serving(answers) as server:
        wire = Wire(server.base, tls=None)
        asking = asyncio.create_task(get(wire))
        await asyncio.sleep(0)
        await wire.close()
        with pytest.raises(Disconnected):
            await asking
        await asyncio.wait_for(server.gone.wait(), 5)
        assert server.requests == []
