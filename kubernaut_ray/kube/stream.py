"""One streaming answer over a connection of its own: how watches and logs are read. ``wire.py`` opens it.

The reader takes what has come, in pieces of any size. A reader that is slow slows the server down; a server that is silent for
longer than it may be is given up.
"""

from __future__ import annotations

import asyncio
from typing import Self, cast

import httptools

AHEAD = 1 << 20
"""Bytes that may wait for the reader before the connection is no longer read from."""


class Disconnected(ConnectionError):
    """The connection ended before the answer did."""


class Stream(asyncio.Protocol):
    """``open`` sends the request and waits for the head; then it is an asynchronous iterator of pieces. ``close`` ends it early."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.retry_after: str | None = None
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._size = 0
        self._reading = True
        self._measured = False
        """Whether the answer says where it ends; else the connection's end is its end."""
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._idle = 0.0
        self._heard = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, request: bytes, *, idle: float) -> None:
        """Send the request; return once ``status`` is known. Raises ``TimeoutError`` and ``Disconnected``."""
        self._idle, self._heard = idle, self._loop.time()
        self._timer = self._loop.call_later(idle, self._look)
        if self._transport is not None:
            self._transport.write(request)
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._news()

    def close(self) -> None:
        """Drop the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._news()
        taken, self._pieces, self._size = self._pieces, [], 0
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._ended and self._error is None:
            self._error = error
            self._wake()
        self.close()

    def _look(self) -> None:
        """See whether the server has been silent for too long while somebody listened."""
        now = self._loop.time()
        if self._pieces:
            self._heard = now
        if now - self._heard >= self._idle:
            self._fail(TimeoutError())
        else:
            self._timer = self._loop.call_later(self._heard + self._idle - now, self._look)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's for TLS is one in all but its class

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Disconnected(f"the answer is not HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.status and not self._measured and exc is None:
            self.on_message_complete()
        else:
            self._fail(Disconnected(str(exc) if exc is not None else "the server closed the connection"))

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower in (b"content-length", b"transfer-encoding"):
            self._measured = True
        elif lower == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # 100 Continue and its like: the answer follows
            self.status = status
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)
        self._wake()
        if self._size > AHEAD and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status:
            self._ended = True
            self._wake()
            if self._timer is not None:
                self._timer.cancel()
            if self._transport is not None:
                self._transport.close()
