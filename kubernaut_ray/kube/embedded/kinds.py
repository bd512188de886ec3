"""Kinds: how the server holds and serves each resource, and the registry that finds them.

A built-in kind is a row in ``builtins.py``; a custom one is made from its CustomResourceDefinition by ``crd.py``. What
differs between kinds lives in their ``Rules``; everything else in the server treats them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubernaut_ray.kube.embedded.status import Cause, Obj, qualified

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a Table. ``value`` takes the object and returns the cell."""

    name: str
    value: Callable[[Obj], Any]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where ``/scale`` finds its numbers: paths of object keys."""

    spec_replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] | None = ("spec", "selector")


class ListTypes(Protocol):
    """How lists merge: the keys of a map list, ``()`` for a set, ``None`` for an atomic list."""

    def __call__(self, path: tuple[str, ...]) -> tuple[str, ...] | None: ...


class Rules(Protocol):
    """What is particular to a kind."""

    @property
    def piecewise(self) -> bool:
        """Whether each top-level field is judged by itself, so that one which a write leaves alone need not be looked at again."""
        ...

    def plain(self, obj: Obj, same: Container[str]) -> bool:
        """Whether ``obj``, but for its metadata and the fields in ``same``, is certainly right and stored as it is: then it is
        neither made canonical nor pruned nor defaulted.
        """
        ...

    def canonical(self, obj: Obj) -> None:
        """Write values the way they are stored, in place, so that equal ones compare equal."""
        ...

    def prune(self, obj: Obj) -> list[str]:
        """Drop unknown fields in place; return their paths."""
        ...

    def default(self, obj: Obj, old: Obj | None) -> None:
        """Fill in defaults and the fields that the server owns, in place."""
        ...

    def problems(self, obj: Obj, old: Obj | None, *, plain: bool = False) -> list[Cause]:
        """Say everything that is wrong with ``obj``, as a new object or as a change of ``old``; ``plain`` is what ``plain`` said."""
        ...

    def list_keys(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """See ``ListTypes``; the path holds field names only."""
        ...

    def openapi(self) -> Obj:
        """Return the schema of the kind for ``/openapi/v3``; ``$ref``s are relative to the group's document."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource in one version."""

    group: str
    version: str
    plural: str
    kind: str
    rules: Rules
    namespaced: bool = True
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    status: bool = False
    scale: Scale | None = None
    subresources: tuple[str, ...] = ()
    """Others than status and scale."""
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """Dotted paths usable in field selectors, besides metadata.name and metadata.namespace."""
    generation: bool = True
    """Whether ``metadata.generation`` counts the changes of the desired state."""
    strategic: bool = True
    """Whether strategic merge patches are understood (built-in kinds only)."""
    storage: str = ""
    """The store's table; versions of one resource share it."""
    dns_label: bool = False
    """Names must be DNS labels (63 characters, no dots) instead of subdomains."""
    loose_name: bool = False
    """Names may be any path segment (RBAC objects have colons)."""
    description: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return qualified(self.plural, self.group)

    @property
    def table(self) -> str:
        return self.storage or f"{self.plural}.{self.group}"

    @property
    def listing(self) -> str:
        """The kind of its lists."""
        return self.list_kind or f"{self.kind}List"


@dataclass(slots=True)
class Registry:
    """Every served kind. ``revision`` moves with every change, for caches made from it."""

    revision: int = 0
    _by_resource: dict[tuple[str, str, str], Kind] = field(default_factory=dict)
    _by_kind: dict[tuple[str, str], Kind] = field(default_factory=dict)
    _preferred: dict[str, list[str]] = field(default_factory=dict)
    _tables: dict[str, Kind] = field(default_factory=dict)

    def add(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            self._by_resource[kind.group, kind.version, kind.plural] = kind
            self._by_kind[kind.api_version, kind.kind] = kind
        self._changed()

    def remove(self, group: str, plural: str) -> None:
        """Stop serving a resource in all its versions."""
        for key, kind in tuple(self._by_resource.items()):
            if key[0] == group and key[2] == plural:
                del self._by_resource[key]
                self._by_kind.pop((kind.api_version, kind.kind), None)
        self._changed()

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_resource.get((group, version, plural))

    def of(self, api_version: str, kind: str) -> Kind | None:
        return self._by_kind.get((api_version, kind))

    def any_version(self, group: str, plural: str) -> Kind | None:
        for version in self.versions(group):
            if found := self.find(group, version, plural):
                return found
        return None

    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self._by_resource.values())

    def tables(self) -> Mapping[str, Kind]:
        """Return one kind for each table of the store."""
        return self._tables

    def groups(self) -> tuple[str, ...]:
        return tuple(g for g in self._preferred if g)

    def versions(self, group: str) -> tuple[str, ...]:
        """Return the group's versions, the preferred one first."""
        return tuple(self._preferred.get(group, ()))

    def in_version(self, group: str, version: str) -> tuple[Kind, ...]:
        return tuple(k for k in self.kinds() if k.group == group and k.version == version)

    def _changed(self) -> None:
        self.revision += 1
        found: dict[str, set[str]] = {}
        for group, version, _ in self._by_resource:
            found.setdefault(group, set()).add(version)
        self._preferred = {g: sorted(v, key=version_rank) for g, v in found.items()}
        self._tables = {kind.table: kind for kind in reversed(self.kinds())}


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Order versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name."""
    head, stage, tail = version, 0, "0"
    for number, name in ((1, "beta"), (2, "alpha")):
        if name in version:
            head, tail = version.split(name, 1)
            stage = number
    if head[:1] != "v" or not head[1:].isdigit() or not tail.isdigit():
        return (3, 0, 0, version)
    return (stage, -int(head[1:]), -int(tail), version)
