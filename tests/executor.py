"""``python -m tests.executor '{…}'``: the control loop of WorkflowExecutions as a process of its own, to be stopped and woken.

Told as JSON: ``kubeconfig``, ``place``, ``shards`` (first, last), ``workflow`` (a file: what the catalog holds), ``facts`` (a
file that gets a line for every audit event). Leases are short, so that a test need not wait. Logs are JSON on stdout.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from actors.workflow_execution.controller import WorkflowExecutionController
from kubernaut_ray import logs
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.control.shard_lease import ShardLease
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from tests.shelf import Shelf

LEASE_SECONDS = 2.0


class Facts:
    def __init__(self, file: Path) -> None:
        self._file = file

    async def record(self, event: AuditEvent) -> None:
        with self._file.open("a") as file:
            file.write(event.event_type + "\n")


async def main(told: dict[str, Any]) -> None:
    """Work until SIGTERM."""
    settings = Settings.load(execution={"cooldown": 0.5, "poll_interval": 0.5})
    shards = ShardRange(*told["shards"])
    # A request that was under way when the process was stopped shall not time out for that.
    async with await KubeClient.connect(Path(told["kubeconfig"]), timeout=300.0) as client:
        deps = Deps(client, settings, Endpoints(), lambda: "", lambda *_: None)
        shelf = Shelf(Workflow.model_validate_json(Path(told["workflow"]).read_bytes()))
        lease = ShardLease(
            client, settings.namespace, "workflowexecutions", shards, told["place"],
            duration=LEASE_SECONDS, renew=LEASE_SECONDS / 5,
        )  # fmt: skip
        loop = ControlLoop(
            WorkflowExecutionController(deps, shelf), client, Facts(Path(told["facts"])), WorkQueue(),
            settings=settings.fleet, namespace=settings.namespace, shard_range=shards, lease=lease,
        )  # fmt: skip
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, loop.drain)
        await loop.run()


if __name__ == "__main__":
    logs.configure("json", "INFO")
    asyncio.run(main(json.loads(sys.argv[1])))
