"""Writes that must happen, for as long as the API server is away: what has been done has to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.errors import Conflict

T = TypeVar("T")
LONGEST = 10.0
_log = structlog.get_logger(__name__)


async def patient(call: Callable[[], Awaitable[T]], *, conflicts: bool = False) -> T:
    """Call until the API server answers. ``conflicts`` are tried again too, where the call reads before it writes."""
    delay = 0.1
    while True:
        try:
            return await call()
        except Conflict:
            if not conflicts:
                raise
        except Retryable as error:
            _log.warning("api.away", error=str(error), again_in=delay)
        await asyncio.sleep(delay)
        delay = min(delay * 2, LONGEST)
