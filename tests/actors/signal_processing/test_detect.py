"""Detected labels: proven relations only."""

from __future__ import annotations

from typing import Any

import pytest

from actors.signal_processing.detect import detect, scales, selects
from kubernaut_ray.crds.enums import Detection
from kubernaut_ray.crds.shared import DetectedLabels, OwnerEntry

LABELS = {"app": "web", "tier": "front"}


def found(**change: Any) -> DetectedLabels:
    nothing: dict[str, Any] = {
        "owners": [OwnerEntry(kind="Deployment", name="web")],
        "target_kind": "Deployment",
        "labels": [],
        "annotations": [],
        "namespace": None,
        "pod_labels": LABELS,
        "budgets": (),
        "autoscalers": (),
        "isolations": (),
    }
    return detect(**{**nothing, **change})


@pytest.mark.parametrize(
    ("change", "tool"),
    [
        pytest.param({"labels": [{"argocd.argoproj.io/instance": "x"}]}, "argocd", id="Argo CD label"),
        pytest.param({"annotations": [{"argocd.argoproj.io/tracking-id": "x"}]}, "argocd", id="Argo CD annotation"),
        pytest.param({"labels": [{"fluxcd.io/sync-gc-mark": "x"}]}, "flux", id="Flux 1"),
        pytest.param({"labels": [{"kustomize.toolkit.fluxcd.io/name": "x"}]}, "flux", id="Flux 2 kustomization"),
        pytest.param({"labels": [{"helm.toolkit.fluxcd.io/name": "x"}]}, "flux", id="Flux 2 Helm release"),
        pytest.param(
            {"namespace": {"metadata": {"annotations": {"argocd.argoproj.io/managed": "true"}}}},
            "argocd",
            id="namespace",
        ),
        pytest.param({"labels": [{"app": "argocd"}]}, "", id="a word that is only a value"),
    ],
)
def test_gitops_tools_are_told_by_their_marks(change: dict[str, Any], tool: str) -> None:
    """A mark names the tool; without one nobody manages it."""
    detected = found(**change)
    assert (detected.git_ops_tool, detected.git_ops_managed) == (tool, bool(tool))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({"matchLabels": {"app": "web"}}, True, id="a label that is there"),
        pytest.param({"matchLabels": {"app": "web", "x": "y"}}, False, id="one label missing"),
        pytest.param({}, True, id="an empty selector selects everything"),
        pytest.param(None, False, id="no selector selects nothing"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}, True, id="In"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False, id="NotIn"),
        pytest.param(
            {"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]}, True, id="NotIn absent"
        ),
        pytest.param({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True, id="Exists"),
        pytest.param({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False, id="DoesNotExist"),
        pytest.param({"matchExpressions": [{"key": "tier", "operator": "Sounds"}]}, False, id="an unknown operator"),
    ],
)
def test_selectors_select_as_in_kubernetes(selector: dict[str, Any] | None, expected: bool) -> None:
    """matchLabels and matchExpressions together, all of them."""
    spec = {} if selector is None else {"selector": selector}
    assert selects({"spec": spec}, LABELS) is expected
    assert found(budgets=[{"spec": spec}]).pdb_protected is expected


def test_no_pod_labels_are_protected_by_nothing() -> None:
    """Without pods nothing is proven."""
    assert not selects({"spec": {"selector": {}}}, {})


def test_an_autoscaler_counts_when_it_names_the_target_or_an_owner() -> None:
    """Another kind of the same name is another object."""
    named = {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}
    assert scales(named, [OwnerEntry(kind="Deployment", name="web")])
    assert not scales(named, [OwnerEntry(kind="StatefulSet", name="web")])


def test_queries_that_failed_are_unknown_and_not_false() -> None:
    """``None`` is no answer; an empty answer is one."""
    detected = found(budgets=None, isolations=None)
    assert detected.failed_detections == (Detection.PDB_PROTECTED, Detection.NETWORK_ISOLATED)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({"app.kubernetes.io/managed-by": "Helm"}, True, id="managed by Helm"),
        pytest.param({"helm.sh/chart": "web-1.0"}, True, id="of a chart"),
        pytest.param({"app.kubernetes.io/managed-by": "kubectl"}, False, id="managed by hand"),
    ],
)
def test_helm_is_told_by_labels(labels: dict[str, str], expected: bool) -> None:
    """Both marks that Helm leaves."""
    assert found(labels=[labels]).helm_managed is expected
