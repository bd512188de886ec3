"""The HolmesGPT-API on Ray Serve: replicas of the app, scaled by ongoing requests; sessions survive each of them."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.kube.client import KubeClient
from serve_apps.holmesgpt.app import SERVICE, Deps, create_app
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.investigate import Investigator
from serve_apps.holmesgpt.metrics import Metrics
from serve_apps.holmesgpt.models.choose import choose_model, credentials
from serve_apps.holmesgpt.sessions import Sessions
from serve_apps.http import KubeGate
from serve_apps.wiring import Wiring

MAX_ONGOING_REQUESTS = 200
"""Looking at a session is cheap; investigations have a limit of their own (``llm.sessions_concurrent``)."""


def build(args: dict[str, Any]) -> Application:
    """Build the application; ``args`` as in ``serve_apps.wiring``.

    A model that cannot work (no key, no name) is refused here already, before anything is deployed.
    """
    credentials(Wiring.parse(args).settings.llm, os.environ)
    application: Application = _deployment.bind(args)
    return application


async def connect(args: dict[str, Any]) -> Deps:
    """Open what one replica needs."""
    wiring = Wiring.parse(args)
    settings = wiring.settings
    model = choose_model(settings.llm, os.environ, utcnow)
    client = await KubeClient.connect(wiring.kubeconfig)
    storage = DataStorage(wiring.endpoints.data_storage, wiring.token)
    audit = AuditWriter(wiring.endpoints.data_storage, wiring.token, settings.data_dir / "audit-spool", SERVICE)
    await audit.start()
    metrics = Metrics()
    investigator = Investigator(
        model=model,
        catalog=storage,
        cluster=Cluster(client),
        audit=audit,
        clock=utcnow,
        llm=settings.llm,
        analysis=settings.analysis,
        metrics=metrics,
        namespace=settings.namespace,
    )

    async def close() -> None:
        await audit.close()
        await model.close()
        await storage.close()
        await client.close()

    return Deps(
        investigator=investigator,
        sessions=Sessions(storage, investigator.investigate, utcnow, settings.llm.sessions_concurrent),
        settings=settings,
        gate=KubeGate(client),
        clock=utcnow,
        metrics=metrics,
        reach=lambda: storage.workflows(limit=1),
        close=close,
    )


class Host:
    """One replica. Ray calls the constructor, then the app factory, then runs the app's lifespan."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        self._app = create_app(await connect(args))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app


_deployment = serve.deployment(
    name=SERVICE,
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    ray_actor_options={"num_cpus": 0},
    autoscaling_config={"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 50},
    graceful_shutdown_timeout_s=15,
    health_check_period_s=10,
)(serve.ingress()(Host))
