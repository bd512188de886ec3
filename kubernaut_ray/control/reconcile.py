"""One reconcile of one object: observe → decide → check → perform effects in order → write the status, last.

No retry, no queue, no clock of its own: ``loop.py`` owns those. The status is the commit point, so a crash at any line is
repaired by running this again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from kubernaut_ray.clock import Clock
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.control.decision import Audit, Controller, Create, Effect, Key, Patch
from kubernaut_ray.control.effects import Effects
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.crds.base import Model
from kubernaut_ray.kube import patch
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import Resource


class Fence(Protocol):
    """Says whether this process still owns its shards. ``check`` and ``stamp`` raise ``Fenced`` when it does not.

    ``stamp`` returns what an object that is created shall say about that, as annotations.
    """

    def check(self) -> None: ...

    def stamp(self, obj: Mapping[str, Any], /) -> Mapping[str, str]: ...


class Unfenced:
    """For a single owner: tests and tools."""

    def check(self) -> None:
        """Always the owner."""

    def stamp(self, _: Mapping[str, Any], /) -> Mapping[str, str]:
        """Nothing to say."""
        return {}


Version = tuple[str, str, str]
"""Plural, name and resourceVersion, within the namespace of one key."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reconcile did. ``resource_version`` is what the status write made, empty when nothing was written."""

    reason: str
    old_phase: str = ""
    new_phase: str = ""
    wake_at: datetime | None = None
    effects: Counter[str] = field(default_factory=Counter)
    resource_version: str = ""
    gone: bool = False
    rests: bool = False
    """See ``Decision``; and no child that was created turned out to have a status already."""
    settled: str = ""
    """The version of the object with which it is settled (see ``Decision``), empty when it is not."""
    echoes: frozenset[Version] = frozenset()
    """The versions that were written, by which their events are known."""

    @property
    def wrote(self) -> bool:
        return bool(self.resource_version)


class Reconciler:
    """Reconciles the objects of one controller, one call each."""

    def __init__(
        self,
        controller: Controller[Any, Any],
        client: KubeClient,
        audit: AuditSink,
        *,
        clock: Clock,
        fence: Fence | None = None,
        recall: Recall | None = None,
    ) -> None:
        self._controller = controller
        self._client = client
        self._recall = Recall() if recall is None else recall
        self._clock = clock
        self._fence: Fence = fence or Unfenced()
        self._effects = Effects(client, audit, controller.performers, self._fence.stamp)

    async def __call__(self, key: Key) -> Outcome:
        """Bring one object a step further. Raises what the API server, the services and the tables raise."""
        controller = self._controller
        observed = await controller.observe(key)
        if observed is None:
            return Outcome("Gone", gone=True)
        subject: Any = controller.subject(observed)
        decision = controller.decide(observed, self._clock())
        old, new = subject.status, subject.status if decision.status is None else decision.status
        old_phase, new_phase = str(controller.phase_of(old)), str(controller.phase_of(new))
        controller.phases.check(old_phase, new_phase)
        done: Counter[str] = Counter()
        version = subject.metadata.resource_version
        rests, echoes = decision.rests, set[Version]()
        for effect in decision.effects:
            self._fence.check()
            result = await self._effects.perform(effect)
            done[type(effect).__name__] += 1
            self._remember(key, effect, result)
            version = _moved(effect, result, controller, key, version)
            if isinstance(effect, Create | Patch) and result is not None:
                echoes.add(_version(effect.resource, result))
                rests = rests and not (isinstance(effect, Create) and result.get("status"))
        written = ""
        change = difference(old, new)
        if change:
            self._fence.check()
            written = await self._write(key, change, version)
        if written:
            echoes.add((controller.resource.plural, key.name, written))
        settled = (written or version) if decision.settled else ""
        return Outcome(
            decision.reason,
            old_phase,
            new_phase,
            decision.wake_at,
            done,
            written,
            rests=rests,
            settled=settled,
            echoes=frozenset(echoes),
        )

    async def _write(self, key: Key, change: dict[str, Any], version: str) -> str:
        body = {"metadata": {"resourceVersion": version}, "status": change}
        try:
            result = await self._client.patch(
                self._controller.resource, key.name, body, key.namespace or None, subresource="status"
            )
        except NotFound:
            return ""  # deleted meanwhile; the deletion wakes whoever cares
        self._recall.note(key, self._controller.resource.plural, result)
        return str(result["metadata"]["resourceVersion"])

    def _remember(self, key: Key, effect: Effect, result: Object | None) -> None:
        """A child that was created is known; what became of anything else, the next observation finds out."""
        if isinstance(effect, Create) and result is not None:
            self._recall.note(key, effect.resource.plural, result)
        elif not isinstance(effect, Audit):
            self._recall.forget(key)


def difference(old: Model, new: Model) -> dict[str, Any]:
    """Return the merge patch from one status to the other; only the fields that differ are written out to be compared."""
    if new is old:
        return {}
    before = old.__dict__
    unlike = {name for name, value in new.__dict__.items() if before[name] != value}
    return patch.diff(
        *(one.model_dump(mode="json", by_alias=True, exclude_none=True, include=unlike) for one in (old, new))
    )


def _version(resource: Resource, obj: Object) -> Version:
    return resource.plural, str(obj["metadata"]["name"]), str(obj["metadata"].get("resourceVersion", ""))


def _moved(effect: Effect, result: Object | None, controller: Controller[Any, Any], key: Key, version: str) -> str:
    """Return the base version of the status write: our own conditional patch moves it, nobody else's change does."""
    own = isinstance(effect, Patch) and effect.key == key and effect.resource == controller.resource
    if own and result is not None and isinstance(effect, Patch) and effect.resource_version == version:
        return str(result["metadata"]["resourceVersion"])
    return version
