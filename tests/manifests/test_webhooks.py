"""The webhook configurations: whom they ask about what, and that they fit what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernaut_ray import crds, names, shipped
from kubernaut_ray.kube.embedded import webhook_checks
from kubernaut_ray.runtime import admission
from kubernaut_ray.settings import AdmissionSettings, ExecutionSettings, Settings
from serve_apps.admission.fencing import RUNS

FOLDER = shipped.directory() / "webhooks"
CONFIGURATIONS = [c for c in yaml.safe_load_all((FOLDER / "webhooks.yaml").read_text()) if c]
WEBHOOKS = [w for c in CONFIGURATIONS for w in c["webhooks"]]


def about(webhook: dict[str, Any]) -> list[str]:
    return [resource for rule in webhook["rules"] for resource in rule["resources"]]


APPROVALS = [c for c in CONFIGURATIONS if c["metadata"]["name"] == "kubernaut-approvals"]


def test_only_what_people_decide_and_runs_depend_on_the_webhook() -> None:
    """Failure policy Fail for the status of approval requests and of executions, for what runs one, and for nothing else."""
    failing = {resource for w in WEBHOOKS if w["failurePolicy"] == "Fail" for resource in about(w)}
    plurals = (crds.RemediationApprovalRequest.META.plural, crds.WorkflowExecution.META.plural)
    assert {*(f"{plural}/status" for plural in plurals), "pipelineruns", "jobs"} == failing


def test_the_platform_is_exempt_from_what_people_are_asked() -> None:
    """By the name under which the API server knows it, in the namespace where our objects lie."""
    for webhook in (w for c in APPROVALS for w in c["webhooks"]):
        [condition] = webhook["matchConditions"]
        if webhook["failurePolicy"] == "Fail":
            assert f"'{names.PLATFORM_USER}'" in condition["expression"]
        assert webhook["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": names.SYSTEM_NAMESPACE}


def test_whoever_creates_the_run_of_an_execution_is_asked() -> None:
    """The platform first of all; other people's PipelineRuns and Jobs are none of its business."""
    [fencing] = [c for c in CONFIGURATIONS if c not in APPROVALS]
    [webhook] = fencing["webhooks"]
    assert "matchConditions" not in webhook
    assert {(group, r) for rule in webhook["rules"] for group in rule["apiGroups"] for r in rule["resources"]} == RUNS
    assert webhook["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": names.WORKFLOW_NAMESPACE}
    [expression] = webhook["objectSelector"]["matchExpressions"]
    assert expression == {"key": names.LABEL_WORKFLOW_EXECUTION, "operator": "Exists"}


def test_both_halves_are_asked_about_the_same() -> None:
    """What is stamped is judged."""
    mutating, validating = (
        {r for w in c["webhooks"] if w["failurePolicy"] == "Fail" for r in about(w)} for c in APPROVALS
    )
    assert mutating == validating


def test_on_one_machine_they_call_this_machine(tmp_path: Path) -> None:
    """With the authority that signed the certificate there; the API server would take them as they are."""
    given = Settings(
        data_dir=tmp_path,
        admission=AdmissionSettings(mode="required", port=8443),
        namespace="here",
        execution=ExecutionSettings(namespace="there"),
    )
    settings = admission.prepare(given)
    made = admission.configurations(settings)
    assert len(made) == len(CONFIGURATIONS)
    for configuration in made:
        assert webhook_checks.problems(configuration, None) == []
        for webhook in configuration["webhooks"]:
            assert webhook["clientConfig"]["url"].startswith("https://127.0.0.1:8443/")
            assert webhook["clientConfig"]["caBundle"]
            home = "there" if configuration["metadata"]["name"] == "kubernaut-fencing" else "here"
            assert webhook["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": home}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.name)
def test_every_manifest_is_named_or_an_example(file: Path) -> None:
    """The kustomization applies what is safe to apply; what gives rights is applied by hand."""
    applied = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    by_hand = {"impersonation.yaml", "admission-configuration.yaml", "kustomization.yaml"}
    assert (file.name in applied) != (file.name in by_hand)
    assert all(d["kind"] for d in yaml.safe_load_all(file.read_text()))
