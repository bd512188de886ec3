"""What an adapter is, and what all of them refuse alike.

The gateway's app calls, in this order and for every delivery: ``check_media_type`` before the body is read,
``authenticate`` once it is there, then ``parse``.
"""

from __future__ import annotations

from typing import Protocol

from serve_apps.gateway.signal import Delivery, Parsed
from serve_apps.problem import Problem


class Adapter(Protocol):
    @property
    def route(self) -> str:
        """The path below ``/api/v1/signals``."""
        ...

    @property
    def media_types(self) -> tuple[str, ...]:
        """The content types it reads; anything else is refused with 415. Empty: the adapter itself judges it."""
        ...

    @property
    def repeats(self) -> bool:
        """Tell whether it reads Alertmanager's form and the labels alone say what an alert is, so that repeats need no parsing."""
        ...

    async def authenticate(self, delivery: Delivery) -> None:
        """Prove that the source sent this, as far as the source offers a proof beyond the caller's token.

        Raises ``Problem`` 403 when it is not so, ``InvalidInput`` when the proof cannot be read, and ``Retryable`` when it
        cannot be found out now. A handshake that the source starts, such as confirming a subscription, is done here too.
        """
        ...

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        """Return the payload's entries in order, at least one.

        Raises ``InvalidInput`` when the payload as a whole is not readable; a single bad entry is ``Malformed`` instead.
        """
        ...


class TokenSuffices:
    """The part of an adapter whose source has no other proof than the caller's token, which was checked before."""

    async def authenticate(self, delivery: Delivery) -> None:
        """Nothing more to prove."""


def check_media_type(adapter: Adapter, content_type: str) -> None:
    """Refuse with 415 what the adapter does not read."""
    if not adapter.media_types:
        return
    media_type = media_type_of(content_type)
    if media_type not in adapter.media_types:
        raise Problem(415, detail=f"send {' or '.join(adapter.media_types)}, not {media_type or 'nothing'}")


def media_type_of(content_type: str) -> str:
    """Return type and subtype in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()
