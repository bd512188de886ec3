"""What every channel is given and what it owes.

``send`` returns when the other side took the message. It raises ``Retryable`` for a passing fault (network, time-out, 408,
429, 5xx) and ``Permanent`` for a lasting one (other 4xx, TLS, unusable recipient or credentials). No error carries a secret:
addresses of webhooks are secrets too, so errors name hosts only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from actors.notification.credentials import Credentials
from actors.notification.render import Message

UNANSWERED = "Unanswered"
"""Reason of a ``Retryable`` where the message may have been taken all the same: the next copy says that it may be one."""


class Channel(Protocol):
    async def send(self, message: Message, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What channels use from outside. One HTTP session serves all of them; ``timeout`` is seconds for one attempt."""

    session: aiohttp.ClientSession
    credentials: Credentials
    output_directory: Path
    timeout: float = 10.0
