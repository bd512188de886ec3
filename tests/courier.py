"""A small but whole controller for the engine's own tests: a NotificationRequest is carried out by writing a ConfigMap.

New → Pending (a fact is recorded) → Sending (the parcel, a ConfigMap child, is made; the outside is called) → Sent as soon
as the parcel is there (its receipt is patched into it, and a draft of the same name plus ``-draft``, if any, is deleted).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernaut_ray import names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import (
    Audit,
    Call,
    Controller,
    Create,
    Decision,
    Delete,
    Effect,
    Key,
    Patch,
    Performer,
    Watch,
)
from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import AuditCategory, NotificationPhase, NotificationType
from kubernaut_ray.crds.notification_request import (
    NotificationRequest,
    NotificationRequestSpec,
    NotificationRequestStatus,
)
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP, NOTIFICATION_REQUEST

ACCEPTED = "courier.parcel.accepted"

PHASES = PhaseTable(
    "NotificationRequest",
    {
        "": {NotificationPhase.PENDING: "seen"},
        NotificationPhase.PENDING: {NotificationPhase.SENDING: "the parcel is packed"},
        NotificationPhase.SENDING: {NotificationPhase.SENT: "the parcel is there"},
        NotificationPhase.SENT: {},
    },
)


@dataclass(frozen=True, slots=True)
class Seen:
    notification: NotificationRequest
    parcel: Object | None
    draft: Object | None


def decide(seen: Seen, now: datetime) -> Decision[NotificationRequestStatus]:
    own, status = seen.notification, seen.notification.status
    match status.phase:
        case None:
            fact = AuditEvent.fact(
                ACCEPTED,
                correlation_id=own.name,
                category=AuditCategory.NOTIFICATION,
                now=now,
                actor="courier",
            )
            new = status.replace(phase=NotificationPhase.PENDING, queued_at=now)
            return Decision("Accepted", new, (Audit(fact),), wake_at=now)
        case NotificationPhase.PENDING:
            effects = (
                Create(CONFIG_MAP, _parcel(own), owner_uid=own.uid),
                Call("bell", own.name, {"subject": own.spec.subject}),
            )
            return Decision("Packed", status.replace(phase=NotificationPhase.SENDING), effects)
        case NotificationPhase.SENDING if seen.parcel is not None:
            key = Key(own.namespace, own.name)
            done: tuple[Effect, ...] = (Patch(CONFIG_MAP, key, {"data": {"receipt": "signed"}}),)
            if seen.draft is not None:
                draft = Key(own.namespace, f"{own.name}-draft")
                done += (Delete(CONFIG_MAP, draft, seen.draft["metadata"]["uid"]),)
            return Decision("Arrived", status.replace(phase=NotificationPhase.SENT, completion_time=now), done)
        case _:
            return Decision("Waiting")


def _parcel(own: NotificationRequest) -> Object:
    return {
        "metadata": {
            "name": own.name,
            "namespace": own.namespace,
            "labels": names.shard_label(own.name),
            "ownerReferences": [own.owner_reference],
        },
        "data": {"subject": own.spec.subject},
    }


class Courier:
    """The controller; see the module."""

    name = "courier"
    resource = NOTIFICATION_REQUEST
    model = NotificationRequest
    phases = PHASES
    watches = (Watch(CONFIG_MAP, lambda obj: [Key(obj["metadata"]["namespace"], obj["metadata"]["name"])]),)

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self.rung: list[str] = []
        self.performers: Mapping[str, Performer] = {"bell": self._ring}

    async def _ring(self, call: Call, /) -> None:
        self.rung.append(call.id)

    def phase_of(self, status: NotificationRequestStatus) -> str:
        return status.phase or ""

    async def observe(self, key: Key) -> Seen | None:
        obj = await self._get(NOTIFICATION_REQUEST, key.name, key.namespace)
        if obj is None:
            return None
        parcel = await self._get(CONFIG_MAP, key.name, key.namespace)
        draft = await self._get(CONFIG_MAP, f"{key.name}-draft", key.namespace)
        return Seen(NotificationRequest.from_object(obj), parcel, draft)

    async def _get(self, resource: Any, name: str, namespace: str) -> Object | None:
        try:
            return await self._client.get(resource, name, namespace)
        except NotFound:
            return None

    def subject(self, observed: Seen) -> NotificationRequest:
        return observed.notification

    def decide(self, observed: Seen, now: datetime) -> Decision[NotificationRequestStatus]:
        return decide(observed, now)

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


def build(deps: Deps) -> Controller[Seen, NotificationRequestStatus]:
    """Make the controller as the fleet does."""
    return Courier(deps.client)


def request(name: str, namespace: str = names.SYSTEM_NAMESPACE, subject: str = "hello") -> Object:
    """A NotificationRequest to carry out."""
    spec = NotificationRequestSpec(type=NotificationType.SIMPLE, subject=subject, body="body")
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": names.shard_label(name)},
        "spec": spec.to_object(),
    }
