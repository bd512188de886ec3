"""Notifications told from outside (contracts 12.1), as audit events: one fact for each notification id.

The event's id follows from the notification's id alone, so the store itself sees to it that there is one. Telling the same
again is 200, telling something else under its id is 409: an attempt that ended otherwise has an id of its own.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from catalog.errors import Conflict
from catalog.events import columns
from kubernaut_ray import names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.notices import NoticeRecorded, NoticeStatus, NotificationNotice
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from serve_apps.data_storage.answers import problems
from serve_apps.data_storage.audit import append
from serve_apps.data_storage.deps import Given
from serve_apps.data_storage.strict import StrictRoute
from serve_apps.http import user_of

router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=StrictRoute)

OUTCOMES = {
    NoticeStatus.SENT: AuditOutcome.SUCCESS,
    NoticeStatus.FAILED: AuditOutcome.FAILURE,
    NoticeStatus.PENDING: AuditOutcome.PENDING,
}


@router.post(
    "/audit/notifications",
    status_code=201,
    response_model=NoticeRecorded,
    responses={
        200: {"model": NoticeRecorded, "description": "This very notification was told before."},
        **problems(409),
    },
)
async def record(notice: NotificationNotice, request: Request, deps: Given) -> Response:
    """Record a notification: 201 new, 200 told before with the same content, 409 told before with other content."""
    event = fact(notice, user_of(request).username)
    stored = bool((await append(deps, columns([event]))).stored)
    if not stored:
        before = await deps.catalog.audit_event(event.event_id)
        if before.event_data != event.event_data:
            raise Conflict(
                f"notification {notice.notification_id} was told before with other content; "
                "it is a fact and stays: tell a new attempt under an id of its own"
            )
    told = NoticeRecorded(event_id=event.event_id, notification_id=notice.notification_id, stored=stored)
    return Response(told.model_dump_json(), 201 if stored else 200, media_type="application/json")


def fact(notice: NotificationNotice, by: str) -> AuditEvent:
    """Return the event of a notification; ``by`` is who told it."""
    return AuditEvent(
        event_id=names.audit_event_id("notification.told", "", notice.notification_id),
        event_type=f"notification.message.{notice.status}",
        event_timestamp=notice.sent_at,
        event_category=AuditCategory.NOTIFICATION,
        event_action=notice.status.value,
        event_outcome=OUTCOMES[notice.status],
        correlation_id=notice.remediation_id,
        actor_id=by[:255],
        actor_type="user",
        resource_type="Notification",
        resource_id=notice.notification_id,
        event_data=notice.to_json(),
    )
