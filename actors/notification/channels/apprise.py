"""The long tail (SMS, chat, push services) through Apprise's URLs. It says only yes or no, so every no is tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from actors.notification import render
from actors.notification.channels.base import UNANSWERED, Surroundings
from actors.notification.config import AppriseConfig
from actors.notification.render import Message
from kubernaut_ray.errors import Permanent, Retryable


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    config: AppriseConfig
    surroundings: Surroundings

    async def send(self, message: Message, /) -> None:
        config = self.config
        url = self.surroundings.credentials.read("apprise", config.url, config.url_file, config.credential_ref)
        title, body = message.subject, render.plain(message)
        try:
            async with asyncio.timeout(self.surroundings.timeout):
                taken = await asyncio.to_thread(_notify, url, title, body)
        except TimeoutError:
            raise Retryable(f"apprise: no answer within {self.surroundings.timeout:g} s", reason=UNANSWERED) from None
        if not taken:
            raise Retryable("apprise: the service did not take the message")


def _notify(url: str, title: str, body: str) -> bool:
    import apprise  # slow to import, and seldom used

    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        raise Permanent("apprise: the URL names no service that Apprise knows", reason="InvalidAddress")
    return bool(service.notify(body=body, title=title))
