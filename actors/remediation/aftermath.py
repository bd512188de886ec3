"""What is left to do for a finished RemediationRequest: its notifications, its duplicates, and its removal in the end.

A cancelled one's children are looked for once more at each look: one that arrives late is called off like the others.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from actors.remediation import children, moves, summary
from actors.remediation.moves import Mark
from actors.remediation.observe import DELIVERED_CONDITION, Observed, settled
from kubernaut_ray import clock, names
from kubernaut_ray.contracts import lineage
from kubernaut_ray.control.decision import Create, Decision, Delete, Key, Patch
from kubernaut_ray.crds.enums import DeliveryState, NotificationPriority, NotificationType
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import Settings

TOLD = "AuditTrailComplete"
LOOK_AGAIN = timedelta(hours=1)
"""How often the trail is asked again about what it does not tell."""


def ended(seen: Observed, now: datetime, settings: Settings) -> Decision[Status]:
    """Once everything is delivered only the retention time is waited for; children go with their owner."""
    request, status = seen.request, seen.request.status
    if status.overall_phase is Phase.CANCELLED and (late := moves.cancel_children(seen, investigation=True)):
        return Decision("LateChildrenCalledOff", effects=late, wake_at=now)
    if settled(status):
        due = status.retention_expiry_time is not None and now >= status.retention_expiry_time
        if not due or seen.untold is None:
            return Decision("Finished", wake_at=status.retention_expiry_time, settled=True)
        return _kept(seen, seen.untold, now, settings) if seen.untold else _removed(seen, now)
    bulk = names.notification("bulk", request.name)
    if seen.duplicates and all(ref.name != bulk for ref in status.notification_request_refs):
        return _duplicates(seen, now, settings)
    return _deliveries(seen, now, settings)


def _removed(seen: Observed, now: datetime) -> Decision[Status]:
    """Its UID is remembered first, so that its name does not come back; the ConfigMap for that is made where there is none."""
    request, known = seen.request, seen.lineage
    fingerprint = request.spec.signal_fingerprint
    place = Key(request.namespace, lineage.named(fingerprint))
    last = lineage.Last(clock.rfc3339(request.created), request.uid)
    change = lineage.entry(known, fingerprint, last)
    if known is None:
        body = {"metadata": {"name": place.name, "namespace": place.namespace}, "data": change}
        return Decision("LineageBegun", effects=(Create(resources.CONFIG_MAP, body),), wake_at=now)
    version = str(known["metadata"]["resourceVersion"])
    noted = (Patch(resources.CONFIG_MAP, place, {"data": change}, resource_version=version),) if change else ()
    gone = Delete(resources.REMEDIATION_REQUEST, Key(request.namespace, request.name), request.uid)
    return Decision("RetentionOver", effects=(*noted, gone))


def _kept(seen: Observed, untold: tuple[str, ...], now: datetime, settings: Settings) -> Decision[Status]:
    """What happened must be on record before the objects go; what is missing may still lie in a spool."""
    why = f"it is kept: the audit trail does not tell {', '.join(untold[:5])}"
    kept = moves.stay(
        seen, "AuditIncomplete", now, settings.orchestrator, marks=(Mark(TOLD, False, "Incomplete", why),)
    )
    return replace(kept, wake_at=now + LOOK_AGAIN)


def _duplicates(seen: Observed, now: datetime, settings: Settings) -> Decision[Status]:
    """One message for all that waited, not one each."""
    notice = children.notification(
        seen.request,
        "bulk",
        summary.duplicates(seen, seen.duplicates),
        type_=NotificationType.STATUS_UPDATE,
        priority=NotificationPriority.LOW,
        metadata=summary.routing(seen, type="bulk-duplicate"),
    )
    return moves.stay(
        seen,
        "DuplicatesSummarised",
        now,
        settings.orchestrator,
        notify=(notice,),
        duplicate_count=len(seen.duplicates),
        duplicate_refs=seen.duplicates[:100],
    )


def _deliveries(seen: Observed, now: datetime, settings: Settings) -> Decision[Status]:
    """A message that cannot be delivered, or that a person deletes, never changes the remediation's outcome."""
    match moves.delivery(seen):
        case DeliveryState.PENDING | DeliveryState.IN_PROGRESS:
            return moves.stay(seen, "WaitingForDelivery", now, settings.orchestrator)
        case None:
            mark = Mark(DELIVERED_CONDITION, True, "NothingToDeliver")
        case DeliveryState.SENT:
            mark = Mark(DELIVERED_CONDITION, True, "Delivered")
        case DeliveryState.CANCELLED:
            mark = Mark(DELIVERED_CONDITION, False, "UserCancelled", "the notification was deleted before it was sent")
        case DeliveryState.FAILED:
            mark = Mark(DELIVERED_CONDITION, False, "DeliveryFailed", "see status.deliveryAttempts of the notification")
    over = moves.stay(seen, mark.reason, now, settings.orchestrator, marks=(mark,))
    return replace(over, rests=True, settled=True)
