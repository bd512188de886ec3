"""A random life of a NotificationRequest: channels that fail, refuse, hang or take the message and do not say so.

Nothing is called sent that was not; nothing is sent twice without saying that it may be; it ends, and each delivery's end is
told once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from actors.notification.config import RoutingFile
from actors.notification.controller import NotificationController
from actors.notification.route import Table
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import NotificationSettings, Settings
from tests import build
from tests.machines import Machine, Trouble, examples, places, troubles

SETTINGS = Settings(notification=NotificationSettings(output_directory=Path("unused"), timeout=0.05))
TABLE = Table.of(
    RoutingFile.model_validate(
        {
            "route": {"receiver": "ops"},
            "receivers": [{"name": "ops", "webhook_configs": [{"url": "https://a.example/"}], "log_configs": [{}]}],
        }
    )
)
OWNER = build.remediation_request()
REQUEST = build.notification_request(owner=OWNER)
WAYS = ("takes", "takes", "fails", "fails", "refuses", "waits", "loses the answer")


class _Controller(NotificationController):
    """Sends into the machine's channels."""

    def __init__(self, deps: Deps, life: Life) -> None:
        super().__init__(deps, now=lambda: life.now)
        self._routing._table = TABLE
        self._life = life

    async def start(self) -> None:
        """Nothing to open."""

    async def _send(self, notification: NotificationRequest, key: str, attempt: int, possible_duplicate: bool) -> None:
        await self._life.take(key, possible_duplicate)


class Life(Machine):
    resource, name = resources.NOTIFICATION_REQUEST, REQUEST.name
    patience = timedelta(minutes=10)

    def __init__(self) -> None:
        super().__init__()
        self.way: dict[str, str] = {}
        self.arrived: Counter[str] = Counter()
        self.unmarked: Counter[str] = Counter()

    def build(self) -> NotificationController:
        return _Controller(Deps(self.client, SETTINGS, Endpoints(), lambda: "token", lambda *_: None), self)

    def bury(self) -> None:
        if self.controller is not None:
            tasks = list(self.controller._outbox._tasks.values())
            for task in tasks:
                task.cancel()
            self.run(_end(tasks))

    async def take(self, key: str, possible_duplicate: bool) -> None:
        await asyncio.sleep(0)
        match self.way.get(key, "takes"):
            case "fails":
                raise Retryable("503", after=7.0)
            case "refuses":
                raise Permanent("404")
            case "waits":
                await asyncio.sleep(3600)
        self.arrived[key] += 1
        self.unmarked[key] += not possible_duplicate
        if self.way.get(key) == "loses the answer":
            await asyncio.sleep(3600)

    @initialize()
    def begin(self) -> None:
        self.run(self.kube.create(self.resource, REQUEST.to_object()))

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule()
    def what_is_on_its_way_arrives(self) -> None:
        for _ in range(4):
            self.run(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([1, 20, 31, 70, 600]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(key=st.sampled_from(["ops/webhook", "ops/log"]), way=st.sampled_from(WAYS))
    def a_channel_changes(self, key: str, way: str) -> None:
        self.way[key] = way

    @invariant()
    def it_stays_ended(self) -> None:
        self.an_end_is_an_end()

    @invariant()
    def a_second_copy_says_so(self) -> None:
        """Only the first copy may look like one; every other was marked a possible duplicate."""
        assert all(count <= 1 for count in self.unmarked.values())

    def calm(self) -> None:
        """Everything that still waits is answered: the channels take what they are given."""
        self.way.clear()
        if self.controller is not None:
            for _ in range(4):
                self.run(asyncio.sleep(0))
            hanging = [t for t in self.controller._outbox._tasks.values() if not t.done()]
            if hanging:
                self.run(asyncio.wait(hanging))  # They give up by themselves, soon.

    def at_rest(self) -> None:
        """The counts say what happened."""
        obj = self.found()
        assert obj is not None
        status = obj["status"]
        good = {a["channel"] for a in status["deliveryAttempts"] if a["status"] == "success"}
        assert good <= {key for key, count in self.arrived.items() if count}
        assert status.get("successfulDeliveries", 0) == len(good)
        assert status.get("failedDeliveries", 0) == 2 - len(good)
        assert (status["phase"] == "Sent") == (len(good) == 2)
        assert self.trail.told("notification.message.sent") == len(good)
        assert self.trail.told("notification.message.failed") == 2 - len(good)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


TestLife = Life.TestCase
TestLife.settings = examples(15)


def test_the_channels_are_the_ones_that_are_routed() -> None:
    """The machine's names of the deliveries are those that the routing gives."""
    keys: list[Any] = [f"ops/{key}" for key, _ in TABLE.receivers["ops"].channels()]
    assert {"ops/webhook", "ops/log"} == set(keys)
