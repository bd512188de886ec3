"""The rules of the built-in kinds: their generated schema, plus the defaults and checks that users of a cluster count on.

Not every rule of kube-apiserver is here; what is here behaves as there. Types and unknown fields come from the schema.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any

from kubernaut_ray.kube.embedded import builtin_checks, builtin_defaults, builtin_schemas
from kubernaut_ray.kube.embedded import schema as structural
from kubernaut_ray.kube.embedded.plain import Plain, plain
from kubernaut_ray.kube.embedded.schema import Node
from kubernaut_ray.kube.embedded.status import Cause, Obj

_RECURSIVE = frozenset({"io.k8s.api.JSONSchemaProps"})
"""Components that refer to themselves; ``schema.py`` judges their content when a definition is compiled."""

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "env": ("name",),
    "volumes": ("name",), "volumeMounts": ("mountPath",), "volumeDevices": ("devicePath",), "imagePullSecrets": ("name",),
    "hostAliases": ("ip",), "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"), "conditions": ("type",),
    "webhooks": ("name",), "matchConditions": ("name",),
    "ownerReferences": ("uid",), "secrets": ("name",), "addresses": ("type",), "podIPs": ("ip",), "finalizers": (),
}  # fmt: skip


@functools.cache
def component_node(component: str) -> Node:
    """Compile one component of the generated schemas."""
    return structural.compiled(_resolved(builtin_schemas.load()[component]), component, nested=True)


@functools.cache
def component_plain(component: str) -> Plain:
    """Compile one component into the predicate of ``plain.py``."""
    return plain(component_node(component))


def _resolved(schema: Obj) -> Obj:
    """Inline references, leaving descriptions out."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return (
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True} if name in _RECURSIVE else _component(name)
        )
    made = {k: v for k, v in schema.items() if k not in ("description", "properties", "items", "additionalProperties")}
    if "properties" in schema:
        made["properties"] = {k: _resolved(v) for k, v in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = _resolved(schema[key])
    return made


@functools.cache
def _component(name: str) -> Obj:
    return _resolved(builtin_schemas.load()[name])


def _coerce_quantities(node: Node, value: Any) -> Any:
    """Quantities may be written as numbers; they are stored as text."""
    if node.format == "quantity" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, dict):
        for key, item in value.items():
            child = node.child(key)
            if child is not None:
                value[key] = _coerce_quantities(child, item)
    elif isinstance(value, list) and node.items is not None:
        value[:] = [_coerce_quantities(node.items, item) for item in value]
    return value


class BuiltinRules:
    """The rules of one built-in kind."""

    piecewise: bool = False

    def __init__(self, group: str, version: str, kind: str) -> None:
        self._kind = kind
        self._default: Callable[[Obj, Obj | None], None] | None = builtin_defaults.DEFAULTS.get(kind)
        self._problems: Callable[[Obj, Obj | None], list[Cause]] | None = builtin_checks.CHECKS.get(kind)
        self._name = builtin_schemas.component(builtin_schemas.ROOTS[kind])
        self._gvk = {"group": group, "version": version, "kind": kind}

    @property
    def _schema(self) -> Node:
        return component_node(self._name)

    def plain(self, obj: Obj, same: Container[str]) -> bool:  # noqa: ARG002
        return False  # defaults of these are code, which looks for itself

    def canonical(self, obj: Obj) -> None:
        structural.drop_nulls(self._schema, obj)
        _coerce_quantities(self._schema, obj)

    def prune(self, obj: Obj) -> list[str]:
        return structural.prune(self._schema, obj, "", root=True)

    def default(self, obj: Obj, old: Obj | None) -> None:
        # With a value of the wrong type problems() tells; defaults would trip over it.
        if self._misshapen(obj):
            return
        if "spec" in self._schema.properties:
            obj.setdefault("spec", {})
        if self._default is not None:
            self._default(obj, old)

    def problems(self, obj: Obj, old: Obj | None, *, plain: bool = False) -> list[Cause]:  # noqa: ARG002
        causes = self._misshapen(obj)
        if not causes and self._problems is not None:
            causes = self._problems(obj, old)
        return causes

    def _misshapen(self, obj: Obj) -> list[Cause]:
        return structural.validate(self._schema, obj, "", None, skip=("apiVersion", "kind", "metadata"))

    def list_keys(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        name = path[-1]
        if name == "ports":
            return ("containerPort", "protocol") if len(path) > 1 and path[-2] in ("containers", "initContainers") else (
                "port", "protocol"
            )  # fmt: skip
        return _LIST_KEYS.get(name)

    def openapi(self) -> Obj:
        schema: Obj = builtin_schemas.load()[self._name]
        return schema
