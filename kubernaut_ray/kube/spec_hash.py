"""What an object's spec is, as one short text: equal texts, nobody changed it.

``status`` and ``metadata`` take no part. Nor does what controllers change by themselves: the number of replicas, which
autoscalers own, and a node's taints. Kinds without a spec are hashed by the rest of what they hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

_NOT_SPEC = frozenset({"apiVersion", "kind", "metadata", "status"})
_OWNED_BY_CONTROLLERS = frozenset({"replicas", "taints"})


def spec_hash(obj: Mapping[str, Any]) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits over the canonical JSON of the spec."""
    spec = obj.get("spec")
    if isinstance(spec, Mapping):
        held: Any = {key: value for key, value in spec.items() if key not in _OWNED_BY_CONTROLLERS}
    else:
        held = {key: value for key, value in obj.items() if key not in _NOT_SPEC}
    canonical = orjson.dumps(held, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"
