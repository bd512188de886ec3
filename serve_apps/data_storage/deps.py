"""What the routes of Data Storage are given, and how a request reaches it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from catalog.client import Catalog
from kubernaut_ray.clock import Clock, parse_duration, parse_rfc3339, utcnow
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.settings import TrustSettings
from serve_apps.data_storage.metrics import Metrics
from serve_apps.http import Gate

SEARCH_THREADS = 2
MAX_OFFSET = 2**53
"""Beyond it JSON numbers are not exact; nobody has as many records."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Deps:
    """``gate`` is ``None`` for in-process callers only. ``audit`` takes what Data Storage says about itself."""

    catalog: Catalog
    gate: Gate | None
    audit: AuditSink
    now: Clock = utcnow
    trust: TrustSettings = TrustSettings()  # noqa: RUF009 - a frozen value
    lifespan: Lifespan | None = None
    metrics: Metrics = field(default_factory=Metrics)
    """Those that the catalog's transport is measured by (``Metrics.measured``)."""
    searchers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(SEARCH_THREADS, thread_name_prefix="search")
    )


async def _deps(request: Request) -> Deps:
    # A coroutine, since FastAPI sends what is none to a thread and back.
    deps: Deps = request.app.state.deps
    return deps


Given = Annotated[Deps, Depends(_deps)]
"""The dependencies, as a route's parameter."""


def instant(text: str, name: str, now: datetime) -> datetime:
    """Read a query parameter that is an instant or an age: ``2026-01-31T12:00:00Z`` or ``24h``. Raises ``InvalidInput``."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        pass
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name}={text!r} is neither an RFC 3339 instant (2026-01-31T12:00:00Z) nor a duration (24h, 30m)",
            problems=((name, "must be an RFC 3339 instant or a duration"),),
        ) from error
