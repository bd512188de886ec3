"""The one label matcher: does a workflow's label admit a fact of the incident, and how exactly does it say so.

Used by the index (which remembers its verdict for each distinct label value) and by ``explain``. A label is a scalar,
several alternatives, ``*``, or absent; a fact that is empty or ``unknown`` filters nothing. The vocabularies differ by
origin and are brought together here and nowhere else: severities (medium is warning, low is info), components
(``apps/v1/Deployment`` is deployment), environments and priorities in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.contracts.catalog import ANY, LabelValue, SearchFilters, WorkflowLabels

LABELS = ("signal_type", "severity", "component", "environment", "priority")
"""The mandatory labels, in the order in which a refusal is explained."""

EXACT, WILDCARD, SILENT = 1.0, 0.5, 0.0
"""How precisely a label that admits a fact speaks of it; silent where one side says nothing."""

DETECTED_BOOSTS = {
    "gitOpsManaged": 0.10, "gitOpsTool": 0.10, "pdbProtected": 0.05, "serviceMesh": 0.05, "networkIsolated": 0.03,
    "helmManaged": 0.02, "stateful": 0.02, "hpaEnabled": 0.02,
}  # fmt: skip
"""Weights of DD-WORKFLOW-004; their sum is a full detected score."""
GITOPS = ("gitOpsManaged", "gitOpsTool")

_SEVERITY = {"medium": "warning", "low": "info"}
_ENVIRONMENT = {"prod": "production", "stage": "staging", "dev": "development"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``strength`` is 0 to 1 where admitted; ``reason`` says why not, empty where admitted."""

    strength: float = SILENT
    reason: str = ""

    @property
    def admitted(self) -> bool:
        return not self.reason


def canonical(field: str, value: str) -> str:
    """Return a value in the one vocabulary of its label; empty for an unknown fact."""
    low = value.strip().lower()
    if field == "component":
        low = low.rsplit("/", 1)[-1]
    elif field == "severity":
        low = _SEVERITY.get(low, low)
    elif field == "environment":
        low = _ENVIRONMENT.get(low, low)
    return "" if low == "unknown" else low


def label(field: str, wanted: LabelValue, fact: str) -> Verdict:
    """Judge one mandatory label of a workflow against one fact."""
    known = canonical(field, fact)
    if not known:
        return Verdict()
    values = [canonical(field, v) for v in ((wanted,) if isinstance(wanted, str) else wanted)]
    values = [v for v in values if v]
    if known in values:
        return Verdict(EXACT)
    if not values or ANY in values:
        return Verdict(WILDCARD)
    return Verdict(reason=f"{field} is {known}; the workflow is for {', '.join(values)}")


def detected(wanted: Mapping[str, str], facts: Mapping[str, Any]) -> Verdict:
    """Judge detected labels: a requirement that the cluster contradicts refuses, one it confirms adds its weight.

    A fact that is not there is unknown, not false.
    """
    earned = 0.0
    for name, want in wanted.items():
        if name not in facts or want.lower() == "false":
            continue
        fact = facts[name]
        said = ("true" if fact else "") if isinstance(fact, bool) else str(fact or "")
        if not said or said.lower() == "false":
            return Verdict(reason=f"needs {name}={want}, which the target is not")
        if want not in (ANY, "true") and said.lower() != want.lower():
            return Verdict(reason=f"needs {name}={want}; the target has {said}")
        earned += DETECTED_BOOSTS.get(name, 0.0) * (WILDCARD if want == ANY else EXACT)
    return Verdict(min(1.0, earned / sum(DETECTED_BOOSTS.values())))


def penalty(wanted: Mapping[str, str], facts: Mapping[str, Any]) -> float:
    """Return 0 to 1: how much of the target's GitOps management a workflow leaves out of account."""
    missed = [name for name in GITOPS if facts.get(name) and name not in wanted]
    return len(missed) / len(GITOPS)


def custom(wanted: Mapping[str, Sequence[str]], facts: Mapping[str, Sequence[str]]) -> Verdict:
    """Judge custom labels: a key that both sides name must share a value; a key that one side lacks requires nothing."""
    shared = {key: (set(values), set(facts[key])) for key, values in wanted.items() if facts.get(key)}
    for key, (values, given) in shared.items():
        if values and ANY not in values and not values & given:
            return Verdict(
                reason=f"{key} is {', '.join(sorted(given))}; the workflow is for {', '.join(sorted(values))}"
            )
    if not shared:
        return Verdict()
    strengths = [EXACT if values & given else WILDCARD for values, given in shared.values()]
    return Verdict(sum(strengths) / len(facts))


def refusal(labels: WorkflowLabels, filters: SearchFilters) -> str:
    """Return why these facts rule the workflow out, empty when they do not."""
    return next(iter(refusals(labels, filters).values()), "")


def refusals(labels: WorkflowLabels, filters: SearchFilters) -> dict[str, str]:
    """Return everything that rules the workflow out: the label (``detected`` and ``custom`` are one each), and why."""
    verdicts = {field: label(field, getattr(labels, field), getattr(filters, field)) for field in LABELS}
    verdicts["detected"] = detected(labels.detected, filters.detected_labels)
    verdicts["custom"] = custom(labels.custom, filters.custom_labels)
    return {field: verdict.reason for field, verdict in verdicts.items() if not verdict.admitted}
