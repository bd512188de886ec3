"""Which targets are ours: one rule for the gateway and the orchestrator."""

from __future__ import annotations

import pytest

from kubernaut_ray import names
from kubernaut_ray.scope import Labels, Mode, managed

YES, NO, ODD = ({names.LABEL_MANAGED: value} for value in ("true", "false", "maybe"))
OTHER = {"team": "shop"}


@pytest.mark.parametrize(
    ("mode", "target", "namespace", "expected"),
    [
        pytest.param("all", NO, NO, True, id="all: labels are not asked"),
        pytest.param("opt-in", None, None, False, id="opt-in: nothing is there"),
        pytest.param("opt-in", OTHER, OTHER, False, id="opt-in: no label"),
        pytest.param("opt-in", OTHER, YES, True, id="opt-in: by the namespace"),
        pytest.param("opt-in", None, YES, True, id="opt-in: the target is gone, its namespace is ours"),
        pytest.param("opt-in", YES, NO, True, id="opt-in: the target's own yes wins"),
        pytest.param("opt-in", NO, YES, False, id="opt-in: the target's own no wins"),
        pytest.param("opt-in", YES, None, True, id="opt-in: a cluster-scoped target by its own label"),
        pytest.param("opt-out", None, None, True, id="opt-out: nothing is there"),
        pytest.param("opt-out", OTHER, OTHER, True, id="opt-out: no label"),
        pytest.param("opt-out", OTHER, NO, False, id="opt-out: by the namespace"),
        pytest.param("opt-out", YES, NO, True, id="opt-out: the target's own yes wins"),
        pytest.param("opt-out", NO, YES, False, id="opt-out: the target's own no wins"),
        pytest.param("opt-out", ODD, YES, False, id="opt-out: an unreadable value is a no"),
        pytest.param("opt-in", ODD, YES, False, id="opt-in: an unreadable value is a no"),
    ],
)
def test_managed(mode: Mode, target: Labels, namespace: Labels, expected: bool) -> None:
    """The target's label first, then its namespace's, then what the setting says of unlabelled ones."""
    assert managed(mode, target, namespace) is expected
