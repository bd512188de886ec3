"""How fast the control loop is beside kopf, and whether it stays so with ten thousand live remediations.

    python benchmarks/reconcile.py [--quick] [--json FILE] [--plot FILE] [--sizes N,N] [--turns N] [--only ours|plain|kopf]

All carry the same RemediationRequests through the same six writes of their status (Pending, Processing, Analyzing, Executing,
Completed, message delivered), making the same four children on the way, on the same embedded API server over HTTPS, in turns,
each time on a fresh copy of the same data. This process plays everybody else (``_incidents.py``): it opens requests, and says in
a child's status that it is done as soon as it sees the child.

- *ours* (``_controller_ours.py``): the product's RemediationRequest controller and its loop, complete: it judges routing on lists
  of siblings and executions that it reads anew, with the request and the analysis that something starts from, takes the rest
  as events and its own writes have just told it, and puts audit facts in a spool on disk.
- *kopf* (``_controller_kopf.py``): a handler a transition, which creates the next child and writes the next phase. No reads, no
  routing, no audit.

- *plain* (``_controller_plain.py``): our loop with a controller that is asked for no more than kopf is. It still reads what it
  decides on anew.

So *ours* against kopf is what an operator of the product sees (``ratio_kopf``), *plain* against kopf is loop against loop
(``ratio_kopf_plain``), each the median over the turns. At each number of live incidents, all but the active ones wait in
Processing meanwhile.

1. Closed loop: so many incidents, at most 50 (or as many as may live) at a time. Transitions/s, reconciles/s, and the CPU time of
   the controller's process for one remediation.
2. Open loop: incidents at a steady rate, children that think for a moment; from sending a child's status to seeing the parent's
   next status on a watch is a *reaction*.

Everything shares this machine's cores: API server, controller and this process. CPU times are given beside what was measured by
the clock, and the machine's load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import uvloop
from aiohttp import web
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._incidents import TRANSITIONS, Stage, reactions, seed
from benchmarks._load import percentile
from benchmarks._report import picture, table, write_json
from kubernaut_ray.clients.audit_writer import BATCH_PATH
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.runtime import bootstrap
from kubernaut_ray.runtime.processes import die_with_parent

HERE = Path(__file__).parent
TOOLS = ("ours", "plain", "kopf")
START_SECONDS = 300.0
IDLE = 0.05
"""Cores that a controller may use and count as idle; two seconds of that, and it has looked at all there was."""
AT_ONCE = 50
THINK = (0.02, 0.3)


@dataclass(frozen=True, slots=True)
class Scale:
    sizes: tuple[int, ...]
    beside: tuple[int, ...]
    """Sizes at which kopf runs too."""
    turns: int
    """So many at the sizes in ``beside``, where the comparison is; half of them, rounded up, elsewhere."""
    closed: int
    """Incidents of a closed loop: several seconds of the faster tool's work, since a neighbour takes a core for one or two."""
    opened: int
    rate: float


FULL = Scale((10, 100, 1_000, 10_000), (10, 1_000, 10_000), turns=3, closed=900, opened=240, rate=4.0)
QUICK = Scale((100, 1_000, 10_000), (1_000,), turns=3, closed=450, opened=50, rate=4.0)


class Process:
    """A child process that says ``ready``, answers lines, and ends when its input does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mib(self) -> float:
        """Resident set."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def ask(self) -> dict[str, Any]:
        """Return the process's own counters."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        answer: dict[str, Any] = orjson.loads(await self._process.stdout.readline())
        return answer

    async def idle(self) -> float:
        """Wait until it has nothing to do; return the seconds until then."""
        began = last = time.monotonic()
        used = self.cpu
        while time.monotonic() - last < 2.0:
            await asyncio.sleep(0.5)
            if (now := self.cpu) - used > IDLE:
                last, used = time.monotonic(), now
            if time.monotonic() - began > START_SECONDS:
                raise RuntimeError(f"still busy after {START_SECONDS:.0f} s")
        return last - began


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[Process]:
    """Run a Python program of ours until the block ends."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=HERE.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), START_SECONDS)
        if not line.startswith(b"ready"):
            raise RuntimeError(f"{' '.join(command[:2])} did not start; see its error output")
        yield Process(child)
    finally:
        assert child.stdin is not None
        child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            if command[0] == "-m":
                child.terminate()  # the API server; a controller ends with its input
        try:
            await asyncio.wait_for(child.wait(), 20)
        except TimeoutError:
            child.kill()
            await child.wait()


@asynccontextmanager
async def api_server(directory: Path) -> AsyncIterator[tuple[Process, KubeClient]]:
    async with (
        process("-m", "kubernaut_ray.kube.embedded", "--data-dir", str(directory)) as server,
        await KubeClient.connect(directory / "kubeconfig") as client,
    ):
        yield server, client


@asynccontextmanager
async def data_storage() -> AsyncIterator[str]:
    """A Data Storage that takes every batch of facts, for the cost of one is not what is measured here."""

    async def take(asked: web.Request) -> web.Response:
        count = (await asked.read()).count(b'"event_id"')
        return web.json_response({"stored": count, "duplicates": 0, "events": []}, status=201)

    app = web.Application(client_max_size=2**24)
    app.router.add_post(BATCH_PATH, take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def seeded(directory: Path, live: int) -> None:
    """Make the data that each turn begins with."""
    async with api_server(directory) as (_, client):
        await bootstrap.install(client)
        await seed(client, live)


async def turn(tool: str, size: int, scale: Scale, folder: Path) -> dict[str, Any]:
    """One tool on a fresh copy of the data."""
    data = folder / "turn"
    shutil.copytree(folder / f"live-{size}", data)
    try:
        async with (
            api_server(data) as (server, client),
            data_storage() as storage,
            process(
                str(HERE / f"_controller_{tool}.py"),
                "--kubeconfig", str(data / "kubeconfig"), "--folder", str(data / "controller"), "--data-storage", storage,
            ) as controller,
        ):  # fmt: skip
            settled = await controller.idle()
            figures = {"first_look_s": settled, "first_look_cpu_s": controller.cpu}
            figures |= await closed_loop(client, server, controller, size, scale)
            figures |= await open_loop(client, controller, scale)
            figures |= {"memory_mib": controller.memory_mib, "load": os.getloadavg()[0]}
            return figures
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def closed_loop(
    client: KubeClient, server: Process, controller: Process, size: int, scale: Scale
) -> dict[str, Any]:
    at_once = min(size, AT_ONCE)
    async with Stage(client) as stage:
        await stage.closed_loop("warm", at_once, at_once, START_SECONDS)
        counted, began = await controller.ask(), time.monotonic()
        cpu, server_cpu, own_cpu = controller.cpu, server.cpu, time.process_time()
        carried = await stage.closed_loop("busy", scale.closed, at_once, START_SECONDS)
        seconds = time.monotonic() - began
        cpu, server_cpu, own_cpu = controller.cpu - cpu, server.cpu - server_cpu, time.process_time() - own_cpu
        counts = await controller.ask()
    remediations = len(carried)
    figures = {
        "transitions_per_s": remediations * TRANSITIONS / seconds,
        "transitions_per_cpu_s": remediations * TRANSITIONS / cpu,
        "busy_reaction_p50_ms": percentile(reactions(carried), 50),
        "controller_cpu_ms_per_remediation": 1000 * cpu / remediations,
        "server_cpu_ms_per_remediation": 1000 * server_cpu / remediations,
        "stage_cpu_ms_per_remediation": 1000 * own_cpu / remediations,
    }
    if counts:
        reconciles = counts["reconciles"] - counted["reconciles"]
        figures |= {"reconciles_per_s": reconciles / seconds, "reconciles_per_remediation": reconciles / remediations}
    return figures


async def open_loop(client: KubeClient, controller: Process, scale: Scale) -> dict[str, Any]:
    async with Stage(client, think=THINK) as stage:
        cpu = controller.cpu
        opened = await stage.open_loop("paced", scale.opened, scale.rate, START_SECONDS)
        cpu = controller.cpu - cpu
    waits = reactions(opened)
    return {
        "reactions": len(waits),
        "reaction_p50_ms": percentile(waits, 50),
        "reaction_p99_ms": percentile(waits, 99),
        "reaction_max_ms": max(waits),
        "paced_cpu_ms_per_remediation": 1000 * cpu / len(opened),
    }


def summed(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the turns."""
    return {name: statistics.median(one[name] for one in turns) for name in turns[0]}


def beside(own: Sequence[dict[str, Any]], kopf: Sequence[dict[str, Any]], name: str) -> float:
    """The median of a figure's ratio over the turns: the machine is not the same from one turn to the next."""
    return statistics.median(one[name] / other[name] for one, other in zip(own, kopf, strict=True))


async def run(scale: Scale, tools: Sequence[str], console: Console) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="kubernaut-reconcile-"))
    details: dict[str, dict[str, Any]] = {}
    try:
        for size in scale.sizes:
            console.print(f"{size:,} live remediations")
            await seeded(folder / f"live-{size}", max(0, size - min(size, AT_ONCE)))
            runs: dict[str, list[dict[str, Any]]] = {}
            for _ in range(scale.turns if size in scale.beside else (scale.turns + 1) // 2):
                for tool in tools:
                    if tool == "ours" or size in scale.beside:
                        figures = await turn(tool, size, scale, folder)
                        runs.setdefault(tool, []).append(figures)
                        console.print(f"  {tool}: {_line(figures)}", highlight=False)
            details |= {f"{tool}_{size}": summed(turns) for tool, turns in runs.items()}
            if "kopf" in runs:
                details |= {
                    f"beside_kopf_{size}": {
                        f"{tool}_{name}": beside(runs[tool], runs["kopf"], f"transitions_per_{name}")
                        for tool in runs
                        for name in ("s", "cpu_s")
                        if tool != "kopf"
                    }
                }
            shutil.rmtree(folder / f"live-{size}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**headlines(details), "cores": os.cpu_count(), **details}


def headlines(details: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The three figures that there are goals for; what was not measured is left out."""
    figures: dict[str, Any] = {}
    compared = [details[name] for size in (1_000, 10_000, 10) if (name := f"beside_kopf_{size}") in details]
    for tool, name in (("ours", "ratio_kopf"), ("plain", "ratio_kopf_plain")):
        if compared and f"{tool}_s" in compared[0]:
            figures |= {name: compared[0][f"{tool}_s"], f"{name}_cpu": compared[0][f"{tool}_cpu_s"]}
    if "ours_1000" in details:
        figures["p99_reaction_ms_1000"] = details["ours_1000"]["reaction_p99_ms"]
    if {"ours_100", "ours_10000"} <= details.keys():
        cost = [details[f"ours_{size}"]["controller_cpu_ms_per_remediation"] for size in (100, 10_000)]
        figures["cost_ratio_10000_over_100"] = cost[1] / cost[0]
    return figures


def _line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['transitions_per_s']:,.0f} transitions/s, {figures['controller_cpu_ms_per_remediation']:.1f} ms of CPU a "
        f"remediation (API server {figures['server_cpu_ms_per_remediation']:.1f}), reaction p50 {figures['reaction_p50_ms']:.0f} "
        f"p99 {figures['reaction_p99_ms']:.0f} ms, load {figures['load']:.1f}"
    )


def plot(file: Path, figures: dict[str, Any]) -> None:
    """Draw throughput, reactions and cost over the number of live remediations."""
    drawn = (
        ("transitions_per_s", "transitions/s"),
        ("reaction_p99_ms", "reaction p99, ms"),
        ("controller_cpu_ms_per_remediation", "controller CPU, ms a remediation"),
    )
    with picture(file, len(drawn)) as axes:
        for axis, (name, label) in zip(axes, drawn, strict=True):
            for tool in TOOLS:
                sizes = sorted(int(key.rpartition("_")[2]) for key in figures if key.startswith(f"{tool}_"))
                axis.plot(sizes, [figures[f"{tool}_{size}"][name] for size in sizes], marker="o", label=tool)
            axis.set_xscale("log")
            axis.set_ylim(bottom=0)
            axis.set_ylabel(label)
            axis.legend()
        axes[-1].set_xlabel("live remediations")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, kopf at 1,000 only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there (PNG)")
    parser.add_argument("--sizes", metavar="N,N", help="only at these numbers of live remediations")
    parser.add_argument(
        "--turns", type=int, metavar="N", help="so many turns of each at each number; figures are medians"
    )
    parser.add_argument("--only", choices=TOOLS, help="only one of them")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    if options.sizes:
        sizes = tuple(int(size) for size in options.sizes.split(","))
        scale = replace(scale, sizes=sizes, beside=sizes)
    if options.turns:
        scale = replace(scale, turns=options.turns)
    console = Console()
    figures = uvloop.run(run(scale, (options.only,) if options.only else TOOLS, console))
    write_json(options.json, figures)
    if options.plot is not None:
        plot(options.plot, figures)
    console.print(table("Control loop", {k: v if isinstance(v, dict) else round(v, 3) for k, v in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
