"""Performs effects, one at a time, each idempotent: performing a decision twice ends in the same world.

Called by ``reconcile.py`` only. It decides nothing and swallows nothing but what ``decision.py`` calls success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

from kubernaut_ray.contracts import fencing
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.control.decision import Audit, Call, Create, Delete, Effect, Patch, Performer
from kubernaut_ray.control.lease import Fenced
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound

Stamping = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Returns the annotations by which an object to create says who owns its shard. Raises ``Fenced``."""


class NameTaken(Permanent):
    """The deterministic name of a child belongs to somebody else's object."""

    def __init__(self, effect: Create, existing: Object) -> None:
        metadata = existing.get("metadata") or {}
        super().__init__(
            f"{effect.resource.kind} {metadata.get('namespace', '')}/{metadata.get('name', '')} exists and is not ours; "
            "delete or rename it",
            reason="NameTaken",
        )


class Effects:
    """Performs the effects of one controller."""

    def __init__(
        self, client: KubeClient, audit: AuditSink, performers: Mapping[str, Performer], stamp: Stamping
    ) -> None:
        self._client = client
        self._stamp = stamp
        self._audit = audit
        self._performers = performers

    async def perform(self, effect: Effect) -> Object | None:
        """Perform one effect; the object as it stands afterwards, for those that write one."""
        match effect:
            case Create():
                return await self._create(effect)
            case Patch():
                return await self._patch(effect)
            case Delete():
                await self._delete(effect)
            case Audit():
                await self._audit.record(effect.event)
            case Call():
                await self._call(effect)
            case _:
                assert_never(effect)
        return None

    async def _create(self, effect: Create) -> Object:
        metadata = effect.obj["metadata"]
        annotations = {**(metadata.get("annotations") or {}), **self._stamp(effect.obj)}
        body = {**effect.obj, "metadata": {**metadata, "annotations": annotations}} if annotations else effect.obj
        try:
            return await self._client.create(effect.resource, body)
        except AlreadyExists:
            pass
        except Forbidden as error:
            if error.reason == fencing.REFUSED:
                raise Fenced(str(error)) from error
            raise
        try:
            existing = await self._client.get(effect.resource, metadata["name"], metadata.get("namespace"))
        except NotFound as error:
            raise Retryable(
                f"{effect.resource.kind} {metadata['name']} vanished while it was created", after=0
            ) from error
        if not effect.tolerate_foreign and not is_mine(effect, existing):
            raise NameTaken(effect, existing)
        return existing

    async def _patch(self, effect: Patch) -> Object | None:
        body: dict[str, Any] = dict(effect.patch)
        if effect.resource_version is not None:
            body["metadata"] = {**body.get("metadata", {}), "resourceVersion": effect.resource_version}
        namespace = effect.key.namespace or None
        try:
            return await self._client.patch(
                effect.resource, effect.key.name, body, namespace, subresource=effect.subresource
            )
        except NotFound:
            return None

    async def _delete(self, effect: Delete) -> None:
        name, namespace = effect.key.name, effect.key.namespace or None
        try:
            try:
                await self._client.delete(effect.resource, name, namespace, uid=effect.uid)
            except Conflict:
                # Another object has the name by now; any other conflict leaves ours where it is.
                if (await self._client.get(effect.resource, name, namespace))["metadata"].get("uid") == effect.uid:
                    raise
        except NotFound:
            return

    async def _call(self, effect: Call) -> None:
        performer = self._performers.get(effect.performer)
        if performer is None:
            raise Permanent(f"no performer {effect.performer!r} is registered", reason="NoPerformer")
        await performer(effect)


def is_mine(effect: Create, existing: Object) -> bool:
    """Whether an object found under the name is the one this effect would have created."""
    metadata = existing.get("metadata") or {}
    if effect.owner_uid:
        owners = metadata.get("ownerReferences") or ()
        return any(owner.get("uid") == effect.owner_uid and owner.get("controller") for owner in owners)
    labels = metadata.get("labels") or {}
    return all(labels.get(name) == value for name, value in (effect.mine or {}).items())
