"""How far the watcher has got, kept in one ConfigMap: everything up to there is acknowledged by the gateway.

A position is a point for each stream, that is for each namespace watched. The ConfigMap is written conditionally: who finds
that another hand moved the position does not overwrite it (``Moved``) but begins again from there. A position that cannot
be read is as good as none, and is said to be so in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
import structlog

from kubernaut_ray import clock, names
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP

ALL = "_all"
"""The stream of all namespaces; no namespace can have this name."""

log = structlog.get_logger(__name__)


class Moved(Retryable):
    """Somebody else wrote the position: begin again from what it says now."""


@dataclass(frozen=True, slots=True)
class Point:
    """Everything up to this version of the API server's store, as read by ``at``. No version: a start by time only."""

    version: str
    at: datetime

    def to_text(self) -> str:
        return orjson.dumps({"resourceVersion": self.version, "at": clock.rfc3339(self.at)}).decode()

    @classmethod
    def parse(cls, text: str) -> Point:
        """Raises ``ValueError``."""
        body = orjson.loads(text)
        try:
            return cls(str(body["resourceVersion"]), clock.parse_rfc3339(body["at"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{text!r} has no resourceVersion and at") from error


Position = Mapping[str, Point]
"""A point for each stream, by namespace or ``ALL``."""


def later(version: str, other: str) -> bool | None:
    """Whether one version is after another; ``None`` when they cannot be compared.

    Versions of one kind of resource are integers that grow with time (KEP-5504).
    """
    if not (_is_version(version) and _is_version(other)):
        return None
    return int(version) > int(other)


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit()


def begin(stored: Position, streams: tuple[str, ...], now: datetime) -> dict[str, Point]:
    """Say where each stream begins: where it stood; a new one where the others stood, or now when there are none."""
    oldest = min(stored.values(), key=lambda point: point.at, default=Point("", now))
    return {stream: stored.get(stream) or oldest for stream in streams}


class PositionStore:
    """Reads and writes the position. ``check`` raises while this process is not the owner."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        name: str = names.EVENT_WATCHER,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._check = check
        self._known: dict[str, str] | None = None
        self._version = ""

    async def read(self) -> dict[str, Point]:
        """Read the position; empty when there is none, or none that can be read."""
        await self._load()
        position = {}
        for stream, text in (self._known or {}).items():
            try:
                position[stream] = Point.parse(text)
            except ValueError as error:
                log.warning("event_watcher.position_unreadable", stream=stream, error=str(error))
        return position

    async def write(self, position: Position) -> None:
        """Write the position if it differs from the one written last. Raises ``Moved`` and the client's errors."""
        data = {stream: point.to_text() for stream, point in position.items()}
        if data == self._known:
            return
        self._check()
        known = self._known
        try:
            await self._put(data)
        except (Conflict, AlreadyExists, NotFound):
            # Our own write whose answer was lost, a person's label, or a deletion are no other hand.
            await self._load()
            if self._known not in (None, known, data):
                raise Moved(f"ConfigMap {self._namespace}/{self._name} was written by somebody else") from None
            await self._put(data)

    async def _put(self, data: dict[str, str]) -> None:
        if self._known is None:
            body = {"metadata": {"name": self._name, "namespace": self._namespace}, "data": data}
            made = await self._client.create(CONFIG_MAP, body, self._namespace)
        else:
            gone = {stream: None for stream in self._known if stream not in data}
            patch = {"metadata": {"resourceVersion": self._version}, "data": {**data, **gone}}
            made = await self._client.patch(CONFIG_MAP, self._name, patch, self._namespace)
        self._remember(made)

    async def _load(self) -> None:
        try:
            self._remember(await self._client.get(CONFIG_MAP, self._name, self._namespace))
        except NotFound:
            self._known, self._version = None, ""

    def _remember(self, found: Object) -> None:
        self._known = dict(found.get("data") or {})
        self._version = str(found["metadata"]["resourceVersion"])
