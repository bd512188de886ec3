"""``kubernaut-ray demo``: the whole walk on this machine, with no input and no network, and the proof at the end.

A Deployment whose pods are OOMKilled, a real Alertmanager webhook, every phase live, an approval, and the Deployment
before and after. The pods' lives are simulated (nothing runs containers here); everything else is the real system.
"""

from __future__ import annotations

import asyncio
import getpass
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from rich import box
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from kubernaut_ray import clock, logs
from kubernaut_ray.cli import decide, incidents, render
from kubernaut_ray.cli.connection import CommandError, Exit, err, out, run
from kubernaut_ray.cli.render import Incident
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.crds.enums import ApprovalDecision, Outcome, RemediationPhase
from kubernaut_ray.kube import resources, simulate
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.names import SYSTEM_NAMESPACE
from kubernaut_ray.settings import Settings

NAMESPACE, DEPLOYMENT, CONTAINER = "demo-shop", "checkout", "checkout"
PATIENCE = 45.0
"""Seconds until an incident that does not end counts as failed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the demo compares of the Deployment."""

    memory_limit: str
    revision: str
    ready: str
    pods: tuple[str, ...]


def demo(
    ask: Annotated[bool, typer.Option("--ask", help="Ask for the approval instead of giving it.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Use this data directory and leave it there, to look around afterwards."),
    ] = None,
) -> None:
    """Run the whole system in a temporary directory and walk one incident through it. Takes under a minute.

    Exits 0 only if the Deployment really changed and the incident ended Completed / Remediated.
    """
    run(lambda: _demo(ask, keep))


async def _demo(ask: bool, keep: Path | None) -> None:
    from kubernaut_ray.runtime.system import System

    logs.configure("console", "error")
    began = time.monotonic()
    data_dir = keep or Path(tempfile.mkdtemp(prefix="kubernaut-demo-"))
    system = System(
        Settings.load(data_dir=data_dir),
        progress=lambda text: err.print(f"[dim]… {text}[/]", highlight=False),
        simulate_workloads=True,
    )
    out.print(
        Panel("[bold]Kubernaut demo[/]: from an alert to a repaired Deployment", box=box.ROUNDED, border_style="blue")
    )
    try:
        await system.start()
        err.print(f"[dim]… ready after {time.monotonic() - began:.0f} s[/]", highlight=False)
        async with await KubeClient.connect(system.kubeconfig) as client:
            await _walk(client, system, ask)
    finally:
        await system.stop()
        if keep is None:
            shutil.rmtree(data_dir, ignore_errors=True)
    out.print(f"[bold green]Done[/] in {time.monotonic() - began:.0f} s.", highlight=False)


async def _walk(client: KubeClient, system: Any, ask: bool) -> None:
    await create_broken_deployment(client)
    before = await snapshot(client)
    out.print("\n[bold]1. A Deployment is broken[/]")
    out.print(f"   {NAMESPACE}/{DEPLOYMENT}: memory limit {before.memory_limit}, ready {before.ready}", highlight=False)
    for pod in before.pods:
        out.print(f"   [red]{pod}[/]", highlight=False)
    out.print("\n[bold]2. Alertmanager posts its webhook[/]")
    name = await post_alert(system.endpoints.gateway, system.token(), await webhook(client))
    out.print(f"   RemediationRequest [cyan]{name}[/]", highlight=False)
    out.print("\n[bold]3. The incident walks[/]")
    last = await follow(client, name, ask)
    after = await snapshot(client)
    async with DataStorage(system.endpoints.data_storage, system.token) as storage:
        trail = await _audit_trail(storage, name)
    out.print("\n[bold]4. What it found, did and told[/]")
    out.print(_story(last, before, after, trail))
    status = last.remediation.status
    if status.overall_phase is not RemediationPhase.COMPLETED or status.outcome is not Outcome.REMEDIATED:
        raise CommandError(
            f"the incident ended {status.overall_phase} / {status.outcome}: {status.message}", Exit.FAILED
        )
    if after.memory_limit == before.memory_limit:
        raise CommandError("the incident says Remediated, but the Deployment did not change", Exit.FAILED)


async def create_broken_deployment(client: KubeClient) -> None:
    """Create the namespace and a Deployment that needs more memory than its limit allows, and wait for its pods to fail."""
    await client.create(
        resources.NAMESPACE,
        {
            "metadata": {
                "name": NAMESPACE,
                "labels": {
                    "kubernaut.ai/managed": "true",
                    "kubernaut.ai/environment": "production",
                    "kubernaut.ai/business-unit": "shop",
                    "kubernaut.ai/service-owner": "team-checkout",
                },
            }
        },
    )
    labels = {"app": DEPLOYMENT}
    await client.create(
        resources.DEPLOYMENT,
        {
            "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": {simulate.MEMORY: "200Mi"}},
                    "spec": {
                        "containers": [
                            {
                                "name": CONTAINER,
                                "image": "registry.example.org/shop/checkout:2.4.1",
                                "resources": {"limits": {"memory": "128Mi"}, "requests": {"memory": "128Mi"}},
                            }
                        ]
                    },
                },
            },
        },
    )
    async with asyncio.timeout(10):
        while len((await snapshot(client)).pods) < 2:
            await asyncio.sleep(0.1)


def _pod_line(pod: Object) -> str:
    status = (pod.get("status", {}).get("containerStatuses") or [{}])[0]
    why = status.get("lastState", {}).get("terminated", {}).get("reason", "")
    state = "Ready" if status.get("ready") else status.get("state", {}).get("waiting", {}).get("reason", "Pending")
    restarts = status.get("restartCount", 0)
    return f"{pod['metadata']['name']}: {state}" + (f", last ended {why}, {restarts} restarts" if why else "")


async def snapshot(client: KubeClient) -> Snapshot:
    deployment = await client.get(resources.DEPLOYMENT, DEPLOYMENT, NAMESPACE)
    pods = await client.list(resources.POD, NAMESPACE, labels=f"app={DEPLOYMENT}")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    status = deployment.get("status", {})
    return Snapshot(
        memory_limit=container["resources"]["limits"]["memory"],
        revision=deployment["metadata"].get("annotations", {}).get(simulate.REVISION, ""),
        ready=f"{status.get('readyReplicas', 0)}/{deployment['spec']['replicas']}",
        pods=tuple(sorted(_pod_line(p) for p in pods.items if p.get("status", {}).get("containerStatuses"))),
    )


async def webhook(client: KubeClient) -> dict[str, Any]:
    """Build the Alertmanager webhook (version 4) that Prometheus' rule for OOM-killed containers leads to."""
    pods = await client.list(resources.POD, NAMESPACE, labels=f"app={DEPLOYMENT}")
    now = clock.rfc3339(clock.utcnow())
    common = {
        "alertname": "KubeContainerOOMKilled",
        "namespace": NAMESPACE,
        "severity": "critical",
        "reason": "OOMKilled",
    }
    alerts = [
        {
            "status": "firing",
            "labels": {**common, "pod": pod["metadata"]["name"], "container": CONTAINER},
            "annotations": {
                "summary": f"Container {CONTAINER} of pod {pod['metadata']['name']} was OOMKilled",
                "description": "The container reached its memory limit and was killed by the kernel, again and again.",
            },
            "startsAt": now,
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.org/graph",
            "fingerprint": f"{index:016x}",
        }
        for index, pod in enumerate(pods.items, 1)
    ]
    return {
        "version": "4",
        "groupKey": '{}:{alertname="KubeContainerOOMKilled"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "kubernaut",
        "groupLabels": {"alertname": "KubeContainerOOMKilled"},
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": alerts,
    }


async def post_alert(gateway: str, token: str, payload: dict[str, Any]) -> str:
    """Post the webhook as Alertmanager does. Returns the RemediationRequest's name."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway}/api/v1/signals/prometheus"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=payload) as response:
        answer = await response.json()
    results = answer.get("results") or [answer]
    names = sorted({r["remediationRequestName"] for r in results if r.get("remediationRequestName")})
    if len(names) != 1:
        raise CommandError(f"expected one RemediationRequest from the gateway, got {answer}", Exit.FAILED)
    return str(names[0])


async def follow(client: KubeClient, name: str, ask: bool) -> Incident:
    """Draw the walk until the incident ends, deciding the approval on the way."""
    deadline = time.monotonic() + PATIENCE
    decided = False
    one = await incidents.incident(client, SYSTEM_NAMESPACE, name)
    with Live(render.walk(one, clock.utcnow()), console=out, refresh_per_second=8) as live:
        while True:
            one = await incidents.incident(client, SYSTEM_NAMESPACE, name)
            live.update(render.walk(one, clock.utcnow()))
            phase = one.remediation.status.overall_phase
            if phase is not None and phase.terminal and _told(one):
                return one
            if phase is RemediationPhase.AWAITING_APPROVAL and one.approvals and not decided:
                decided = True
                if ask:
                    live.stop()
                    out.print(_question(one))
                    yes = await asyncio.to_thread(Confirm.ask, "Approve?", console=out)
                    deadline = time.monotonic() + PATIENCE
                    live.start()
                else:
                    await asyncio.sleep(1.0)  # long enough to be seen
                    yes = True
                decision = ApprovalDecision.APPROVED if yes else ApprovalDecision.REJECTED
                by = getpass.getuser() if ask else "demo-operator"
                await decide.decide(client, one.approvals[-1], decision, "", by, "cli")
            if time.monotonic() > deadline:
                raise CommandError(f"{name} is still {phase} after {PATIENCE:.0f} s", Exit.FAILED)
            await asyncio.sleep(0.1)


def _told(one: Incident) -> bool:
    """Whether every notification has reached its end."""
    return bool(one.notifications) and all(n.status.completion_time is not None for n in one.notifications)


def _question(one: Incident) -> Panel:
    spec = one.approvals[-1].spec
    workflow = spec.recommended_workflow
    parameters = "\n".join(f"  {key} = {value}" for key, value in workflow.parameters.items())
    text = f"{spec.investigation_summary}\n\n[bold]{workflow.workflow_name} {workflow.version}[/]\n{parameters}\n\n{spec.why_approval_required}"
    return Panel(text, title="Approval wanted", border_style="yellow", box=box.ROUNDED)


async def _audit_trail(storage: DataStorage, name: str) -> list[tuple[str, str, str]]:
    """(time, event, outcome) of the whole incident; waits shortly for the last buffered events."""
    events: list[tuple[str, str, str]] = []
    for _ in range(20):
        page = await storage.audit_events(correlation_id=name, limit=1000)
        events = [(render.instant(e.event_timestamp), e.event_type, e.event_outcome) for e in page.data]
        if any(kind == "orchestrator.lifecycle.completed" for _, kind, _ in events):
            break
        await asyncio.sleep(0.2)
    return sorted(events)


def _story(one: Incident, before: Snapshot, after: Snapshot, trail: list[tuple[str, str, str]]) -> Group:
    parts: list[Any] = []
    if one.analyses:
        parts.append(render.cause(one.analyses[-1]))
    change = Table(
        box=box.SIMPLE_HEAD, title=f"Deployment {NAMESPACE}/{DEPLOYMENT}", title_justify="left", header_style="bold"
    )
    for column in ("", "Before", "After"):
        change.add_column(column)
    change.add_row("memory limit", Text(before.memory_limit, style="red"), Text(after.memory_limit, style="green"))
    change.add_row("revision", before.revision, after.revision)
    change.add_row("ready pods", before.ready, after.ready)
    parts.append(change)
    parts.append(render.notifications(one.notifications))
    audit = Table(
        box=box.SIMPLE_HEAD, title=f"Audit trail, {len(trail)} events", title_justify="left", header_style="bold"
    )
    for column in ("Time (UTC)", "Event", "Outcome"):
        audit.add_column(column)
    for row in trail:
        audit.add_row(*row)
    parts.append(audit)
    return Group(*parts)
