"""Server-side apply: a manager states the fields it wants, and owns them from then on.

A field that another manager owns with another value is a conflict, unless forced. A field that the manager stated before
and no longer states goes, unless somebody else owns it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import managed, meta, patches, status
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind, ListTypes
from kubernaut_ray.kube.embedded.managed import Owner, Path
from kubernaut_ray.kube.embedded.objects import Draft, Objects, Options
from kubernaut_ray.kube.embedded.status import Cause, Obj


def apply(
    objects: Objects, kind: Kind, namespace: str, name: str, patch: Any, options: Options, subresource: str
) -> tuple[Entry, bool]:
    """Apply a configuration. Returns the object and whether it was created. Raises 409 with every conflict."""
    made = draft(objects, kind, namespace, name, patch, options, subresource)
    return objects.commit(made), made.entry is None


def draft(
    objects: Objects, kind: Kind, namespace: str, name: str, patch: Any, options: Options, subresource: str
) -> Draft:
    """Draft what applying a configuration would store. Raises 409 with every conflict."""
    if not isinstance(patch, dict):
        raise status.bad_request("an apply patch is an object")
    given = patch.get("metadata") or {}
    if not isinstance(given, dict):
        raise status.bad_request("metadata must be an object")
    if given.get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    stated = {**patch, "metadata": given}
    wanted = {k: v for k, v in stated.items() if not (k == "status" and kind.status and subresource != "status")}
    kind.rules.canonical(wanted)

    def change(live: Obj) -> Obj:
        return _applied(kind, live, wanted, options, subresource)

    return objects.draft_change(
        kind, namespace, name, change, replace(options, applying=True), subresource=subresource, create=not subresource
    )


def _applied(kind: Kind, live: Obj, wanted: Obj, options: Options, subresource: str) -> Obj:
    keys = kind.rules.list_keys
    exists = "uid" in live["metadata"]
    owners = managed.owners(live)
    if exists and not owners:
        owners = [managed.first_owner(kind, live)]
    stated = managed.flatten(wanted, keys)
    if subresource == "status":
        stated = {p: v for p, v in stated.items() if p[0] == "f:status"}
    mine = Owner(options.manager, "Apply", kind.api_version, subresource, meta.now_text(), frozenset(stated))
    previous = next((o for o in owners if o.same(mine)), None)
    current = managed.flatten(live, keys)
    conflicts = {
        i: set() if owner.same(mine) else {p for p in owner.paths if p in stated and current.get(p) != stated[p]}
        for i, owner in enumerate(owners)
    }
    if any(conflicts.values()) and not options.force:
        raise _conflict([(owners[i], found) for i, found in conflicts.items() if found])
    owners = [replace(o, paths=o.paths - conflicts[i]) for i, o in enumerate(owners)]
    merged: Obj = merge(patches.copied(live), wanted, keys)
    if previous is not None:
        kept = mine.paths.union(*(o.paths for o in owners if not o.same(mine)))
        _drop(merged, previous.paths - mine.paths, kept, keys)
        if previous.paths == mine.paths:
            mine = replace(mine, time=previous.time)
    managed.write(merged, managed.with_owner(owners, mine))
    return merged


def _conflict(found: list[tuple[Owner, set[Path]]]) -> status.ApiStatus:
    causes = [
        Cause(managed.shown(p), "FieldManagerConflict", f'conflict with "{o.manager}" using {o.api_version}')
        for o, conflicts in found
        for p in sorted(conflicts)
    ]
    count = len(causes)
    parts = []
    for owner, conflicts in found:
        names = [managed.shown(p) for p in sorted(conflicts)]
        if len(names) == 1:
            parts.append(f'conflict with "{owner.manager}": {names[0]}')
        else:
            parts.append(f'conflicts with "{owner.manager}":\n' + "\n".join(f"- {n}" for n in names))
    return status.apply_conflict(causes, f"Apply failed with {count} conflict{'s' * (count > 1)}: " + "\n".join(parts))


def merge(live: Any, wanted: Any, list_keys: ListTypes, names: tuple[str, ...] = ()) -> Any:
    """Lay an applied configuration over the live object: maps and map lists merge, everything else is replaced."""
    if isinstance(wanted, Mapping):
        result = dict(live) if isinstance(live, Mapping) else {}
        for key, value in wanted.items():
            if value is not None:
                result[key] = merge(result.get(key), value, list_keys, (*names, key))
        return result
    keys = list_keys(names) if names else None
    if not isinstance(live, list) or not managed.keyed(wanted, keys) or not managed.keyed(live, keys):
        return patches.copied(wanted)
    keys = keys or ()
    by_element = {managed.item_element(item, keys): item for item in live}
    for item in wanted:
        element = managed.item_element(item, keys)
        by_element[element] = merge(by_element.get(element), item, list_keys, names)
    return list(by_element.values())


def _drop(obj: Obj, gone: frozenset[Path], kept: frozenset[Path], list_keys: ListTypes) -> None:
    """Remove, in place, what nobody states any more. An item goes whole when nobody owns anything in it."""
    for path in sorted(gone - kept, key=len):
        if any(k[: len(path)] == path for k in kept) or _identifies(path):
            continue
        _remove(obj, path, kept, list_keys)


def _identifies(path: Path) -> bool:
    """Whether the path is a key of a list item: it goes with the item or stays with it."""
    return len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in orjson.loads(path[-2][2:])


def _remove(obj: Obj, path: Path, kept: frozenset[Path], list_keys: ListTypes) -> None:
    trail: list[tuple[Any, Any, Path]] = []
    node: Any = obj
    names: tuple[str, ...] = ()
    for depth, element in enumerate(path):
        if element.startswith("f:"):
            key: Any = element[2:]
            names = (*names, key)
            if not isinstance(node, dict) or key not in node:
                return
        else:
            keys = list_keys(names) or ()
            if not isinstance(node, list):
                return
            key = next((i for i, item in enumerate(node) if managed.item_element(item, keys) == element), None)
            if key is None:
                return
        trail.append((node, key, path[: depth + 1]))
        node = node[key]
    node, key, _ = trail.pop()
    del node[key]
    while trail:  # containers that only held what went, go with it
        parent, key, here = trail.pop()
        if parent[key] or here in kept or len(trail) < 1:
            return
        del parent[key]
