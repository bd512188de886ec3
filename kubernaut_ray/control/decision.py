"""What a controller decides, as values: a new status, effects in order, and when to look again.

The effects are a closed union; ``effects.py`` performs each. All are idempotent, so that performing a decision twice, or
half of it and then all of it again, ends in the same world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.base import CustomResource, Model
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource


class Key(NamedTuple):
    """An object's address within its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Create:
    """Create a child under its deterministic name.

    AlreadyExists is success when ``owner_uid`` controls the existing object or, without ``owner_uid``, when every label in
    ``mine`` matches. A name taken by somebody else raises ``NameTaken`` unless ``tolerate_foreign`` is set (the controller
    then sees the foreign object when it observes again).
    """

    resource: Resource
    obj: Mapping[str, Any]
    owner_uid: str = ""
    mine: Mapping[str, str] | None = None
    tolerate_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge-patch an object (or a subresource of it). With ``resource_version`` it is conditional. NotFound is success."""

    resource: Resource
    key: Key
    patch: Mapping[str, Any]
    subresource: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object with this UID; NotFound and another UID under the name are success."""

    resource: Resource
    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Record a fact. The event id is deterministic, so a fact told twice is stored once."""

    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Call:
    """Start outside work through a performer that the controller registered under ``performer``.

    The performer must be idempotent for equal ``id`` and must not block on the work itself: what comes of it is observed
    later, like a child.
    """

    performer: str
    id: str
    payload: Mapping[str, Any]


Effect = Create | Patch | Delete | Audit | Call

S = TypeVar("S", bound=Model)
"""The status model of a kind."""
Seen = TypeVar("Seen")
"""What a controller observes: a frozen dataclass."""


@dataclass(frozen=True, slots=True)
class Decision(Generic[S]):
    """``status`` is the whole new status (the engine patches the difference), or ``None`` for no change.

    ``reason`` is CamelCase and says why, for logs and metrics; doing nothing has a reason too.
    """

    reason: str
    status: S | None = None
    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None
    rests: bool = False
    """Once this is written, only an event (of the object, of a child just created, of anything watched) or ``wake_at`` moves it
    on: the loop need not look again of itself. A child that was there before, with a status, is looked at all the same."""
    settled: bool = False
    """Nothing but ``wake_at`` or a change of the object itself will ever move it again: a resync may pass it over."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A kind whose changes wake this controller. ``keys`` maps a changed object to the keys to look at again.

    ``namespace`` ``None`` watches all namespaces; ``sharded`` adds the fleet's shard selector to the watch.
    """

    resource: Resource
    keys: KeyMapper
    namespace: str | None = None
    labels: str = ""
    sharded: bool = True


class KeyMapper(Protocol):
    def __call__(self, obj: Object, /) -> Sequence[Key]: ...


class PhaseTable(Protocol):
    """The kind's transition table; see ``phases.py``."""

    def check(self, old: str, new: str) -> None: ...


class Performer(Protocol):
    """Performs ``Call`` effects of one name."""

    async def __call__(self, call: Call, /) -> None: ...


class Controller(Protocol[Seen, S]):
    """One controller, for one kind. Everything it needs (client, settings, clients of services) comes by its constructor.

    Plain attributes satisfy the properties.
    """

    @property
    def name(self) -> str: ...

    @property
    def resource(self) -> Resource: ...

    @property
    def model(self) -> type[CustomResource]: ...

    @property
    def phases(self) -> PhaseTable: ...

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Besides the controller's own kind, which is always watched."""
        ...

    @property
    def performers(self) -> Mapping[str, Performer]: ...

    def phase_of(self, status: S) -> str:
        """The phase of a status as text, empty when unset."""
        ...

    async def observe(self, key: Key) -> Seen | None:
        """Read everything needed to judge, from the source of truth or as it was told last (``recall.py``, which says when that
        will do). ``None``: the object is gone.
        """
        ...

    def subject(self, observed: Seen) -> CustomResource:
        """The controller's own object inside what it observed (its status and resourceVersion are the write's base)."""
        ...

    def decide(self, observed: Seen, now: datetime) -> Decision[S]:
        """Pure and total."""
        ...

    async def start(self) -> None:
        """Called once before the first reconcile (open caches, sessions)."""
        ...

    async def stop(self) -> None:
        """Called on drain, after the last reconcile."""
        ...
