"""``kubernaut-ray doctor``: is this machine, and the system running on it, fit? One line a check, with what to do."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp
from rich.text import Text

from kubernaut_ray import clock
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.names import EVENT_WATCHER, SYSTEM_NAMESPACE


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` None: worth knowing, but not an error."""

    check: str
    ok: bool | None
    detail: str


def doctor(data_dir: DataDir = connection.DEFAULT_DATA_DIR) -> None:
    """Check this machine and, when one runs in the data directory, the system on it.

    Exits 1 when something is wrong.
    """
    connection.run(lambda: _doctor(data_dir))


def machine(data_dir: Path) -> list[Finding]:
    """What this machine offers."""
    findings = [
        Finding("Python", sys.version_info >= (3, 11), sys.version.split()[0]),
        _memory(),
        Finding("cores", None if (os.cpu_count() or 1) < 2 else True, str(os.cpu_count())),
    ]
    for module, why in (
        ("ray", "the runtime"), ("duckdb", "the catalog"), ("faiss", "workflow search"), ("regopy", "Rego policies"),
    ):  # fmt: skip
        try:
            found = importlib.import_module(module)
            findings.append(Finding(module, True, f"{getattr(found, '__version__', 'installed')} ({why})"))
        except ImportError as error:
            findings.append(Finding(module, False, f"{why} needs it: pip install kubernaut-ray ({error})"))
    kubectl = shutil.which("kubectl")
    findings.append(
        Finding("kubectl", None if kubectl is None else True, kubectl or "not found; only needed to look around")
    )
    parent = next(p for p in (data_dir, *data_dir.resolve().parents) if p.exists())
    free = shutil.disk_usage(parent).free / 2**30
    findings.append(Finding("disk", free > 1, f"{free:.0f} GiB free at {parent}"))
    return findings


def _memory() -> Finding:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) / 2**20
    except (OSError, KeyError, ValueError):
        return Finding("memory", None, "unknown")
    return Finding("memory", free > 3, f"{free:.1f} GiB available, about 2.5 GiB are needed")


async def running(data_dir: Path) -> list[Finding]:
    """What runs in this data directory."""
    try:
        system = connection.find(data_dir)
    except CommandError as error:
        return [Finding("system", None, str(error))]
    findings = []

    async def check(name: str, probe: Callable[[], Awaitable[str]]) -> None:
        try:
            findings.append(Finding(name, True, await probe()))
        except (KubernautError, aiohttp.ClientError, TimeoutError, OSError) as error:
            findings.append(Finding(name, False, f"{error}; see {data_dir}/logs"))

    async def kube() -> str:
        async with connection.kubernetes(system) as client:
            listed = await client.list(resources.REMEDIATION_REQUEST, SYSTEM_NAMESPACE)
            return f"{system.endpoints.kubernetes} ({await client.version()}), {len(listed.items)} RemediationRequests"

    await check("kubernetes", kube)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for service in ("gateway", "holmesgpt", "data_storage", "console"):
            url = getattr(system.endpoints, service)

            async def ready(url: str = url) -> str:
                async with session.get(f"{url}/ready") as response:
                    response.raise_for_status()
                    return str(url)

            await check(service, ready)

    try:
        async with connection.kubernetes(system) as client:
            findings.append(await event_watcher(client, system.namespace, clock.utcnow()))
    except KubernautError as error:
        findings.append(Finding("event watcher", False, str(error)))
    return findings


async def event_watcher(client: KubeClient, namespace: str, now: datetime) -> Finding:
    """Who forwards the cluster's events, and how far it has got; read from its Lease and its position."""
    from actors.event_watcher.position import PositionStore

    check = "event watcher"
    try:
        lease = (await client.get(resources.LEASE, EVENT_WATCHER, namespace)).get("spec") or {}
    except NotFound:
        return Finding(check, None, "none has run here; the setting event_watcher.enabled starts one")
    holder = lease.get("holderIdentity")
    if not holder:
        return Finding(check, None, "ended in order; events wait for the next one")
    silent = (now - clock.parse_rfc3339(lease["renewTime"])).total_seconds()
    if silent > lease["leaseDurationSeconds"]:
        return Finding(check, False, f"{holder} has given no sign for {silent:.0f} s")
    position = await PositionStore(client, namespace).read()
    reached = min((point.at for point in position.values()), default=None)
    told = f"all events read by {clock.rfc3339(reached)[:19]}Z are forwarded" if reached else "starting"
    return Finding(check, True, f"{holder}; {told}")


async def _doctor(data_dir: Path) -> None:
    findings = [*machine(data_dir), *await running(data_dir)]
    for one in findings:
        mark = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "yellow")}[one.ok]
        out.print(Text.assemble((f" {mark[0]} ", mark[1]), (f"{one.check:<14}", "bold"), one.detail))
    if any(one.ok is False for one in findings):
        raise CommandError("something is wrong; the lines marked ✗ say what to do", Exit.FAILED)
