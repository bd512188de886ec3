"""The gateway on Ray Serve: replicas of the app, each with its own connection, audit spool and occurrence counts."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import KubeClient
from serve_apps.gateway.app import SERVICE, Deps, Gateway, create_app
from serve_apps.http import KubeGate
from serve_apps.wiring import Wiring

MAX_ONGOING_REQUESTS = 400
"""Above the app's own limits, so that it is the app that sheds load, with a reason and Retry-After."""


def build(args: dict[str, Any]) -> Application:
    """Build the application; ``args`` as in ``serve_apps.wiring``."""
    replicas = Wiring.parse(args).settings.gateway.replicas
    application: Application = _deployment.options(num_replicas=replicas).bind(args)
    return application


class Host:
    """One replica. Ray calls the constructor, then the app factory, then runs the app's lifespan."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        wiring = Wiring.parse(args)
        settings = wiring.settings
        client = await KubeClient.connect(wiring.kubeconfig, timeout=settings.gateway.kubernetes_timeout)
        spool = settings.data_dir / "audit-spool"
        # Data Storage often ends together with us; what it did not take stays in the spool and is delivered later.
        audit = AuditWriter(wiring.endpoints.data_storage, wiring.token, spool, SERVICE, close_timeout=3)
        await audit.start()

        async def close() -> None:
            await audit.close()
            await client.close()

        self._app = create_app(Deps(client, settings, audit, KubeGate(client), close=close))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Called by Ray; a replica whose occurrence task died is replaced."""
        gateway: Gateway = self._app.state.gateway
        if not gateway.healthy:
            raise Retryable(f"gateway replica of process {os.getpid()}: the occurrence task is not running")


_deployment = serve.deployment(
    name=SERVICE,
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    ray_actor_options={"num_cpus": 0},
    graceful_shutdown_timeout_s=35,
    health_check_period_s=10,
)(serve.ingress()(Host))
