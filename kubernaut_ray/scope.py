"""Which targets are ours to act on: the rule behind the label ``kubernaut.ai/managed``. Pure.

The gateway asks it before it opens a remediation and the orchestrator before it analyses and before it executes, each after
its own look-up. The target's own label wins over its namespace's; of cluster-scoped targets only their own label counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kubernaut_ray import names

Mode = Literal["opt-in", "opt-out", "all"]
"""``opt-in``: only what is labelled ``true``. ``opt-out``: also what has no label. ``all``: labels are not asked."""

Labels = Mapping[str, str] | None
"""Labels of an object; ``None`` when there is no such object."""


def managed(mode: Mode, target: Labels, namespace: Labels) -> bool:
    """Tell whether a target is ours, given its labels and its namespace's."""
    for labels in (target, namespace):
        said = (labels or {}).get(names.LABEL_MANAGED)
        if said is not None:
            return permits(mode, said)
    return permits(mode, None)


def permits(mode: Mode, label: str | None) -> bool:
    """Judge the label that counts. Any other value than ``true`` is a no: nobody types one to be acted on."""
    if mode == "all":
        return True
    return mode == "opt-out" if label is None else label == "true"
