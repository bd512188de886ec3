"""Slack through an incoming webhook, with Block Kit."""

from __future__ import annotations

from dataclasses import dataclass

from actors.notification import render
from actors.notification.channels import http
from actors.notification.channels.base import Surroundings
from actors.notification.config import SlackConfig
from actors.notification.render import Message


@dataclass(frozen=True, slots=True)
class SlackChannel:
    config: SlackConfig
    surroundings: Surroundings
    channel: str = ""

    async def send(self, message: Message, /) -> None:
        config, credentials = self.config, self.surroundings.credentials
        url = credentials.read("slack", config.url, config.url_file, config.credential_ref)
        shown = {
            "channel": self.channel or config.channel,
            "username": config.username,
            "icon_emoji": config.icon_emoji,
        }
        body = {**render.slack(message), **{name: value for name, value in shown.items() if value}}
        await http.post(self.surroundings, http.prepared("slack", url, body, config.http_config, credentials, {}))
