"""PagerDuty Events API v2: one incident a remediation, resolved by the message that says it is fixed."""

from __future__ import annotations

from dataclasses import dataclass

from actors.notification import render
from actors.notification.channels import http
from actors.notification.channels.base import Surroundings
from actors.notification.config import PagerDutyConfig
from actors.notification.render import Message
from kubernaut_ray import clock
from kubernaut_ray.crds.enums import NotificationPriority, NotificationType

_SEVERITY = {
    NotificationPriority.CRITICAL: "critical",
    NotificationPriority.HIGH: "error",
    NotificationPriority.MEDIUM: "warning",
    NotificationPriority.LOW: "info",
}


@dataclass(frozen=True, slots=True)
class PagerDutyChannel:
    config: PagerDutyConfig
    surroundings: Surroundings

    async def send(self, message: Message, /) -> None:
        config, credentials = self.config, self.surroundings.credentials
        key = credentials.read("pagerduty", config.routing_key, config.routing_key_file, config.credential_ref)
        key = key or credentials.read("pagerduty", config.service_key, config.service_key_file)
        body = {
            "routing_key": key,
            "event_action": "resolve" if message.type is NotificationType.COMPLETION else "trigger",
            "dedup_key": f"kubernaut/{message.remediation or message.name}"[:255],
            "payload": {
                "summary": message.subject[:1024],
                "source": message.metadata.get("notification-target") or "kubernaut",
                "severity": config.severity or _SEVERITY[message.priority],
                "timestamp": clock.rfc3339(message.created),
                "class": str(message.type),
                "custom_details": {
                    "text": render.plain(message),
                    "possible_duplicate": message.possible_duplicate,
                    **message.metadata,
                },
            },
            "links": [{"href": link.url, "text": link.label} for link in message.links],
        }
        request = http.prepared("pagerduty", config.url, body, config.http_config, credentials, {})
        await http.post(self.surroundings, http.with_secret(request, key))
