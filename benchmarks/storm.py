"""How much the gateway takes, beside a real Alertmanager in the same run, and whether all of it is there afterwards.

    python benchmarks/storm.py [--quick] [--json FILE] [--plot FILE]

1. Signals per second at saturation, wrk with 16 connections, batches of 1, 10 and 100 alerts that are all duplicates: the
   gateway (two replicas, bearer tokens reviewed, every answer after an authoritative read) and Alertmanager 0.25 taking the
   same alerts on its own API (no authentication), in turns. ``ratio_batch_N`` is the median of the rounds' ratios.
2. Latency at half of the rate that was reached with batches of 1: open loop, from the moment a webhook was due to its answer.
3. Bursts, open loop, with 0, 50, 90 and 99 % duplicates, and one storm of many fingerprints; then every acknowledged alert
   is looked for in the API server, and every fingerprint counted there.
4. A soak at half load, and what the replicas' memory grew by.

Needs the Debian packages ``prometheus-alertmanager`` and ``wrk``. A 60 s limit holds for ``--quick`` on two quiet cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._ingest import Ingest
from benchmarks._load import Patience, Plan, Senders, Sent, Target, percentile
from benchmarks._report import picture, table, write_json
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import DEPLOYMENT, NAMESPACE, REMEDIATION_REQUEST
from kubernaut_ray.names import SYSTEM_NAMESPACE
from kubernaut_ray.runtime import ports
from serve_apps.gateway.adapters import PREFIX
from tests.flow.running import descendants

ALERTMANAGER = "prometheus-alertmanager"
BATCHES = (1, 10, 100)
CONNECTIONS = 16
ALERTS, WORKLOADS = 1000, 100
ROUTE = f"{PREFIX}/prometheus"
REPLICA = "ray::ServeReplica:gateway"
PATIENCE = Patience(connections=128)


@dataclass(frozen=True, slots=True)
class Scale:
    """How long everything takes: seconds but where said otherwise."""

    rounds: int
    saturate: float
    half_load: float
    burst: float
    burst_rate: float
    """Webhooks of 20 alerts a second."""
    many_fingerprints: int
    many_signals: int
    soak: float


FULL = Scale(5, 4.0, 20.0, 8.0, 12.5, 1000, 100_000, 60.0)
QUICK = Scale(1, 2.0, 3.0, 1.0, 25.0, 100, 5_000, 3.0)


def alert(workload: str, pod: int, name: str) -> dict[str, Any]:
    """An alert as kube-prometheus words it: about a pod of a workload, with an exporter's labels around it."""
    return {
        "status": "firing",
        "labels": {
            "alertname": name,
            "namespace": "storm",
            "deployment": workload,
            "container": "app",
            "replica_ip": f"10.0.{pod // 250}.{pod % 250}",
            "severity": "warning",
            "cluster": "prod-eu-1",
            "job": "kube-state-metrics",
            "instance": "10.2.3.4:8080",
        },
        "annotations": {
            "summary": f"Pods of {workload} keep crashing",
            "description": f"{workload} has restarted more than five times within the last ten minutes.",
            "runbook_url": "https://runbooks.example.org/crash-looping",
        },
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph?g0.expr=increase",
        "fingerprint": f"{pod:016x}",
    }


def deployment(name: str) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": "registry.example.org/app:1"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": "storm"}, "spec": spec}


def webhook(alerts: Sequence[dict[str, Any]]) -> bytes:
    group = {
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "kubernaut",
        "groupLabels": {}, "commonLabels": {"severity": "warning"}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org", "alerts": list(alerts),
    }  # fmt: skip
    return json.dumps(group, separators=(",", ":")).encode()


def to_alertmanager(alerts: Sequence[dict[str, Any]]) -> bytes:
    """The same alerts as Prometheus posts them to Alertmanager's own API."""
    kept = [{k: a[k] for k in ("labels", "annotations", "startsAt", "generatorURL")} for a in alerts]
    return json.dumps(kept, separators=(",", ":")).encode()


def steady_alerts() -> list[dict[str, Any]]:
    """What is repeated over and over: 100 workloads, ten pods each, an alert name for each workload, so that none is folded."""
    return [alert(f"steady-{i % WORKLOADS}", i, f"Steady{i % WORKLOADS}") for i in range(ALERTS)]


def groups(alerts: Sequence[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(alerts), size):
        yield alerts[start : start + size]


def wrk_script(folder: Path, name: str, path: str, bodies: Sequence[bytes], token: str) -> Path:
    """Write a script that sends the bodies in turn, from a random one on, and counts answers that are not 2xx."""
    lines = folder / f"{name}.txt"
    lines.write_bytes(b"\n".join(bodies))
    authorization = f', ["Authorization"]="Bearer {token}"' if token else ""
    # Outside of its init, wrk's format knows no host.
    script = folder / f"{name}.lua"
    script.write_text(
        f'local headers = {{["Host"]="127.0.0.1", ["Content-Type"]="application/json"{authorization}}}\n'
        "local requests = {}\n"
        f'for line in io.lines("{lines}") do\n'
        f'  requests[#requests + 1] = wrk.format("POST", "{path}", headers, line)\n'
        "end\n"
        "local at = 0\n"
        "request = function() at = at % #requests + 1; return requests[at] end\n"
    )
    return script


async def saturate(script: Path, url: str, seconds: float) -> float:
    """Return requests per second with 16 connections. Raises when any answer was no success."""
    process = await asyncio.create_subprocess_exec(
        "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(1, round(seconds))}s",
        "--timeout", "10s", "--script", str(script), url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if process.returncode or found is None:
        raise RuntimeError(f"wrk failed: {output}")
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        raise RuntimeError(f"{url}: {refused[1]} answers were no success; the figures would mean nothing")
    return float(found[1])


@contextlib.asynccontextmanager
async def alertmanager(folder: Path) -> AsyncIterator[str]:
    """Run Alertmanager alone, with a receiver that does nothing; yields its URL."""
    port = ports.choose(folder, alertmanager=0)["alertmanager"]
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    with (folder / "alertmanager.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            ALERTMANAGER, f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error",
            stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/-/ready") as response:
                        if response.status == 200:
                            break
                await asyncio.sleep(0.05)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Bench:
    """One run. ``figures`` fills up as it goes."""

    def __init__(self, system: Ingest, client: KubeClient, folder: Path, scale: Scale, console: Console) -> None:
        self.system, self.client, self.folder, self.scale, self.console = system, client, folder, scale, console
        self.figures: dict[str, Any] = {}
        self.acknowledged: Counter[str] = Counter()
        """By workload, what was told to be taken."""
        self.timeline: list[tuple[float, int, int]] = []
        """Seconds, webhooks without an answer yet, RemediationRequests there are; of what was sent last."""
        self.storm_timeline: list[tuple[float, int, int]] = []
        self.half_load: list[Sent] = []

    @property
    def target(self) -> Target:
        return Target(f"{self.system.endpoints.signals}{ROUTE}", self.system.token_file)

    async def send(self, plan: Plan, alerts: dict[int, Sequence[dict[str, Any]]]) -> list[Sent]:
        """Send a plan from another process; counts what was acknowledged, alert by alert."""
        async with Senders([plan], [self.target], self.folder, patience=PATIENCE) as senders:
            start = senders.begin()
            watch = asyncio.create_task(self._watch(senders, start))
            (sent,) = await senders.end()
            watch.cancel()
        for one in sent:
            if one.acknowledged:
                self._acknowledge(one, alerts[one.body])
        return sent

    async def _watch(self, senders: Senders, start: float) -> None:
        self.timeline = []
        while True:
            await asyncio.sleep(0.25)
            progress, made = senders.progress, len(await self._versions())
            self.timeline.append((time.monotonic() - start, progress.sent - progress.answered, made))

    async def _versions(self) -> Sequence[Any]:
        return await self.client.versions(REMEDIATION_REQUEST, SYSTEM_NAMESPACE, labels="")

    def _acknowledge(self, sent: Sent, alerts: Sequence[dict[str, Any]]) -> None:
        answer = json.loads(sent.answer)
        results = answer.get("results", [answer])
        for told, one in zip(results, alerts, strict=True):
            if told["status"] in {"created", "duplicate", "accepted"}:
                self.acknowledged[one["labels"]["deployment"]] += 1

    async def warm_up(self) -> None:
        """Create the workloads that the alerts are about, and open what is repeated later on, through both replicas."""
        await self.client.create(NAMESPACE, {"metadata": {"name": "storm"}})
        await asyncio.gather(*(self.client.create(DEPLOYMENT, deployment(f"steady-{i}")) for i in range(WORKLOADS)))
        alerts = steady_alerts()
        parts = list(groups(alerts, 50))
        plan = Plan(tuple(map(webhook, parts)), tuple((0.02 * i, i % len(parts)) for i in range(3 * len(parts))))
        await self.send(plan, dict(enumerate(parts)))

    async def ratios(self) -> None:
        """The same alerts into both, in turns."""
        alerts = steady_alerts()
        token = self.system.token()
        async with alertmanager(self.folder) as other:
            for batch in BATCHES:
                parts = list(groups(alerts, batch))
                ours = wrk_script(self.folder, f"ours-{batch}", ROUTE, [webhook(p) for p in parts], token)
                theirs = wrk_script(
                    self.folder, f"theirs-{batch}", "/api/v2/alerts", [to_alertmanager(p) for p in parts], ""
                )
                taken: list[tuple[float, float]] = []
                for script, url in ((ours, self.system.endpoints.signals), (theirs, other)):
                    await saturate(script, url, 1)  # Both have seen everything once, in this grouping.
                for _ in range(self.scale.rounds):
                    mine = await saturate(ours, self.system.endpoints.signals, self.scale.saturate)
                    taken.append((batch * mine, batch * await saturate(theirs, other, self.scale.saturate)))
                self.figures[f"ratio_batch_{batch}"] = statistics.median(a / b for a, b in taken)
                self.figures[f"signals_per_s_batch_{batch}"] = statistics.median(a for a, _ in taken)
                self.figures[f"alertmanager_per_s_batch_{batch}"] = statistics.median(b for _, b in taken)
                self.console.print(
                    f"  batch {batch}: {self.figures[f'signals_per_s_batch_{batch}']:,.0f} signals/s, Alertmanager "
                    f"{self.figures[f'alertmanager_per_s_batch_{batch}']:,.0f}: "
                    f"{self.figures[f'ratio_batch_{batch}']:.2f} times"
                )

    async def latency(self) -> None:
        """Half of what one alert a webhook reached, evenly spaced."""
        alerts = steady_alerts()
        rate = self.figures["signals_per_s_batch_1"] / 2
        count = round(rate * self.scale.half_load)
        bodies = tuple(webhook([one]) for one in alerts)
        shots = tuple((i / rate, (i * 7) % len(bodies)) for i in range(count))
        self.half_load = await self.send(Plan(bodies, shots), {i: [one] for i, one in enumerate(alerts)})
        waited = [one.milliseconds for one in self.half_load]
        self.figures["half_load_per_s"] = rate
        self.figures["p50_ms"] = percentile(waited, 50)
        self.figures["p99_half_load_ms"] = percentile(waited, 99)
        self.figures["refused_at_half_load"] = sum(not one.acknowledged for one in self.half_load)
        self.console.print(
            f"  at {rate:,.0f} webhooks/s: p50 {self.figures['p50_ms']:.1f} ms, p99 {self.figures['p99_half_load_ms']:.1f} ms"
        )

    async def bursts(self) -> None:
        """Groups of twenty with so many duplicates among them."""
        for percent in (0, 50, 90, 99):
            total = round(self.scale.burst * self.scale.burst_rate) * 20
            fresh = max(1, total * (100 - percent) // 100)
            # Each new one comes first where its repetitions would, which are spread over the rest.
            numbers = [i * fresh // total for i in range(total)]
            alerts = [alert(f"burst-{percent}-{n}", n, f"Burst{percent}Of{n}") for n in numbers]
            parts = list(groups(alerts, 20))
            shots = tuple((i / self.scale.burst_rate, i) for i in range(len(parts)))
            sent = await self.send(Plan(tuple(map(webhook, parts)), shots), dict(enumerate(parts)))
            waited = [one.milliseconds for one in sent if one.acknowledged]
            self.figures[f"burst_{percent}_p99_ms"] = percentile(waited, 99)
            self.console.print(
                f"  burst, {percent} % duplicates: {total:,} signals, {fresh:,} fingerprints, p99 {percentile(waited, 99):.0f} ms"
            )

    async def many_fingerprints(self) -> None:
        """As fast as it goes: so many signals of so many fingerprints, in groups of a hundred."""
        scale = self.scale
        alerts = [alert(f"many-{i}", i, f"Many{i}") for i in range(scale.many_fingerprints)]
        size = min(100, scale.many_fingerprints)
        # Neighbours differ from group to group, so that many groups race for one fingerprint.
        order = [(i * 7 + i // scale.many_fingerprints) % scale.many_fingerprints for i in range(scale.many_signals)]
        parts = list(groups([alerts[i] for i in order], size))
        seconds = max(1.0, scale.many_signals / max(1.0, self.figures["signals_per_s_batch_100"] / 4))
        shots = tuple((seconds * i / len(parts), i) for i in range(len(parts)))
        before = len(await self._versions())
        began = time.monotonic()
        await self.send(Plan(tuple(map(webhook, parts)), shots), dict(enumerate(parts)))
        self.storm_timeline = self.timeline
        self.figures["storm_signals"] = scale.many_signals
        self.figures["storm_fingerprints"] = scale.many_fingerprints
        self.figures["storm_requests"] = len(await self._versions()) - before
        self.figures["storm_seconds"] = time.monotonic() - began
        self.console.print(
            f"  storm: {scale.many_signals:,} signals of {scale.many_fingerprints:,} fingerprints in "
            f"{self.figures['storm_seconds']:.1f} s made {self.figures['storm_requests']:,} RemediationRequests"
        )

    async def soak(self) -> None:
        """Half load for long, and the replicas' memory before and after."""
        alerts = steady_alerts()
        rate = self.figures["half_load_per_s"]
        bodies = tuple(webhook([one]) for one in alerts)
        before = replica_mib()
        parts = 4
        for _ in range(parts):
            count = round(rate * self.scale.soak / parts)
            shots = tuple((i / rate, (i * 7) % len(bodies)) for i in range(count))
            await self.send(Plan(bodies, shots), {i: [one] for i, one in enumerate(alerts)})
        self.figures["rss_mb"] = replica_mib()
        self.figures["rss_growth_mb"] = self.figures["rss_mb"] - before

    async def reconcile(self) -> None:
        """Compare what was acknowledged with what the API server holds once all counts are at rest."""
        await asyncio.sleep(2 * self.system.settings.gateway.occurrence_flush_interval + 1)
        requests: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        listed: set[str] = set()
        token = ""
        while True:
            page = await self.client.list(REMEDIATION_REQUEST, SYSTEM_NAMESPACE, limit=500, continue_token=token)
            for obj in page.items:
                name = obj["spec"]["targetResource"]["name"]
                requests[name] += 1
                status = obj.get("status") or {}
                counted[name] += (status.get("deduplication") or {}).get("occurrenceCount", 0)
                listed.update(m["target"].rpartition("/")[2] for m in status.get("members") or ())
            if not (token := page.continue_token):
                break
        self.figures["acknowledged"] = sum(self.acknowledged.values())
        self.figures["lost"] = sum(
            n for name, n in self.acknowledged.items() if name not in requests and name not in listed
        )
        self.figures["doubled"] = sum(n - 1 for n in requests.values())
        # wrk keeps no answers, so for what it sent only the others can be compared.
        exact = [name for name in self.acknowledged if not name.startswith("steady-")]
        self.figures["uncounted"] = sum(abs(self.acknowledged[name] - counted[name]) for name in exact)


def replica_mib() -> float:
    """Resident memory of the gateway's replicas."""
    total = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if REPLICA in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                status = Path(f"/proc/{pid}/status").read_text()
                total += int(status.split("VmRSS:")[1].split()[0])
    return total / 1024


def draw(file: Path, bench: Bench) -> None:
    """Throughput beside Alertmanager's, latency over time at half load, and the storm: queue and requests made."""
    with picture(file, 3) as (bars, latency, storm):
        width = 0.38
        for shift, prefix, label in (
            (0, "signals_per_s", "kubernaut-ray"),
            (width, "alertmanager_per_s", "Alertmanager"),
        ):
            values = [bench.figures[f"{prefix}_batch_{b}"] for b in BATCHES]
            bars.bar([i + shift for i in range(len(BATCHES))], values, width, label=label)
        bars.set_xticks([i + width / 2 for i in range(len(BATCHES))], [f"batch {b}" for b in BATCHES])
        bars.set_ylabel("duplicates per second")
        bars.set_yscale("log")
        bars.legend()
        seconds = range(int(max((one.scheduled for one in bench.half_load), default=0)) + 1)
        by_second = [[o.milliseconds for o in bench.half_load if int(o.scheduled) == s] for s in seconds]
        for percent in (50, 90, 99):
            latency.plot(list(seconds), [percentile(ms, percent) for ms in by_second], label=f"p{percent}")
        latency.set_xlabel("seconds at half load")
        latency.set_ylabel("milliseconds to the answer")
        latency.legend()
        times = [at for at, _, _ in bench.storm_timeline]
        storm.plot(times, [queue for _, queue, _ in bench.storm_timeline], label="webhooks without an answer yet")
        storm.set_xlabel("seconds of the storm of many fingerprints")
        storm.set_ylabel("webhooks")
        made = storm.twinx()
        made.plot(times, [n for _, _, n in bench.storm_timeline], color="tab:green", label="RemediationRequests")
        made.set_ylabel("RemediationRequests")
        storm.legend(loc="upper left")
        made.legend(loc="lower right")


async def run(scale: Scale, console: Console, plot: Path | None) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="kubernaut-storm-"))
    system = Ingest(folder / "system", storm_enabled=True)
    try:
        console.print("starting API server, Ray, gateway (2 replicas) and Data Storage")
        began = time.monotonic()
        await system.start()
        console.print(f"  ready in {time.monotonic() - began:.0f} s")
        async with await KubeClient.connect(system.kubeconfig) as client:
            bench = Bench(system, client, folder, scale, console)
            for title, step in (
                ("opening what is repeated later on", bench.warm_up),
                ("saturation, in turns with Alertmanager", bench.ratios),
                ("latency at half load", bench.latency),
                ("bursts", bench.bursts),
                ("many fingerprints", bench.many_fingerprints),
                ("soak at half load", bench.soak),
                ("comparing what was acknowledged with what there is", bench.reconcile),
            ):
                console.print(title)
                await step()
            if plot is not None:
                draw(plot, bench)
                console.print(f"drawn: {plot}")
            return bench.figures
    finally:
        await system.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, with less of everything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", default=Path("benchmarks/out/storm.png"), help="draw there (PNG)"
    )
    options = parser.parse_args()
    console = Console()
    for tool, package in (("wrk", "wrk"), (ALERTMANAGER, "prometheus-alertmanager")):
        if shutil.which(tool) is None:
            console.print(f"[red]{tool} is missing; apt-get install {package}[/red]")
            return 2
    figures = asyncio.run(run(QUICK if options.quick else FULL, console, options.plot))
    write_json(options.json, figures)
    console.print(table("Storm", {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))
    return 1 if figures["lost"] or figures["doubled"] or figures["uncounted"] else 0


if __name__ == "__main__":
    sys.exit(main())
