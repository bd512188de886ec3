"""HTTP/1.1 as the API server speaks it, over TLS: requests in, whole answers and streams out.

``server.py`` listens with it and ``app.py`` answers. A control loop sends little but small requests, and a general ASGI server costs
more for each of them than what they ask for. It knows nothing of Kubernetes, and no compression, trailers or upgrades: who asks for
an upgrade is answered as if they had not. Requests on one connection are answered one after the other, in their order.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from socket import socket
from typing import Any, cast

import httptools
import structlog

KEEP_ALIVE_SECONDS = 120.0
"""A connection on which nothing goes on for so long is closed."""
SWEEP_SECONDS = 10.0
UNREAD = 65_536
"""Bytes of a body that may wait for its reader before the connection is no longer read from."""
HEAD_LIMIT = 65_536
"""Bytes of a request's line and headers."""
_BACKLOG = 2048
_PLAIN = b"content-type: text/plain; charset=utf-8\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_log = structlog.get_logger(__name__)

Header = tuple[bytes, bytes]


class BodyTooLarge(Exception):
    """More came than the reader wants."""


class Exchange:
    """One request, and the place for its answer: ``answer``, or ``begin``, ``send`` and ``end``."""

    __slots__ = (
        "_body", "_complete", "_connection", "_expects", "_size", "_waiter", "answered", "begun", "chunked", "headers", "keeps",
        "method", "on_gone", "url",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.method = ""
        self.url = b""
        self.headers: list[Header] = []
        """Names are lower case."""
        self.keeps = True
        """Whether the connection goes on afterwards."""
        self.chunked = True
        self.begun = self.answered = False
        self.on_gone: Callable[[], None] | None = None
        """Called once the client is gone, if that is before the answer has ended."""
        self._body: list[bytes] = []
        self._size = 0
        self._complete = self._expects = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def gone(self) -> bool:
        return self._connection.lost

    async def read(self, limit: int) -> bytes:
        """Return the body. Raises ``BodyTooLarge`` and, when the client goes while sending, ``ConnectionResetError``."""
        while not self._complete and self._size <= limit:
            if self.gone:
                raise ConnectionResetError("the client went away while sending")
            if self._expects:
                self._expects = False
                self._connection.write(_CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            self._connection.pace()
            await self._waiter
        if self._size > limit:
            raise BodyTooLarge
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer in one piece. ``headers`` are whole lines; the length is added."""
        head = b"%b%bcontent-length: %d\r\n\r\n" % (self._head(status), headers, len(body))
        self.begun = True
        self._connection.write(head if self.method == "HEAD" else head + body)
        self._end()

    def begin(self, status: int, headers: bytes) -> None:
        """Begin an answer of unknown length."""
        self.begun = True
        framing = b"transfer-encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"
        self._connection.write(self._head(status) + headers + framing)

    async def send(self, data: bytes) -> None:
        """Send a piece of it, at the pace of the client."""
        if data:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
            await self._connection.writable()

    def end(self) -> None:
        """End what was begun."""
        if self.chunked:
            self._connection.write(b"0\r\n\r\n")
        self._end()

    def _head(self, status: int) -> bytes:
        self.keeps = self.keeps and not self._connection.leaving
        last = "" if self.keeps else "connection: close\r\n"
        return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\ndate: {_date(int(time.time()))}\r\n{last}".encode()

    def _end(self) -> None:
        self.answered = True
        self._body.clear()
        self._connection.advance()

    # what the connection tells

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if not self.answered:
            self._body.append(data)
            self.wake()

    def complete(self) -> None:
        self._complete = True
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def expect(self) -> None:
        """Note that the client waits for leave to send its body."""
        self._expects = True

    @property
    def over(self) -> bool:
        """Whether both sides have said all."""
        return self.answered and self._complete

    @property
    def unread(self) -> bool:
        """Whether more has come than its reader has asked for so far."""
        waits = self._waiter is not None and not self._waiter.done()
        return not self._complete and not self.answered and not waits and self._size > UNREAD


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """One connection. ``leaving``: it ends with the answer under way."""

    def __init__(self, handler: Handler, open_: set[Connection]) -> None:
        self._handler, self._open = handler, open_
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._arriving = Exchange(self)
        self._head_size: int | None = 0
        """Bytes of the request line and headers that are arriving; ``None`` while a body is."""
        self._piece = 0
        """Bytes that are being parsed."""
        self._waiting: deque[Exchange] = deque()
        self._active: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._stalled: asyncio.Future[None] | None = None
        """While the client does not read."""
        self._reading = True
        self.lost = self.leaving = False
        self.idle_since = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether no answer is owed."""
        return not self._waiting and (self._active is None or self._active.answered)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the client has read enough of what was sent."""
        if self._stalled is not None:
            await self._stalled

    def leave(self) -> None:
        """Close now, or after the answer under way."""
        self.leaving = True
        if self.idle:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def advance(self) -> None:
        """Go on to the next request, if this one is over."""
        active = self._active
        if active is not None and active.answered:
            self.idle_since = time.monotonic()
            if self.leaving or not active.keeps:
                self.close()
                return
            if active.over:
                self._active = None
        if self._active is None and self._waiting and self._stalled is None and not self.lost:
            self._active = self._waiting.popleft()
            self._task = self._loop.create_task(self._handler(self._active))
            self._task.add_done_callback(functools.partial(self._handled, self._active))
        self.pace()

    def pace(self) -> None:
        """Read on, or not: a client that sends ahead of its answers, or more than is wanted, waits."""
        wanted = not self._waiting and not (self._active is not None and self._active.unread)
        if wanted is not self._reading and self._transport is not None and not self.lost:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _handled(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("http.handler_broke", method=exchange.method, exc_info=error)
        if exchange.answered:
            return
        if exchange.begun:
            self.abort()  # half an answer must not look like a whole one
        else:
            exchange.keeps = False
            exchange.answer(500, _PLAIN, b"Internal Server Error")

    def _refuse(self, status: int, why: bytes) -> None:
        """Answer what is no request, after what is owed, and close."""
        self.leaving = True
        if self.idle:
            self._active = Exchange(self)
            self._active.answer(status, _PLAIN, why)
        elif self._active is self._arriving:
            self.abort()  # its body is broken, and somebody waits for it

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's for TLS is one in all but its class
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self.leaving:
            return
        self._piece = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._arriving.keeps = False
        except httptools.HttpParserError:
            self._refuse(400, b"this is no HTTP request")
        if self._head_size is not None:
            self._head_size += self._piece
            if self._head_size > HEAD_LIMIT:
                self._refuse(431, b"the headers are too large")
        self.advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self._transport = None
        self._open.discard(self)
        self._waiting.clear()
        self.resume_writing()
        if self._active is not None and not self._active.answered:
            self._active.wake()
            if self._active.on_gone is not None:
                self._active.on_gone()

    def pause_writing(self) -> None:
        if self._stalled is None:
            self._stalled = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._stalled is not None:
            stalled, self._stalled = self._stalled, None
            if not stalled.done():
                stalled.set_result(None)
            if not self.lost:
                self.advance()

    # httptools

    def on_message_begin(self) -> None:
        self._arriving = Exchange(self)

    def on_url(self, url: bytes) -> None:
        self._arriving.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._arriving.headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self._arriving.expect()

    def on_headers_complete(self) -> None:
        exchange, parser = self._arriving, self._parser
        self._head_size = None
        exchange.method = parser.get_method().decode()
        exchange.keeps = parser.should_keep_alive()
        exchange.chunked = parser.get_http_version() != "1.0"
        if not exchange.chunked:
            exchange.keeps = False
        self._waiting.append(exchange)

    def on_body(self, body: bytes) -> None:
        self._arriving.add(body)

    def on_message_complete(self) -> None:
        self._arriving.complete()
        self._head_size = -self._piece  # the end of a body is no part of the next head


class Listener:
    """Serves a listening socket. ``start``, then ``stop``."""

    def __init__(self, handler: Handler, listening: socket, tls: ssl.SSLContext | None) -> None:
        self._handler, self._socket, self._tls = handler, listening, tls
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._handler, self._connections), sock=self._socket, ssl=self._tls, backlog=_BACKLOG
        )
        self._sweep()

    async def stop(self, seconds: float) -> None:
        """Accept no more, let answers under way end, and close; what takes longer than ``seconds`` is cut off."""
        if self._server is None:
            return
        self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self._connections):
            connection.leave()
        until = time.monotonic() + seconds
        while self._connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in tuple(self._connections):
            connection.abort()
        await self._server.wait_closed()

    def _sweep(self) -> None:
        old = time.monotonic() - KEEP_ALIVE_SECONDS
        for connection in tuple(self._connections):
            if connection.idle and connection.idle_since < old:
                connection.close()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)


def server_tls(certificate: str, key: str) -> ssl.SSLContext:
    """Return the TLS settings of a server with these PEM files."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
