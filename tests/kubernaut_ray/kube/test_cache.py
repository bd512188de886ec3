"""The cache follows a server that ends watches, forgets versions, breaks down and goes silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubernaut_ray.kube.cache import SETTLED_SECONDS, Cache, metadata_only
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList, WatchEvent
from kubernaut_ray.kube.errors import Forbidden, Gone, Unavailable
from kubernaut_ray.kube.resources import CONFIG_MAP, Resource

Step = ObjectList | Exception | list[Any]


def obj(name: str, version: int, **labels: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": str(version), "labels": labels},
        "data": {"big": "x"},
    }


def listing(*items: Object, version: int, more: str = "") -> ObjectList:
    return ObjectList(items, str(version), more)


class Scripted(KubeClient):
    """Plays a script of lists and watches in order; the last watch stays open."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[tuple[str, str]] = []

    async def list(self, resource: Resource, namespace: str | None = None, **query: Any) -> ObjectList:
        self.asked.append(("list", query["continue_token"]))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, ObjectList), "the script expects a watch here"
        return step

    async def watch(self, resource: Resource, namespace: str | None = None, **query: Any) -> AsyncGenerator[WatchEvent]:
        self.asked.append(("watch", query["resource_version"]))
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        if step is None:
            await asyncio.Event().wait()
        assert isinstance(step, list), "the script expects a list here"
        for item in step:
            if isinstance(item, Exception):
                raise item
            yield item


class Changes:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        self.seen.append(f"{'+' if old is None else '-' if new is None else '~'}{name}")


@asynccontextmanager
async def running(script: Scripted, **options: Any) -> AsyncIterator[tuple[Cache, list[str]]]:
    changes = Changes()
    cache = Cache(script, CONFIG_MAP, "ns", on_change=changes, backoff_base=0.001, backoff_max=0.002, **options)
    task = asyncio.create_task(cache.run())
    try:
        yield cache, changes.seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def event(kind: Any, body: Object) -> WatchEvent:
    return WatchEvent(kind, body)


async def test_it_lists_in_pages_and_follows() -> None:
    """All pages are one list; adds, changes and deletions come through; bookmarks move the version only."""
    script = Scripted(
        listing(obj("a", 1), version=5, more="p2"),
        listing(obj("b", 2), version=5),
        [
            event("ADDED", obj("c", 6)),
            event("MODIFIED", obj("a", 7)),
            event("DELETED", obj("b", 8)),
            event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
        ],
    )
    async with running(script) as (cache, seen):
        await asyncio.wait_for(cache.synced.wait(), 5)
        await until(lambda: len(script.asked) == 4)
        assert seen == ["+a", "+b", "+c", "~a", "-b"]
        assert script.asked == [("list", ""), ("list", "p2"), ("watch", "5"), ("watch", "20")]
        assert [o["metadata"]["name"] for o in cache.list("ns")] == ["a", "c"]
        assert cache.get("a", "ns") == obj("a", 7)
        assert cache.list("elsewhere") == ()


async def test_after_410_what_vanished_is_reported() -> None:
    """A new list emits what is new, what changed and what is gone; what is as it was stays quiet."""
    script = Scripted(
        listing(obj("a", 1), obj("b", 2), obj("c", 3), version=5),
        [Gone("expired", status=410, reason="Expired")],
        listing(obj("a", 1), obj("b", 9), obj("d", 10), version=11),
    )
    async with running(script) as (cache, seen):
        await until(lambda: script.asked[-1:] == [("watch", "11")])
        assert seen == ["+a", "+b", "+c", "~b", "+d", "-c"]
        assert cache.stats.lists == 2


async def test_a_continue_token_that_expired_starts_the_list_again() -> None:
    """A 410 between two pages begins anew and forgets nothing."""
    script = Scripted(
        listing(obj("a", 1), version=5, more="p2"),
        Gone("expired", status=410, reason="Expired"),
        listing(obj("a", 1), obj("b", 2), version=6),
    )
    async with running(script) as (cache, seen):
        await asyncio.wait_for(cache.synced.wait(), 5)
        assert seen == ["+a", "+b"]


async def test_a_dropped_connection_goes_on_where_it_was() -> None:
    """After a fault the watch resumes from the last version seen, without a new list."""
    script = Scripted(
        listing(version=5),
        [event("ADDED", obj("a", 6)), Unavailable("cut off")],
        Unavailable("refused"),
        Unavailable("refused"),
        [event("ADDED", obj("b", 7))],
    )
    async with running(script) as (_, seen):
        await until(lambda: script.asked[-1:] == [("watch", "7")])
        assert seen == ["+a", "+b"]
        assert script.asked[1:] == [("watch", "5"), ("watch", "6"), ("watch", "6"), ("watch", "6"), ("watch", "7")]


async def test_refusals_and_outages_are_waited_out() -> None:
    """Neither a 403 nor an outage at the start ends the cache; it is synced once a list succeeds."""
    script = Scripted(
        Forbidden("no", status=403, reason="Forbidden"), Unavailable("away"), listing(obj("a", 1), version=1)
    )
    async with running(script) as (cache, seen):
        assert not cache.synced.is_set()
        await asyncio.wait_for(cache.synced.wait(), 5)
        assert seen == ["+a"]
        assert cache.stats.faults == 2


async def test_how_long_it_has_been_failing() -> None:
    """From the first fault of a row until a list, an event or a settled watch shows that the server can be followed."""
    script = Scripted(
        Unavailable("away"),
        listing(obj("a", 1), version=1),
        Unavailable("cut off"),
        [event("MODIFIED", obj("a", 2)), Unavailable("cut off again")],
    )
    failing: list[bool] = []

    class Told(Changes):
        def __call__(self, old: Object | None, new: Object | None) -> None:
            super().__call__(old, new)
            failing.append(cache.failing_for > 0)

    changes = Told()
    cache = Cache(script, CONFIG_MAP, "ns", on_change=changes, backoff_base=0.001, backoff_max=0.002)
    assert cache.failing_for == 0
    task = asyncio.create_task(cache.run())
    try:
        await until(lambda: len(script.asked) == 5)
        assert changes.seen == ["+a", "~a"]
        assert failing == [True, False]
        await until(lambda: cache.failing_for > 0)
        cache._watching_since = -SETTLED_SECONDS
        assert cache.failing_for == 0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_the_server_asks_for_is_kept() -> None:
    """Retry-After is longer than the backoff, so it counts."""
    script = Scripted(Unavailable("busy", after=0.2), listing(version=1))
    began = asyncio.get_running_loop().time()
    async with running(script) as (cache, _):
        await asyncio.wait_for(cache.synced.wait(), 5)
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_projection_and_indexes() -> None:
    """Memory holds the projection; indexes follow every change, deletions included."""
    script = Scripted(
        listing(obj("a", 1, app="x"), obj("b", 2, app="x"), version=2),
        [event("MODIFIED", obj("a", 3, app="y")), event("DELETED", obj("b", 4, app="x"))],
    )

    def by_app(body: Object) -> list[str]:
        return [body["metadata"]["labels"]["app"]]

    async with running(script, project=metadata_only, indexes={"app": by_app}) as (cache, _):
        await until(lambda: script.asked[-1:] == [("watch", "4")])
        assert [o["metadata"]["name"] for o in cache.by("app", "y")] == ["a"]
        assert cache.by("app", "x") == ()
        assert "data" not in (cache.get("a", "ns") or {})
        assert len(cache) == 1
        assert cache._indexes == {"app": {"y": {("ns", "a")}}}


async def test_the_handler_sees_the_whole_object() -> None:
    """A projection saves memory; it does not hide anything from whoever hears of a change."""
    heard: list[Object | None] = []
    cache = Cache(
        Scripted(listing(obj("a", 1), version=1)),
        CONFIG_MAP,
        "ns",
        on_change=lambda _, new: heard.append(new),
        project=metadata_only,
    )
    task = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.synced.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert heard == [obj("a", 1)]


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered() -> None:
    """Watches that end at once with nothing to say are repeated with growing pauses."""
    script = Scripted(listing(version=1), *([] for _ in range(50)))
    changes = Changes()
    cache = Cache(script, CONFIG_MAP, "ns", on_change=changes, backoff_base=0.05, backoff_max=5.0)
    task = asyncio.create_task(cache.run())
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert cache.stats.watches < 10


@pytest.mark.parametrize("kept", ["name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"])
def test_metadata_only_keeps_identity(kept: str) -> None:
    """Key mappers find what they need in the projection."""
    full = {"apiVersion": "v1", "kind": "X", "metadata": {kept: "value", "managedFields": []}, "spec": {}}
    assert metadata_only(full) == {"apiVersion": "v1", "kind": "X", "metadata": {kept: "value"}}


@pytest.mark.integration
async def test_it_follows_an_api_server(kube: KubeClient, namespace: str) -> None:
    """Pages, changes, an object that leaves the selection and deletions, as an API server really tells them."""

    def body(name: str, app: str = "x") -> Object:
        return {"metadata": {"name": name, "namespace": namespace, "labels": {"app": app}}, "data": {"a": "1"}}

    for index in range(5):
        await kube.create(CONFIG_MAP, body(f"old-{index}"))
    changes = Changes()
    cache = Cache(kube, CONFIG_MAP, namespace, labels="app=x", on_change=changes, page_size=2)
    task = asyncio.create_task(cache.run())
    try:
        await asyncio.wait_for(cache.synced.wait(), 10)
        assert changes.seen == [f"+old-{index}" for index in range(5)]
        changes.seen.clear()
        await kube.create(CONFIG_MAP, body("new"))
        await kube.create(CONFIG_MAP, body("other", app="y"))
        await kube.patch(CONFIG_MAP, "new", {"data": {"a": "2"}}, namespace)
        await kube.patch(CONFIG_MAP, "old-0", {"metadata": {"labels": {"app": "y"}}}, namespace)
        await kube.delete(CONFIG_MAP, "old-1", namespace)
        await until(lambda: len(changes.seen) == 4)
        assert changes.seen == ["+new", "~new", "-old-0", "-old-1"]
        stored = cache.get("new", namespace)
        assert stored is not None
        assert stored["data"] == {"a": "2"}
        assert len(cache) == 4
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
