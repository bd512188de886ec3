"""The class behind every controller actor: a plain one, that builds its controller and runs the loop from its constructor on.

Ray restarts a killed actor by calling the constructor again, so that is where the work begins: no caller is needed. What it
is given is JSON; what it keeps is cache. ``fleet.py`` turns the class into actors; tests use it as it is.

``health`` and ``stats`` only read plain values, for Ray calls them on another thread's loop while this one works.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from kubernaut_ray import logs
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.clients.service import read_token
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Controller, Key
from kubernaut_ray.control.lease import Lease
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings

BUILDERS: Mapping[str, str] = {
    "remediationrequests": "actors.remediation.controller:build",
    "signalprocessings": "actors.signal_processing.controller:build",
    "aianalyses": "actors.ai_analysis.controller:build",
    "remediationapprovalrequests": "actors.approval.controller:build",
    "workflowexecutions": "actors.workflow_execution.controller:build",
    "notificationrequests": "actors.notification.controller:build",
}
"""The controller of each kind, by plural; imported in the actor that runs it and nowhere else."""

BEAT = 5.0
"""Seconds between signs of life of the actor's own event loop."""
STALLED = 60.0
FLUSH = 5.0
"""Seconds that a drain waits for Data Storage to take the last audit events; the spool keeps what it does not take."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """Everything a controller actor is told, JSON-able as a whole. Secrets come by the environment and the token file."""

    plural: str
    first_shard: int
    last_shard: int
    settings: dict[str, Any]
    endpoints: dict[str, str]
    kubeconfig: str | None
    token_file: str | None
    data_dir: str
    builder: str = ""
    """``module:function``; the kind's own when empty."""
    digest: str = ""
    """Of the configuration, so that a new deployment recognises an old actor."""

    @property
    def shards(self) -> ShardRange:
        return ShardRange(self.first_shard, self.last_shard)

    @property
    def name(self) -> str:
        return f"controller:{self.plural}:{self.shards}"

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Self:
        return cls(**spec)


class ControllerActor:
    """One controller over one range of shards. Needs a running event loop, where its work then goes on by itself."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = ActorSpec.parse(spec)
        self._settings = Settings.model_validate(self._spec.settings)
        logs.configure(self._settings.log_format, self._settings.log_level)
        self._loop: ControlLoop | None = None
        self._audit: AuditWriter | None = None
        self._lease: Lease | None = None
        self._draining = asyncio.Event()
        self._began = self._beat = time.monotonic()
        self._error = ""
        self._work = asyncio.get_running_loop().create_task(self._run())

    async def health(self) -> dict[str, Any]:
        """Whether the loop lives; ``ok`` is false when it ended unasked or its event loop stands still."""
        now = time.monotonic()
        stalled = now - self._beat > STALLED
        ended = self._work.done() and not self._draining.is_set()
        return {
            "ok": not stalled and not ended,
            "name": self._spec.name,
            "state": self._state,
            "digest": self._spec.digest,
            "pid": os.getpid(),
            "seconds": round(now - self._began, 1),
            "error": "the event loop stands still" if stalled else self._error,
        }

    async def stats(self) -> dict[str, Any]:
        """The loop's counters and sizes."""
        loop, counts = self._loop, self._audit.counts if self._audit else None
        if loop is None:
            return {"state": self._state}
        return {
            "state": loop.state,
            "objects": loop.objects,
            "queued": len(loop.queue),
            "working": loop.queue.working,
            "timers": loop.queue.waiting,
            "token": self._lease.token if self._lease else 0,
            "audit": {"recorded": counts.recorded, "delivered": counts.delivered, "waiting": counts.pending_bytes}
            if counts
            else {},
            **loop.stats.to_json(),
        }

    async def wake(self, namespace: str, name: str) -> None:
        """Look at this object soon."""
        if self._loop is not None:
            self._loop.queue.add(Key(namespace, name))

    async def drain(self) -> dict[str, Any]:
        """End the work in hand, deliver what is to deliver, give the shards up; returns the last counters."""
        self._draining.set()
        if self._loop is not None:
            self._loop.drain()
        await asyncio.wait({self._work})
        return await self.stats()

    @property
    def _state(self) -> str:
        if self._loop is not None:
            return self._loop.state
        return "stopped" if self._work.done() else "starting"

    async def _run(self) -> None:
        """Start, again and again if it must be, and run the loop until drained."""
        pause = 0.5
        beat = asyncio.create_task(self._live())
        try:
            while not self._draining.is_set():
                try:
                    await self._session()
                except Exception as error:
                    self._error = f"{type(error).__name__}: {error}"
                    log.exception("actor.not_started", actor=self._spec.name, again_in=pause)
                    await self._rest(pause)
                    pause = min(pause * 2, 15.0)
        finally:
            beat.cancel()

    async def _session(self) -> None:
        spec, settings = self._spec, self._settings
        endpoints = Endpoints.model_validate(spec.endpoints)
        kubeconfig = Path(spec.kubeconfig) if spec.kubeconfig else None
        spool = Path(spec.data_dir) / "audit-spool"
        component = f"{spec.plural}-{spec.shards}"
        async with (
            await KubeClient.connect(kubeconfig) as client,
            AuditWriter(endpoints.data_storage, self._token, spool, component, close_timeout=FLUSH) as audit,
        ):
            queue = WorkQueue(backoff_base=settings.fleet.backoff_base, backoff_max=settings.fleet.backoff_max)
            deps = Deps(client, settings, endpoints, self._token, lambda ns, name: queue.add(Key(ns, name)))
            controller = load_builder(spec.builder or BUILDERS.get(spec.plural, ""), spec.plural)(deps)
            self._audit = audit
            self._lease = Lease(client, settings.namespace, f"kubernaut-{component}", place(spec))
            self._loop = ControlLoop(
                controller,
                client,
                audit,
                queue,
                settings=settings.fleet,
                namespace=settings.namespace,
                shard_range=spec.shards,
                lease=self._lease,
            )
            self._error = ""
            if self._draining.is_set():
                self._loop.drain()
            await self._loop.run()

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not past a drain."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)

    async def _live(self) -> None:
        """Show that the event loop turns, and export the counters."""
        from actors.telemetry import Telemetry

        telemetry = Telemetry(self._spec.plural)
        while True:
            self._beat = time.monotonic()
            if self._loop is not None:
                telemetry.export(self._loop)
            await asyncio.sleep(BEAT)

    def _token(self) -> str:
        return read_token(Path(self._spec.token_file) if self._spec.token_file else None)


def place(spec: ActorSpec) -> str:
    """Name where an actor lives: the same after a restart on the same data directory, another on another machine."""
    directory = hashlib.sha256(str(Path(spec.data_dir).resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}:{directory}"


def load_builder(target: str, plural: str) -> Callable[[Deps], Controller[Any, Any]]:
    """Import ``module:function``. Raises ``InvalidInput`` when there is none."""
    module, _, function = target.partition(":")
    if not module or not function:
        raise InvalidInput(f"no controller is known for {plural!r}; known are {', '.join(BUILDERS)}")
    built: Callable[[Deps], Controller[Any, Any]] = getattr(importlib.import_module(module), function)
    return built
