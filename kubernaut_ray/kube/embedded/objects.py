"""The life of an object: create, read, change, delete, the same for every kind, with the kind's rules asked in between.

Everything here is synchronous: between reading the old state and storing the new one nothing else can run, so every change
is atomic. The HTTP layer waits for the commit before it answers. Ownership of fields (``managedFields``) and garbage
collection live in files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import managed, meta, patches, status
from kubernaut_ray.kube.embedded import schema as structural
from kubernaut_ray.kube.embedded.builtin_rules import component_node, component_plain
from kubernaut_ray.kube.embedded.builtin_schemas import OBJECT_META
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.status import Cause, Obj
from kubernaut_ray.kube.embedded.store import Store

Change = Callable[[Obj], Obj]
"""Makes the wanted object of a copy-on-write view of the current one; must not change its argument."""

NAMESPACES = "namespaces."
IMMUTABLE_NAMESPACES = frozenset({"default", "kube-system"})
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(slots=True)
class Options:
    """What a request says about how to write. ``warnings`` collects what the answer's headers must tell."""

    dry_run: bool = False
    manager: str = ""
    field_validation: str = "Warn"
    force: bool = False
    applying: bool = False
    """The change comes from server-side apply, which has settled ownership itself."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    uid: str | None = None
    resource_version: str | None = None
    propagation: str = ""
    grace_seconds: int | None = None
    dry_run: bool = False


@dataclass(slots=True)
class Draft:
    """A write that is understood and not made yet: ``obj`` would be stored in place of ``entry`` (``None``: it is new)."""

    kind: Kind
    namespace: str
    name: str
    obj: Obj
    options: Options
    entry: Entry | None = None
    old: Obj | None = None
    """What the entry holds, in this version of the kind."""
    subresource: str = ""


class Objects:
    """Reads and writes objects of any kind. ``created`` hooks may add to a kind's creation (for example a CRD's check)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.before_write: list[Callable[[Kind, Obj, Obj | None], None]] = []

    def get(self, kind: Kind, namespace: str, name: str) -> Entry:
        """Return the object. Raises 404."""
        entry = self.store.get(kind.table, namespace, name)
        if entry is None:
            raise status.not_found(kind.plural, kind.group, name)
        return entry

    def create(self, kind: Kind, namespace: str, given: Obj, options: Options) -> Entry:
        """Store a new object. Raises 409, 422, 403 or 404 (no such namespace)."""
        return self.commit(self.draft_new(kind, namespace, given, options))

    def draft_new(self, kind: Kind, namespace: str, given: Obj, options: Options) -> Draft:
        """Make the draft of a new object: named, with the metadata that the server owns."""
        metadata = self._checked_metadata(kind, namespace, given)
        if metadata.get("resourceVersion"):
            raise status.bad_request("resourceVersion should not be set on objects to be created")
        metadata = meta.new_metadata(metadata)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = meta.generated(str(metadata["generateName"]))
            while self.store.get(kind.table, namespace, metadata["name"]) is not None:
                metadata["name"] = meta.generated(str(metadata["generateName"]))
        if kind.generation:
            metadata["generation"] = 1
        obj: Obj = {"apiVersion": kind.api_version, "kind": kind.kind, **_without(given, "apiVersion", "kind")}
        obj["metadata"] = metadata
        if kind.status:
            obj.pop("status", None)
        return Draft(kind, namespace, metadata.get("name") or "", obj, options)

    def change(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Change,
        options: Options,
        *,
        subresource: str = "",
        create: bool = False,
    ) -> tuple[Entry, bool]:
        """Change an object (or create it, with ``create``). Returns it and whether it was created.

        A ``metadata.resourceVersion`` or ``uid`` that the change leaves in the object is a precondition: 409 when it differs.
        """
        draft = self.draft_change(kind, namespace, name, change, options, subresource=subresource, create=create)
        return self.commit(draft), draft.entry is None

    def draft_change(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Change,
        options: Options,
        *,
        subresource: str = "",
        create: bool = False,
    ) -> Draft:
        """Make the draft of a change; its preconditions hold."""
        old_entry = self.store.get(kind.table, namespace, name)
        if old_entry is None:
            if not create:
                raise status.not_found(kind.plural, kind.group, name)
            blank: Obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
            if kind.namespaced:
                blank["metadata"]["namespace"] = namespace
            wanted = change(blank)
            if wanted.get("metadata", {}).get("uid"):
                raise status.conflict(
                    kind.plural, kind.group, name, "Precondition failed: the object has a uid but does not exist"
                )
            wanted["metadata"].pop("resourceVersion", None)
            return self.draft_new(kind, namespace, wanted, options)
        old = in_version(old_entry.obj, kind)
        wanted = change(old)
        if not isinstance(wanted, dict):
            raise status.bad_request("the result of the patch is no object")
        given = self._checked_metadata(kind, namespace, wanted, name=name)
        if given.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise status.modified(kind.plural, kind.group, name)
        if given.get("uid") not in (None, "", old["metadata"]["uid"]):
            raise status.conflict(
                kind.plural,
                kind.group,
                name,
                f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {old['metadata']['uid']}",
            )
        obj = _combined(kind, old, {**wanted, "metadata": given}, subresource)
        if subresource == "status" and kind.rules.piecewise:
            # What a status write cannot change is shared with the version before, which marks it as seen.
            if "status" in obj:
                obj["status"] = patches.copied(obj["status"])
            before = old["metadata"]
            metadata = obj["metadata"].items()
            obj["metadata"] = {k: v if v is before.get(k) else patches.copied(v) for k, v in metadata}
        else:
            obj = patches.copied(obj)
        obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        return Draft(kind, namespace, name, obj, options, old_entry, old, subresource)

    def commit(self, draft: Draft) -> Entry:
        """Finish a draft and store it."""
        self.finish(draft)
        return self.store_draft(draft)

    def shape(self, draft: Draft) -> None:
        """Prune and default a draft in place, without judging it: what mutating admission is shown."""
        self._shape(draft.kind, draft.obj, draft.old, draft.options)

    def finish(self, draft: Draft) -> None:
        """Complete a draft in place: prune, default, validate, and note ownership and generation."""
        kind, obj, old = draft.kind, draft.obj, draft.old
        self._finish(kind, obj, old, draft.options, draft.subresource)
        if old is not None and kind.generation and _desired(kind, obj) != _desired(kind, old):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def current(self, draft: Draft) -> bool:
        """Whether what the draft replaces is still what is stored."""
        return self.store.get(draft.kind.table, draft.namespace, draft.name) is draft.entry

    def store_draft(self, draft: Draft) -> Entry:
        """Store a finished draft, which must be current."""
        kind, namespace, name, obj = draft.kind, draft.namespace, draft.name, draft.obj
        if draft.entry is None:
            self._namespace_accepts(kind, namespace, name)
            if self.store.get(kind.table, namespace, name) is not None:
                raise status.already_exists(kind.plural, kind.group, name)
        elif obj == draft.old:
            return draft.entry
        for hook in self.before_write:
            hook(kind, obj, draft.old)
        if draft.options.dry_run:
            return _unsaved(obj)
        if draft.entry is not None and "deletionTimestamp" in obj["metadata"] and self._may_go(kind, obj):
            self.store.put(kind.table, namespace, name, obj)
            return self.store.remove(kind.table, namespace, name)
        return self.store.put(kind.table, namespace, name, obj)

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> tuple[Entry, bool]:
        """Delete an object, or mark it when finalizers hold it. Returns its last state and whether it is gone."""
        entry = self.get(kind, namespace, name)
        metadata = entry.obj["metadata"]
        if options.uid and options.uid != metadata["uid"]:
            raise status.conflict(
                kind.plural,
                kind.group,
                name,
                f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata['uid']}",
            )
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            raise status.conflict(
                kind.plural,
                kind.group,
                name,
                f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
                f"ResourceVersion in object meta: {metadata['resourceVersion']}",
            )
        if kind.table == NAMESPACES and name in IMMUTABLE_NAMESPACES:
            raise status.forbidden(kind.plural, kind.group, name, "this namespace may not be deleted")
        finalizers = [f for f in metadata.get("finalizers") or () if f not in (FOREGROUND, ORPHAN)]
        if options.propagation == "Foreground":
            finalizers.append(FOREGROUND)
        elif options.propagation == "Orphan":
            finalizers.append(ORPHAN)
        elif not options.propagation:
            finalizers = list(metadata.get("finalizers") or ())
        if options.dry_run:
            return entry, not finalizers
        if not finalizers and kind.table != NAMESPACES:
            return self.store.remove(kind.table, namespace, name), True
        marked = dict(metadata)
        marked["finalizers"] = finalizers
        if not finalizers:
            del marked["finalizers"]
        if "deletionTimestamp" not in marked:
            marked["deletionTimestamp"] = meta.now_text()
            marked["deletionGracePeriodSeconds"] = 0
            if kind.generation:
                marked["generation"] = marked.get("generation", 0) + 1
        obj = {**entry.obj, "metadata": marked}
        if kind.table == NAMESPACES:
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        if obj == entry.obj:
            return entry, False
        return self.store.put(kind.table, namespace, name, obj), False

    # shared steps

    def _checked_metadata(self, kind: Kind, namespace: str, given: Obj, *, name: str = "") -> Obj:
        """Check that the body is what the path says. Returns the body's metadata, namespace filled in."""
        api_version, kind_name = given.get("apiVersion"), given.get("kind")
        if not api_version or not kind_name:
            raise status.bad_request("Object 'Kind' is missing" if not kind_name else "Object 'apiVersion' is missing")
        if api_version != kind.api_version or kind_name != kind.kind:
            raise status.bad_request(
                f"the API version in the data ({api_version}, Kind={kind_name}) does not match the expected API version "
                f"({kind.api_version}, Kind={kind.kind})"
            )
        metadata = given.get("metadata")
        if metadata is None:
            metadata = {}
        if not isinstance(metadata, dict):
            raise status.bad_request("metadata must be an object")
        body_namespace = metadata.get("namespace") or ""
        if kind.namespaced:
            if body_namespace and body_namespace != namespace:
                raise status.bad_request(
                    f"the namespace of the provided object does not match the namespace sent on the request "
                    f"({body_namespace!r} is not {namespace!r})"
                )
            metadata = {**metadata, "namespace": namespace}
        elif body_namespace:
            metadata = _without(metadata, "namespace")
        if name and metadata.get("name") not in (None, "", name):
            raise status.bad_request(
                f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({name})"
            )
        return metadata

    def _shape(self, kind: Kind, obj: Obj, old: Obj | None, options: Options) -> tuple[list[Cause], bool]:
        """Prune and default, in place. Returns what is wrong with the metadata, for then nothing is defaulted, and whether the
        rest is ``plain``.
        """
        same = _seen(kind, obj, old)
        plain = kind.rules.plain(obj, same)
        if plain and ("metadata" in same or component_plain(OBJECT_META)(obj["metadata"])):
            return [] if "metadata" in same else meta.problems(kind, obj["metadata"]), True
        part = {key: value for key, value in obj.items() if key not in same} if same else obj
        kind.rules.canonical(part)
        described = component_node(OBJECT_META)
        unknown: list[str] = []
        if "metadata" not in same:
            structural.drop_nulls(described, obj["metadata"])
            unknown = structural.prune(described, obj["metadata"], "metadata")
        unknown += kind.rules.prune(part)
        if unknown and options.field_validation != "Ignore":
            if options.field_validation == "Strict":
                texts = ", ".join(f'unknown field "{u}"' for u in unknown)
                raise status.bad_request(f"strict decoding error: {texts}")
            options.warnings += [f'unknown field "{u}"' for u in unknown]
        causes: list[Cause] = []
        if "metadata" not in same:
            if causes := structural.validate(described, obj["metadata"], "metadata", None):
                raise status.invalid(kind.kind, kind.group, str(obj["metadata"].get("name", "")), causes)
            causes = meta.problems(kind, obj["metadata"])
        if not causes:
            kind.rules.default(part, old)
        if same:
            for pruned in obj.keys() - part.keys() - same:
                del obj[pruned]
            obj |= {key: value for key, value in part.items() if key not in same}
        return causes, plain

    def _finish(self, kind: Kind, obj: Obj, old: Obj | None, options: Options, subresource: str = "") -> None:
        """Prune, default, validate and note ownership, in place."""
        causes, plain = self._shape(kind, obj, old, options)
        if old is not None and "deletionTimestamp" in old["metadata"]:
            before = set(old["metadata"].get("finalizers") or ())
            added = [f for f in obj["metadata"].get("finalizers") or () if f not in before]
            if added:
                causes.append(
                    status.field_forbidden(
                        "metadata.finalizers",
                        f"no new finalizers can be added if the object is being deleted, found new finalizers {added}",
                    )
                )
        causes += kind.rules.problems(obj, old, plain=plain)
        if causes:
            raise status.invalid(kind.kind, kind.group, obj["metadata"].get("name", ""), causes)
        if not options.applying:
            managed.note_update(kind, obj, old, options.manager, subresource)

    def _namespace_accepts(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        entry = self.store.get(NAMESPACES, "", namespace)
        if entry is None:
            raise status.not_found("namespaces", "", namespace)
        if "deletionTimestamp" in entry.obj["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise status.forbidden(
                kind.plural,
                kind.group,
                name,
                why,
                causes=[
                    Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
                ],
            )

    def _may_go(self, kind: Kind, obj: Obj) -> bool:
        """Whether nothing holds an object that is marked for deletion. Namespaces go when they are empty (``gc.py``)."""
        return not obj["metadata"].get("finalizers") and kind.table != NAMESPACES


def in_version(obj: Obj, kind: Kind) -> Obj:
    """Return the object as this version of its kind shows it (versions differ in name only, as with strategy None)."""
    return obj if obj["apiVersion"] == kind.api_version else {**obj, "apiVersion": kind.api_version}


def _seen(kind: Kind, obj: Obj, old: Obj | None) -> frozenset[str]:
    """Return the top-level fields that this write leaves as they were judged before."""
    if old is None or not kind.rules.piecewise:
        return frozenset()
    same = structural.untouched(obj, old)
    metadata, before = obj["metadata"], old["metadata"]
    if metadata.keys() == before.keys() == structural.untouched(metadata, before):
        same |= {"metadata"}
    return same


def _without(obj: Obj, *keys: str) -> Obj:
    return {k: v for k, v in obj.items() if k not in keys}


def _combined(kind: Kind, old: Obj, wanted: Obj, subresource: str) -> Obj:
    """Take from ``wanted`` what this endpoint may change, everything else from ``old``."""
    if subresource == "status":
        obj = dict(old)
        if "status" in wanted:
            obj["status"] = wanted["status"]
        else:
            obj.pop("status", None)
        obj["metadata"] = dict(old["metadata"])
        if "managedFields" in wanted["metadata"]:
            obj["metadata"]["managedFields"] = wanted["metadata"]["managedFields"]
        return obj
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, **_without(wanted, "apiVersion", "kind")}
    obj["metadata"] = meta.carried_metadata(wanted["metadata"], old["metadata"])
    if kind.status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = old["status"]
    return obj


def _desired(kind: Kind, obj: Obj) -> dict[str, Any]:
    return _without(obj, "metadata", "apiVersion", *(("status",) if kind.status else ()))


def _unsaved(obj: Obj) -> Entry:
    return Entry(obj, orjson.dumps(obj), int(obj["metadata"].get("resourceVersion") or 0))
