"""The whole system in one process: one seed is one run, to the last write.

``simulate`` opens incidents while everything goes wrong, then lets the faults end, and waits until the world is at rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kubernaut_ray import names
from kubernaut_ray.control import shard_lease
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.settings import (
    AdmissionSettings,
    ApprovalSettings,
    EffectivenessSettings,
    ExecutionSettings,
    FleetSettings,
    NotificationSettings,
    OrchestratorSettings,
    Settings,
)
from kubernaut_ray.signing import SigningKey
from serve_apps.admission.approvals import Desk
from tests.flow.simulation.client import Life
from tests.flow.simulation.faults import Faults, Rates, weather
from tests.flow.simulation.fleet import Fleet
from tests.flow.simulation.outside import Actors, Channels, Effects, Gateway, Investigator, Statistics
from tests.flow.simulation.rules import Rules
from tests.flow.simulation.server import Server, deterministic
from tests.flow.simulation.virtual import Stuck, VirtualLoop
from tests.lifecycles import phase_of

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PAUSE = 90.0
"""Seconds between two alerts in a long run: as many incidents live at a time as in a short one, and each costs the same."""
PATIENCE = 12 * 3600.0
"""Seconds without a new incident after which no more are waited for: each target has one that does not end."""
_ROUTING = """
route:
  receiver: ops
  routes:
    - {matchers: [type="approval"], receiver: approvers, continue: true}
    - {matchers: [priority="critical"], receiver: pager}
receivers:
  - {name: ops, webhook_configs: [{url: "https://ops.example/hook"}], log_configs: [{}]}
  - {name: approvers, webhook_configs: [{url: "https://approvers.example/hook"}]}
  - {name: pager, webhook_configs: [{url: "https://pager.example/hook"}]}
"""


@dataclass(frozen=True)
class Report:
    """What a run came to. ``digest`` names its whole event log."""

    seed: int
    incidents: int
    digest: str
    problems: tuple[str, ...]
    endings: Counter[str]
    transitions: Counter[str]
    faults: dict[str, int]
    crashes: int
    reconciles: int
    writes: int
    facts: int
    runs: int
    situations: Counter[str]
    hours: float
    log: tuple[str, ...] = field(repr=False, default=())

    def failure(self) -> str:
        """Say what is wrong, and how to see it again."""
        shown = "\n  ".join(self.problems[:20])
        return f"{len(self.problems)} rules do not hold (again: pytest {_TEST} --seed {self.seed}):\n  {shown}"


_TEST = "tests/flow/test_simulation.py"


class World:
    """Everything there is. Made inside a running ``VirtualLoop``."""

    def __init__(self, seed: int, incidents: int, folder: Path, rates: Rates, *, keep_log: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.seed, self.incidents = seed, incidents
        self.rng = random.Random(f"world {seed}")
        self.faults = Faults(random.Random(f"faults {seed}"), rates)
        self._skew = timedelta()
        self._hash = hashlib.blake2b(digest_size=16)
        self._log: list[str] | None = [] if keep_log else None
        webhook = seed % 2 == 1
        self.settings = _settings(folder, webhook, verified=seed % 3 != 0, chain=1 + seed % 2)
        self.key = _key(folder, seed)
        self.desk = Desk(self.key, _NoCatalog(), _anybody, names.PLATFORM_USER, self.now) if webhook else None
        self.leased = seed % 3 != 1
        self.server = Server()
        overall = timedelta(seconds=self.settings.orchestrator.global_timeout)
        self.rules = Rules(
            self.server,
            self.now,
            overall=overall,
            chain=self.settings.orchestrator.ineffective_chain,
            truth=self._was_well,
            leased=self.leased,
        )
        self.statistics, self.channels, self.investigator = Statistics(self), Channels(self), Investigator(self)
        self.effects = Effects(self)
        self.gateway = Gateway(self, min(max(3, incidents // 8), 12))
        self.actors, self.fleet = Actors(self), Fleet(self)
        self.server.store.listeners.append(self._see)

    def _was_well(self, target: str, since: datetime) -> bool:
        """The wall clock may have jumped meanwhile, and the truth is kept by the loop's."""
        return self.effects.was_well(target, self.loop.time() - (self.now() - since).total_seconds() - 300.0)

    def now(self) -> datetime:
        """The wall clock, which jumps now and then."""
        return START + timedelta(seconds=self.loop.time()) + self._skew

    async def reach(self, life: Life) -> None:
        """Half of a call to another service: it takes a while, may fail, and may be the last thing that a process does."""
        life.check()
        await asyncio.sleep(self.faults.latency())
        life.check()
        if life.mortal and self.faults.hits("crash"):
            life.die()
        if self.faults.hits("refused"):
            raise Retryable("connection refused")

    async def run(self) -> None:
        """Open the incidents through all faults, then let everything come to rest."""
        collector = asyncio.create_task(self.server.run())
        self.fleet.start()
        jumps = asyncio.create_task(self._jump())
        pause = max(PAUSE, 2 * 3600.0 / self.incidents)
        last = self.loop.time()
        while (opened := self.gateway.outcomes["created"]) < self.incidents and self.loop.time() < last + PATIENCE:
            await asyncio.sleep(self.rng.expovariate(1 / pause))
            await self.gateway.send()
            if self.gateway.outcomes["created"] > opened:
                last = self.loop.time()
        await asyncio.sleep(600)
        self.faults.on = False
        jumps.cancel()
        for _ in range(6 * 60):
            if self.rules.at_rest():
                break
            await asyncio.sleep(60)
        await self.fleet.end()
        await self.actors.end()
        collector.cancel()
        await asyncio.gather(collector, jumps, return_exceptions=True)
        self.rules.rest()
        for resource, _, entry in self.server.store.everything():
            # Readers are given what is stored, and not a copy each.
            whole = orjson.dumps(entry.obj) == entry.raw
            self.rules.hold(whole, f"somebody changed {resource} {entry.obj['metadata']['name']} by reading it")
        for copy, times in self.channels.arrived.items():
            unmarked = times - self.channels.marked[copy]
            self.rules.hold(
                unmarked <= 1, f"{unmarked} copies of {copy} arrived that do not say that they may be copies"
            )

    def report(self) -> Report:
        rules = self.rules
        return Report(
            seed=self.seed,
            incidents=len(rules.requests),
            digest=self._hash.hexdigest(),
            problems=tuple(rules.problems),
            endings=Counter(phase_of(r) for r in rules.requests.values()),
            transitions=rules.transitions,
            faults=dict(sorted(self.faults.happened.items())),
            crashes=self.fleet.crashes,
            reconciles=self.fleet.results.total(),
            writes=self.server.store.head,
            facts=sum(map(len, rules.facts.values())),
            runs=len(rules._runs),
            situations=rules.situations,
            hours=self.loop.time() / 3600,
            log=tuple(self._log or ()),
        )

    def _see(self, event: Event) -> None:
        meta = event.entry.obj["metadata"]
        line = f"{self.loop.time():.6f} {event.type} {event.resource} {meta['name']} {meta['resourceVersion']}"
        self._hash.update(line.encode())
        self._hash.update(event.entry.raw)
        if self._log is not None:
            self._log.append(f"{line} {event.entry.raw.decode()}")
        self.rules.see(event)
        self.actors.see(event)

    async def _jump(self) -> None:
        """The machines' clock is set: forward by minutes, or back by a little."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 1200.0))
            self._skew += timedelta(seconds=self.rng.choice((-2.0, -0.5, 3.0, 45.0, 240.0)))


class _NoCatalog:
    """Nobody overrides anything here."""

    async def workflow(self, workflow_id: str) -> None:
        return None

    async def workflows(self, **_: object) -> None:
        raise NotImplementedError


async def _anybody(_: UserInfo) -> bool:
    return True


def _settings(folder: Path, webhook: bool, *, verified: bool, chain: int) -> Settings:
    (folder / "routing.yaml").write_text(_ROUTING)
    return Settings(
        data_dir=folder,
        admission=AdmissionSettings(mode="required" if webhook else "off"),
        approval=ApprovalSettings(signing_key=folder / "approvals.pem"),
        orchestrator=OrchestratorSettings(
            retention=2400 if verified else 1200, termination_rate_limit=0.9, ineffective_chain=chain
        ),
        execution=ExecutionSettings(budget_per_namespace=0),
        effectiveness=EffectivenessSettings(
            enabled=verified,
            stabilization_window=20,
            hash_compute_delay=5,
            alert_check_delay=40,
            git_ops_sync_delay=30,
            validity=300,
            poll_interval=20,
        ),
        notification=NotificationSettings(routing_file=folder / "routing.yaml"),
        fleet=FleetSettings(concurrency=8, resync_interval=600),
    )


def _key(folder: Path, seed: int) -> SigningKey:
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(str(seed).encode()).digest())
    (folder / "approvals.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey(key)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Read each version of an object once: models are frozen, and most of what is read has been read before.

    What the webhook judges bears the version that it would replace, and is another object: that is read whenever it comes.
    """
    known: dict[tuple[type, str, str], tuple[Mapping[str, Any], Any]] = {}
    read = CustomResource.from_object.__func__  # type: ignore[attr-defined]

    def from_object(kind: type[CustomResource], obj: Mapping[str, Any], *, before: Any = None) -> Any:
        meta = obj["metadata"]
        key = (kind, meta.get("uid", ""), meta.get("resourceVersion", ""))
        stored, found = known.get(key, (None, None))
        if stored is not obj:
            found = read(kind, obj, before=before)
            known[key] = (obj, found)
        return found

    with mock.patch.object(CustomResource, "from_object", classmethod(from_object)):
        yield


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Look at Leases that others hold as rarely as they are renewed."""
    with mock.patch.object(shard_lease, "POLL", 60.0):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, incidents: int, *, rates: Rates | None = None, keep_log: bool = False) -> Report:
    """Run one world to its rest. The same arguments give the same report."""
    loop, chance = VirtualLoop(), random.getstate()
    gc.collect()
    gc.freeze()
    gc.disable()  # Nothing of a run is garbage before its end.
    world: World | None = None
    random.seed(seed)
    with tempfile.TemporaryDirectory() as folder, _quiet(), _read_once(), _patient():
        uids = random.Random(f"uids {seed}")
        try:
            with deterministic(lambda: world.now() if world else START, uids):

                async def main() -> World:
                    nonlocal world
                    world = World(seed, incidents, Path(folder), rates or weather(seed), keep_log=keep_log)
                    await world.run()
                    return world

                try:
                    loop.run_until_complete(main())
                except Stuck:
                    assert world is not None
                    world.rules.hold(False, "everybody waits for something that nobody will do")
            assert world is not None
            world.rules.hold(not loop.broken, f"nobody caught {loop.broken[:3]}")
            return world.report()
        finally:
            random.setstate(chance)
            gc.enable()
            gc.unfreeze()
            if world is not None:
                world.server.close()
            loop.close()
