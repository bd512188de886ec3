"""``/openapi/v3``: what ``kubectl explain``, ``apply`` and client-side validation read. One document for each group version."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import builtin_schemas, discovery
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.status import Obj

_REF = "#/components/schemas/"
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")


class OpenApi:
    """Documents, made when asked for and kept until the registry changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._documents: dict[str, bytes] = {}

    def index(self) -> Obj:
        """Return the document of ``/openapi/v3``."""
        paths = {}
        for path in self._paths():
            digest = hashlib.sha256(self.document(path) or b"").hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def document(self, path: str) -> bytes | None:
        """Return the document of ``api/v1`` or ``apis/GROUP/VERSION``, or ``None``."""
        if self._revision != self._registry.revision:
            self._documents, self._revision = {}, self._registry.revision
        if path not in self._documents:
            parts = path.split("/")
            group, version = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else ("", "")
            if parts[0] == "apis" and len(parts) == 3:
                group, version = parts[1], parts[2]
            kinds = self._registry.in_version(group, version) if version else ()
            if not kinds:
                return None
            self._documents[path] = orjson.dumps(_document(kinds))
        return self._documents[path]

    def _paths(self) -> list[str]:
        found = [f"api/{v}" for v in self._registry.versions("")]
        return found + [f"apis/{g}/{v}" for g in self._registry.groups() for v in self._registry.versions(g)]


def _component(kind: Kind) -> str:
    reverse = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{reverse}.{kind.version}.{kind.kind}"


def _document(kinds: tuple[Kind, ...]) -> Obj:
    schemas: Obj = {}
    paths: Obj = {}
    for kind in kinds:
        name = _component(kind)
        schema = dict(kind.rules.openapi())
        schema["x-kubernetes-group-version-kind"] = [_gvk(kind)]
        schemas[name] = schema
        _collect(schema, schemas)
        paths.update(_paths_of(kind, name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": discovery.VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _gvk(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _collect(schema: Any, into: Obj) -> None:
    """Add every component that a schema refers to."""
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref.startswith(_REF):
            name = ref.removeprefix(_REF)
            if name not in into:
                into[name] = builtin_schemas.load()[name]
                _collect(into[name], into)
        for value in schema.values():
            _collect(value, into)
    elif isinstance(schema, list):
        for value in schema:
            _collect(value, into)


def _paths_of(kind: Kind, component: str) -> Obj:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if kind.namespaced:
        root += "/namespaces/{namespace}"
    reference = {"$ref": _REF + component}
    body = {"content": {"application/json": {"schema": reference}}}
    answers = {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}}

    def operation(action: str, *, writes: bool = False, **extra: Any) -> Obj:
        made: Obj = {"responses": answers, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": _gvk(kind)}
        if writes:
            made["parameters"] = [_query("dryRun"), _query("fieldManager"), _query("fieldValidation")]
        return {**made, **extra}

    collection: Obj = {}
    if "list" in kind.verbs:
        collection["get"] = operation("list")
    if "create" in kind.verbs:
        collection["post"] = operation("post", writes=True, requestBody=body)
    paths = {f"{root}/{kind.plural}": collection}
    if "get" in kind.verbs:
        patches = {"content": {media: {"schema": {"type": "object"}} for media in _PATCHES}}
        paths[f"{root}/{kind.plural}/{{name}}"] = {
            "get": operation("get"),
            "put": operation("put", writes=True, requestBody=body),
            "patch": operation("patch", writes=True, requestBody=patches),
            "delete": operation("delete"),
        }
    return paths


def _query(name: str) -> Obj:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
