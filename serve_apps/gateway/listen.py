"""A replica's own listening socket: signals reach it without Ray Serve's proxy in between.

All replicas of a machine listen on one port (SO_REUSEPORT) and the kernel spreads connections over them; a replica that dies
takes its socket with it at once. Ray Serve still hosts, watches and replaces the replicas, and its proxy serves the same app;
this way costs a third of that one a request, which is what a storm is made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import AsyncIterator

import structlog
from starlette.types import ASGIApp

from kubernaut_ray import serving
from kubernaut_ray.errors import Permanent

BACKLOG = 2048
DRAIN_SECONDS = 20

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, host: str, port: int) -> AsyncIterator[None]:
    """Serve the app on this address while the context lasts. Raises ``Permanent`` when the port belongs to somebody else."""
    listener = bound(host, port, "gateway.port")
    server = serving.server(app, drain_seconds=DRAIN_SECONDS, date_header=False)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="gateway-listener", context=contextvars.Context())
    try:
        while not server.started:
            if task.done():
                await task
                raise Permanent(f"nothing serves gateway.port {port} on {host}", reason="NotListening")
            await asyncio.sleep(0.01)
        log.info("gateway.listening", host=host, port=port)
        yield
    finally:
        server.should_exit = True
        try:
            await task
        finally:
            listener.close()


def bound(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens there, beside those of other replicas. Raises ``Permanent`` naming the setting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Permanent(
            f"{setting} {port} on {host} cannot be listened on: {error.strerror}; name another", reason="PortTaken"
        ) from error
    listener.setblocking(False)
    return listener
