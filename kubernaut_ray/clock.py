"""Time as an argument: the one place that reads the wall clock, and the RFC 3339 forms used on the wire."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the current instant, timezone-aware, in UTC."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def utcnow() -> datetime:
    """Return the current instant in UTC."""
    return datetime.now(UTC)


@functools.lru_cache(maxsize=4096)
def rfc3339(instant: datetime) -> str:
    """Render an instant as RFC 3339 with microseconds and ``Z`` (metav1.MicroTime). The same few are written again and again."""
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    return instant.isoformat(timespec="microseconds")[:-6] + "Z"  # less +00:00


def parse_rfc3339(text: str) -> datetime:
    """Parse RFC 3339 (any precision, any offset) into UTC. Raises ``ValueError`` on anything else."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; RFC 3339 wants one, for example 2026-01-31T12:00:00Z")
    return in_utc(instant)


def in_utc(instant: datetime) -> datetime:
    """Return an instant in UTC. Raises ``ValueError`` for one that only another zone can name (the ends of the calendar)."""
    if instant.tzinfo is UTC:
        return instant
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the instant is outside the years 1 to 9999 in UTC") from error


@functools.lru_cache(maxsize=1024)
def parse_duration(text: str) -> timedelta:
    """Parse a Go-style duration such as ``1h30m``, ``45s``, ``250ms`` or ``7d``. Raises ``ValueError`` otherwise."""
    position, seconds = 0, 0.0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        seconds += float(match[1]) * _UNIT[match[2]]
        position = match.end()
    if position != len(text) or not text:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 15m, 1h30m")
    return timedelta(seconds=seconds)


def format_duration(delta: timedelta) -> str:
    """Render a duration the way Go does, to whole seconds: ``1h30m0s``, ``2m34s``, ``9s``."""
    seconds = max(0, round(delta.total_seconds()))
    hours, rest = divmod(seconds, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{secs}s"
    return f"{minutes}m{secs}s" if minutes else f"{secs}s"
