"""The webhook's own TLS port: API servers speak HTTPS to webhooks, and Ray Serve's proxy speaks none.

As the gateway does, the replica listens itself (SO_REUSEPORT, so that several may). The certificate is read anew when its
file changes: connections made from then on get the new one, so that it is rotated without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from kubernaut_ray import serving
from kubernaut_ray.errors import Permanent
from serve_apps.gateway.listen import bound

DRAIN_SECONDS = 5
CERTIFICATE_CHECK = 30.0

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp, host: str, port: int, certificate: Path, key: Path, *, check_seconds: float = CERTIFICATE_CHECK
) -> AsyncIterator[None]:
    """Serve the app over HTTPS while the context lasts. Raises ``Permanent``: the port is taken, or the files are unusable."""
    listener = bound(host, port, "admission.port")
    try:
        server = serving.server(
            app, drain_seconds=DRAIN_SECONDS, date_header=False, ssl_certfile=certificate, ssl_keyfile=key
        )
        server.config.load()
    except OSError as error:  # ssl.SSLError is one too
        listener.close()
        raise Permanent(
            f"admission.certificate {certificate}: {error.strerror or error}", reason="NoCertificate"
        ) from error
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]), name="admission-listener", context=contextvars.Context()),
        asyncio.create_task(
            _renew(server, certificate, key, check_seconds), name="admission-certificate", context=contextvars.Context()
        ),
    ]
    try:
        while not server.started:
            if tasks[0].done():
                await tasks[0]
                raise Permanent(f"nothing serves admission.port {port} on {host}", reason="NotListening")
            await asyncio.sleep(0.01)
        log.info("admission.listening", host=host, port=port)
        yield
    finally:
        server.should_exit = True
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()


async def _renew(server: serving.Server, certificate: Path, key: Path, seconds: float) -> None:
    """Load the certificate again whenever its file changed; a pair that does not fit is tried again later."""
    seen = certificate.stat().st_mtime_ns
    while True:
        await asyncio.sleep(seconds)
        try:
            changed = certificate.stat().st_mtime_ns
            if changed != seen and server.config.ssl is not None:
                server.config.ssl.load_cert_chain(certificate, key)
                seen = changed
                log.info("admission.certificate_renewed", file=str(certificate))
        except OSError as error:
            log.warning("admission.certificate_unusable", file=str(certificate), error=str(error))
