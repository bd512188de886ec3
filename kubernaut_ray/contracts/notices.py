"""Telling Data Storage of a notification (contracts 12.1): a flat form for senders outside, kept as an audit event."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from kubernaut_ray.contracts.base import Contract, StrictContract
from kubernaut_ray.crds.base import Timestamp


class NoticeChannel(StrEnum):
    EMAIL = "email"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"
    WEBHOOK = "webhook"


class NoticeStatus(StrEnum):
    SENT = "sent"
    FAILED = "failed"
    PENDING = "pending"


class NotificationNotice(StrictContract):
    """One delivery, by its id. It is a fact: to tell another outcome, tell it under another id."""

    remediation_id: Annotated[str, Field(min_length=1, max_length=255)]
    notification_id: Annotated[str, Field(min_length=1, max_length=255)]
    recipient: Annotated[str, Field(min_length=1, max_length=500)]
    channel: NoticeChannel
    message_summary: Annotated[str, Field(min_length=1, max_length=1000)]
    status: NoticeStatus
    sent_at: Timestamp
    delivery_status: Annotated[str, Field(max_length=1000)] = ""
    """What the channel answered, for example ``200 OK``."""
    error_message: Annotated[str, Field(max_length=1000)] = ""
    escalation_level: Annotated[int, Field(ge=0, le=5)] = 0


class NoticeRecorded(Contract):
    """``stored`` is false when this very notification was told before."""

    event_id: str
    notification_id: str
    stored: bool
