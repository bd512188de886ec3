"""The store and its log: versions, commits, what a restart finds."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded import log
from kubernaut_ray.kube.embedded.log import FIRST_VERSION, CommitLog, LogFailed, Write
from kubernaut_ray.kube.embedded.selectors import field_text
from kubernaut_ray.kube.embedded.status import ApiStatus
from kubernaut_ray.kube.embedded.store import Store

EXPECTED = list(range(FIRST_VERSION + 1, FIRST_VERSION + 51))


def obj(name: str, **extra: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "uid": f"uid-{name}"}, **extra}


def opened(path: Path) -> Store:
    store = Store(CommitLog(path / "objects.sqlite"))
    store.start()
    return store


async def test_versions_grow_over_restarts(tmp_path: Path) -> None:
    """A resourceVersion is never given twice, not even the one of a deletion."""
    store = opened(tmp_path)
    store.put("configmaps.", "ns", "a", obj("a"))
    store.put("configmaps.", "ns", "b", obj("b"))
    gone = store.remove("configmaps.", "ns", "b")
    await store.settled()
    store.close()
    again = opened(tmp_path)
    try:
        assert FIRST_VERSION + 3 == gone.version == again.head
        assert [obj("a")["metadata"]["name"]] == [e.obj["metadata"]["name"] for e in again.scan("configmaps.")]
        assert again.put("configmaps.", "ns", "c", obj("c")).version == FIRST_VERSION + 4
    finally:
        again.close()


async def test_events_come_after_the_commit(tmp_path: Path) -> None:
    """A watcher never sees what a crash could take back."""
    store = opened(tmp_path)
    seen: list[int] = []
    subscription = store.hub.subscribe(
        "configmaps.", FIRST_VERSION, lambda event: seen.append(store.committed) or event.type
    )
    for i in range(50):
        store.put("configmaps.", "ns", f"n{i}", obj(f"n{i}"))
    assert not subscription.drain()
    await store.settled()
    events = subscription.drain()
    assert [e.version for _, e in events] == EXPECTED
    assert all(committed >= version for committed, version in zip(seen, EXPECTED, strict=True))
    store.close()


async def test_concurrent_writes_share_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that arrive while a commit is on its way go into the next one together."""
    sizes: list[int] = []
    commit = CommitLog._commit

    def counted(self: CommitLog, batch: list[Any]) -> None:
        sizes.append(len(batch))
        commit(self, batch)

    monkeypatch.setattr(CommitLog, "_commit", counted)
    store = opened(tmp_path)

    async def write(i: int) -> None:
        store.put("configmaps.", "ns", f"n{i}", obj(f"n{i}"))
        await store.settled(store.head)

    await asyncio.gather(*(write(i) for i in range(200)))
    store.close()
    assert sum(sizes) == 200
    assert len(sizes) < 20


async def test_only_a_crowd_is_paced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One writer after the other waits for nobody; what follows many waits for its turn, and is not lost by a stop before it."""
    monkeypatch.setattr(log, "PACE", 3600.0)
    store = opened(tmp_path)
    for i in range(20):
        store.put("configmaps.", "ns", f"alone{i}", obj(f"alone{i}"))
        await store.settled()
    for i in range(log.CROWD):
        store.put("configmaps.", "ns", f"crowd{i}", obj(f"crowd{i}"))
    await store.settled()
    after = store.put("configmaps.", "ns", "after", obj("after"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.settled()
    store.close()
    again = opened(tmp_path)
    assert again.head == after.version
    assert again.get("configmaps.", "ns", "after") is not None
    again.close()


async def test_a_failed_commit_ends_all_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is ahead of the disk then: nothing is acknowledged any more, and the owner is told."""

    def broken(self: CommitLog, batch: list[Any]) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    store = opened(tmp_path)
    told: list[BaseException] = []
    store.on_fault = told.append
    monkeypatch.setattr(CommitLog, "_commit", broken)
    store.put("configmaps.", "ns", "a", obj("a"))
    with pytest.raises(ApiStatus, match="cannot commit"):
        await store.settled()
    with pytest.raises(ApiStatus, match="cannot commit"):
        store.put("configmaps.", "ns", "b", obj("b"))
    assert "disk I/O error" in str(told[0])
    store.close()


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """One data directory, one server."""
    first = CommitLog(tmp_path / "objects.sqlite")
    first.open()
    with pytest.raises(LogFailed, match="another server"):
        CommitLog(tmp_path / "objects.sqlite").open()
    first.close()


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    """A newer version's file is not guessed at."""
    path = tmp_path / "objects.sqlite"
    log = CommitLog(path)
    log.open()
    log.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value=99 WHERE key='layout'")
    connection.close()
    with pytest.raises(LogFailed, match="layout 99"):
        CommitLog(path).open()


async def test_the_last_write_of_a_group_wins(tmp_path: Path) -> None:
    """Create, change and delete in one group leave nothing behind."""
    store = opened(tmp_path)
    store.put("configmaps.", "ns", "a", obj("a"))
    store.put("configmaps.", "ns", "a", obj("a", data={"k": "v"}))
    store.put("configmaps.", "ns", "b", obj("b"))
    store.remove("configmaps.", "ns", "b")
    store.close()
    again = opened(tmp_path)
    assert [e.obj.get("data") for e in again.scan("configmaps.")] == [{"k": "v"}]
    again.close()


values = st.none() | st.sampled_from(("a", "b", "")) | st.booleans()
places = st.tuples(st.sampled_from(("one", "two")), st.sampled_from(("x", "y", "z")))


@given(
    before=st.lists(st.tuples(places, st.none() | values), max_size=8),
    after=st.lists(st.tuples(places, st.none() | values), max_size=8),
    wanted=st.sampled_from(("a", "b", "", "true")),
    namespace=st.sampled_from((None, "one")),
)
def test_a_field_picks_what_a_walk_over_everything_would(
    before: list[tuple], after: list[tuple], wanted: str, namespace: str | None
) -> None:
    """An index of a field that is made on the way knows what was there, and follows what comes and goes."""
    store = Store(_Forgetful())  # type: ignore[arg-type]

    def write(changes: list[tuple]) -> None:
        for (home, name), value in changes:
            if value is not None:
                store.put("things.", home, name, obj(name, spec={"tone": value}))
            elif store.get("things.", home, name) is not None:
                store.remove("things.", home, name)

    def picked() -> list[tuple[str, str]]:
        return [
            (home, entry.obj["metadata"]["name"])
            for home in ("one", "two")
            if namespace in (None, home)
            for entry in store.scan("things.", home)
            if field_text(entry.obj, "spec.tone") == wanted
        ]

    write(before)
    found = store.with_field("things.", namespace, "spec.tone", wanted)
    assert [name for _, name in picked()] == [entry.obj["metadata"]["name"] for entry in found]
    write(after)
    found = store.with_field("things.", namespace, "spec.tone", wanted)
    assert [name for _, name in picked()] == [entry.obj["metadata"]["name"] for entry in found]


class _Forgetful:
    """A log that keeps nothing."""

    def open(self) -> int:
        return FIRST_VERSION

    def rows(self) -> list[tuple[str, str, str, bytes]]:
        return []

    def append(self, write: Write) -> None:
        """Gone."""
