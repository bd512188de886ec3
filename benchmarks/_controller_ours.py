"""The RemediationRequest controller in a process of its own, as its actor runs it but for Ray; see ``reconcile.py``.

The real controller, loop, lease, client and audit spool. Says ``ready`` when everything has been listed; answers each line on
standard input with one line of counters; ends when standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.remediation.controller import build
from kubernaut_ray import collector, logs
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Controller, Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import FleetSettings, OrchestratorSettings, Settings

Builder = Callable[[Deps], Controller[Any, Any]]
DAY = 86_400.0


def settings(folder: Path) -> Settings:
    """The defaults, but that live incidents may wait for as long as the benchmark takes."""
    patient = OrchestratorSettings(global_timeout=DAY, processing_timeout=DAY)
    return Settings(data_dir=folder, log_level="warning", orchestrator=patient, fleet=FleetSettings())


async def serve(make: Builder, kubeconfig: Path, folder: Path, data_storage: str) -> None:
    chosen = settings(folder)
    logs.configure(chosen.log_format, chosen.log_level)
    async with (
        await KubeClient.connect(kubeconfig) as client,
        AuditWriter(data_storage, lambda: "", folder / "audit-spool", "benchmark", close_timeout=1.0) as audit,
    ):
        queue = WorkQueue(backoff_base=chosen.fleet.backoff_base, backoff_max=chosen.fleet.backoff_max)
        deps = Deps(client, chosen, Endpoints(), lambda: "", lambda ns, name: queue.add(Key(ns, name)))
        loop = ControlLoop(
            make(deps),
            client,
            audit,
            queue,
            settings=chosen.fleet,
            namespace=chosen.namespace,
            lease=ShardLease(client, chosen.namespace, "remediationrequests", ShardRange(), "benchmark"),
            recall=deps.recall,
        )
        collector.settle()
        running = asyncio.create_task(loop.run())
        while loop.state != "running":
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            print(
                orjson.dumps({"reconciles": loop.stats.reconciles, "facts": audit.counts.recorded}).decode(), flush=True
            )
        loop.drain()
        await running


def main(make: Builder) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data-storage", required=True, metavar="URL")
    options = parser.parse_args()
    uvloop.run(serve(make, options.kubeconfig, options.folder, options.data_storage))


if __name__ == "__main__":
    main(build)
