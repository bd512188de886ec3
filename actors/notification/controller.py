"""The NotificationRequest controller: reads, routes, and carries the outbox that really sends.

Secrets are read at each attempt, the routing file is looked at on each observation. On drain it waits for what is being sent
and writes the results down, so that an orderly stop causes no possible duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import aiohttp
import structlog

from actors.notification import check, outbox, phases, render
from actors.notification.breaker import Breaker
from actors.notification.channels.base import Surroundings
from actors.notification.credentials import Credentials
from actors.notification.decide import Observed, decide
from actors.notification.outbox import Outbox
from actors.notification.plan import open_channel, plan
from actors.notification.route import Routing
from kubernaut_ray import clock
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Decision, Key, Performer, PhaseTable, Watch
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.enums import AttemptStatus
from kubernaut_ray.crds.notification_request import NotificationRequest, NotificationRequestStatus
from kubernaut_ray.errors import KubernautError, Permanent
from kubernaut_ray.kube import patch, resources
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource

_log = structlog.get_logger(__name__)


class NotificationController:
    """See ``kubernaut_ray.control.decision.Controller``."""

    name: str = "notification"
    resource: Resource = resources.NOTIFICATION_REQUEST
    model: type[CustomResource] = NotificationRequest
    phases: PhaseTable = phases.TABLE
    watches: tuple[Watch, ...] = ()

    def __init__(self, deps: Deps, *, now: clock.Clock = clock.utcnow) -> None:
        settings = deps.settings.notification
        self._client, self._settings, self._now = deps.client, settings, now
        self._output = settings.output_directory or deps.settings.data_dir / "notifications"
        self._routing = Routing(settings.routing_file)
        self._surroundings: Surroundings | None = None
        self._outbox = Outbox(
            self._send,
            deps.wake,
            now,
            lambda: Breaker(
                settings.breaker_failures, timedelta(seconds=settings.breaker_open), settings.breaker_successes
            ),
            give_up_after=settings.timeout + 2.0,
        )
        self.performers: Mapping[str, Performer] = {
            outbox.INTEND: self._outbox.intend,
            outbox.DELIVER: self._outbox.deliver,
        }

    def phase_of(self, status: NotificationRequestStatus) -> str:
        return str(status.phase or "")

    async def observe(self, key: Key) -> Observed | None:
        try:
            found = NotificationRequest.from_object(await self._client.get(self.resource, key.name, key.namespace))
        except NotFound:
            self._outbox.forget(key, frozenset(), "")
            return None
        on_record = frozenset(
            (attempt.channel, attempt.attempt)
            for attempt in found.status.delivery_attempts
            if attempt.status is AttemptStatus.SENDING
        )
        self._outbox.forget(key, on_record, found.uid)
        return Observed(found, plan(found, self._routing.current()), self._outbox.local(found.uid), self._outbox.held())

    def subject(self, observed: Observed) -> CustomResource:
        return observed.notification

    def decide(self, observed: Observed, now: datetime) -> Decision[NotificationRequestStatus]:
        return decide(observed, now)

    async def start(self) -> None:
        """Read the routing file, which must be good by now, and open the HTTP session."""
        table = self._routing.load()
        for problem in check.unusable(table, Credentials(self._settings.credentials_directory)):
            _log.warning("routing.unusable", problem=problem)
        self._surroundings = Surroundings(
            session=aiohttp.ClientSession(),
            credentials=Credentials(self._settings.credentials_directory),
            output_directory=self._output,
            timeout=self._settings.timeout,
        )

    async def stop(self) -> None:
        """Wait for what is being sent and write down how it went."""
        for key in await self._outbox.drain():
            try:
                await self._record(key)
            except KubernautError as error:
                _log.warning("notification.unrecorded", notification=str(key), error=str(error))
        if self._surroundings is not None:
            await self._surroundings.session.close()

    async def _record(self, key: Key) -> None:
        seen = await self.observe(key)
        if seen is None:
            return
        known = tuple(
            attempt.replace(status=end.status, error=end.error, duration_seconds=end.seconds)
            if isinstance(end := seen.local.get((attempt.channel, attempt.attempt)), outbox.Ended)
            and attempt.status is AttemptStatus.SENDING
            else attempt
            for attempt in seen.notification.status.delivery_attempts
        )
        old = seen.notification.status
        change = patch.diff(old.to_object(), old.replace(delivery_attempts=known).to_object())
        if change:
            version = seen.notification.metadata.resource_version
            body = {"metadata": {"resourceVersion": version}, "status": change}
            await self._client.patch(self.resource, key.name, body, key.namespace, subresource="status")

    async def _send(self, notification: NotificationRequest, key: str, attempt: int, possible_duplicate: bool) -> None:
        if self._surroundings is None:
            raise Permanent("the notification controller was not started", reason="NotStarted")
        planned = plan(notification, self._routing.current())
        delivery = next((d for d in planned.deliveries if d.key == key), None)
        if delivery is None:
            raise Permanent(f"{key} is no longer in the routing file", reason="NoSuchChannel")
        message = render.message(notification, key, attempt, possible_duplicate=possible_duplicate)
        await open_channel(delivery, notification, self._surroundings).send(message)


def build(deps: Deps) -> NotificationController:
    return NotificationController(deps)
