"""Streams over the thin wire: pieces as they come, and every way in which they can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from kubernaut_ray.kube.stream import Disconnected, Stream
from kubernaut_ray.kube.wire import Wire
from tests.kubernaut_ray.kube.test_wire import OK, Turn, serving

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_END = b"HTTP/1.1 200 OK\r\n\r\n"


def saying(*pieces: bytes, stays: bool = True) -> Turn:
    async def turn(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        return stays

    return turn


@asynccontextmanager
async def streaming(turn: Turn, *, idle: float = 5.0) -> AsyncGenerator[Stream]:
    """A stream from a server that says this."""
    async with serving(turn) as server:
        wire = Wire(server.base, tls=None)
        try:
            async with wire.stream("/", "", idle=idle) as stream:
                yield stream
        finally:
            await wire.close()


async def read(stream: Stream) -> bytes:
    return b"".join([piece async for piece in stream])


@pytest.mark.parametrize(
    ("pieces", "stays"),
    [
        ((HEAD, b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"), True),
        ((HEAD + b"6\r\nonetwo\r\n0\r\n\r\n",), True),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none", b"two"), True),
        ((OPEN_END, b"one", b"two"), False),
    ],
    ids=["piecewise", "at once", "with its length", "up to the end of the connection"],
)
async def test_a_whole_stream(pieces: tuple[bytes, ...], stays: bool) -> None:
    """It gives all that was sent, and ends."""
    async with serving(saying(*pieces, stays=stays)) as server:
        wire = Wire(server.base, tls=None)
        async with wire.stream("/w", "Accept: x\r\n", idle=5.0) as stream:
            assert stream.status == 200
            assert await read(stream) == b"onetwo"
        assert server.requests == ["GET /base/w HTTP/1.1"]
        await wire.close()


async def test_a_stream_that_is_cut() -> None:
    """What came before is given, and then it is said; nobody takes it for the end."""
    async with streaming(saying(HEAD, b"3\r\none\r\n", stays=False)) as stream:
        assert await anext(stream) == b"one"
        with pytest.raises(Disconnected):
            await anext(stream)


async def test_a_silent_stream_is_given_up() -> None:
    """Before its head as well as after it."""
    async with streaming(saying(HEAD, b"3\r\none\r\n"), idle=0.1) as stream:
        assert await anext(stream) == b"one"
        with pytest.raises(TimeoutError):
            await anext(stream)
    with pytest.raises(TimeoutError):
        async with streaming(saying(), idle=0.1):
            pass


async def test_a_refusal() -> None:
    """Its status, its body and when to come again."""
    refusal = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
    async with streaming(saying(refusal)) as stream:
        assert (stream.status, stream.retry_after, await read(stream)) == (429, "7", b"busy")


async def test_what_is_no_http() -> None:
    """It is an error of the connection, as any other."""
    with pytest.raises(Disconnected, match="not HTTP"):
        async with streaming(saying(b"SSH-2.0-OpenSSH_9.7\r\n")):
            pass


async def test_a_slow_reader_holds_the_server_up() -> None:
    """What it has not taken waits on the other side."""
    sent = 0

    async def pour(_: int, __: str, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(HEAD)
        while True:
            writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            await writer.drain()
            sent += 1

    async with streaming(pour) as stream:
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        while sent == before:
            await anext(stream)


async def test_leaving_early_and_closing() -> None:
    """The connection goes with its reader, and all of them with the client; streams do not count among the exchanges."""
    async with serving(saying(HEAD, b"3\r\none\r\n")) as server:
        wire = Wire(server.base, tls=None, limit=1)
        async with wire.stream("/", "", idle=5.0) as stream:
            await anext(stream)
        await server.gone.wait()
    async with serving(saying(HEAD, b"3\r\none\r\n")) as server:
        wire = Wire(server.base, tls=None, limit=1)
        async with wire.stream("/", "", idle=5.0) as one, wire.stream("/", "", idle=5.0) as other:
            assert (await anext(one), await anext(other)) == (b"one", b"one")
            await wire.close()
            with pytest.raises(Disconnected):
                await anext(one)
        with pytest.raises(Disconnected):
            async with wire.stream("/", "", idle=5.0):
                pass


async def test_exchanges_go_on_beside_a_stream() -> None:
    """Even where only one exchange may go on at once."""

    async def turn(_: int, head: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(HEAD if "/w " in head else OK)
        return True

    async with serving(turn) as server:
        wire = Wire(server.base, tls=None, limit=1)
        async with wire.stream("/w", "", idle=5.0):
            assert (await wire.exchange("GET", "/a", "", None, timeout=5.0)).body == b"{}"
        await wire.close()
