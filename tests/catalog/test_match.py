"""The one label matcher, as a table over scalar, array, wildcard and absent."""

from __future__ import annotations

import pytest

from catalog import match
from kubernaut_ray.contracts.catalog import SearchFilters, WorkflowLabels

YES, ANY, SILENT, NO = match.EXACT, match.WILDCARD, match.SILENT, None


@pytest.mark.parametrize(
    ("field", "wanted", "fact", "strength"),
    [
        ("severity", "critical", "critical", YES),
        ("severity", ("critical", "high"), "high", YES),
        ("severity", ("critical", "high"), "info", NO),
        ("severity", "*", "info", ANY),
        ("severity", ("*",), "info", ANY),
        ("severity", ("critical", "*"), "critical", YES),
        ("severity", ("critical", "*"), "info", ANY),
        ("severity", (), "info", ANY),
        ("severity", "", "info", ANY),
        ("severity", "critical", "", SILENT),
        ("severity", "critical", "unknown", SILENT),
        ("severity", "medium", "warning", YES),
        ("severity", "warning", "medium", YES),
        ("severity", "low", "info", YES),
        ("severity", "low", "warning", NO),
        ("severity", "high", "critical", NO),
        ("component", "apps/v1/Deployment", "deployment", YES),
        ("component", "deployment", "apps/v1/Deployment", YES),
        ("component", "v1/Node", "Deployment", NO),
        ("component", ("v1/ConfigMap", "apps/v1/Deployment"), "DEPLOYMENT", YES),
        ("environment", "production", "Production", YES),
        ("environment", ("staging",), "PRODUCTION", NO),
        ("environment", "prod", "production", YES),
        ("environment", "staging", "unknown", SILENT),
        ("priority", "P0", "p0", YES),
        ("priority", ("P0", "P1"), "P2", NO),
        ("signal_type", "OOMKilled", "OOMKilled", YES),
        ("signal_type", "OOMKilled", "CrashLoopBackOff", NO),
    ],
)
def test_mandatory_label(field, wanted, fact, strength):
    """A label admits a fact it names, or anything where it says nothing; a contradicted one says which and why."""
    verdict = match.label(field, wanted, fact)
    assert (strength is not None) == verdict.admitted
    assert strength is None or strength == verdict.strength
    assert verdict.admitted or field in verdict.reason


@pytest.mark.parametrize(
    ("wanted", "facts", "admitted", "positive"),
    [
        ({}, {"gitOpsManaged": True}, True, False),
        ({"gitOpsManaged": "true"}, {"gitOpsManaged": True}, True, True),
        ({"gitOpsManaged": "true"}, {"gitOpsManaged": False}, False, False),
        ({"gitOpsManaged": "true"}, {}, True, False),
        ({"gitOpsManaged": "false"}, {"gitOpsManaged": True}, True, False),
        ({"gitOpsTool": "*"}, {"gitOpsTool": "argocd"}, True, True),
        ({"gitOpsTool": "*"}, {"gitOpsTool": ""}, False, False),
        ({"gitOpsTool": "flux"}, {"gitOpsTool": "argocd"}, False, False),
        ({"gitOpsTool": "flux"}, {"gitOpsTool": "Flux"}, True, True),
        ({"serviceMesh": "true"}, {"serviceMesh": "istio"}, True, True),
        ({"pdbProtected": "true", "hpaEnabled": "true"}, {"pdbProtected": True, "hpaEnabled": False}, False, False),
    ],
    ids=[
        "no requirement admits anything",
        "a confirmed requirement counts",
        "a contradicted requirement refuses",
        "an unknown fact is not false",
        "a requirement of false requires nothing",
        "a wildcard wants some value",
        "a wildcard is not met by nothing",
        "another value refuses",
        "case does not matter",
        "true is met by any value",
        "one contradiction refuses",
    ],
)
def test_detected_labels(wanted, facts, admitted, positive):
    """Requirements are judged against what the cluster says, and only that."""
    verdict = match.detected(wanted, facts)
    assert (admitted, positive) == (verdict.admitted, verdict.strength > 0)


def test_exact_beats_wildcard():
    """Naming a tool is worth more than accepting any."""
    facts = {"gitOpsTool": "argocd"}
    assert (
        match.detected({"gitOpsTool": "argocd"}, facts).strength > match.detected({"gitOpsTool": "*"}, facts).strength
    )


@pytest.mark.parametrize(
    ("wanted", "facts", "strength"),
    [
        ({}, {"team": ("payments",)}, 0.0),
        ({"team": ("payments",)}, {}, 0.0),
        ({"team": ("payments", "orders")}, {"team": ("orders",)}, 1.0),
        ({"team": ("*",)}, {"team": ("orders",)}, 0.5),
        ({"team": ("orders",)}, {"team": ("orders",), "tier": ("gold",)}, 0.5),
        ({"team": ("payments",)}, {"team": ("orders",)}, None),
    ],
)
def test_custom_labels(wanted, facts, strength):
    """Keys that both sides name must share a value; others require nothing."""
    verdict = match.custom(wanted, facts)
    assert (strength is not None) == verdict.admitted
    assert strength is None or strength == pytest.approx(verdict.strength)


@pytest.mark.parametrize(
    ("wanted", "facts", "missed"),
    [
        ({}, {}, 0.0),
        ({}, {"gitOpsManaged": True, "gitOpsTool": "argocd"}, 1.0),
        ({"gitOpsTool": "*"}, {"gitOpsManaged": True, "gitOpsTool": "argocd"}, 0.5),
        ({}, {"gitOpsManaged": False, "gitOpsTool": ""}, 0.0),
    ],
)
def test_penalty(wanted, facts, missed):
    """Leaving GitOps management out of account costs, and only that."""
    assert missed == match.penalty(wanted, facts)


def test_refusal_names_the_first_contradiction():
    """An explanation says the label, the fact and what the workflow is for."""
    labels = WorkflowLabels(severity=("critical", "high"), environment="staging")
    filters = SearchFilters(severity="info", environment="production")
    assert match.refusal(labels, filters) == "severity is info; the workflow is for critical, high"
    assert match.refusal(labels, SearchFilters()) == ""
