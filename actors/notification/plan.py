"""Which deliveries a notification asks for: by the routing tree, or by the channels that its spec names.

A delivery that cannot be made (a channel that no receiver configures, a receiver that left the routing file) stays in the
plan with its problem, so that it ends as refused and not as never wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from actors.notification.channels import file
from actors.notification.channels.apprise import AppriseChannel
from actors.notification.channels.base import Channel, Surroundings
from actors.notification.channels.email import EmailChannel
from actors.notification.channels.file import FileChannel
from actors.notification.channels.log import LogChannel
from actors.notification.channels.pagerduty import PagerDutyChannel
from actors.notification.channels.slack import SlackChannel
from actors.notification.channels.teams import TeamsChannel
from actors.notification.channels.webhook import WebhookChannel
from actors.notification.config import (
    AppriseConfig,
    ChannelConfig,
    EmailConfig,
    FileConfig,
    LogConfig,
    PagerDutyConfig,
    Receiver,
    SlackConfig,
    TeamsConfig,
    WebhookConfig,
)
from actors.notification.route import Table, attributes
from kubernaut_ray.crds.enums import Channel as ChannelName
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.errors import Permanent


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one place. ``key`` names it for good; exactly one of ``config`` and ``problem`` is set."""

    key: str
    config: ChannelConfig | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    receivers: tuple[str, ...]
    deliveries: tuple[Delivery, ...]


def plan(notification: NotificationRequest, table: Table) -> Plan:
    """Return where the notification goes. Receivers that were resolved before stay, whatever the file says now."""
    if notification.spec.channels:
        names = dict.fromkeys(notification.spec.channels)
        return Plan((), tuple(_explicit(notification, name, table) for name in names))
    receivers = notification.status.receivers or table.resolve(attributes(notification))
    return Plan(receivers, tuple(_routed(receivers, table)))


def open_channel(delivery: Delivery, notification: NotificationRequest, surroundings: Surroundings) -> Channel:
    """Make the channel of a delivery. Raises ``Permanent`` where the notification asks for something impossible."""
    spec = notification.spec
    named = bool(spec.channels)
    match delivery.config:
        case LogConfig():
            return LogChannel()
        case FileConfig() as config:
            base = config.output_directory or surroundings.output_directory
            wanted = spec.file_delivery_config
            if wanted is None:
                return FileChannel(base, config.format)
            return FileChannel(file.inside(base, wanted.output_directory), wanted.format)
        case SlackConfig() as config:
            channels = [to.slack for to in spec.recipients if to.slack] if named else []
            return SlackChannel(config, surroundings, channels[0] if channels else "")
        case EmailConfig() as config:
            recipients = tuple(to.email for to in spec.recipients if to.email) if named else ()
            return EmailChannel(config, surroundings, recipients)
        case PagerDutyConfig() as config:
            return PagerDutyChannel(config, surroundings)
        case TeamsConfig() as config:
            return TeamsChannel(config, surroundings)
        case WebhookConfig() as config:
            return WebhookChannel(config, surroundings)
        case AppriseConfig() as config:
            return AppriseChannel(config, surroundings)
        case _:
            raise Permanent(delivery.problem or f"{delivery.key}: no such channel", reason="NoSuchChannel")


def _routed(receivers: tuple[str, ...], table: Table) -> Iterator[Delivery]:
    for name in receivers:
        receiver = table.receivers.get(name)
        if receiver is None:
            yield Delivery(name, problem=f"receiver {name!r} is no longer in the routing file")
            continue
        for key, config in receiver.channels():
            yield Delivery(f"{name}/{key}", config)


def _explicit(notification: NotificationRequest, name: ChannelName, table: Table) -> Delivery:
    key = str(name)
    match name:
        case ChannelName.LOG | ChannelName.CONSOLE:
            return Delivery(key, LogConfig())
        case ChannelName.FILE:
            return Delivery(key, _configured(key, table) or FileConfig())
        case ChannelName.WEBHOOK:
            urls = [to.webhook_url for to in notification.spec.recipients if to.webhook_url]
            if urls:
                return Delivery(key, WebhookConfig(url=SecretStr(urls[0])))
        case ChannelName.SMS:
            key = "apprise"
        case _:
            pass
    config = _configured(key, table)
    if config is None:
        problem = f"channel {name} is asked for, but no receiver of the routing file has {key}_configs"
        return Delivery(str(name), problem=problem)
    return Delivery(str(name), config)


def _configured(kind: str, table: Table) -> ChannelConfig | None:
    """The first configuration of a channel, the root receiver's before the others'."""
    ordered: list[Receiver] = sorted(table.receivers.values(), key=lambda r: r.name != table.root.receiver)
    for receiver in ordered:
        for key, config in receiver.channels():
            if key.partition("[")[0] == kind:
                return config
    return None
