"""Field ownership (``metadata.managedFields``): who set which field, as server-side apply needs to know.

A path is a tuple of ``FieldsV1`` elements: ``f:NAME`` for a field, ``k:{…}`` for an item of a map list, ``v:…`` for an item of a
set. Ownership is followed from an object's first apply on; before that nobody asks, and writes stay cheap. This is how
kube-apiserver began, and clients cannot rely on more than that entries exist after an apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import meta
from kubernaut_ray.kube.embedded.kinds import Kind, ListTypes
from kubernaut_ray.kube.embedded.status import Obj

Path = tuple[str, ...]
FIRST = "before-first-apply"
_ROOT_UNOWNED = frozenset({"apiVersion", "kind"})
_METADATA_OWNED = frozenset({"labels", "annotations", "finalizers", "ownerReferences", "generateName"})
_PRESENT = "\0present"
"""The value of an item's own path: that it is in the list."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    paths: frozenset[Path]

    def same(self, other: Owner) -> bool:
        return (self.manager, self.operation, self.subresource) == (other.manager, other.operation, other.subresource)

    def entry(self) -> Obj:
        """Return the ``ManagedFieldsEntry``."""
        entry: Obj = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree(self.paths),
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def item_element(item: Any, keys: tuple[str, ...]) -> str:
    """Return the path element of a list item: by its keys, or by its value when ``keys`` is empty."""
    if not keys:
        return "v:" + orjson.dumps(item).decode()
    identity = {k: item.get(k, "TCP" if k == "protocol" else None) for k in keys}
    return (
        "k:" + orjson.dumps({k: v for k, v in identity.items() if v is not None}, option=orjson.OPT_SORT_KEYS).decode()
    )


def keyed(items: Any, keys: tuple[str, ...] | None) -> bool:
    """Whether a list merges by item; anything else is one value."""
    if keys is None or not isinstance(items, list):
        return False
    return (
        all(isinstance(i, Mapping) for i in items) if keys else all(not isinstance(i, (Mapping, list)) for i in items)
    )


def flatten(obj: Obj, list_keys: ListTypes) -> dict[Path, Any]:
    """Return every leaf of an object that can be owned, by path."""
    found: dict[Path, Any] = {}

    def walk(value: Any, path: Path, names: tuple[str, ...]) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                if item is not None:
                    walk(item, (*path, f"f:{key}"), (*names, key))
        elif isinstance(value, list) and value and keyed(value, keys := list_keys(names)):
            for item in value:
                at = (*path, item_element(item, keys or ()))
                found[at] = _PRESENT
                if isinstance(item, Mapping):
                    for key, below in item.items():
                        walk(below, (*at, f"f:{key}"), (*names, key))
        else:
            found[path] = value

    for key, value in obj.items():
        if key == "metadata":
            for name in _METADATA_OWNED & value.keys():
                walk(value[name], ("f:metadata", f"f:{name}"), ("metadata", name))
        elif key not in _ROOT_UNOWNED and value is not None:
            walk(value, (f"f:{key}",), (key,))
    return found


def tree(paths: Iterable[Path]) -> Obj:
    """Return paths as ``FieldsV1``."""
    root: Obj = {}
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def paths(fields: Any) -> frozenset[Path]:
    """Read ``FieldsV1`` back."""
    found: set[Path] = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        below = [k for k in node if k != "."]
        if path and (not below or "." in node):
            found.add(path)
        for key in below:
            walk(node[key] or {}, (*path, key))

    walk(fields or {}, ())
    return frozenset(found)


def shown(path: Path) -> str:
    """Render a path the way conflicts name it: ``.spec.containers[name="app"].image``."""
    text = ""
    for element in path:
        kind, rest = element[:2], element[2:]
        if kind == "f:":
            text += f".{rest}"
        elif kind == "k:":
            text += "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in orjson.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def owners(obj: Obj) -> list[Owner]:
    """Read an object's managedFields."""
    return [
        Owner(
            e.get("manager", ""),
            e.get("operation", "Update"),
            e.get("apiVersion", ""),
            e.get("subresource", ""),
            e.get("time", ""),
            paths(e.get("fieldsV1")),
        )
        for e in obj["metadata"].get("managedFields") or ()
        if isinstance(e, Mapping) and e.get("manager")
    ]


def first_owner(kind: Kind, live: Obj) -> Owner:
    """Return the owner of all that was there before ownership was followed."""
    everything = frozenset(flatten(live, kind.rules.list_keys))
    return Owner(FIRST, "Update", kind.api_version, "", meta.now_text(), everything)


def with_owner(found: Iterable[Owner], mine: Owner) -> list[Owner]:
    """Return the owners with one replaced in its place, or added at the end."""
    kept = list(found)
    if not any(o.same(mine) for o in kept):
        return [*kept, mine]
    return [mine if o.same(mine) else o for o in kept]


def write(obj: Obj, found: Iterable[Owner]) -> None:
    """Set an object's managedFields, in place; owners of nothing are left out."""
    entries = [o.entry() for o in found if o.paths]
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def note_update(kind: Kind, obj: Obj, old: Obj | None, manager: str, subresource: str) -> None:
    """Give what an update changed to its manager, in place. Objects nobody ever applied carry no ownership."""
    if old is None or not old["metadata"].get("managedFields"):
        obj["metadata"].pop("managedFields", None)
        return
    if obj["metadata"].get("managedFields") in ([], [{}]):
        del obj["metadata"]["managedFields"]  # the documented way for a client to clear ownership
        return
    obj["metadata"]["managedFields"] = old["metadata"]["managedFields"]
    before, after = flatten(old, kind.rules.list_keys), flatten(obj, kind.rules.list_keys)
    changed = frozenset(p for p, value in after.items() if p not in before or before[p] != value)
    lost = frozenset(before) - frozenset(after)
    if not changed and not lost:
        return
    mine = Owner(manager, "Update", kind.api_version, subresource, meta.now_text(), changed)
    found = owners(old)
    previous = next((o for o in found if o.same(mine)), None)
    if previous is not None:
        mine = replace(mine, paths=(previous.paths - lost) | changed)
    others = [o if o.same(mine) else replace(o, paths=o.paths - changed - lost) for o in found]
    write(obj, with_owner(others, mine))
