"""What counts as a change of an object's spec."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray.kube.spec_hash import spec_hash

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "generation": 3, "resourceVersion": "7"},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": "web:1"}]}}},
    "status": {"readyReplicas": 2},
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"status": {"readyReplicas": 0}}, True, id="another status"),
        pytest.param({"metadata": {"name": "web", "generation": 4}}, True, id="other metadata"),
        pytest.param({"spec": {**DEPLOYMENT["spec"], "replicas": 9}}, True, id="an autoscaler's replicas"),
        pytest.param({"spec": dict(reversed(DEPLOYMENT["spec"].items()))}, True, id="another order"),
        pytest.param({"spec": {**DEPLOYMENT["spec"], "paused": True}}, False, id="another spec"),
    ],
)
def test_only_the_spec_counts(change: dict[str, Any], same: bool) -> None:
    """And of the spec not what controllers change by themselves."""
    assert same == (spec_hash(DEPLOYMENT) == spec_hash({**DEPLOYMENT, **change}))


def test_a_kind_without_a_spec_is_what_it_holds() -> None:
    """A ConfigMap's data."""
    config = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    assert spec_hash(config) == spec_hash({**config, "metadata": {"name": "c", "labels": {"x": "y"}}})
    assert spec_hash(config) != spec_hash({**config, "data": {"a": "2"}})
