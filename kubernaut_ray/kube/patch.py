"""JSON merge patches (RFC 7386) between plain JSON mappings: what the engine writes is only what changed.

``diff`` and ``apply`` are pure. A value ``None`` inside a patch means "remove", so the mappings themselves hold no ``None``:
models leave unset fields out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """Return the smallest merge patch that turns ``old`` into ``new``; empty when they are equal.

    Mappings are compared field by field, everything else (lists too) is replaced whole, as merge patches have it.
    """
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if type(value) is str:  # most fields are
            if before != value:
                patch[key] = value
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := diff(before, value):
                patch[key] = inner
        elif key not in old or not _same(before, value):
            patch[key] = value
    return patch


def apply(patch: Mapping[str, Any], target: Any) -> Json:
    """Return ``target`` with the merge patch applied; a target that is no mapping counts as an empty one."""
    merged: Json = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = apply(value, merged.get(key))
        else:
            merged[key] = value
    return merged


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: ``1``, ``1.0`` are one number, ``True`` and ``1`` are not one value."""
    if type(one) is str:  # most values are
        return bool(one == other)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
