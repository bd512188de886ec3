"""Audit events (contract of Data Storage): append-only facts, one id each, correlated by the RemediationRequest's name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from kubernaut_ray import names
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome

EVENT_VERSION = "1.0"
MAX_BATCH = 10_000


class AuditEvent(Contract):
    """One fact. ``event_type`` is ``<service>.<entity>.<action>``; ``event_data`` never holds a secret."""

    version: str = EVENT_VERSION
    event_id: Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    event_type: Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")]
    event_timestamp: Timestamp
    event_category: AuditCategory
    event_action: Annotated[str, Field(max_length=50)]
    event_outcome: AuditOutcome
    correlation_id: Annotated[str, Field(min_length=1, max_length=255)]
    event_data: dict[str, Any] = {}
    actor_type: Annotated[str, Field(max_length=50)] = "service"
    actor_id: Annotated[str, Field(max_length=255)] = ""
    resource_type: Annotated[str, Field(max_length=100)] = ""
    resource_id: Annotated[str, Field(max_length=255)] = ""
    parent_event_id: str | None = None
    namespace: Annotated[str, Field(max_length=253)] = ""
    cluster_name: Annotated[str, Field(max_length=255)] = ""
    severity: Annotated[str, Field(max_length=20)] = ""
    duration_ms: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def fact(
        cls,
        event_type: str,
        *,
        correlation_id: str,
        category: AuditCategory,
        now: datetime,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        actor: str,
        key: tuple[str, ...] = (),
        **rest: Any,
    ) -> AuditEvent:
        """Build an event whose id depends only on its type, correlation id and ``key`` (what makes this fact this fact)."""
        return cls(
            event_id=names.audit_event_id(event_type, correlation_id, *key),
            event_type=event_type,
            event_timestamp=now,
            event_category=category,
            event_action=event_type.rsplit(".", 1)[-1][:50],
            event_outcome=outcome,
            correlation_id=correlation_id,
            actor_id=actor,
            **rest,
        )


class AuditBatch(Contract):
    events: Annotated[tuple[AuditEvent, ...], Field(min_length=1, max_length=MAX_BATCH)]


class AuditBatchResult(Contract):
    """``stored`` are new; ``duplicates`` were stored before (same event id)."""

    stored: int
    duplicates: int = 0


class Pagination(Contract):
    limit: int
    offset: int
    total: int
    has_more: bool


class AuditPage(Contract):
    data: tuple[AuditEvent, ...]
    pagination: Pagination
