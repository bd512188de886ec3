"""What the actors that work by themselves have in common: a plain class that starts its work from its constructor.

Ray restarts a killed actor by calling the constructor again, so that is where the work begins: no caller is needed. What it
is given is JSON; what it keeps is cache. ``controller_actor.py`` and ``event_watcher/actor.py`` say what the work is,
``host.py`` and ``fleet.py`` make actors of them; tests use the classes as they are.

``health`` and ``stats`` only read plain values, for Ray calls them on another thread's loop while this one works.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import structlog

from kubernaut_ray import logs
from kubernaut_ray.clients.service import read_token
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.shards import ShardRange
from kubernaut_ray.settings import Settings

BEAT = 5.0
"""Seconds between signs of life of the actor's own event loop."""
STALLED = 60.0

EVENT_WATCHER = "event-watcher"
"""The role, and the name, of the one actor that forwards the cluster's events."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """Everything such an actor is told, JSON-able as a whole. Secrets come by the environment and the token file."""

    plural: str
    first_shard: int
    last_shard: int
    settings: dict[str, Any]
    endpoints: dict[str, str]
    kubeconfig: str | None
    token_file: str | None
    data_dir: str
    builder: str = ""
    """``module:function``; the kind's own when empty."""
    digest: str = ""
    """Of the configuration, so that a new deployment recognises an old actor."""
    role: str = "controller"
    """``controller``, of the kind ``plural``; or ``EVENT_WATCHER``."""

    @property
    def shards(self) -> ShardRange:
        return ShardRange(self.first_shard, self.last_shard)

    @property
    def name(self) -> str:
        return f"{self.role}:{self.plural}:{self.shards}" if self.role == "controller" else self.role

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> Self:
        return cls(**spec)


class Work(Protocol):
    """What an actor runs, as far as it can be told about and ended."""

    @property
    def state(self) -> str: ...

    def drain(self) -> None: ...


class Resident:
    """A subclass's ``_session`` does the work once started, and returns when drained. Needs a running event loop."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = ActorSpec.parse(spec)
        self._settings = Settings.model_validate(self._spec.settings)
        logs.configure(self._settings.log_format, self._settings.log_level)
        self._draining = asyncio.Event()
        self._began = self._beat = time.monotonic()
        self._error = ""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def name(self) -> str:
        return self._spec.name

    async def health(self) -> dict[str, Any]:
        """Whether the loop lives; ``ok`` is false when it ended unasked or its event loop stands still."""
        now = time.monotonic()
        stalled = now - self._beat > STALLED
        ended = self._task.done() and not self._draining.is_set()
        return {
            "ok": not stalled and not ended,
            "name": self._spec.name,
            "state": self._state,
            "digest": self._spec.digest,
            "pid": os.getpid(),
            "seconds": round(now - self._began, 1),
            "error": "the event loop stands still" if stalled else self._trouble(),
        }

    async def stats(self) -> dict[str, Any]:
        """Counters and sizes."""
        return {"state": self._state}

    async def drain(self) -> dict[str, Any]:
        """End the work in hand, deliver what is to deliver, give up what is owned; returns the last counters."""
        self._draining.set()
        if (work := self._work()) is not None:
            work.drain()
        await asyncio.wait({self._task})
        return await self.stats()

    def _work(self) -> Work | None:
        """What ``_session`` runs, once it does."""
        raise NotImplementedError

    async def _session(self) -> None:
        """Connect, and work until drained. What it raises is logged, and it is called again."""
        raise NotImplementedError

    def _beating(self) -> None:
        """Called every few seconds, for instance to export counters."""

    def _trouble(self) -> str:
        """What keeps the work from being done, empty if nothing."""
        return self._error

    @property
    def _state(self) -> str:
        if (work := self._work()) is not None:
            return work.state
        return "stopped" if self._task.done() else "starting"

    @property
    def _endpoints(self) -> Endpoints:
        return Endpoints.model_validate(self._spec.endpoints)

    @property
    def _kubeconfig(self) -> Path | None:
        return Path(self._spec.kubeconfig) if self._spec.kubeconfig else None

    def _token(self) -> str:
        return read_token(Path(self._spec.token_file) if self._spec.token_file else None)

    async def _run(self) -> None:
        """Start, again and again if it must be, and work until drained."""
        pause = 0.5
        beat = asyncio.create_task(self._live())
        try:
            while not self._draining.is_set():
                try:
                    await self._session()
                except Exception as error:
                    self._error = f"{type(error).__name__}: {error}"
                    log.exception("actor.not_started", actor=self._spec.name, again_in=pause)
                    await self._rest(pause)
                    pause = min(pause * 2, 15.0)
        finally:
            beat.cancel()

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not past a drain."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)

    async def _live(self) -> None:
        """Show that the event loop turns."""
        while True:
            self._beat = time.monotonic()
            self._beating()
            await asyncio.sleep(BEAT)


def place(spec: ActorSpec) -> str:
    """Name where an actor lives: the same after a restart on the same data directory, another on another machine."""
    directory = hashlib.sha256(str(Path(spec.data_dir).resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}:{directory}"
