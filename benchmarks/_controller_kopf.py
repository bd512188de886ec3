"""The same remediation in kopf, in a process of its own; see ``reconcile.py`` for what is compared.

What a kopf operator for these CRDs looks like: a creation handler, and a handler for each field value that moves a remediation
on. A handler creates the next child and writes the parent's next phase. It does no more than that: it reads nothing but what
kopf hands it, judges no routing and records no audit. Children are made, and the parent of a child is written, through our own
client, since kopf has none; the object under a handler is written by kopf.

Settings as kopf's documentation recommends for production: no peering, no events posted, no logging of each object, annotations
for its state where the CRD has a schema, one namespace, uvloop; and a failed handler is called again as soon as ours is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import kopf
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _incidents as incidents
from kubernaut_ray import clock, names
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists
from kubernaut_ray.kube.resources import Resource

STATE = "kopf.kubernaut.ai"
BACKOFF = 0.5
"""Seconds until a handler that failed is called again: ours, where kopf's 60 would make one refused request most of a figure."""


def operator(client: KubeClient) -> kopf.OperatorRegistry:
    """Return the handlers."""
    registry = kopf.OperatorRegistry()
    registry = _with_login(registry)

    def on(kind: type[CustomResource], phase: str) -> Any:
        field = "status.overallPhase" if kind is RemediationRequest else "status.phase"
        return kopf.on.field(
            names.GROUP,
            names.VERSION,
            kind.META.plural,
            field=field,
            new=phase,
            id=f"{phase}".lower(),
            registry=registry,
        )

    @kopf.on.create(
        names.GROUP,
        names.VERSION,
        RemediationRequest.META.plural,
        when=lambda status, **_: not status.get("overallPhase"),
        registry=registry,
    )
    async def opened(patch: kopf.Patch, **_: Any) -> None:
        patch.status.update(_phase("Pending", "startTime"))

    @on(RemediationRequest, "Pending")
    async def pending(name: str, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        await create(resources.SIGNAL_PROCESSING, names.signal_processing(name), body)
        patch.status.update(_phase("Processing", "processingStartTime"))

    @on(SignalProcessing, "Completed")
    async def processed(body: kopf.Body, **_: Any) -> None:
        parent = _parent(body)
        await create(resources.AI_ANALYSIS, names.ai_analysis(parent["metadata"]["name"]), parent)
        await move(parent, _phase("Analyzing", "analyzingStartTime"))

    @on(AIAnalysis, "Completed")
    async def analysed(body: kopf.Body, **_: Any) -> None:
        parent = _parent(body)
        await create(resources.WORKFLOW_EXECUTION, names.workflow_execution(parent["metadata"]["name"]), parent)
        await move(parent, _phase("Executing", "executingStartTime"))

    @on(WorkflowExecution, "Completed")
    async def executed(body: kopf.Body, **_: Any) -> None:
        parent = _parent(body)
        name = names.notification("completion", parent["metadata"]["name"])
        await create(resources.NOTIFICATION_REQUEST, name, parent)
        await move(parent, {**_phase("Completed", "completedAt"), "outcome": "Remediated"})

    @on(NotificationRequest, "Sent")
    async def delivered(body: kopf.Body, **_: Any) -> None:
        mark = {"type": incidents.SETTLED, "status": "True", "reason": "Delivered", "message": ""}
        await move(_parent(body), {"conditions": [{**mark, "lastTransitionTime": _now()}]})

    async def create(resource: Resource, name: str, parent: Any) -> None:
        try:
            await client.create(resource, incidents.child(resource, name, parent))
        except AlreadyExists:
            return  # a handler that is called again

    async def move(parent: Object, status: Object) -> None:
        name, namespace = parent["metadata"]["name"], incidents.NAMESPACE
        body = {"status": status}
        await client.patch(resources.REMEDIATION_REQUEST, name, body, namespace, subresource="status")

    return registry


def _with_login(registry: kopf.OperatorRegistry) -> kopf.OperatorRegistry:
    @kopf.on.login(registry=registry)
    def login(**options: Any) -> Any:
        return kopf.login_with_kubeconfig(**options)

    return registry


def _parent(body: kopf.Body) -> Object:
    """What a child says of its parent: enough to be the owner of the next child."""
    owner = body["metadata"]["ownerReferences"][0]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"web-{owner['name']}", "namespace": "shop"}
    return {"metadata": {"name": owner["name"], "uid": owner["uid"]}, "spec": {"targetResource": target}}


def _phase(phase: str, started: str) -> Object:
    return {"overallPhase": phase, "message": f"The remediation is {phase}", started: _now()}


def _now() -> str:
    return clock.rfc3339(clock.utcnow())


def settings() -> kopf.OperatorSettings:
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.execution.default_backoff = BACKOFF
    chosen.scanning.disabled = True
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=STATE)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=STATE)
    return chosen


async def serve(kubeconfig: Path) -> None:
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("kopf").setLevel(logging.ERROR)
    ready, stop = asyncio.Event(), asyncio.Event()
    async with await KubeClient.connect(kubeconfig) as client:
        running = asyncio.create_task(
            kopf.operator(
                registry=operator(client),
                settings=settings(),
                standalone=True,
                namespaces=[incidents.NAMESPACE],
                ready_flag=ready,
                stop_flag=stop,
            )
        )
        await asyncio.wait({running, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        print("ready", flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            print("{}", flush=True)
        stop.set()
        await running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    options, _ = parser.parse_known_args()
    os.environ["KUBECONFIG"] = str(options.kubeconfig)
    uvloop.run(serve(options.kubeconfig))


if __name__ == "__main__":
    main()
