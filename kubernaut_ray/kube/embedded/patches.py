"""JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch: value + patch → new value.

Pure: inputs are never changed. Server-side apply has a file of its own, since it needs ownership.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kubernaut_ray.kube.embedded.status import ApiStatus, bad_request


def copied(value: Any) -> Any:
    """Return a deep copy of a JSON value."""
    return orjson.loads(orjson.dumps(value))


def unprocessable(message: str) -> ApiStatus:
    return ApiStatus(422, "Invalid", message, details={})


# JSON patch


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"JSON patch path {text!r} must be empty or start with '/'")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(part: str, length: int, path: str) -> int:
    if part == "-":
        return length
    if not part.isdigit() or (len(part) > 1 and part[0] == "0"):
        raise unprocessable(f"JSON patch path {path}: {part!r} is no index")
    return int(part)


def _lookup(document: Any, pointer: Sequence[str], path: str) -> Any:
    value = document
    for part in pointer:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _index(part, len(value), path) < len(value):
            value = value[int(part)]
        else:
            raise unprocessable(
                f"the server rejected our request due to an error in our request: {path} does not exist"
            )
    return value


def _add(document: Any, pointer: Sequence[str], value: Any, path: str) -> Any:
    if not pointer:
        return value
    parent = _lookup(document, pointer[:-1], path)
    if isinstance(parent, dict):
        parent[pointer[-1]] = value
    elif isinstance(parent, list):
        at = _index(pointer[-1], len(parent), path)
        if at > len(parent):
            raise unprocessable(f"JSON patch path {path}: index {at} is past the end")
        parent.insert(at, value)
    else:
        raise unprocessable(f"JSON patch path {path}: the parent holds no members")
    return document


def _remove(document: Any, pointer: Sequence[str], path: str) -> Any:
    if not pointer:
        raise unprocessable("JSON patch cannot remove the whole document")
    _lookup(document, pointer, path)
    parent = _lookup(document, pointer[:-1], path)
    if isinstance(parent, list):
        parent.pop(int(pointer[-1]))
    else:
        del parent[pointer[-1]]
    return document


def json_patch(document: Any, operations: Any) -> Any:
    """Apply a JSON patch. Raises 400 on a malformed patch and 422 when an operation does not apply."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    if len(operations) > 10_000:
        raise ApiStatus(413, "RequestEntityTooLarge", "The allowed maximum operations in a JSON patch is 10000")
    result = copied(document)
    for operation in operations:
        if not isinstance(operation, Mapping) or "op" not in operation or "path" not in operation:
            raise bad_request("each operation of a JSON patch needs 'op' and 'path'")
        path, pointer = operation["path"], _pointer(operation["path"])
        match operation["op"]:
            case "add":
                result = _add(result, pointer, copied(operation.get("value")), path)
            case "remove":
                result = _remove(result, pointer, path)
            case "replace":
                _lookup(result, pointer, path)
                if pointer:
                    result = _remove(result, pointer, path)
                result = _add(result, pointer, copied(operation.get("value")), path)
            case "move" | "copy":
                source = _pointer(operation.get("from"))
                value = copied(_lookup(result, source, str(operation.get("from"))))
                if operation["op"] == "move":
                    result = _remove(result, source, str(operation.get("from")))
                result = _add(result, pointer, value, path)
            case "test":
                if _lookup(result, pointer, path) != operation.get("value"):
                    raise unprocessable(f"the server rejected our request: testing path {path} failed")
            case other:
                raise bad_request(f"unknown JSON patch operation {other!r}")
    return result


# merge patch


def merge_patch(document: Any, patch: Any) -> Any:
    """Apply a JSON merge patch: ``null`` removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge_patch(result.get(key), value)
        else:
            result[key] = value
    return result


# strategic merge patch

_MERGE_KEYS: dict[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "secrets": "name",
    "addresses": "type",
    "podIPs": "ip",
    "taints": "key",
}
_SETS = frozenset({"finalizers"})
"""Lists of scalars that merge; every other list (tolerations, args, command, rules, …) is replaced."""


def merge_key(path: Sequence[str]) -> str | None:
    """Return the merge key of the list at this path of field names, or ``None`` when the list is replaced whole."""
    name = path[-1]
    if name == "ports":
        return "containerPort" if len(path) > 1 and path[-2] in ("containers", "initContainers") else "port"
    if name == "conditions" and len(path) > 1 and path[-2] != "status":
        return None
    return _MERGE_KEYS.get(name)


def strategic_patch(document: Any, patch: Any, path: tuple[str, ...] = ()) -> Any:
    """Apply a strategic merge patch with the built-in kinds' merge keys and the ``$patch`` directives."""
    if not isinstance(patch, Mapping):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: copied(v) for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown $patch directive {directive!r}; use replace, delete or merge")
    result = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith(("$setElementOrder/", "$deleteFromPrimitiveList/")):
            continue
        if value is None or (isinstance(value, Mapping) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = strategic_patch(result.get(key), value, (*path, key))
        elif isinstance(value, list):
            result[key] = _merge_list(result.get(key), value, (*path, key))
        else:
            result[key] = value
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.split("/", 1)[1]
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$setElementOrder/"):
            name = key.split("/", 1)[1]
            if isinstance(result.get(name), list):
                result[name] = _ordered(result[name], value, merge_key((*path, name)))
        elif key == "$retainKeys":
            result = {k: v for k, v in result.items() if k in value}
    return result


def _merge_list(old: Any, patch: list[Any], path: tuple[str, ...]) -> list[Any]:
    before = list(old) if isinstance(old, list) else []
    if path[-1] in _SETS:
        return before + [item for item in patch if item not in before]
    key = merge_key(path)
    if key is None or not all(isinstance(item, Mapping) for item in patch):
        return copied(patch)  # type: ignore[no-any-return]
    if any(item.get("$patch") == "replace" for item in patch):
        return [{k: copied(v) for k, v in item.items()} for item in patch if item.get("$patch") != "replace"]
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {dict(item)} does not contain declared merge key: {key}")
        at = next((i for i, b in enumerate(before) if isinstance(b, Mapping) and b.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            before = [b for b in before if not (isinstance(b, Mapping) and b.get(key) == item[key])]
        elif at is None:
            before.append(strategic_patch({}, item, path))
        else:
            before[at] = strategic_patch(before[at], item, path)
    return before


def _ordered(items: list[Any], order: Any, key: str | None) -> list[Any]:
    """Put the items that ``order`` names into that order; the others keep their places after what preceded them."""

    def identity(item: Any) -> Any:
        return item.get(key) if isinstance(item, Mapping) and key else item

    wanted = [identity(o) for o in order]
    named = sorted((i for i in items if identity(i) in wanted), key=lambda i: wanted.index(identity(i)))
    others = [i for i in items if identity(i) not in wanted]
    return named + others
