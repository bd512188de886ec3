"""``System``: one running Kubernaut, brought up in the order of its dependencies and taken down in reverse.

API server → our kinds and rights → Ray, Serve, catalog owner → services → controllers → pipeline runner. Whatever falls is
started again: child processes here, actors and replicas by Ray. What it writes into the data directory:

``endpoints.json``  base URLs · ``kubeconfig``  for people · ``token``  bearer token of the HTTP APIs · ``logs/``  one file a part
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import aiohttp
import structlog

from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.errors import KubernautError, Permanent
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.runtime import admission as webhook
from kubernaut_ray.runtime import bootstrap, cluster, ports
from kubernaut_ray.runtime.processes import Child
from kubernaut_ray.settings import Settings

TOKEN_RENEWAL = 1800.0
FLEET_CHECK = 5.0
Progress = Callable[[str], None]
_log = structlog.get_logger()


class System:
    """Everything of one data directory. ``start`` returns when it serves; ``stop`` drains and keeps all state."""

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress = lambda _: None,
        simulate_workloads: bool = False,
        shipped_workflows: bool = True,
    ) -> None:
        self.settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
        self.endpoints = Endpoints()
        self._progress = progress
        self._simulate = simulate_workloads
        self._shipped_workflows = shipped_workflows
        self._lock: TextIO | None = None
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._simulator: Any = None
        self._client: KubeClient | None = None
        self._fleet: Any = None
        self._served = False

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    @property
    def token_file(self) -> Path:
        return self.data_dir / "token"

    @property
    def kubeconfig(self) -> Path:
        """The people's kubeconfig: the cluster's own, or the embedded API server's."""
        return self.settings.kubeconfig or self.data_dir / "kubeconfig"

    async def start(self) -> None:
        """Bring everything up. Raises ``Permanent`` that names the part and the end of its log."""
        began = time.monotonic()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        self._take_lock()
        server = self.settings.server
        chosen = ports.choose(
            self.data_dir,
            http=server.port,
            dashboard=0,
            kubernetes=0,
            stats=0,
            metrics=0,
            fallback=0,
            signals=self.settings.gateway.port,
            admission=self.settings.admission.port,
        )
        gateway = self.settings.gateway.model_copy(update={"port": chosen["signals"]})
        admission = self.settings.admission.model_copy(
            update={"port": chosen["admission"], "mode": self._admission_mode()}
        )
        self.settings = self.settings.model_copy(update={"gateway": gateway, "admission": admission})
        if self.settings.kubeconfig is None:
            # Nothing here takes minutes to come up, and whoever watches a demo waits for its end.
            short = self.settings.effectiveness.for_one_machine()
            self.settings = self.settings.model_copy(update={"effectiveness": short})
        if self._serves_webhook:
            self.settings = webhook.prepare(self.settings)
        scratch = ports.short_directory(self.data_dir)
        ray_ports = cluster.RayPorts(
            chosen["http"], chosen["dashboard"], chosen["stats"], chosen["metrics"], chosen["fallback"]
        )
        base = f"http://{server.host}:{ray_ports.http}"
        self.endpoints = Endpoints(
            gateway=f"{base}/gateway",
            signals=f"http://{server.host}:{chosen['signals']}",
            holmesgpt=f"{base}/holmesgpt",
            data_storage=f"{base}/storage",
            console=f"{base}/console",
            admission=f"https://{admission.host}:{admission.port}" if self._serves_webhook else "",
            kubernetes=f"https://127.0.0.1:{chosen['kubernetes']}",
            ray_dashboard=f"http://127.0.0.1:{ray_ports.dashboard}" if server.dashboard else "",
        )
        # Ray waits for its own processes most of the time, so everything that can begin meanwhile does.
        self._progress("starting Ray")
        ray_started = asyncio.create_task(asyncio.to_thread(cluster.start, self.settings, scratch, ray_ports))
        preloaded = asyncio.create_task(asyncio.to_thread(cluster.preload))
        try:
            await self._start_kubernetes(chosen["kubernetes"])
            pipelines = asyncio.create_task(self._start_pipelines())
        finally:
            await asyncio.gather(ray_started, preloaded, return_exceptions=True)
        ray_started.result()
        await self._start_services(ray_ports.http)
        await pipelines
        self.endpoints.save(self.data_dir)
        self._supervise()
        _log.info("system.ready", seconds=round(time.monotonic() - began, 1))

    def _admission_mode(self) -> Literal["required", "off"]:
        """The embedded API server can reach a webhook on this machine; a cluster has its own, installed from the manifests."""
        mode = self.settings.admission.mode
        if mode != "auto":
            return mode
        return "required" if self.settings.kubeconfig is None else "off"

    async def stop(self) -> None:
        """Drain: no new signals, controllers finish what they hold, audit is flushed, then everything ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._simulator is not None:
            await self._simulator.stop()
        if self._fleet is not None:
            self._progress("draining the controllers")
            await self._fleet.drain()
        if self._served:
            self._progress("draining the services")
        with cluster.quiet(self.data_dir / "logs" / "ray.log"):
            if self._served:
                from actors import catalog_owner

                await asyncio.to_thread(cluster.stop_serve)
                await asyncio.to_thread(catalog_owner.stop)
            await asyncio.to_thread(cluster.stop)
        if self._client is not None:
            await self._client.close()
        for child in reversed(self._children):
            await child.stop()
        with contextlib.suppress(FileNotFoundError):
            (self.data_dir / "endpoints.json").unlink()
        if self._lock is not None:
            self._lock.close()

    def _take_lock(self) -> None:
        self._lock = (self.data_dir / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise Permanent(
                f"{self.data_dir} is in use by another kubernaut-ray (process {holder}); stop it or name another --data-dir",
                reason="AlreadyRunning",
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    async def _start_kubernetes(self, port: int) -> None:
        if self.settings.kubeconfig is None:
            self._progress("starting the embedded API server")
            command = [
                sys.executable,
                "-m",
                "kubernaut_ray.kube.embedded",
                "--data-dir",
                str(self.data_dir),
                "--port",
                str(port),
            ]
            child = Child("API server", command, self.data_dir / "logs" / "api-server.log", self._kubernetes_answers)
            self._children.append(child)
            await child.start()
        self._client = await KubeClient.connect(self.kubeconfig)
        self.endpoints = self.endpoints.model_copy(update={"kubernetes": self._client.host})
        self._progress("installing kinds and rights")
        await bootstrap.install(self._client)
        await bootstrap.write_token(self._client, self.token_file)
        bootstrap.write_system_kubeconfig(self.kubeconfig, self.token_file, self.data_dir / "system.kubeconfig")

    async def _kubernetes_answers(self) -> None:
        """Wait until the API server answers through the kubeconfig that it writes."""
        while True:
            try:
                async with await KubeClient.connect(self.kubeconfig) as client:
                    await client.version()
                return
            except (KubernautError, OSError, ValueError):
                await asyncio.sleep(0.1)

    async def _start_services(self, port: int) -> None:
        from actors import catalog_owner
        from actors.fleet import Fleet, FleetPlan

        arguments = self.arguments()
        self._served = True
        self._progress("starting the services and the controllers")
        self._fleet = Fleet(
            FleetPlan.of(
                self.settings,
                self.endpoints,
                kubeconfig=self.data_dir / "system.kubeconfig",
                token_file=self.token_file,
            )
        )
        await asyncio.gather(
            asyncio.to_thread(cluster.start_serve, self.settings.server.host, port),
            asyncio.to_thread(catalog_owner.ensure, arguments),
            self._fleet.ensure(),
            asyncio.to_thread(cluster.deploy, arguments, self._apps()),
        )
        await asyncio.gather(self._services_answer(), self._fleet.ready())
        assert self._client is not None  # noqa: S101
        if self._serves_webhook:
            await webhook.install(self._client, self.settings)
        elif self.settings.kubeconfig is None:
            await webhook.remove(self._client)
        if self._shipped_workflows:
            self._progress("registering the shipped workflows")
            await self.register_shipped_workflows()
        if self._simulate:
            from kubernaut_ray.kube.simulate import Simulator

            self._simulator = Simulator(self._client)
            await self._simulator.start()

    @property
    def _serves_webhook(self) -> bool:
        return self.settings.admission.required and self.settings.kubeconfig is None

    def _apps(self) -> tuple[str, ...]:
        return tuple(app for app in cluster.APPS if app != "admission" or self._serves_webhook)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able arguments of every Serve application and actor. Secrets travel in the environment, not here."""
        return {
            "settings": self.settings.without_secrets(),
            "endpoints": self.endpoints.model_dump(),
            "kubeconfig": str(self.data_dir / "system.kubeconfig"),
            "token_file": str(self.token_file),
        }

    async def _start_pipelines(self) -> None:
        if self.settings.kubeconfig is not None:
            return
        command = [
            sys.executable, "-m", "kubernaut_ray.kube.pipelines", "--kubeconfig", str(self.kubeconfig),
            "--data-dir", str(self.data_dir), "--namespace", self.settings.execution.namespace,
        ]  # fmt: skip
        catalog = self.settings.catalog.model_dump(mode="json", include={"registry_access", "registry_config"})
        command += ["--registry-access", json.dumps(catalog["registry_access"])]
        command += ["--registry-config", catalog["registry_config"]] if catalog["registry_config"] else []
        child = Child("pipeline runner", command, self.data_dir / "logs" / "pipelines.log", partial(asyncio.sleep, 0.2))
        self._children.append(child)
        await child.start()

    async def _services_answer(self, timeout: float = 120.0) -> None:
        """Wait until every service says that it is ready."""
        waiting = {name: getattr(self.endpoints, name) for name in ("gateway", "holmesgpt", "data_storage", "console")}
        if self._serves_webhook:
            waiting["admission"] = self.endpoints.console.replace("/console", "/admission")
        deadline = time.monotonic() + timeout
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while waiting:
                for name, url in list(waiting.items()):
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{url}/ready") as response:
                            if response.status == 200:
                                del waiting[name]
                if waiting and (broken := await asyncio.to_thread(cluster.failed)):
                    reasons = "; ".join(f"{name}: {why[-1000:]}" for name, why in broken.items())
                    raise Permanent(f"a service did not start: {reasons}", reason="StartFailed")
                if waiting and time.monotonic() > deadline:
                    raise Permanent(
                        f"not ready after {timeout:.0f} s: {', '.join(waiting)}; see {self.data_dir / 'logs'}"
                    )
                await asyncio.sleep(0.2)

    async def register_shipped_workflows(self) -> int:
        """Push the shipped workflows into the data directory's bundle store and register them. Returns how many."""
        from catalog.bundles import Bundles
        from kubernaut_ray import shipped
        from kubernaut_ray.clients.data_storage import Conflict, DataStorage
        from kubernaut_ray.contracts.catalog import RegisterWorkflow

        store = Bundles(self.data_dir / "bundles")
        count = 0
        async with DataStorage(self.endpoints.data_storage, self.token) as storage:
            for file in sorted((shipped.directory() / "workflows").glob("*/workflow-schema.yaml")):
                pinned = await asyncio.to_thread(store.push, file.parent)
                request = RegisterWorkflow(
                    container_image=pinned.image, container_digest=pinned.digest, registered_by="shipped"
                )
                try:
                    await storage.register(request)
                    count += 1
                except Conflict as error:  # another content under this version, from an older Kubernaut: it stays
                    _log.warning("workflow.kept", workflow=pinned.image, error=str(error))
        return count

    def token(self) -> str:
        return self.token_file.read_text().strip()

    def _supervise(self) -> None:
        async def every(seconds: float, what: str, act: Callable[[], Awaitable[object]]) -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await act()
                except Exception as error:  # noqa: BLE001 - this loop owns the retry
                    _log.warning("system.supervision_failed", what=what, error=str(error))

        async def renew() -> None:
            assert self._client is not None  # noqa: S101
            await bootstrap.write_token(self._client, self.token_file)

        async def certificate() -> None:
            if self._serves_webhook:
                await asyncio.to_thread(webhook.renew, self.settings)

        self._tasks = [
            asyncio.create_task(every(TOKEN_RENEWAL, "token", renew), name="renew token"),
            asyncio.create_task(every(webhook.CHECK, "certificate", certificate), name="renew certificate"),
            asyncio.create_task(every(FLEET_CHECK, "fleet", self._fleet.check), name="check fleet"),
        ]
