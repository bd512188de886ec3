"""Classification: the shipped policies on real contexts, and a safe word wherever policies fail to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.signal_processing import classify
from actors.signal_processing.classify import ENTRYPOINTS, Classification, Classifier
from kubernaut_ray import shipped
from kubernaut_ray.crds.enums import (
    ClassificationReason,
    Criticality,
    Environment,
    EnvironmentSource,
    Priority,
    PrioritySource,
    Severity,
    SlaTier,
)
from kubernaut_ray.crds.shared import DetectedLabels, KubernetesContext, RelatedObject
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.policy.verdict import Undefined, Verdict
from kubernaut_ray.settings import SignalProcessingSettings
from tests import build

SETTINGS = SignalProcessingSettings()


def spec(severity: str = "critical", **labels: str) -> Any:
    made = build.signal_processing(build.remediation_request(), phase=None).spec
    return made.replace(signal=made.signal.replace(severity=severity, labels=labels))


def context(name: str = "shop", **labels: str) -> KubernetesContext:
    return KubernetesContext(namespace=RelatedObject(kind="Namespace", name=name, labels=labels))


@pytest.fixture
async def shipped_policies() -> AsyncIterator[PolicyEngine]:
    engine = PolicyEngine(shipped.directory() / "policies", ENTRYPOINTS)
    yield engine
    await engine.close()


async def with_policies(directory: Path, **sources: str) -> Classification:
    for name, source in sources.items():
        (directory / f"{name}.rego").write_text(f"package signalprocessing.{name}\nimport rego.v1\n{source}\n")
    engine = PolicyEngine(directory, ENTRYPOINTS)
    try:
        return await Classifier(engine, SETTINGS).classify(spec(), context(**{"kubernaut.ai/environment": "test"}))
    finally:
        await engine.close()


async def test_a_critical_signal_in_production_is_p0(shipped_policies: PolicyEngine) -> None:
    """The whole of a classification, from the namespace's labels and the raw severity."""
    labels = {"kubernaut.ai/environment": "Production", "kubernaut.ai/team": "retail"}
    found = await Classifier(shipped_policies, SETTINGS).classify(spec("Page"), context(**labels))
    assert found == Classification(
        environment=Environment.PRODUCTION,
        environment_source=EnvironmentSource.NAMESPACE_LABELS,
        severity=Severity.CRITICAL,
        priority=Priority.P0,
        priority_source=PrioritySource.REGO_POLICY,
        policy_name="critical-production",
        custom_labels={"team": ("retail",)},
        policy_hash=shipped_policies.hash,
    )
    assert len(found.policy_hash) == 64


async def test_the_alert_cannot_choose_its_environment(shipped_policies: PolicyEngine) -> None:
    """Labels of the signal say development; the cluster says nothing; nobody believes the signal."""
    forged = spec("warning", environment="development", **{"kubernaut.ai/environment": "development"})
    found = await Classifier(shipped_policies, SETTINGS).classify(forged, context())
    assert found.environment is Environment.UNKNOWN
    assert (found.priority, found.priority_source) == (Priority.P2, PrioritySource.DEFAULT)


async def test_a_namespace_that_could_not_be_read_is_an_unknown_environment(shipped_policies: PolicyEngine) -> None:
    """Degraded mode never becomes a guess."""
    found = await Classifier(shipped_policies, SETTINGS).classify(spec(), KubernetesContext(degraded_mode=True))
    assert found.environment is Environment.UNKNOWN
    assert found.flaws == ()


async def test_a_label_that_no_policy_knows_is_told(shipped_policies: PolicyEngine) -> None:
    """A typo in the namespace's label is a condition, not a silent default."""
    found = await Classifier(shipped_policies, SETTINGS).classify(
        spec(), context(**{"kubernaut.ai/environment": "prodction"})
    )
    assert found.environment is Environment.UNKNOWN
    assert [flaw.reason for flaw in found.flaws] == [ClassificationReason.INVALID_NAMESPACE_LABELS]
    assert "prodction" in found.flaws[0].message


async def test_without_policies_every_word_is_the_safe_one(tmp_path: Path) -> None:
    """Unknown environment, which asks for approval later, and never P0."""
    found = await with_policies(tmp_path)
    assert (found.environment, found.environment_source) == (Environment.UNKNOWN, EnvironmentSource.DEFAULT)
    assert found.severity is Severity.UNKNOWN
    assert (found.priority, found.priority_source) == (Priority.P2, PrioritySource.SEVERITY_FALLBACK)
    assert {flaw.reason for flaw in found.flaws} == {ClassificationReason.POLICY_NOT_FOUND}
    assert found.policy_hash == ""


async def test_rules_that_conflict_fall_back_and_are_told(tmp_path: Path) -> None:
    """The severity that another policy found still counts."""
    found = await with_policies(
        tmp_path,
        environment='result := {"environment": "production", "source": "namespace-labels"}',
        severity='result := "critical"',
        priority='result := {"priority": "P0", "policy_name": "a"} if input.severity == "critical"\n'
        'result := {"priority": "P3", "policy_name": "b"} if input.environment == "production"',
    )
    assert (found.environment, found.severity) == (Environment.PRODUCTION, Severity.CRITICAL)
    assert (found.priority, found.priority_source) == (Priority.P1, PrioritySource.SEVERITY_FALLBACK)
    (flaw,) = found.flaws
    assert flaw.reason is ClassificationReason.SEVERITY_FALLBACK
    assert "multiple outputs" in flaw.message


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        pytest.param({"severity": 'result := "purple"'}, "'purple' is not an answer", id="a word that is not ours"),
        pytest.param({"severity": "result := {}"}, "'{}' is not an answer", id="a value of the wrong shape"),
        pytest.param({"severity": 'result := "high" if input.never'}, "undefined", id="no default rule"),
        pytest.param({"severity": "result := 1 / 0"}, "divide by zero", id="an error in the rule"),
        pytest.param({"environment": 'result := "production"'}, "not an answer", id="an environment without a source"),
    ],
)
async def test_answers_that_cannot_be_used_are_flaws(tmp_path: Path, sources: dict[str, str], complaint: str) -> None:
    """What a policy answers is checked before it becomes a fact."""
    found = await with_policies(tmp_path, **sources)
    assert any(complaint in flaw.message for flaw in found.flaws)
    assert found.severity is Severity.UNKNOWN
    assert found.environment is Environment.UNKNOWN


async def test_a_bad_new_version_is_told_while_the_last_good_one_decides(tmp_path: Path) -> None:
    """Hot reload keeps the last good policies, and the condition says that the new ones are refused."""
    (tmp_path / "severity.rego").write_text('package signalprocessing.severity\nresult := "high"\n')
    engine = PolicyEngine(tmp_path, ENTRYPOINTS, reload_interval=0)
    classifier = Classifier(engine, SETTINGS)
    before = await classifier.classify(spec(), context())
    (tmp_path / "severity.rego").write_text("package signalprocessing.severity\nresult := {\n")
    after = await classifier.classify(spec(), context())
    await engine.close()
    assert (before.severity, before.notes) == (Severity.HIGH, ())
    assert (after.severity, after.policy_hash) == (Severity.HIGH, before.policy_hash)
    assert "the last good policies" in after.notes[0]
    assert "severity.rego:2" in after.notes[0]


async def test_labels_beyond_the_limits_are_dropped_and_told(tmp_path: Path) -> None:
    """Nobody has to guess where a label went."""
    labels = '{name: values | some i in numbers.range(10, 22); name := sprintf("key-%d", [i]); values := ["v"]}'
    found = await with_policies(tmp_path, labels=f'labels := object.union({labels}, {{"system/x": ["y"]}})')
    assert sorted(found.custom_labels) == [f"key-{n}" for n in range(10, 20)]
    (note,) = found.notes
    assert "dropped or shortened: key-20, key-21, key-22, system/x" in note


async def test_a_policy_that_takes_too_long_is_a_flaw(tmp_path: Path) -> None:
    """The deadline is told, and the safe word stands in."""
    spin = "count([1 | some i in numbers.range(1, 700); some j in numbers.range(1, 700); i * j > 0])"
    found = await with_policies(tmp_path, priority=f'result := {{"priority": "P0"}} if {spin} > 0')
    assert (found.priority, found.priority_source) == (Priority.P2, PrioritySource.SEVERITY_FALLBACK)
    assert any("no verdict within 0.1 s" in flaw.message for flaw in found.flaws)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param({"team": ["a"]}, "", id="nothing"),
        pytest.param({"team": "a"}, "", id="a single text is a list of one"),
        pytest.param({}, "", id="no labels"),
        pytest.param({"team": []}, "", id="a label without values"),
        pytest.param({"kubernaut.ai/x": ["a"]}, "kubernaut.ai/x", id="a reserved name"),
        pytest.param({"team": ["a", 1]}, "team", id="a value that is no text"),
        pytest.param({"team": ["a", "b", "c", "d", "e", "f"]}, "team", id="a value too many"),
        pytest.param({"team": ["x" * 101]}, "team", id="a value that is too long"),
        pytest.param(["team"], "is not an object", id="no object at all"),
    ],
)
def test_what_is_dropped_is_named(value: Any, said: str) -> None:
    """By name; empty when everything was kept."""
    told = classify.dropped_labels(value, classify.bounded_labels(value))
    assert bool(told) is bool(said)
    assert said in told


async def test_business_comes_from_labels_with_defaults(shipped_policies: PolicyEngine) -> None:
    """Field by field."""
    labels = {"kubernaut.ai/sla-tier": "tier-1", "kubernaut.ai/criticality": "HIGH", "kubernaut.ai/team": "retail"}
    found = await Classifier(shipped_policies, SETTINGS).categorize(spec(), context(**labels), "production", "high")
    assert (found.flaws, found.policy_hash) == ((), shipped_policies.hash)
    assert found.business.model_dump() == {
        "business_unit": "",
        "service_owner": "retail",
        "criticality": Criticality.HIGH,
        "sla_requirement": SlaTier.GOLD,
    }


def test_a_business_answer_is_read_field_by_field() -> None:
    """One wrong field costs itself only."""
    found = classify.business(Verdict({"business_unit": "shop", "criticality": "enormous", "sla": "gold"}))
    assert (found.business.business_unit, found.business.sla_requirement) == ("shop", SlaTier.GOLD)
    assert found.business.criticality is Criticality.MEDIUM
    assert "'enormous' is not one of critical, high, medium, low" in found.flaws[0]
    assert "undefined" in classify.business(Undefined()).flaws[0]


@given(
    st.dictionaries(
        st.text(max_size=80) | st.sampled_from(["kubernaut.ai/x", "system/y"]),
        st.text(max_size=200) | st.lists(st.text(max_size=200) | st.integers(), max_size=8) | st.integers(),
        max_size=20,
    )
    | st.integers()
)
def test_custom_labels_always_fit_the_status(value: Any) -> None:
    """Whatever a policy answers, the caps hold, reserved keys are gone, and the status can hold it."""
    kept = classify.bounded_labels(value)
    assert len(kept) <= 10
    assert all(1 <= len(values) <= 5 and all(0 < len(v) <= 100 for v in values) for values in kept.values())
    assert not any(key.startswith(("kubernaut.ai/", "system/")) or len(key) > 63 for key in kept)
    assert KubernetesContext(custom_labels=kept).custom_labels == kept


def test_the_input_is_plain_json_in_snake_case() -> None:
    """What policies see is a contract."""
    target = RelatedObject(kind="Deployment", name="web", namespace="shop", labels={"tier": "x"})
    seen = context().replace(deployment=target, detected_labels=DetectedLabels(pdb_protected=True))
    subject = classify.policy_input(spec("high"), seen)
    assert set(subject) == {
        "signal",
        "namespace",
        "target",
        "owner_chain",
        "detected_labels",
        "failed_detections",
        "degraded_mode",
    }
    assert subject["target"]["labels"] == {"tier": "x"}
    assert subject["detected_labels"]["pdb_protected"] is True
    assert "provider_data" not in subject["signal"]
