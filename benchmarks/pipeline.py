"""From webhook to ``Completed``: how long each phase takes, and what the system costs at rest.

Starts a system of its own, breaks one Deployment after another, posts the alert of each as Alertmanager does, and reads
the phase times from the objects. Run from the repository's root:

    python benchmarks/pipeline.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kubernaut_ray import clock, names
from kubernaut_ray.cli.render import phase_times
from kubernaut_ray.crds.enums import Outcome
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.flow.running import Running, alert, deployment, descendants, eventually, post, webhook

NAMESPACE = "bench"
TICKS = os.sysconf("SC_CLK_TCK")


def memory_mib(pids: list[int]) -> float:
    """Proportional set size of these processes, in MiB: shared pages count once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


async def walk(running: Running, client: KubeClient, name: str) -> dict[str, float]:
    """Break a Deployment, post its alert, wait for the end. Returns seconds by phase, and ``total``."""
    await client.create(resources.DEPLOYMENT, deployment(name, NAMESPACE))
    async with asyncio.timeout(30):
        while not any(
            p.get("status", {}).get("containerStatuses")
            for p in (await client.list(resources.POD, NAMESPACE, labels=f"app={name}")).items
        ):
            await asyncio.sleep(0.1)
    began = clock.utcnow()
    code, answer = await post(running, webhook(alert(name, NAMESPACE)))
    if code != 201:
        raise SystemExit(f"the gateway answered {code}: {answer}")
    result = (answer.get("results") or [answer])[0]
    done = await eventually(
        client,
        result["remediationRequestName"],
        lambda r: bool(r.status.overall_phase and r.status.overall_phase.terminal),
    )
    if done.status.outcome is not Outcome.REMEDIATED or done.status.completed_at is None:
        raise SystemExit(f"{done.name} ended {done.status.outcome}: {done.status.message}")
    times = dict(phase_times(done, done.status.completed_at))
    return {**times, "total": (done.status.completed_at - began).total_seconds()}


async def measure(running: Running, rounds: int, rest: float) -> dict[str, Any]:
    async with await KubeClient.connect(running.kubeconfig) as client:
        labels = {names.LABEL_ENVIRONMENT: "staging", names.LABEL_MANAGED: "true"}
        await client.create(resources.NAMESPACE, {"metadata": {"name": NAMESPACE, "labels": labels}})
        walks = [await walk(running, client, f"app-{n}") for n in range(rounds)]
        await asyncio.sleep(5)
        pids = [running.pid, *descendants(running.pid)]
        before, began = cpu_seconds(pids), time.monotonic()
        await asyncio.sleep(rest)
        cpu = (cpu_seconds(pids) - before) / (time.monotonic() - began)
        memory = memory_mib(pids)
    phases = [p for p in walks[0] if p != "total"]
    return {
        "rounds": rounds,
        "total_p50_s": statistics.median(w["total"] for w in walks),
        "total_max_s": max(w["total"] for w in walks),
        "phases_p50_s": {p: statistics.median(w.get(p, 0.0) for w in walks) for p in phases},
        "idle_cpu_percent_of_one_core": 100 * cpu,
        "idle_memory_mib": memory,
        "processes": len(pids),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a shorter rest")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubernaut-bench-") as folder:
        running = Running(Path(folder), "--simulate-workloads")
        ready = running.start()
        try:
            figures = asyncio.run(measure(running, 3 if options.quick else 15, 10 if options.quick else 60))
        finally:
            began = time.monotonic()
            running.stop()
            stop = time.monotonic() - began
    figures = {"ready_s": ready, "stop_s": stop, **figures}
    if options.json:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    table = Table("Figure", "Value", box=box.SIMPLE_HEAD, title="One alert, end to end", title_justify="left")
    for key, value in figures.items():
        for name, one in value.items() if isinstance(value, dict) else [(key, value)]:
            table.add_row(name, f"{one:.2f}" if isinstance(one, float) else str(one))
    Console().print(table)


if __name__ == "__main__":
    main()
