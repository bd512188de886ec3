"""A JSON POST to any address, with an idempotency key that is the same for every attempt of one delivery."""

from __future__ import annotations

from dataclasses import dataclass

from actors.notification import render
from actors.notification.channels import http
from actors.notification.channels.base import Surroundings
from actors.notification.config import WebhookConfig
from actors.notification.render import Message


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    config: WebhookConfig
    surroundings: Surroundings

    async def send(self, message: Message, /) -> None:
        config, credentials = self.config, self.surroundings.credentials
        url = credentials.read("webhook", config.url, config.url_file, config.credential_ref)
        headers = {
            "Idempotency-Key": f"{message.uid}/{message.key}",
            "X-Kubernaut-Attempt": str(message.attempt),
            "X-Kubernaut-Possible-Duplicate": "true" if message.possible_duplicate else "false",
        }
        body = render.document(message)
        await http.post(
            self.surroundings, http.prepared("webhook", url, body, config.http_config, credentials, headers)
        )
