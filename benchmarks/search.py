"""How fast the catalog is searched, beside PostgreSQL + pgvector in the same run, and how soon a change is found.

    python benchmarks/search.py [--quick] [--json FILE] [--plot FILE] [--sizes 1000,10000,100000]

For each size of catalog (``_synthetic.py``: real texts recombined; questions with facts that leave from all of it down to a
thousandth, no two of one text):

1. The owner publishes: the first snapshot (everything read and embedded), and one after a single registration.
2. In this process, one thread, hybrid search with its answer rendered: ``p50_ms``, ``p99_ms`` (the median of ``PASSES`` over all
   questions, since a neighbour on this machine takes a core for a moment); ``recall`` of the ten nearest by vector against an
   exact scan, and ``recall_hybrid`` of the whole answer against a search that compares with everything.
3. pgvector's ways, one connection: the labels' GIN index with an exact sort, and HNSW with iterative scans. The fastest is taken
   whose recall is ours, or less by ``EQUAL`` at most. Its planner chooses between the indexes, or searches with few facts are
   sent to the vector index, which it would not take where it should.
4. Through HTTP, wrk, 1 to 64 connections, in turns: Data Storage (two replicas, bearer tokens) and the same layer on pgvector,
   both telling Data Storage's audit trail. Ours also ranks by words (BM25) and labels and explains its scores; pgvector orders
   by vector alone.
5. The same at 16 connections while workflows are registered, disabled and enabled.
6. How long after the order to register one a search over HTTP finds it, and memory.

``ratio_pgvector_SIZE`` is the median over the connection counts of our requests per second over theirs. Needs ``wrk`` and a
PostgreSQL with pgvector (``_pgvector.py`` says which).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _pgvector
from benchmarks._load import percentile
from benchmarks._pgvector import PostgreSQL, Way
from benchmarks._report import picture, table, write_json
from benchmarks._search_server import SEARCH, WORKFLOWS, SocketTransport
from benchmarks._synthetic import Question, questions, real_incidents, real_workflows, workflows
from benchmarks.storm import wrk_script
from catalog import snapshot as snapshots
from catalog.embed import Lexicon
from catalog.owner import FILE
from catalog.snapshot import Snapshot
from catalog.store import Connection, Store
from kubernaut_ray import collector
from kubernaut_ray.contracts.catalog import Workflow

EQUAL = 0.002
"""pgvector's recall may be so much lower than ours, which a test holds to 0.99."""
PASSES = 3
TOP = 10
REPLICAS = 2
SERVER = str(Path(__file__).with_name("_search_server.py"))
VERSION_HEADER = "X-Catalog-Version"


@dataclass(frozen=True, slots=True)
class Scale:
    """``seconds`` are those of each turn of wrk; ``writes`` are a second."""

    sizes: tuple[int, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: int
    asked: int
    writes: float


FULL = Scale((1_000, 10_000, 100_000), (1, 4, 16, 64), 2, 5, 1200, 2.0)
QUICK = Scale((500, 2_000), (4,), 1, 1, 120, 2.0)


class Side:
    """One of the two: server processes on one port. ``begin`` and ``end``; ``end`` ends these processes and no others."""

    def __init__(self, kind: str, folder: Path, token: str, *rest: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._socket.set_inheritable(True)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        fd = self._socket.fileno()
        self._log = folder / f"{kind}.log"
        command = [sys.executable, SERVER, kind, str(folder), str(fd), token, *rest]
        with self._log.open("ab") as log:
            self._processes = [
                subprocess.Popen(command, pass_fds=(fd,), stdout=log, stderr=log) for _ in range(REPLICAS)
            ]

    async def ready(self) -> None:
        """Wait until it is likely that all of them answer: many connections in a row, of which each takes its part."""
        deadline = time.monotonic() + 120
        good = 0
        while good < 20 * REPLICAS:
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes):
                raise RuntimeError(f"a server did not start: {self._log.read_text()[-2000:]}")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
                    session.get(f"{self.url}/ready") as answer,
                ):
                    good = good + 1 if answer.status == 200 else 0
            await asyncio.sleep(0.02)

    @property
    def rss_mib(self) -> float:
        """Resident memory of one replica, the largest."""
        return max(rss_mib(process.pid) for process in self._processes)

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
            if process.poll() is None:
                process.kill()
                process.wait()
        self._socket.close()


@contextlib.contextmanager
def owner_process(folder: Path) -> Iterator[tuple[SocketTransport, int]]:
    """Run the catalog owner on this folder; yields a way to it and its process id."""
    path = folder / "owner.sock"
    with (folder / "owner.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, SERVER, "owner", str(folder), str(path)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the owner did not start: {(folder / 'owner.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield SocketTransport(path), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def fill(folder: Path, made: Sequence[Workflow]) -> None:
    """Put workflows into a new store as if they had been registered one by one, which would take hours."""
    folder.mkdir(parents=True)
    rows = pa.table(
        {
            "workflow_id": [w.workflow_id for w in made],
            "workflow_name": [w.workflow_name for w in made],
            "version": [w.version for w in made],
            "status": [w.status.value for w in made],
            "is_latest": [True] * len(made),
            "record": [w.model_dump_json(exclude_none=True) for w in made],
        }
    )

    def put(connection: Connection) -> None:
        connection.register("rows", rows)
        connection.execute("INSERT INTO workflows BY NAME SELECT * FROM rows")
        connection.unregister("rows")
        connection.execute("UPDATE meta SET value = 1 WHERE key = 'catalog_version'")

    with Store(folder / FILE) as store:
        store.write(put).result()


class Bench:
    """One size of catalog."""

    def __init__(self, size: int, scale: Scale, folder: Path, build: _pgvector.Build, console: Console) -> None:
        self.size, self.scale, self.folder, self.build, self.console = size, scale, folder, build, console
        self.label = f"{size // 1000}k" if size >= 1000 else str(size)
        self.figures: dict[str, Any] = {}
        self.token = secrets.token_hex(16)
        self.questions = questions(scale.asked, real_incidents(), seed=size)
        self.http: dict[str, list[tuple[int, float, float, float]]] = {"ours": [], "theirs": []}
        """By side: connections, requests a second, p50 and p99 in milliseconds."""
        self._next = size

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")

    async def run(self) -> None:
        data = self.folder / "ours"
        began = time.perf_counter()
        made = list(workflows(self.size, real_workflows()))
        fill(data, made)
        self.say(f"{self.size:,} workflows made and stored in {time.perf_counter() - began:.0f} s")
        with owner_process(data) as (owner, owner_pid):
            snapshot = await self.publish(owner)
            self.figures["owner_rss_mb"] = rss_mib(owner_pid)
            best = self.in_process(snapshot)
            with PostgreSQL(self.build, self.folder / "postgres") as postgres:
                way = await self.pgvector(postgres, made, snapshot, best)
                await self.over_http(postgres, way)

    async def publish(self, owner: SocketTransport) -> Snapshot:
        began = time.perf_counter()
        await owner.snapshot(-1)
        self.figures["first_snapshot_s"] = time.perf_counter() - began
        await self._register(owner)
        began = time.perf_counter()
        data = await owner.snapshot(1)
        published = time.perf_counter()
        snapshot = snapshots.load(data, Lexicon())
        self.figures["publish_s"] = published - began
        self.figures["load_s"] = time.perf_counter() - published
        self.figures["snapshot_mb"] = len(data) / 2**20
        self._exact = snapshots.load(data, Lexicon(), exact=True)
        self.say(
            f"first snapshot {self.figures['first_snapshot_s']:.1f} s; after one registration built in "
            f"{self.figures['publish_s']:.2f} s, loaded in {1000 * self.figures['load_s']:.0f} ms"
        )
        return snapshot

    async def _register(self, owner: SocketTransport) -> None:
        self._next += 1
        answer = await owner.call("register", json.dumps({"container_image": image(self._next)}).encode())
        assert b'"result"' in answer, answer

    def in_process(self, snapshot: Snapshot) -> list[set[str]]:
        """Measure hybrid search in this process; returns the exact ten nearest of each question by vector."""
        for question in self.questions[:60]:
            snapshot.find(question.request).to_json()
        collector.settle()  # As a replica does; what is here besides the snapshot is only the benchmark's.
        took: dict[float, list[float]] = {}
        passes: list[list[float]] = []
        for _ in range(PASSES):
            passes.append([])
            for question in self.questions:
                began = time.perf_counter()
                snapshot.find(question.request).to_json()
                passes[-1].append((time.perf_counter() - began) * 1000)
                took.setdefault(question.share, []).append(passes[-1][-1])
        for percent in (50, 99):
            self.figures[f"p{percent}_ms"] = statistics.median(percentile(one, percent) for one in passes)
        self.figures["p99_ms_passes"] = [percentile(one, 99) for one in passes]
        self.figures["qps_in_process"] = 1000 / statistics.mean(itertools.chain.from_iterable(passes))
        self.figures["p50_ms_by_share"] = {str(share): percentile(ms, 50) for share, ms in sorted(took.items())}
        exact, near, whole = [], [], []
        for question in self.compared:
            best = nearest(self._exact, question)
            exact.append(best)
            near.append(share(nearest(snapshot, question), best))
            answer, reference = (
                {hit.position for hit in one.find(question.request).hits} for one in (snapshot, self._exact)
            )
            whole.append(share(answer, reference))
        self.figures["recall"], self.figures["recall_hybrid"] = statistics.mean(near), statistics.mean(whole)
        self.say(
            f"in process: p50 {self.figures['p50_ms']:.2f} ms, p99 {self.figures['p99_ms']:.2f} ms, recall "
            f"{self.figures['recall']:.4f} by vector, {self.figures['recall_hybrid']:.4f} of the answer"
        )
        return exact

    @property
    def compared(self) -> Sequence[Question]:
        return self.questions[:300]

    async def pgvector(
        self, postgres: PostgreSQL, made: Sequence[Workflow], snapshot: Snapshot, best: Sequence[set[str]]
    ) -> Way:
        """Load the same vectors, try each way on one connection; returns the fastest that reaches the floor."""
        import asyncpg

        began = time.perf_counter()
        index = snapshot.index
        vectors = {index.records.name(n).workflow_id: index.vectors[n] for n in range(len(index))}
        extra = [w for n in range(self.size + 1, self._next + 1) for w in workflows(1, real_workflows(), first=n)]
        await _pgvector.load(postgres.dsn, (_pgvector.row(w, vectors[w.workflow_id]) for w in [*made, *extra]))
        self.say(f"pgvector loaded in {time.perf_counter() - began:.0f} s ({self.build.name})")
        tried: dict[str, Any] = {}
        for way in (_pgvector.EXACT, *_pgvector.HNSW):
            if way is _pgvector.HNSW[0]:
                began = time.perf_counter()
                await _pgvector.index_vectors(postgres.dsn)
                self.figures["hnsw_build_s"] = time.perf_counter() - began
            connections = [
                await asyncpg.connect(postgres.dsn, server_settings=way.settings_for(wide=w)) for w in (False, True)
            ]
            try:
                for connection in connections:
                    await _pgvector.speak_vectors(connection)
                tried[way.name] = await self._try(connections, best)
            finally:
                for connection in connections:
                    await connection.close()
        self.figures["pgvector_ways"] = tried
        ways = {way.name: way for way in (_pgvector.EXACT, *_pgvector.HNSW)}
        good = [name for name, figures in tried.items() if figures["recall"] >= self.figures["recall"] - EQUAL]
        chosen = min(good or [_pgvector.EXACT.name], key=lambda name: tried[name]["mean_ms"])
        # A planner that has a vector index uses it where it seems cheaper: for the exact way it is dropped again.
        if chosen == _pgvector.EXACT.name:
            await _pgvector.forget_vectors(postgres.dsn)
        self.figures["pgvector_way"] = chosen
        self.figures["pgvector_recall"] = tried[chosen]["recall"]
        self.say(
            "; ".join(f"{name}: {f['mean_ms']:.2f} ms, recall {f['recall']:.3f}" for name, f in tried.items())
            + f"; taken: {chosen}"
        )
        return ways[chosen]

    async def _try(self, connections: Sequence[Any], best: Sequence[set[str]]) -> dict[str, float]:
        embedder = Lexicon()
        took, recalls = [], []
        for warm in (True, False):
            for question, exact in zip(self.compared, best, strict=True):
                vector = embedder.embed([question.request.query])[0]
                sql, values = _pgvector.statement(question.request.filters)
                connection = connections[_pgvector.is_wide(question.request.filters)]
                began = time.perf_counter()
                rows = await connection.fetch(sql.format(limit=TOP), vector, *values)
                if not warm:
                    took.append((time.perf_counter() - began) * 1000)
                    recalls.append(share({one["workflow_id"] for one in rows}, exact))
        return {"mean_ms": statistics.mean(took), "p99_ms": percentile(took, 99), "recall": statistics.mean(recalls)}

    async def over_http(self, postgres: PostgreSQL, way: Way) -> None:
        ours = Side("ours", self.folder / "ours", self.token, str(self.folder / "ours/owner.sock"))
        theirs = Side(
            "theirs",
            self.folder / "theirs",
            self.token,
            postgres.dsn,
            json.dumps([way.settings_for(wide=w) for w in (False, True)]),
            str(ours.port),
        )
        try:
            sides = {"ours": ours, "theirs": theirs}
            for side in sides.values():
                await side.ready()
            bodies = [question.request.model_dump_json().encode() for question in self.questions]
            scripts = {
                name: wrk_script(self.folder, f"{name}-{self.label}", SEARCH, bodies, self.token) for name in sides
            }
            for name, side in sides.items():
                await wrk(scripts[name], side.url, 8, 2)
            for connections in self.scale.connections:
                await self._turns(sides, scripts, connections)
            self.figures["qps"] = max(q for _, q, _, _ in self.http["ours"])
            self.figures["pgvector_qps"] = max(q for _, q, _, _ in self.http["theirs"])
            self.figures["http"] = {
                f"{name} {c} clients": f"{q:.0f}/s p50 {p50:.1f} p99 {p99:.1f} ms"
                for name, rows in self.http.items()
                for c, q, p50, p99 in rows
            }
            pairs = zip(self.http["ours"], self.http["theirs"], strict=True)
            self.figures["ratio_pgvector"] = statistics.median(a[1] / b[1] for a, b in pairs)
            for name, side in sides.items():
                await self._with_writes(name, side, scripts[name])
            self.figures["visible_s"] = await self._visible(ours)
            self.figures["replica_rss_mb"] = ours.rss_mib
            self.figures["pgvector_rss_mb"] = rss_mib(postgres.pid)
        finally:
            ours.end()
            theirs.end()

    async def _turns(self, sides: dict[str, Side], scripts: dict[str, Path], connections: int) -> None:
        rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
        for _ in range(self.scale.rounds):
            for name, side in sides.items():
                rounds[name].append(await wrk(scripts[name], side.url, connections, self.scale.seconds))
        for name, taken in rounds.items():
            middle = [statistics.median(values) for values in zip(*taken, strict=True)]
            self.http[name].append((connections, middle[0], middle[1], middle[2]))
        a, b = self.http["ours"][-1], self.http["theirs"][-1]
        self.say(
            f"{connections} clients: {a[1]:,.0f}/s (p99 {a[3]:.1f} ms), pgvector {b[1]:,.0f}/s (p99 {b[3]:.1f} ms): "
            f"{a[1] / b[1]:.1f} times"
        )

    async def _with_writes(self, name: str, side: Side, script: Path) -> None:
        """Search with 16 connections while workflows are registered, disabled and enabled."""
        stop = asyncio.Event()
        writing = asyncio.create_task(self._write(side, stop))
        qps, _, p99 = await wrk(script, side.url, 16, max(2, self.scale.seconds))
        stop.set()
        written = await writing
        prefix = "" if name == "ours" else "pgvector_"
        self.figures[f"{prefix}qps_with_writes"] = qps
        self.figures[f"{prefix}p99_ms_with_writes"] = p99
        self.figures[f"{prefix}writes"] = written
        self.say(f"{name} with {written} writes meanwhile: {qps:,.0f}/s, p99 {p99:.1f} ms")

    async def _write(self, side: Side, stop: asyncio.Event) -> int:
        done = 0
        async with self._session(side) as session:
            while not stop.is_set():
                began = time.monotonic()
                if done % 3 == 0:
                    self._next += 1
                    async with session.post(WORKFLOWS, json={"container_image": image(self._next)}) as answer:
                        assert answer.status == 201, await answer.text()
                else:
                    change = {"status": "disabled" if done % 3 == 1 else "active", "reason": "benchmark"}
                    path = f"{WORKFLOWS}/{workflow_of(self._next).workflow_id}"
                    async with session.patch(path, json=change) as answer:
                        assert answer.status == 200, await answer.text()
                done += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, 1 / self.scale.writes - (time.monotonic() - began))):
                        await stop.wait()
        return done

    async def _visible(self, side: Side) -> float:
        """Register one; return the seconds from the order until a search that knows of it has found it."""
        async with self._session(side) as session:
            self._next += 1
            workflow = workflow_of(self._next)
            began = time.perf_counter()
            async with session.post(WORKFLOWS, json={"container_image": image(self._next)}) as answer:
                headers = {VERSION_HEADER: answer.headers[VERSION_HEADER]}
            query = {"query": f"{workflow.title} {workflow.description.what} {workflow.description.when_to_use}"}
            async with session.post(SEARCH, json=query, headers=headers) as answer:
                found = {hit["workflow"]["workflow_id"] for hit in (await answer.json())["hits"]}
            assert workflow.workflow_id in found
            return time.perf_counter() - began

    @contextlib.asynccontextmanager
    async def _session(self, side: Side) -> AsyncIterator[aiohttp.ClientSession]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(side.url, headers=headers) as session:
            yield session


def image(number: int) -> str:
    return f"registry.invalid/number:{number}"


def workflow_of(number: int) -> Workflow:
    return next(workflows(1, real_workflows(), first=number))


def nearest(snapshot: Snapshot, question: Question) -> set[str]:
    """Return the ids of the ten nearest by vector alone, under the question's filters."""
    index = snapshot.index
    mask = index.admitted(question.request.filters, include_disabled=False)
    query = snapshot.embedder.embed([question.request.query])[0]
    return {index.records.name(int(n)).workflow_id for n in index.nearest(query, mask, TOP)}


def share(found: set[Any], wanted: set[Any]) -> float:
    return len(found & wanted) / len(wanted) if wanted else 1.0


async def wrk(script: Path, url: str, connections: int, seconds: int) -> tuple[float, float, float]:
    """Return requests a second, p50 and p99 in milliseconds. Raises when any answer was no success."""
    process = await asyncio.create_subprocess_exec(
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "30s",
        "--latency", "--script", str(script), url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    times = {percent: _milliseconds(text) for percent, text in re.findall(r"\s(50|99)%\s+(\S+)", output)}
    if process.returncode or rate is None or len(times) != 2:
        raise RuntimeError(f"wrk failed: {output}")
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        raise RuntimeError(f"{url}: {refused[1]} answers were no success; the figures would mean nothing")
    return float(rate[1]), times["50"], times["99"]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def draw(file: Path, benches: Sequence[Bench]) -> None:
    """Requests a second and p99 by clients, and the time in process by what a filter leaves; a line a size."""
    with picture(file, 3) as (rates, latencies, shares):
        for bench in benches:
            for name, style in (("ours", "-o"), ("theirs", "--x")):
                label = f"{'kubernaut-ray' if name == 'ours' else 'pgvector'}, {bench.label}"
                rows = bench.http[name]
                rates.plot([r[0] for r in rows], [r[1] for r in rows], style, label=label)
                latencies.plot([r[0] for r in rows], [r[3] for r in rows], style, label=label)
            by_share = bench.figures["p50_ms_by_share"]
            shares.plot([float(s) for s in by_share], list(by_share.values()), "-o", label=bench.label)
        for axis, text in ((rates, "requests per second"), (latencies, "p99, milliseconds")):
            axis.set_xlabel("clients")
            axis.set_ylabel(text)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.legend(fontsize="small")
        shares.set_xlabel("share of the catalog that the filter leaves, about")
        shares.set_ylabel("p50 in process, milliseconds")
        shares.set_xscale("log")
        shares.legend()


async def run(scale: Scale, build: _pgvector.Build, console: Console, plot: Path | None) -> dict[str, Any]:
    figures: dict[str, Any] = {"postgresql": build.name, "recall_equal_within": EQUAL}
    benches = []
    for size in scale.sizes:
        folder = Path(tempfile.mkdtemp(prefix="kubernaut-search-"))
        folder.chmod(0o755)  # PostgreSQL's user has to get in.
        bench = Bench(size, scale, folder, build, console)
        console.print(f"{size:,} workflows")
        try:
            await bench.run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        figures |= {f"{key}_{bench.label}": value for key, value in bench.figures.items()}
        benches.append(bench)
    if plot is not None:
        draw(plot, benches)
        console.print(f"drawn: {plot}")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small catalogs, short turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", default=Path("benchmarks/out/search.png"), help="draw there (PNG)"
    )
    parser.add_argument("--sizes", help="other sizes, for example 1000,10000")
    options = parser.parse_args()
    console = Console()
    build = _pgvector.installed()
    if build is None:
        console.print(f"[red]{_pgvector.ADVICE}[/red]")
        return 2
    if shutil.which("wrk") is None:
        console.print("[red]wrk is missing; apt-get install wrk[/red]")
        return 2
    scale = QUICK if options.quick else FULL
    if options.sizes:
        sizes = tuple(int(size) for size in options.sizes.split(","))
        scale = Scale(sizes, scale.connections, scale.rounds, scale.seconds, scale.asked, scale.writes)
    figures = asyncio.run(run(scale, build, console, options.plot))
    write_json(options.json, figures)
    console.print(table("Search", {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
