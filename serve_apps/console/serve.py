"""The console on Ray Serve."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.kube.client import KubeClient
from serve_apps.console.app import SERVICE, Deps, create_app
from serve_apps.http import KubeGate
from serve_apps.wiring import Wiring


def build(args: dict[str, Any]) -> Application:
    """Build the application; ``args`` as in ``serve_apps.wiring``."""
    application: Application = _deployment.bind(args)
    return application


class Host:
    """One replica. Ray calls the constructor, then the app factory, then runs the app's lifespan."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        wiring = Wiring.parse(args)
        client = await KubeClient.connect(wiring.kubeconfig)
        storage = DataStorage(wiring.endpoints.data_storage, wiring.token)

        async def close() -> None:
            await storage.close()
            await client.close()

        self._app = create_app(Deps(client, wiring.settings, storage, KubeGate(client), close=close))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app


_deployment = serve.deployment(
    name=SERVICE, num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0}
)(serve.ingress()(Host))
