"""Which value a workflow's parameter wants, told from its name and type; no workflow is known by name here.

``fill`` gives the values of one turn; a later turn goes further (a larger factor, an older revision), for when an earlier
attempt with the first values has failed. What cannot be told from evidence is left out.
"""

from __future__ import annotations

import re

from kubernaut_ray.contracts.catalog import Workflow, WorkflowParameter
from kubernaut_ray.contracts.signal_words import keywords
from kubernaut_ray.crds.enums import ParameterType
from kubernaut_ray.crds.shared import TargetResource
from serve_apps.holmesgpt.models.hypotheses import Hints

TURNS = 4
_FACTORS = (2, 3, 4, 8)
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]{0,2})")
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def fill(workflow: Workflow, hints: Hints, target: TargetResource, turn: int = 0) -> dict[str, str]:
    """Return the values that the evidence gives, without the target's (they are injected elsewhere)."""
    values = {}
    for parameter in workflow.parameters:
        if parameter.name.startswith("TARGET_RESOURCE_"):
            continue
        value = _value(parameter, hints, target, turn)
        if value:
            values[parameter.name] = value
    return values


def scaled_memory(limit: str, factor: int) -> str:
    """Multiply a memory quantity, in whole Mi or Gi; empty when it is no quantity."""
    bytes_ = _parsed(limit)
    if not bytes_:
        return ""
    mebi = -(-int(bytes_ * factor) // 2**20)
    return f"{mebi // 1024}Gi" if mebi % 1024 == 0 else f"{mebi}Mi"


def scaled_cpu(limit: str, factor: int) -> str:
    """Multiply a CPU quantity, in millicores or whole cores; empty when it is no quantity."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", limit)
    if match is None:
        return ""
    milli = round(float(match[1]) * (1 if match[2] else 1000) * factor)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def _parsed(limit: str) -> float:
    match = _QUANTITY.fullmatch(limit)
    return float(match[1]) * _BYTES[match[2]] if match and match[2] in _BYTES else 0.0


def _value(parameter: WorkflowParameter, hints: Hints, target: TargetResource, turn: int) -> str:
    words = keywords(parameter.name)
    if "namespace" in words:
        return target.namespace
    if "image" in words:
        return hints.image
    if "container" in words:
        return hints.container
    if words & {"memory", "mem"}:
        return _memory(parameter, words, hints, turn)
    if "cpu" in words and not words & {"max", "min", "increment", "step"}:
        return scaled_cpu(hints.cpu_limit, _FACTORS[turn]) if "request" not in words or parameter.required else ""
    if "revision" in words:
        return str(hints.revisions[turn]) if turn < len(hints.revisions) else ""
    if words & {"replicas", "replica"} and not words & {"add", "extra", "increment", "step", "by"}:
        return _replicas(words, hints, turn)
    if words & {"available", "unavailable"}:
        return _budget(words, hints, turn)
    if parameter.type is not ParameterType.STRING:
        return ""
    by_word = {
        "pdb": hints.budget, "budget": hints.budget, "disruption": hints.budget, "hpa": hints.scaler, "autoscaler": hints.scaler,
        "pod": hints.pod, "node": hints.node, "pvc": hints.claim, "claim": hints.claim, "kind": target.kind,
    }  # fmt: skip
    for word, value in by_word.items():
        if word in words:
            return value
    if parameter.default is None and words & {
        "deployment",
        "workload",
        "statefulset",
        "daemonset",
        "resource",
        "target",
        "name",
    }:
        return target.name
    return parameter.enum[0] if parameter.required and len(parameter.enum) == 1 else ""


def _memory(parameter: WorkflowParameter, words: frozenset[str], hints: Hints, turn: int) -> str:
    factor = _FACTORS[turn]
    if words & {"factor", "multiplier"}:
        return str(factor)
    if "percent" in words or "percentage" in words:
        return str((factor - 1) * 100)
    if words & {"max", "min", "increment", "step", "cap"} and not parameter.required:
        return ""
    if "request" in words or "requests" in words:
        return scaled_memory(hints.memory_request, factor) if parameter.required else ""
    wanted = scaled_memory(hints.memory_limit, factor)
    if not wanted or parameter.type is not ParameterType.INTEGER:
        return wanted
    unit = 2**30 if words & {"gi", "gb", "gib"} else 1 if "bytes" in words else 2**20
    return str(max(1, round(_parsed(wanted) / unit)))


def _replicas(words: frozenset[str], hints: Hints, turn: int) -> str:
    if "max" in words or "maximum" in words:
        return str(hints.max_replicas + turn) if hints.max_replicas is not None else ""
    if "min" in words or "minimum" in words:
        return ""
    return str(hints.replicas + turn) if hints.replicas is not None else ""


def _budget(words: frozenset[str], hints: Hints, turn: int) -> str:
    if not hints.budget:
        return ""
    if "unavailable" in words:
        return str(1 + turn)
    return str(max((hints.min_available or 0) - turn, 0)) if hints.min_available is not None else ""
