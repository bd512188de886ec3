"""The API server's own HTTP: order, bodies, streams, bad clients and goodbyes, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kubernaut_ray.kube.embedded import http1
from kubernaut_ray.kube.embedded.http1 import BodyTooLarge, Connection, Exchange, Handler, Listener

TEXT = b"content-type: text/plain\r\n"


async def echo(exchange: Exchange) -> None:
    try:
        body = await exchange.read(100_000)
    except BodyTooLarge:
        exchange.answer(413, TEXT, b"too large")
        return
    exchange.answer(200, TEXT, exchange.method.encode() + b" " + exchange.url + b" " + body)


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    def ask(self, method: str, target: str, body: str = "", headers: str = "") -> None:
        self.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}")

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        return int(lines[0].split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines[1:])

    async def answer(self) -> tuple[int, str]:
        status, headers = await self.head()
        return status, (await self.reader.readexactly(int(headers["content-length"]))).decode()

    async def ended(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[tuple[Listener, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(handler, sock, None)
    await listener.start()
    try:
        yield listener, sock.getsockname()[1]
    finally:
        await listener.stop(1.0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def talking(handler: Handler) -> AsyncIterator[Client]:
    async with listening(handler) as (_, port), connected(port) as client:
        yield client


async def test_requests_on_one_connection() -> None:
    """They are answered one after the other, with a length and a date; a HEAD has the length of what it leaves out."""
    async with talking(echo) as client:
        client.ask("GET", "/a?b=c")
        assert await client.answer() == (200, "GET /a?b=c ")
        client.ask("POST", "/p", "body")
        assert await client.answer() == (200, "POST /p body")
        client.ask("HEAD", "/h")
        status, headers = await client.head()
        assert (status, headers["content-length"], headers["content-type"]) == (200, "8", "text/plain")
        assert headers["date"].endswith("gmt")
        client.ask("GET", "/last", headers="Connection: close\r\n")
        status, headers = await client.head()
        assert headers["connection"] == "close"
        assert await client.reader.read() == b"GET /last "


async def test_pipelined_requests_wait_for_their_turn() -> None:
    """The next one begins when the one before is answered."""
    begun: list[bytes] = []
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        begun.append(exchange.url)
        await go.wait()
        await echo(exchange)

    async with talking(slow) as client:
        for number in range(3):
            client.ask("PUT", f"/{number}", str(number))
        while not begun:
            await asyncio.sleep(0)
        assert begun == [b"/0"]
        go.set()
        assert [await client.answer() for _ in range(3)] == [(200, f"PUT /{n} {n}") for n in range(3)]


async def test_bodies() -> None:
    """Chunked, in pieces, after a leave to send, and of any size up to the limit; the rest of a larger one is let go."""
    async with talking(echo) as client:
        client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send("2\r\nde\r\n0\r\n\r\n")
        assert await client.answer() == (200, "POST /c abcde")
        client.send("POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.head())[0] == 100
        client.send("ok")
        assert await client.answer() == (200, "POST /e ok")
        client.ask("POST", "/l", "x" * 100_000)
        assert len((await client.answer())[1]) == len("POST /l ") + 100_000
        client.ask("POST", "/t", "x" * 300_000)
        assert await client.answer() == (413, "too large")
        client.ask("GET", "/after")
        assert await client.answer() == (200, "GET /after ")


class Pipe(asyncio.Transport):
    """The server's side of a connection without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_the_end_of_a_large_body_is_no_head() -> None:
    """However large the piece in which it comes, with the next request in it or not."""
    connection, pipe = Connection(echo, set()), Pipe()
    connection.connection_made(pipe)
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
    for pieces in (
        (post, b"x" * 90_000),
        (post + b"x" * 90_000,),
        (post, b"x" * 90_000 + post[:20], post[20:], b"x" * 90_000),
    ):
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert (pipe.sent.count(b"HTTP/1.1 200 OK"), pipe.sent.count(b"HTTP/1.1")) == (4, 4)


async def test_a_body_that_nobody_reads() -> None:
    """It is neither kept nor in the way of the next request."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(401, TEXT, b"no")

    async with talking(refuse) as client:
        for _ in range(2):
            client.ask("POST", "/", "x" * 500_000)
            assert await client.answer() == (401, "no")


async def test_streams() -> None:
    """Pieces for a client that knows them, and plain bytes up to the end of the connection for an older one."""

    async def stream(exchange: Exchange) -> None:
        exchange.begin(200, TEXT)
        for piece in (b"one", b"", b"two"):
            await exchange.send(piece)
        exchange.end()

    async with listening(stream) as (_, port):
        async with connected(port) as client:
            client.ask("GET", "/")
            _, headers = await client.head()
            assert headers["transfer-encoding"] == "chunked"
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        async with connected(port) as client:
            client.send("GET / HTTP/1.0\r\n\r\n")
            await client.head()
            assert await client.reader.read() == b"onetwo"


async def test_a_slow_reader_holds_the_stream_up() -> None:
    """What is sent waits for the client, and not in our memory."""
    sent = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal sent
        exchange.begin(200, TEXT)
        while not exchange.gone:
            await exchange.send(b"x" * 65_536)
            sent += 1
            await asyncio.sleep(0)

    async with talking(pour) as client:
        client.ask("GET", "/")
        await client.head()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        await client.reader.readexactly(32 * 65_536)
        while sent == before:
            await asyncio.sleep(0.01)


async def test_a_client_that_goes() -> None:
    """A stream is told, and a body that would never end is given up."""
    told, given_up = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        if exchange.url == b"/stream":
            exchange.on_gone = told.set
            exchange.begin(200, TEXT)
            await told.wait()
            return
        with pytest.raises(ConnectionResetError):
            await exchange.read(1000)
        given_up.set()

    async with listening(handle) as (_, port):
        async with connected(port) as client:
            client.ask("GET", "/stream")
            await client.head()
        await told.wait()
        async with connected(port) as client:
            client.send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            await client.writer.drain()
            await asyncio.sleep(0.05)
        await given_up.wait()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, 431),
        (b"GET /" + b"x" * 70_000, 431),
    ],
)
async def test_what_is_no_request(sent: bytes, status: int) -> None:
    """It is refused and the connection ends."""
    async with talking(echo) as client:
        client.send(sent)
        assert (await client.answer())[0] == status
        assert await client.ended()


async def test_a_body_that_breaks_off_in_nonsense() -> None:
    """Nobody goes on waiting for it."""
    async with talking(echo) as client:
        client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.writer.drain()
        await asyncio.sleep(0.05)
        client.send("nonsense\r\n")
        assert await client.ended()


async def test_upgrades_are_not_made() -> None:
    """The request is answered as if nobody had asked."""
    async with talking(echo) as client:
        client.ask("GET", "/u", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n")
        assert await client.answer() == (200, "GET /u ")
        assert await client.ended()


async def test_a_handler_that_breaks() -> None:
    """An answer that was not begun is a 500; one that was is cut off, so that nobody takes it for whole."""

    async def broken(exchange: Exchange) -> None:
        if exchange.url == b"/half":
            exchange.begin(200, TEXT)
            await exchange.send(b"half")
        raise ValueError("a bug")

    async with listening(broken) as (_, port):
        async with connected(port) as client:
            client.ask("GET", "/")
            assert await client.answer() == (500, "Internal Server Error")
            assert await client.ended()
        async with connected(port) as client:
            client.ask("GET", "/half")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.reader.readuntil(b"0\r\n\r\n")


async def test_stopping() -> None:
    """Idle connections close, an answer under way ends, and one that takes too long is cut off."""
    go, stuck = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await (stuck if exchange.url == b"/stuck" else go).wait()
        await echo(exchange)

    async with listening(handle) as (listener, port), connected(port) as idle, connected(port) as busy:
        async with connected(port) as lost:
            busy.ask("GET", "/busy")
            lost.ask("GET", "/stuck")
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(listener.stop(0.5))
            assert await idle.ended()
            go.set()
            status, headers = await busy.head()
            assert (status, headers["connection"]) == (200, "close")
            assert await busy.reader.read() == b"GET /busy "
            await stopping
            assert await lost.ended()
        stuck.set()


async def test_idle_connections_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has been used as well as one that never was; one that is owed an answer stays."""
    monkeypatch.setattr(http1, "SWEEP_SECONDS", 0.01)
    go = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        if exchange.url == b"/wait":
            await go.wait()
        await echo(exchange)

    async with listening(handle) as (_, port), connected(port) as new, connected(port) as used, connected(port) as busy:
        used.ask("GET", "/")
        await used.answer()
        busy.ask("GET", "/wait")
        await asyncio.sleep(0.05)
        monkeypatch.setattr(http1, "KEEP_ALIVE_SECONDS", -1.0)
        assert await new.ended()
        assert await used.ended()
        go.set()
        assert await busy.answer() == (200, "GET /wait ")
