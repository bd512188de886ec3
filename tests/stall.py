"""A way to an API server on which one request can be held up: it has left the client, and has not reached the server.

TLS ends here, under an authority of its own, so that a request is recognised by its first line; everything else passes as it
is, watches too. To the API server a held request is as if the process had been stopped right before it sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from kubernaut_ray.kube.embedded import pki

HOST = "127.0.0.1"


class Stall:
    """``caught`` is set once the request is here; ``go`` lets it on; ``answer`` is the status code that came back."""

    def __init__(self, first_line: bytes, upstream: str, trust: ssl.SSLContext, ca: bytes) -> None:
        self.caught, self.go = asyncio.Event(), asyncio.Event()
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ca, self.url = ca, ""
        self._first_line, self._trust = first_line, trust
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._connections: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port, ssl=self._trust)
        held = asyncio.Event()
        pumps = [
            asyncio.create_task(self._up(reader, back, held)),
            asyncio.create_task(self._down(there, writer, held)),
        ]
        self._connections |= {*pumps}
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (back, writer):
            end.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._connections -= {*pumps}

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: asyncio.Event) -> None:
        while data := await reader.read(2**16):
            if data.startswith(self._first_line) and not self.caught.is_set():
                held.set()
                self.caught.set()
                await self.go.wait()
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: asyncio.Event) -> None:
        while data := await reader.read(2**16):
            if held.is_set() and not self.answer.done():
                self.answer.set_result(int(data.split(maxsplit=2)[1]))
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def stall(folder: Path, first_line: str, upstream: str, upstream_ca: Path) -> AsyncIterator[Stall]:
    """Serve a way to ``upstream`` that holds up the first request which begins like this."""
    folder.mkdir()
    issuer = pki.Issuer(authority="test-stall-ca", subject="test-stall", names=("localhost",))
    identity = pki.identity(folder, [HOST], issuer)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(identity.certificate, identity.key)
    trust = ssl.create_default_context(cafile=str(upstream_ca))
    it = Stall(first_line.encode(), upstream, trust, identity.ca.read_bytes())
    server = await asyncio.start_server(it.connected, HOST, 0, ssl=here)
    it.url = f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        await it.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 5)
