"""What each verb on a resource does: from an understood request to an answer.

Answers to writes, and errors, go out only once everything they tell of is committed; see ``store.settled``.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import apply, patches, status, tables
from kubernaut_ray.kube.embedded.admission import Admission, Asked
from kubernaut_ray.kube.embedded.authn import User
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.objects import DeleteOptions, Draft, Objects, in_version
from kubernaut_ray.kube.embedded.requests import Accepted, Request
from kubernaut_ray.kube.embedded.selectors import exact_field, exact_name, narrowest, selector
from kubernaut_ray.kube.embedded.status import Obj

_PAGES, _PAGE_SECONDS = 128, 300.0


@dataclass(slots=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    code: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Page:
    """The rest of a list, frozen when its first page was read."""

    entries: list[Entry]
    version: int
    deadline: float


class Pages:
    """Continue tokens. A token holds the list it began with, so that pages are one consistent snapshot."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    def keep(self, entries: list[Entry], version: int) -> str:
        token = secrets.token_urlsafe(18)
        self._pages[token] = _Page(entries, version, time.monotonic() + _PAGE_SECONDS)
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return base64.urlsafe_b64encode(orjson.dumps({"v": version, "id": token})).decode()

    def resume(self, text: str) -> tuple[list[Entry], int]:
        """Return what a token stands for. Raises 410 when it is too old and 400 when it is none."""
        try:
            token = orjson.loads(base64.urlsafe_b64decode(text))["id"]
        except (ValueError, KeyError, TypeError):
            raise status.bad_request("continue key is not valid: it was not issued by this server") from None
        page = self._pages.get(token)
        if page is None or page.deadline < time.monotonic():
            raise status.expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list "
                "without the continue parameter."
            )
        return page.entries, page.version


class Handlers:
    """The verbs."""

    def __init__(self, objects: Objects, admission: Admission) -> None:
        self._objects, self._admission = objects, admission
        self._store = objects.store
        self._pages = Pages()

    async def get(self, kind: Kind, request: Request) -> Answer:
        target = _named(request)
        entry = self._store.get(kind.table, target.namespace, target.name)
        await self._store.settled(entry.version if entry else None)
        if entry is None:
            raise status.not_found(kind.plural, kind.group, target.name)
        return self.show(kind, entry, request)

    async def list_(self, kind: Kind, request: Request) -> Answer:
        target = _named(request)
        accepted = request.accepts()
        limit = request.number("limit") or 0
        token = request.parameter("continue")
        chosen: list[Entry]
        if token:
            chosen, version = self._pages.resume(token)
        else:
            version = self._store.head
            self._check_version(request, version)
            chosen = self._select(kind, target.namespace, request)
            await self._store.settled(version)
        listing: Obj = {"resourceVersion": str(version)}
        if 0 < limit < len(chosen):
            rest = chosen[limit:]
            chosen = chosen[:limit]
            listing["continue"] = self._pages.keep(rest, version)
            if not request.parameter("labelSelector") and not request.parameter("fieldSelector"):
                listing["remainingItemCount"] = len(rest)
        return _render_list(kind, chosen, listing, accepted, request)

    def _select(self, kind: Kind, namespace: str, request: Request) -> list[Entry]:
        labels, fields = request.parameter("labelSelector"), request.parameter("fieldSelector")
        keep = selector(labels, fields, kind.selectable)
        name = exact_name(fields) if fields else None
        if name is not None and (namespace or not kind.namespaced):
            entry = self._store.get(kind.table, namespace, name)
            entries = [entry] if entry else []
        else:
            entries = self._candidates(kind, namespace or None, labels, fields)
        return entries if keep is None else [e for e in entries if keep(e.obj)]

    def _candidates(self, kind: Kind, namespace: str | None, labels: str, fields: str) -> list[Entry]:
        """Return the entries that an index leaves; the rest of the selectors is still to be applied."""
        if fields and (pinned := exact_field(fields, kind.selectable)) is not None:
            return self._store.with_field(kind.table, namespace, *pinned)
        choice = narrowest(labels) if labels else None
        if choice is None:
            return self._store.scan(kind.table, namespace)
        key, values = choice
        if values is not None:
            return self._store.labelled(kind.table, namespace, key, values)
        return [] if self._store.all_have(kind.table, key) else self._store.scan(kind.table, namespace)

    def _check_version(self, request: Request, current: int) -> None:
        text, match = request.parameter("resourceVersion"), request.parameter("resourceVersionMatch")
        if match and match not in ("Exact", "NotOlderThan"):
            raise status.bad_request(f"resourceVersionMatch {match!r} is not one of Exact, NotOlderThan")
        if match and not text:
            raise status.bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided")
        wanted = resource_version(text)
        if wanted > current:
            raise status.future_version(wanted, current)
        if match == "Exact" and wanted != current:
            raise status.expired("The resourceVersion for the provided list is too old.")

    async def _write(self, kind: Kind, request: Request, user: User, draft: Callable[[], Draft]) -> tuple[Entry, bool]:
        """Store what the draft says, reviewed where somebody wishes it. Returns the object and whether it is new."""
        if not self._admission.concerns(kind, _named(request).subresource):
            made = draft()
            return self._objects.commit(made), made.entry is None
        new = True

        def remembered() -> Draft:
            nonlocal new
            made = draft()
            new = made.entry is None
            return made

        return await self._admission.write(remembered, Asked(user, request.warnings, request.verb)), new

    async def _delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions, request: Request, user: User
    ) -> tuple[Entry, bool]:
        if not self._admission.concerns(kind, ""):
            return self._objects.delete(kind, namespace, name, options)
        asked = Asked(user, request.warnings, request.verb)
        return await self._admission.delete(kind, namespace, name, options, asked)

    async def create(self, kind: Kind, request: Request, user: User) -> Answer:
        target = _named(request)
        if target.name:
            raise status.method_not_allowed(kind.plural, kind.group, "POST")
        options = request.options()
        given = await request.object()
        if kind.namespaced and not target.namespace:
            raise status.bad_request(f"{kind.kind} is namespaced: create it under /namespaces/NAMESPACE/{kind.plural}")
        entry, _ = await self._write(
            kind, request, user, lambda: self._objects.draft_new(kind, target.namespace, given, options)
        )
        await self._store.settled()
        return self.show(kind, entry, request, 201)

    async def update(self, kind: Kind, request: Request, user: User) -> Answer:
        target = _named(request)
        options = request.options()
        given = await request.object()
        if not given.get("apiVersion") or not given.get("kind"):
            raise status.bad_request("Object 'Kind' is missing in the body")
        if not target.subresource and not (given.get("metadata") or {}).get("name"):
            raise status.bad_request("metadata.name: Required value: name must be provided")

        def draft() -> Draft:
            return self._objects.draft_change(
                kind, target.namespace, target.name, lambda _: given, options, subresource=target.subresource
            )

        entry, created = await self._write(kind, request, user, draft)
        await self._store.settled()
        return self.show(kind, entry, request, 201 if created else 200)

    async def patch(self, kind: Kind, request: Request, user: User) -> Answer:
        target = _named(request)
        options = request.options()
        how, patch = await request.patch()
        if how == "strategic" and not kind.strategic:
            raise status.unsupported_media_type(
                request.content_type,
                ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"),
            )
        if how == "merge" and not isinstance(patch, dict):
            raise status.bad_request("a merge patch of an object is an object")
        if how == "strategic" and not isinstance(patch, dict):
            raise status.bad_request("a strategic merge patch is an object")
        if how == "apply" and not request.parameter("fieldManager"):
            missing = status.required("fieldManager", "is required for apply patch")
            raise status.invalid("PatchOptions", "meta.k8s.io", "", [missing])
        change = {
            "json": lambda old: patches.json_patch(old, patch),
            "merge": lambda old: patches.merge_patch(old, patch),
            "strategic": lambda old: patches.strategic_patch(old, patch),
        }

        def draft() -> Draft:
            namespace, name, subresource = target.namespace, target.name, target.subresource
            if how == "apply":
                return apply.draft(self._objects, kind, namespace, name, patch, options, subresource)
            return self._objects.draft_change(kind, namespace, name, change[how], options, subresource=subresource)

        entry, created = await self._write(kind, request, user, draft)
        await self._store.settled()
        return self.show(kind, entry, request, 201 if created else 200)

    async def delete(self, kind: Kind, request: Request, user: User) -> Answer:
        target = _named(request)
        options = delete_options(request, await request.optional_object())
        entry, gone = await self._delete(kind, target.namespace, target.name, options, request, user)
        await self._store.settled()
        if not gone:
            return self.show(kind, entry, request)
        if request.accepts().view:
            return self.show(kind, entry, request)
        details = {"name": target.name, "kind": kind.plural, "uid": entry.obj["metadata"]["uid"]}
        if kind.group:
            details["group"] = kind.group
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Answer(orjson.dumps(body))

    async def delete_collection(self, kind: Kind, request: Request, user: User) -> Answer:
        target = _named(request)
        options = delete_options(request, await request.optional_object())
        deleted = []
        for entry in self._select(kind, target.namespace, request):
            metadata = entry.obj["metadata"]
            place = metadata.get("namespace", "")
            gone, _ = await self._delete(kind, place, metadata["name"], options, request, user)
            deleted.append(gone)
        version = self._store.head
        await self._store.settled()
        return _render_list(kind, deleted, {"resourceVersion": str(version)}, Accepted(), request)

    def show(self, kind: Kind, entry: Entry, request: Request, code: int = 200) -> Answer:
        """Render one object as the client wants it."""
        accepted = request.accepts()
        if accepted.view == "Table":
            include = request.parameter("includeObject", "Metadata")
            version = {"resourceVersion": entry.obj["metadata"]["resourceVersion"]}
            return Answer(
                orjson.dumps(tables.table(kind, [in_version(entry.obj, kind)], version, include=include)), code
            )
        if accepted.view.startswith("PartialObjectMetadata"):
            return Answer(entry.partial(), code)
        if accepted.yaml:
            return Answer(to_yaml(in_version(entry.obj, kind)), code, "application/yaml")
        return Answer(raw(kind, entry), code)


def to_yaml(obj: Obj) -> bytes:
    import yaml

    return yaml.safe_dump(obj, sort_keys=False, allow_unicode=True).encode()


def raw(kind: Kind, entry: Entry) -> bytes:
    """Return the JSON of an entry in this version of its kind."""
    if entry.obj["apiVersion"] == kind.api_version:
        return entry.raw
    return orjson.dumps(in_version(entry.obj, kind))


def _named(request: Request) -> Any:
    return request.target


def resource_version(text: str) -> int:
    """Read a resourceVersion parameter; unset is 0."""
    if not text:
        return 0
    if not text.isdigit():
        raise status.bad_request(
            f"resourceVersion: Invalid value: {text!r}: strconv.ParseUint: parsing {text!r}: invalid syntax"
        )
    return int(text)


def _render_list(kind: Kind, entries: list[Entry], listing: Obj, accepted: Accepted, request: Request) -> Answer:
    if accepted.view == "Table":
        include = request.parameter("includeObject", "Metadata")
        return Answer(orjson.dumps(tables.table(kind, (e.obj for e in entries), listing, include=include)))
    if accepted.view.startswith("PartialObjectMetadata"):
        head = orjson.dumps({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": listing})
        return Answer(head[:-1] + b',"items":[' + b",".join(e.partial() for e in entries) + b"]}")
    if accepted.yaml:
        items = [in_version(e.obj, kind) for e in entries]
        document = {"apiVersion": kind.api_version, "kind": kind.listing, "metadata": listing, "items": items}
        return Answer(to_yaml(document), content_type="application/yaml")
    head = orjson.dumps({"kind": kind.listing, "apiVersion": kind.api_version, "metadata": listing})
    return Answer(head[:-1] + b',"items":[' + b",".join(raw(kind, e) for e in entries) + b"]}")


def delete_options(request: Request, body: Obj) -> DeleteOptions:
    """Read DeleteOptions from the body and the query."""
    if body and body.get("kind") not in (None, "", "DeleteOptions"):
        raise status.bad_request(f"the body of a DELETE is DeleteOptions, not {body.get('kind')}")
    conditions = body.get("preconditions") or {}
    if not isinstance(conditions, dict) or not all(isinstance(v, str) for v in conditions.values()):
        raise status.bad_request("preconditions of DeleteOptions is an object of texts")
    propagation = body.get("propagationPolicy") or request.parameter("propagationPolicy")
    if body.get("orphanDependents") is True or request.flag("orphanDependents"):
        propagation = "Orphan"
    if propagation not in ("", "Background", "Foreground", "Orphan"):
        raise status.invalid(
            "DeleteOptions",
            "meta.k8s.io",
            "",
            [status.unsupported("propagationPolicy", propagation, ("Foreground", "Background", "Orphan"))],
        )
    grace = body.get("gracePeriodSeconds")
    dry_run = body.get("dryRun") or request.query.get("dryRun", [])
    if not isinstance(dry_run, list) or any(d not in ("", "All") for d in dry_run):
        raise status.bad_request(f'invalid dryRun {dry_run}: the only supported value is "All"')
    return DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        propagation=propagation,
        grace_seconds=grace if isinstance(grace, int) else request.number("gracePeriodSeconds"),
        dry_run="All" in dry_run,
    )
