"""How many audit events a second Data Storage takes, and whether each of them is there afterwards, once.

    python benchmarks/audit.py [--quick] [--json FILE] [--seconds N] [--connections N]

The shape of production: the embedded API server, Ray with its ingress, one Data Storage replica that reviews bearer tokens, and
the catalog owner, which chains, seals and commits to disk. Everything shares this machine's cores, the teller too.

1. A process of its own tells batches of 1000 realistic events of a mix of incidents, on a few connections, each telling its next
   batch when the last one is stored.
2. A burst of 25,000 events through ``AuditWriter``, with Data Storage (its replica and the owner) killed by ``kill -9`` in the
   middle.
3. The owner is stopped, and its store opened anew, which is timed; then every record is read back: each acknowledged event
   must be there once (``lost``, ``doubled``), and the verifier must find the trail sound (``findings``).

The exit code is 1 when anything is lost, doubled or found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._load import percentile
from benchmarks._report import table, write_json
from benchmarks._stories import Stories
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.ledger.export import Wanted, export
from catalog.ledger.record import Entry, Item
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier
from catalog.owner import FILE, Owner
from kubernaut_ray.clients.audit_writer import BATCH_PATH, AuditWriter
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.enums import AuditCategory
from kubernaut_ray.errors import InvalidInput, Permanent
from kubernaut_ray.runtime import cluster
from kubernaut_ray.runtime.system import System
from kubernaut_ray.settings import ServerSettings, Settings
from tests.flow.running import descendants

APPS = ("storage",)
READY_SECONDS = 90.0
BATCH = 1000
TELLER, BURST = 1, 2
PARTS = re.compile(r"ray::(.*:)?(ServeReplica:storage:|CatalogOwner\b)")
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Scale:
    seconds: float
    connections: int
    burst: int


class Trail(System):
    """A system of which only Data Storage runs. ``start`` and ``stop`` as ever."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(Settings(data_dir=data_dir, server=ServerSettings(dashboard=False)), shipped_workflows=False)

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
        deadline = time.monotonic() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.endpoints.data_storage}/ready") as response:
                        if response.status == 200:
                            return
                if time.monotonic() > deadline:
                    raise Permanent(f"not ready after {READY_SECONDS:.0f} s; see {self.data_dir / 'logs'}")
                await asyncio.sleep(0.1)

    def _supervise(self) -> None:
        """It lives shorter than any token."""


class _NoBundles:
    def workflow(self, ref: str) -> tuple[Any, Any]:
        raise InvalidInput(f"{ref}: nothing is registered here")


def cpu_seconds() -> Counter[str]:
    """The CPU seconds that each part of the system has used."""
    used: Counter[str] = Counter()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError, IndexError):
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used[_part(command)] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # type: ignore[assignment]
    return used


def _part(command: str) -> str:
    for part, begins in (("replica", r"ray::(.*:)?ServeReplica"), ("owner", r"ray::(.*:)?CatalogOwner")):
        if re.match(begins, command):
            return part
    return "ingress" if "haproxy" in command else "ray and API server"


async def sustained(system: Trail, scale: Scale) -> dict[str, Any]:
    """Tell events as fast as they are taken."""
    url = system.endpoints.data_storage + BATCH_PATH
    common = ["--url", url, "--token-file", str(system.token_file)]
    await _teller(*common, "--seconds", "2", "--who", "9", "--connections", str(scale.connections))
    before = cpu_seconds()
    told = await _teller(
        *common, "--seconds", str(scale.seconds), "--who", str(TELLER), "--connections", str(scale.connections)
    )
    used = cpu_seconds() - before
    micro = {part: round(1e6 * seconds / told["events"], 1) for part, seconds in sorted(used.items())}
    return {
        "events": told["events"],
        "seconds": told["seconds"],
        "events_per_s": told["events"] / told["seconds"],
        "batch_p50_ms": percentile(told["waits_ms"], 50),
        "batch_p99_ms": percentile(told["waits_ms"], 99),
        "retried": told["retried"],
        "cpu_us_per_event": {**micro, "teller": round(1e6 * told["cpu_seconds"] / told["events"], 1)},
    }


async def _teller(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "_teller.py"), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the teller failed; it has said why")
    told: dict[str, Any] = orjson.loads(output)
    return told


async def burst(system: Trail, scale: Scale, folder: Path) -> dict[str, Any]:
    """Record a burst in a spool, with Data Storage killed when a third of it is delivered."""
    began = time.monotonic()
    async with AuditWriter(system.endpoints.data_storage, system.token, folder / "spool", "benchmark") as writer:

        async def record(first: int, last: int) -> None:
            for n in range(first, last):
                await writer.record(burst_event(n))
                if n % 200 == 0:
                    await asyncio.sleep(0)

        third = scale.burst // 3
        await record(0, third)
        while writer.counts.delivered < third // 2:
            await asyncio.sleep(0.005)
        telling = asyncio.create_task(record(third, scale.burst))
        await asyncio.sleep(0)
        killed = kill_storage()
        await telling
        recorded = time.monotonic() - began
        if not await writer.flush(120):
            raise Permanent(f"the burst was not delivered within two minutes: {writer.counts}")
        counts = writer.counts
    return {
        "burst": scale.burst,
        "burst_recorded_s": recorded,
        "burst_delivered_s": time.monotonic() - began,
        "burst_processes_killed": killed,
        "burst_told_again": counts.duplicates,
        "burst_rejected": counts.rejected,
    }


def burst_event(number: int) -> AuditEvent:
    """An event as a service would state it."""
    return AuditEvent.fact(
        "orchestrator.phase.transitioned",
        correlation_id=f"rr-burst-{number % 97}",
        category=AuditCategory.ORCHESTRATION,
        now=utcnow(),
        actor="benchmark",
        key=(str(number),),
        event_data={"from": "Processing", "to": "Analyzing", "number": number},
    )


def kill_storage() -> int:
    """``kill -9`` the replica and the owner; returns how many processes that were."""
    killed = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if PARTS.match(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


async def read_back(directory: Path, told: int, scale: Scale) -> dict[str, Any]:
    """Open the store that the system left, and look for everything in it."""
    began = time.monotonic()
    owner = Owner(directory, embedder=Lexicon(), source=_NoBundles(), now=utcnow)
    opened = time.monotonic() - began
    try:
        seen: Counter[str] = Counter()
        findings: list[str] = []
        began = time.monotonic()
        header, items = await export(Catalog(InProcess(owner), Lexicon()), Wanted())
        judge = verifier("store", keyring(header.public_keys))
        async for item in _counted(items, seen):
            findings += map(str, judge.take(item))
        findings += map(str, judge.finish())
        verified = time.monotonic() - began
    finally:
        owner.close()
    stories = Stories(TELLER)
    wanted = {stories.event_id(n) for n in range(told)} | {burst_event(n).event_id for n in range(scale.burst)}
    return {
        "lost": sum(one not in seen for one in wanted),
        "doubled": sum(count - 1 for count in seen.values()),
        "findings": len(findings),
        "restart_s": opened,
        "restart_events": seen.total(),
        "verify_events_per_s": seen.total() / verified,
        "database_bytes_per_event": (directory / FILE).stat().st_size / max(1, seen.total()),
        "first_findings": findings[:10],
    }


async def _counted(items: AsyncIterator[Item], seen: Counter[str]) -> AsyncIterator[Item]:
    async for item in items:
        if isinstance(item, Entry):
            seen[orjson.loads(bytes(item.record.event))["event_id"]] += 1
        yield item


async def run(scale: Scale, console: Console) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="kubernaut-audit-"))
    system = Trail(folder / "system")
    figures: dict[str, Any] = {}
    try:
        try:
            console.print("starting API server, Ray, Data Storage and the catalog owner")
            await system.start()
            console.print(f"telling events in batches of {BATCH} for {scale.seconds:.0f} s")
            figures |= await sustained(system, scale)
            console.print(f"  {figures['events_per_s']:,.0f} events/s", highlight=False)
            console.print(f"a burst of {scale.burst:,} events, with Data Storage killed in the middle")
            figures |= await burst(system, scale, folder)
        finally:
            await system.stop()
        console.print("opening the store anew, reading everything back, verifying it")
        figures |= await read_back(folder / "system" / "catalog", figures["events"], scale)
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 seconds instead of 30")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--seconds", type=float, metavar="N", help="tell events for so long")
    parser.add_argument("--connections", type=int, default=6, metavar="N", help="tell on so many (%(default)s)")
    options = parser.parse_args()
    seconds = options.seconds or (8.0 if options.quick else 30.0)
    console = Console()
    figures = uvloop.run(run(Scale(seconds, options.connections, 25_000), console))
    write_json(options.json, figures)
    console.print(table("Audit trail", {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))
    for told in figures["first_findings"]:
        console.print(f"[red]{told}[/red]", highlight=False)
    return 1 if figures["lost"] or figures["doubled"] or figures["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
