"""The admission webhook on Ray Serve. A process of its own: it holds the key that signs who decided."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp

from kubernaut_ray import clock, names
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object, UserInfo
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.signing import SigningKey
from serve_apps.admission.app import SERVICE, Deps, create_app
from serve_apps.admission.approvals import Desk
from serve_apps.admission.listen import listening
from serve_apps.wiring import Wiring

CLUSTER_PORT = 8443
ANSWER_SECONDS = 3.0
"""For Data Storage and the API server: they answer before the API server that asked us gives up."""


def build(args: dict[str, Any]) -> Application:
    """Build the application; ``args`` as in ``serve_apps.wiring``."""
    replicas = Wiring.parse(args).settings.admission.replicas
    application: Application = _deployment.options(num_replicas=replicas).bind(args)
    return application


class Host:
    """One replica. Ray calls the constructor, then the app factory, then runs the app's lifespan."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        wiring = Wiring.parse(args)
        settings = wiring.settings
        folder, admission = settings.data_dir / "admission", settings.admission
        key = SigningKey.load(settings.approval_key)
        client = await KubeClient.connect(wiring.kubeconfig, timeout=ANSWER_SECONDS)
        storage = DataStorage(wiring.endpoints.data_storage, wiring.token, timeout=ANSWER_SECONDS)

        async def close() -> None:
            await storage.close()
            await client.close()

        async def may(user: UserInfo) -> bool:
            return await client.may(user, verb="update", group=names.GROUP, resource="approvals")

        async def lease(name: str) -> Object | None:
            try:
                return await client.get(resources.LEASE, name, settings.namespace)
            except NotFound:
                return None

        def over_tls(app: ASGIApp) -> AbstractAsyncContextManager[None]:
            return listening(
                app,
                admission.host,
                admission.port or CLUSTER_PORT,
                admission.certificate or folder / "server.crt",
                admission.certificate_key or folder / "server.key",
            )

        desk = Desk(key, storage, may, names.PLATFORM_USER, clock.utcnow)
        self._app = create_app(Deps(desk, lease, admission.caller_token, over_tls, close))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app


_deployment = serve.deployment(
    name=SERVICE, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0}, graceful_shutdown_timeout_s=10
)(serve.ingress()(Host))
