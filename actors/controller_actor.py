"""The class behind every controller actor: it builds its controller and runs the loop over its range of shards."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actors.resident import Resident, place
from kubernaut_ray import collector
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Controller, Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import KubeClient

BUILDERS: Mapping[str, str] = {
    "remediationrequests": "actors.remediation.controller:build",
    "signalprocessings": "actors.signal_processing.controller:build",
    "aianalyses": "actors.ai_analysis.controller:build",
    "remediationapprovalrequests": "actors.approval.controller:build",
    "workflowexecutions": "actors.workflow_execution.controller:build",
    "effectivenessassessments": "actors.effectiveness.controller:build",
    "notificationrequests": "actors.notification.controller:build",
    "remediationworkflows": "actors.remediation_workflow.controller:build",
}
"""The controller of each kind, by plural; imported in the actor that runs it and nowhere else."""

FLUSH = 5.0
"""Seconds that a drain waits for Data Storage to take the last audit events; the spool keeps what it does not take."""


class ControllerActor(Resident):
    """One controller over one range of shards."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        from actors.telemetry import Telemetry

        self._loop: ControlLoop | None = None
        self._audit: AuditWriter | None = None
        self._lease: ShardLease | None = None
        super().__init__(spec)
        self._telemetry = Telemetry(self._spec.plural)

    async def stats(self) -> dict[str, Any]:
        """The loop's counters and sizes."""
        loop, counts = self._loop, self._audit.counts if self._audit else None
        if loop is None:
            return await super().stats()
        return {
            "state": loop.state,
            "objects": loop.objects,
            "queued": len(loop.queue),
            "working": loop.queue.working,
            "timers": loop.queue.waiting,
            "lease": self._lease.to_json() if self._lease else {},
            "audit": {"recorded": counts.recorded, "delivered": counts.delivered, "waiting": counts.pending_bytes}
            if counts
            else {},
            **loop.stats.to_json(),
        }

    async def wake(self, namespace: str, name: str) -> None:
        """Look at this object soon."""
        if self._loop is not None:
            self._loop.queue.add(Key(namespace, name))

    def _work(self) -> ControlLoop | None:
        return self._loop

    def _beating(self) -> None:
        if self._loop is not None:
            self._telemetry.export(self._loop)

    async def _session(self) -> None:
        spec, settings, endpoints = self._spec, self._settings, self._endpoints
        spool = Path(spec.data_dir) / "audit-spool"
        component = f"{spec.plural}-{spec.shards}"
        async with (
            await KubeClient.connect(self._kubeconfig) as client,
            AuditWriter(endpoints.data_storage, self._token, spool, component, close_timeout=FLUSH) as audit,
        ):
            queue = WorkQueue(backoff_base=settings.fleet.backoff_base, backoff_max=settings.fleet.backoff_max)
            deps = Deps(client, settings, endpoints, self._token, lambda ns, name: queue.add(Key(ns, name)))
            controller = load_builder(spec.builder or BUILDERS.get(spec.plural, ""), spec.plural)(deps)
            self._audit = audit
            self._lease = ShardLease(client, settings.namespace, spec.plural, spec.shards, place(spec))
            self._loop = ControlLoop(
                controller,
                client,
                audit,
                queue,
                settings=settings.fleet,
                namespace=settings.namespace,
                shard_range=spec.shards,
                lease=self._lease,
                recall=deps.recall,
            )
            self._error = ""
            collector.settle()
            if self._draining.is_set():
                self._loop.drain()
            await self._loop.run()


def load_builder(target: str, plural: str) -> Callable[[Deps], Controller[Any, Any]]:
    """Import ``module:function``. Raises ``InvalidInput`` when there is none."""
    module, _, function = target.partition(":")
    if not module or not function:
        raise InvalidInput(f"no controller is known for {plural!r}; known are {', '.join(BUILDERS)}")
    built: Callable[[Deps], Controller[Any, Any]] = getattr(importlib.import_module(module), function)
    return built
