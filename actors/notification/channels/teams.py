"""Microsoft Teams through a workflow webhook, with an Adaptive Card."""

from __future__ import annotations

from dataclasses import dataclass

from actors.notification import render
from actors.notification.channels import http
from actors.notification.channels.base import Surroundings
from actors.notification.config import TeamsConfig
from actors.notification.render import Message


@dataclass(frozen=True, slots=True)
class TeamsChannel:
    config: TeamsConfig
    surroundings: Surroundings

    async def send(self, message: Message, /) -> None:
        config, credentials = self.config, self.surroundings.credentials
        url = credentials.read("teams", config.url, config.url_file, config.credential_ref)
        body = render.adaptive_card(message)
        await http.post(self.surroundings, http.prepared("teams", url, body, config.http_config, credentials, {}))
