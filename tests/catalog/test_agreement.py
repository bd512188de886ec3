"""A declaration against the bundle's schema, in both forms: what says the same, and how a difference is told."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalog.agreement import check, differences
from catalog.workflow import parse_schema
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow
from kubernaut_ray.errors import InvalidInput
from tests.catalog.test_workflow import ENVELOPE, FLAT

FLAT_AS_ENVELOPE = {
    "version": "1.2.0",
    "title": "Restart a rollout",
    "description": {"what": "Restarts pods.", "whenToUse": "They hang."},
    "actionType": "RestartRollout",
    "owner": "Ops",
    "maintainers": [{"name": "Ops", "email": "ops@example.com"}],
    "labels": {
        "signalType": "OOMKilled", "severity": ["high", "critical"], "component": ["apps/v1/Deployment"],
        "environment": "*", "priority": ["*", "P0"],
    },
    "detectedLabels": {"hpaEnabled": True, "gitOpsTool": "argocd", "stateful": False},
    "customLabels": {"constraint": "cost-constrained", "risk_tolerance": ["low"]},
    "execution": {"engine": "tekton", "bundle": "elsewhere/w:1", "bundleDigest": ""},
    "parameters": [
        {"name": "TARGET_RESOURCE_NAME", "type": "string", "required": True},
        {"name": "COUNT", "minimum": 1, "maximum": 5, "default": 2},
        {"name": "NAMES", "default": ["a", "b"]},
        {"name": "FORCE", "default": True, "dependsOn": ["COUNT"]},
    ],
    "rollbackParameters": [],
}  # fmt: skip


def record(text: str) -> Workflow:
    return parse_schema(text, container_image="r.example/w:1", container_digest=f"sha256:{'a' * 64}")


def test_a_flat_schema_agrees_with_the_envelope_that_says_the_same() -> None:
    """Values and lists, order of alternatives, numbers for texts, false requirements: all of it is form, not meaning."""
    assert list(differences(FLAT_AS_ENVELOPE, record(FLAT))) == []


def test_the_bundles_own_envelope_file_can_be_applied() -> None:
    """Read as the object of a cluster, everything that it says agrees with itself."""
    document = yaml.safe_load(ENVELOPE)
    document["metadata"], document["status"] = {"name": "crashloop-rollback-v1"}, {}
    declared = RemediationWorkflow.from_object(document)
    assert declared.spec.expected()["labels"]["environment"] == ["production"]
    assert list(differences(declared.spec.expected(), record(ENVELOPE))) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "1.2.1"}, [("spec.version", 'is "1.2.1" here, "1.2.0" in the bundle\'s schema')]),
        (
            {"labels": {"severity": "low"}},
            [("spec.labels.severity", 'is ["low"] here, ["critical","high"] in the bundle\'s schema')],
        ),
        ({"labels": {"environment": ["test"]}}, [("spec.labels.environment", 'is ["test"] here, ["*"] in the bundle\'s schema')]),
        (
            {"customLabels": {"constraint": "cost-constrained"}},
            [("spec.customLabels.risk_tolerance", 'is not set here, ["low"] in the bundle\'s schema')],
        ),
        (
            {"detectedLabels": {"hpaEnabled": True, "gitOpsTool": "flux"}},
            [("spec.detectedLabels.gitOpsTool", 'is "flux" here, "argocd" in the bundle\'s schema')],
        ),
        (
            {"parameters": [{"name": "COUNT"}]},
            [("spec.parameters", "has 1 (COUNT) here, 4 (TARGET_RESOURCE_NAME, COUNT, NAMES, FORCE) in the bundle's schema")],
        ),
        ({"execution": {"serviceAccountName": "admin"}}, [("spec.execution.serviceAccountName", 'is "admin" here, "" in the bundle\'s schema')]),
        ({"dependencies": {"secrets": [{"name": "s"}]}}, [("spec.dependencies.secrets", "has 1 (s) here, 0 () in the bundle's schema")]),
        ({"colour": "red"}, [("spec.colour", 'is "red" here, not set in the bundle\'s schema')]),
        ({"labels": 7}, [("spec.labels", 'is 7 here, {"signalType"')]),
    ],
)  # fmt: skip
def test_a_difference_names_the_path_and_both_values(change: dict[str, Any], told: list[tuple[str, str]]) -> None:
    """Long values are cut; nothing else is told."""
    found = list(differences(change, record(FLAT)))
    assert [path for path, _ in found] == [path for path, _ in told]
    assert all(what.startswith(start) for (_, what), (_, start) in zip(found, told, strict=True)), found


def test_a_refusal_lists_all_differences_at_once() -> None:
    """As problems, and in the message, which says what counts and what to do."""
    with pytest.raises(InvalidInput, match="Correct these fields or leave them out") as refused:
        check({"version": "9.9.9", "owner": "Me"}, record(FLAT))
    assert [path for path, _ in refused.value.problems] == ["spec.version", "spec.owner"]
    assert refused.value.reason == "SpecDiffers"
    check({}, record(FLAT))


@given(st.sets(st.sampled_from(sorted(FLAT_AS_ENVELOPE))), st.sampled_from(sorted(FLAT_AS_ENVELOPE)))
def test_any_part_of_the_truth_agrees_and_any_lie_is_found(said: set[str], about: str) -> None:
    """Whatever is left out says nothing; one wrong field is told, and only that one."""
    part = {field: FLAT_AS_ENVELOPE[field] for field in said}
    assert list(differences(part, record(FLAT))) == []
    found = list(differences(part | {about: {"no": "such thing"}}, record(FLAT)))
    assert found
    assert all(path.startswith(f"spec.{about}") for path, _ in found)
