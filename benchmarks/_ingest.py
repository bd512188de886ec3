"""The way of a signal up to its RemediationRequest, and nothing behind it: API server, Ray, gateway, Data Storage.

For measuring the gateway: no controller works on the requests, so what is open stays open, and what is a duplicate stays one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import aiohttp

from kubernaut_ray.errors import Permanent
from kubernaut_ray.runtime import cluster
from kubernaut_ray.runtime.system import System
from kubernaut_ray.settings import GatewaySettings, ServerSettings, Settings

APPS = ("storage", "gateway")
READY_SECONDS = 90.0


class Ingest(System):
    """A system of which only these services run. ``start`` and ``stop`` as ever."""

    def __init__(self, data_dir: Path, **gateway: object) -> None:
        super().__init__(
            Settings(
                data_dir=data_dir,
                server=ServerSettings(dashboard=False),
                gateway=GatewaySettings.model_validate(gateway),
            ),
            shipped_workflows=False,
        )

    async def _start_pipelines(self) -> None:
        """Nothing is executed."""

    async def _start_services(self, port: int) -> None:
        from actors import catalog_owner

        arguments = self.arguments()
        self._served = True
        await asyncio.gather(
            asyncio.to_thread(cluster.start_serve, self.settings.server.host, port),
            asyncio.to_thread(catalog_owner.ensure, arguments),
            asyncio.to_thread(cluster.deploy, arguments, APPS),
        )
        await self._ready()

    def _supervise(self) -> None:
        """It lives shorter than any token."""

    async def _ready(self) -> None:
        """Wait until every gateway replica listens; one that answers says nothing of the other."""
        from ray import serve

        deadline = time.monotonic() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while True:
                status = await asyncio.to_thread(serve.status)
                states = {name: app.status for name, app in status.applications.items()}
                if states and all(states.get(app) == "RUNNING" for app in APPS):
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"{self.endpoints.signals}/ready") as response:
                            if response.status == 200:
                                return
                if time.monotonic() > deadline:
                    raise Permanent(f"not ready after {READY_SECONDS:.0f} s: {states}; see {self.data_dir / 'logs'}")
                await asyncio.sleep(0.1)
