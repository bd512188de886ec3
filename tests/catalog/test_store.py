"""The DuckDB store: group commit, isolation of failures, one opener, migrations."""

from __future__ import annotations

import subprocess
import sys
import threading

import duckdb
import pytest

from catalog.migrations import MIGRATIONS
from catalog.store import Store
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable


def count(store: Store, table: str = "meta") -> int:
    return store.read(lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def put(key: str):
    return lambda c: c.execute("INSERT INTO meta VALUES (?, 1)", [key])


def test_writes_that_wait_share_a_commit(tmp_path):
    """What queues up while the writer is busy is committed together, in order, each with its own outcome."""
    with Store(tmp_path / "c.duckdb") as store:
        busy, go = threading.Event(), threading.Event()
        first = store.write(lambda _: (busy.set(), go.wait(5)))
        busy.wait(5)
        transactions = [
            store.write(lambda c: c.execute("SELECT txid_current()").fetchone()[0]) for _ in range(20)
        ]  # all in one
        go.set()
        first.result(5)
        assert len({t.result(5) for t in transactions}) == 1


def test_a_refusal_leaves_its_neighbours_alone(tmp_path):
    """One refused, one faulty and one buggy write in a group cost the others nothing."""

    def refuse(_):
        raise InvalidInput("no")

    with Store(tmp_path / "c.duckdb") as store:
        busy, go = threading.Event(), threading.Event()
        store.write(lambda _: (busy.set(), go.wait(5)))
        busy.wait(5)
        good = [store.write(put("a"))]
        refused, faulty, buggy = store.write(refuse), store.write(put("a")), store.write(lambda _: 1 // 0)
        good.append(store.write(put("b")))
        go.set()
        [g.result(5) for g in good]
        with pytest.raises(InvalidInput):
            refused.result(5)
        with pytest.raises(Retryable) as told:
            faulty.result(5)
        assert "INSERT" not in str(told.value)
        assert "meta" not in str(told.value)
        with pytest.raises(ZeroDivisionError):
            buggy.result(5)
        assert count(store) == 3


def test_second_opener_is_told(tmp_path):
    """Another process that opens the file learns who may, in words."""
    file = tmp_path / "c.duckdb"
    code = (
        "import sys, pathlib; from catalog.store import Store\n"
        "try: Store(pathlib.Path(sys.argv[1]))\n"
        "except Exception as e: print(type(e).__name__, e.reason, e)"
    )
    with Store(file):
        told = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("Permanent StoreInUse")
    assert "another process" in told.stdout


def test_newer_schema_is_refused(tmp_path):
    """A file of a newer release is left alone."""
    Store(tmp_path / "c.duckdb").close()
    with duckdb.connect(str(tmp_path / "c.duckdb")) as connection:
        connection.execute("INSERT INTO migrations VALUES (?, 'from tomorrow', 0)", [len(MIGRATIONS) + 1])
    with pytest.raises(Permanent, match="newer release"):
        Store(tmp_path / "c.duckdb")


def test_not_a_database(tmp_path):
    """A file that is no database is named and not overwritten."""
    (tmp_path / "c.duckdb").write_text("something else, and long enough to be looked at" * 100)
    with pytest.raises(Permanent, match="cannot be opened"):
        Store(tmp_path / "c.duckdb")


def test_closed_store_says_so(tmp_path):
    """Writing after close is an error of its own."""
    store = Store(tmp_path / "c.duckdb")
    store.close()
    store.close()
    with pytest.raises(Permanent, match="closed"):
        store.write(put("a"))


def test_whoever_is_told_learns_how_each_transaction_ended(tmp_path):
    """A rolled back group is told once, and then each of its members by itself."""
    told: list[bool] = []
    with Store(tmp_path / "c.duckdb") as store:
        store.write(put("a")).result(5)
        store.tell(told.append)
        with pytest.raises(Retryable):
            store.write(put("a")).result(5)
        store.write(put("b")).result(5)
    assert told == [False, True]
