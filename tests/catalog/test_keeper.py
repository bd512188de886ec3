"""The kept trail: chains without gaps, checkpoints, months in Parquet, holds and retirements; sound to the verifier always."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import archives
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.events import columns, pack
from catalog.ledger.export import Wanted, export
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier, verify
from catalog.migrations import MIGRATIONS
from catalog.owner import Owner
from catalog.policy import TrailPolicy
from catalog.store import Store
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.errors import InvalidInput, Permanent
from tests import build


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 10, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Kept:
    """An owner on a directory, opened anew at will."""

    def __init__(self, directory: Path, **policy: Any) -> None:
        self.time = Time()
        self.directory = directory
        self._policy = TrailPolicy(**{"checkpoint_events": 5, "checkpoint_interval": 3600.0, **policy})
        self._open()

    def _open(self) -> None:
        self.owner = Owner(self.directory, embedder=Lexicon(), source=Nothing(), now=self.time, policy=self._policy)
        self.catalog = Catalog(InProcess(self.owner), Lexicon())

    def again(self) -> None:
        self.owner.close()
        self._open()

    def ask(self, method: str, **payload: Any) -> Any:
        answer = orjson.loads(self.owner.call(method, orjson.dumps(payload)).result(30))
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def tell(self, *events: AuditEvent) -> int:
        answer = orjson.loads(self.owner.call("audit_append", pack(columns(events))).result(30))
        return int(answer["result"]["stored"])

    def sequences(self, **query: Any) -> list[int]:
        return [r["sequence"] for r in self.ask("audit_records", limit=5000, **query)["records"]]

    async def findings(self, wanted: Wanted = Wanted()) -> list[str]:  # noqa: B008 - frozen
        header, items = await export(self.catalog, wanted)
        read = [item async for item in items]
        judge = verifier(wanted.scope, keyring(header.public_keys), correlation_id=wanted.correlation_id)
        return [str(finding) for finding in verify(read, judge)]


class Nothing:
    """No bundles."""

    def workflow(self, ref: str) -> Any:
        raise InvalidInput(f"{ref}: no such bundle")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.owner.close()


def story(first: int, count: int, correlation: str = "rr-a", **changes: Any) -> list[AuditEvent]:
    return [build.audit_event(n, correlation_id=correlation, **changes) for n in range(first, first + count)]


async def test_duplicates_take_no_sequence(kept: Kept) -> None:
    """Within a batch, across batches and after a restart: stored once, and the sequences have no gap."""
    assert kept.tell(*story(0, 4), *story(0, 2), *story(4, 1, "rr-b")) == 5
    assert kept.tell(*story(0, 4)) == 0
    kept.again()
    assert kept.tell(*story(2, 4)) == 2
    assert kept.sequences() == [1, 2, 3, 4, 5, 6, 7]
    places = [(r["event"]["correlation_id"], r["position"]) for r in kept.ask("audit_records")["records"]]
    assert places == [("rr-a", n) for n in (1, 2, 3, 4)] + [("rr-b", 1), ("rr-a", 5), ("rr-a", 6)]
    assert await kept.findings() == []
    assert await kept.findings(Wanted(correlation_id="rr-a")) == []


def test_ids_that_nobody_can_tell_again_are_forgotten(kept: Kept) -> None:
    """What is older than the door lets in need not be remembered; what is not still is."""
    kept.tell(*story(0, 3))
    kept.time.now += timedelta(days=5)
    kept.tell(*story(3, 2))
    kept.again()
    trail, store = kept.owner._keeper._trail, kept.owner._store
    kept.time.now += timedelta(days=4)
    store.write(lambda c: trail.forget(c, kept.time())).result(5)
    assert len(trail._ids) == 2
    assert kept.tell(*story(3, 2)) == 0


async def test_checkpoints_come_by_count_by_request_and_at_the_end(kept: Kept) -> None:
    """Every five records, when asked, and when the owner closes; nothing new gives none."""
    kept.tell(*story(0, 12))
    state = kept.ask("audit_state")
    assert (state["last_sequence"], state["last_checkpoint"], state["unsealed"]) == (12, 2, 2)
    assert kept.ask("audit_seal")["checkpoint"]["last_sequence"] == 12
    assert kept.ask("audit_seal")["checkpoint"] is None
    kept.tell(*story(12, 1))
    kept.again()
    assert kept.ask("audit_state")["unsealed"] == 0
    assert [c["number"] for c in kept.ask("audit_checkpoints", after=1)["checkpoints"]] == [2, 3, 4]
    assert await kept.findings() == []


def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    """What has waited for an interval is sealed without anybody asking."""
    kept = Kept(tmp_path, checkpoint_interval=0.02)
    try:
        kept.tell(*story(0, 1))
        for _ in range(1000):
            if kept.ask("audit_state")["unsealed"] == 0:
                break
        assert kept.ask("audit_state")["last_checkpoint"] == 1
    finally:
        kept.owner.close()


async def test_a_month_rolls_off_and_is_found_as_before(kept: Kept) -> None:
    """Records, queries and timelines answer the same; the table has only what is newer; chains go on."""
    kept.tell(*story(0, 7), *story(7, 3, "rr-old"))
    kept.time.now = datetime(2026, 2, 3, tzinfo=UTC)
    kept.tell(*story(10, 4))
    kept.time.now = datetime(2026, 3, 3, tzinfo=UTC)
    before = (
        kept.ask("audit_records", limit=5000),
        kept.ask("audit_find", limit=100),
        kept.ask("timeline", remediation_id="rr-a"),
    )

    made = kept.ask("audit_archive")
    assert [(a["name"], a["first_sequence"], a["last_sequence"]) for a in made["archived"]] == [
        ("audit-2026-01", 1, 10)
    ]
    found = kept.ask("audit_find", limit=100, event_type=build.audit_event(0).event_type)
    assert found["data"] == before[1]["data"]
    assert kept.ask("timeline", remediation_id="rr-a") == before[2]
    assert kept.ask("audit_records", limit=14)["records"] == before[0]["records"]
    assert kept.ask("audit_records", limit=3, correlation_id="rr-old")["records"][2]["sequence"] == 10

    kept.tell(*story(20, 2), *story(22, 1, "rr-old"))
    kept.again()
    kept.tell(*story(23, 1, "rr-old"))
    assert [r["position"] for r in kept.ask("audit_records", correlation_id="rr-old")["records"]] == [1, 2, 3, 4, 5]
    assert await kept.findings() == []
    assert await kept.findings(Wanted(correlation_id="rr-old")) == []
    assert kept.ask("audit_archive", through="2026-02")["archived"][0]["name"] == "audit-2026-02"
    assert await kept.findings() == []


@pytest.mark.parametrize("through", ["2026-01", "tomorrow", "2026-13", "2026-1"])
def test_only_months_that_are_over(kept: Kept, through: str) -> None:
    """The current month and what is no month are refused."""
    answer = orjson.loads(kept.owner.call("audit_archive", orjson.dumps({"through": through})).result(10))
    assert answer["error"]["kind"] == "InvalidInput"
    assert answer["error"]["problems"][0][0] == "through"


@pytest.mark.parametrize("step", ["write", "replace_rows", "after"])
async def test_a_death_between_two_steps_of_a_roll_off(kept: Kept, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """With or without the file, before or after the commit: doing it again loses nothing and doubles nothing."""
    kept.tell(*story(0, 8))
    kept.time.now = datetime(2026, 4, 1, tzinfo=UTC)
    kept.tell(*story(8, 2))
    with monkeypatch.context() as dying:
        if step == "write":
            dying.setattr(archives.Path, "replace", _die)
        elif step == "replace_rows":
            dying.setattr(archives, "replace_rows", _die)
        else:
            dying.setattr("catalog.keeper.log.info", _die)
        answer = orjson.loads(kept.owner.call("audit_archive", b"{}").result(10))
        assert "error" in answer
    kept.again()
    assert kept.sequences()[:10] == list(range(1, 11))
    made = kept.ask("audit_archive")["archived"]
    assert [a["last_sequence"] for a in made] == ([] if step == "after" else [8])
    assert kept.sequences()[:10] == list(range(1, 11))
    assert sorted(p.name for p in (kept.directory / "archive").iterdir()) == ["audit-2026-01.parquet"]
    assert kept.tell(*story(8, 3)) == 1
    assert await kept.findings() == []


def _die(*_: object, **__: object) -> None:
    raise Permanent("this process died here", reason="Died")


def test_a_file_that_differs_replaces_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back is held against the hashes; rows that cannot be vouched for stay."""
    kept.tell(*story(0, 3))
    kept.time.now = datetime(2026, 4, 1, tzinfo=UTC)
    with duckdb_of(kept) as connection:
        connection.execute("UPDATE audit_events SET body = replace(body, '\"rr-a\"', '\"rr-x\"') WHERE seq = 2")
    answer = orjson.loads(kept.owner.call("audit_archive", b"{}").result(10))
    assert answer["error"]["reason"] == "ArchiveDiffers"
    assert kept.sequences() == [1, 2, 3]


class duckdb_of:  # noqa: N801 - reads as a context
    """The owner's database, opened while the owner is away."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        self._kept.owner.close()
        self._connection = duckdb.connect(str(self._kept.directory / "catalog.duckdb"))
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._kept._open()


async def test_retention_and_legal_hold(kept: Kept) -> None:
    """What expired goes and says so; an incident under hold keeps its archive until it is released."""
    kept.tell(*story(0, 3), *story(3, 2, "rr-court"))
    kept.time.now = datetime(2026, 4, 1, tzinfo=UTC)
    kept.tell(*story(5, 2))
    held = kept.ask("audit_hold", correlation_id="rr-court", reason="case 7", placed_by="eve")
    assert held["placed_at"] == "2026-04-01T00:00:00.000000Z" or held["placed_at"].startswith("2026-04-01")
    kept.ask("audit_archive")
    kept.time.now += timedelta(days=2600)
    assert kept.ask("audit_archive")["retired"] == []
    assert kept.ask("audit_release", correlation_id="rr-court", by="mallory", reason="closed")["released"]
    assert not kept.ask("audit_release", correlation_id="rr-court", by="mallory", reason="again")["released"]
    retired = kept.ask("audit_archive")["retired"]
    assert [r["archive"] for r in retired] == ["audit-2026-01", "audit-2026-04"]
    assert list((kept.directory / "archive").iterdir()) == []
    kept.again()
    assert await kept.findings() == []
    assert kept.sequences(after=0)[0] > 7
    assert kept.tell(*story(50, 1, "rr-court")) == 1
    record = kept.ask("audit_records", correlation_id="rr-court")["records"][-1]
    assert record["position"] > 3
    assert await kept.findings() == []
    types = [e["event_type"] for e in kept.ask("audit_find", limit=100, event_type="datastorage.audit.retired")["data"]]
    assert len(types) == 2


def test_old_events_are_chained_by_the_migration(tmp_path: Path) -> None:
    """A database from before there were chains comes out sound, in its old order."""
    file = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name VARCHAR, applied_us BIGINT)")
        for statement in MIGRATIONS[0][1]:
            assert isinstance(statement, str)
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES (1, 'one', 0)")
        for n in range(1203):
            event = build.audit_event(n, correlation_id=f"rr-{n % 3}")
            connection.execute(
                "INSERT INTO audit_events VALUES (?, ?, 1, 2, ?, ?, ?, ?, '', ?)",
                [n * 2 + 1, event.event_id, event.correlation_id, event.event_type, event.event_category.value,
                 event.event_outcome.value, event.model_dump_json(exclude_none=True)],
            )  # fmt: skip
    kept = Kept(tmp_path)
    try:
        assert kept.ask("audit_state")["last_sequence"] == 1203
        assert kept.tell(*story(0, 1, "rr-0")) == 1  # its instant of storing is too old to be remembered
        assert kept.ask("audit_state")["unsealed"] < 5
    finally:
        kept.owner.close()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), min_size=1, max_size=40))
def test_it_is_a_set_in_the_order_of_arrival(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, bool]]
) -> None:
    """Any mix of new and old events, restarts and faults of the database between: each once, without gaps."""
    kept = Kept(tmp_path_factory.mktemp("kept"))
    try:
        told: list[str] = []
        for n, chain, fault in steps:
            event = build.audit_event(n, correlation_id=f"rr-{chain}")
            new = event.event_id not in told
            if fault:
                kept.owner._store.write(lambda c: c.execute("SELECT no_such_column")).exception()
            assert kept.tell(event) == int(new)
            if new:
                told.append(event.event_id)
        records = kept.ask("audit_records", limit=5000)["records"]
        assert [r["event"]["event_id"] for r in records] == told
        assert [r["sequence"] for r in records] == list(range(1, len(told) + 1))
    finally:
        kept.owner.close()


async def test_a_fault_in_the_group_takes_nothing_along(kept: Kept) -> None:
    """A group that is rolled back and run again one by one gives the same trail."""
    store = kept.owner._store
    busy, go = threading.Event(), threading.Event()
    store.write(lambda _: (busy.set(), go.wait(5)))
    busy.wait(5)
    waiting = [kept.owner.call("audit_append", pack(columns(story(n * 3, 3, f"rr-{n % 2}")))) for n in range(4)]
    faulty = store.write(lambda c: c.execute("SELECT no_such_column"))
    waiting.append(kept.owner.call("audit_append", pack(columns(story(0, 3, "rr-0")))))
    go.set()
    assert faulty.exception(10) is not None
    assert [orjson.loads(w.result(10))["result"]["stored"] for w in waiting] == [3, 3, 3, 3, 0]
    assert kept.sequences() == list(range(1, 13))
    assert await kept.findings() == []


async def test_appends_that_wait_share_a_transaction(kept: Kept) -> None:
    """Batches that queue up are one group, which is not rolled back to be run one by one."""
    store = kept.owner._store
    busy, go = threading.Event(), threading.Event()
    store.write(lambda _: (busy.set(), go.wait(5)))
    busy.wait(5)
    settled: list[bool] = []
    trail = kept.owner._keeper._trail

    def settle(committed: bool) -> None:
        settled.append(committed)
        trail.settle(committed)

    store.tell(settle)
    waiting = [kept.owner.call("audit_append", pack(columns(story(n * 3, 3, f"rr-{n % 2}")))) for n in range(5)]
    go.set()
    assert [orjson.loads(w.result(10))["result"]["stored"] for w in waiting] == [3] * 5
    assert settled == [True, True]
    assert await kept.findings() == []


CHILD = """
import pathlib, sys
import orjson
from catalog.embed import Lexicon
from catalog.events import columns, pack
from catalog.owner import Owner
from catalog.policy import TrailPolicy
from kubernaut_ray.clock import utcnow
from tests import build
owner = Owner(pathlib.Path(sys.argv[1]), embedder=Lexicon(), source=None, now=utcnow,
              policy=TrailPolicy(checkpoint_events=16, checkpoint_interval=0.01))
for n in range(int(sys.argv[2]), 10**9, 20):
    events = [build.audit_event(i, correlation_id=f"rr-{i % 7}") for i in range(max(0, n - 5), n + 20)]
    owner.call("audit_append", pack(columns(events))).result()
    print(n + 20, flush=True)
"""


async def test_kill_nine_in_the_middle_of_writes(tmp_path: Path) -> None:
    """Round after round: what was acknowledged is there once, and the trail is sound, whatever the moment of death."""
    done = 0
    for _ in range(3):
        child = subprocess.Popen(  # noqa: ASYNC220 - a few lines are read from it, and nothing else runs here
            [sys.executable, "-c", CHILD, str(tmp_path), str(done)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(15):
            done = int(child.stdout.readline())
        child.kill()
        rest, _ = child.communicate()
        done = max([done, *(int(line) for line in rest.split("\n")[:-1])])
        kept = Kept(tmp_path)
        try:
            kept.time.now = datetime.now(UTC)
            last = kept.ask("audit_state")["last_sequence"]
            assert last >= done
            ids = [
                e["event_id"]
                for offset in range(0, last, 1000)
                for e in kept.ask("audit_find", limit=1000, offset=offset)["data"]
            ]
            assert len(ids) == len(set(ids)) == last
            assert await kept.findings() == []
            done = last
        finally:
            kept.owner.close()


def test_the_store_of_another_release(tmp_path: Path) -> None:
    """A file of a newer schema is refused before anything is touched."""
    with Store(tmp_path / "catalog.duckdb") as store:
        store.write(lambda c: c.execute("INSERT INTO migrations VALUES (99, 'later', 0)")).result(5)
    with pytest.raises(Permanent, match="newer release"):
        Kept(tmp_path)
