"""The log and console channels: the message as one structured log event."""

from __future__ import annotations

import structlog

from actors.notification import render
from actors.notification.render import Message

_log = structlog.get_logger(__name__)


class LogChannel:
    async def send(self, message: Message, /) -> None:
        _log.info("notification", **render.document(message))
