"""A gateway to talk to over real HTTP, events to post, and a watcher between the two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.event_watcher.position import Point, PositionStore
from actors.event_watcher.watcher import EventWatcher
from kubernaut_ray import clock, names
from kubernaut_ray.clients.gateway import EVENT_PATH, Gateway
from kubernaut_ray.control.lease import Lease
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.resources import EVENT
from kubernaut_ray.settings import EventWatcherSettings, Settings
from tests.serving import serving

Answer = tuple[int, dict[str, str]]
TAKEN: Answer = (201, {})
TOKEN = "the-token"


@dataclass
class Door:
    """A gateway: ``answer`` says what to answer to an event, ``taken`` is what was answered 2xx, in that order."""

    answer: Callable[[Object], Answer] = lambda _: TAKEN
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    taken: list[Object] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    url: str = ""

    def app(self) -> Starlette:
        async def take(request: Request) -> Response:
            event = orjson.loads(await request.body())
            self.asked.append(event["metadata"]["name"])
            self.tokens.append(request.headers["authorization"])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await asyncio.sleep(self.delay)
            self.at_once -= 1
            status, headers = self.answer(event)
            if status < 300:
                self.taken.append(event)
            return Response(b'{"detail": "so it is"}', status, headers)

        return Starlette(routes=[Route(EVENT_PATH, take, methods=["POST"])])

    def names(self) -> list[str]:
        return [event["metadata"]["name"] for event in self.taken]


@asynccontextmanager
async def door(**options: Any) -> AsyncIterator[Door]:
    made = Door(**options)
    async with serving(made.app()) as made.url:
        yield made


def settings(namespace: str, **changes: Any) -> Settings:
    """Watch one namespace, which is the system's own too, but not left out for that."""
    fields = {"namespaces": (namespace,), "ignored_namespaces": (), "retry_base": 0.01, "retry_max": 0.05, **changes}
    return Settings(namespace=namespace, event_watcher=EventWatcherSettings(**fields))


@asynccontextmanager
async def watching(
    kube: KubeClient,
    gateway: str,
    given: Settings,
    *,
    token: Callable[[], str] = lambda: TOKEN,
    stem: str = "here",
    now: clock.Clock = clock.utcnow,
    drain: bool = True,
) -> AsyncIterator[EventWatcher]:
    """Run a watcher; in the end it is drained, or else cut off in whatever it does."""
    lease = Lease(kube, given.namespace, names.EVENT_WATCHER, stem, duration=3, renew=1)
    async with Gateway(gateway, token) as client:
        watcher = EventWatcher(kube, client, given, lease=lease, now=now, write_interval=0.02, drain_timeout=5)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            if drain:
                watcher.drain()
            else:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def warn(
    kube: KubeClient,
    namespace: str,
    name: str,
    *,
    about: str = "web",
    kind: str = "Warning",
    at: datetime | None = None,
    **fields: Any,
) -> Object:
    """Post an event about a pod."""
    stamp = clock.rfc3339(at or clock.utcnow())[:19] + "Z"
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": about, "namespace": namespace},
        "type": kind,
        "reason": "BackOff",
        "message": f"{name} happened",
        "source": {"component": "kubelet"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    return await kube.create(EVENT, {**event, **fields}, namespace)


async def position(kube: KubeClient, namespace: str) -> Point | None:
    """What the watcher of one namespace has written."""
    return (await PositionStore(kube, namespace).read()).get(namespace)


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)
