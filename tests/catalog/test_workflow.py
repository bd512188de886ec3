from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalog.workflow import parse_schema
from kubernaut_ray import names
from kubernaut_ray.crds.enums import ExecutionEngine, ParameterType
from kubernaut_ray.errors import InvalidInput

FLAT = """
apiVersion: kubernaut.io/v1alpha1
kind: WorkflowSchema
metadata:
  workflow_id: restart-rollout
  version: 1.2.0
  name: Restart a rollout
  description: {what: Restarts pods., when_to_use: They hang.}
  maintainers: [{name: Ops, email: ops@example.com}]
labels:
  signal_type: OOMKilled
  severity: [critical, high]
  component: apps/v1/Deployment
  environment: '*'
  priority: [P0, '*']
  constraint: [cost-constrained]
  risk_tolerance: low
detected_labels: {hpaEnabled: true, gitOpsTool: argocd, stateful: false}
execution: {engine: tekton, bundle: 'localhost:5000/w/restart:1.2.0@sha256:%s'}
parameters:
  - {name: TARGET_RESOURCE_NAME, type: string, required: true}
  - {name: COUNT, type: integer, minimum: 1, maximum: 5, default: 2}
  - {name: NAMES, type: array, default: [a, b]}
  - {name: FORCE, type: boolean, default: yes, depends_on: [COUNT]}
""" % ("a" * 64)

ENVELOPE = """
apiVersion: kubernaut.ai/v1alpha1
kind: RemediationWorkflow
metadata: {name: crashloop-rollback-v1, uid: 1234, managedFields: []}
spec:
  version: 1.5.3
  description: {what: Rolls back., whenToUse: After a bad deploy., whenNotToUse: A leak., preconditions: A revision.}
  actionType: RollbackDeployment
  labels: {severity: [warning, critical], environment: [production], component: [apps/v1/Deployment], priority: '*'}
  customLabels: {team: [payments]}
  execution: {engine: job, bundle: 'registry.example.com/w:1', bundleDigest: 'sha256:%s', serviceAccountName: runner}
  dependencies: {secrets: [{name: s}], configMaps: []}
  parameters: [{name: REVISION, type: integer, required: false, dependsOn: []}]
status: {catalogStatus: active}
""" % ("b" * 64)


def test_the_flat_form_becomes_a_catalog_record():
    """Labels keep alternatives and wildcards, other labels are custom, defaults become text, false detections vanish."""
    workflow = parse_schema(FLAT)
    assert names.workflow_id("restart-rollout", "1.2.0") == workflow.workflow_id
    assert (workflow.action_type, workflow.title, workflow.owner) == ("RestartRollout", "Restart a rollout", "Ops")
    assert workflow.description.when_to_use == "They hang."
    labels = workflow.labels
    assert (
        labels.signal_type, labels.severity, labels.environment, labels.priority,
    ) == ("OOMKilled", ("critical", "high"), "*", "*")  # fmt: skip
    assert labels.custom == {"constraint": ("cost-constrained",), "risk_tolerance": ("low",)}
    assert labels.detected == {"hpaEnabled": "true", "gitOpsTool": "argocd"}
    assert [p.default for p in workflow.parameters] == [None, "2", '["a", "b"]', "true"]
    assert workflow.container_image == "localhost:5000/w/restart:1.2.0"
    assert workflow.container_digest == "sha256:" + "a" * 64
    assert workflow.content == FLAT
    assert len(workflow.content_hash) == 64


def test_the_envelope_form_becomes_the_same_kind_of_record():
    """camelCase fields are read, server metadata and status are ignored, a missing signal type matches anything."""
    workflow = parse_schema(ENVELOPE)
    assert (workflow.workflow_name, workflow.version) == ("crashloop-rollback-v1", "1.5.3")
    assert ExecutionEngine.JOB is workflow.execution_engine
    assert workflow.labels.signal_type == "*"
    assert workflow.labels.severity == ("warning", "critical")
    assert workflow.labels.custom == {"team": ("payments",)}
    assert workflow.description.when_not_to_use == "A leak."
    assert (workflow.service_account_name, workflow.container_digest) == ("runner", "sha256:" + "b" * 64)


def test_the_bundle_that_it_came_from_wins():
    """Registration pins the image that was pulled, whatever the schema says."""
    workflow = parse_schema(FLAT, container_image="other/x:1", container_digest="sha256:" + "c" * 64)
    assert workflow.pinned_image == "other/x:1@sha256:" + "c" * 64


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        pytest.param({"metadata": {"workflow_id": "Restart"}}, "metadata.workflow_id", "such as restart-rollout, got", id="not kebab"),
        pytest.param({"metadata": {"version": 1.0}}, "metadata.version", "MAJOR.MINOR.PATCH such as 1.2.0, got 1.0", id="version as number"),
        pytest.param({"metadata": {"version": "one"}}, "metadata.version", "MAJOR.MINOR.PATCH such as 1.2.0, got 'one'", id="version not semver"),
        pytest.param({"metadata": {"descr": "x"}}, "metadata.descr", "no such field", id="unknown field"),
        pytest.param({"metadata": {"onwer": "x"}}, "metadata.onwer", "did you mean owner?", id="misspelt field"),
        pytest.param({"metadata": {"owner": 7}}, "metadata.owner", "text, got 7; put it in quotes", id="number for a text"),
        pytest.param({"metadata": "x"}, "metadata", "mapping of fields", id="text for a mapping"),
        pytest.param(
            {"apiVersion": "kubernaut.ai/v1alpha1"}, "apiVersion", "WorkflowSchema goes with kubernaut.io", id="the other group"
        ),
        pytest.param({"metadata": {"description": "x" * 501}}, "metadata.description", "500", id="long sentence"),
        pytest.param({"labels": {"severity": "bad"}}, "labels.severity", "must be among", id="unknown severity"),
        pytest.param({"labels": {"priority": ["P9"]}}, "labels.priority", "P9", id="unknown priority"),
        pytest.param({"labels": {"component": None}}, "labels.component", "", id="label without value"),
        pytest.param({"detected_labels": {"gitops": True}}, "detected_labels", "gitops", id="unknown detection"),
        pytest.param({"execution": {"engine": "lambda"}}, "execution.engine", "'tekton'", id="unknown engine"),
        pytest.param(
            {"execution": {"engine": "job", "engine_config": {"img": "x"}}},
            "execution.engine_config.img", "no such field; there are image", id="misspelt field of a Job",
        ),
        pytest.param(
            {"execution": {"engine": "job", "engine_config": {"command": "sh"}}},
            "execution.engine_config.command", "", id="a Job's command as a text",
        ),
        pytest.param(
            {"execution": {"engine": "job"}, "parameters": [{"name": "PATH", "type": "string"}]},
            "parameters[0].name", "how the Job's program runs", id="a parameter that would be PATH",
        ),
        pytest.param({"parameters": []}, "parameters", "at least 1", id="no parameter"),
        pytest.param(
            {"parameters": [{"name": "lower", "type": "string"}]}, "parameters[0].name", "such as TARGET_NAME, got 'lower'", id="lower case"
        ),
        pytest.param({"parameters": [{"name": "A", "type": "int"}]}, "parameters[0].type", "'integer'", id="bad type"),
        pytest.param({"parameters": "none"}, "parameters", "must be a list", id="a text for a list"),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "requird": True}]},
            "parameters[0].requird", "did you mean required?", id="misspelt parameter field",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "required": "maybe"}]},
            "parameters[0].required", "true or false, got 'maybe'", id="neither true nor false",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "integer", "minimum": "one"}]},
            "parameters[0].minimum", "whole number, got 'one'", id="a word for a number",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string"}, {"name": "A", "type": "string"}]},
            "parameters[1].name", "twice", id="declared twice",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "depends_on": ["B"]}]},
            "parameters[0].depends_on", "'B' is no parameter", id="unknown dependency",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "pattern": "("}]},
            "parameters[0].pattern", "regular expression", id="bad pattern",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "integer", "minimum": 3, "maximum": 2}]},
            "parameters[0].minimum", "above maximum", id="empty range",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "integer", "default": "x"}]},
            "parameters[0].default", "whole number", id="default of another type",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "enum": ["x"], "default": "y"}]},
            "parameters[0].default", "one of x", id="default outside the enumeration",
        ),
        pytest.param(
            {"parameters": [{"name": "A", "type": "string", "minimum": 1}]},
            "parameters[0].minimum", "type integer", id="range on a string",
        ),
        pytest.param(
            {"parameters": [{"name": "TARGET_RESOURCE", "type": "string"}]},
            "parameters[0].name", "do not declare it", id="reserved name",
        ),
    ],
)  # fmt: skip
def test_a_wrong_schema_says_where_and_what_would_be_right(change, path, says):
    """Each problem names its path."""
    document = yaml.safe_load(FLAT)
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    with pytest.raises(InvalidInput) as caught:
        parse_schema(yaml.safe_dump(document))
    assert any(path == where and says in what for where, what in caught.value.problems), caught.value.problems


def test_a_misspelt_label_is_named_where_the_label_is_missing():
    """Any key is a custom label, so nothing else would tell."""
    document = yaml.safe_load(FLAT)
    document["labels"]["componet"] = document["labels"].pop("component")
    with pytest.raises(InvalidInput) as caught:
        parse_schema(yaml.safe_dump(document))
    assert caught.value.problems == (("labels.component", "required, and missing; is 'componet' meant for it?"),)
    assert caught.value.reason == "InvalidSchema"


def test_every_problem_is_told_at_once():
    """A person corrects a file once, not once a problem."""
    with pytest.raises(InvalidInput) as caught:
        parse_schema(
            "kind: WorkflowSchema\nmetadata: {workflow_id: A B, version: x}\nlabels: {severity: odd}\n"
            "parameters: [{name: a, type: z}, {name: B, type: string, depends_on: [C]}]\n"
        )
    paths = {path for path, _ in caught.value.problems}
    assert {
        "apiVersion", "metadata.workflow_id", "metadata.version", "metadata.description", "labels.severity",
        "labels.signal_type", "parameters[0].name", "parameters[0].type", "parameters[1].depends_on",
    } <= paths  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "one mapping", id="empty"),
        pytest.param("- a", "one mapping", id="a list"),
        pytest.param("a: [", "line", id="broken YAML"),
        pytest.param("a: * b", "line 1, column 5: a value that begins with .* must be in quotes", id="a bare star"),
        pytest.param("a:\n\tb: 1", "line 2, column 1: a tab; indent with spaces", id="a tab"),
        pytest.param("a: b: c", "put the whole value in quotes", id="a colon in a value"),
        pytest.param("a: &x 1\nb: *x", "aliases", id="an alias"),
        pytest.param("a: 1\na: 2", "repeated", id="a repeated key"),
        pytest.param("kind: Deployment", "RemediationWorkflow", id="another kind"),
        pytest.param("a: 1", "no kind", id="no kind"),
        pytest.param("x: " + "[" * 20_000, "deep", id="nested without end"),
        pytest.param("x: " + "y" * 70_000, "larger", id="too large"),
        pytest.param("x: \x00", "YAML", id="control characters"),
        pytest.param("1: 2", "not text", id="keys that are no text"),
    ],
)
def test_what_is_no_schema_is_refused_clearly(text, says):
    """Nothing but InvalidInput ever comes out."""
    with pytest.raises(InvalidInput, match=says):
        parse_schema(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kind", "metadata", "labels", "spec", "parameters", "name", "type", "version"]),
                c,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_read_or_refused(document):
    """No input makes the parser fail in another way."""
    if isinstance(document, dict):
        document = {**document, "kind": "WorkflowSchema"}
    with pytest.raises(InvalidInput):
        parse_schema(yaml.safe_dump(document))


def test_parameter_types_are_the_systems_own():
    """The enumeration has one source."""
    assert {"string", "integer", "boolean", "array"} == set(ParameterType)
