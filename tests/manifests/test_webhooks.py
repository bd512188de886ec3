"""The webhook configurations: whom they ask about what, and that they fit what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernaut_ray import crds, names, shipped
from kubernaut_ray.kube.embedded import webhook_checks
from kubernaut_ray.runtime import admission
from kubernaut_ray.settings import AdmissionSettings, Settings

FOLDER = shipped.directory() / "webhooks"
CONFIGURATIONS = [c for c in yaml.safe_load_all((FOLDER / "webhooks.yaml").read_text()) if c]
WEBHOOKS = [w for c in CONFIGURATIONS for w in c["webhooks"]]


def about(webhook: dict[str, Any]) -> list[str]:
    return [resource for rule in webhook["rules"] for resource in rule["resources"]]


def test_only_what_people_decide_depends_on_the_webhook() -> None:
    """Failure policy Fail for the status of approval requests and of executions, and for nothing else."""
    failing = {resource for w in WEBHOOKS if w["failurePolicy"] == "Fail" for resource in about(w)}
    plurals = (crds.RemediationApprovalRequest.META.plural, crds.WorkflowExecution.META.plural)
    assert {f"{plural}/status" for plural in plurals} == failing


def test_the_platform_is_exempt_from_what_people_are_asked() -> None:
    """By the name under which the API server knows it, in the namespace where our objects lie."""
    for webhook in WEBHOOKS:
        [condition] = webhook["matchConditions"]
        if webhook["failurePolicy"] == "Fail":
            assert f"'{names.PLATFORM_USER}'" in condition["expression"]
        assert webhook["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": names.SYSTEM_NAMESPACE}


def test_both_halves_are_asked_about_the_same() -> None:
    """What is stamped is judged."""
    mutating, validating = (
        {r for w in c["webhooks"] if w["failurePolicy"] == "Fail" for r in about(w)} for c in CONFIGURATIONS
    )
    assert mutating == validating


def test_on_one_machine_they_call_this_machine(tmp_path: Path) -> None:
    """With the authority that signed the certificate there; the API server would take them as they are."""
    settings = admission.prepare(Settings(data_dir=tmp_path, admission=AdmissionSettings(mode="required", port=8443)))
    made = admission.configurations(settings)
    assert len(made) == len(CONFIGURATIONS)
    for configuration in made:
        assert webhook_checks.problems(configuration, None) == []
        for webhook in configuration["webhooks"]:
            assert webhook["clientConfig"]["url"].startswith("https://127.0.0.1:8443/")
            assert webhook["clientConfig"]["caBundle"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.name)
def test_every_manifest_is_named_or_an_example(file: Path) -> None:
    """The kustomization applies what is safe to apply; what gives rights is applied by hand."""
    applied = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    by_hand = {"impersonation.yaml", "admission-configuration.yaml", "kustomization.yaml"}
    assert (file.name in applied) != (file.name in by_hand)
    assert all(d["kind"] for d in yaml.safe_load_all(file.read_text()))
