"""What people do with silences: make, change, expire, list; by the rules of Alertmanager's ``silence.Set`` and ``Expire``.

An active silence may get another end, a pending one other times; anything else makes a new silence and expires the old one, so
that what was silenced stays on record. The new one comes first: between the two nothing slips through. Reads go to the API
server, because whoever made a silence looks for it at once, and perhaps at another replica.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from kubernaut_ray import names
from kubernaut_ray.clock import Clock, rfc3339
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.silences import PostedSilence
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.base import ObjectMeta
from kubernaut_ray.crds.enums import AuditCategory, SilenceState
from kubernaut_ray.crds.silence import Silence, SilenceMatcher, SilenceSpec
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.kube.errors import Conflict
from kubernaut_ray.kube.resources import SILENCE
from serve_apps.gateway.silences.store import Silences
from serve_apps.gateway.silences.windows import window

CONFLICT_ATTEMPTS = 5

log = structlog.get_logger(__name__)


class Changes:
    """``by`` is always the authenticated user, who need not be the ``createdBy`` that was sent."""

    def __init__(self, silences: Silences, audit: AuditSink, now: Clock, cluster_name: str = "") -> None:
        self._silences, self._audit, self._now, self._cluster_name = silences, audit, now, cluster_name
        self._client, self._namespace = silences.client, silences.namespace

    async def list(self) -> tuple[Silence, ...]:
        page = await self._client.list(SILENCE, self._namespace)
        found = []
        for obj in page.items:
            try:
                found.append(Silence.from_object(obj))
            except ValidationError as error:
                log.warning("gateway.silence_unusable", silence=obj["metadata"]["name"], error=str(error))
        return tuple(found)

    async def get(self, name: str) -> Silence:
        """Raises ``NotFound``."""
        return Silence.from_object(await self._client.get(SILENCE, name, self._namespace))

    async def put(self, posted: PostedSilence, by: str) -> Silence:
        """Make a silence, or change the one it names. Raises ``InvalidInput``, ``NotFound``, ``Conflict``."""
        _check(posted, self._now())
        if not posted.id:
            return await self._create(posted, by)

        def changed(old: Silence, now: datetime) -> dict[str, Any] | None:
            return _meant(posted, old).to_object() if _may_change(old.spec, posted, now) else None

        old, new = await self._change(posted.id, changed, by, "updated")
        if new is not None:
            return new
        made = await self._create(posted.replace(time_intervals=_meant(posted, old).time_intervals), by)
        await self.expire(old.name, by)
        return made

    async def expire(self, name: str, by: str) -> None:
        """End a silence now; one that has ended already stays as it is. Raises ``NotFound``, ``Conflict``."""

        def ended(old: Silence, now: datetime) -> dict[str, Any] | None:
            match state(old.spec, now):
                case SilenceState.EXPIRED:
                    return None
                case SilenceState.ACTIVE:
                    return {"endsAt": rfc3339(now)}
                case SilenceState.PENDING:
                    return {"startsAt": rfc3339(now), "endsAt": rfc3339(now)}

        await self._change(name, ended, by, "expired")

    async def _create(self, posted: PostedSilence, by: str) -> Silence:
        now = self._now()
        made = Silence(
            metadata=ObjectMeta(
                name=str(uuid.uuid4()),
                namespace=self._namespace,
                annotations={names.ANNOTATION_AUTHENTICATED_USER: by, names.ANNOTATION_UPDATED_AT: rfc3339(now)},
            ),
            spec=SilenceSpec(
                matchers=posted.matchers,
                starts_at=max(posted.starts_at, now),
                ends_at=posted.ends_at,
                created_by=posted.created_by,
                comment=posted.comment,
                time_intervals=posted.time_intervals or (),
            ),
        )
        stored = Silence.from_object(await self._client.create(SILENCE, made.to_object(), self._namespace))
        await self._done("created", stored, by)
        return stored

    async def _change(
        self, name: str, change: Callable[[Silence, datetime], dict[str, Any] | None], by: str, what: str
    ) -> tuple[Silence, Silence | None]:
        """Return the silence as it was, and as it is if ``change`` gave a patch of its spec."""
        for _ in range(CONFLICT_ATTEMPTS):
            old, now = await self.get(name), self._now()
            spec = change(old, now)
            if spec is None:
                return old, None
            notes = {names.ANNOTATION_AUTHENTICATED_USER: by, names.ANNOTATION_UPDATED_AT: rfc3339(now)}
            metadata = {"resourceVersion": old.metadata.resource_version, "annotations": notes}
            try:
                obj = await self._client.patch(SILENCE, name, {"metadata": metadata, "spec": spec}, self._namespace)
            except Conflict:
                continue  # Its count was written meanwhile, or somebody else changed it.
            new = Silence.from_object(obj)
            await self._done(what, new, by)
            return old, new
        raise Conflict(f"Silence {name} changes faster than it can be {what}")

    async def _done(self, what: str, silence: Silence, by: str) -> None:
        """Put it on record, and answer only when this replica goes by it."""
        spec = silence.spec
        log.info("gateway.silence_changed", change=what, silence=silence.name, by=by)
        event = AuditEvent.fact(
            f"gateway.silence.{what}",
            correlation_id=silence.name,
            category=AuditCategory.GATEWAY,
            now=self._now(),
            actor=by[:255],
            actor_type="user",
            key=(silence.uid, str(silence.metadata.generation)),
            resource_type=silence.kind(),
            resource_id=silence.name,
            namespace=self._namespace,
            cluster_name=self._cluster_name,
            event_data={
                "matchers": [str(matcher.compiled()) for matcher in spec.matchers],
                "starts_at": rfc3339(spec.starts_at),
                "ends_at": rfc3339(spec.ends_at),
                "time_intervals": [interval.to_object() for interval in spec.time_intervals],
                "created_by": spec.created_by,
                "comment": spec.comment[:1000],
                "silenced_count": silence.status.silenced_count,
            },
        )
        try:
            await self._audit.record(event)
        except KubernautError as error:
            log.warning("gateway.audit_failed", event_type=event.event_type, silence=silence.name, error=str(error))
        await self._silences.seen(silence)


def state(spec: SilenceSpec, now: datetime) -> SilenceState:
    """Return where it stands by its start and end alone."""
    if now >= spec.ends_at:
        return SilenceState.EXPIRED
    return SilenceState.PENDING if now < spec.starts_at else SilenceState.ACTIVE


def _check(posted: PostedSilence, now: datetime) -> None:
    problems: list[tuple[str, str]] = []
    if posted.starts_at >= posted.ends_at:
        problems.append(("endsAt", "start time must be before end time"))
    elif posted.ends_at <= now:
        problems.append(("endsAt", "end time can't be in the past"))
    narrow = False
    for i, matcher in enumerate(posted.matchers):
        try:
            narrow |= matcher.compiled().narrows
        except InvalidInput as error:
            problems.append((f"matchers[{i}]", str(error)))
            narrow = True
    if not narrow:
        problems.append(("matchers", "at least one matcher must not match the empty string"))
    for i, interval in enumerate(posted.time_intervals or ()):
        try:
            window(interval, f"timeIntervals[{i}]")
        except InvalidInput as error:
            problems += error.problems
    if problems:
        told = "; ".join(f"{path}: {what}" for path, what in problems)
        raise InvalidInput(f"silence invalid: {told}", problems=tuple(problems))


def _may_change(old: SilenceSpec, posted: PostedSilence, now: datetime) -> bool:
    """Whether a change is one of the same silence (Alertmanager's ``canUpdate``)."""
    if _set(old.matchers) != _set(posted.matchers):
        return False
    match state(old, now):
        case SilenceState.ACTIVE:
            return int(posted.starts_at.timestamp()) == int(old.starts_at.timestamp())
        case SilenceState.PENDING:
            return posted.starts_at >= now
        case SilenceState.EXPIRED:
            return False


def _meant(posted: PostedSilence, old: Silence) -> SilenceSpec:
    """Return the spec of a changed silence. Clients that know nothing of windows must not widen it by leaving them out."""
    windows = old.spec.time_intervals if posted.time_intervals is None else posted.time_intervals
    return old.spec.replace(
        starts_at=posted.starts_at,
        ends_at=posted.ends_at,
        created_by=posted.created_by,
        comment=posted.comment,
        time_intervals=windows,
    )


def _set(matchers: tuple[SilenceMatcher, ...]) -> frozenset[tuple[str, str, str]]:
    return frozenset((m.name, m.operator, m.value) for m in matchers)
