"""Admission webhooks in the way of a write: mutating ones in their order, then the schema, then validating ones at once.

Called by ``handlers.py`` for create, update, patch (also of ``/status``) and delete. Other subresources, and what the
server does itself (garbage collection, namespaces), are not reviewed. While a webhook thinks, others may write: what was
reviewed is stored only if what it replaces is still there, and reviewed again otherwise. Without a configured webhook
nothing of this runs.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from kubernaut_ray.kube.embedded import cel, patches, status
from kubernaut_ray.kube.embedded.authn import User
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.objects import NAMESPACES, DeleteOptions, Draft, Objects, in_version
from kubernaut_ray.kube.embedded.status import ApiStatus, Obj
from kubernaut_ray.kube.embedded.webhook_calls import Caller, CallFailed, Verdict, applied
from kubernaut_ray.kube.embedded.webhooks import TABLES, Hook, Hooks, Operation

ATTEMPTS = 5
"""How often a write is reviewed anew because the object moved meanwhile; kube-apiserver retries a patch as often."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Asked:
    """Who asks for a write, and where warnings for the answer go."""

    user: User
    warnings: list[str]
    verb: str


@dataclass(slots=True)
class _Review:
    """One request as webhooks are told of it; ``obj`` changes as mutating webhooks answer."""

    kind: Kind
    subresource: str
    operation: Operation
    namespace: str
    name: str
    obj: Obj | None
    old: Obj | None
    asked: Asked
    dry_run: bool
    options: Obj

    def request(self, shown: Kind) -> Obj:
        """Return the AdmissionRequest under one version of the kind, with a UID of its own."""
        request: Obj = {
            "uid": str(uuid.uuid4()),
            "kind": _gvk(shown),
            "resource": _gvr(shown),
            "requestKind": _gvk(self.kind),
            "requestResource": _gvr(self.kind),
            "operation": str(self.operation),
            "userInfo": self.asked.user.info(),
            "object": in_version(self.obj, shown) if self.obj is not None else None,
            "oldObject": in_version(self.old, shown) if self.old is not None else None,
            "dryRun": self.dry_run,
            "options": self.options,
        }
        if self.name:
            request["name"] = self.name
        if self.namespace:
            request["namespace"] = self.namespace
        if self.subresource:
            request["subResource"] = request["requestSubResource"] = self.subresource
        return request


class Admission:
    """Reviews writes by the stored webhook configurations."""

    def __init__(self, objects: Objects, registry: Registry, caller: Caller) -> None:
        self._objects, self._registry, self._caller = objects, registry, caller
        self._hooks = Hooks(objects.store)
        self._known: dict[tuple[str, str, str, str], bool] = {}
        self._known_for: tuple[tuple[Hook, ...], int] = ((), 0)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether a rule may cover a write of this kind. Webhook configurations themselves are never reviewed."""
        hooks = (*self._hooks.mutating, *self._hooks.validating)
        if not hooks:
            return False
        if self._known_for != (hooks, self._registry.revision):
            self._known, self._known_for = {}, (hooks, self._registry.revision)
        key = (kind.group, kind.version, kind.plural, subresource)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = kind.table not in TABLES and any(
                hook.shown_as(kind, subresource, operation, self._registry) is not None
                for hook in hooks
                for operation in Operation
            )
        return known

    async def write(self, draft: Callable[[], Draft], asked: Asked) -> Entry:
        """Review and store a draft. Raises ``ApiStatus`` for a refusal; a draft that lost the race is made again."""
        for _ in range(ATTEMPTS):
            made = draft()
            self._objects.shape(made)
            review = self._of(made, asked)
            await self._mutate(review)
            assert review.obj is not None  # noqa: S101 - a draft has one, and a patch leaves one
            made.obj = review.obj
            _keep_identity(made)
            self._objects.finish(made)
            review.obj = made.obj
            await self._validate(review)
            if self._objects.current(made) or asked.verb == "create":  # a taken name stays taken: storing says so
                return self._objects.store_draft(made)
        raise status.modified(made.kind.plural, made.kind.group, made.name)

    async def delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions, asked: Asked
    ) -> tuple[Entry, bool]:
        """Review a deletion and do it."""
        old = in_version(self._objects.get(kind, namespace, name).obj, kind)
        told: Obj = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
        if options.propagation:
            told["propagationPolicy"] = options.propagation
        review = _Review(
            kind, "", Operation.DELETE, namespace, name, None, old, asked, options.dry_run, told
        )  # fmt: skip
        await self._mutate(review)
        await self._validate(review)
        return self._objects.delete(kind, namespace, name, options)

    def _of(self, draft: Draft, asked: Asked) -> _Review:
        operation = Operation.CREATE if draft.entry is None else Operation.UPDATE
        word = "Create" if draft.entry is None else "Patch" if asked.verb == "patch" else "Update"
        options: Obj = {"kind": f"{word}Options", "apiVersion": "meta.k8s.io/v1"}
        if draft.options.manager:
            options["fieldManager"] = draft.options.manager
        return _Review(
            draft.kind,
            draft.subresource,
            operation,
            draft.namespace,
            draft.name,
            draft.obj,
            draft.old,
            asked,
            draft.options.dry_run,
            options,
        )

    async def _mutate(self, review: _Review) -> None:
        """Ask mutating webhooks one after another; those that wish it once more when a later one changed the object."""
        before: set[Hook] = set()
        again: set[Hook] = set()
        for hook in self._hooks.mutating:
            changed = await self._mutate_by(hook, review)
            if changed:
                again |= before
                before.clear()
            if changed is not None and hook.again:
                before.add(hook)
        for hook in self._hooks.mutating:
            if hook in again:
                await self._mutate_by(hook, review)

    async def _mutate_by(self, hook: Hook, review: _Review) -> bool | None:
        """Ask one. Returns whether it changed the object, or ``None`` when it had nothing to say about it."""
        try:
            verdict, shown = await self._ask(hook, review)
            if verdict is None:
                return None
            if verdict.patch is None or review.obj is None:
                return False
            changed = in_version(applied(in_version(review.obj, shown), verdict.patch), review.kind)
        except CallFailed as error:
            _tolerate(hook, error)
            return None
        if changed == review.obj:
            return False
        review.obj = patches.copied(changed)
        return True

    async def _validate(self, review: _Review) -> None:
        """Ask all validating webhooks at once; the first refusal in their order is the answer."""
        hooks = self._hooks.validating
        if not hooks:
            return
        results = await asyncio.gather(*(self._validate_by(h, review) for h in hooks), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _validate_by(self, hook: Hook, review: _Review) -> None:
        try:
            await self._ask(hook, review)
        except CallFailed as error:
            _tolerate(hook, error)

    async def _ask(self, hook: Hook, review: _Review) -> tuple[Verdict | None, Kind]:
        """Call a webhook if it wants to be asked. Raises ``ApiStatus`` when it refuses and ``CallFailed``."""
        shown = hook.shown_as(review.kind, review.subresource, review.operation, self._registry)
        if shown is None or not hook.selects(self._namespace_labels(review), (review.obj, review.old)):
            return None, review.kind
        request = review.request(shown)
        if hook.conditions:
            try:
                if not hook.conditions_hold(request):
                    return None, shown
            except cel.Unevaluable as error:
                raise CallFailed(f"failed to evaluate match conditions: {error}") from error
        verdict = await self._caller.call(hook, request)
        review.asked.warnings += [f"{w}" for w in verdict.warnings]
        if not verdict.allowed:
            raise _denied(hook, verdict.status)
        return verdict, shown

    def _namespace_labels(self, review: _Review) -> dict[str, str] | None:
        """Return the labels that a namespaceSelector is about; ``None`` for what lies in no namespace."""
        if review.kind.table == NAMESPACES:
            obj = review.obj or review.old or {}
            return obj["metadata"].get("labels") or {}
        if not review.namespace:
            return None
        entry = self._objects.store.get(NAMESPACES, "", review.namespace)
        return (entry.obj["metadata"].get("labels") or {}) if entry is not None else {}


def _keep_identity(draft: Draft) -> None:
    """Put back what no webhook may change: it cannot make one object into another."""
    owned: Iterable[str] = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
    before = draft.old["metadata"] if draft.old is not None else None
    metadata = draft.obj["metadata"]
    for key in owned:
        value = before.get(key) if before is not None else metadata.get(key)
        if key == "name" and draft.name:
            value = draft.name
        if key == "namespace":
            value = draft.namespace
        if value:
            metadata[key] = value
        else:
            metadata.pop(key, None)
    draft.obj.update(apiVersion=draft.kind.api_version, kind=draft.kind.kind)
    if draft.subresource == "status" and draft.old is not None:
        # Through /status only the status changes, whoever changes it.
        told = draft.obj.get("status")
        kept = {k: v for k, v in draft.old.items() if k != "status"}
        kept["metadata"] = {**draft.old["metadata"]}
        if "managedFields" in metadata:
            kept["metadata"]["managedFields"] = metadata["managedFields"]
        draft.obj = patches.copied(kept if told is None else {**kept, "status": told})
    elif draft.kind.status:
        draft.obj.pop("status", None)
        if draft.old is not None and "status" in draft.old:
            draft.obj["status"] = patches.copied(draft.old["status"])


def _tolerate(hook: Hook, error: CallFailed) -> None:
    """Let a failed call pass where the webhook's failure policy says so. Raises 500 otherwise."""
    text = f'failed calling webhook "{hook.name}": {error}'
    if hook.fails:
        raise status.internal(text) from error
    _log.warning("admission.webhook_ignored", webhook=hook.name, error=str(error))


def _denied(hook: Hook, given: Any) -> ApiStatus:
    """Make the refusal, as kube-apiserver words it."""
    code = given.get("code")
    code = code if isinstance(code, int) and 400 <= code < 600 else 400
    message, reason = str(given.get("message") or ""), str(given.get("reason") or "")
    by = f'admission webhook "{hook.name}" denied the request'
    text = f"{by}: {message or reason}" if message or reason else f"{by} without explanation"
    details = given.get("details")
    return ApiStatus(code, reason, text, details=details if isinstance(details, dict) else None)


def _gvk(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _gvr(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}
