"""NotificationRequest: one message to people, routed after Alertmanager's rules, each delivery attempt on record."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    Labels,
    Meta,
    Model,
    ObjectReference,
    PrinterColumn,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import (
    AttemptStatus,
    Channel,
    NotificationPhase,
    NotificationPriority,
    NotificationReason,
    NotificationType,
)


class Recipient(Model):
    email: ShortText = ""
    slack: ShortText = ""
    teams: ShortText = ""
    phone: Annotated[str, Field(pattern=r"^(\+[1-9][0-9]{1,14})?$", max_length=16)] = ""
    webhook_url: Annotated[str, Field(max_length=2048, alias="webhookURL")] = ""


class ActionLink(Model):
    service: ShortText
    url: Annotated[str, Field(max_length=2048)]
    label: ShortText


class RetryPolicy(Model):
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 5
    initial_backoff_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    backoff_multiplier: Annotated[int, Field(ge=1, le=10)] = 2
    max_backoff_seconds: Annotated[int, Field(ge=60, le=3600)] = 480


class FileDeliveryConfig(Model):
    output_directory: ShortText
    format: Literal["json", "yaml"] = "json"


class NotificationRequestSpec(Model):
    remediation_request_ref: ObjectReference | None = None
    type: NotificationType
    priority: NotificationPriority = NotificationPriority.MEDIUM
    recipients: Annotated[tuple[Recipient, ...], Field(max_length=50)] = ()
    subject: Annotated[str, Field(min_length=1, max_length=500)]
    body: Annotated[str, Field(min_length=1, max_length=32768)]
    channels: Annotated[tuple[Channel, ...], Field(max_length=9)] = ()
    """Named channels override the routing."""
    metadata: Labels = Field(default_factory=dict)
    """Routing attributes and facts: severity, environment, priority, namespace, skip-reason, investigation-outcome, …"""
    action_links: Annotated[tuple[ActionLink, ...], Field(max_length=10)] = ()
    retry_policy: RetryPolicy = RetryPolicy()
    file_delivery_config: FileDeliveryConfig | None = None
    retention_days: Annotated[int, Field(ge=1, le=90)] = 7


class DeliveryAttempt(Model):
    channel: ShortText
    """The delivery key: ``receiver/channel`` for routed deliveries, so two Slack receivers are two deliveries."""
    attempt: Annotated[int, Field(ge=1)]
    timestamp: Timestamp
    status: AttemptStatus
    error: Text = ""
    duration_seconds: Annotated[float, Field(ge=0)] = 0.0
    possible_duplicate: bool = False
    """A former attempt ended unseen (a crash), so this one may be the second to arrive."""


class NotificationRequestStatus(Model):
    phase: NotificationPhase | None = None
    observed_generation: int | None = None
    delivery_attempts: Annotated[tuple[DeliveryAttempt, ...], Field(max_length=200)] = ()
    receivers: Annotated[tuple[ShortText, ...], Field(max_length=50)] = ()
    total_attempts: Annotated[int, Field(ge=0)] = 0
    successful_deliveries: Annotated[int, Field(ge=0)] = 0
    failed_deliveries: Annotated[int, Field(ge=0)] = 0
    queued_at: Timestamp | None = None
    processing_started_at: Timestamp | None = None
    completion_time: Timestamp | None = None
    next_retry_at: Timestamp | None = None
    reason: NotificationReason | None = None
    message: Text = ""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class NotificationRequest(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="notificationrequests",
        singular="notificationrequest",
        short_names=("nr", "notif"),
        columns=(
            PrinterColumn("Type", ".spec.type"),
            PrinterColumn("Priority", ".spec.priority"),
            PrinterColumn("Phase", ".status.phase"),
            PrinterColumn("Attempts", ".status.totalAttempts", "integer"),
            PrinterColumn("Subject", ".spec.subject", priority=1),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
    )

    spec: Annotated[NotificationRequestSpec, Field(json_schema_extra=IMMUTABLE)]
    status: NotificationRequestStatus = NotificationRequestStatus()
