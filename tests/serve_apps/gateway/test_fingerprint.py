"""Fingerprints: one per incident, the same for ever, never shared by unrelated ones."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.shared import TargetResource
from serve_apps.gateway import fingerprint

texts = st.text(max_size=20)


def test_the_form_is_the_documented_one() -> None:
    """sha256 of ``namespace:kind:name``: others can compute it, and it must never change."""
    target = TargetResource(kind="Deployment", name="web", namespace="shop", api_version="apps/v1")
    assert fingerprint.of_target(target) == hashlib.sha256(b"shop:Deployment:web").hexdigest()


@given(st.dictionaries(texts, texts, max_size=6), texts)
def test_label_order_and_measuring_labels_do_not_matter(labels: dict[str, str], name: str) -> None:
    """Two Prometheus replicas, or a rise in severity, do not make another incident."""
    backwards = dict(reversed(labels.items()))
    measured = {**backwards, "prometheus_replica": "b", "severity": "critical", "pod": "exporter-x"}
    bare = {k: v for k, v in labels.items() if k not in ("prometheus_replica", "severity", "pod")}
    assert fingerprint.of_nameless(name, bare) == fingerprint.of_nameless(name, {**measured, **bare})


@given(texts, texts, texts, texts)
def test_no_two_nameless_signals_fold_by_accident(name: str, other: str, key: str, value: str) -> None:
    """Moving text between name, key and value changes the fingerprint."""
    prints = {
        (name, key, value): fingerprint.of_nameless(name, {"l" + key: value}),
        (name, key, value + "x"): fingerprint.of_nameless(name, {"l" + key: value + "x"}),
        (name + other + "y", key, value): fingerprint.of_nameless(name + other + "y", {"l" + key: value}),
    }
    assert len(set(prints.values())) == len(prints)
