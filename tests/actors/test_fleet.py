"""What the fleet plans, without Ray running; ``tests/rayed`` shows what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.controller_actor import BUILDERS
from actors.event_watcher.occurrence import Verdict
from actors.event_watcher.stats import WatcherStats
from actors.fleet import FleetPlan, housed
from actors.resident import EVENT_WATCHER, ActorSpec
from actors.telemetry import Telemetry, WatcherTelemetry
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.stats import BUCKETS, LoopStats, Result
from kubernaut_ray.settings import Settings


def plan(data_dir: Path, gateway: str = "", **settings: Any) -> FleetPlan:
    return FleetPlan.of(
        Settings.load(data_dir=str(data_dir), **settings),
        Endpoints(gateway=gateway),
        kubeconfig=data_dir / "kubeconfig",
        token_file=data_dir / "token",
    )


def test_one_actor_a_kind_unless_the_settings_say_more(tmp_path: Path) -> None:
    """Every kind is run; shards divide a kind among several actors with names of their own."""
    assert [spec.plural for spec in plan(tmp_path).residents] == list(BUILDERS)
    names = [spec.name for spec in plan(tmp_path, fleet={"shards": {"aianalyses": 2}}).residents]
    assert [name for name in names if "aianalyses" in name] == [
        "controller:aianalyses:00-31",
        "controller:aianalyses:32-63",
    ]
    assert len(names) == len(set(names)) == len(BUILDERS) + 1


def test_one_event_watcher_where_there_is_a_gateway(tmp_path: Path) -> None:
    """It is planned beside the controllers, under a name of its own, unless there is nowhere to send to or nobody wants it."""
    made = plan(tmp_path, gateway="http://127.0.0.1:1").residents
    assert [spec.name for spec in made if spec.role == EVENT_WATCHER] == ["event-watcher"]
    assert len(made) == len(BUILDERS) + 1
    off = plan(tmp_path, gateway="http://127.0.0.1:1", event_watcher={"enabled": False})
    assert len(off.residents) == len(plan(tmp_path).residents) == len(BUILDERS)


def test_one_machine_has_one_process_for_those_with_little_to_do(tmp_path: Path) -> None:
    """Beside the embedded API server they share an actor; not the orchestrator, not what is divided, not in a cluster."""
    made = plan(tmp_path, gateway="http://127.0.0.1:1", fleet={"shards": {"aianalyses": 2}})
    shared = set(BUILDERS) - {"remediationrequests", "aianalyses"} | {"events"}
    assert {host.name: {spec.plural for spec in host.residents} for host in made.hosts} == {
        "controller:remediationrequests:00-63": {"remediationrequests"},
        "controller:aianalyses:00-31": {"aianalyses"},
        "controller:aianalyses:32-63": {"aianalyses"},
        "controllers": shared,
    }
    for apart in (plan(tmp_path, fleet={"together": False}), plan(tmp_path, kubeconfig=str(tmp_path / "kubeconfig"))):
        assert [host.name for host in apart.hosts] == [spec.name for spec in apart.residents]
    assert len(plan(tmp_path, kubeconfig=str(tmp_path / "kubeconfig"), fleet={"together": True}).hosts) == 2


def test_who_would_share_with_nobody_keeps_its_name(tmp_path: Path) -> None:
    """One resident is no reason for a shared actor."""
    [spec] = (spec for spec in plan(tmp_path).residents if spec.plural == "notificationrequests")
    assert [host.name for host in housed([spec], together=True)] == [spec.name]


def test_a_digest_tells_configurations_apart(tmp_path: Path) -> None:
    """The same configuration has the same digest; every difference that matters shows."""

    def digests(made: FleetPlan) -> tuple[str, ...]:
        return tuple(spec.digest for spec in made.residents)

    assert digests(plan(tmp_path)) == digests(plan(tmp_path))
    assert digests(plan(tmp_path)) != digests(plan(tmp_path, gateway="http://127.0.0.1:1"))
    assert digests(plan(tmp_path)) != digests(plan(tmp_path, analysis={"approval_threshold": 0.9}))


def test_secrets_do_not_travel_in_a_plan(tmp_path: Path) -> None:
    """An API key reaches the processes that need it by their environment, never by an actor's arguments."""
    made = plan(tmp_path, llm={"provider": "openai", "api_key": "hunter2"})
    assert "hunter2" not in repr(made)


class Metric:
    """A metric that adds up what it is told."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, ...], float] = {}

    def inc(self, value: float, tags: dict[str, str]) -> None:
        key = tuple(tags.values())
        self.told[key] = self.told.get(key, 0.0) + value

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.inc(1.0, {**tags, "value": str(value)})

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.told[tuple((tags or {}).values())] = value


class Loop:
    """As much of a loop as telemetry reads."""

    objects, queue, state = 7, (1, 2), "running"

    def __init__(self) -> None:
        self.stats = LoopStats()


def test_counters_are_told_as_increments() -> None:
    """Telling twice counts once; labels are kinds, results and phases, never names."""
    telemetry = Telemetry("notificationrequests")
    metrics = {
        name: Metric() for name in ("reconciles", "effects", "transitions", "seconds", "queued", "objects", "leading")
    }
    telemetry._metrics = metrics
    loop: Any = Loop()
    loop.stats.took(0.003, Result.WROTE)
    loop.stats.transitions["", "Pending"] += 1
    telemetry.export(loop)
    telemetry.export(loop)
    loop.stats.took(99.0, Result.WROTE)
    telemetry.export(loop)
    kind = "notificationrequests"
    assert metrics["reconciles"].told == {(kind, "wrote"): 2.0}
    assert metrics["transitions"].told == {(kind, "", "Pending"): 1.0}
    assert metrics["seconds"].told == {(kind, str(BUCKETS[0])): 1.0, (kind, str(BUCKETS[-1] * 2)): 1.0}
    assert metrics["objects"].told == {(kind,): 7}
    assert metrics["leading"].told == {(kind,): 1.0}


class Watcher:
    """As much of a watcher as telemetry reads."""

    under_way, state = 3, "standby"

    def __init__(self) -> None:
        self.stats = WatcherStats()


def test_the_event_watchers_counters_are_told_by_outcome() -> None:
    """Forwarded, refused, or passed over for a reason; never an object's name."""
    telemetry = WatcherTelemetry()
    telemetry._metrics = {name: Metric() for name in ("events", "retries", "relists", "under_way", "leading")}
    watcher: Any = Watcher()
    watcher.stats.forwarded, watcher.stats.refused, watcher.stats.retries = 2, 1, 5
    watcher.stats.passed_over[Verdict.REPEAT] += 4
    telemetry.export(watcher)
    telemetry.export(watcher)
    assert telemetry._metrics["events"].told == {("forwarded",): 2.0, ("refused",): 1.0, ("repeat",): 4.0}
    assert telemetry._metrics["retries"].told == {(): 5.0}
    assert telemetry._metrics["under_way"].told == {(): 3}
    assert telemetry._metrics["leading"].told == {(): 0.0}


@pytest.mark.parametrize("changes", [{"first_shard": 9, "last_shard": 3}, {"first_shard": 0, "last_shard": 64}])
def test_impossible_shards_are_refused(tmp_path: Path, changes: dict[str, int]) -> None:
    """A range that cannot be is an error where it is read."""
    spec = ActorSpec("x", 0, 63, {}, {}, None, None, str(tmp_path))
    with pytest.raises(ValueError, match="must lie within"):
        _ = ActorSpec(**{**{f: getattr(spec, f) for f in spec.__slots__}, **changes}).shards
