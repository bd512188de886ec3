"""The notification controller as a whole, carried by the real engine: it sends through real channels, and survives crashes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from actors.notification.controller import NotificationController
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.enums import AttemptStatus, NotificationPhase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import NOTIFICATION_REQUEST
from kubernaut_ray.settings import NotificationSettings, Settings
from tests import build, crash
from tests.memory_kube import MemoryKube
from tests.trail import fits

KEY = Key("kubernaut-system", "nr-completion-rr-1")


class Killed(NotificationController):
    """Stops as a process does that is killed: nothing is waited for, nothing written down."""

    async def stop(self) -> None:
        for task in self._outbox._tasks.values():
            task.cancel()
        await asyncio.gather(*self._outbox._tasks.values(), return_exceptions=True)
        if self._surroundings is not None:
            await self._surroundings.session.close()


class Sink:
    def __init__(self) -> None:
        self.events: list[str] = []

    async def record(self, event: Any) -> None:
        self.events.append(fits(event).event_type)


def settings(tmp_path: Path, routing: dict[str, Any] | None = None) -> Settings:
    file = None
    if routing is not None:
        file = tmp_path / "routing.yaml"
        file.write_text(yaml.safe_dump(routing))
    return Settings(data_dir=tmp_path, notification=NotificationSettings(routing_file=file, timeout=5))


def deps(client: KubeClient, chosen: Settings) -> Deps:
    return Deps(client, chosen, Endpoints(), lambda: "token", lambda _ns, _name: None)


async def world(client: KubeClient, **spec: Any) -> None:
    notice = build.notification_request(owner=build.remediation_request(), spec=spec)
    await client.create(NOTIFICATION_REQUEST, notice.to_object())


async def sent(controller: NotificationController) -> None:
    """Wait for what is being sent."""
    if tasks := list(controller._outbox._tasks.values()):
        await asyncio.wait(tasks)


async def settle(controller: NotificationController, kube: MemoryKube, steps: int = 12) -> NotificationRequest:
    reconcile = Reconciler(controller, kube, Sink(), clock=lambda: build.NOW)
    for _ in range(steps):
        await reconcile(KEY)
        await sent(controller)
    return NotificationRequest.from_object(await kube.get(NOTIFICATION_REQUEST, KEY.name, KEY.namespace))


async def test_by_default_it_is_logged_and_written_to_a_file(tmp_path: Path) -> None:
    """No routing file: the log, and one document in the data directory."""
    kube = MemoryKube(lambda: build.NOW)
    await world(kube, body="password: hunter2hunter2")
    controller = NotificationController(deps(kube, settings(tmp_path)))
    await controller.start()
    done = await settle(controller, kube)
    await controller.stop()
    assert (done.status.phase, done.status.successful_deliveries) == (NotificationPhase.SENT, 2)
    [file] = (tmp_path / "notifications").glob("notification-nr-completion-rr-1-*.json")
    document = json.loads(file.read_text())
    assert document["remediationRequest"] == "rr-1"
    assert "hunter2" not in file.read_text()


async def test_an_orderly_stop_leaves_no_doubt(tmp_path: Path) -> None:
    """What was being sent when the system drained is written down: no possible duplicate afterwards."""
    kube = MemoryKube(lambda: build.NOW)
    await world(kube)
    first = NotificationController(deps(kube, settings(tmp_path)))
    await first.start()
    reconcile = Reconciler(first, kube, Sink(), clock=lambda: build.NOW)
    for _ in range(3):
        await reconcile(KEY)
    await first.stop()
    second = NotificationController(deps(kube, settings(tmp_path)))
    await second.start()
    done = await settle(second, kube)
    await second.stop()
    assert done.status.phase is NotificationPhase.SENT
    assert [a.status for a in done.status.delivery_attempts] == [AttemptStatus.SUCCESS] * 2


async def test_a_deleted_notification_is_not_sent(tmp_path: Path) -> None:
    """Deleting it before delivery calls it off."""
    kube = MemoryKube(lambda: build.NOW)
    await world(kube)
    controller = NotificationController(deps(kube, settings(tmp_path)))
    await controller.start()
    reconcile = Reconciler(controller, kube, Sink(), clock=lambda: build.NOW)
    for _ in range(2):
        await reconcile(KEY)
    await kube.delete(NOTIFICATION_REQUEST, KEY.name, KEY.namespace)
    assert (await reconcile(KEY)).gone
    await controller.stop()
    assert not (tmp_path / "notifications").exists()


@pytest.mark.parametrize("directory", ["/etc", "../elsewhere"])
async def test_a_notification_cannot_write_anywhere_it_likes(tmp_path: Path, directory: str) -> None:
    """The file channel stays below its folder."""
    kube = MemoryKube(lambda: build.NOW)
    await world(kube, channels=("file",), file_delivery_config={"output_directory": directory})
    controller = NotificationController(deps(kube, settings(tmp_path)))
    await controller.start()
    done = await settle(controller, kube)
    await controller.stop()
    assert done.status.phase is NotificationPhase.FAILED
    assert "below the configured one" in done.status.message


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(handler: Handler) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]


def webhook(url: str) -> dict[str, Any]:
    return {
        "route": {"receiver": "ops"},
        "receivers": [{"name": "ops", "webhook_configs": [{"url": url}], "file_configs": [{}]}],
    }


async def test_a_crash_anywhere_sends_at_most_once_more_and_says_so(tmp_path: Path) -> None:
    """Killed before and after every write, fact and call: always sent in the end, at most one more, and that one marked."""
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.json())
        return web.Response()

    runner, url = await serve(take)
    chosen = settings(tmp_path, webhook(url))
    alive: list[NotificationController] = []

    def make(client: KubeClient) -> NotificationController:
        alive.append(Killed(deps(client, chosen)))
        return alive[-1]

    async def advance(_: KubeClient) -> None:
        await sent(alive[-1])

    lives = crash._Lives(make, world, KEY, advance, build.NOW, 60)  # type: ignore[arg-type]
    calm, fuse, _ = await lives.run(crash.Fuse())
    assert len(taken) == 1
    differing = ("deliveryAttempts", "totalAttempts", "phase", "message")
    for at in range(len(fuse.passed)):
        taken.clear()
        crashed, _, _ = await lives.run(crash.Fuse(at))
        assert crash._without(calm, differing).objects == crash._without(crashed, differing).objects, fuse.passed[at]
        assert calm.facts == crashed.facts, fuse.passed[at]
        [notice] = [obj for name, obj in crashed.objects.items() if name.startswith("NotificationRequest")]
        assert notice["status"]["phase"] == "Sent", fuse.passed[at]
        assert 1 <= len(taken) <= 2, fuse.passed[at]
        doubted = [document["delivery"]["possibleDuplicate"] for document in taken]
        assert doubted in ([False], [True], [False, True]), fuse.passed[at]
    await runner.cleanup()


async def test_a_breaker_spares_a_way_out_that_is_down(tmp_path: Path) -> None:
    """After three failures the next notifications are held back and keep all their attempts."""
    posts = 0

    async def refuse(_: web.Request) -> web.Response:
        nonlocal posts
        posts += 1
        return web.Response(status=503)

    runner, url = await serve(refuse)
    kube = MemoryKube(lambda: build.NOW)
    controller = NotificationController(deps(kube, settings(tmp_path, webhook(url))), now=lambda: build.NOW)
    await controller.start()
    reconcile = Reconciler(controller, kube, Sink(), clock=lambda: build.NOW)
    for number in range(5):
        notice = build.notification_request(f"nr-{number}")
        await kube.create(NOTIFICATION_REQUEST, notice.to_object())
        for _ in range(6):
            await reconcile(Key(KEY.namespace, notice.name))
            await sent(controller)
    last = NotificationRequest.from_object(await kube.get(NOTIFICATION_REQUEST, "nr-4", KEY.namespace))
    await controller.stop()
    await runner.cleanup()
    assert posts == 3
    assert [a.channel for a in last.status.delivery_attempts] == ["ops/file"]
    assert last.status.next_retry_at == build.later(30)


async def test_a_message_that_was_taken_without_an_answer(tmp_path: Path) -> None:
    """A connection that breaks after the message went out leaves a doubt, and the next copy says that it may be one."""
    told: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        if len(told) == 1 and request.transport is not None:
            request.transport.close()
        return web.Response(text="ok")

    runner, url = await serve(take)
    kube, now = MemoryKube(lambda: build.NOW), [build.NOW]
    await world(kube)
    controller = NotificationController(deps(kube, settings(tmp_path, webhook(url))), now=lambda: now[0])
    await controller.start()
    reconcile = Reconciler(controller, kube, Sink(), clock=lambda: now[0])
    for _ in range(10):
        outcome = await reconcile(KEY)
        await sent(controller)
        now[0] = max(now[0], outcome.wake_at or now[0])
    done = NotificationRequest.from_object(await kube.get(NOTIFICATION_REQUEST, KEY.name, KEY.namespace))
    await controller.stop()
    await runner.cleanup()
    posts = [a for a in done.status.delivery_attempts if "webhook" in a.channel]
    assert [(str(a.status), a.possible_duplicate) for a in posts] == [("timeout", False), ("success", True)]
    assert len(told) == 2
