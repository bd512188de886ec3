"""HTTP/1.1 to one host, as thin as it can be: kept connections, one exchange at a time on each; streams have their own.

``connection.py`` sends its requests through it; a general HTTP client costs several times as much for each, and the
control loop does little else. It knows no redirects, cookies, proxies or compression: who needs those takes aiohttp.
A request is repeated in one case only, as every client with kept connections must: it was idempotent and went out on a
connection that the server had closed meanwhile, so that nothing was answered.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import urlsplit

import httptools

from kubernaut_ray.kube.stream import Disconnected, Stream

KEPT_SECONDS = 15.0
"""A connection that nobody used for so long is not used again: who knows what stands between us and the server."""
GOODBYE_SECONDS = 1.0
"""How long ``close`` waits for the server's half of the goodbye."""
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
Side = TypeVar("Side", bound=asyncio.Protocol)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer:
    """``retry_after`` is the header of that name, the only one anybody asks for."""

    status: int
    body: bytes
    retry_after: str | None = None


class _Line(asyncio.Protocol):
    """One connection. ``used`` is whether it has carried an exchange before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.idle_since = 0.0
        self.used = False
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._retry_after: str | None = None
        self._begun = False

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether nothing of an answer has come."""
        return not self._begun

    @property
    def _asked(self) -> asyncio.Future[Answer] | None:
        """Who waits for an answer, if anybody does."""
        return None if self._waiter is None or self._waiter.done() else self._waiter

    async def exchange(self, request: bytes, seconds: float) -> Answer:
        """Send a request and wait for its answer. Raises ``TimeoutError`` and ``Disconnected``; then the line is dead."""
        transport = self._transport
        if transport is None:
            raise Disconnected("the connection was closed")
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        self._begun = False
        timer = self._loop.call_later(seconds, self._expire, waiter)
        try:
            transport.write(request)
            return await waiter
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _expire(self, waiter: asyncio.Future[Answer]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError())

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's for TLS is one in all but its class

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            self.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._asked is None:
                self.abort()  # what came right behind the answer is none
            self._fail(Disconnected(f"the answer is not HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        self._fail(Disconnected(str(exc) if exc is not None else "the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if (waiter := self._asked) is not None:
            waiter.set_exception(error)

    # httptools

    def on_message_begin(self) -> None:
        if self._asked is None:
            self.abort()  # behind the answer comes another one, and nobody asked: its rest must not be taken for the next one's
        self._body, self._retry_after = [], None

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 Continue and its like: the answer follows
        if not self._parser.should_keep_alive():
            self.close()
        if (waiter := self._asked) is not None:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            waiter.set_result(Answer(status, body, self._retry_after))


class Wire:
    """The connections to one host. ``tls`` is for ``https``; ``limit`` bounds how many exchanges go on at once."""

    def __init__(
        self, base: str, *, tls: ssl.SSLContext | None, server_name: str = "", limit: int = 100, patience: float = 5.0
    ) -> None:
        url = urlsplit(base)
        self._host, self._port = url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme]
        self._tls = tls if url.scheme == "https" else None
        self._server_name = (server_name or self._host) if self._tls is not None else None
        self._root = url.path.rstrip("/")
        self._host_header = url.netloc.rpartition("@")[2]
        self._limit, self._patience = asyncio.Semaphore(limit), patience
        self._idle: deque[_Line] = deque()
        self._lines: set[_Line] = set()
        self._streams: set[Stream] = set()
        self._closed = False

    async def exchange(self, method: str, target: str, headers: str, body: bytes | None, *, timeout: float) -> Answer:
        """Send one request. ``headers`` are whole lines. Raises ``TimeoutError``, ``OSError`` (``Disconnected`` is one)."""
        size = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        request = self._head(method, target, f"{headers}{size}") + (body or b"")
        async with self._limit:
            line = self._kept()
            if line is None:
                line = await self._connect()
            try:
                answer = await line.exchange(request, timeout)
            except Disconnected:
                if not (line.used and line.silent and method in _REPEATABLE):
                    raise
                line = await self._connect()
                answer = await line.exchange(request, timeout)
        self._keep(line)
        return answer

    @asynccontextmanager
    async def stream(self, target: str, headers: str, *, idle: float) -> AsyncGenerator[Stream]:
        """Open a streaming GET, outside the limit. It raises ``TimeoutError`` after ``idle`` seconds of silence, and ``OSError``."""
        stream = await self._joined(Stream)
        self._streams.add(stream)
        try:
            await stream.open(self._head("GET", target, headers), idle=idle)
            yield stream
        finally:
            self._streams.discard(stream)
            stream.close()

    async def close(self) -> None:
        """Close all connections, and wait until they are; what is in flight fails."""
        self._closed = True
        self._idle.clear()
        for stream in tuple(self._streams):
            stream.close()
        lines = tuple(self._lines)
        for line in lines:
            line.close()
        if lines:
            await asyncio.wait([line.lost for line in lines], timeout=GOODBYE_SECONDS)
        for line in tuple(self._lines):
            line.abort()

    def _kept(self) -> _Line | None:
        """Return the connection that was used last, if it is good still."""
        now = asyncio.get_running_loop().time()
        while self._idle and now - self._idle[0].idle_since > KEPT_SECONDS:
            self._idle.popleft().close()
        while self._idle:
            line = self._idle.pop()
            if line.open:
                return line
        return None

    def _keep(self, line: _Line) -> None:
        if not line.open:
            return
        line.used, line.idle_since = True, asyncio.get_running_loop().time()
        self._idle.append(line)

    async def _connect(self) -> _Line:
        line = await self._joined(_Line)
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return line

    async def _joined(self, kind: Callable[[asyncio.AbstractEventLoop], Side]) -> Side:
        """Connect. Raises ``TimeoutError`` and ``OSError``."""
        if self._closed:
            raise Disconnected("the client is closed")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._patience):
            transport, side = await loop.create_connection(
                lambda: kind(loop), self._host, self._port, ssl=self._tls, server_hostname=self._server_name
            )
        if self._closed:
            transport.abort()
            raise Disconnected("the client was closed")
        return side

    def _head(self, method: str, target: str, headers: str) -> bytes:
        head = f"{method} {self._root}{target} HTTP/1.1\r\nHost: {self._host_header}\r\n{headers}\r\n"
        return head.encode("ascii")
