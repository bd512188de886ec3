"""Declared workflows as the API server holds them: what it refuses by itself, and how kubectl shows and explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernaut_ray import shipped
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Invalid
from kubernaut_ray.kube.resources import REMEDIATION_WORKFLOW
from tests import build
from tests.conformance.conftest import Run

pytestmark = pytest.mark.conformance
DIGESTS = tuple(f"sha256:{character * 64}" for character in "ab")


def declared(name: str = "restart", **execution: Any) -> Object:
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "RemediationWorkflow",
        "metadata": {"name": name},
        "spec": {"execution": {"bundle": "r.example/workflows/restart:1.0.0", **execution}},
    }


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"severity": "high", "component": "*"}, id="one value each"),
        pytest.param({"severity": ["high", "critical"], "component": ["pod"]}, id="lists"),
    ],
)
async def test_labels_may_be_values_or_lists(kube: KubeClient, namespace: str, labels: dict[str, Any]) -> None:
    """Both are the envelope form; neither is touched on the way in."""
    body = declared()
    body["spec"] |= {
        "labels": labels,
        "customLabels": {"team": "a", "tiers": ["b"]},
        "detectedLabels": {"hpaEnabled": True},
    }
    stored = await kube.create(REMEDIATION_WORKFLOW, body, namespace)
    assert stored["spec"] == {**body["spec"], "suspend": False}


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        pytest.param({"bundle": ""}, "spec.execution.bundle", id="empty"),
        pytest.param({"bundle": None}, "bundle", id="none"),
        pytest.param({"bundle": "restart"}, "spec.execution.bundle", id="no registry"),
        pytest.param(
            {"bundle": f"r.example/w@{DIGESTS[0]}", "bundleDigest": DIGESTS[1]}, "two digests", id="two digests"
        ),
        pytest.param({"bundleDigest": "sha256:abc"}, "spec.execution.bundleDigest", id="no digest"),
        pytest.param({"engine": "magic"}, "spec.execution.engine", id="no engine"),
    ],
)
async def test_sources_that_are_refused(
    kube: KubeClient, namespace: str, execution: dict[str, Any], words: str
) -> None:
    """By kubectl apply already."""
    with pytest.raises(Invalid, match=words):
        await kube.create(REMEDIATION_WORKFLOW, declared(**execution), namespace)


async def test_the_same_digest_twice_is_one(kube: KubeClient, namespace: str) -> None:
    """As tools write it that fill in both."""
    body = declared(bundle=f"r.example/w:1@{DIGESTS[0]}", bundleDigest=DIGESTS[0])
    assert await kube.create(REMEDIATION_WORKFLOW, body, namespace)


def test_kubectl_shows_and_explains_declared_workflows(kctl: Run, tmp_path: Path) -> None:
    """The columns, the message in wide, the category, and every field in words."""
    kctl("create", "-f", "-", input=yaml.safe_dump(declared()))
    status = build.declared_workflow().status.to_object() | {"message": "differs from the schema"}
    kctl("patch", "rw", "restart", "--subresource=status", "--type=merge", "-p", yaml.safe_dump({"status": status}))
    head, row = kctl("get", "remediationworkflows").stdout.splitlines()
    assert head.split() == ["NAME", "WORKFLOW", "VERSION", "STATUS", "ACTION", "AGE"]
    assert row.split()[:5] == ["restart", "w", "1.0.0", "Rejected", "Do"]
    assert "differs from the schema" in kctl("get", "rw", "-o", "wide").stdout
    assert "restart" in kctl("get", "kubernaut").stdout
    explained = kctl("explain", "rw.spec.execution").stdout
    assert "bundle" in explained
    assert "Pin the digest" in explained
    assert "disabled in the catalog while this is set" in kctl("explain", "rw.spec.suspend").stdout
    assert "severity" in kctl("explain", "rw.spec.labels").stdout


def test_the_sample_is_valid(kctl: Run) -> None:
    """As it is in the repository, but for the namespace of the test."""
    sample = yaml.safe_load((shipped.directory() / "samples" / "remediation-workflow.yaml").read_text())
    del sample["metadata"]["namespace"]
    assert "created" in kctl("create", "-f", "-", input=yaml.safe_dump(sample)).stdout
