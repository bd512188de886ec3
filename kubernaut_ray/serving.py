"""uvicorn inside a process that has other things to do: how the embedded API server and the gateway's own port are served.

Requests go to a plain ASGI app, without lifespan, logs of its own or signal handlers; who starts it decides about the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

KEEP_ALIVE_SECONDS = 120


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever starts us decides about signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, *, drain_seconds: int, **options: Any) -> Server:
    """Return a server for ``serve(sockets=[…])``. ``options`` are uvicorn's, for TLS and the like."""
    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
            **options,
        )
    )
