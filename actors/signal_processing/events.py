"""Kubernetes Events as short lines, newest first. Pure; secrets in messages are taken out."""

from __future__ import annotations

from collections.abc import Iterable

from kubernaut_ray.kube.client import Object
from kubernaut_ray.redact import redact

MAX_EVENTS = 20
MAX_LINE = 512


def recent(events: Iterable[Object], limit: int = MAX_EVENTS) -> tuple[str, ...]:
    """Render the newest events, each once: ``2026-01-31T12:00:00Z Warning BackOff Pod/web-1 ×5: Back-off restarting …``."""
    once = {str((event.get("metadata") or {}).get("uid") or id(event)): event for event in events}
    newest = sorted(once.values(), key=lambda event: (last_seen(event), _name(event)), reverse=True)
    return tuple(_line(event) for event in newest[:limit])


def last_seen(event: Object) -> str:
    """Return the instant of the last occurrence, in either of the two API forms, as text that sorts; empty if unknown."""
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or metadata.get("creationTimestamp")
        or ""
    )


def _line(event: Object) -> str:
    about = event.get("involvedObject") or {}
    count = (event.get("series") or {}).get("count") or event.get("count") or 1
    times = f" ×{count}" if count and count > 1 else ""
    message = " ".join(str(event.get("message") or "").split())
    head = f"{last_seen(event)} {event.get('type', 'Normal')} {event.get('reason', '')} {about.get('kind')}/{about.get('name')}"
    return redact(f"{head}{times}: {message}")[:MAX_LINE]


def _name(event: Object) -> str:
    return str((event.get("metadata") or {}).get("name", ""))
